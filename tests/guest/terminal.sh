#!/bin/bash
# roost on a terminal, as a person starts it: the short command line, the
# escape key, and the terminal as it was, whatever ends roost.
# shellcheck source=tests/guest/lib.sh
. "$(dirname "$0")/lib.sh"
kernel=(-kernel "$LAB_KERNELS/cloud/vmlinuz" -initrd "$LAB_INITRDS/cloud.cpio")

point "the short form boots a disk image to a shell"
disk_root d0
guest_start_terminal "${kernel[@]}" \
	-append "console=ttyS0 quiet guest=test root=/dev/vda rw" "$DISK"
guest_ready 150
guest_sh "echo \$((6 * 7))"
expect "$OUTPUT" "^42"$'\n' "the guest's answer"

point "Ctrl-C is the guest's"
# It interrupts the guest's shell, which init starts anew.
printf '\003' >&"$guest_in"
guest_wait '@@ ready' 60
guest_sh "sync"

point "poweroff ends roost, the terminal is restored"
guest_poweroff
terminal_restored
disk_clean "$DISK"

point "Ctrl-A x ends roost, the terminal is restored"
guest_start_terminal "${kernel[@]}" -append "console=ttyS0"
guest_wait "Linux version" 60
printf '\001x' >&"$guest_in"
guest_end 0 20
terminal_restored

point "SIGTERM ends roost, the terminal is restored"
guest_start_terminal "${kernel[@]}" -append "console=ttyS0"
guest_wait "Linux version" 60
kill -TERM "$guest_pid"
guest_end 0 20
terminal_restored

point "roost ends when its terminal is gone"
guest_start_terminal "${kernel[@]}" -append "console=ttyS0"
guest_wait "Linux version" 60
exec {guest_in}>&-
kill -KILL "$terminal_pid"
guest_end '[01]' 20
finish
