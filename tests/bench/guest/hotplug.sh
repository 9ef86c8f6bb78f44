#!/bin/bash
# A disk is added to and taken from a running guest: guest time from the first
# word of its kernel to a usable block device, and how long removal takes,
# beside QEMU's q35 with ACPI (its default) and with native hot-plug. With ACPI
# the kernel says its first word later, when it has found the device already.
# timeout: 900
. "$(dirname "$0")/figures"

rounds=${BENCH_ROUNDS:-3}
port=pcie-root-port

# machine WHO: vda is the root; rp1 is free, d1 waits for a device. (QEMU would
# remove a -drive together with its device.)
machine() {
	local who=${1%-native} extra=()

	[[ $1 != *-native ]] ||
		extra=(-global ICH9-LPC.acpi-pci-hotplug-with-bridge-support=off)
	disk_root root
	truncate -s 32M "$LAB_TMP/d1.raw"
	VMM=()
	vmm_disk "$who" "$DISK" "" addr=0x3
	rm -f "$LAB_TMP/qmp-$1"
	machine_boot "$who" -m 256 "${VMM[@]}" "${extra[@]}" \
		-device $port,id=rp1,chassis=1,slot=1,addr=0x4 \
		-blockdev "driver=raw,node-name=d1,file.driver=file,file.filename=$LAB_TMP/d1.raw" \
		-qmp "unix:$LAB_TMP/qmp-$1,server=on,wait=off"
	qmp_events=()
	qmp_open "$LAB_TMP/qmp-$1"
}

# add: guest milliseconds, from the kernel's log, in MS.
add() {
	guest_sh "dmesg -c >/dev/null" || :
	qmp device_add '{"driver": "virtio-blk-pci", "id": "disk1", "drive": "d1",
"bus": "rp1"}' || fail "$REPLY"
	guest_sh "until [ -b /dev/vdb ]; do sleep 0.05; done; dmesg" 60
	MS=$(awk -F'[][ ]+' '/pci/ && !first { first = $2 }
		/\[vdb\]/ { last = $2 }
		END { printf "%.0f", (last - first) * 1000 }' <<<"$OUTPUT")
	[[ $MS -gt 0 ]] || fail "the kernel said: $OUTPUT"
}

# remove: milliseconds from the command to the event, in MS.
remove() {
	local since

	now_us
	since=$NOW
	qmp device_del '{"id": "disk1"}' || fail "$REPLY"
	# QEMU says it of the virtio part first, which has no "device".
	until qmp_event DEVICE_DELETED && [[ $REPLY =~ \"device\":\ *\"disk1\" ]]; do
		:
	done
	now_us
	MS=$(((NOW - since) / 1000))
	guest_sh "while [ -b /dev/vdb ]; do sleep 0.05; done" 60
	sleep 2		# a slot that has just been emptied may have to settle
}

for who in roost q35 q35-native; do
	point "boots $who"
	machine $who
	for ((round = 1; round <= rounds; round++)); do
		point "round $round of $who"
		add
		echo "$MS" >>"$LAB_TMP/add.$who"
		echo "$who: added in $MS ms of guest time"
		sleep 1
		remove
		echo "$MS" >>"$LAB_TMP/remove.$who"
		echo "$who: removed in $MS ms"
	done
	qmp_close
	guest_kill || :
done

point "compares"
figure "PCIe hot-add, idle virtio-blk, guest time" "$(median <"$LAB_TMP/add.roost") ms" - \
	"<= 150 ms" "$(met "$(median <"$LAB_TMP/add.roost")" '<=' 150)"
figure "PCIe hot-remove, idle virtio-blk, command to event" \
	"$(median <"$LAB_TMP/remove.roost") ms" - "<= 250 ms" \
	"$(met "$(median <"$LAB_TMP/remove.roost")" '<=' 250)"
for peer in q35 q35-native; do
	for what in add remove; do
		ours=$(median <"$LAB_TMP/$what.roost")
		theirs=$(median <"$LAB_TMP/$what.$peer")
		share=$(ratio "$ours" "$theirs")
		figure "PCIe hot-$what, idle virtio-blk, beside $peer" "$ours ms" \
			"$theirs ms" "< 1: $share" "$(met "$share" '<' 1)"
	done
done
finish
