#!/bin/bash
# tests/lint/figures.sh [-b] - sizes of functions and files, share of comments.
#
# Code lines are neither blank nor only comment. Function lines run from the
# name to the closing brace, tables outside functions do not count. Fails on a
# function of more than 120 lines or a file of more than 1200 code lines; all
# else informs. -b prints only the totals and the offences.
set -euo pipefail

MAX_FUNCTION=120
MAX_FILE=1200
brief=${1:-}
tmp=$(mktemp -d)
trap 'rm -rf "$tmp"' EXIT

find vmm pci devices block net usb include \( -name '*.c' -o -name '*.h' \) \
	-print 2>/dev/null | sort >"$tmp/sources" || true	# folders may be absent
if [ ! -s "$tmp/sources" ]; then
	echo "no source files"
	exit 0
fi

# folder of a file for the table: two parts below vmm/ and devices/, else one
folder='function folder(f, p) {
	split(f, p, "/")
	return (p[1] == "vmm" || p[1] == "devices") && p[3] != "" ? p[1] "/" p[2] : p[1]
}'

# file code comment nonblank wide
xargs -r awk '
function flush_file() {
	if (name != "")
		print name, code, comment, nonblank, wide
	code = comment = nonblank = wide = in_comment = 0
}
FNR == 1 { flush_file(); name = FILENAME }
{
	line = $0
	gsub(/\t/, "        ", line)
	if (length(line) > 100)
		wide++
}
/^[ \t]*$/ { next }
{
	nonblank++
	line = $0
	had = in_comment
	gsub(/"([^"\\]|\\.)*"/, "S", line)
	gsub(/\047([^\047\\]|\\.)*\047/, "C", line)
	rest = ""
	while (line != "") {
		if (in_comment) {
			had = 1
			if ((i = index(line, "*/")) == 0)
				break
			line = substr(line, i + 2)
			in_comment = 0
		} else {
			i = index(line, "/*")
			j = index(line, "//")
			if (j && (!i || j < i)) {
				had = 1
				rest = rest substr(line, 1, j - 1)
				break
			}
			if (!i) {
				rest = rest line
				break
			}
			rest = rest substr(line, 1, i - 1)
			line = substr(line, i + 2)
			in_comment = 1
		}
	}
	comment += had
	if (rest ~ /[^ \t]/)
		code++
}
END { flush_file() }
' <"$tmp/sources" >"$tmp/files"

have_ctags=
if command -v ctags >/dev/null && ctags --version 2>/dev/null | grep -q Universal; then
	have_ctags=1
	# lines file line name
	ctags -L "$tmp/sources" -f - --languages=C --map-C=+.h --kinds-C=f \
		--fields=+ne --pseudo-tags= 2>/dev/null | awk -F'\t' '
		{
			start = end = 0
			for (i = 4; i <= NF; i++) {
				if ($i ~ /^line:/) start = substr($i, 6) + 0
				if ($i ~ /^end:/) end = substr($i, 5) + 0
			}
			if (end)
				print end - start + 1, $2, start, $1
		}' >"$tmp/functions"
else
	: >"$tmp/functions"
	echo "figures: no functions counted, universal-ctags is not installed"
fi

# "KEY VALUE" lines -> KEY count median p90 max
quantiles() {
	sort -k1,1 -k2,2n | awk '
	function flush() {
		if (n)
			print key, n, v[int((n + 1) / 2)], v[int((n * 9 + 9) / 10)], v[n]
	}
	$1 != key { flush(); key = $1; n = 0 }
	{ v[++n] = $2 }
	END { flush() }'
}

awk "$folder"' { print folder($1), $2; print "~all", $2 }' "$tmp/files" |
	quantiles >"$tmp/qfiles"
awk "$folder"' { print folder($2), $1; print "~all", $1 }' "$tmp/functions" |
	quantiles >"$tmp/qfunctions"
awk "$folder"' {
	n = split(folder($1) " ~all", k, " ")
	for (i = 1; i <= n; i++) { c[k[i]] += $3; t[k[i]] += $4; l[k[i]] += $2 }
} END { for (f in t) print f, l[f], t[f] ? int(100 * c[f] / t[f] + 0.5) : 0 }' \
	"$tmp/files" >"$tmp/share"

table() {
	printf '%-16s %6s %6s  %-17s %6s  %-16s %8s\n' "" "" "code" "lines per file" "func-" \
		"lines/function" "comment"
	printf '%-16s %6s %6s  %5s %5s %5s %7s  %5s %4s %5s %8s\n' folder files lines \
		med p90 max tions med p90 max "share"
	awk 'FILENAME ~ /qfiles$/ { f[$1] = $0 }
	FILENAME ~ /qfunctions$/ { g[$1] = $0 }
	FILENAME ~ /share$/ { s[$1] = $0 }
	END {
		for (k in f) {
			split(f[k], a); split(g[k], b); split(s[k], c)
			printf "%-16s %6d %6d  %5d %5d %5d %7d  %5d %4d %5d %7d%%\n", \
				k, a[2], c[2], a[3], a[4], a[5], b[2], b[3], b[4], b[5], c[3]
		}
	}' "$tmp/qfiles" "$tmp/qfunctions" "$tmp/share" | sort | sed 's/^~all/all /'
}

if [ "$brief" = -b ]; then
	table | sed -n '1,2p;$p'
else
	table
	printf '\nlongest functions\n'
	sort -rn "$tmp/functions" | awk 'NR <= 10 { printf "%6d  %s:%d %s\n", $1, $2, $3, $4 }'
	printf '\nlongest files (code lines)\n'
	sort -k2,2rn "$tmp/files" | awk 'NR <= 10 { printf "%6d  %s\n", $2, $1 }'
	awk '$5 { n++; l += $5; f = f " " $1 } END {
		if (n) printf "\n%d lines are wider than 100 columns:%s\n", l, f }' "$tmp/files"
fi

bad=0
while read -r n file line name; do
	if [ "$n" -gt $MAX_FUNCTION ]; then
		echo "$file:$line: $name has $n lines, the limit is $MAX_FUNCTION"
		bad=1
	fi
done <"$tmp/functions"
while read -r file code _; do
	if [ "$code" -gt $MAX_FILE ]; then
		echo "$file: $code code lines, the limit is $MAX_FILE"
		bad=1
	fi
done <"$tmp/files"
[ -n "$have_ctags" ] || exit $((bad ? 1 : 77))
exit $bad
