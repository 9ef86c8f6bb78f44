#!/bin/bash
# Data written through virtio-blk comes back: fio with verification on ext4,
# over each way to reach the host's file.
# timeout: 600
# shellcheck source=tests/guest/lib.sh
. "$(dirname "$0")/lib.sh"

# NAME, drive options, device options; the order gives vdb, vdc, ...
disks=(
	"none cache=none "
	"writeback cache=writeback "
	"iothread cache=none iothread=t0"
	"queues cache=none num-queues=4"
	"packed cache=none packed=on,iothread=t0"
)

# fio_verify FOLDER NAME OPTION...: write, read back, compare.
fio_verify() {
	guest_sh "fio --name=$2 --directory=$1 --group_reporting --minimal \
--do_verify=1 --verify_fatal=1 --verify_state_save=0 ${*:3}" 150 ||
		fail "fio $2: $OUTPUT"
}

fio_all() {
	fio_verify "$1" direct --ioengine=libaio --iodepth=16 --direct=1 \
		--rw=randwrite --bsrange=4k-64k --size=12m --verify=md5
	fio_verify "$1" buffered --ioengine=psync --rw=write --bs=16k \
		--size=8m --verify=crc32c --end_fsync=1
	fio_verify "$1" jobs --ioengine=libaio --iodepth=4 --direct=1 \
		--rw=randrw --bs=4k --size=2m --numjobs=4 --verify=crc32c
}

point "boots with ${#disks[@]} disks besides its root"
disk_root d0
disk_args d0 cache=none
# shellcheck disable=SC2054 # commas of options
args=("${ARGS[@]}" -object iothread,id=t0)
for words in "${disks[@]}"; do
	read -r name drive device <<<"$words"
	disk_ext4 "$name" 96
	disk_args "$name" "$drive" "$device"
	args+=("${ARGS[@]}")
done
guest_boot cloud "root=/dev/vda rw" -smp 4 -m 512 "${args[@]}"

point "root: fio finds what it wrote"
guest_sh "mkdir /fio"
fio_all /fio

letters=bcdefgh
for i in "${!disks[@]}"; do
	read -r name drive device <<<"${disks[i]}"
	point "$drive${device:+ $device}: fio finds what it wrote"
	dev=vd${letters:i:1}
	guest_sh "mount -t ext4 /dev/$dev /mnt"
	fio_all /mnt
	guest_sh "umount /mnt"
done

point "number of queues is what was asked for"
guest_sh "ls /sys/block/vde/mq | wc -l"
expect "$OUTPUT" "^4"$'\n' "queues of vde"

point "kernel has nothing to complain about"
guest_dmesg

point "file systems are whole"
guest_poweroff
for name in d0 none writeback iothread queues packed; do
	disk_clean "$LAB_TMP/$name.raw"
done
finish
