#!/bin/bash
# tests/bench/row_guest.sh ROOST BUILD SCRATCH - what has to do with a running
# guest: start, exits, boot, memory, virtio-blk. The scripts are in
# tests/bench/guest; they run on this machine where its CPU can run guests,
# otherwise all in one boot of the emulated host (tests/lab), where times mean
# something only as ratios.
set -euo pipefail
. tests/bench/lib.sh

out=build/guest-bench
ROOST=$(readlink -f "$1") tests/lab/lab bench >&2 || :
if [ ! -s $out/results ]; then
	row_skip "guests" "the lab did not run"
	exit 0
fi
for script in start boot memory blk hotplug; do
	[ ! -e $out/log/$script/rows ] || cat $out/log/$script/rows
	awk -F '\t' -v script=$script '$1 == "fail" && $2 == script {
		printf "skip\t%s\t%s: %s\n", script, $3, $5 }' $out/results
done
