#!/bin/bash
# tests/bench/row_scaling.sh ROOST BUILD SCRATCH - one disk used from as many I/O threads
# as there are processors, 4 at most, beside the same from one.
set -euo pipefail
. tests/bench/lib.sh

bench=$2/tests/bench/bench_scaling
threads=$(nproc)
[ "$threads" -le 4 ] || threads=4
if [ "$threads" -lt 2 ]; then
	row_skip "I/O threads" "there is one processor"
	exit 0
fi
if [ ! -x "$bench" ]; then
	row_skip "I/O threads" "$bench is not built"
	exit 0
fi
raw=$3/scaling.raw
dd if=/dev/urandom of="$raw" bs=1M count=128 status=none

iops() {	# FILE FORMAT THREADS
	"$bench" "$1" "$2" "$3" 300000 | sed 's/iops=//'
}

rows() {	# FILE FORMAT
	local i one many
	: >"$3.one" && : >"$3.many" && : >"$3.share"
	for ((i = 0; i < 5; i++)); do
		one=$(iops "$1" "$2" 1)
		many=$(iops "$1" "$2" "$threads")
		echo "$one" >>"$3.one"
		echo "$many" >>"$3.many"
		awk -v a="$many" -v b="$one" -v n="$threads" 'BEGIN { print a / b / n }' >>"$3.share"
	done
	share=$(median <"$3.share")
	row "$2 4k random read, cached, $threads I/O threads against one, IOPS" \
		"$(human "$(median <"$3.many")")" "$(human "$(median <"$3.one")")" \
		">= 0.9 of $threads times: $(printf %.2f "$share")" "$(met "$share" '>=' 0.9)"
}

rows "$raw" raw "$3/scaling"
if command -v qemu-img >/dev/null; then
	qemu-img convert -q -f raw -O qcow2 "$raw" "$3/scaling.qcow2"
	rows "$3/scaling.qcow2" qcow2 "$3/scaling"
fi
