#!/bin/bash
# tests/runner/criterion.sh VARIANT BINARY... - run Criterion programs.
#
# VARIANT is the build directory (build, build/asan, ...). Every test case is
# counted, one line per program is printed, the whole output where one failed.
# A sanitizer's report fails a program even where its tests passed. Criterion runs a
# program's tests beside each other; those of a sanitizer's build come one by one, so
# there it is programs that run beside each other.
set -euo pipefail
. tests/runner/lib.sh

LIMIT_S=300		# per program; Criterion's own limit is per test
variant=$1
shift
label=
[ "$variant" = build ] || label="${variant#build/} "
out=$variant/tests/logs
rm -rf "$out"
mkdir -p "$out"
slots=1
[ "$variant" = build ] || slots=$(nproc)

# Reads TAP; prints "passed failed skipped planned" and records each case.
count_tap() {	# FILE PROGRAM
	local line name p=0 f=0 s=0 planned=0
	while IFS= read -r line; do
		case $line in
		1..*)
			planned=${line#1..}
			;;
		"ok - "*"# SKIP"*)
			name=${line#ok - }
			name=${name%%# SKIP*}
			record skip "$label${name%% *}" "${line#*# SKIP }"
			s=$((s + 1))
			;;
		"ok - "*)
			name=${line#ok - }
			record pass "$label${name%% *}"
			p=$((p + 1))
			;;
		"not ok - "*)
			name=${line#not ok - }
			record fail "$label${name%% *}" "$2"
			f=$((f + 1))
			;;
		esac
	done <"$1"
	echo "$p $f $s $planned"
}

run_one() {	# BINARY
	local bin=$1 name base rc=0 p f s planned why= start=$SECONDS
	name=${bin#"$variant"/tests/}
	base=$out/${name//\//-}
	: >"$base.tap"
	export ASAN_OPTIONS="log_path=$base.san:${ASAN_OPTIONS_USER:-}"
	export UBSAN_OPTIONS="log_path=$base.san:print_stacktrace=1"
	export TSAN_OPTIONS="log_path=$base.san:second_deadlock_stack=1"
	timeout -k 5 "$LIMIT_S" "$bin" --timeout 60 --tap="$base.tap" \
		>"$base.log" 2>&1 || rc=$?
	read -r p f s planned <<<"$(count_tap "$base.tap" "$name")"

	if [ "$rc" = 124 ] || [ "$rc" = 137 ]; then
		why="no end after $LIMIT_S s"
	elif [ $((p + f + s)) -lt "$planned" ] || [ "$planned" = 0 ]; then
		why="ended early, status $rc"
	elif [ "$f" = 0 ] && compgen -G "$base.san.*" >/dev/null; then
		why="sanitizer report"
	elif [ "$f" = 0 ] && [ "$rc" != 0 ]; then
		why="status $rc"
	fi
	if [ -n "$why" ]; then
		record fail "$label$name" "$why"
		f=$((f + 1))
	fi

	printf '  %-40s %d passed' "$label$name" "$p"
	[ "$f" = 0 ] || printf ', %d FAILED' "$f"
	[ "$s" = 0 ] || printf ', %d skipped' "$s"
	[ -z "$why" ] || printf ' (%s)' "$why"
	[ $((SECONDS - start)) -lt 5 ] || printf ', %d s' $((SECONDS - start))
	printf '\n'
	if [ "$f" != 0 ]; then
		touch "$out/bad"
		sed 's/^/    /' "$base.log"
		cat "$base".san.* 2>/dev/null | head -n 120 | sed 's/^/    /' || true
	fi
}

# What one program says stays together.
run_beside() {	# BINARY
	local text
	text=$(run_one "$1" 2>&1)
	flock "$out/lock" printf '%s\n' "$text"
}

for bin in "$@"; do
	while [ "$(jobs -rp | wc -l)" -ge "$slots" ]; do
		wait -n || true
	done
	run_beside "$bin" &
done
wait
[ ! -e "$out/bad" ]
