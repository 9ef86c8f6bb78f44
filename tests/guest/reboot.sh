#!/bin/bash
# Every way a PC resets: the same roost boots the guest again, with the disk
# as the guest left it.
# shellcheck source=tests/guest/lib.sh
. "$(dirname "$0")/lib.sh"

point "boots"
disk_root d0
disk_args d0 cache=writeback
guest_boot cloud "root=/dev/vda rw" -smp 2 -m 256 "${ARGS[@]}"
guest_sh "dd if=/dev/urandom of=/data bs=64k count=32 && sha256sum /data >/sum"

# Names of /sys/kernel/reboot/type for reboot=a, k, p and t: FADT reset
# register, keyboard controller, port 0xcf9, triple fault.
for type in acpi kbd pci triple; do
	point "resets by $type and boots again"
	guest_sh "echo $type >/sys/kernel/reboot/type"
	guest_send reboot
	guest_ready 150
	guest_sh "sha256sum -c /sum"
	guest_sh nproc
	expect "$OUTPUT" "^2"$'\n' "nproc"
done

point "kernel has nothing to complain about"
guest_dmesg

point "powers off"
guest_poweroff
disk_clean "$DISK"
finish
