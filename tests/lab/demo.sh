#!/bin/bash
# tests/lab/demo.sh ROOST - boot a Debian kernel to a shell on this terminal:
# directly, or in the lab where the CPU cannot run guests.
set -euo pipefail
cd "$(dirname "$0")"
ROOST=$(readlink -f "${1:?usage: demo.sh ROOST}") exec ./lab demo
