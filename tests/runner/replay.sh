#!/bin/bash
# tests/runner/replay.sh BINARY... - run replay_NAME over tests/fuzz/corpus/NAME.
# One test per fuzz target; a target without a corpus fails, because it would
# prove nothing.
set -euo pipefail
. tests/runner/lib.sh

bad=0
for bin in "$@"; do
	name=${bin##*/replay_}
	corpus=tests/fuzz/corpus/$name
	if ! compgen -G "$corpus/*" >/dev/null; then
		record fail "fuzz/$name" "no corpus in $corpus"
		echo "  fuzz/$name: no corpus in $corpus"
		bad=1
	elif out=$(timeout -k 5 120 "$bin" "$corpus" 2>&1); then
		record pass "fuzz/$name"
		printf '  %-40s %s\n' "fuzz/$name" "${out##*$'\n'}"
	else
		record fail "fuzz/$name" "corpus replay"
		printf '  fuzz/%s FAILED\n' "$name"
		sed 's/^/    /' <<<"$out"
		bad=1
	fi
done
exit $bad
