# shellcheck shell=bash disable=SC2034 # used by those who source this
# tests/lab/common.sh - what the lab's scripts share: messages, packages,
# the cache, and the question whether this machine can run guests itself.
# Sourced, never run.

lab_dir=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
repo_dir=$(cd "$lab_dir/../.." && pwd)
guest_dir=$repo_dir/tests/guest
lab_cache=${ROOST_CACHE:-${XDG_CACHE_HOME:-$HOME/.cache}/roost}

say() {
	printf '%s\n' "$*" >&2
}

# lab_alive PID: not ended. kill -0 says so of an ended child as well, as long as
# bash has not noticed; now and then it does not until it starts another.
lab_alive() {
	local state

	{ read -r _ _ state _ <"/proc/$1/stat"; } 2>/dev/null && [[ $state != [ZX] ]]
}

die() {
	say "${0##*/}: $*"
	exit 1
}

# Debian keeps mke2fs, depmod and debugfs where a user's PATH does not look.
PATH=$PATH:/usr/local/sbin:/usr/sbin:/sbin

# packages_need LIST...: install what is missing of tests/deps.sh's lists.
packages_need() {
	"$repo_dir/tests/deps.sh" "$@" >&2 || exit 1
}

# apt_update: fetch apt's indexes anew where we may; a mirror drops the old
# kernels that an old index still names.
apt_update() {
	if [[ $EUID = 0 ]]; then
		apt-get -qq update >&2 || :
	elif command -v sudo >/dev/null; then
		sudo apt-get -qq update >&2 || :
	fi
}

# lab_cpu_virt: does the CPU itself run guests? (A /dev/kvm without svm or
# vmx exists too: KVM in software, far too slow for a Linux guest.)
lab_cpu_virt() {
	grep -qwE 'svm|vmx' /proc/cpuinfo
}

# lab_direct_reason: print why guests cannot run here directly, or nothing.
lab_direct_reason() {
	if ! lab_cpu_virt; then
		echo "this machine's CPU offers neither svm nor vmx"
	elif [[ ! -e /dev/kvm ]]; then
		echo "/dev/kvm does not exist"
	elif [[ ! -r /dev/kvm || ! -w /dev/kvm ]]; then
		echo "$(id -un) may not open /dev/kvm (group kvm may)"
	fi
}
