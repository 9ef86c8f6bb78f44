#!/bin/bash
# tests/lint/top-level.sh - the top level holds the agreed entries, nothing else.
set -euo pipefail

dirs="vmm devices pci block net usb include tests docs .ci"
files="Makefile README.md ARCHITECTURE.md CHANGELOG.md LICENSE"
bad=0

# What git would take; in an unpacked archive everything but build/.
if git rev-parse --git-dir >/dev/null 2>&1; then
	entries=$(git ls-files -co --exclude-standard | cut -d/ -f1 | sort -u)
else
	entries=$(find . -mindepth 1 -maxdepth 1 ! -name build ! -name .git -printf '%f\n')
fi
for e in $entries; do
	if [ -d "$e" ]; then
		allowed=$dirs
	else
		case $e in .*) continue ;; esac
		allowed=$files
	fi
	if [[ " $allowed " != *" $e "* ]]; then
		echo "$e: does not belong at the top level"
		bad=1
	fi
done
for e in $files; do
	if [ ! -f "$e" ]; then
		echo "$e: is missing"
		bad=1
	fi
done
exit $bad
