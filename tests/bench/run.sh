#!/bin/bash
# tests/bench/run.sh ROOST [NAME...] - print figures with a peer's beside each.
#
# Every tests/bench/row_NAME.sh (or those named) runs as `row_NAME.sh ROOST
# BUILD SCRATCH` and prints rows by means of lib.sh. Its messages go to stderr.
# Times are compared within one run only: machines drift. Nothing here fails
# because a target is missed; a row script that breaks does.
set -euo pipefail
cd "$(dirname "$0")/../.."

roost=${1:-build/roost}
[ $# -eq 0 ] || shift
build=$(dirname "$roost")
# Not /tmp: that may be a tmpfs, and a disk is measured.
scratch=$(mktemp -d "${TMPDIR:-/var/tmp}/roost-bench-XXXXXX")
trap 'rm -rf "$scratch"' EXIT
bad=0

scripts=()
if [ $# -gt 0 ]; then
	for name in "$@"; do
		scripts+=("tests/bench/row_$name.sh")
	done
else
	scripts=(tests/bench/row_*.sh)
fi

for s in "${scripts[@]}"; do
	name=${s##*/row_}
	echo "bench: ${name%.sh} ..." >&2
	if ! "$s" "$roost" "$build" "$scratch" >>"$scratch/rows"; then
		printf 'skip\t%s\t%s\n' "${name%.sh}" "the script failed" >>"$scratch/rows"
		bad=1
	fi
done

awk -F '\t' '
function put(a, b, c, d, e) {
	n++
	col[n, 1] = a; col[n, 2] = b; col[n, 3] = c; col[n, 4] = d; col[n, 5] = e
}
BEGIN { put("figure", "roost", "peer", "target", "met") }
$1 == "row" { put($2, $3, $4, $5, $6); total += $6 != "-"; yes += $6 == "yes" }
$1 == "skip" { skipped[++skips] = $2 ": " $3 }
END {
	for (i = 1; i <= n; i++)
		for (k = 1; k <= 5; k++)
			if (length(col[i, k]) > w[k])
				w[k] = length(col[i, k])
	for (i = 1; i <= n; i++)
		printf "%-*s  %*s  %*s  %-*s  %s\n", w[1], col[i, 1], w[2], col[i, 2],
			w[3], col[i, 3], w[4], col[i, 4], col[i, 5]
	for (i = 1; i <= skips; i++)
		print "skipped: " skipped[i]
	printf "%d of %d targets met, %d skipped\n", yes, total, skips
}' "$scratch/rows"
exit $bad
