#!/bin/bash
# Storage that goes away and comes back: with werror=retry a guest lives through
# it, and is told when its time is over. The outage is made with the device
# mapper, whose table is changed from "linear" to "error" under the guest.
# timeout: 900
# shellcheck source=tests/guest/lib.sh
. "$(dirname "$0")/lib.sh"

point "a disk can be taken away here"
storage_begin
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

point "fio --verify lives through an outage of a minute"
guest_sh "(fio --name=v --directory=/mnt --ioengine=libaio --iodepth=8 --direct=1 \
--rw=randwrite --bs=4k --size=24m --verify=md5 --do_verify=1 --verify_fatal=1 \
--verify_state_save=0 --fsync=64 --minimal >/fio.out 2>&1; echo \$? >/fio.status) \
>/dev/null 2>&1 & sleep 3"
switch lives bad
qmp_event __org.roost_BLOCK_IO_SUSPENDED 60
expect "$REPLY" '"qom-path"' "the event"
sleep 60
qmp query-block
expect "$REPLY" '"io-status": *"retrying"' query-block
guest_sh "test ! -e /fio.status"
switch lives good
qmp_event __org.roost_BLOCK_IO_RESUMED 60
expect "$REPLY" '"duration_ms": *([6-9][0-9]{4}|[0-9]{6})' "the event"
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
guest_sh "dd if=/dev/zero of=/dev/vdc bs=4k count=1 seek=8100 oflag=direct 2>&1 | grep -c 'rror'" 60
expect "$OUTPUT" '^1' "dd's errors"
qmp_event __org.roost_BLOCK_IO_TIMED_OUT 30
switch told good
guest_sh "dd if=/dev/zero of=/dev/vdc bs=4k count=1 seek=8150 oflag=direct 2>/dev/null"

point "and so is its file system, which keeps what was safe"
guest_sh "mkdir -p /told && mount -t ext4 /dev/vdc /told && \
dd if=/dev/urandom of=/told/safe bs=4k count=256 conv=fsync 2>/dev/null && md5sum </told/safe >/safe"
guest_sh "(fio --name=t --directory=/told --ioengine=libaio --iodepth=4 --direct=1 \
--rw=randwrite --bs=4k --size=8m --verify=md5 --do_verify=1 --verify_fatal=1 \
--verify_state_save=0 --time_based --runtime=300 --minimal >/told.out 2>&1; echo \$? >/told.status) \
>/dev/null 2>&1 & sleep 2"
switch told bad
qmp_event __org.roost_BLOCK_IO_TIMED_OUT 60
guest_sh "for i in \$(seq 60); do test -e /told.status && break; sleep 1; done; cat /told.out; cat /told.status" 80
expect "$OUTPUT" '[1-9][0-9]*'$'\n''$' "fio's status"
# The journal may hear of it first, and ext4 takes no write any more then.
expect "$OUTPUT" 'nput/output error|Read-only file system' "what fio was told"
switch told good
guest_sh "umount /told; mount -t ext4 /dev/vdc /told && md5sum </told/safe | cmp - /safe && umount /told" 90

point "reset and quit do not wait for a dead disk"
switch told bad
guest_sh "(dd if=/dev/zero of=/dev/vdc bs=4k count=1 seek=8100 oflag=direct) >/dev/null 2>&1 & sleep 1"
qmp system_reset
guest_ready 150
switch told good
guest_poweroff
disk_clean "$LAB_TMP/lives.raw"
disk_recovers "$LAB_TMP/told.raw"
finish
