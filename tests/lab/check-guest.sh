#!/bin/bash
# tests/lab/check-guest.sh ROOST - run all guest tests with this binary. The
# last line is "guest: N passed, N failed, N skipped".
set -euo pipefail
cd "$(dirname "$0")"
ROOST=$(readlink -f "${1:?usage: check-guest.sh ROOST}") exec ./lab run
