#!/bin/bash
# External snapshots of a disk that a guest writes to: one after the other by QMP
# while fio verifies what it wrote; under the same load block-commit of most of the
# chain and block-stream of the rest; the sequence that libvirt uses; and block-commit
# of the disk's own layer. The images are judged by qemu-img, the file system by e2fsck.
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
qemu-img convert -q -f raw -O qcow2 "$DISK" "$LAB_TMP/data.qcow2"
DISK=$LAB_TMP/data.qcow2
guest_boot cloud "root=/dev/vda rw" -smp 2 -m 512 "${ARGS[@]}" -object iothread,id=t0 \
	-drive "file=$DISK,format=qcow2,if=none,id=data,cache=none" \
	-device virtio-blk-pci,drive=data,id=disk1,num-queues=2,iothread=t0 \
	-qmp "unix:$LAB_TMP/qmp,server=on,wait=off"
qmp_open "$LAB_TMP/qmp"
guest_sh "mount -t ext4 /dev/vdb /mnt"

# fio_start: write at random, then read it back, in the background of the guest.
fio_start() {
	guest_sh "rm -f /fio.*; (fio --name=v --directory=/mnt --ioengine=libaio --iodepth=8 \
--direct=1 --rw=randwrite --bs=4k --size=8m --verify=md5 --do_verify=1 --verify_fatal=1 \
--verify_state_save=0 --fsync=64 --minimal >/fio.out 2>&1; echo \$? >/fio.status) \
>/dev/null 2>&1 & sleep 2"
}

fio_end() {
	guest_sh "for i in \$(seq 300); do test -e /fio.status && break; sleep 1; done; cat /fio.status /fio.out" 320
	expect "$OUTPUT" '^0'$'\n' "fio's status"
}

# job: the block job's end.
job() {
	qmp_event BLOCK_JOB_COMPLETED 300
	[[ ! $REPLY =~ \"error\" ]] || fail "the job: $REPLY"
}

point "$count snapshots while fio writes and verifies"
fio_start
snapshots 1 "$count"
qmp query-block
expect "$REPLY" "\"node-name\": *\"snap-$count\"" query-block
for ((i = 7; i < count; i += 14)); do
	qemu-img check -q -U "$LAB_TMP/snap-$i.qcow2" || fail "qemu-img check: snap-$i"
done

point "most of the chain is committed to its base, and the disk takes over the rest"
qmp block-commit '{"job-id": "commit", "device": "data", "top-node": "snap-40"}' ||
	fail "block-commit: $REPLY"
job
for ((i = 1; i <= 40; i++)); do rm "$LAB_TMP/snap-$i.qcow2"; done
qmp block-stream "{\"job-id\": \"stream\", \"device\": \"data\", \"base\": \"$DISK\"}" ||
	fail "block-stream: $REPLY"
job
for ((i = 41; i < count; i++)); do rm "$LAB_TMP/snap-$i.qcow2"; done
qmp blockdev-del '{"node-name": "snap-41"}' && fail "snap-41 is still there"
expect "$REPLY" "there is no node" "blockdev-del of snap-41"
fio_end
guest_dmesg

point "libvirt's sequence: create by jobs, add, transaction"
file=$LAB_TMP/libvirt.qcow2
: >"$file"
qmp query-named-block-nodes
qmp blockdev-add "{\"driver\": \"file\", \"node-name\": \"new-storage\", \"filename\": \"$file\"}"
qmp blockdev-create "{\"job-id\": \"create\", \"options\": {\"driver\": \"qcow2\",
\"file\": \"new-storage\", \"size\": $((96 << 20)), \"backing-fmt\": \"qcow2\",
\"backing-file\": \"$LAB_TMP/snap-$count.qcow2\"}}"
until [[ $REPLY =~ \"create\".*concluded ]]; do qmp_event JOB_STATUS_CHANGE 30; done
qmp query-jobs
[[ ! $REPLY =~ \"error\" ]] || fail "the job: $REPLY"
qmp job-dismiss '{"id": "create"}'
qmp blockdev-add '{"driver": "qcow2", "node-name": "new", "file": "new-storage", "backing": null}'
qmp transaction "{\"actions\": [{\"type\": \"blockdev-snapshot\",
\"data\": {\"node\": \"snap-$count\", \"overlay\": \"new\"}}]}" || fail "$REPLY"

point "the disk's own layer is committed to the base while fio writes and verifies"
fio_start
qmp block-commit '{"job-id": "commit", "device": "data"}' || fail "block-commit: $REPLY"
qmp_event BLOCK_JOB_READY 300
qmp job-complete '{"id": "commit"}' || fail "job-complete: $REPLY"
job
qmp query-block
expect "$REPLY" "\"file\": *\"$DISK\"" query-block
fio_end
guest_dmesg
guest_sh "echo last >/mnt/last && sync && umount /mnt"

point "the base is all of the disk, and so is the file system in it"
guest_poweroff
rm "$LAB_TMP/snap-$count.qcow2" "$file"
qemu-img check -q "$DISK" || fail "qemu-img check: the base"
qemu-img convert -f qcow2 -O raw "$DISK" "$LAB_TMP/flat.raw"
disk_clean "$LAB_TMP/flat.raw"
debugfs -R "cat /last" "$LAB_TMP/flat.raw" 2>/dev/null | grep -q last ||
	fail "what was written last is missing"
finish
