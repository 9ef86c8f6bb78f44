#!/bin/bash
# Disks come and go while a stock kernel runs: native hot-plug, eject requests,
# surprise removal, slots of several functions, a paused and a rebooting guest.
# A second argument is the number of times that one comes and goes.
# case: cloud
# timeout: 900
# shellcheck source=tests/guest/lib.sh
. "$(dirname "$0")/lib.sh"

cycles=${2:-20}

# plug ID [MEMBERS]: add a virtio-blk disk on drive ID.
plug() {
	qmp device_add "{\"driver\": \"virtio-blk-pci\", \"id\": \"$1\",
\"drive\": \"$1\", \"share-rw\": true${2:+, $2}}" || fail "device_add: $REPLY"
}

unplug() {
	qmp device_del "{\"id\": \"$1\"${2:+, $2}}" || fail "device_del: $REPLY"
}

point "boots with free ports"
disk_root d0
for name in d1 d2 d3 d4; do
	truncate -s 32M "$LAB_TMP/$name.raw"
done
disks=()
for name in d1 d2 d3 d4; do
	disks+=(-drive "file=$LAB_TMP/$name.raw,format=raw,if=none,id=$name")
done
port=pcie-root-port
guest_boot "$1" "root=LABEL=guest rw" -smp 2 -m 512 \
	-device $port,id=rp1,chassis=1,slot=1,addr=0x4,multifunction=on \
	-device $port,id=rp2,chassis=2,slot=2,addr=0x4.1 \
	-device $port,id=rp3,chassis=3,slot=3,addr=0x4.2 \
	-drive "file=$LAB_TMP/d0.raw,format=raw,if=none,id=d0" \
	-device virtio-blk-pci,drive=d0,bus=rp1,num-queues=1 "${disks[@]}" \
	-qmp "unix:$LAB_TMP/qmp,server=on,wait=off"
qmp_open "$LAB_TMP/qmp"
guest_disks 1

point "the kernel's native hot-plug driver has the slots"
guest_sh "ls /sys/bus/pci/slots"
expect "$OUTPUT" "2" "slots"
guest_sh "dmesg | grep -i -E 'pciehp|_OSC|acpiphp'" || :
echo "$OUTPUT"
expect "$OUTPUT" "pciehp.*Slot #2" "native hot-plug"

point "a disk comes and goes at the guest's leave"
plug d1 '"bus": "rp2"'
guest_disks 2
qmp_event __org.roost_SLOT_STATE
guest_sh "dd if=/dev/zero of=/dev/vdb bs=1M count=4 conv=fsync 2>&1"
qmp query-pci
expect "$REPLY" '"state": *"present"' query-pci
unplug d1
qmp_event DEVICE_DELETED
expect "$REPLY" '"device": *"d1"' DEVICE_DELETED
guest_disks 1
guest_sh "dmesg | tail -n 12" || :
echo "$OUTPUT"

point "$cycles times, with I/O on the other disk"
guest_send "(while :; do dd if=/dev/vda of=/dev/null bs=64k count=64 iflag=direct 2>/dev/null; done) & echo \$! >/tmp/load"
guest_wait "@@ $guest_seq 0"
# descriptors of roost, in FDS, its threads in THREADS, in MEMORY its own memory in
# KiB: what is mapped in pieces smaller than the guest's
resources() {
	local fd=("/proc/$guest_pid/fd"/*) task=("/proc/$guest_pid/task"/*)
	FDS=${#fd[@]} THREADS=${#task[@]}
	MEMORY=$(awk '/^Size:/ { size = $2 }
		/^Anonymous:/ && size < 256 * 1024 { sum += $2 }
		END { print sum }' "/proc/$guest_pid/smaps")
}
for ((i = 0; i < cycles; i++)); do
	plug d1
	guest_disks 2
	unplug d1
	qmp_event DEVICE_DELETED
	# The busy disk's one queue has got its irqfd by the fifth.
	[[ $i != 4 ]] || { resources; fds=$FDS threads=$THREADS memory=$MEMORY; }
done
guest_disks 1
resources
echo "after 5: $fds descriptors, $threads threads, $memory KiB; after $cycles: $FDS, $THREADS, $MEMORY"
[[ $FDS = "$fds" ]] || fail "it had $fds descriptors, now $FDS"
# The kernel's workers for I/O come and go.
[[ $THREADS -le $((threads + 2)) ]] || fail "it had $threads threads, now $THREADS"
[[ $MEMORY -le $((memory + 256)) ]] || fail "it had $memory KiB of memory, now $MEMORY"
guest_sh "kill \$(cat /tmp/load)"

point "a busy disk is let go, its user gets an error"
plug d2 '"bus": "rp3"'
guest_disks 2
guest_send "dd if=/dev/zero of=/dev/vdb bs=64k oflag=direct 2>/dev/null; [ \$? != 0 ]"
sleep 1
unplug d2
qmp_event DEVICE_DELETED
guest_wait "@@ $guest_seq 0" 60
guest_disks 1

# Torn out idle: Linux 6.1 waits for ever for requests of a virtio disk that were
# in flight when it was torn out, and so does its hot-plug driver.
point "surprise removal"
plug d2 '"bus": "rp3"'
guest_disks 2
unplug d2 '"force": true'
qmp_event DEVICE_DELETED
guest_disks 1
plug d2 '"bus": "rp3"'
guest_disks 2
unplug d2 '"force": true'
qmp_event DEVICE_DELETED
guest_disks 1

point "a slot that the guest switched off is emptied at once"
plug d2 '"bus": "rp3"'
guest_disks 2
guest_sh "echo 0 >/sys/bus/pci/slots/3/power"
guest_disks 1
unplug d2
qmp_event DEVICE_DELETED

point "a slot of eight functions comes and goes as a whole"
for fn in 7 6 5 4 3; do
	qmp device_add "{\"driver\": \"virtio-rng-pci\", \"id\": \"f$fn\",
\"bus\": \"rp2\", \"addr\": \"0.$fn\"}" || fail "device_add: $REPLY"
done
plug d3 '"bus": "rp2", "addr": "0.2"'
plug d2 '"bus": "rp2", "addr": "0.1"'
plug d1 '"bus": "rp2", "addr": "0.0", "multifunction": true'
guest_disks 4
# The disks are not the last functions that get their drivers.
guest_sh "at=/sys/bus/pci/devices/\$(cat /sys/bus/pci/slots/2/address); i=0;
until [ \$(ls -d \$at.?/driver | wc -l) = 8 ]; do i=\$((i + 1)); [ \$i -lt 100 ] || break;
sleep 0.1; done; ls -d \$at.?/driver | wc -l"
expect "$OUTPUT" "^8" "functions"
unplug f5
for fn in 0 1 2 3 4 5 6 7; do
	qmp_event DEVICE_DELETED
done
guest_disks 1
plug d1 '"bus": "rp2"'
guest_disks 2
unplug d1
qmp_event DEVICE_DELETED
guest_disks 1

point "a paused guest finds the disk when it goes on"
qmp stop
plug d1
qmp cont
guest_disks 2
qmp stop
unplug d1
qmp cont
qmp_event DEVICE_DELETED
guest_disks 1

point "a disk that is plugged during a reboot is there afterwards"
guest_sh "sync; mount -o remount,ro /"
qmp system_reset
plug d1
qmp_event RESET
sleep 1
plug d2
guest_ready 150
guest_disks 3
unplug d1
unplug d2
qmp_event DEVICE_DELETED
qmp_event DEVICE_DELETED
guest_disks 1

point "what the guest is asked in its boot is done by the reset"
plug d1
guest_disks 2
guest_sh "mount -o remount,ro / || :"
qmp stop
unplug d1
qmp system_reset
qmp_event DEVICE_DELETED
qmp cont
guest_ready 150
guest_disks 1

point "kernel has nothing to complain about"
guest_dmesg

point "powers off"
guest_poweroff
disk_clean "$LAB_TMP/d0.raw"
finish
