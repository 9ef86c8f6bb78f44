#!/bin/bash
# tests/runner/check-kvm.sh MAKE - the second ring: freestanding guests.
# The tests themselves skip, with the reason, where /dev/kvm cannot be used.
set -euo pipefail
. tests/runner/lib.sh

read -ra make <<<"$1"
ring_begin check-kvm
step "freestanding guests" "${make[@]}" run-kvm
step "library under asan" "${make[@]}" B=build/asan SAN=address,undefined run-kvm-lib
step "library under tsan" "${make[@]}" B=build/tsan SAN=thread run-kvm-lib
step "library under valgrind" tests/runner/valgrind.sh
step "install and examples" tests/runner/install.sh "${make[@]}"
ring_end
