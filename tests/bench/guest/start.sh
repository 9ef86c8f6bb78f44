#!/bin/bash
# System calls from exec to the first KVM_RUN: 1 vCPU, 128 MiB, one disk, a
# serial port. (No network card yet; roost has none.)
. "$(dirname "$0")/figures"

declare -A calls

# calls_of WHO: in calls[WHO]; the whole list stays in $LAB_OUT.
calls_of() {
	local log=$LAB_OUT/strace-$1

	init_args "$1"
	VMM=(strace -f -o "$log" "${VMM[@]}")
	"${VMM[@]}" </dev/null >/dev/null 2>"$LAB_OUT/stderr-$1.log" &
	guest_pid=$!
	now_us
	until grep -qs KVM_RUN "$log"; do
		guest_running || fail "$1 ended early"
		[[ ${EPOCHREALTIME/./} -lt $((NOW + 120000000)) ]] ||
			fail "$1 does not enter the guest"
		nap
	done
	pkill -KILL -P "$guest_pid"
	wait "$guest_pid" || :
	guest_pid=
	calls[$1]=$(awk '
		/KVM_RUN/ { exit }
		$2 !~ /^(<|\+\+\+|---)/ { n++ }
		END { print n }' "$log")
	awk '/KVM_RUN/ { exit }
		$2 !~ /^(<|\+\+\+|---)/ { sub(/\(.*/, "", $2); n[$2]++ }
		END { for (c in n) print n[c], c }' "$log" | sort -rn |
		sed "s/^/$1 /;20q"
}

for who in roost microvm q35; do
	point "counts the system calls of $who"
	calls_of $who
done
figure "system calls to first KVM_RUN, beside microvm" "${calls[roost]}" \
	"${calls[microvm]}" "<= 300" "$(met "${calls[roost]}" '<=' 300)"
figure "system calls to first KVM_RUN, beside q35" "${calls[roost]}" \
	"${calls[q35]}" - -
finish
