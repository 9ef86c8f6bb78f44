# tests/bench/lib.sh - what the rows of `make bench` share; sourced.
#
# A row script prints one line per figure:
#
#	row FIGURE ROOST PEER TARGET MET
#
# MET is yes, no, or - where nothing is asked. What cannot run here says so:
#
#	row_skip FIGURE REASON

row() {
	printf 'row\t%s\t%s\t%s\t%s\t%s\n' "$1" "$2" "$3" "$4" "$5"
}

row_skip() {
	printf 'skip\t%s\t%s\n' "$1" "$2"
}

# yes when A OP B holds for decimal numbers: met 0.93 '>=' 1; OP is >=, <=, <
# or =
met() {
	awk -v a="$1" -v b="$3" -v op="$2" 'BEGIN {
		if (op == ">=") ok = a >= b
		else if (op == "<=") ok = a <= b
		else ok = op == "<" ? a < b : a == b
		print ok ? "yes" : "no"
	}'
}

# The middle one of the numbers on standard input.
median() {
	sort -g | awk '{ v[NR] = $1 } END { print v[int((NR + 1) / 2)] }'
}

# 123456 -> 123.5k
human() {
	awk -v n="$1" 'BEGIN {
		if (n >= 1e6) printf "%.2fM", n / 1e6
		else if (n >= 1e3) printf "%.1fk", n / 1e3
		else printf "%g", n
	}'
}
