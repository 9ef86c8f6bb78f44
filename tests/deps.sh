#!/bin/bash
# tests/deps.sh LIST... - install the Debian packages of the named lists.
#
# Lists: build, test, demo, lab, bench, fuzz, format. A machine that has
# everything needs neither network nor root: only dpkg's database is read.
set -euo pipefail

declare -A lists=(
	[build]="gcc libc6-dev make pkg-config liburing-dev libjansson-dev libseccomp-dev zlib1g-dev libzstd-dev acpica-tools"
	[test]="valgrind libcriterion-dev man-db universal-ctags git util-linux qemu-utils"
	[demo]="busybox-static cpio e2fsprogs kmod fio pciutils socat procps libglib2.0-0"
	[lab]="qemu-system-x86 mmdebstrap uidmap"
	[bench]="qemu-system-x86 qemu-utils fio strace binutils libcriterion-dev"
	[fuzz]="clang llvm libclang-rt-14-dev libcriterion-dev"
	[format]="clang-format clang-tidy git"
)

# Where the CPU has no svm or vmx, guests run in the lab (tests/lab).
has_virt() {
	grep -qwE 'svm|vmx' /proc/cpuinfo
}

installed() {
	dpkg-query -W -f '${db:Status-Status}\n' "$1" 2>/dev/null |
		grep -qx installed
}

want=()
for list in "$@"; do
	if [ -z "${lists[$list]:-}" ]; then
		echo "tests/deps.sh: no list '$list' (have: ${!lists[*]})" >&2
		exit 1
	fi
	read -ra names <<<"${lists[$list]}"
	want+=("${names[@]}")
	if [ "$list" = demo ] && ! has_virt; then
		read -ra names <<<"${lists[lab]}"
		want+=("${names[@]}")
	fi
done

if ! command -v dpkg-query >/dev/null; then
	echo "deps: this is not a Debian system; needed are: ${want[*]}" >&2
	exit 0
fi

missing=()
for p in "${want[@]}"; do
	installed "$p" || missing+=("$p")
done
[ ${#missing[@]} -gt 0 ] || exit 0

sudo=()
if [ "$(id -u)" != 0 ]; then
	if ! command -v sudo >/dev/null; then
		echo "deps: packages are missing; as root run: apt-get install -y ${missing[*]}" >&2
		exit 1
	fi
	sudo=(sudo)
fi
echo "deps: installing ${missing[*]}"
log=$(mktemp)
trap 'rm -f "$log"' EXIT
apt() {
	"${sudo[@]}" env DEBIAN_FRONTEND=noninteractive apt-get -qq \
		-o Dpkg::Use-Pty=0 "$@" >>"$log" 2>&1 </dev/null
}
# The package lists of a fresh machine are empty or old: update first, but an
# update that fails matters only if the installation then fails as well.
apt update || true
if ! apt install -y --no-install-recommends "${missing[@]}"; then
	tail -n 20 "$log" >&2
	echo "deps: apt-get could not install: ${missing[*]}" >&2
	exit 1
fi
