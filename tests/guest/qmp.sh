#!/bin/bash
# A session on the control socket.
# shellcheck source=tests/guest/lib.sh
. "$(dirname "$0")/lib.sh"

point "greets and negotiates"
disk_root d0
disk_args d0
guest_start -kernel "$LAB_KERNELS/cloud/vmlinuz" \
	-initrd "$LAB_INITRDS/cloud.cpio" -m 256 \
	-append "console=ttyS0 loglevel=5 guest=test root=/dev/vda rw" \
	"${ARGS[@]}" -qmp "unix:$LAB_TMP/qmp,server=on,wait=off"
qmp_open "$LAB_TMP/qmp"

point "says that it runs, and what it is"
qmp query-status
expect "$REPLY" '"status": *"running"' query-status
qmp query-version
expect "$REPLY" '"major": *[0-9]+' query-version

point "refuses what it does not know, and goes on"
if qmp no-such-command; then
	fail "it accepts no-such-command"
fi
expect "$REPLY" '"class": *"CommandNotFound"' "the error"
qmp query-status

point "boots"
guest_ready 150

point "stop halts the guest, cont lets it go on"
qmp stop
qmp_event STOP
qmp query-status
expect "$REPLY" '"status": *"paused"' query-status
guest_send "echo heard"
sleep 2
[[ ! $(<"$guest_console") =~ heard ]] || fail "a stopped guest answers"
qmp cont
qmp_event RESUME
guest_wait "@@ $guest_seq 0"

point "knows CPUs, disks, objects and registers of a running guest"
qmp query-cpus-fast
expect "$REPLY" '"thread-id": *[1-9][0-9]*' query-cpus-fast
qmp query-block
expect "$REPLY" '"inserted": *\{' query-block
qmp qom-list '{"path": "/machine/unattached/device[0]"}'
expect "$REPLY" '"name": *"sse2"' "the CPU's properties"
qmp human-monitor-command '{"command-line": "info registers"}'
expect "$REPLY" 'RIP=[0-9a-f]{16}' "info registers"
qmp human-monitor-command '{"command-line": "info pci"}'
expect "$REPLY" 'PCI device 1af4:' "info pci"

point "dumps the guest's memory while it stands, then it goes on"
qmp dump-guest-memory "{\"paging\": false, \"protocol\": \"file:$LAB_TMP/core\"}"
qmp_event DUMP_COMPLETED
expect "$REPLY" '"status": *"completed"' DUMP_COMPLETED
qmp_event RESUME
[[ $(head -c 4 "$LAB_TMP/core") = $'\x7fELF' ]] || fail "the dump is no ELF file"
grep -qa "Linux version" "$LAB_TMP/core" || fail "the kernel's banner is not in the dump"
rm -f "$LAB_TMP/core"
guest_sh "true"

point "system_reset boots anew"
guest_sh "sync; mount -o remount,ro /"
qmp system_reset
qmp_event RESET
guest_ready 150

point "system_powerdown is a press of the power button"
qmp system_powerdown
qmp_event POWERDOWN
guest_wait "power button pressed"
qmp_event SHUTDOWN
expect "$REPLY" '"guest": *true' SHUTDOWN
guest_end 0
qmp_close
disk_clean "$DISK"

point "-no-shutdown keeps roost, quit ends it"
guest_start -kernel "$LAB_KERNELS/cloud/vmlinuz" \
	-initrd "$LAB_INITRDS/cloud.cpio" -m 256 -S -no-shutdown \
	-append "console=ttyS0 loglevel=5 guest=test" \
	-qmp "unix:$LAB_TMP/qmp2,server=on,wait=off"
qmp_open "$LAB_TMP/qmp2"
qmp query-status
expect "$REPLY" '"status": *"prelaunch"' query-status
qmp cont
guest_ready 150
guest_send "poweroff"
qmp_event SHUTDOWN
qmp query-status
expect "$REPLY" '"status": *"shutdown"' query-status
qmp quit
guest_end 0
finish
