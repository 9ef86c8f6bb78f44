#!/bin/bash
# A guest without any disk; its clock; -no-reboot.
# case: cloud
# case: amd64
# shellcheck source=tests/guest/lib.sh
. "$(dirname "$0")/lib.sh"

point "boots from an initrd alone"
guest_boot "$1" "" -m 256 -no-reboot -rtc base=utc

point "knows the time"
guest_sh "date +%s"
now=$(date +%s)
[[ $OUTPUT -le $((now + 2)) && $OUTPUT -ge $((now - 5)) ]] ||
	fail "the guest's clock says $OUTPUT, the host's $now"
guest_sh "cat /sys/class/rtc/rtc0/since_epoch"
[[ $OUTPUT -le $((now + 5)) && $OUTPUT -ge $((now - 5)) ]] ||
	fail "the guest's RTC says $OUTPUT, the host's $now"

point "kernel has nothing to complain about"
guest_dmesg

point "a reboot ends roost where -no-reboot is given"
guest_send "reboot -f"
guest_end 0
finish
