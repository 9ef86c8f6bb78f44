#!/bin/bash
# Two hundred root ports, a switch and a bridge in one guest: the kernel has
# nothing to repair, lspci reads them all, and the last port takes a disk.
# case: cloud
# timeout: 600
# shellcheck source=tests/guest/lib.sh
. "$(dirname "$0")/lib.sh"

point "boots with 200 root ports"
disk_root d0
truncate -s 32M "$LAB_TMP/d1.raw"
guest_boot "$1" "root=LABEL=guest rw" -machine root-ports=200 -smp 2 -m 512 \
	-drive "file=$LAB_TMP/d0.raw,format=raw,if=none,id=d0" \
	-device virtio-blk-pci,drive=d0 \
	-device x3130-upstream,id=up -device xio3130-downstream,id=s1 \
	-device xio3130-downstream,id=s2 -device virtio-rng-pci,bus=s2 \
	-device pcie-pci-bridge,id=pb -device virtio-rng-pci,bus=pb,addr=0x1 \
	-device virtio-rng-pci,bus=pb,addr=0x2 -device virtio-rng-pci,bus=pb,addr=0x3 \
	-drive "file=$LAB_TMP/d1.raw,format=raw,if=none,id=d1" \
	-qmp "unix:$LAB_TMP/qmp,server=on,wait=off"
qmp_open "$LAB_TMP/qmp"

point "every port has its driver and its slot"
guest_sh "ls -d /sys/bus/pci/drivers/pcieport/0000:00:*.* | wc -l"
expect "$OUTPUT" "^200" "root ports"
guest_sh "ls /sys/bus/pci/slots | wc -l"
expect "$OUTPUT" "^202" "slots"
guest_sh "ls /sys/bus/pci/devices | wc -l"
expect "$OUTPUT" "^211" "devices"

point "three devices behind the bridge work"
guest_sh "cd /sys/bus/pci/devices;
for d in *:0[123].0; do [ \$(cat \$d/device) = 0x1005 ] && readlink \$d/driver; done"
[[ $(grep -c virtio-pci <<<"$OUTPUT") = 3 ]] || fail "drivers behind the bridge: $OUTPUT"
guest_sh "for r in \$(cat /sys/class/misc/hw_random/rng_available); do
echo \$r >/sys/class/misc/hw_random/rng_current; dd if=/dev/hwrng bs=16 count=1 2>/dev/null |
wc -c; done"
[[ $(grep -c '^16' <<<"$OUTPUT") -ge 4 ]] || fail "random bytes: $OUTPUT"

point "lspci -vvv is clean"
guest_sh "lspci -vvv >/tmp/lspci 2>&1" 120
guest_sh "! grep -E 'pcilib|!!!|access denied|[Uu]nknown (header|type)|\
chain (looping|broken)|rev ff|virtual\\]|<ignored>' /tmp/lspci" ||
	fail "lspci says: $OUTPUT"
guest_sh "grep -c 'HotPlug+ Surprise+' /tmp/lspci"
expect "$OUTPUT" "^202" "hot-plug slots"

point "a disk at the last port"
qmp device_add '{"driver": "virtio-blk-pci", "id": "d1", "drive": "d1", "bus": "rp200"}' ||
	fail "$REPLY"
guest_sh "i=0; until [ -b /dev/vdb ]; do i=\$((i + 1)); [ \$i -lt 200 ] || break;
sleep 0.1; done; [ -b /dev/vdb ]" 90 || fail "no disk"
qmp device_del '{"id": "d1"}' || fail "$REPLY"
qmp_event DEVICE_DELETED

point "a disk behind the switch"
qmp device_add '{"driver": "virtio-blk-pci", "id": "d1", "drive": "d1", "bus": "s1"}' ||
	fail "$REPLY"
guest_sh "i=0; until [ -b /dev/vdb ]; do i=\$((i + 1)); [ \$i -lt 200 ] || break;
sleep 0.1; done; [ -b /dev/vdb ]" 90 || fail "no disk"
qmp device_del '{"id": "d1"}' || fail "$REPLY"
qmp_event DEVICE_DELETED

point "kernel has nothing to complain about"
guest_dmesg

point "powers off"
guest_poweroff
disk_clean "$LAB_TMP/d0.raw"
finish
