#!/bin/bash
# tests/bench/row_size.sh ROOST BUILD SCRATCH - text of the stripped program.
set -euo pipefail
. tests/bench/lib.sh

text() {
	cp "$1" "$scratch/stripped"
	strip "$scratch/stripped"
	size "$scratch/stripped" | awk 'NR == 2 { printf "%d", $1 / 1024 }'
}

scratch=$3
peer=$(command -v qemu-system-x86_64 || :)
ours=$(text "$1")
row "stripped text" "$ours KiB" "${peer:+$(text "$peer") KiB}" "<= 768 KiB" \
	"$(met "$ours" '<=' 768)"
