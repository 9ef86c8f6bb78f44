# shellcheck shell=bash disable=SC2034 # the tests use what is set here
# tests/guest/lib.sh - what a guest test uses. Sourced first by each of them.
#
# A test is tests/guest/NAME.sh. tests/lab/runner runs it once, or once for
# each "# case: ARGUMENTS" line in it, with the arguments given; it may also
# say "# timeout: SECONDS" (default 300) and "# memory: MIB", what its largest
# guest needs (default 1024). It is made of points, each a line of the result:
#
#	point "reads what it wrote"	the point before this one has passed
#	skip "reason"			this point cannot run here
#	finish				last line; a test that ends before fails
#
# The first command that fails ends the test and fails the open point.
#
# From the runner: $ROOST the binary, $LAB_TMP a folder for disks and sockets,
# $LAB_OUT a folder for logs, $LAB_KERNELS, $LAB_INITRDS and $LAB_DISK the
# assets, $LAB_NESTED non-empty in the emulated host.
set -Eeuo pipefail

# -- points -----------------------------------------------------------------

test_point=	# the open point, if any
test_since=${EPOCHREALTIME/./}	# when it was opened, in microseconds
test_reason=	# why the test ends
test_done=

now_us() {
	NOW=${EPOCHREALTIME/./}	# not printed: a fork costs 10 ms in the lab
}

# test_record RESULT REASON: close the open point.
test_record() {
	local ms reason=${2//[$'\n\t']/ }

	now_us
	ms=$(((NOW - test_since) / 1000))
	printf '%s\t%s\t%s\t%d.%d\t%s\n' "$1" "$LAB_TEST" "$test_point" \
		$((ms / 1000)) $((ms % 1000 / 100)) "$reason" >>"$LAB_RESULTS"
	test_point=
}

point() {
	[[ -z $test_point ]] || test_record pass ''
	echo "-- $1"
	test_point=$1
	now_us
	test_since=$NOW
}

skip() {
	test_record skip "$1"
}

fail() {
	test_reason=$*
	exit 1
}

finish() {
	[[ -z $test_point ]] || test_record pass ''
	test_done=1
}

test_error() {
	[[ $test_reason ]] || test_reason="line $1: $2"
}

test_exit() {
	local status=$?

	trap - ERR EXIT
	set +e
	[[ -z ${guest_pid:-} ]] || guest_kill
	[[ $test_done && $status = 0 ]] && exit 0
	: "${test_point:=ends}"
	test_record fail "${test_reason:-the test ended early, status $status}"
	echo "FAILED: $test_reason"
	exit 1
}

trap 'test_error $LINENO "$BASH_COMMAND"' ERR
trap test_exit EXIT
trap 'fail "not finished after the time allowed"' TERM

# nap: a tenth of a second without a fork.
exec {nap_fd}<> <(:)
nap() {
	read -r -t 0.1 -u "$nap_fd" || :
}

# -- guests -----------------------------------------------------------------

guest_count=0
guest_pid=	# the running guest, if any
guest_seq=0	# commands given to the guest's shell
guest_partial=	# console line that has not ended yet
guest_boot_id=

# guest_new: files of the next guest; the console is read through guest_out.
guest_new() {
	[[ -z $guest_pid ]] || fail "the test starts a second guest at once"
	guest_count=$((guest_count + 1))
	guest_console=$LAB_OUT/console-$guest_count.log
	guest_stderr=$LAB_OUT/stderr-$guest_count.log
	guest_partial=
	: >"$guest_console"
	exec {guest_out}<"$guest_console"
}

# guest_start ARGUMENT...: start a machine with these arguments. Its first
# serial port is a pipe: kept in $LAB_OUT/console-N.log, read by guest_wait,
# written by guest_sh.
guest_start() {
	local args=(-machine q35 -accel kvm -nodefaults -display none
		-serial stdio "$@")

	guest_new
	mkfifo "$LAB_TMP/stdin-$guest_count"
	exec {guest_in}<>"$LAB_TMP/stdin-$guest_count"
	printf '%q ' "$ROOST" "${args[@]}" >"$LAB_OUT/command-$guest_count"
	"$ROOST" "${args[@]}" <&"$guest_in" >>"$guest_console" \
		2>"$guest_stderr" {nap_fd}>&- {guest_out}>&- &
	guest_pid=$!
}

# guest_start_terminal ARGUMENT...: start roost with nothing but these, on a
# terminal of its own, $guest_tty; guest_in is the keyboard. The terminal
# goes when terminal_pid is killed.
guest_start_terminal() {
	local tries=0

	guest_new
	guest_tty=$LAB_TMP/tty-$guest_count
	socat "PTY,link=$guest_tty.user,raw,echo=0" "PTY,link=$guest_tty" &
	terminal_pid=$!
	until [[ -e $guest_tty && -e $guest_tty.user ]]; do
		[[ $((tries++)) -lt 100 ]] || fail "socat makes no terminal"
		nap
	done
	exec {guest_in}<>"$guest_tty.user"
	stty -F "$guest_tty" sane
	terminal_before=$(stty -F "$guest_tty" -a)
	cat "$guest_tty.user" >>"$guest_console" 2>/dev/null &
	printf '%q ' "$ROOST" "$@" >"$LAB_OUT/command-$guest_count"
	# Leader of a session, so that the kernel tells it when the terminal goes.
	# shellcheck disable=SC2094 # a terminal
	setsid --ctty "$ROOST" "$@" <"$guest_tty" >"$guest_tty" \
		2>"$guest_stderr" &
	guest_pid=$!
}

# terminal_restored: the terminal is as it was before roost; it goes then.
terminal_restored() {
	local after
	after=$(stty -F "$guest_tty" -a)
	[[ $after = "$terminal_before" ]] ||
		fail "the terminal was left as: ${after//$'\n'/ }"
	kill "$terminal_pid"
	wait "$terminal_pid" || :
}

# guest_boot KERNEL APPEND ARGUMENT...: start KERNEL (cloud or amd64) with its
# initrd, and wait until its user space takes commands.
guest_boot() {
	local kernel=$1 append=$2
	shift 2
	guest_start -kernel "$LAB_KERNELS/$kernel/vmlinuz" \
		-initrd "$LAB_INITRDS/$kernel.cpio" \
		-append "console=ttyS0 loglevel=5 panic=-1 guest=test $append" \
		"$@"
	guest_ready 150
}

# guest_ready [SECONDS]: wait for user space, after a start or a reset.
guest_ready() {
	guest_wait '@@ ready ([-0-9a-f]+)' "${1:-150}"
	[[ ${BASH_REMATCH[1]} != "$guest_boot_id" ]] ||
		fail "the guest did not boot anew"
	guest_boot_id=${BASH_REMATCH[1]}
}

# Not by kill -0: now and then bash does not notice that a child has ended until it
# starts another, and a child that nobody waited for can be signalled.
guest_running() {
	local state

	[[ $guest_pid ]] &&
		{ read -r _ _ state _ <"/proc/$guest_pid/stat"; } 2>/dev/null &&
		[[ $state != [ZX] ]]
}

# guest_line DEADLINE: the console's next line, in LINE.
guest_line() {
	local part alive

	while :; do
		alive=
		guest_running && alive=1
		while IFS= read -r part <&"$guest_out"; do
			LINE=${guest_partial}${part%$'\r'}
			guest_partial=
			return 0
		done
		guest_partial+=$part
		[[ $alive ]] || return 1
		now_us
		[[ $NOW -lt $1 ]] || return 1
		nap
	done
}

# guest_wait REGEX [SECONDS]: read the console up to a line that matches.
guest_wait() {
	now_us
	local deadline=$((NOW + ${2:-60} * 1000000))

	while guest_line "$deadline"; do
		[[ ! $LINE =~ $1 ]] || return 0
	done
	guest_running || fail "the guest ended before its console said: $1"
	fail "the console did not say within ${2:-60} s: $1"
}

# guest_sh COMMAND [SECONDS]: run it in the guest, as one line; its output is
# in OUTPUT, its status the function's.
guest_sh() {
	now_us
	local deadline=$((NOW + ${2:-60} * 1000000))

	guest_seq=$((guest_seq + 1))
	OUTPUT=
	printf '%d %s\n' "$guest_seq" "${1//$'\n'/ }" >&"$guest_in"
	while guest_line "$deadline"; do
		[[ ! $LINE =~ '@@ ready ' ]] ||
			fail "the guest restarted by itself during: $1" \
				"($(tail -n 1 "$guest_stderr"))"
		if [[ $LINE =~ ^(.*)"@@ $guest_seq "([0-9]+)$ ]]; then
			OUTPUT+=${BASH_REMATCH[1]}
			return "${BASH_REMATCH[2]}"
		fi
		OUTPUT+=$LINE$'\n'
	done
	fail "the guest did not finish within ${2:-60} s: $1"
}

# guest_send COMMAND: the same without waiting, for commands without return.
guest_send() {
	guest_seq=$((guest_seq + 1))
	printf '%d %s\n' "$guest_seq" "$1" >&"$guest_in"
}

# guest_dmesg: fail if the kernel complains; see dmesg-forbidden.
guest_dmesg() {
	if guest_sh "dmesg | grep -E -f /etc/dmesg-forbidden"; then
		fail "the kernel complains: ${OUTPUT//$'\n'/ | }"
	fi
}

# guest_stuck: what roost's threads are at, in $LAB_OUT/stuck-N.log; twice, so
# that it shows who runs.
guest_stuck() {
	local t pass
	for pass in 1 2; do
		for t in "/proc/$guest_pid/task"/*; do
			echo "$pass: $(<"$t/comm"), user and system" \
				"$(cut -d ' ' -f 14,15 "$t/stat")"
			cat "$t/stack" || :
		done
		grep . /sys/kernel/debug/kvm/*/{exits,io_exits,halt_exits} || :
		sleep 1
	done >"$LAB_OUT/stuck-$guest_count.log" 2>&1
}

# guest_end [STATUS [SECONDS]]: wait for roost to end, with that status (a
# pattern).
guest_end() {
	now_us
	local deadline=$((NOW + ${2:-60} * 1000000)) status=0

	while guest_running; do
		now_us
		if [[ $NOW -ge $deadline ]]; then
			guest_stuck
			fail "roost did not end within ${2:-60} s"
		fi
		nap
	done
	wait "$guest_pid" || status=$?
	guest_pid=
	exec {guest_in}>&- {guest_out}<&-
	# shellcheck disable=SC2053
	[[ $status = ${1:-0} ]] || fail "roost ended with status $status," \
		"not ${1:-0}: $(tail -n 1 "$guest_stderr")"
}

guest_poweroff() {
	guest_send poweroff
	guest_end 0
}

guest_kill() {
	kill -KILL "$guest_pid" 2>/dev/null
	wait "$guest_pid" 2>/dev/null
	guest_pid=
}

# -- disks ------------------------------------------------------------------

# disk_root NAME: a fresh copy of the guest root disk; its path is in DISK.
disk_root() {
	DISK=$LAB_TMP/$1.raw
	cp --sparse=always "$LAB_DISK/root.raw" "$DISK"
}

# disk_ext4 NAME MIB: an empty file system; its path is in DISK.
disk_ext4() {
	DISK=$LAB_TMP/$1.raw
	mke2fs -q -t ext4 "$DISK" "$2M" >/dev/null
}

# disk_args NAME [DRIVE-OPTIONS [DEVICE-OPTIONS]]: in ARGS, a virtio-blk disk
# with id NAME on $LAB_TMP/NAME.raw.
disk_args() {
	ARGS=(-drive "file=$LAB_TMP/$1.raw,format=raw,if=none,id=$1${2:+,$2}"
		-device "virtio-blk-pci,drive=$1${3:+,$3}")
}

# guest_disks N [SECONDS]: wait until the guest has N virtio disks.
guest_disks() {
	local turns=$((${2:-20} * 5))

	guest_sh "i=0; while [ \$(ls /sys/block | grep -c ^vd) != $1 ]; do
i=\$((i + 1)); [ \$i -lt $turns ] || break; sleep 0.1; done;
ls /sys/block | grep -c ^vd" $((${2:-20} + 60)) || :
	[[ $OUTPUT =~ ^$1 ]] || fail "the guest has $OUTPUT disks, not $1"
}

# disk_clean FILE: the file system is whole and was unmounted.
disk_clean() {
	e2fsck -f -n "$1" >"$LAB_OUT/e2fsck-${1##*/}.log" 2>&1 ||
		fail "e2fsck finds errors on ${1##*/} (e2fsck-${1##*/}.log)"
}

# disk_recovers FILE: the file system was cut off and its journal mends it.
# Preening replays the journal and refuses anything that needs a decision.
disk_recovers() {
	local status=0

	e2fsck -p "$1" >"$LAB_OUT/recovery-${1##*/}.log" 2>&1 || status=$?
	[[ $status -le 1 ]] || fail "e2fsck -p cannot mend ${1##*/}" \
		"(recovery-${1##*/}.log)"
	disk_clean "$1"
}

# -- storage that goes away ---------------------------------------------------

storage_loops=()
storage_names=()

# storage_begin: the open point is passed over, and the test ends, where no disk
# can be taken away.
storage_begin() {
	export DM_DISABLE_UDEV=1 # the emulated host has none: nodes by dmsetup itself
	modprobe -q loop || :
	if ! modprobe -q dm_mod || ! losetup --find >/dev/null 2>&1 ||
		! dmsetup targets >/dev/null 2>&1; then
		skip "no device mapper or no loop devices"
		finish
		exit 0
	fi
	trap 'storage_end; test_exit' EXIT
}

# storage NAME MIB: an ext4 file system on /dev/mapper/retry-NAME.
storage() {
	local loop

	disk_ext4 "$1" "$2"
	loop=$(losetup --find --show "$DISK")
	storage_loops+=("$loop")
	storage_names+=("$1")
	echo "0 $(($2 * 2048)) linear $loop 0" >"$LAB_TMP/$1.good"
	echo "0 $(($2 * 2048)) error" >"$LAB_TMP/$1.bad"
	dmsetup create "retry-$1" "$LAB_TMP/$1.good"
}

# switch NAME good|bad: what is in flight fails or is done, nothing waits.
switch() {
	dmsetup suspend --noflush --nolockfs "retry-$1"
	dmsetup load "retry-$1" "$LAB_TMP/$1.$2"
	dmsetup resume "retry-$1"
}

# storage_hang NAME: requests neither end nor fail, until the next switch.
storage_hang() {
	dmsetup suspend --noflush --nolockfs "retry-$1"
}

storage_end() {
	local x

	for x in "${storage_names[@]}"; do
		dmsetup resume "retry-$x" || :
		dmsetup remove --retry "retry-$x" || :
	done
	for x in "${storage_loops[@]}"; do
		losetup -d "$x" || :
	done
}

# -- QMP --------------------------------------------------------------------

qmp_seq=0
qmp_patience=	# seconds that a reply may take; default 30
qmp_events=()

# qmp_open SOCKET: connect, take the greeting, negotiate.
qmp_open() {
	local tries=0

	until [[ -S $1 ]]; do
		[[ $((tries++)) -lt 200 ]] || fail "no QMP socket $1"
		nap
	done
	coproc QMP { exec socat -t 1 STDIO "UNIX-CONNECT:$1"; } 2>/dev/null
	# Our own copies: bash closes its own when the peer is gone.
	exec {qmp_in}<&"${QMP[0]}" {qmp_out}>&"${QMP[1]}"
	qmp_line 10 || fail "QMP does not greet"
	[[ $LINE =~ \"QMP\": ]] || fail "QMP greets with: $LINE"
	qmp qmp_capabilities
}

# qmp_line SECONDS: the next message, in LINE; kept in qmp.log.
qmp_line() {
	IFS= read -r -t "$1" -u "$qmp_in" LINE || return 1
	LINE=${LINE%$'\r'}
	printf '< %s\n' "$LINE" >>"$LAB_OUT/qmp.log"
}

# qmp COMMAND [ARGUMENTS]: the reply is in REPLY; fails on an error reply.
# Events that come before it are kept for qmp_event.
qmp() {
	local id=t$((++qmp_seq)) message

	message="{\"execute\": \"$1\"${2:+, \"arguments\": $2}, \"id\": \"$id\"}"
	printf '> %s\n' "$message" >>"$LAB_OUT/qmp.log"
	printf '%s\n' "$message" >&"$qmp_out"
	while qmp_line "${qmp_patience:-30}"; do
		if [[ $LINE =~ \"id\":\ *\"$id\" ]]; then
			REPLY=$LINE
			[[ ! $REPLY =~ \"error\":\ *\{ ]]
			return
		fi
		qmp_events+=("$LINE")
	done
	fail "QMP gives no reply to $1"
}

# qmp_event NAME [SECONDS]: wait for an event, or find it among those that
# came before; it is in REPLY, and it and all before it are forgotten.
qmp_event() {
	local i

	for i in "${!qmp_events[@]}"; do
		REPLY=${qmp_events[i]}
		if [[ $REPLY =~ \"event\":\ *\"$1\" ]]; then
			qmp_events=("${qmp_events[@]:i+1}")
			return 0
		fi
	done
	qmp_events=()
	while qmp_line "${2:-60}"; do
		REPLY=$LINE
		[[ ! $REPLY =~ \"event\":\ *\"$1\" ]] || return 0
	done
	fail "no event $1 within ${2:-60} s"
}

qmp_close() {
	exec {qmp_in}<&- {qmp_out}>&-
}

# -- small things -----------------------------------------------------------

# memory_needed MIB: skip the rest where a guest of this size does not fit.
memory_needed() {
	local have
	have=$(awk '/^MemAvailable/ { print int($2 / 1024) }' /proc/meminfo)
	if [[ $have -lt $1 ]]; then
		skip "needs $1 MiB of memory, $have are free"
		finish
		exit 0
	fi
}

# expect STRING REGEX WHAT
expect() {
	[[ $1 =~ $2 ]] || fail "$3: expected $2, got: $1"
}

# one_sentence FILE REGEX: the file is one line, and matches.
one_sentence() {
	local text

	text=$(<"$1")
	expect "$text" "$2" "the error"
	[[ $text != *$'\n'* ]] || fail "more than one line of error: $text"
}
