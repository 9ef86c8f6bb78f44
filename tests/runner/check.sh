#!/bin/bash
# tests/runner/check.sh MAKE - the first ring: everything that needs no KVM.
set -euo pipefail
. tests/runner/lib.sh

read -ra make <<<"$1"
ring_begin check
step "build" "${make[@]}" all tests
step "unit and device tests" "${make[@]}" run-tests
if [ -x build/roost ]; then
	step "command lines" tests/config/run.sh build/roost
else
	record fail "command lines" "there is no build/roost"
fi
step "asan tests" "${make[@]}" B=build/asan SAN=address,undefined run-tests
step "fuzz corpora" "${make[@]}" B=build/asan SAN=address,undefined run-replay
step "tsan tests" "${make[@]}" B=build/tsan SAN=thread run-tsan
step "lint" tests/lint/lint.sh -b
ring_end
