#!/bin/bash
# tests/lint/format.sh [FILE...] - clang-format the given files, else the C files
# that differ from the last commit. Never the whole tree: tables keep the layout
# their authors gave them.
set -euo pipefail

if ! command -v clang-format >/dev/null; then
	echo "format: clang-format is not installed; 'tests/deps.sh format' installs it" >&2
	exit 1
fi
if [ $# = 0 ] && git rev-parse --git-dir >/dev/null 2>&1; then
	mapfile -t files < <({ git diff --name-only --diff-filter=d HEAD
		git ls-files -o --exclude-standard; } | grep -E '\.[ch]$' | sort -u)
	set -- "${files[@]}"
fi
[ $# -gt 0 ] || { echo "format: no C file named or changed since the last commit"; exit 0; }
clang-format -i --style=file "$@"
printf 'formatted %s\n' "$@"
