#!/bin/bash
# tests/lint/layers.sh - who may include whom (ARCHITECTURE.md, "Layers").
#
# A file includes lower rows and its own folder. Prints each offence as
# file:line, exits 1 when there is one. Tests and include/roost.h are exempt.
set -euo pipefail

# Folder and row; a higher row may include a lower one. Equal rows are siblings.
matrix="
vmm/run		90
vmm/control	80
usb		70
devices		70
pci		60
vmm/arch	50
vmm/boot	40
vmm/core	30
block		20
net		20
vmm/char	20
vmm/loop	10
vmm/base	0
"

# vmm/base stands on libc, Linux and jansson alone.
libc="alloca arpa/inet assert byteswap ctype dirent dlfcn endian err errno fcntl
fenv float fnmatch getopt glob grp inttypes langinfo libgen limits link locale
malloc math mntent netdb netinet/in netinet/tcp netinet/ip net/if poll pthread
pty pwd regex sched semaphore setjmp signal spawn stdalign stdarg stdatomic
stdbool stddef stdint stdio stdio_ext stdlib stdnoreturn string strings syslog
termios threads time uchar unistd utime wchar wctype wordexp jansson"

find_sources() {
	find vmm pci devices block net usb \
		\( -name '*.c' -o -name '*.h' -o -name '*.S' \) -print 2>/dev/null | sort || true
}

find_sources | MATRIX=$matrix LIBC=$libc xargs -r awk '
function row_of(path, n) {
	for (n = split(path, part, "/"); n > 0; n--) {
		key = join(part, n)
		if (key in row)
			return key
	}
	return ""
}
function join(p, n, s, i) {
	s = p[1]
	for (i = 2; i <= n; i++)
		s = s "/" p[i]
	return s
}
function dir_of(path) {
	sub("/[^/]*$", "", path)
	return path
}
function exists(path, line, ok) {
	ok = (getline line <path) >= 0
	close(path)
	return ok
}
function offence(why) {
	printf "%s:%d: %s: %s\n", FILENAME, FNR, header, why
	bad = 1
}
# The architectures know nothing of each other, and of the rest only the file of
# a machine knows the insides of its architecture.
function arch_of(path) {
	if (path ~ /^vmm\/run\/machine_q35[^\/]*$/)
		return "x86"
	if (path ~ /^vmm\/run\/machine_virt[^\/]*$/)
		return "arm64"
	if (path ~ /^(vmm\/arch|devices)\/x86\// ||
	    path ~ /^(immintrin|x86intrin|cpuid|emmintrin|xmmintrin|sys\/io)\.h$/)
		return "x86"
	if (path ~ /^(vmm\/arch|devices)\/arm64\// || path ~ /^arm_/)
		return "arm64"
	return ""
}
# Below devices/ and usb/ each folder is a sibling of the others; what lies
# directly in devices/ or usb/ is common to them.
function sibling(from, to, top) {
	if (top != "devices" && top != "usb")
		return 0
	if (dir_of(to) == top || dir_of(from) == dir_of(to))
		return 0
	if (to == "devices/virtio/virtio.h" || to == "devices/virtio/virtq.h")
		return 0
	return 1
}
function check_project(from, to) {
	if (to == "roost.h")
		to = "include/roost.h"
	if (to ~ /^include\//) {
		if (!(from ~ /^vmm\/(run|control)\//))
			offence("the public header is for vmm/control and vmm/run")
		return
	}
	if (to !~ /\// || to ~ /(^|\/)\.\.?\//) {
		offence("not rooted at the top of the tree")
		return
	}
	if (to !~ /\.aml\.h$/ && !exists(to)) {
		offence("there is no such header")
		return
	}
	f = row_of(from)
	t = row_of(to)
	if (t == "")
		offence("its folder is not in the layer matrix")
	else if (f == t && sibling(from, to, f))
		offence(dir_of(from) " and " dir_of(to) " are siblings")
	else if (f != t && row[f] == row[t])
		offence(f " and " t " are siblings")
	else if (row[f] < row[t])
		offence(f " is below " t)
	else if ((f == "pci" || f == "vmm/core") && row[t] == 20)
		offence(f " knows no host back end")
}
function check_system(from, to) {
	if (to ~ /^(vmm|pci|devices|block|net|usb)\// && exists(to))
		offence("project headers are included with quotes")
	f = row_of(from)
	if (row[f] <= 20 && to ~ /^linux\/(kvm|pci_regs)\.h$/)
		offence(f " knows no guest and no PCI")
	name = to
	sub(/\.h$/, "", name)
	if (f == "vmm/base" && to !~ /^(linux|asm|asm-generic|sys|bits)\// && !(name in libc))
		offence("vmm/base uses only libc, Linux headers and jansson")
}
BEGIN {
	n = split(ENVIRON["MATRIX"], word)
	for (i = 1; i < n; i += 2)
		row[word[i]] = word[i + 1] + 0
	n = split(ENVIRON["LIBC"], word)
	for (i = 1; i <= n; i++)
		libc[word[i]] = 1
}
FNR == 1 && row_of(FILENAME) == "" {
	header = "file"
	offence("its folder is not in the layer matrix")
}
/^[ \t]*#[ \t]*include[ \t]*["<]/ && row_of(FILENAME) != "" {
	quoted = $0 ~ /include[ \t]*"/
	header = $0
	sub(/^[^"<]*["<]/, "", header)
	sub(/[">].*$/, "", header)
	a = arch_of(header)
	if (a != "" && arch_of(FILENAME) != a)
		offence("only " a " code includes " a " headers")
	if (quoted)
		check_project(FILENAME, header)
	else
		check_system(FILENAME, header)
}
END { exit bad }
'
