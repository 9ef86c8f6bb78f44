#!/bin/bash
# What is asked of a disk while its storage is away: snapshot, resize, pause,
# unplug, reset, quit. Each is answered, none waits for the storage. The disk is
# a qcow2 image on a device whose table is changed under the guest.
# timeout: 900
# shellcheck source=tests/guest/lib.sh
. "$(dirname "$0")/lib.sh"

suspended() {
	switch away bad
	guest_sh "(dd if=/dev/zero of=${1:-/mnt/more} bs=4k count=32 oflag=direct 2>/dev/null;
echo \$? >/dd.status) >/dev/null 2>&1 &"
	qmp_event __org.roost_BLOCK_IO_SUSPENDED 60
}

point "a disk can be taken away here"
storage_begin
storage away 96

point "boots from qcow2 on it"
disk_root d0
disk_args d0
disk_ext4 fs 64
qemu-img create -q -f qcow2 /dev/mapper/retry-away 64M
qemu-img convert -n -O qcow2 "$DISK" /dev/mapper/retry-away
guest_boot cloud "root=/dev/vda rw" -smp 2 -m 512 "${ARGS[@]}" \
	-device pcie-root-port,id=rp1,chassis=1,slot=1 \
	-drive "file=/dev/mapper/retry-away,format=qcow2,if=none,id=away,cache=none" \
	-device "virtio-blk-pci,drive=away,id=disk1,bus=rp1,werror=retry,rerror=retry,retry_interval=500" \
	-qmp "unix:$LAB_TMP/qmp,server=on,wait=off"
qmp_open "$LAB_TMP/qmp"
guest_sh "mount -t ext4 /dev/vdb /mnt"

point "fio --verify on it lives through an outage"
guest_sh "(fio --name=v --directory=/mnt --ioengine=libaio --iodepth=8 --direct=1 \
--rw=randwrite --bs=4k --size=12m --verify=md5 --do_verify=1 --verify_fatal=1 \
--verify_state_save=0 --end_fsync=1 --minimal >/fio.out 2>&1; echo \$? >/fio.status) \
>/dev/null 2>&1 & sleep 4; dd if=/dev/zero of=/mnt/new bs=64k count=32 oflag=direct 2>/dev/null"
# Just written and not flushed: there are tables that a snapshot has to write.
switch away bad
qmp_event __org.roost_BLOCK_IO_SUSPENDED 60
sleep 10

point "meanwhile a snapshot is refused and leaves nothing"
! qmp blockdev-snapshot-sync "{\"device\": \"away\", \"snapshot-file\": \"$LAB_TMP/no.qcow2\"}" ||
	fail "a snapshot of what cannot be flushed"
[[ ! -e $LAB_TMP/no.qcow2 ]] || fail "the overlay is left behind"

point "and so is a resize; the VM stops and goes on"
! qmp block_resize "{\"device\": \"away\", \"size\": $((80 << 20))}" ||
	fail "a resize that cannot be written"
qmp stop
qmp cont
qmp query-block
expect "$REPLY" '"io-status": *"retrying"' query-block

point "afterwards fio is content and the file system writable"
switch away good
qmp_event __org.roost_BLOCK_IO_RESUMED 60
guest_sh "for i in \$(seq 300); do test -e /fio.status && break; sleep 1; done; cat /fio.status /fio.out" 320
expect "$OUTPUT" '^0'$'\n' "fio's status"
guest_sh "grep /mnt /proc/mounts"
expect "$OUTPUT" 'ext4 rw' "the mount"
guest_sh "echo alive >/mnt/alive && sync && cat /mnt/alive"
guest_dmesg

point "storage that hangs: a snapshot is given up in time"
storage_hang away
guest_sh "(dd if=/dev/zero of=/mnt/more bs=4k count=32 oflag=direct 2>/dev/null) >/dev/null 2>&1 & sleep 1"
qmp_patience=90
! qmp blockdev-snapshot-sync "{\"device\": \"away\", \"snapshot-file\": \"$LAB_TMP/no.qcow2\"}" ||
	fail "a snapshot of what hangs"
expect "$REPLY" 'does not end|do not end' "the error"
qmp_patience=
qmp query-status
switch away good
guest_sh "sync"

point "a reset cancels what waits"
suspended
qmp system_reset
switch away good
guest_ready 150
guest_sh "mount -t ext4 /dev/vdb /mnt && cat /mnt/alive"
expect "$OUTPUT" alive "the file"

point "an unplug is done when the storage is back"
suspended
qmp device_del '{"id": "disk1"}'
qmp query-status
expect "$REPLY" '"running": *true' query-status
switch away good
guest_sh "for i in \$(seq 60); do test -e /dd.status && break; sleep 1; done; umount /mnt || :" 80
qmp_event DEVICE_DELETED 120

point "a forced one at once"
plug="{\"driver\": \"virtio-blk-pci\", \"id\": \"disk1\", \"drive\": \"away\", \"bus\": \"rp1\",
\"werror\": \"retry\", \"rerror\": \"retry\", \"retry_interval\": 500}"
qmp device_add "${plug//$'\n'/ }" || fail "$REPLY"
guest_sh "for i in \$(seq 60); do test -b /dev/vdb && break; sleep 1; done; test -b /dev/vdb" 80
suspended /dev/vdb
qmp device_del '{"id": "disk1", "force": true}'
qmp_event DEVICE_DELETED 30

point "quit does not wait for the dead disk"
qmp device_add "${plug//$'\n'/ }" || : # an image that cannot be read
qmp quit || fail "$REPLY"
guest_end 0 30
switch away good
qemu-img check -q -f qcow2 /dev/mapper/retry-away || [[ $? = 3 ]] || fail "the image is corrupt"
finish
