#!/bin/bash
# Below the disks is a device that is bad by itself: dm-flakey, which fails for a while
# again and again, a SCSI disk (scsi_debug) with errors of its own that goes offline, and
# dm-log-writes, from which the moments of a crash of the host are put together. qemu-img
# judges the images.
# timeout: 900
# case: cloud
# shellcheck source=tests/guest/lib.sh
. "$(dirname "$0")/lib.sh"

replay=$(dirname "$0")/replay-log
steps=12
block=65536

point "flaky and recorded devices can be made here"
storage_begin
if ! modprobe -q dm_flakey || ! modprobe -q dm_log_writes; then
	skip "no dm-flakey or no dm-log-writes"
	finish
	exit 0
fi
storage flaky 96
echo "0 $((96 * 2048)) flakey ${storage_loops[0]} 0 3 2" >"$LAB_TMP/flaky.flaky"
# The log: device, and what was written to it.
for name in recorded log; do
	truncate -s 64M "$LAB_TMP/$name"
	storage_loops+=("$(losetup --find --show "$LAB_TMP/$name")")
done
storage_names+=(recorded)
dmsetup create retry-recorded --table \
	"0 $((16 * 2048)) log-writes ${storage_loops[1]} ${storage_loops[2]}"
log=${storage_loops[2]}

mark() {
	dmsetup message retry-recorded 0 mark "$1"
}

# Every 50th command has a transport error, which the kernel tries again; what it gives
# up, and an offline disk, is roost's to wait for.
scsi=
modprobe -q sd_mod || :
if modprobe -q scsi_debug dev_size_mb=64 every_nth=50 opts=16 delay=0; then
	for _ in {1..50}; do
		scsi=$(grep -ls scsi_debug /sys/block/sd*/device/model | cut -d / -f 4)
		[[ ! $scsi || ! -b /dev/$scsi ]] || break
		sleep 0.2
	done
fi

point "boots from qcow2 on both"
disk_root d0
disk_args d0
# With retry each write is durable by itself: what is recorded has flushes.
for name in flaky,64M,werror=retry,rerror=retry,retry_interval=300 recorded,8M; do
	IFS=, read -r name size options <<<"$name"
	qemu-img create -q -f qcow2 "/dev/mapper/retry-$name" "$size"
	ARGS+=(-drive "file=/dev/mapper/retry-$name,format=qcow2,if=none,id=$name,cache=none,discard=unmap"
		-device "virtio-blk-pci,drive=$name${options:+,$options}")
done
if [[ $scsi ]]; then
	ARGS+=(-blockdev "host_device,node-name=scsi,filename=/dev/$scsi,cache.direct=on"
		-device "virtio-blk-pci,drive=scsi,werror=retry,rerror=retry,retry_interval=300")
fi
disk_ext4 fs 64
qemu-img convert -n -O qcow2 "$DISK" /dev/mapper/retry-flaky
mark made
guest_boot cloud "root=/dev/vda rw" -smp 2 -m 512 "${ARGS[@]}" \
	-qmp "unix:$LAB_TMP/qmp,server=on,wait=off"
qmp_open "$LAB_TMP/qmp"
guest_sh "mount -t ext4 /dev/vdb /mnt"

point "fio --verify on a device that fails two seconds of five"
switch flaky flaky
guest_sh "(fio --name=v --directory=/mnt --ioengine=libaio --iodepth=8 --direct=1 \
--rw=randwrite --bs=4k --size=8m --verify=md5 --do_verify=1 --verify_fatal=1 \
--verify_state_save=0 --fsync=64 --time_based --runtime=14 --minimal >/fio.out 2>&1;
echo \$? >/fio.status) >/dev/null 2>&1 & sleep 0"
for _ in 1 2 3; do
	qmp_event __org.roost_BLOCK_IO_SUSPENDED 60
	qmp_event __org.roost_BLOCK_IO_RESUMED 60
done
guest_sh "for i in \$(seq 300); do test -e /fio.status && break; sleep 1; done; cat /fio.status /fio.out" 320
expect "$OUTPUT" '^0'$'\n' "fio's status"

point "its file system never went read-only"
switch flaky good
guest_sh "grep /mnt /proc/mounts"
expect "$OUTPUT" 'ext4 rw' "the mount"
guest_sh "echo alive >/mnt/alive && sync && umount /mnt"
guest_dmesg

point "fio --verify on a SCSI disk with errors, which goes offline now and then"
if [[ $scsi ]]; then
	guest_sh "(fio --name=s --filename=/dev/vdd --ioengine=libaio --iodepth=8 --direct=1 \
--rw=randwrite --bs=4k --size=16m --verify=md5 --do_verify=1 --verify_fatal=1 \
--verify_state_save=0 --fsync=64 --time_based --runtime=8 --minimal >/scsi.out 2>&1;
echo \$? >/scsi.status) >/dev/null 2>&1 & sleep 1"
	for _ in 1 2; do
		echo offline >"/sys/block/$scsi/device/state"
		qmp_event __org.roost_BLOCK_IO_SUSPENDED 60
		echo running >"/sys/block/$scsi/device/state"
		qmp_event __org.roost_BLOCK_IO_RESUMED 60
	done
	guest_sh "for i in \$(seq 300); do test -e /scsi.status && break; sleep 1; done; cat /scsi.status /scsi.out" 320
	expect "$OUTPUT" '^0'$'\n' "fio's status"
else
	skip "no scsi_debug"
fi

# Step I fills block I with its number, writes over the beginning of the block before,
# and flushes. One more block is written, and discarded later, so that its cluster
# has a second life.
point "writes and flushes of the guest are recorded"
for ((i = 1; i <= steps; i++)); do
	byte=$(printf '\\%03o' "$i")
	extra=:
	[[ $i != 4 ]] || extra="head -c $block /dev/zero | tr '\\0' x | dd of=/dev/vdc bs=64k seek=100 oflag=direct"
	[[ $i != 8 ]] || extra="blkdiscard -o $((100 * block)) -l $block /dev/vdc"
	guest_sh "($extra; head -c $block /dev/zero | tr '\\000' '$byte' | dd of=/dev/vdc bs=64k seek=$i oflag=direct;
head -c 4096 /dev/zero | tr '\\000' '$byte' | dd of=/dev/vdc bs=4k seek=$(((i - 1) * 16)) oflag=direct conv=fsync) 2>&1 |
grep -i error; true"
	mark "step-$i"
done
guest_poweroff
mark end

point "no moment of a crash leaves a corrupt image, nor loses what was flushed"
dmsetup remove --retry retry-recorded
storage_names=(flaky)
"$replay" "$log" list >"$LAB_OUT/log-writes"
image=$LAB_TMP/image
truncate -s 16M "$image"
checks=0
sound() {
	local status=0

	qemu-img check -q -f qcow2 "$1" >"$LAB_OUT/check" 2>&1 || status=$?
	# 3: clusters that nothing uses, which a crash may leave.
	[[ $status = 0 || $status = 3 ]] || fail "$2: $(<"$LAB_OUT/check")"
	checks=$((checks + 1))
}

# kept STEP: all that was flushed by then, step after step.
truncate -s $block "$LAB_TMP/expected"
kept() {
	head -c $block /dev/zero | tr '\0' "\\$(printf %o "$1")" >>"$LAB_TMP/expected"
	head -c 4096 /dev/zero | tr '\0' "\\$(printf %o "$1")" |
		dd of="$LAB_TMP/expected" bs=4k seek=$((($1 - 1) * 16)) conv=notrunc status=none
	qemu-img convert -f qcow2 -O raw "$image" "$LAB_TMP/disk"
	cmp -n $((($1 + 1) * block)) "$LAB_TMP/expected" "$LAB_TMP/disk" >"$LAB_OUT/cmp" 2>&1 ||
		fail "after step $1: $(<"$LAB_OUT/cmp")"
}

window=()
made=
while read -r index kind name; do
	[[ $kind = mark ]] || window+=("$index")
	[[ $kind = flush || $kind = mark ]] || continue
	# What lies between two flushes may reach the disk in any order: the last first.
	if [[ $made && ${#window[@]} -gt 1 ]]; then
		cp --sparse=always "$image" "$image.crash"
		for ((k = ${#window[@]} - 1; k > 0; k--)); do
			"$replay" "$log" apply "$image.crash" "${window[k]}"
			sound "$image.crash" "entry ${window[k]} before those from ${window[0]} on"
		done
	fi
	[[ ${#window[@]} = 0 ]] || "$replay" "$log" apply "$image" "${window[@]}"
	window=()
	[[ $name != made ]] || made=1
	[[ ! $made ]] || sound "$image" "up to entry $index"
	[[ $name != step-* ]] || kept "${name#step-}"
done <"$LAB_OUT/log-writes"
[[ $checks -gt $steps ]] || fail "only $checks moments were judged"
qemu-img check -q -f qcow2 "$image" || fail "the image that was closed has leaks"
qemu-img check -q -f qcow2 /dev/mapper/retry-flaky || fail "the flaky image is not clean"
finish
