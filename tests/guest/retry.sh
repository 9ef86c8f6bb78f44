#!/bin/bash
# Storage that goes away and comes back: with werror=retry a guest lives through
# it, and is told when its time is over. The outage is made with the device
# mapper, whose table is changed from "linear" to "error" under the guest.
# timeout: 900
# shellcheck source=tests/guest/lib.sh
. "$(dirname "$0")/lib.sh"

export DM_DISABLE_UDEV=1	# the emulated host has none: nodes by dmsetup itself
loops=()

# storage NAME MIB: an ext4 file system on /dev/mapper/retry-NAME.
storage() {
	local loop

	disk_ext4 "$1" "$2"
	loop=$(losetup --find --show "$DISK")
	loops+=("$loop")
	echo "0 $(($2 * 2048)) linear $loop 0" >"$LAB_TMP/$1.good"
	echo "0 $(($2 * 2048)) error" >"$LAB_TMP/$1.bad"
	dmsetup create "retry-$1" "$LAB_TMP/$1.good"
}

# switch NAME good|bad: what is in flight fails or is done, nothing waits.
switch() {
	dmsetup suspend --noflush --nolockfs "retry-$1"
	dmsetup load "retry-$1" "$LAB_TMP/$1.$2"
	dmsetup resume "retry-$1"
}

storage_end() {
	local loop

	dmsetup remove --retry retry-lives || :
	dmsetup remove --retry retry-told || :
	for loop in "${loops[@]}"; do
		losetup -d "$loop" || :
	done
}

point "a disk can be taken away here"
modprobe -q loop || :
if ! modprobe -q dm_mod || ! losetup --find >/dev/null 2>&1 ||
	! dmsetup targets >/dev/null 2>&1; then
	skip "no device mapper or no loop devices"
	finish
	exit 0
fi
trap 'storage_end; test_exit' EXIT
storage lives 96
storage told 32

point "boots"
disk_root d0
disk_args d0
guest_boot cloud "root=/dev/vda rw" -smp 2 -m 512 "${ARGS[@]}" \
	-drive "file=/dev/mapper/retry-lives,format=raw,if=none,id=lives,cache=none" \
	-device "virtio-blk-pci,drive=lives,id=disk1,werror=retry,rerror=retry,retry_interval=500" \
	-drive "file=/dev/mapper/retry-told,format=raw,if=none,id=told,cache=none" \
	-device "virtio-blk-pci,drive=told,id=disk2,werror=retry,rerror=retry,retry_interval=500,retry_timeout=4000" \
	-qmp "unix:$LAB_TMP/qmp,server=on,wait=off"
qmp_open "$LAB_TMP/qmp"
guest_sh "mount -t ext4 /dev/vdb /mnt"

point "fio --verify lives through an outage"
guest_sh "(fio --name=v --directory=/mnt --ioengine=libaio --iodepth=8 --direct=1 \
--rw=randwrite --bs=4k --size=24m --verify=md5 --do_verify=1 --verify_fatal=1 \
--verify_state_save=0 --fsync=64 --minimal >/fio.out 2>&1; echo \$? >/fio.status) \
>/dev/null 2>&1 & sleep 3"
switch lives bad
qmp_event __org.roost_BLOCK_IO_SUSPENDED 60
expect "$REPLY" '"qom-path"' "the event"
sleep 20
qmp query-block
expect "$REPLY" '"io-status": *"retrying"' query-block
guest_sh "test ! -e /fio.status"
switch lives good
qmp_event __org.roost_BLOCK_IO_RESUMED 60
expect "$REPLY" '"duration_ms": *[0-9]{5}' "the event"
guest_sh "for i in \$(seq 300); do test -e /fio.status && break; sleep 1; done; cat /fio.status /fio.out" 320
expect "$OUTPUT" '^0'$'\n' "fio's status"

point "the file system never went read-only"
guest_sh "grep /mnt /proc/mounts"
expect "$OUTPUT" 'ext4 rw' "the mount"
guest_sh "echo alive >/mnt/alive && sync && cat /mnt/alive"
guest_dmesg

point "a write and a flush in the outage are done after it"
guest_sh "(dd if=/dev/zero of=/mnt/zero bs=4k count=64 conv=fsync 2>/dev/null; echo \$? >/dd.status) \
>/dev/null 2>&1 & sleep 0"
switch lives bad
sleep 5
switch lives good
guest_sh "for i in \$(seq 60); do test -e /dd.status && break; sleep 1; done; cat /dd.status" 80
expect "$OUTPUT" '^0'$'\n' "dd's status"
guest_sh "umount /mnt"

point "after retry_timeout the guest is told"
switch told bad
guest_sh "dd if=/dev/zero of=/dev/vdc bs=4k count=1 oflag=direct 2>&1 | grep -c 'rror'" 60
expect "$OUTPUT" '^1' "dd's errors"
qmp_event __org.roost_BLOCK_IO_TIMED_OUT 30
switch told good
guest_sh "dd if=/dev/zero of=/dev/vdc bs=4k count=1 seek=2000 oflag=direct 2>/dev/null"

point "reset and quit do not wait for a dead disk"
switch told bad
guest_sh "(dd if=/dev/zero of=/dev/vdc bs=4k count=1 oflag=direct) >/dev/null 2>&1 & sleep 1"
qmp system_reset
guest_ready 150
switch told good
guest_poweroff
disk_clean "$LAB_TMP/lives.raw"
finish
