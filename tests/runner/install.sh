#!/bin/bash
# tests/runner/install.sh - what `make install` gives a program outside: headers,
# pkg-config, both libraries, C and C++. The examples of docs/examples are the
# programs; where /dev/kvm can be used they are run as well.
#
# Call it as `install.sh MAKE...`; build/ is up to date.
set -euo pipefail
. tests/runner/lib.sh

make=("$@")
dir=build/install
guest=$PWD/build/tests/kvm/guest_shell.elf
root=$PWD/$dir/root
cc=${CC:-gcc}
bad=0

# Names must not come from this tree: only what was installed is seen.
export PKG_CONFIG_PATH=$root/usr/lib/pkgconfig PKG_CONFIG_SYSROOT_DIR=$root
export LD_LIBRARY_PATH=$root/usr/lib

check() {	# NAME COMMAND...
	local name=$1 out=$dir/log
	shift
	if "$@" >"$out" 2>&1 </dev/null; then
		record pass "install/$name"
	else
		record fail "install/$name" "see the output"
		echo "  install/$name FAILED:"
		sed 's/^/    /' "$out" | tail -n 40
		bad=1
	fi
}

skip() {	# NAME REASON
	record skip "install/$1" "$2"
	echo "  install/$1 skipped: $2"
}

build_c() {	# OUT SOURCE MORE...
	local out=$1 source=$2
	shift 2
	# shellcheck disable=SC2046 # words are wanted
	"$cc" -std=c11 -D_GNU_SOURCE -Wall -Wextra -Werror -o "$dir/$out" "$source" \
		$(pkg-config --cflags --libs roost) "$@"
}

build_static() {
	# shellcheck disable=SC2046
	"$cc" -o "$dir/hello-static" docs/examples/hello.c $(pkg-config --cflags roost) \
		"$root/usr/lib/libroost.a" $(PKG_CONFIG_SYSROOT_DIR='' pkg-config --libs \
		liburing jansson libzstd zlib) -pthread
}

build_cxx() {
	cat >"$dir/client.cc" <<-END
		#include <roost.h>
		#include <roost.h>
		int main() {
			roost_error e;
			roost_vm *vm = nullptr;
			return roost_vm_create("-nonsense", &vm, &e) < 0 && !vm ? 0 : 1;
		}
	END
	# shellcheck disable=SC2046
	g++ -std=c++11 -Wall -Wextra -Wpedantic -Werror -o "$dir/client" "$dir/client.cc" \
		$(pkg-config --cflags --libs roost) && "$dir/client"
}

# Every name that others see begins with roost_.
only_roost() {	# SYMBOLS
	! grep -v '^roost_' "$1" && grep -q '^roost_vm_create$' "$1"
}

shared_names() {
	nm -D --defined-only "$root/usr/lib/libroost.so.0" | awk '$2 != "A" { sub("@.*", "", $3); print $3 }' \
		>"$dir/shared" && only_roost "$dir/shared"
}

archive_names() {
	nm -g --defined-only "$root/usr/lib/libroost.a" | awk 'NF == 3 { print $3 }' >"$dir/archive" &&
		only_roost "$dir/archive"
}

# A function that is declared is there, and the other way round.
declared_names() {
	sed -n 's/^ROOST_API.*[ *]\(roost_[a-z_]*\)(.*/\1/p' "$root/usr/include/roost.h" |
		sort >"$dir/declared"
	sort "$dir/shared" | diff "$dir/declared" -
}

is_silent() {	# COMMAND...: nothing on stdout and stderr
	[ -z "$("$@" 2>&1)" ]
}

rm -rf "$dir"
mkdir -p "$dir"
check make-install "${make[@]}" install DESTDIR="$root" prefix=/usr
check hello-builds build_c hello docs/examples/hello.c
check hello-builds-static build_static
check criterion-builds build_c test_boot docs/examples/criterion/test_boot.c -lcriterion
check shared-exports-roost-only shared_names
check archive-exports-roost-only archive_names
check header-and-library-agree declared_names
if command -v g++ >/dev/null; then
	check cxx-client build_cxx
else
	skip cxx-client "there is no g++"
fi

if [ -w /dev/kvm ] && [ -f "$guest" ]; then
	opts="-nodefaults -serial null -m 16 -kernel $guest"
	check hello-runs "$dir/hello" "$opts" 'guest ready'
	check hello-runs-static "$dir/hello-static" "$opts" 'guest ready'
	check criterion-runs env KERNEL="$guest" BANNER='guest ready' "$dir/test_boot"
	check kernel-smoke "${make[0]}" -C docs/examples/kernel-smoke ROOST="$root/usr/bin/roost" \
		KERNEL="$guest" EXPECT='guest ready' MEMORY=16 SECONDS=20
	rm -f docs/examples/kernel-smoke/smoke.expect
	if command -v python3 >/dev/null; then
		check python-client tests/runner/qmp-example.sh "$root/usr/bin/roost" "$guest"
	else
		skip python-client "there is no python3"
	fi
else
	skip examples-run "/dev/kvm cannot be opened"
fi
[ "$bad" = 0 ] && echo "  install and examples                     passed"
exit $bad
