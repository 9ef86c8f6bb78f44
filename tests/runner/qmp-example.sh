#!/bin/bash
# tests/runner/qmp-example.sh ROOST GUEST - docs/examples/qmp_client.py against a
# running VM: replies, errors, events.
set -euo pipefail
roost=$1
guest=$2
dir=$(mktemp -d)
client=docs/examples/qmp_client.py
trap 'kill $pid 2>/dev/null || :; wait $pid 2>/dev/null || :; rm -rf "$dir"' EXIT

"$roost" -nodefaults -m 16 -kernel "$guest" -qmp "unix:$dir/qmp,server=on,wait=off" &
pid=$!
for _ in $(seq 100); do
	[ ! -S "$dir/qmp" ] || break
	sleep 0.1
done
# Not into grep -q, which ends at the first match: the client's next line would fail.
python3 "$client" "$dir/qmp" query-status >"$dir/out"
grep -q '"status": "running"' "$dir/out"
if python3 "$client" "$dir/qmp" no-such-command 2>"$dir/err"; then
	echo "no-such-command succeeded"
	exit 1
fi
grep -q CommandNotFound "$dir/err"
python3 "$client" "$dir/qmp" stop --wait STOP >"$dir/out"
grep -q '"event": "STOP"' "$dir/out"
python3 "$client" "$dir/qmp" quit
wait $pid
