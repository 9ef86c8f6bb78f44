/*
 * tests/kvm/test_machine.c - the whole machine, as `roost` builds it, with a
 * hostile guest in it. TSAN: vCPUs, I/O threads and the main loop.
 */
#include <criterion/criterion.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "vmm/base/json.h"
#include "vmm/base/log.h"
#include "vmm/base/util.h"
#include "vmm/core/vcpu.h"
#include "vmm/core/vm.h"
#include "vmm/loop/loop.h"
#include "vmm/run/build.h"

#define SECONDS_DEFAULT	4
/* Queue slots of all devices; ASan keeps what was freed in a quarantine. */
#ifdef __SANITIZE_ADDRESS__
#define GROWTH_MAX_KIB	(320 * 1024)
#else
#define GROWTH_MAX_KIB	(8 * 1024)
#endif

struct watch {
	struct vm_listener listener;
	struct vm *vm;
	int resets, shutdowns, exits;
};

static void on_event(struct vm_listener *l, const char *name, json_t *data)
{
	struct watch *w = container_of(l, struct watch, listener);

	w->resets += strcmp(name, "RESET") == 0;
	w->shutdowns += strcmp(name, "SHUTDOWN") == 0;
}

static void on_exit_request(struct vm *vm, enum vm_cause cause, void *arg)
{
	struct watch *w = arg;

	w->exits++;
}

static void quiet(enum log_level level, const char *line, void *arg)
{
}

/* KiB of this process that are neither guest memory nor file-backed. */
static long anonymous_kib(void)
{
	char line[256];
	long kib = -1;
	FILE *f = fopen("/proc/self/status", "r");

	while (f && fgets(line, sizeof(line), f))
		if (sscanf(line, "RssAnon: %ld kB", &kib) == 1)
			break;
	if (f)
		fclose(f);
	return kib;
}

static json_t *describe(const char *disk)
{
	json_error_t je;
	json_t *d = json_pack_ex(&je, 0,
		"{s:{s:s},s:{s:s},s:s,s:b,s:[s,s],s:[{s:s,s:s}],"
		"s:[{s:s,s:s,s:s,s:s}],s:[{s:s,s:s},{s:s,s:s,s:s,s:s,s:b},{s:s},{s:s,s:s},{s:s}]}",
		"smp", "cpus", "2", "memory", "size", "32M",
		"kernel", TEST_BUILD "/tests/kvm/guest_garbage.elf", "no-shutdown", 1,
		"serials", "null", "null", "objects", "qom-type", "iothread", "id", "io0",
		"drives", "file", disk, "format", "raw", "if", "none", "id", "d0",
		"devices", "driver", "pcie-root-port", "id", "rp1",
		"driver", "virtio-blk-pci", "drive", "d0", "bus", "rp1", "iothread", "io0",
		"packed", 1,
		"driver", "virtio-rng-pci", "driver", "pcie-pci-bridge", "id", "br1",
		"driver", "pvpanic");

	cr_assert_not_null(d, "%s", je.text);
	return d;
}

/* The guest may have switched itself off, crashed or stopped the VM. */
static void keep_going(struct watch *w)
{
	int state = atomic_load(&w->vm->state);

	if (state == VM_RUNNING)
		return;
	vm_request(w->vm, VM_REQ_RESET, VM_CAUSE_HOST_QMP_RESET);
	loop_turn(w->vm->main, NS_PER_MS);
	vm_start(w->vm, NULL);
}

static uint64_t total_exits(const struct vm *vm)
{
	uint64_t n = 0;

	for (uint32_t i = 0; i < vm->vcpu_count; i++)
		n += atomic_load(&vm->vcpu[i]->stats.exits);
	return n;
}

static void run_for(struct watch *w, uint64_t seconds)
{
	uint64_t end = clock_ns() + seconds * NS_PER_SEC;

	while (clock_ns() < end) {
		loop_turn(w->vm->main, 10 * NS_PER_MS);
		keep_going(w);
	}
}

Test(machine, test_machine_garbage_everywhere_changes_nothing_but_the_log)
{
	const char *text = getenv("ROOST_GARBAGE_SECONDS");
	uint64_t seconds = text ? strtoull(text, NULL, 10) : SECONDS_DEFAULT;
	char disk[] = "/tmp/roost-garbage-XXXXXX";
	struct watch w = { .listener.event = on_event };
	struct err e = ERR_INIT;
	struct built *b;
	struct loop *loop;
	json_t *desc;
	long before;
	int fd;

	if (access("/dev/kvm", W_OK))
		cr_skip_test("/dev/kvm cannot be opened");
	fd = mkstemp(disk);
	cr_assert_eq(ftruncate(fd, 4 * MIB), 0);
	desc = describe(disk);
	log_set_sink(quiet, NULL);
	cr_assert_eq(loop_create(&loop, "main", LOOP_AIO_AUTO, &e), 0, "%s", e.text);
	cr_assert_eq(build_vm(loop, desc, &b, &e), 0, "%s", e.text);
	w.vm = built_vm(b);
	w.vm->on_exit = on_exit_request;
	w.vm->on_exit_arg = &w;
	vm_listen(w.vm, &w.listener);
	cr_assert_eq(vm_start(w.vm, &e), 0, "%s", e.text);
	run_for(&w, 1);
	before = anonymous_kib();
	run_for(&w, seconds);

	cr_assert_gt(total_exits(w.vm), 200 * seconds, "the guest did not get far");
	cr_assert_eq(w.exits, 0, "the guest ended the VM");
	cr_assert_lt(anonymous_kib() - before, GROWTH_MAX_KIB);
	printf("garbage: %llu exits, %d resets, %d shutdowns\n",
	       (unsigned long long)total_exits(w.vm), w.resets, w.shutdowns);
	vm_unlisten(w.vm, &w.listener);
	build_destroy(b);
	loop_destroy(loop);
	json_decref(desc);
	unlink(disk);
	close(fd);
}
