#!/bin/bash
# What the kernel makes of CPU models, topologies and interrupt controllers.
# case: topology
# case: split
# case: model
. "$(dirname "$0")/lib.sh"

case $1 in
topology)
	# No threads: an emulated AMD CPU has no topoext to show them with.
	point "boots with sockets and cores"
	guest_boot cloud "" -m 256 -smp 6,sockets=2,cores=3 -device pvpanic

	point "sees them as they were given"
	for cpu in "0 0 0 0-2" "2 0 2 0-2" "3 1 0 3-5" "5 1 2 3-5"; do
		read -r number rest <<<"$cpu"
		guest_sh "cd /sys/devices/system/cpu/cpu$number/topology && echo \$(cat physical_package_id core_id core_siblings_list)"
		expect "$OUTPUT" "$rest" "CPU $number"
	done

	point "finds the panic port"
	guest_sh "ls /sys/bus/acpi/devices"
	expect "$OUTPUT" "QEMU0001" "ACPI devices"
	;;
split)
	point "boots with the IOAPIC in user space"
	disk_root d0
	disk_args d0
	guest_boot cloud "root=/dev/vda rw" -m 256 -smp 2 \
		-machine kernel-irqchip=split "${ARGS[@]}"

	point "gets interrupts through it"
	guest_sh "cat /proc/interrupts"
	expect "$OUTPUT" "IO-APIC +4-edge +ttyS0" "interrupts"
	guest_sh "dmesg | grep IOAPIC"
	expect "$OUTPUT" "version 32" "IOAPIC"
	;;
model)
	point "boots a named model"
	guest_boot cloud "" -m 256 -cpu x86-64-v2,-popcnt

	point "sees the model's name and features"
	guest_sh "grep -m 1 'model name' /proc/cpuinfo"
	expect "$OUTPUT" "x86-64-v2 compatible" "name"
	guest_sh "grep -m 1 flags /proc/cpuinfo"
	expect "$OUTPUT" " sse4_2 " "flags"
	[[ $OUTPUT != *popcnt* && $OUTPUT != *movbe* ]] ||
		fail "features that were not asked for: $OUTPUT"
	;;
esac

point "kernel has nothing to complain about"
guest_dmesg

point "powers off"
guest_poweroff
finish
