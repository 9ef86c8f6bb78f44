#!/bin/bash
# What make demo runs: a shell for a person, gone without a trace afterwards.
# shellcheck source=tests/guest/lib.sh
. "$(dirname "$0")/lib.sh"
demo=("ROOST=$ROOST" "LAB_SCRATCH=$LAB_TMP" "$(dirname "$0")/../demo-guest")
ROOST='env'

point "greets on the terminal"
guest_start_terminal "${demo[@]}"
guest_wait "poweroff ends the guest" 150

point "poweroff ends it, the terminal is restored"
printf 'poweroff\n' >&"$guest_in"
guest_end 0
terminal_restored

point "SIGTERM ends it, the terminal is restored, no disk is left"
guest_start_terminal "${demo[@]}"
guest_wait "roost .*-kernel" 60
sleep 1
kill -TERM "$guest_pid"
guest_end '[01]' 20
terminal_restored
[[ -z $(find "$LAB_TMP" -name 'demo*') ]] || fail "the demo's disk is left"
finish
