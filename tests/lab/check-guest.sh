#!/bin/bash
# tests/lab/check-guest.sh ROOST - run all guest tests with this binary. The
# last line is "guest: N passed, N failed, N skipped".
#
# An emulated host has one CPU (see lab): where this machine has more, and the
# memory, two hosts share the tests.
set -euo pipefail
ROOST=$(readlink -e "${1:?usage: check-guest.sh ROOST}")
export ROOST
cd "$(dirname "$0")"
# shellcheck source=tests/lab/common.sh
. ./common.sh

HOST_MIB=8192	# what a host with the largest guest takes
free_mib=$(awk '/^MemAvailable/ { print int($2 / 1024) }' /proc/meminfo)
reason=$(lab_direct_reason)
if [[ ! $reason || $(nproc) -lt 2 || $free_mib -lt $((2 * HOST_MIB)) ]]; then
	exec ./lab run
fi

# The assets first: they are made once, not by both at a time.
packages_need demo lab
./assets
tries=0
logs=()
pids=()
tmp=$(mktemp -d)
trap 'kill "${pids[@]}" 2>/dev/null || :; rm -rf "$tmp"' EXIT
for part in 1 2; do
	logs+=("$tmp/$part")
	./lab run --part "$part/2" </dev/null > >(tee "$tmp/$part") 2>&1 &
	pids+=($!)
done
status=0
for pid in "${pids[@]}"; do
	wait "$pid" || status=1
done
pids=()
# tee may still hold the last line.
for log in "${logs[@]}"; do
	until grep -q '^guest: ' "$log" || [[ $((tries++)) -ge 50 ]]; do
		sleep 0.1
	done
done
# A part that broke down before it could count is a failure as well.
cat "${logs[@]}" | awk -v parts="${#logs[@]}" '
	/^guest: / { p += $2; f += $4; s += $6; n++ }
	END { f += parts - n
	      printf "guest: %d passed, %d failed, %d skipped\n", p, f, s }'
exit "$status"
