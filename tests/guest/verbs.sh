#!/bin/bash
# Native verbs against a stock guest: what a person types to run one.
# shellcheck source=tests/guest/lib.sh
. "$(dirname "$0")/lib.sh"

export XDG_RUNTIME_DIR=$LAB_TMP/run
mkdir -m 700 "$XDG_RUNTIME_DIR"

# verb WORD...: run roost; its output is in OUTPUT and, as a terminal would
# show it, in $LAB_OUT/session.
verb() {
	local status=0

	OUTPUT=$("$ROOST" "$@" 2>&1) || status=$?
	{
		printf '$ roost %s\n' "${*//$LAB_TMP\//}"
		[[ -z $OUTPUT ]] || printf '%s\n' "$OUTPUT"
	} >>"$LAB_OUT/session"
	return "$status"
}

# run ARGUMENT...: roost run with these alone, serial port as in guest_start.
run() {
	guest_new
	mkfifo "$LAB_TMP/stdin-$guest_count"
	exec {guest_in}<>"$LAB_TMP/stdin-$guest_count"
	printf '%q ' "$ROOST" run "$@" >"$LAB_OUT/command-$guest_count"
	"$ROOST" run -serial stdio "$@" <&"$guest_in" >>"$guest_console" \
		2>"$guest_stderr" {nap_fd}>&- {guest_out}>&- &
	guest_pid=$!
}

point "an image is a disk, and the machine is guessed"
disk_ext4 data 8
disk_root web
run -kernel "$LAB_KERNELS/cloud/vmlinuz" -initrd "$LAB_INITRDS/cloud.cpio" \
	-append "console=ttyS0 loglevel=5 panic=-1 guest=test root=/dev/vda rw" \
	-device virtio-serial-pci -chardev "socket,id=ga,path=$LAB_TMP/ga,server=on,wait=off" \
	-device virtserialport,chardev=ga,name=org.qemu.guest_agent.0 "$DISK"
guest_ready 150
guest_dmesg
guest_sh "[ -b /dev/vda ]"

point "ps and disks show it under its image's name"
verb ps
expect "$OUTPUT" 'web +[0-9]+ +running +[12] +1G ' ps
expect "$OUTPUT" 'web\.raw +stdio' ps
verb disks web
expect "$OUTPUT" 'disk0 .*read-write .*web\.raw' disks

point "attach: a disk appears in the guest"
verb attach web virtio-blk "$LAB_TMP/data.raw"
expect "$OUTPUT" 'web: virtio-blk attached as disk1 on port[0-9]+' attach
guest_sh "for i in \$(seq 100); do [ -b /dev/vdb ] && break; sleep 0.1; done;
	mkdir -p /tmp/data; mount /dev/vdb /tmp/data && echo hello >/tmp/data/x &&
	umount /tmp/data"
verb disks web

point "detach: it goes when the guest lets go"
verb detach web disk1
expect "$OUTPUT" 'web: disk1 detached' detach
guest_sh "for i in \$(seq 100); do [ -b /dev/vdb ] || break; sleep 0.1; done; [ ! -b /dev/vdb ]"
disk_clean "$LAB_TMP/data.raw"

point "a quiesced snapshot is refused while no agent answers"
! verb snapshot create web none --quiesce || fail "$OUTPUT"
expect "$OUTPUT" 'the guest agent does not answer' snapshot
[[ ! -e ${DISK%.raw}.none.qcow2 ]] || fail "an overlay is left behind"

point "Debian's agent freezes the guest for a snapshot, and thaws it"
guest_sh "modprobe virtio_console; n=0;
	until p=\$(grep -lx org.qemu.guest_agent.0 /sys/class/virtio-ports/*/name) || [ \$n = 30 ]; do
		sleep 1; n=\$((n + 1)); done;
	qemu-ga -d -m virtio-serial -p /dev/\$(echo \$p | cut -d / -f 5) -f /run/qga.pid -t /run &&
	echo before >/frozen" 60
verb snapshot create web frozen --quiesce
guest_sh "echo after >/thawed && sync"
# What was frozen needs no recovery of its journal, and has what came before.
dumpe2fs -h "$DISK" 2>/dev/null | grep '^Filesystem features' >"$LAB_TMP/features"
! grep needs_recovery "$LAB_TMP/features" || fail "the journal of $DISK needs recovery"
disk_clean "$DISK"
debugfs -R "cat /frozen" "$DISK" 2>/dev/null | grep -q before || fail "/frozen is missing"
verb snapshot list web
expect "$OUTPUT" frozen "snapshot list"

point "delete puts what came since into it, while the guest runs"
verb snapshot delete web frozen
[[ ! -e ${DISK%.raw}.frozen.qcow2 ]] || fail "the overlay is left behind"
verb disks web
expect "$OUTPUT" 'disk0 .*web\.raw' disks
guest_sh "cat /thawed"

point "pause and resume"
verb pause web
guest_send "echo heard"
sleep 1
[[ ! $(<"$guest_console") =~ heard ]] || fail "a paused guest answers"
verb ps
expect "$OUTPUT" paused ps
verb resume web
guest_wait "@@ $guest_seq 0"

point "reset boots anew"
guest_sh "sync; mount -o remount,ro /"
verb reset web
guest_ready 150

point "stop presses the power button and waits"
verb stop web --timeout=120
expect "$OUTPUT" 'web: off' stop
guest_end 0
disk_clean "$DISK"
verb ps
[[ $OUTPUT != *web* ]] || fail "ps still lists it"

finish
