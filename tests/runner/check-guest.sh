#!/bin/bash
# tests/runner/check-guest.sh MAKE - the third ring: stock Debian kernels.
# tests/lab/check-guest.sh chooses where they run; its last line
# "guest: N passed, N failed, N skipped" is taken over.
set -euo pipefail
. tests/runner/lib.sh

guests() {
	local log=build/results/check-guest.log rc=0 last
	tests/lab/check-guest.sh build/roost 2>&1 | tee "$log" || rc=$?
	last=$(tail -n 1 "$log")
	if [[ $last =~ ^guest:\ ([0-9]+)\ passed,\ ([0-9]+)\ failed,\ ([0-9]+)\ skipped$ ]]; then
		record_count "${BASH_REMATCH[@]:1}"
		[ "$rc" = 0 ] || [ "${BASH_REMATCH[2]}" != 0 ] || return 1
		return 0
	fi
	return 1
}

read -ra make <<<"$1"
ring_begin check-guest
step "build" "${make[@]}" all
step "guests" guests
ring_end
