#!/bin/bash
# External snapshots of a disk that a guest writes to: one after the other by
# QMP while fio verifies what it wrote, block-stream of the whole chain under the
# same load, and the sequence that libvirt uses. The chain is judged by qemu-img,
# the file system by e2fsck.
# timeout: 900
# shellcheck source=tests/guest/lib.sh
. "$(dirname "$0")/lib.sh"

count=50

# snapshots FROM TO: overlays snap-FROM.qcow2 to snap-TO.qcow2 on disk "data".
snapshots() {
	local i

	for ((i = $1; i <= $2; i++)); do
		qmp blockdev-snapshot-sync "{\"device\": \"data\", \"snapshot-file\":
\"$LAB_TMP/snap-$i.qcow2\", \"snapshot-node-name\": \"snap-$i\"}" ||
			fail "snapshot $i: $REPLY"
	done
}

point "boots"
disk_root d0
disk_args d0
disk_ext4 data 96
guest_boot cloud "root=/dev/vda rw" -smp 2 -m 512 "${ARGS[@]}" -object iothread,id=t0 \
	-drive "file=$DISK,format=raw,if=none,id=data,cache=none" \
	-device virtio-blk-pci,drive=data,id=disk1,num-queues=2,iothread=t0 \
	-qmp "unix:$LAB_TMP/qmp,server=on,wait=off"
qmp_open "$LAB_TMP/qmp"
guest_sh "mount -t ext4 /dev/vdb /mnt"

# fio_start: write at random, then read it back, in the background of the guest.
fio_start() {
	guest_sh "rm -f /fio.*; (fio --name=v --directory=/mnt --ioengine=libaio --iodepth=8 \
--direct=1 --rw=randwrite --bs=4k --size=16m --verify=md5 --do_verify=1 --verify_fatal=1 \
--verify_state_save=0 --fsync=64 --minimal >/fio.out 2>&1; echo \$? >/fio.status) \
>/dev/null 2>&1 & sleep 2"
}

fio_end() {
	guest_sh "for i in \$(seq 300); do test -e /fio.status && break; sleep 1; done; cat /fio.status /fio.out" 320
	expect "$OUTPUT" '^0'$'\n' "fio's status"
}

point "$count snapshots while fio writes and verifies"
fio_start
snapshots 1 "$count"
fio_end
qmp query-block
expect "$REPLY" "\"node-name\": *\"snap-$count\"" query-block
guest_dmesg

point "the disk takes over all of the chain while fio writes and verifies"
fio_start
qmp block-stream '{"job-id": "stream", "device": "data"}' || fail "block-stream: $REPLY"
qmp_event BLOCK_JOB_COMPLETED 300
[[ ! $REPLY =~ \"error\" ]] || fail "the job: $REPLY"
fio_end
qmp blockdev-del "{\"node-name\": \"snap-1\"}" && fail "snap-1 is still there"
for ((i = 1; i < count; i++)); do
	qemu-img check -q "$LAB_TMP/snap-$i.qcow2" || fail "qemu-img check: snap-$i"
done
for ((i = 1; i < count; i++)); do rm "$LAB_TMP/snap-$i.qcow2"; done
guest_dmesg

point "libvirt's sequence: create by jobs, add, transaction"
file=$LAB_TMP/libvirt.qcow2
: >"$file"
qmp query-named-block-nodes
qmp blockdev-add "{\"driver\": \"file\", \"node-name\": \"new-storage\", \"filename\": \"$file\"}"
qmp blockdev-create "{\"job-id\": \"create\", \"options\": {\"driver\": \"qcow2\",
\"file\": \"new-storage\", \"size\": $((96 << 20)), \"backing-fmt\": \"qcow2\",
\"backing-file\": \"$LAB_TMP/snap-$count.qcow2\"}}"
until [[ $REPLY =~ concluded ]]; do qmp_event JOB_STATUS_CHANGE 30; done
qmp query-jobs
[[ ! $REPLY =~ \"error\" ]] || fail "the job: $REPLY"
qmp job-dismiss '{"id": "create"}'
qmp blockdev-add '{"driver": "qcow2", "node-name": "new", "file": "new-storage", "backing": null}'
qmp transaction "{\"actions\": [{\"type\": \"blockdev-snapshot\",
\"data\": {\"node\": \"snap-$count\", \"overlay\": \"new\"}}]}" || fail "$REPLY"
guest_sh "echo last >/mnt/last && sync && umount /mnt"

point "the chain is whole, and so is the file system in it"
guest_poweroff
qemu-img check -q "$LAB_TMP/snap-$count.qcow2" || fail "qemu-img check: snap-$count"
qemu-img check -q "$file" || fail "qemu-img check: the last one"
qemu-img convert -O raw "$file" "$LAB_TMP/flat.raw"
disk_clean "$LAB_TMP/flat.raw"
debugfs -R "cat /last" "$LAB_TMP/flat.raw" 2>/dev/null | grep -q last ||
	fail "what was written last is missing"
finish
