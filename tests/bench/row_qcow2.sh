#!/bin/bash
# tests/bench/row_qcow2.sh ROOST BUILD SCRATCH - qcow2 beside raw, beside
# `qemu-img bench`, and a long chain beside a short one: same pattern, same
# depth, same run. All take turns; a ratio is the median over the rounds.
set -euo pipefail
. tests/bench/lib.sh

bench=$2/tests/bench/bench_replay
dir=$3/qcow2
rounds=${REPLAY_ROUNDS:-5}
chain=${QCOW2_CHAIN:-500}
mib=128
step=$((4096 * 12347))
count=${QCOW2_COUNT:-100000}

if [ ! -x "$bench" ]; then
	row_skip "qcow2" "$bench is not built"
	exit 0
fi
if ! command -v qemu-img >/dev/null; then
	row_skip "qcow2" "qemu-img (qemu-utils) is not installed"
	exit 0
fi
rm -rf "$dir"
mkdir -p "$dir"
cd "$dir"
case $bench in /*) ;; *) bench=$OLDPWD/$bench ;; esac
dd if=/dev/urandom of=disk.raw bs=1M count=$mib status=none
qemu-img convert -O qcow2 disk.raw disk.qcow2
sync

field() {	# LINE NAME
	tr ' ' '\n' <<<"$1" | sed -n "s/^$2=//p"
}

iops() {	# FILE FORMAT OP DEPTH CACHE
	local more=()
	[ "$2" = raw ] || more=(qcow2)
	field "$("$bench" "$1" "$3" "$4" "$count" $step "$5" "${more[@]}")" iops
}

qemu_iops() {	# OP DEPTH CACHE
	local w=()
	[ "$1" = read ] || w=(-w)
	qemu-img bench -f qcow2 -i io_uring -t "$3" -c "$count" -d "$2" -s 4096 -S $step \
		"${w[@]}" disk.qcow2 | awk -v n="$count" '/completed in/ { print n / $4 }'
}

# Median of A / B over the rounds, and the medians of both.
versus() {	# A-COMMAND -- B-COMMAND
	local a=() i x y
	while [ "$1" != -- ]; do a+=("$1"); shift; done
	shift
	: >a; : >b; : >ratio
	for ((i = 0; i < rounds; i++)); do
		x=$("${a[@]}")
		y=$("$@")
		echo "$x" >>a
		echo "$y" >>b
		awk -v x="$x" -v y="$y" 'BEGIN { print x / y }' >>ratio
	done
	ratio=$(median <ratio)
}

print() {	# FIGURE TARGET
	row "$1, IOPS" "$(human "$(median <a)")" "$(human "$(median <b)")" \
		">= $2: $(printf %.2f "$ratio")" "$(met "$ratio" '>=' "${2##* }")"
}

for cache in none writeback; do
	versus iops disk.qcow2 qcow2 read 32 $cache -- iops disk.raw raw read 32 $cache
	print "qcow2 4k random read, mapping cached, against raw, cache=$cache depth 32" "raw 0.97"
	for op in read write; do
		for depth in 1 32; do
			versus iops disk.qcow2 qcow2 $op $depth $cache -- qemu_iops $op $depth $cache
			print "qcow2 4k random $op, cache=$cache depth $depth" "qemu-img 1"
		done
	done
done

# The data at the bottom, nothing above it.
prev=disk.qcow2
for ((i = 1; i <= chain; i++)); do
	qemu-img create -q -f qcow2 -F qcow2 -u -b "$prev" "c$i.qcow2" ${mib}M
	prev=c$i.qcow2
done
versus iops "$prev" qcow2 read 32 writeback -- iops c1.qcow2 qcow2 read 32 writeback
print "qcow2 chain of $chain files, 4k random read depth 32, against one of 1" "chain 1 0.95"

# Direct I/O, so that what the process writes is what the disk gets.
rm -f new.qcow2
qemu-img create -q -f qcow2 new.qcow2 ${mib}M
line=$("$bench" new.qcow2 write 4 $((mib * 16)) 65536 none qcow2 65536)
ratio=$(field "$line" host_bytes_per_byte)
row "qcow2 allocating write of 64 KiB, host bytes per guest byte" "$ratio" - "<= 1.1" \
	"$(met "$ratio" '<=' 1.1)"
