#!/bin/bash
# tests/lint/lint.sh [-b] - layer matrix, top level, house figures.
# Each part is one test; -b shortens the figures to their totals.
set -euo pipefail
. tests/runner/lib.sh

bad=0
part() {	# NAME COMMAND...
	local name=$1 rc=0 out
	shift
	out=$("$@" 2>&1) || rc=$?
	case $rc in
	0)
		record pass "lint/$name"
		printf '  %-40s passed\n' "lint/$name"
		;;
	77)
		record skip "lint/$name" "universal-ctags is not installed"
		printf '  %-40s skipped\n' "lint/$name"
		;;
	*)
		record fail "lint/$name"
		printf '  %-40s FAILED\n' "lint/$name"
		bad=1
		;;
	esac
	[ -z "$out" ] || sed 's/^/    /' <<<"$out"
}

part self tests/lint/self.sh
part layers tests/lint/layers.sh
part top-level tests/lint/top-level.sh
part figures tests/lint/figures.sh "$@"
exit $bad
