#!/bin/bash
# tests/bench/row_snapshot.sh ROOST BUILD SCRATCH - what external snapshots cost a disk
# that is written to. Nobody publishes a figure to put beside these.
set -euo pipefail
. tests/bench/lib.sh

bench=$2/tests/bench/bench_snapshot
if [ ! -x "$bench" ] || ! command -v qemu-img >/dev/null; then
	row_skip "external snapshots" "$bench is not built, or qemu-img not installed"
	exit 0
fi
mkdir "$3/snapshots"
qemu-img create -q -f qcow2 "$3/snapshots/base.qcow2" 256M
line=$("$bench" "$3/snapshots" "$3/snapshots/base.qcow2" 20)
field() {
	tr ' ' '\n' <<<"$line" | sed -n "s/^$1=//p"
}
row "external snapshot under load, of 20: VM stopped" "$(field stops)" - 0 \
	"$(met "$(field stops)" '<=' 0)"
row "external snapshot under load: requests held at most" "$(field held)" - \
	"<= $(field depth) in flight" "$(met "$(field held)" '<=' "$(field depth)")"
row "external snapshot under load: longest hold" \
	"$(awk -v us="$(field held_us)" 'BEGIN { printf "%.1f ms", us / 1000 }')" - - -
