#!/bin/bash
# virtio-blk in a guest, 4 KiB requests by fio: exits and system calls of the
# VMM for each request, and IOPS, beside QEMU's q35 with io_uring.
# timeout: 1200
. "$(dirname "$0")/figures"

rounds=${BENCH_ROUNDS:-3}
span=32		# MiB of the file that is read and written
exits=kvm/kvm_userspace_exit
calls=raw_syscalls/sys_enter

# -- two machines at once ---------------------------------------------------

declare -A kept

machine_keep() {
	kept[$1]="$guest_pid $guest_in $guest_out $guest_seq $guest_boot_id"
	guest_pid=
}

machine_use() {
	read -r guest_pid guest_in guest_out guest_seq guest_boot_id <<<"${kept[$1]}"
	guest_partial=
	who=$1
}

# machine_start WHO: vda is the root, vdb the file on the main loop, vdc the
# file on an I/O thread.
machine_start() {
	local drive="cache=none,aio=io_uring" name

	disk_root "$1-root"
	for name in main thread; do
		# Written, not sparse: reads are to reach the disk.
		dd if=/dev/zero of="$LAB_TMP/$1-$name.raw" bs=1M \
			count="$span" status=none
	done
	sync
	VMM=(-object iothread,id=t0)
	vmm_disk "$1" "$LAB_TMP/$1-root.raw"
	vmm_disk "$1" "$LAB_TMP/$1-main.raw" "$drive"
	vmm_disk "$1" "$LAB_TMP/$1-thread.raw" "$drive" iothread=t0
	machine_boot "$1" -m 256 "${VMM[@]}"
}

# -- fio --------------------------------------------------------------------

# fio_run DISK RW DEPTH WHAT...: prints the IOPS that the guest sees, terse
# fields 8 and 49, and nothing else: the console is a device of the VMM, too.
fio_run() {
	local disk=$1 rw=$2 depth=$3
	shift 3
	guest_sh "fio --name=f --filename=/dev/$disk --direct=1 --bs=4k \
--ioengine=libaio --rw=$rw --iodepth=$depth --randrepeat=0 --norandommap \
--thread --gtod_reduce=1 --size=${span}m --minimal $* |
awk -F';' 'NF > 50 { print \$8 + \$49 }'" 120 || fail "fio: $OUTPUT"
	IOPS=${OUTPUT%$'\n'}
	[[ $IOPS =~ ^[0-9.]+$ ]] || fail "fio said: $OUTPUT"
}

# counted DISK RW DEPTH REQUESTS: exits and system calls, in EXITS and CALLS.
counted() {
	count_begin $exits common_pid,reason
	count_begin $calls common_pid,id
	fio_run "$1" "$2" "$3" --io_size=$(($4 * 4))k
	EXITS=$(count_of $exits "$guest_pid")
	CALLS=$(count_of $calls "$guest_pid")
	echo "$who $1 $2 depth $3, $4 requests: $EXITS exits, $CALLS calls; id, count"
	count_read $calls "$guest_pid" | awk '{ n[$1] += $2 }
		END { for (c in n) print "    " c, n[c] }' | sort -rnk 2 | sed 6q
	count_end $exits common_pid,reason
	count_end $calls common_pid,id
}

# costs DISK RW DEPTH: what one more request costs, in PER_EXIT and PER_CALL.
# What fio, the shell and the console cost in any case is in the base.
costs() {
	counted "$1" "$2" "$3" $many
	PER_EXIT=$(ratio $((EXITS - base_exits[$who])) $((many - few)))
	PER_CALL=$(ratio $((CALLS - base_calls[$who])) $((many - few)))
}

few=100 many=6100
declare -A base_exits base_calls per_exit per_call
declare -A disks=([vdb]="main loop" [vdc]="I/O thread")

for machine in roost q35; do
	point "boots $machine"
	who=$machine
	machine_start $machine
	# The first of them reads fio itself from the root disk.
	counted vdb randread 1 $few
	counted vdb randread 1 $few
	base_exits[$who]=$EXITS base_calls[$who]=$CALLS
	machine_keep $machine
done

# The loop leaves a hundredth of a call unexplained (the console, timers), so
# the verdict is on what is printed: one digit after the point at depth 1.
while read -r disk rw depth limit digits; do
	for machine in roost q35; do
		point "counts $machine $disk $rw depth $depth"
		machine_use $machine
		costs "$disk" "$rw" "$depth"
		per_exit[$machine]=$(printf %.2f "$PER_EXIT")
		per_call[$machine]=$(printf "%.${digits}f" "$PER_CALL")
		machine_keep $machine
	done
	what="virtio-blk 4k $rw, depth $depth, ${disks[$disk]}"
	figure "$what: exits each" "${per_exit[roost]}" "${per_exit[q35]}" \
		"0" "$(met "${per_exit[roost]}" '<=' 0)"
	figure "$what: system calls each" "${per_call[roost]}" \
		"${per_call[q35]}" "<= $limit" \
		"$(met "${per_call[roost]}" '<=' "$limit")"
done <<END
vdb randread 1 2 1
vdc randread 1 2 1
vdb randread 32 0.15 2
vdc randread 32 0.15 2
vdb randwrite 32 0.15 2
END

for depth in 1 32; do
	for disk in vdb vdc; do
		for ((round = 1; round <= rounds; round++)); do
			for machine in roost q35; do
				point "round $round of $machine $disk depth $depth"
				machine_use $machine
				fio_run $disk randread $depth --time_based \
					--runtime=2
				echo "$machine $disk $depth: $IOPS IOPS"
				echo "$IOPS" >>"$LAB_TMP/iops.$machine"
				machine_keep $machine
			done
			paste "$LAB_TMP"/iops.{roost,q35} | tail -n 1 |
				awk '{ print $1 / $2 }' >>"$LAB_TMP/iops.ratio"
		done
		share=$(median <"$LAB_TMP/iops.ratio")
		figure "virtio-blk 4k randread, depth $depth, ${disks[$disk]}: IOPS" \
			"$(human "$(median <"$LAB_TMP/iops.roost")")" \
			"$(human "$(median <"$LAB_TMP/iops.q35")")" \
			">= q35: $share" "$(met "$share" '>=' 1)"
		rm "$LAB_TMP"/iops.*
	done
done
for machine in roost q35; do
	machine_use $machine
	guest_kill || :
done
finish
