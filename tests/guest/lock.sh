#!/bin/bash
# A disk in use is not taken by a second roost; SIGTERM ends roost in order.
# shellcheck source=tests/guest/lib.sh
. "$(dirname "$0")/lib.sh"

point "boots"
disk_root d0
disk_args d0
guest_boot cloud "root=/dev/vda rw" -m 256 "${ARGS[@]}"

point "a second roost is refused with one sentence"
status=0
timeout 20 "$ROOST" -machine q35 -accel kvm -nodefaults -display none \
	-m 128 "${ARGS[@]}" >"$LAB_OUT/second.out" 2>"$LAB_OUT/second.err" ||
	status=$?
[[ $status = 1 ]] || fail "it ends with status $status"
one_sentence "$LAB_OUT/second.err" "d0.raw"

point "the first one is unharmed"
guest_sh "dd if=/dev/urandom of=/data bs=64k count=16 && sync"

point "SIGTERM ends roost, the disk is consistent"
kill -TERM "$guest_pid"
guest_end 0 20
disk_recovers "$DISK"
debugfs -R "stat /data" "$DISK" 2>/dev/null | grep -q "Size: 1048576" ||
	fail "the file written and synced is not on the disk"
finish
