/*
 * tests/fuzz/fuzz_bus.c - windows that come, go, move and overlap, and accesses
 * of any address and length, against a model that looks at one byte at a time.
 *
 * Input: steps of six bytes: what, window or length, address (2), size or
 * value (2).
 */
#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "vmm/base/util.h"
#include "vmm/core/bus.h"
#include "vmm/core/dev.h"
#include "vmm/core/reg.h"

#define SPACE	0x1000u
#define WINDOWS	8
#define STEPS_MAX 512

struct win {
	struct bus_win win;
	bool mapped;		/* the model's view */
	uint64_t base, order;
};

static struct win win[WINDOWS];
static struct dev dev;
static uint64_t orders;
static int touched[SPACE];	/* by address: window number + 1 */
static uint8_t image[SPACE];

static const struct reg regs[] = {
	{ "A", 0x0, 4, 0, UINT32_MAX, 0, .flags = REG_PART | REG_WIDE },
	{ "B", 0x4, 8, 0, UINT64_MAX, 0xff },
	{ "C", 0x10, 2, 0, 0xffff, 0, .flags = REG_WIDE, .count = 64, .stride = 8 },
	{ 0 }
};

static void check(bool ok)
{
	if (!ok)
		abort();
}

static void touch(struct bus_win *w, uint64_t off, unsigned int width)
{
	struct win *v = w->arg;
	unsigned int i;

	check(pthread_mutex_trylock(&dev.lock) != 0);
	check(width == 1 || width == 2 || width == 4 || width == 8);
	check(off < w->size && width <= w->size - off);
	check(w->ops->unaligned || off % width == 0);
	for (i = 0; i < width; i++)
		touched[v->base + off + i] = (int)(v - win) + 1;
}

static uint64_t fuzz_read(struct bus_win *w, uint64_t off, unsigned int width)
{
	touch(w, off, width);
	return 0;
}

static void fuzz_write(struct bus_win *w, uint64_t off, unsigned int width, uint64_t val)
{
	touch(w, off, width);
}

static const struct bus_win_ops ops[] = {
	{ fuzz_read, fuzz_write, false }, { fuzz_read, fuzz_write, true },
};

/* Window number + 1 that owns byte @addr, 0 when none does. */
static int owner(uint64_t addr)
{
	const struct win *best = NULL, *v;

	for (v = win; v < win + WINDOWS; v++)
		if (v->mapped && addr >= v->base && addr - v->base < v->win.size &&
		    (!best || v->win.priority > best->win.priority ||
		     (v->win.priority == best->win.priority && v->order > best->order)))
			best = v;
	return best && best->win.ops ? (int)(best - win) + 1 : 0;
}

static void map(struct bus *b, struct win *v, uint64_t base, uint64_t size)
{
	bool fits;

	if (!v->mapped)
		v->win.size = size;
	fits = v->win.size && base <= SPACE && v->win.size <= SPACE - base;
	check((bus_map(b, &v->win, base) == 0) == fits);
	if (!fits)
		return;
	v->mapped = true;
	v->base = base;
	v->order = ++orders;
}

static void access_bus(struct bus *b, bool write, uint64_t addr, unsigned int len)
{
	uint8_t data[9];
	unsigned int i;

	memset(touched, 0, sizeof(touched));
	memset(data, 0x5a, sizeof(data));
	if (write)
		bus_write(b, addr, data, len);
	else
		bus_read(b, addr, data, len);
	check(data[len] == 0x5a);
	/* An access at the end of all addresses does not go on at address 0. */
	for (i = 0; i < SPACE; i++)
		check(touched[i] == (addr <= i && i - addr < len ? owner(i) : 0));
}

static void step(struct bus *b, const uint8_t *p)
{
	uint64_t addr = get_le16(p + 2), arg = get_le16(p + 4);
	struct win *v = &win[p[1] % WINDOWS];

	switch (p[0] % 5) {
	case 0:
		map(b, v, addr % (SPACE + 16), arg % SPACE);
		break;
	case 1:
		bus_unmap(&v->win);
		v->mapped = false;
		break;
	case 2:
		access_bus(b, false, addr % (SPACE + 16), p[1] % 8 + 1);
		break;
	case 3:
		access_bus(b, true, addr % (SPACE + 16), p[1] % 8 + 1);
		break;
	default:	/* the far end of the address space */
		access_bus(b, p[1] & 1, UINT64_MAX - addr % 16, p[1] % 8 + 1);
	}
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len);
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len)
{
	struct bus *b = bus_create("fuzz", SPACE);
	size_t i;

	pthread_mutex_init(&dev.lock, NULL);
	atomic_init(&dev.refs, 1);
	reg_reset(regs, image, sizeof(image));
	for (i = 0; i < WINDOWS; i++) {
		win[i] = (struct win){ .win = { .name = "w", .dev = &dev, .arg = &win[i],
						.priority = (int)(i % 3), .size = 1,
						.ops = &ops[i % 2] } };
		if (i == WINDOWS - 1) {		/* one with a register table */
			win[i].win.ops = NULL;
			win[i].win.regs = regs;
			win[i].win.image = image;
		}
	}
	for (i = 0; i < STEPS_MAX && len >= 6 * (i + 1); i++)
		step(b, data + 6 * i);
	check(dev.refs == 1);
	bus_destroy(b);
	pthread_mutex_destroy(&dev.lock);
	return 0;
}
