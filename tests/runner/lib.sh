# tests/runner/lib.sh - how test results are kept and counted; sourced.
#
# A ring's results are lines of build/results/RING, tab-separated:
#	pass NAME [REASON]	fail NAME [REASON]	skip NAME REASON
#	count PASSED FAILED SKIPPED	(totals of a part that counts itself)
# ROOST_RESULTS names the file; without it results are only printed.

TAB=$'\t'

record() {	# pass|fail|skip NAME [REASON]
	[ -n "${ROOST_RESULTS:-}" ] || return 0
	printf '%s\t%s\t%s\n' "$1" "$2" "${3:-}" >>"$ROOST_RESULTS"
}

record_count() {	# PASSED FAILED SKIPPED
	[ -n "${ROOST_RESULTS:-}" ] || return 0
	printf 'count\t%s\t%s\t%s\n' "$1" "$2" "$3" >>"$ROOST_RESULTS"
}

totals() {	# FILE... -> "passed failed skipped"
	awk -F'\t' '
		$1 == "pass" { p++ }
		$1 == "fail" { f++ }
		$1 == "skip" { s++ }
		$1 == "count" { p += $2; f += $3; s += $4 }
		END { print p + 0, f + 0, s + 0 }' "$@" </dev/null
}

ring_begin() {	# RING
	RING=$1
	mkdir -p build/results
	export ROOST_RESULTS=$PWD/build/results/$RING
	: >"$ROOST_RESULTS"
	echo "== $RING"
}

# Runs one part of a ring. A part that fails without naming a failed test (a
# compiler error, a missing script) is itself a failed test.
step() {	# NAME COMMAND...
	local name=$1 before after
	shift
	read -r _ before _ <<<"$(totals "$ROOST_RESULTS")"
	if "$@" </dev/null; then
		return 0
	fi
	read -r _ after _ <<<"$(totals "$ROOST_RESULTS")"
	[ "$after" -gt "$before" ] || record fail "$name" "did not finish"
}

ring_end() {
	local p f s
	awk -F'\t' '$1 == "fail" || $1 == "skip" {
		printf "%s %s%s\n", $1 == "fail" ? "FAILED " : "skipped", $2, $3 == "" ? "" : ": " $3
	}' "$ROOST_RESULTS"
	read -r p f s <<<"$(totals "$ROOST_RESULTS")"
	echo "$RING: $p passed, $f failed, $s skipped"
	[ "$f" = 0 ]
}
