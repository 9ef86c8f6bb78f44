#!/bin/bash
# User-space exits until the guest's first process, and how long that takes.
# timeout: 900
. "$(dirname "$0")/figures"

rounds=${BENCH_BOOTS:-5}
event=kvm/kvm_userspace_exit
declare -A exits

# exits_of WHO: count one start.
exits_of() {
	point "counts the exits of $1"
	init_args "$1"
	count_begin $event common_pid,reason
	count_begin kvm/kvm_pio port,rw,val
	count_begin kvm/kvm_mmio type,gpa
	init_boot "$1"
	exits[$1]=$(count_of $event "$guest_pid")
	{
		echo "== $1: ${exits[$1]} exits; reason (2 I/O port, 6 MMIO), count"
		count_read $event "$guest_pid"
		echo "== $1: I/O ports, also those that KVM emulates: port rw count"
		count_read kvm/kvm_pio | awk '{ n[$1 " " $2] += $4 }
			END { for (p in n) print p, n[p] }' |
			sort -rnk 3 | sed -n 1,40p
		echo "== $1: PCI configuration addresses written: address count"
		count_read kvm/kvm_pio | awk '$1 == 3320 && $2 == 1 {
			printf "%x %s\n", $3, $4 }' | sort -rnk 2 | sed -n 1,200p
		echo "== $1: MMIO, also what KVM emulates: type address count"
		count_read kvm/kvm_mmio | sort -rnk 3 | sed -n 1,40p
	} >>"$LAB_OUT/exits"
	init_end
	count_end $event common_pid,reason
	count_end kvm/kvm_pio port,rw,val
	count_end kvm/kvm_mmio type,gpa
}

for who in roost microvm microvm-rtc q35; do
	exits_of $who
done
cat "$LAB_OUT/exits"

for ((round = 1; round <= rounds; round++)); do
	for who in roost microvm-rtc q35; do
		point "boot $round of $who"
		init_args $who
		init_boot $who
		init_end
		echo "$who $round: wall $WALL_MS ms, guest clock $UPTIME s"
		echo "$WALL_MS" >>"$LAB_TMP/wall.$who"
		echo "$UPTIME" >>"$LAB_TMP/clock.$who"
	done
done

point "compares"
# The peer is asked at its best: with the RTC that the guest looks for.
for peer in microvm-rtc microvm; do
	share=$(ratio "${exits[roost]}" "${exits[$peer]}")
	target=- verdict=-
	if [[ $peer = microvm-rtc ]]; then
		target="<= 0.25: $share" verdict=$(met "$share" '<=' 0.25)
	fi
	figure "exits to guest init, beside $peer" "${exits[roost]}" \
		"${exits[$peer]}" "$target" "$verdict"
done
figure "exits to guest init, beside q35" "${exits[roost]}" "${exits[q35]}" - -
for peer in microvm-rtc q35; do
	for what in wall clock; do
		unit=ms name="exec to guest init"
		[[ $what = wall ]] || unit=s name="guest clock at init"
		ours=$(median <"$LAB_TMP/$what.roost")
		theirs=$(median <"$LAB_TMP/$what.$peer")
		share=$(ratio "$ours" "$theirs")
		figure "$name, beside $peer" "$ours $unit" "$theirs $unit" \
			"< 1: $share" "$(met "$share" '<' 1)"
	done
done
finish
