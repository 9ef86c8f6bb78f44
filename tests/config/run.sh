#!/bin/bash
# tests/config/run.sh ROOST [FILE...] - run command lines, compare what they say.
#
# Each tests/config/pass-NAME and fail-NAME is one test:
#
#	# why this case exists
#	setup: truncate -s 1000 $TMP/odd.raw
#	run: roost -dump-config -drive file=$TMP/odd.raw,format=raw
#	status: 1
#	message: odd.raw: size 1000 is not a multiple of 512
#
# setup:	bash commands in an empty directory, $TMP; may be repeated
# run:		the command line; `roost` is the binary under test, stdin is empty
# status:	expected exit status; left out: 0 for pass-, 1 for fail-
# message:	text that must be part of stderr, $TMP replaced; may be repeated
# output:	text that must be part of stdout, $TMP replaced; may be repeated
# lines:	lines on stderr; left out: 0 for pass-, 1 for fail-; `any`: not counted
# needs:	`kvm`: skipped, and counted as such, where /dev/kvm cannot be opened
#
# A fail- file needs a message. It must leave stdout empty unless it names an
# output, because nothing half-done may look like a result.
set -euo pipefail
. tests/runner/lib.sh

LIMIT_S=20
roost=$(realpath "$1")
shift
[ $# -gt 0 ] || set -- tests/config/pass-* tests/config/fail-*
tmp=$(mktemp -d)
trap 'rm -rf "$tmp"' EXIT
export ROOST=$roost TMP=$tmp/work

# Every value of one key, one per line.
values() {	# KEY FILE
	sed -n "s/^$1:[ $TAB]*//p" "$2"
}

contains_all() {	# KEY FILE STREAM
	local text
	while IFS= read -r text; do
		text=${text//\$TMP/$TMP}
		if ! grep -qF -- "$text" "$tmp/$3"; then
			echo "$3 lacks: $text"
			return 1
		fi
	done < <(values "$1" "$2")
}

# Prints what is wrong, nothing when the test passes.
judge() {	# FILE KIND STATUS
	local file=$1 kind=$2 rc=$3 want lines
	want=$(values status "$file")
	[ -n "$want" ] || { [ "$kind" = pass ] && want=0 || want=1; }
	if [ "$rc" = 124 ]; then
		echo "no end after $LIMIT_S s"
		return
	elif [ "$rc" != "$want" ]; then
		echo "status $rc instead of $want"
		return
	fi
	contains_all message "$file" stderr || return 0
	contains_all output "$file" stdout || return 0
	lines=$(values lines "$file")
	[ -n "$lines" ] || { [ "$kind" = pass ] && lines=0 || lines=1; }
	if [ "$lines" != any ] && [ "$(wc -l <"$tmp/stderr")" != "$lines" ]; then
		echo "$(wc -l <"$tmp/stderr") lines on stderr instead of $lines"
	elif [ "$kind" = fail ] && [ -z "$(values message "$file")" ]; then
		echo "names no message"
	elif [ "$kind" = fail ] && [ -z "$(values output "$file")" ] &&
			[ -s "$tmp/stdout" ]; then
		echo "stdout is not empty"
	fi
}

run_one() {	# FILE
	local file=$1 name=${1##*/} rc=0 wrong
	if [ "$(values needs "$file")" = kvm ] && ! [ -w /dev/kvm ]; then
		record skip "config/$name" "/dev/kvm cannot be opened"
		skipped=$((skipped + 1))
		return
	fi
	rm -rf "$TMP"
	mkdir -p "$TMP"
	{
		echo 'set -euo pipefail; roost() { exec "$ROOST" "$@"; }; cd "$TMP"'
		values setup "$file"
		echo "exec </dev/null >$tmp/stdout 2>$tmp/stderr"
		values run "$file"
	} >"$tmp/script"
	: >"$tmp/stdout"
	: >"$tmp/stderr"
	if [ -z "$(values run "$file")" ]; then
		wrong="has no run: line"
	else
		timeout -k 5 "$LIMIT_S" bash "$tmp/script" 2>"$tmp/setup" || rc=$?
		wrong=$(judge "$file" "${name%%-*}" "$rc")
	fi
	if [ -z "$wrong" ]; then
		record pass "config/$name"
		passed=$((passed + 1))
		return
	fi
	record fail "config/$name" "$wrong"
	failed=$((failed + 1))
	echo "  config/$name FAILED: $wrong"
	cat "$tmp/setup" "$tmp/stdout" "$tmp/stderr" | head -n 40 | sed 's/^/    /'
}

passed=0
failed=0
skipped=0
for file in "$@"; do
	[ ! -f "$file" ] || run_one "$file"
done
printf '  %-40s %d passed' "command lines" "$passed"
[ "$failed" = 0 ] || printf ', %d FAILED' "$failed"
[ "$skipped" = 0 ] || printf ', %d skipped (no /dev/kvm)' "$skipped"
printf '\n'
[ "$failed" = 0 ]
