/*
 * tests/kvm/lib_kvm.c - a VM on /dev/kvm that runs one of the guests here.
 * Threads: the test's main loop and the VM's vCPUs.
 * Missing: nothing known.
 */
#include <criterion/criterion.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "tests/kvm/lib_kvm.h"
#include "vmm/arch/x86/x86.h"
#include "vmm/base/util.h"
#include "vmm/boot/boot.h"
#include "vmm/core/kvm.h"

#define UNTIL_NS (10 * NS_PER_SEC)

/* ---- the board ---- */

struct board {
	struct dev dev;
	struct krig *r;
	struct bus_win port_probe, port_arg, port_done, port_mark, mmio_probe;
};

static struct krig *rig_of(struct bus_win *w)
{
	return DEV_OF(w->dev, struct board)->r;
}

static void say(struct krig *r, const char *fmt, uint64_t width, uint64_t off, uint64_t val)
{
	size_t len = strlen(r->log);

	snprintf(r->log + len, sizeof(r->log) - len, fmt, (unsigned long long)width,
		 (unsigned long long)off, (unsigned long long)val);
}

/* Byte @off of a probe reads as 0x80 + off. */
static uint64_t probe_read(struct bus_win *w, uint64_t off, unsigned int width)
{
	struct krig *r = rig_of(w);
	uint8_t b[8];
	unsigned int i;

	if (r->on_read)
		r->on_read(r);
	if (r->echo)
		return r->echoed[w->arg != NULL];
	for (i = 0; i < 8; i++)
		b[i] = (uint8_t)(0x80 + off + i);
	return get_le(b, width);
}

static void probe_write(struct bus_win *w, uint64_t off, unsigned int width, uint64_t val)
{
	struct krig *r = rig_of(w);

	if (r->echo)
		r->echoed[w->arg != NULL] = val;
	else
		say(r, w->arg ? "W%llu:%llx=%llx " : "o%llu:%llx=%llx ", width, off, val);
}

static uint64_t arg_read(struct bus_win *w, uint64_t off, unsigned int width)
{
	return rig_of(w)->arg;
}

static void ignore_write(struct bus_win *w, uint64_t off, unsigned int width, uint64_t val)
{
}

static uint64_t zero_read(struct bus_win *w, uint64_t off, unsigned int width)
{
	return 0;
}

static void done_write(struct bus_win *w, uint64_t off, unsigned int width, uint64_t val)
{
	struct krig *r = rig_of(w);

	r->verdict = (uint32_t)val;
	atomic_store(&r->done, 1);
	loop_post(r->loop, &r->wake);
}

static void mark_write(struct bus_win *w, uint64_t off, unsigned int width, uint64_t val)
{
	struct krig *r = rig_of(w);

	r->mark[r->marks++ % KRIG_MARKS] = (uint32_t)val;
	if (!r->echo)
		say(r, "| ", 0, 0, 0);
	if (r->on_mark)
		r->on_mark(r, (uint32_t)val);
	loop_post(r->loop, &r->wake);
}

static const struct bus_win_ops probe_ops = { probe_read, probe_write, false };
static const struct bus_win_ops arg_ops = { arg_read, ignore_write, false };
static const struct bus_win_ops done_ops = { zero_read, done_write, false };
static const struct bus_win_ops mark_ops = { zero_read, mark_write, false };

static void board_map(struct board *b, enum bus_space space, struct bus_win *w, uint64_t base,
		      uint64_t size, const struct bus_win_ops *ops, const char *name)
{
	*w = (struct bus_win){ .name = name, .dev = &b->dev, .size = size, .ops = ops,
			       .arg = space == BUS_MMIO ? b : NULL };
	cr_assert_eq(bus_map(b->dev.vm->bus[space], w, base), 0);
}

static int board_init(struct dev *d, struct err *e)
{
	struct board *b = DEV_OF(d, struct board);

	board_map(b, BUS_PIO, &b->port_probe, PORT_PROBE, 16, &probe_ops, "port-probe");
	board_map(b, BUS_PIO, &b->port_arg, PORT_ARG, 4, &arg_ops, "arg");
	board_map(b, BUS_PIO, &b->port_done, PORT_DONE, 4, &done_ops, "done");
	board_map(b, BUS_PIO, &b->port_mark, PORT_MARK, 4, &mark_ops, "mark");
	board_map(b, BUS_MMIO, &b->mmio_probe, MMIO_PROBE, 256, &probe_ops, "mmio-probe");
	return 0;
}

static const struct dev_type board_type = {
	.name = "test-board", .size = sizeof(struct board), .flags = DEV_BUILTIN,
	.ops = { .init = board_init },
};

/* ---- the machine ---- */

static int machine_boot(struct vm *vm, struct err *e)
{
	struct krig *r = vm->machine_arg;
	struct boot_info info = {
		.kernel = r->guest, .cmdline = "", .map_count = 1,
		.map = { { 0, KRIG_RAM, 1 } },
		.ram_low_end = KRIG_RAM, .tables_base = KRIG_RAM,
	};
	struct boot_state bs = { 0 };
	int ret = boot_load(vm->mem, &info, &bs, e);

	r->boots++;
	return ret ? ret : x86_cpus_reset(vm, &bs, e);
}

static const struct vm_machine_ops machine = { .name = "test", .boot = machine_boot };

static void add_memory(struct krig *r, struct err *e)
{
	uint8_t *host;
	int fd;

	cr_assert_eq(gmem_alloc(r->vm->mem, "ram", KRIG_RAM, NULL, &fd, &host, e), 0,
		     "%s", e->text);
	cr_assert_eq(gmem_add_region(r->vm->mem, 0, KRIG_RAM, host, fd, 0, false, e), 0);
	cr_assert_eq(kvm_map_memory(r->vm->kvm, r->vm->mem, e), 0, "%s", e->text);
}

static void add_cpus(struct krig *r, uint32_t cpus, struct err *e)
{
	struct x86_topology topo = { .cpus = cpus };
	struct x86_cpu_model *model;

	cr_assert_eq(x86_irqchip_create(r->vm, false, e), 0, "%s", e->text);
	cr_assert_eq(x86_topology_complete(&topo, cpus, e), 0, "%s", e->text);
	cr_assert_eq(x86_cpu_parse(&model, "host", r->vm->kvm, e), 0, "%s", e->text);
	cr_assert_eq(x86_cpus_create(r->vm, &topo, model, e), 0, "%s", e->text);
	x86_cpu_free(model);
}

static void on_event(struct vm_listener *l, const char *name, json_t *data)
{
	struct krig *r = container_of(l, struct krig, listener);
	const char *reason = json_string_value(json_object_get(data, "reason"));
	size_t len = strlen(r->events);

	snprintf(r->events + len, sizeof(r->events) - len, reason ? "%s(%s) " : "%s ", name,
		 reason);
}

static void on_exit_vm(struct vm *vm, enum vm_cause cause, void *arg)
{
	((struct krig *)arg)->exits++;
}

static void woken(struct loop_work *w)
{
}

struct krig *krig_create(const char *guest, uint32_t cpus, uint32_t arg)
{
	struct krig *r = xcalloc(1, sizeof(*r));
	struct err e = ERR_INIT;

	cr_assert_eq(loop_create(&r->loop, "main", LOOP_AIO_AUTO, &e), 0, "%s", e.text);
	r->guest = xasprintf("%s/tests/kvm/guest_%s.elf", TEST_BUILD, guest);
	r->arg = arg;
	r->wake.cb = woken;
	r->vm = vm_create(r->loop);
	if (kvm_open(&r->vm->kvm, NULL, &e) < 0)
		cr_skip_test("%s", e.text);
	r->vm->machine = &machine;
	r->vm->machine_arg = r;
	r->vm->on_exit = on_exit_vm;
	r->vm->on_exit_arg = r;
	r->listener.event = on_event;
	vm_listen(r->vm, &r->listener);
	add_memory(r, &e);
	add_cpus(r, cpus, &e);
	cr_assert_eq(dev_create_type(r->vm, &board_type, NULL, &r->board, &e), 0);
	DEV_OF(r->board, struct board)->r = r;
	return r;
}

void krig_destroy(struct krig *r)
{
	vm_destroy(r->vm);
	while (atomic_load(&r->wake.queued))
		loop_turn(r->loop, 0);
	loop_destroy(r->loop);
	free((char *)r->guest);
	free(r);
}

void krig_start(struct krig *r)
{
	struct err e = ERR_INIT;

	cr_assert_eq(vm_start(r->vm, &e), 0, "%s", e.text);
}

bool krig_until(struct krig *r, bool (*flag)(struct krig *r))
{
	uint64_t end = clock_ns() + UNTIL_NS;

	while (!flag(r) && clock_ns() < end)
		loop_turn(r->loop, 20 * NS_PER_MS);
	return flag(r);
}

static bool is_done(struct krig *r)
{
	return atomic_load(&r->done);
}

void krig_finish(struct krig *r)
{
	cr_assert(krig_until(r, is_done), "the guest does not report, state %s, events %s",
		  vm_state_name(r->vm->state), r->events);
	cr_assert_eq(r->verdict, 0, "check %u failed in the guest; %s", r->verdict, r->log);
}

void krig_turn(struct krig *r, unsigned int ms)
{
	uint64_t end = clock_ns() + ms * NS_PER_MS, now;

	while ((now = clock_ns()) < end)
		loop_turn(r->loop, end - now);
}

uint32_t krig_marks(struct krig *r)
{
	uint32_t n;

	pthread_mutex_lock(&r->board->lock);
	n = r->marks;
	pthread_mutex_unlock(&r->board->lock);
	return n;
}
