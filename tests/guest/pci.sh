#!/bin/bash
# Devices behind root ports and a PCIe-PCI bridge: the kernel finds all of
# them, has nothing to repair, and lspci reads their capabilities.
# case: cloud
# case: amd64
# shellcheck source=tests/guest/lib.sh
. "$(dirname "$0")/lib.sh"

point "boots from a disk behind a root port"
disk_root d0
disk_ext4 d1 64
port=pcie-root-port
guest_boot "$1" "root=LABEL=guest rw" -smp 2 -m 512 \
	-device $port,id=rp1,chassis=1,slot=1,addr=0x4,multifunction=on \
	-device $port,id=rp2,chassis=2,slot=2,addr=0x4.1 \
	-device $port,id=rp3,chassis=3,slot=3,addr=0x5 \
	-device $port,id=rp4,chassis=4,slot=4,addr=0x6 \
	-device pcie-pci-bridge,id=pb1,bus=rp3,addr=0x0 \
	-drive "file=$LAB_TMP/d0.raw,format=raw,if=none,id=d0" \
	-device virtio-blk-pci,drive=d0,bus=rp1,addr=0x0 \
	-drive "file=$LAB_TMP/d1.raw,format=raw,if=none,id=d1" \
	-device virtio-blk-pci,drive=d1,bus=pb1,addr=0x1 \
	-device virtio-rng-pci,bus=rp2

point "every device is where it was put"
guest_sh "for d in /sys/bus/pci/devices/*; do echo \
\${d##*/} \$(cat \$d/vendor \$d/device) \$(readlink \$d/driver | sed s,.*/,,); done"
devices=$OUTPUT
for line in "0000:00:00.0 0x8086 0x29c0" "0000:00:1f.0 0x8086 0x2918" \
	"0000:00:04.0 0x1b36 0x000c pcieport" \
	"0000:00:04.1 0x1b36 0x000c pcieport" \
	"0000:00:05.0 0x1b36 0x000c pcieport" \
	"0000:00:06.0 0x1b36 0x000c pcieport" \
	"0000:..:00.0 0x1b36 0x000e" \
	"0000:..:00.0 0x1af4 0x1042 virtio-pci" \
	"0000:..:01.0 0x1af4 0x10(01|42) virtio-pci" \
	"0000:..:00.0 0x1af4 0x1044 virtio-pci"; do
	expect "$devices" "$line" "devices"
done

point "lspci -vvv is clean"
guest_sh "lspci -vvv >/tmp/lspci 2>&1"
guest_sh "! grep -E 'pcilib|!!!|access denied|[Uu]nknown (header|type)|\
chain (looping|broken)|rev ff|virtual\\]|<ignored>' /tmp/lspci" ||
	fail "lspci says: $OUTPUT"
for line in "Express .v2. Root Port" "MSI-X: Enable\\+" "LnkSta:" \
	"SltCap:" "VirtIO: CommonCfg" "Prefetchable memory behind bridge"; do
	guest_sh "grep -qE '$line' /tmp/lspci" || fail "lspci lacks: $line"
done

# What may differ: numbers of interrupts and messages.
point "lspci -vvv is as reviewed"
reference=$(dirname "$0")/lspci-reference
# Compressed: as text it keeps an emulated host's CPU, and so the guest's, in the
# serial console for so long that the kernel complains.
guest_sh "sed -E 's/(IRQ|Address:|Data:) [0-9a-f]+/\1 */g; s/Address: [0-9a-f]+/Address: */' \
/tmp/lspci | gzip -9 | base64"
base64 -d <<<"$OUTPUT" | gunzip >"$LAB_OUT/lspci" || fail "lspci came through damaged"
[[ $1 != cloud ]] || diff -u "$reference" "$LAB_OUT/lspci" || fail "lspci differs from tests/guest/lspci-reference"

point "a disk behind the bridge works"
guest_sh "mount -t ext4 /dev/vdb /mnt && cp /bin/busybox /mnt &&
umount /mnt" || fail "$OUTPUT"

point "virtio-rng gives entropy"
guest_sh "cat /sys/class/misc/hw_random/rng_current"
expect "$OUTPUT" virtio_rng "rng_current"
guest_sh "for i in 1 2; do dd if=/dev/hwrng bs=256 count=4 2>/dev/null |
sha256sum; done"
read -r a _ b _ <<<"${OUTPUT//$'\n'/ }"
[[ $a != "$b" ]] || fail "two reads of 1 KiB are equal"

point "kernel has nothing to complain about"
guest_dmesg

point "powers off"
guest_poweroff
disk_clean "$LAB_TMP/d0.raw"
disk_clean "$LAB_TMP/d1.raw"
finish
