#!/bin/bash
# Serial ports and virtio ports, as a stock kernel and Debian's guest agent use
# them: who attaches late, a reboot, byte-exact transfers, windows, hot-plug.
# timeout: 600
# shellcheck source=tests/guest/lib.sh
. "$(dirname "$0")/lib.sh"

tty=$LAB_TMP/tty
con=$LAB_TMP/con.sock
port=$LAB_TMP/port.sock
agent=$LAB_TMP/agent.sock

# console_up: load the driver; its ports come when it has talked to the device.
console_up() {
	guest_sh "modprobe virtio_console; n=0;
		until [ -e /dev/hvc0 ] && grep -qx org.qemu.guest_agent.0 \
			/sys/class/virtio-ports/*/name || [ \$n = 30 ]; do
		sleep 1; n=\$((n + 1)); done; [ \$n -lt 30 ]" 60
}

# port_of NAME: the guest's /dev/vportXpY of that name, in PORT.
port_of() {
	guest_sh "grep -lx '$1' /sys/class/virtio-ports/*/name | cut -d / -f 5"
	PORT=/dev/${OUTPUT%$'\n'}
}

# attach: take the pty for the guest's console, as somebody would who comes late.
attach() {
	cat "$tty" >>"$guest_console" &
	reader=$!
	exec {guest_in}<>"$tty"
}

detach() {
	exec {guest_in}>&-
	kill "$reader"
	wait "$reader" || :
}

point "who attaches to the pty late sees the first kernel line"
disk_root d0
disk_args d0
guest_start -kernel "$LAB_KERNELS/cloud/vmlinuz" \
	-initrd "$LAB_INITRDS/cloud.cpio" -m 256 \
	-append "console=ttyS1 loglevel=7 panic=-1 guest=test root=/dev/vda rw" \
	"${ARGS[@]}" -qmp "unix:$LAB_TMP/qmp,server=on,wait=off" \
	-serial "pty:$tty" -serial null -serial "file:$LAB_OUT/ttyS3" \
	-device virtio-serial-pci,id=vs \
	-chardev "console,id=hvc,path=$con" -device virtconsole,chardev=hvc \
	-chardev "socket,id=port,path=$port,server=on,wait=off,replay=64k" \
	-device virtserialport,bus=vs.0,id=port0,chardev=port,name=test.port \
	-chardev "socket,id=ga,path=$agent,server=on,wait=off" \
	-device virtserialport,bus=vs.0,id=agent,chardev=ga,name=org.qemu.guest_agent.0
qmp_open "$LAB_TMP/qmp"
sleep 20	# in which the guest boots for nobody
exec {guest_in}>&-
attach
guest_ready 150
expect "$(head -n 1 "$guest_console")" "Linux version" "the first line"

point "and so does who comes after him"
guest_sh "echo for the next"
detach
sleep 1
timeout 3 cat "$tty" >"$LAB_OUT/later" || :
expect "$(head -n 1 "$LAB_OUT/later")" "Linux version" "the first line again"
expect "$(<"$LAB_OUT/later")" "for the next" "the rest"
sleep 1
attach
guest_wait "@@ $guest_seq 0"	# past what is shown again

point "there are four serial ports"
guest_sh "grep -c 16550A /proc/tty/driver/serial"
expect "$OUTPUT" "4"$'\n'"\$" "16550A ports"
guest_sh "echo fourth >/dev/ttyS3"
sleep 1
[[ $(<"$LAB_OUT/ttyS3") = *fourth* ]] || fail "ttyS3 did not carry a line"

point "hvc0 and a console that many watch"
console_up
guest_sh "stty -F /dev/hvc0 raw -echo"
(sleep 4) | socat -t 4 - "UNIX-CONNECT:$con" >"$LAB_OUT/watch1" &
watch1=$!
(sleep 4) | socat -t 4 - "UNIX-CONNECT:$con" >"$LAB_OUT/watch2" &
watch2=$!
guest_sh "sleep 1; echo from the guest >/dev/hvc0"
wait "$watch1" "$watch2"
expect "$(<"$LAB_OUT/watch1")" "from the guest" "the first client"
expect "$(<"$LAB_OUT/watch2")" "from the guest" "the second client"
guest_send "head -n 1 /dev/hvc0 >/tmp/typed"
(sleep 1; echo typed on the host; sleep 1) | socat -t 1 - "UNIX-CONNECT:$con" >/dev/null
guest_wait "@@ $guest_seq 0"
guest_sh "cat /tmp/typed"
expect "$OUTPUT" "typed on the host" "what the guest read"

point "the window's size reaches the guest"
# Hello, then a size of 132 columns and 50 rows (char_console.h).
(printf '\xf9\0\2\4\0\204\0\62\0'; sleep 2) | socat -t 1 - "UNIX-CONNECT:$con" >/dev/null
# The driver sets it in the background when the terminal is opened.
guest_sh "{ sleep 1; stty size; } </dev/hvc0"
expect "$OUTPUT" "50 132" "stty size"

point "a megabyte through a port, both ways, is exact"
port_of test.port
head -c 1048576 /dev/urandom >"$LAB_TMP/sent"
sum=$(md5sum <"$LAB_TMP/sent")
# Linux reads the end of the file while nobody is at the host's side.
socat -u "OPEN:$LAB_TMP/sent" "UNIX-CONNECT:$port" &
sender=$!
sleep 1
guest_sh "head -c 1048576 $PORT >/tmp/got"
wait "$sender"
guest_sh "md5sum </tmp/got"
expect "$OUTPUT" "${sum%% *}" "the guest's sum"
guest_send "cat /tmp/got >$PORT"
(sleep 3) | socat -t 3 - "UNIX-CONNECT:$port" >"$LAB_TMP/back"
guest_wait "@@ $guest_seq 0" 60
[[ $(md5sum <"$LAB_TMP/back") = "$sum" ]] ||
	fail "the host got $(stat -c %s "$LAB_TMP/back") other bytes"

point "Debian's guest agent answers"
port_of org.qemu.guest_agent.0
guest_sh "qemu-ga -d -m virtio-serial -p $PORT -f /run/qga.pid -t /run"
qmp_event VSERPORT_CHANGE
while [[ ! $REPLY =~ \"agent\" ]]; do
	qmp_event VSERPORT_CHANGE
done
expect "$REPLY" '"open": *true' VSERPORT_CHANGE
answer=$( (printf '{"execute": "guest-ping", "id": 7}\n'; sleep 3) |
	socat -t 1 - "UNIX-CONNECT:$agent")
expect "$answer" '"return": *\{\}' "guest-ping"
answer=$( (printf '{"execute": "guest-get-time"}\n'; sleep 3) |
	socat -t 1 - "UNIX-CONNECT:$agent")
expect "$answer" '"return": *[0-9]+' "guest-get-time, on a second connection"

point "a port comes and goes while the guest runs"
qmp device_add '{"driver": "virtserialport", "id": "hot", "bus": "vs.0", "name": "hot.port"}'
guest_sh "for i in 1 2 3 4 5; do grep -lx hot.port /sys/class/virtio-ports/*/name && exit 0;
	sleep 1; done; exit 1"
qmp device_del '{"id": "hot"}'
qmp_event DEVICE_DELETED
guest_sh "sleep 1; ! grep -lx hot.port /sys/class/virtio-ports/*/name"
guest_dmesg

point "all of it survives a reboot"
before=$(grep -c "Linux version" "$guest_console")
guest_sh "sync"
guest_send reboot
guest_ready 200
[[ $(grep -c "Linux version" "$guest_console") = $((before + 1)) ]] ||
	fail "the pty does not show the second boot"
console_up
guest_sh "echo again >/dev/hvc0"
(sleep 2) | socat -t 2 - "UNIX-CONNECT:$con" >"$LAB_OUT/watch3"
expect "$(<"$LAB_OUT/watch3")" "from the guest.*again" "the console's replay"
guest_dmesg
guest_poweroff
wait "$reader" || :
qmp_close
disk_clean "$DISK"
finish
