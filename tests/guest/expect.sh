#!/bin/bash
# roost run --expect: a script against a stock kernel; the clock's fault.
# case: cloud
# shellcheck source=tests/guest/lib.sh
. "$(dirname "$0")/lib.sh"

script=$LAB_TMP/stock.expect
cat >"$script" <<'END'
timeout 150
expect-regex "@@ ready [-0-9a-f]+"
send "1 cat /proc/version\n"
expect "Linux version"
expect "@@ 1 0"
# A day ahead, as the RTC shows it, and back.
fault id=jump,clock=86400
send "2 [ $(($(cat /sys/class/rtc/rtc0/since_epoch) - $(date +%s))) -gt 80000 ]\n"
expect "@@ 2 0"
fault-remove jump
send "3 [ $(($(cat /sys/class/rtc/rtc0/since_epoch) - $(date +%s))) -lt 3600 ]\n"
expect "@@ 3 0"
qmp {"execute":"query-status"}
pause
resume
reset
expect-regex "@@ ready [-0-9a-f]+"
send "4 poweroff -f\n"
expect-exit
END

run_script() {	# SCRIPT
	"$ROOST" run --expect "$1" -nodefaults -serial null -m 256 \
		-kernel "$LAB_KERNELS/cloud/vmlinuz" -initrd "$LAB_INITRDS/cloud.cpio" \
		-append "console=ttyS0 loglevel=5 panic=-1 guest=test" \
		>"$LAB_OUT/console-$2.log" 2>"$LAB_OUT/stderr-$2.log"
}

point "a script boots, types, breaks the clock, resets, powers off"
run_script "$script" 1 || fail "$(tail -n 1 "$LAB_OUT/stderr-1.log")"
grep -q '"running":true' "$LAB_OUT/console-1.log" || fail "the QMP reply is not shown"

point "a guest that does not say it fails by name and line"
printf 'timeout 5\nexpect "no guest says this"\n' >"$script"
if run_script "$script" 2; then
	fail "the script passed"
fi
grep -q "stock.expect:2: serial port 0: no 'no guest says this' within 5000 ms" \
	"$LAB_OUT/stderr-2.log" || fail "$(tail -n 1 "$LAB_OUT/stderr-2.log")"
finish
