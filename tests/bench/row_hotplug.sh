#!/bin/bash
# tests/bench/row_hotplug.sh ROOST BUILD SCRATCH - the VMM's share of a hot-added disk.
# What a guest sees of it beside QEMU is in tests/bench/guest/hotplug.sh.
set -euo pipefail
. tests/bench/lib.sh

bench=$2/tests/bench/bench_hotplug
if [ ! -x "$bench" ]; then
	row_skip "hot-plug" "$bench is not built"
	exit 0
fi
truncate -s 64M "$3/hotplug.raw"
line=$("$bench" "$3/hotplug.raw" 200)
field() {
	tr ' ' '\n' <<<"$line" | sed -n "s/^$1=//p"
}
row "PCIe hot-add, command to answer, median of 200" "$(field add_us) us" - "<= 2000 us" \
	"$(met "$(field add_us)" '<=' 2000)"
row "PCIe hot-add, command to answer, longest of 200" "$(field add_us_max) us" - - -
