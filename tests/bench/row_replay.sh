#!/bin/bash
# tests/bench/row_replay.sh ROOST BUILD SCRATCH - the block engine beside
# `qemu-img bench`: same file, same pattern, same depth, same run.
#
# The two take turns, so that both see the same machine; the ratio is the
# median over the pairs. REPLAY_PAIRS sets their number.
set -euo pipefail
. tests/bench/lib.sh

replay=$2/tests/bench/bench_replay
disk=$3/replay.raw
pairs=${REPLAY_PAIRS:-7}
# 256 MiB; an odd number of blocks apart, so that all of them get their turn
# in an order without locality.
blocks=65536
step=$((4096 * 12347))

if [ ! -x "$replay" ]; then
	row_skip "block engine" "$replay is not built"
	exit 0
fi
if ! command -v qemu-img >/dev/null; then
	row_skip "block engine" "qemu-img (qemu-utils) is not installed"
	exit 0
fi
dd if=/dev/urandom of="$disk" bs=1M count=$((blocks / 256)) status=none
sync "$disk"

field() {	# LINE NAME
	tr ' ' '\n' <<<"$1" | sed -n "s/^$2=//p"
}

qemu_iops() {	# OP DEPTH COUNT CACHE
	local w=()
	[ "$1" = read ] || w=(-w)
	qemu-img bench -f raw -i io_uring -t "$4" -c "$3" -d "$2" -s 4096 -S "$step" \
		"${w[@]}" "$disk" | awk -v n="$3" '/completed in/ { print n / $4 }'
}

compare() {	# OP DEPTH CACHE; leaves its numbers in the four files
	local line mine theirs count i
	# A third of a second per run, whatever the disk does.
	line=$("$replay" "$disk" "$1" "$2" 4000 "$step" "$3")
	count=$(awk -v i="$(field "$line" iops)" -v d="$2" 'BEGIN {
		n = int(i / 3); print (n < 8 * d ? 8 * d : n > 400000 ? 400000 : n) }')
	for ((i = 0; i < pairs; i++)); do
		line=$("$replay" "$disk" "$1" "$2" "$count" "$step" "$3")
		mine=$(field "$line" iops)
		theirs=$(qemu_iops "$1" "$2" "$count" "$3")
		field "$line" syscalls_per_request >>"$calls_file"
		echo "$mine" >>"$mine_file"
		echo "$theirs" >>"$theirs_file"
		awk -v a="$mine" -v b="$theirs" 'BEGIN { print a / b }' >>"$ratio_file"
	done
}

for cache in none writeback; do
	for op in read write; do
		for depth in 1 32; do
			mine_file=$3/mine theirs_file=$3/theirs
			calls_file=$3/calls ratio_file=$3/ratio
			rm -f "$mine_file" "$theirs_file" "$calls_file" "$ratio_file"
			compare "$op" "$depth" "$cache"
			ratio=$(median <"$ratio_file")
			calls=$(median <"$calls_file")
			name="engine: raw, cache=$cache, 4 KiB random $op, depth $depth"
			row "$name, IOPS" "$(human "$(median <"$mine_file")")" \
				"$(human "$(median <"$theirs_file")")" \
				">= 1 x qemu-img ($(printf %.2f "$ratio"))" \
				"$(met "$ratio" '>=' 1)"
			limit=0.15
			[ "$depth" = 32 ] || limit=2
			row "$name, system calls each" "$calls" - "<= $limit" \
				"$(met "$calls" '<=' "$limit")"
		done
	done
done
