/*
 * tests/dev/lib_rig.c - a VM without KVM, for device tests.
 * Threads: the test's; the recorder takes calls from any.
 * Missing: vCPUs (tests/kvm has them).
 */
#include <criterion/criterion.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "tests/dev/lib_rig.h"
#include "vmm/base/util.h"

#define TURN_LIMIT	10000	/* a device that keeps the loop busy is a bug */
#define UNTIL_NS	(10 * NS_PER_SEC)

/* ---- the recorder ---- */

static int rec_set_line(struct irqchip *c, uint32_t gsi, bool level)
{
	struct rig *r = irq_arg(c);

	pthread_mutex_lock(&r->lock);
	r->edges[gsi] += level && !r->level[gsi];
	r->level[gsi] = level;
	pthread_mutex_unlock(&r->lock);
	return 0;
}

static int rec_signal_msi(struct irqchip *c, const struct irq_msg *m)
{
	struct rig *r = irq_arg(c);
	int result;

	pthread_mutex_lock(&r->lock);
	r->msg[r->msis++ % RIG_MSGS] = *m;
	result = r->msi_result;
	pthread_mutex_unlock(&r->lock);
	return result;
}

static int rec_route_set(struct irqchip *c, uint32_t gsi, const struct irq_msg *m)
{
	struct rig *r = irq_arg(c);

	pthread_mutex_lock(&r->lock);
	r->route_on[gsi - RIG_LINES] = m;
	r->route[gsi - RIG_LINES] = m ? *m : (struct irq_msg){ 0 };
	pthread_mutex_unlock(&r->lock);
	return 0;
}

static int rec_irqfd(struct irqchip *c, uint32_t gsi, int fd, int resample_fd, bool on)
{
	struct rig *r = irq_arg(c);

	pthread_mutex_lock(&r->lock);
	r->route_fd[gsi - RIG_LINES] = on ? fd : -1;
	pthread_mutex_unlock(&r->lock);
	return 0;
}

static const struct irq_ops recorder = {
	.set_line = rec_set_line,
	.signal_msi = rec_signal_msi,
	.route_set = rec_route_set,
	.irqfd = rec_irqfd,
};

struct irq_msg rig_last_msi(struct rig *r)
{
	struct irq_msg m = { 0 };

	pthread_mutex_lock(&r->lock);
	if (r->msis)
		m = r->msg[(r->msis - 1) % RIG_MSGS];
	pthread_mutex_unlock(&r->lock);
	return m;
}

uint32_t rig_msis(struct rig *r)
{
	uint32_t n;

	pthread_mutex_lock(&r->lock);
	n = r->msis;
	pthread_mutex_unlock(&r->lock);
	return n;
}

bool rig_level(struct rig *r, uint32_t gsi)
{
	bool level;

	pthread_mutex_lock(&r->lock);
	level = r->level[gsi];
	pthread_mutex_unlock(&r->lock);
	return level;
}

/* ---- the VM ---- */

static void on_event(struct vm_listener *l, const char *name, json_t *data)
{
	struct rig *r = container_of(l, struct rig, listener);
	size_t len = strlen(r->events);

	snprintf(r->events + len, sizeof(r->events) - len, "%s ", name);
	json_decref(r->last_data);
	r->last_data = json_incref(data);
}

static void on_exit_vm(struct vm *vm, enum vm_cause cause, void *arg)
{
	struct rig *r = arg;

	r->exits++;
	r->exit_cause = cause;
}

struct rig *rig_create(const struct dev_type *const *types, uint64_t ram_bytes)
{
	struct rig *r = xcalloc(1, sizeof(*r));
	struct err e = ERR_INIT;
	int i;

	cr_assert_eq(loop_create(&r->loop, "main", LOOP_AIO_AUTO, &e), 0, "%s", e.text);
	pthread_mutex_init(&r->lock, NULL);
	for (i = 0; i < RIG_ROUTES; i++)
		r->route_fd[i] = -1;
	r->vm = vm_create(r->loop);
	r->vm->types = types;
	r->vm->irq = irq_create(&recorder, r, RIG_LINES, RIG_ROUTES);
	r->vm->on_exit = on_exit_vm;
	r->vm->on_exit_arg = r;
	r->listener.event = on_event;
	vm_listen(r->vm, &r->listener);
	r->mem = r->vm->mem;
	r->ram_bytes = ram_bytes;
	if (ram_bytes)
		r->ram = rig_add_ram(r, 0, ram_bytes, false);
	return r;
}

uint8_t *rig_add_ram(struct rig *r, uint64_t base, uint64_t bytes, bool readonly)
{
	struct err e = ERR_INIT;
	uint8_t *host;
	int fd;

	cr_assert_eq(gmem_alloc(r->mem, "rig", bytes, NULL, &fd, &host, &e), 0, "%s", e.text);
	cr_assert_eq(gmem_add_region(r->mem, base, bytes, host, fd, 0, readonly, &e), 0,
		     "%s", e.text);
	return host;
}

void rig_destroy(struct rig *r)
{
	if (!r)
		return;
	vm_destroy(r->vm);
	loop_destroy(r->loop);
	json_decref(r->last_data);
	pthread_mutex_destroy(&r->lock);
	free(r);
}

/* ---- devices ---- */

static json_t *parse(const char *json)
{
	char *text = xstrdup(json), *c;
	json_error_t je;
	json_t *args;

	for (c = text; *c; c++)
		if (*c == '\'')
			*c = '"';
	args = json_loads(text, 0, &je);
	cr_assert_not_null(args, "%s: %s", json, je.text);
	free(text);
	return args;
}

struct dev *rig_device(struct rig *r, const char *json)
{
	json_t *args = parse(json);
	struct err e = ERR_INIT;
	struct dev *d = NULL;

	cr_assert_eq(dev_create(r->vm, args, &d, &e), 0, "%s: %s", json, e.text);
	json_decref(args);
	return d;
}

int rig_device_error(struct rig *r, const char *json, struct err *e)
{
	json_t *args = parse(json);
	int ret = dev_create(r->vm, args, NULL, e);

	json_decref(args);
	return ret;
}

struct dev *rig_builtin(struct rig *r, const struct dev_type *t, const char *json)
{
	json_t *args = json ? parse(json) : NULL;
	struct err e = ERR_INIT;
	struct dev *d = NULL;

	cr_assert_eq(dev_create_type(r->vm, t, args, &d, &e), 0, "%s: %s", t->name, e.text);
	json_decref(args);
	return d;
}

/* ---- time ---- */

void rig_turn(struct rig *r)
{
	int i;

	for (i = 0; i < TURN_LIMIT && loop_turn(r->loop, 0) > 0; i++)
		;
	cr_assert_lt(i, TURN_LIMIT, "the main loop never comes to rest");
}

bool rig_turn_until(struct rig *r, const volatile int *flag)
{
	uint64_t end = clock_ns() + UNTIL_NS;

	while (!*flag && clock_ns() < end)
		loop_turn(r->loop, 10 * NS_PER_MS);
	return *flag;
}

void rig_reset(struct rig *r)
{
	uint64_t end = clock_ns() + UNTIL_NS;

	vm_request(r->vm, VM_REQ_RESET, VM_CAUSE_GUEST_RESET);
	rig_turn(r);
	while (r->vm->resetting && clock_ns() < end)
		loop_turn(r->loop, 10 * NS_PER_MS);
	cr_assert_not(r->vm->resetting, "a device does not finish its reset");
}

/* ---- accesses ---- */

static uint64_t access_read(struct rig *r, enum bus_space s, uint64_t addr, unsigned int width)
{
	uint8_t b[8];

	bus_read(r->vm->bus[s], addr, b, width);
	return get_le(b, width);
}

static void access_write(struct rig *r, enum bus_space s, uint64_t addr, unsigned int width,
			 uint64_t val)
{
	uint8_t b[8];

	put_le(b, width, val);
	bus_write(r->vm->bus[s], addr, b, width);
}

uint64_t rig_pio_read(struct rig *r, uint16_t port, unsigned int width)
{
	return access_read(r, BUS_PIO, port, width);
}

void rig_pio_write(struct rig *r, uint16_t port, unsigned int width, uint64_t val)
{
	access_write(r, BUS_PIO, port, width, val);
}

uint64_t rig_mmio_read(struct rig *r, uint64_t addr, unsigned int width)
{
	return access_read(r, BUS_MMIO, addr, width);
}

void rig_mmio_write(struct rig *r, uint64_t addr, unsigned int width, uint64_t val)
{
	access_write(r, BUS_MMIO, addr, width, val);
}

void rig_mem_read(struct rig *r, uint64_t addr, void *dst, size_t len)
{
	cr_assert_eq(gmem_read(r->mem, gpa(addr), dst, len), 0, "0x%llx is not RAM",
		     (unsigned long long)addr);
}

void rig_mem_write(struct rig *r, uint64_t addr, const void *src, size_t len)
{
	cr_assert_eq(gmem_write(r->mem, gpa(addr), src, len), 0, "0x%llx is not RAM",
		     (unsigned long long)addr);
}

void rig_mem_fill(struct rig *r, uint64_t addr, uint8_t byte, size_t len)
{
	uint8_t *p = gmem_ptr(r->mem, gpa(addr), len, true);

	cr_assert_not_null(p, "0x%llx is not RAM", (unsigned long long)addr);
	memset(p, byte, len);
}

uint64_t rig_mem_get(struct rig *r, uint64_t addr, unsigned int width)
{
	uint8_t b[8];

	rig_mem_read(r, addr, b, width);
	return get_le(b, width);
}

void rig_mem_put(struct rig *r, uint64_t addr, unsigned int width, uint64_t val)
{
	uint8_t b[8];

	put_le(b, width, val);
	rig_mem_write(r, addr, b, width);
}
