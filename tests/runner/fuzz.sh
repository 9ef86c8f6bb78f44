#!/bin/bash
# tests/runner/fuzz.sh DIR SECONDS - run each fuzzer of DIR for SECONDS.
# New inputs go to DIR/corpus/NAME, findings to DIR/findings/; a finding's input
# belongs into tests/fuzz/corpus/NAME with the fix.
set -euo pipefail

dir=$1
seconds=$2
bad=0
mkdir -p "$dir/findings"
for bin in "$dir"/tests/fuzz/fuzz_*; do
	[ -x "$bin" ] || { echo "fuzz: no fuzzer in tests/fuzz"; exit 0; }
	name=${bin##*/fuzz_}
	mkdir -p "$dir/corpus/$name"
	seeds=()
	[ ! -d "tests/fuzz/corpus/$name" ] || seeds=("tests/fuzz/corpus/$name")
	echo "fuzz: $name, $seconds s"
	if ! "$bin" -max_total_time="$seconds" -timeout=20 -rss_limit_mb=2048 \
			-print_final_stats=1 -verbosity=0 \
			-artifact_prefix="$dir/findings/$name-" \
			"$dir/corpus/$name" "${seeds[@]}" </dev/null; then
		echo "fuzz: $name FAILED; inputs are in $dir/findings"
		bad=1
	fi
done
exit $bad
