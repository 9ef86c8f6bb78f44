#!/bin/bash
# tests/lint/self.sh - the layer check finds each kind of offence, and only those.
# Every file below is one line of a small tree: path, include, expected verdict.
set -euo pipefail

layers=$PWD/tests/lint/layers.sh
tmp=$(mktemp -d)
trap 'rm -rf "$tmp"' EXIT
cd "$tmp"

while read -r path include verdict; do
	mkdir -p "${path%/*}"
	case $include in
	\<*) echo "#include $include" >>"$path" ;;
	-) echo "/* only exists */" >>"$path" ;;
	*) echo "#include \"$include\"" >>"$path" ;;
	esac
	[ "$verdict" != bad ] || echo "$path" >>expected.unsorted
done <<'TREE'
vmm/base/err.h			-				ok
vmm/core/vm.h			vmm/base/err.h			ok
block/block.h			vmm/loop/loop.h			ok
vmm/loop/loop.h			<liburing.h>			ok
pci/pci.h			vmm/core/vm.h			ok
usb/usb.h			pci/pci.h			ok
usb/xhci/ring.h			usb/usb.h			ok
devices/virtio/virtio.h		pci/pci.h			ok
devices/virtio/rng.h		devices/virtio/virtio.h		ok
devices/scsi/good.c		devices/virtio/virtio.h		ok
vmm/arch/x86/x86.h		vmm/boot/boot.h			ok
vmm/boot/boot.h			vmm/core/vm.h			ok
vmm/arch/x86/acpi.c		vmm/arch/x86/dsdt.aml.h		ok
vmm/run/machine_q35.c		vmm/arch/x86/x86.h		ok
vmm/run/main.c			devices/virtio/rng.h		ok
include/roost.h			-				ok
vmm/control/lib.c		roost.h				ok
vmm/base/uring.c		<liburing.h>			bad
vmm/base/up.c			pci/pci.h			bad
vmm/base/unrooted.c		err.h				bad
vmm/base/angle.c		<vmm/base/err.h>		bad
vmm/loop/up.c			block/block.h			bad
vmm/core/host.c			block/block.h			bad
block/guest.c			<linux/kvm.h>			bad
block/core.c			vmm/core/vm.h			bad
net/sibling.c			block/block.h			bad
pci/host.c			block/block.h			bad
pci/arch.c			vmm/arch/x86/x86.h		bad
vmm/boot/up.c			vmm/arch/x86/x86.h		bad
usb/uhci/sibling.c		usb/xhci/ring.h			bad
usb/uhci/row.c			devices/virtio/virtio.h		bad
devices/scsi/sibling.c		devices/virtio/rng.h		bad
devices/virtio/cpuid.c		<cpuid.h>			bad
vmm/run/x86.c			vmm/arch/x86/x86.h		bad
vmm/core/dots.c			vmm/core/../base/err.h		bad
vmm/core/none.c			vmm/core/none.h			bad
vmm/new/stray.c			vmm/base/err.h			bad
TREE

sort -u expected.unsorted >expected
if "$layers" >offences; then
	echo "the layer check passed a tree full of offences"
	exit 1
fi
cut -d: -f1 offences | sort -u >found
diff expected found | sed -n 's/^</not found:/p; s/^>/wrongly reported:/p'
cmp -s expected found
