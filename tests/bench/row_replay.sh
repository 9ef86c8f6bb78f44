#!/bin/bash
# tests/bench/row_replay.sh ROOST BUILD SCRATCH - the block engine, and
# virtio-blk on top of it, beside `qemu-img bench`: same file, same pattern,
# same depth, same run.
#
# The three take turns, so that all see the same machine; a ratio is the median
# over the rounds. REPLAY_ROUNDS sets their number.
set -euo pipefail
. tests/bench/lib.sh

bench=$2/tests/bench
disk=$3/replay.raw
num=$3/round
rounds=${REPLAY_ROUNDS:-5}
# 256 MiB; an odd number of blocks apart, so that all of them get their turn
# in an order without locality.
blocks=65536
step=$((4096 * 12347))

for prog in bench_replay bench_device; do
	if [ ! -x "$bench/$prog" ]; then
		row_skip "block engine" "$bench/$prog is not built"
		exit 0
	fi
done
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

# How many requests take a third of a second, whatever the disk does.
fitting_count() {	# OP DEPTH CACHE
	local line
	line=$("$bench/bench_replay" "$disk" "$1" "$2" 4000 "$step" "$3")
	awk -v i="$(field "$line" iops)" -v d="$2" 'BEGIN {
		n = int(i / 3)
		if (n < 8 * d) n = 8 * d
		if (n > 400000) n = 400000
		print n
	}'
}

# Numbers of each round, one per line, in $num.*
measure() {	# OP DEPTH CACHE
	local count i line prog theirs
	count=$(fitting_count "$@")
	rm -f "$num".*
	for ((i = 0; i < rounds; i++)); do
		theirs=$(qemu_iops "$1" "$2" "$count" "$3")
		echo "$theirs" >>"$num.qemu"
		for prog in replay device; do
			line=$("$bench/bench_$prog" "$disk" "$1" "$2" "$count" "$step" "$3")
			field "$line" iops >>"$num.$prog"
			field "$line" syscalls_per_request >>"$num.$prog.calls"
			awk -v a="$(field "$line" iops)" -v b="$theirs" \
				'BEGIN { print a / b }' >>"$num.$prog.ratio"
		done
	done
}

rows() {	# PROG WHAT DEPTH
	local ratio calls limit=2
	[ "$3" = 1 ] || limit=0.15
	ratio=$(median <"$num.$1.ratio")
	calls=$(median <"$num.$1.calls")
	row "$2, IOPS" "$(human "$(median <"$num.$1")")" "$(human "$(median <"$num.qemu")")" \
		">= qemu-img: $(printf %.2f "$ratio")" "$(met "$ratio" '>=' 1)"
	row "$2, system calls each" "$calls" - "<= $limit" "$(met "$calls" '<=' "$limit")"
}

for cache in none writeback; do
	for op in read write; do
		for depth in 1 32; do
			measure "$op" "$depth" "$cache"
			what="raw cache=$cache 4k random $op, depth $depth"
			rows replay "engine: $what" "$depth"
			rows device "virtio-blk: $what" "$depth"
		done
	done
done
