#!/bin/bash
# tests/runner/valgrind.sh [COUNT] - libroost creates, runs and destroys COUNT
# guests (default 20) under valgrind: no invalid access, no leak, no descriptor
# left.
#
# The memory that the kernel fills in KVM's ioctls is unknown to valgrind, hence
# no check for uninitialised values.
set -euo pipefail
. tests/runner/lib.sh

count=${1:-20}
dir=build/tests/valgrind
guest=build/tests/kvm/guest_hello.elf

skip() {
	record skip "valgrind/cycles" "$1"
	echo "  valgrind skipped: $1"
	exit 0
}

# Descriptors that were not there before; the log says each twice.
left_open() {
	grep -A1 'Open file descriptor' "$dir/log" | grep -c '==    \(at\|by\) 0x' || :
}

run() {
	timeout -s KILL 280 valgrind --error-exitcode=9 --undef-value-errors=no \
		--leak-check=full --show-leak-kinds=all \
		--errors-for-leak-kinds=definite,indirect,possible --track-fds=yes \
		--log-file="$dir/log" "$dir/cycles" "$guest" "$count" >"$dir/out" 2>&1
}

command -v valgrind >/dev/null || skip "there is no valgrind"
[ -w /dev/kvm ] || skip "/dev/kvm cannot be opened"
mkdir -p "$dir"
read -ra libs <<<"$(pkg-config --libs liburing jansson libzstd zlib)"
gcc -g -Iinclude -o "$dir/cycles" tests/runner/cycles.c build/libroost.a "${libs[@]}" -pthread
if run && [ "$(left_open)" = 0 ]; then
	record pass "valgrind/$count-cycles"
	echo "  valgrind                                 $count cycles passed"
else
	record fail "valgrind/$count-cycles" "see the output"
	cat "$dir/out"
	grep -v 'unhandled\|This could cause\|[Rr]ead the file\|README' "$dir/log" | tail -n 60
	exit 1
fi
