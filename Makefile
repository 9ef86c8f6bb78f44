# roost - build, test and installation.
#
# One file, no configure step. Everything that is made goes below $(B), which
# is build/ unless a variant says otherwise, so that several kinds of build
# live beside each other:
#
#	make				build/roost and build/libroost.a
#	make B=build/asan SAN=address,undefined
#	make B=build/clang CC=clang
#
# Sources, tests, guests and fuzzers are found by wildcard: a new file needs no
# line here. `make help` lists the targets; V=1 shows whole commands.

.DEFAULT_GOAL := all
.DELETE_ON_ERROR:
.SUFFIXES:
MAKEFLAGS += --no-builtin-rules

# --- what a user may set ----------------------------------------------------

B	?= build
SAN	?=
V	?= 0
CI	?=
FUZZ_TIME ?= 60
prefix	?= /usr/local
bindir	?= $(prefix)/bin
libdir	?= $(prefix)/lib
includedir ?= $(prefix)/include
mandir	?= $(prefix)/share/man
compdir	?= $(prefix)/share/bash-completion/completions
zshdir	?= $(prefix)/share/zsh/site-functions
DESTDIR	?=

ifeq ($(origin CC),default)
CC	:= gcc
endif
ifeq ($(origin AR),default)
AR	:= ar
endif
OBJCOPY	?= objcopy
IASL	?= iasl
CLANG	?= clang
PKG_CONFIG ?= pkg-config
INSTALL	?= install

VERSION	:= 0.1.0

# --- sources ----------------------------------------------------------------

MACHINE	:= $(shell uname -m)
ARCH	:= $(if $(filter aarch64,$(MACHINE)),arm64,x86)

SRC	:= $(wildcard vmm/*/*.c vmm/arch/$(ARCH)/*.c vmm/arch/$(ARCH)/*/*.c \
		pci/*.c pci/*/*.c devices/*.c devices/*/*.c block/*.c \
		block/*/*.c net/*.c net/*/*.c usb/*.c usb/*/*.c)
# Machines and devices of the other architecture.
SRC	:= $(filter-out $(if $(filter x86,$(ARCH)),vmm/run/machine_virt% devices/arm64/%, \
		vmm/run/machine_q35% devices/x86/%),$(SRC))
# The program; everything else is the library. Verbs print and exit.
MAIN	:= $(wildcard vmm/run/main.c vmm/run/confine.c vmm/run/verb*.c)
ASL	:= $(wildcard vmm/arch/$(ARCH)/*.asl vmm/arch/$(ARCH)/*/*.asl)

OBJDIR	:= $(B)/obj
GEN	:= $(B)/gen
LIB	:= $(B)/libroost.a
SONAME	:= libroost.so.0
# Sanitizers want their own main program: no shared library there.
SHLIB	:= $(if $(SAN),,$(B)/$(SONAME))
LIBOBJ	:= $(patsubst %.c,$(OBJDIR)/%.o,$(filter-out $(MAIN),$(SRC)))
GENHDR	:= $(patsubst %.asl,$(GEN)/%.aml.h,$(ASL))
MAINOBJ	:= $(patsubst %.c,$(OBJDIR)/%.o,$(MAIN))
ROOST	:= $(if $(MAIN),$(B)/roost)

# tests/<ring>/test_*.c is one Criterion program each, linked with that
# folder's lib*.c.
UNIT_SRC := $(wildcard tests/unit/test_*.c)
DEV_SRC	:= $(wildcard tests/dev/test_*.c)
KVM_SRC	:= $(wildcard tests/kvm/test_*.c)
UNIT_BIN := $(UNIT_SRC:%.c=$(B)/%)
DEV_BIN	:= $(DEV_SRC:%.c=$(B)/%)
KVM_BIN	:= $(KVM_SRC:%.c=$(B)/%)
CHECK_BIN := $(UNIT_BIN) $(DEV_BIN)
libobjs	= $(patsubst %.c,$(OBJDIR)/%.o,$(wildcard tests/$(1)/lib*.c))

# ThreadSanitizer runs the tests that use threads: those that start one
# themselves, or say TSAN in a comment because the code under test does.
TSAN_BIN := $(patsubst %.c,$(B)/%,$(if $(UNIT_SRC)$(DEV_SRC),$(shell \
		grep -lEw 'pthread_create|TSAN' $(UNIT_SRC) $(DEV_SRC))))

FUZZ_SRC := $(wildcard tests/fuzz/fuzz_*.c)
FUZZ_BIN := $(FUZZ_SRC:%.c=$(B)/%)
REPLAY_BIN := $(patsubst tests/fuzz/fuzz_%.c,$(B)/tests/fuzz/replay_%,$(FUZZ_SRC))
BENCH_BIN := $(patsubst %.c,$(B)/%,$(wildcard tests/bench/bench_*.c))

# Freestanding guests: guest_NAME.S or guest_NAME.c, with guestlib*.[Sc].
GUEST_SRC := $(wildcard tests/kvm/guest_*.S tests/kvm/guest_*.c)
GUEST_LIB := $(wildcard tests/kvm/guestlib*.S tests/kvm/guestlib*.c)
GUESTS	:= $(addprefix $(B)/,$(addsuffix .elf,$(basename $(GUEST_SRC)))) \
	   $(addprefix $(B)/,$(addsuffix .bin,$(basename $(GUEST_SRC))))
guestobjs = $(addprefix $(OBJDIR)/,$(addsuffix .o,$(basename $(1))))

# --- flags ------------------------------------------------------------------

PKGS	:= liburing jansson zlib libzstd
PKG_CFLAGS := $(shell $(PKG_CONFIG) --cflags $(PKGS) 2>/dev/null)
PKG_LIBS := $(shell $(PKG_CONFIG) --libs $(PKGS) 2>/dev/null)
# What only the program needs.
PROG_PKGS := libseccomp
PROG_LIBS := $(shell $(PKG_CONFIG) --libs $(PROG_PKGS) 2>/dev/null)

# Callbacks share one signature per operation and tables leave their tail
# fields at zero, hence the two warnings of -Wextra that are off.
WARN	:= -Wall -Wextra -Wshadow -Wvla -Wundef -Wmissing-prototypes \
	   -Wstrict-prototypes -Wold-style-definition \
	   -Wno-unused-parameter -Wno-missing-field-initializers
ifeq ($(SAN),)
OPT	?= -O2
DEBUG	:= -g
HARDEN	:= -fstack-protector-strong -D_FORTIFY_SOURCE=2
WERROR	:= $(if $(filter true,$(CI)),-Werror)
else
# Fortified string functions hide overflows from the sanitizers. The code these
# add misleads gcc's warnings that follow values, and fences against the guest
# are beyond ThreadSanitizer. Reports need line numbers, no variables: -g1.
ifeq ($(findstring clang,$(CC)),)
WARN	+= -Wno-format-truncation -Wno-stringop-truncation \
	   -Wno-stringop-overflow -Wno-maybe-uninitialized -Wno-tsan
endif
OPT	?= -O1
DEBUG	:= -g1
HARDEN	:= -fno-omit-frame-pointer
SANFLAGS := -fsanitize=$(SAN) \
	   $(if $(findstring undefined,$(SAN)),-fno-sanitize-recover=undefined)
endif

ALL_CPPFLAGS := -D_GNU_SOURCE -DROOST_VERSION='"$(VERSION)"' \
	   -I. -Iinclude -I$(GEN) $(PKG_CFLAGS) $(CPPFLAGS)
ALL_CFLAGS := -std=gnu11 $(OPT) $(DEBUG) $(WARN) $(HARDEN) $(SANFLAGS) -fPIC -fvisibility=hidden \
	   -pthread \
	   -ffunction-sections -fdata-sections $(CFLAGS)
LD	?= ld
ALL_LDFLAGS := -pie -pthread -Wl,-z,relro,-z,now,-z,noexecstack \
	   $(SANFLAGS) $(LDFLAGS)
# Criterion finds its tests through their section: no --gc-sections for tests.
GC	= -Wl,--gc-sections $(RELR)
# Tables full of pointers: a tenth of the size, where linker and C library know of it.
# Tried once, and only when something is linked.
RELR	= $(eval RELR := $$(shell d=$$$$(mktemp -d) && echo 'int main(void){return 0;}' >$$$$d/t.c && \
	   $(CC) -pie -fPIE -Wl,-z,pack-relative-relocs -o $$$$d/t $$$$d/t.c 2>/dev/null && \
	   $$$$d/t && echo -Wl,-z,pack-relative-relocs; rm -rf "$$$$d"))$(RELR)

# Tests run from the top of the tree; TEST_BUILD says where this variant's
# made files are (guests: TEST_BUILD "/tests/kvm/guest_NAME.elf").
TEST_CPPFLAGS := -DTEST_BUILD='"$(B)"'
GUEST_CFLAGS := -std=gnu11 -O2 -g -Wall -Wextra -Wno-unused-parameter \
	   -ffreestanding -nostdlib -static -fno-pic -fno-pie -no-pie \
	   -mno-sse -mno-mmx -mno-red-zone -fno-stack-protector \
	   -fcf-protection=none -fno-asynchronous-unwind-tables \
	   -D_GUEST -I. -Itests/kvm
GUEST_LDFLAGS := -nostdlib -static -no-pie -Wl,--build-id=none \
	   -Wl,-z,noexecstack -Wl,-z,max-page-size=4096

ifeq ($(V),1)
Q	:=
say	= @:
else
Q	:= @
say	= @$(if $(findstring s,$(firstword -$(MAKEFLAGS))),:,printf '  %-7s %s\n' $(1) $(patsubst $(B)/%,%,$@))
endif

# Variants are made by this same file. Without -j from the user, take one job
# per CPU.
JOBS	= $(if $(findstring jobserver,$(MAKEFLAGS)),,-j$(shell nproc))
SUB	= $(MAKE) --no-print-directory $(JOBS)
ASAN	= B=build/asan SAN=address,undefined
UBSAN	= B=build/ubsan SAN=undefined
TSAN	= B=build/tsan SAN=thread
RUN	:= tests/runner

# --- programs and library ---------------------------------------------------

.PHONY: all
all: $(LIB) $(SHLIB) $(ROOST)	## build roost, libroost.a and libroost.so.0 (default)
	@:

$(B)/roost: $(MAINOBJ) $(LIB) $(B)/.members
	$(call say,LINK)
	$(Q)$(CC) $(ALL_CFLAGS) $(ALL_LDFLAGS) $(GC) -o $@ $(MAINOBJ) $(LIB) $(PKG_LIBS) $(PROG_LIBS)

$(LIB): $(LIBOBJ) $(B)/.members
	$(call say,AR)
	$(Q)rm -f $@
	$(Q)$(AR) rcs $@ $(LIBOBJ)

$(B)/$(SONAME): $(LIB) include/roost.map
	$(call say,LINK)
	$(Q)$(CC) $(ALL_CFLAGS) -shared -pthread -Wl,-soname,$(SONAME) -Wl,-z,relro,-z,now,-z,noexecstack \
		-Wl,--version-script=include/roost.map -Wl,--no-undefined $(GC) $(LDFLAGS) -o $@ \
		-Wl,--whole-archive $(LIB) -Wl,--no-whole-archive $(PKG_LIBS)

# For others: one object whose only global names are those of roost.h.
$(B)/public/libroost.a: $(LIB)
	$(call say,AR)
	@mkdir -p $(@D)
	$(Q)$(LD) -r -o $(@D)/roost.o --whole-archive $<
	$(Q)$(OBJCOPY) --localize-hidden $(@D)/roost.o
	$(Q)rm -f $@
	$(Q)$(AR) rcs $@ $(@D)/roost.o

$(OBJDIR)/%.o: %.c $(B)/.flags | $(GENHDR)
	$(call say,CC)
	@mkdir -p $(@D)
	$(Q)$(CC) $(ALL_CPPFLAGS) $(if $(filter tests/%,$<),$(TEST_CPPFLAGS)) \
		$(ALL_CFLAGS) $(SMALL) $(WERROR) -MMD -MP -c -o $@ $<

# What runs before the guest does, or when somebody asks, is compiled for size.
COLD	:= vmm/base/% vmm/boot/% vmm/char/% vmm/control/% vmm/run/% \
	   $(addprefix vmm/core/,dev.o dev_bus.o dev_global.o gmem_host.o kvm.o object% \
	   plug.o vm.o) \
	   $(addprefix devices/x86/,debug_exit.o i8042.o lpc.o lpc_pm.o pvpanic.o) \
	   $(addprefix vmm/arch/x86/,acpi% cpuid.o feature.o model.o query.o smbios.o) \
	   $(addprefix pci/,bridge.o chassis.o eject.o enumerate.o expander.o place.o ports.o \
	   query.o slot.o topology.o) \
	   $(addprefix block/,aside.o backing.o commit.o commit_copy.o detect.o drive_open.o \
	   drive_opts.o fault.o file_open.o file_reopen.o graph.o locking.o reopen.o \
	   reopen_plan.o retry_opts.o snapshot.o stream.o throttle_group.o) \
	   $(addprefix block/qcow2/,check.o create.o describe.o header.o offline.o resize.o \
	   snapshot.o)
ifeq ($(OPT),-O2)
$(filter $(COLD:%=$(OBJDIR)/%),$(LIBOBJ) $(MAINOBJ)): SMALL := -Os
endif

# ACPI source becomes a header with the table's bytes; vmm/arch/x86/dsdt.asl is
# included as "vmm/arch/x86/dsdt.aml.h" and defines dsdt_aml[].
$(GEN)/%.aml.h: %.asl
	$(call say,IASL)
	@mkdir -p $(@D)
	$(Q)$(IASL) -p $(GEN)/$* $< >$(GEN)/$*.log 2>&1 || { cat $(GEN)/$*.log; exit 1; }
	@{ echo '/* Compiled from $<. */'; \
	   echo 'static const unsigned char $(subst -,_,$(notdir $*))_aml[] = {'; \
	   od -An -v -tx1 $(GEN)/$*.aml | sed 's/ \(..\)/ 0x\1,/g'; \
	   echo '};'; } >$@

# Rebuild when flags or the set of files change. A missing library is reported
# here, once, before the first compiler error.
$(B)/.flags: FORCE
	@mkdir -p $(B)
	@$(PKG_CONFIG) --exists --print-errors $(PKGS) $(PROG_PKGS) || \
		{ echo "make: libraries are missing; 'make deps' installs them" >&2; exit 1; }
	@$(call keep,$(CC) $(ALL_CPPFLAGS) $(ALL_CFLAGS) $(COLD))

$(B)/.members: FORCE
	@mkdir -p $(B)
	@$(call keep,$(LIBOBJ) $(MAINOBJ))

keep = printf '%s\n' '$(subst ','\'',$(1))' >$@.new; \
	if cmp -s $@.new $@; then rm -f $@.new; else mv $@.new $@; fi

.PHONY: FORCE
FORCE:

# --- tests ------------------------------------------------------------------

define test_rule
$(B)/tests/$(1)/test_%: $(OBJDIR)/tests/$(1)/test_%.o $(call libobjs,$(1)) $(LIB)
	$$(call say,LINK)
	@mkdir -p $$(@D)
	$$(Q)$$(CC) $$(ALL_CFLAGS) $$(ALL_LDFLAGS) -o $$@ $$^ $$(CRITERION) $$(PKG_LIBS) \
		-Wl,--as-needed $$(PROG_LIBS)
endef
$(foreach ring,unit dev kvm,$(eval $(call test_rule,$(ring))))

# Criterion has threads when it forks and maps its processes by hand. A sanitizer
# cannot follow that: ThreadSanitizer's mapping fails, and AddressSanitizer's
# allocator stays locked in a child where a thread held it. Those variants have
# a small runner of their own behind the same macros.
comma := ,
ifneq ($(filter address thread,$(subst $(comma), ,$(SAN))),)
TEST_CPPFLAGS += -Itests/runner/forked
$(CHECK_BIN) $(KVM_BIN): $(OBJDIR)/tests/runner/forked/main.o
else
CRITERION := -lcriterion
endif

$(KVM_BIN): | $(GUESTS) $(ROOST)
# Some tests run the program of their own variant.
$(CHECK_BIN): | $(ROOST)

# The device bench drives the device tests' bus, ring and fake RAM.
$(addprefix $(B)/tests/bench/bench_,device hotplug snapshot): $(call libobjs,dev)
$(B)/tests/bench/bench_%: $(OBJDIR)/tests/bench/bench_%.o $(call libobjs,bench) $(LIB)
	$(call say,LINK)
	@mkdir -p $(@D)
	$(Q)$(CC) $(ALL_CFLAGS) $(ALL_LDFLAGS) $(GC) -o $@ $(filter %.o,$^) $(LIB) \
		-Wl,--as-needed -lcriterion $(PKG_LIBS)

# Fuzz targets may use the device tests' bus and fake RAM. replay_NAME runs
# the corpus with any compiler; fuzz_NAME is libFuzzer's and needs clang.
$(B)/tests/fuzz/replay_%: $(OBJDIR)/tests/fuzz/fuzz_%.o $(OBJDIR)/tests/runner/replay.o \
		$(call libobjs,fuzz) $(call libobjs,dev) $(LIB)
	$(call say,LINK)
	@mkdir -p $(@D)
	$(Q)$(CC) $(ALL_CFLAGS) $(ALL_LDFLAGS) -o $@ $^ -Wl,--as-needed -lcriterion $(PKG_LIBS)

$(B)/tests/fuzz/fuzz_%: $(OBJDIR)/tests/fuzz/fuzz_%.o \
		$(call libobjs,fuzz) $(call libobjs,dev) $(LIB)
	$(call say,LINK)
	@mkdir -p $(@D)
	$(Q)$(CC) $(ALL_CFLAGS) $(ALL_LDFLAGS) -fsanitize=fuzzer -o $@ $^ \
		-Wl,--as-needed -lcriterion $(PKG_LIBS)

# Guests: an ELF file at 1 MiB (guest.ld; a PVH note may be in it) and the same
# bytes flat.
$(OBJDIR)/tests/kvm/guest%.o: tests/kvm/guest%.S
	$(call say,GUEST)
	@mkdir -p $(@D)
	$(Q)$(CC) $(GUEST_CFLAGS) -MMD -MP -c -o $@ $<

$(OBJDIR)/tests/kvm/guest%.o: tests/kvm/guest%.c
	$(call say,GUEST)
	@mkdir -p $(@D)
	$(Q)$(CC) $(GUEST_CFLAGS) -MMD -MP -c -o $@ $<

$(B)/tests/kvm/guest_%.elf: $(OBJDIR)/tests/kvm/guest_%.o $(call guestobjs,$(GUEST_LIB)) tests/kvm/guest.ld
	$(call say,GUEST)
	@mkdir -p $(@D)
	$(Q)$(CC) $(GUEST_LDFLAGS) -T tests/kvm/guest.ld -o $@ $(filter %.o,$^)

$(B)/tests/kvm/guest_%.bin: $(B)/tests/kvm/guest_%.elf
	$(call say,GUEST)
	$(Q)$(OBJCOPY) -O binary $< $@

.SECONDARY:

.PHONY: tests tests-tsan tests-kvm replays fuzzers benches
tests: $(CHECK_BIN)
	@:
tests-tsan: $(TSAN_BIN)
	@:
tests-kvm: $(KVM_BIN) $(GUESTS)
	@:
replays: $(REPLAY_BIN)
	@:
fuzzers: $(FUZZ_BIN)
	@:
benches: $(BENCH_BIN)
	@:

# Each ring writes build/results/RING and ends with one line of totals. The
# recipes below are run by tests/runner/ring.sh, which counts a failed build as
# a failed test and goes on.

.PHONY: test
test:			## all three rings: check, check-kvm, check-guest
	+@tests/runner/test.sh "$(SUB)"

.PHONY: check
check:			## unit, device, command-line and fuzz-corpus tests, lint (no KVM)
	+@tests/runner/check.sh "$(SUB)"

.PHONY: check-kvm
check-kvm:		## tiny freestanding guests on /dev/kvm
	+@tests/runner/check-kvm.sh "$(SUB)"

.PHONY: check-guest
check-guest:		## stock Debian kernels, directly or in the lab
	+@tests/runner/check-guest.sh "$(SUB)"

# What the rings run, variant by variant; $(B) and $(SAN) say which.
.PHONY: run-tests run-tsan run-kvm run-kvm-lib
run-tests: tests
	@tests/runner/criterion.sh $(B) $(CHECK_BIN)
run-tsan: tests-tsan
	@tests/runner/criterion.sh $(B) $(TSAN_BIN)
run-kvm: tests-kvm
	@tests/runner/criterion.sh $(B) $(KVM_BIN)
run-kvm-lib: $(filter $(B)/tests/kvm/test_lib%,$(KVM_BIN))
	@tests/runner/criterion.sh $(B) $^
.PHONY: run-replay
run-replay: replays
	@tests/runner/replay.sh $(REPLAY_BIN)

.PHONY: asan ubsan tsan
asan:			## unit, device and corpus tests under AddressSanitizer and UBSan
	+@$(SUB) $(ASAN) all tests replays
	+@r=0; for t in run-tests run-replay; do $(SUB) $(ASAN) $$t || r=1; done; exit $$r
ubsan:			## the same under UBSan alone
	+@$(SUB) $(UBSAN) all tests replays
	+@r=0; for t in run-tests run-replay; do $(SUB) $(UBSAN) $$t || r=1; done; exit $$r
tsan:			## the tests that use threads under ThreadSanitizer
	+@$(SUB) $(TSAN) all tests-tsan
	+@$(SUB) $(TSAN) run-tsan

.PHONY: fuzz
fuzz:			## run every fuzzer for FUZZ_TIME seconds (needs clang)
	@tests/deps.sh build fuzz
	+@$(SUB) B=build/fuzz CC=$(CLANG) SAN=fuzzer-no-link,address,undefined fuzzers
	@tests/runner/fuzz.sh build/fuzz $(FUZZ_TIME)

.PHONY: bench
bench:			## print the figures of docs with a peer's beside each
	@tests/deps.sh build bench
	+@$(SUB) all benches
	@tests/bench/run.sh $(B)/roost

.PHONY: demo
demo:			## install what is missing, build, boot a Debian guest to a shell
	@tests/deps.sh build demo
	+@$(SUB) all
	@tests/lab/demo.sh build/roost

.PHONY: deps
deps:			## install the Debian packages for building and testing
	@tests/deps.sh build test demo

# --- habits -----------------------------------------------------------------

.PHONY: lint
lint:			## layer matrix, top level, house figures
	@tests/lint/lint.sh

.PHONY: format
format:			## clang-format the files changed since the last commit, or FILES=...
	@tests/lint/format.sh $(FILES)

.PHONY: tidy
tidy: $(GENHDR) $(B)/.flags	## clang-tidy over all sources, or FILES=...
	clang-tidy --quiet $(or $(FILES),$(SRC)) -- -std=gnu11 $(ALL_CPPFLAGS)

.PHONY: clean
clean:			## remove build/
	rm -rf build

.PHONY: help
help:			## this list
	@sed -n 's/^\([a-z-]*\):[^#=]*## \(.*\)/\1\t\2/p' Makefile | \
		while IFS="$$(printf '\t')" read -r t h; do printf '  %-12s %s\n' "$$t" "$$h"; done

# --- installation -----------------------------------------------------------

$(B)/roost.pc: include/roost.pc.in Makefile
	@mkdir -p $(B)
	$(Q)sed -e 's|@prefix@|$(prefix)|g' -e 's|@libdir@|$(libdir)|g' \
		-e 's|@includedir@|$(includedir)|g' -e 's|@version@|$(VERSION)|g' \
		-e 's|@requires@|$(PKGS)|g' $< >$@

# The manual page: prose, and the tables as the program itself prints them.
MANPAGE	:= $(B)/roost.1
$(MANPAGE): docs/roost.1.in $(B)/roost
	$(call say,MAN)
	$(Q)awk -v roost=$(B)/roost -v version=$(VERSION) ' \
		/^@[a-z]+@$$/ { gsub("@", ""); \
			if (system(roost " help --man " $$0)) exit 1; next } \
		{ gsub("@VERSION@", version); print; fflush() }' $< >$@

.PHONY: man
man: $(MANPAGE)		## build/roost.1, the manual page
	@:

.PHONY: install
install: all $(B)/public/libroost.a $(B)/roost.pc $(MANPAGE)	## install below DESTDIR and prefix
	$(if $(ROOST),$(INSTALL) -D -m 755 $(B)/roost $(DESTDIR)$(bindir)/roost)
	$(INSTALL) -D -m 644 $(B)/public/libroost.a $(DESTDIR)$(libdir)/libroost.a
	$(if $(SHLIB),$(INSTALL) -D -m 755 $(SHLIB) $(DESTDIR)$(libdir)/$(SONAME))
	$(if $(SHLIB),ln -sf $(SONAME) $(DESTDIR)$(libdir)/libroost.so)
	$(if $(wildcard include/roost.h),$(INSTALL) -D -m 644 include/roost.h $(DESTDIR)$(includedir)/roost.h)
	$(INSTALL) -D -m 644 $(B)/roost.pc $(DESTDIR)$(libdir)/pkgconfig/roost.pc
	$(INSTALL) -D -m 644 $(MANPAGE) $(DESTDIR)$(mandir)/man1/roost.1
	$(INSTALL) -D -m 644 docs/roost.bash $(DESTDIR)$(compdir)/roost
	$(INSTALL) -D -m 644 docs/_roost $(DESTDIR)$(zshdir)/_roost

.PHONY: uninstall
uninstall:		## remove what install put there
	rm -f $(DESTDIR)$(bindir)/roost $(DESTDIR)$(libdir)/libroost.a \
		$(DESTDIR)$(libdir)/libroost.so $(DESTDIR)$(libdir)/$(SONAME) \
		$(DESTDIR)$(includedir)/roost.h $(DESTDIR)$(libdir)/pkgconfig/roost.pc \
		$(DESTDIR)$(mandir)/man1/roost.1 $(DESTDIR)$(compdir)/roost \
		$(DESTDIR)$(zshdir)/_roost

.PHONY: dist
dist:			## build/roost-VERSION.tar.xz from the last commit
	@mkdir -p build
	git archive --prefix=roost-$(VERSION)/ -o build/roost-$(VERSION).tar HEAD
	xz -9f build/roost-$(VERSION).tar

-include $(shell find $(OBJDIR) -name '*.d' 2>/dev/null)
