#!/bin/bash
# Disks come and go at twenty random moments of a guest's boot: each that was
# plugged is there afterwards; each that was asked for is gone, or refused by a
# kernel that has no driver for it yet, and gone when asked for again.
# case: cloud
# timeout: 600
# shellcheck source=tests/guest/lib.sh
. "$(dirname "$0")/lib.sh"

moments=20
seed=${2:-$((10#$(date +%N) % 32768))}

point "boots with $moments free ports (seed $seed)"
RANDOM=$seed
disk_root d0
now_us
began=$NOW
guest_boot "$1" "root=LABEL=guest rw" -machine "root-ports=$((moments + 1))" \
	-smp 2 -m 512 -drive "file=$LAB_TMP/d0.raw,format=raw,if=none,id=d0" \
	-device virtio-blk-pci,drive=d0,bus=rp1 \
	-qmp "unix:$LAB_TMP/qmp,server=on,wait=off"
now_us
span=$((NOW - began))
qmp_open "$LAB_TMP/qmp"
for ((i = 1; i <= moments; i++)); do
	qmp blockdev-add "{\"driver\": \"null-co\", \"node-name\": \"n$i\",
\"size\": 1048576, \"read-zeroes\": true}" || fail "$REPLY"
done

# at_random COMMAND: reboot, and call it with 1 to $moments, each at a moment of
# its own between the reset and the time the boot before took.
at_random() {
	local i deadline reset
	local -a at

	guest_sh "sync; mount -o remount,ro /"
	mapfile -t at < <(for ((i = 0; i < moments; i++)); do
		echo $(((RANDOM * 32768 + RANDOM) % span))
	done | sort -n)
	qmp system_reset
	now_us
	reset=$NOW
	for ((i = 0; i < moments; i++)); do
		deadline=$((reset + at[i]))
		now_us
		while [[ $NOW -lt $deadline ]]; do
			read -r -t 0.01 -u "$nap_fd" || :
			now_us
		done
		"$1" $((i + 1))
	done
	guest_ready 150
	span=$((span > NOW - reset ? span : NOW - reset))
}

plug() {
	qmp device_add "{\"driver\": \"virtio-blk-pci\", \"id\": \"d$1\",
\"drive\": \"n$1\", \"num-queues\": 1}" || fail "device_add: $REPLY"
}

unplug() {
	qmp device_del "{\"id\": \"d$1\"}" || fail "device_del: $REPLY"
}

point "plugged at $moments moments of a boot: all are there"
at_random plug
guest_disks $((moments + 1)) 60
guest_sh "for i in /sys/block/vd?; do dd if=/dev/\${i##*/} of=/dev/null bs=4k count=1 2>&1 ||
break; done" || fail "$OUTPUT"
qmp query-pci
states=$(grep -o '"state": *"[a-z-]*"' <<<"$REPLY" | sort | uniq -c)
expect "$states" "^ *$((moments + 1)) .*\"present\"$" "states of the slots"

point "asked for at $moments moments of a boot: gone, or refused"
at_random unplug
for ((i = 1; i <= moments; i++)); do
	qmp device_del "{\"id\": \"d$i\"}" || expect "$REPLY" DeviceNotFound device_del
done
guest_disks 1 60
echo "refused at first: $(grep -c DEVICE_UNPLUG_GUEST_ERROR "$LAB_OUT/qmp.log")"
for ((i = 1; i <= moments; i++)); do
	qmp_event DEVICE_DELETED
done

point "all ports can be used again"
for ((i = 1; i <= moments; i++)); do
	plug "$i"
done
guest_disks $((moments + 1)) 60

point "kernel has nothing to complain about"
guest_dmesg

point "powers off"
guest_poweroff
disk_clean "$LAB_TMP/d0.raw"
finish
