/*
 * The bus: who answers which byte, in what pieces, and what happens when
 * windows come and go while vCPUs access them.
 */
#include <criterion/criterion.h>
#include <errno.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <string.h>

#include "vmm/base/util.h"
#include "vmm/core/bus.h"
#include "vmm/core/dev.h"
#include "vmm/core/reg.h"

/* A window that writes down what it is asked. */
struct probe {
	struct bus_win win;
	struct dev dev;
	char log[256];		/* "r4:0 w2:6=1234 " */
	uint64_t answer;
	void (*hook)(struct probe *p, uint64_t val);
};

static uint64_t probe_read(struct bus_win *w, uint64_t off, unsigned int width)
{
	struct probe *p = w->arg;
	size_t len = strlen(p->log);

	snprintf(p->log + len, sizeof(p->log) - len, "r%u:%llx ", width,
		 (unsigned long long)off);
	return p->answer;
}

static void probe_write(struct bus_win *w, uint64_t off, unsigned int width, uint64_t val)
{
	struct probe *p = w->arg;
	size_t len = strlen(p->log);

	snprintf(p->log + len, sizeof(p->log) - len, "w%u:%llx=%llx ", width,
		 (unsigned long long)off, (unsigned long long)val);
	if (p->hook)
		p->hook(p, val);
}

static const struct bus_win_ops aligned_ops = { probe_read, probe_write, false };
static const struct bus_win_ops unaligned_ops = { probe_read, probe_write, true };

static void probe_init(struct probe *p, const char *name, uint64_t size)
{
	*p = (struct probe){ .answer = 0x8877665544332211ull };
	p->win = (struct bus_win){ .name = name, .dev = &p->dev, .size = size,
				   .ops = &aligned_ops, .arg = p };
	pthread_mutex_init(&p->dev.lock, NULL);
	atomic_init(&p->dev.refs, 1);
}

static struct bus *bus;
static struct probe a, b, c;

static void setup(void)
{
	bus = bus_create("test", 0x100000);
	probe_init(&a, "a", 0x100);
	probe_init(&b, "b", 0x100);
	probe_init(&c, "c", 0x100);
}

static void teardown(void)
{
	bus_destroy(bus);
	cr_assert_eq(a.dev.refs + b.dev.refs + c.dev.refs, 3, "references leak");
}

TestSuite(bus, .init = setup, .fini = teardown);

static uint64_t rd(uint64_t addr, unsigned int len)
{
	uint8_t data[8] = { 0 };

	bus_read(bus, addr, data, len);
	return get_le64(data);
}

static void wr(uint64_t addr, unsigned int len, uint64_t val)
{
	uint8_t data[8];

	put_le64(data, val);
	bus_write(bus, addr, data, len);
}

Test(bus, access_nobody_claims_reads_ones)
{
	cr_assert_eq(rd(0x1000, 4), 0xffffffff);
	cr_assert_eq(rd(0x1000, 8), UINT64_MAX);
	wr(0x1000, 8, 1);
}

Test(bus, access_reaches_the_window_with_its_offset)
{
	cr_assert_eq(bus_map(bus, &a.win, 0x1000), 0);
	cr_assert_eq(rd(0x1004, 4), 0x44332211);
	wr(0x10fe, 2, 0x1234);
	cr_assert_str_eq(a.log, "r4:4 w2:fe=1234 ");
}

Test(bus, access_past_the_space_reads_ones)
{
	cr_assert_eq(bus_map(bus, &a.win, 0xfff00), 0);
	cr_assert_eq(rd(0xffffc, 8), 0xffffffff44332211ull);
	cr_assert_eq(rd(0x100000, 4), 0xffffffff);
	cr_assert_eq(rd(UINT64_MAX - 3, 8), UINT64_MAX);
	wr(UINT64_MAX, 8, 0);
	cr_assert_str_eq(a.log, "r4:fc ");
}

Test(bus, map_past_the_space_is_refused)
{
	cr_assert_eq(bus_map(bus, &a.win, 0xfff01), -ENOSPC);
	cr_assert_eq(bus_map(bus, &a.win, UINT64_MAX), -ENOSPC);
	cr_assert_eq(bus_map(bus, &a.win, UINT64_MAX - 0xff), -ENOSPC);
	a.win.size = 0;
	cr_assert_eq(bus_map(bus, &a.win, 0), -ENOSPC);
	a.win.size = UINT64_MAX;
	cr_assert_eq(bus_map(bus, &a.win, 0x10), -ENOSPC);
}

Test(bus, failed_map_leaves_the_window_where_it_was)
{
	cr_assert_eq(bus_map(bus, &a.win, 0x1000), 0);
	cr_assert_eq(bus_map(bus, &a.win, 0x100000), -ENOSPC);
	cr_assert_eq(rd(0x1000, 1), 0x11);
}

Test(bus, access_across_the_end_is_split_at_the_edge)
{
	cr_assert_eq(bus_map(bus, &a.win, 0x1000), 0);
	cr_assert_eq(rd(0x10fe, 4), 0xffff2211);
	wr(0x10fe, 4, 0xddccbbaa);
	cr_assert_str_eq(a.log, "r2:fe w2:fe=bbaa ");
}

Test(bus, access_before_the_start_is_split_at_the_edge)
{
	cr_assert_eq(bus_map(bus, &a.win, 0x1000), 0);
	cr_assert_eq(rd(0xffe, 4), 0x2211ffff);
	cr_assert_str_eq(a.log, "r2:0 ");
}

Test(bus, access_across_two_windows_reaches_both)
{
	cr_assert_eq(bus_map(bus, &a.win, 0x1000), 0);
	cr_assert_eq(bus_map(bus, &b.win, 0x1100), 0);
	wr(0x10fc, 8, 0x1122334455667788ull);
	cr_assert_str_eq(a.log, "w4:fc=55667788 ");
	cr_assert_str_eq(b.log, "w4:0=11223344 ");
}

Test(bus, unaligned_access_is_split_into_aligned_ones)
{
	cr_assert_eq(bus_map(bus, &a.win, 0x1000), 0);
	wr(0x1001, 4, 0x44332211);
	cr_assert_str_eq(a.log, "w1:1=11 w2:2=3322 w1:4=44 ");
}

Test(bus, unaligned_access_stays_whole_where_allowed)
{
	a.win.ops = &unaligned_ops;
	cr_assert_eq(bus_map(bus, &a.win, 0x1000), 0);
	wr(0x1001, 4, 0x44332211);
	wr(0x1003, 8, 1);
	cr_assert_str_eq(a.log, "w4:1=44332211 w8:3=1 ");
}

Test(bus, alignment_counts_within_the_window)
{
	cr_assert_eq(bus_map(bus, &a.win, 0x61), 0);
	wr(0x61, 2, 0x2211);
	cr_assert_str_eq(a.log, "w2:0=2211 ");
}

Test(bus, odd_lengths_become_legal_widths)
{
	cr_assert_eq(bus_map(bus, &a.win, 0x1000), 0);
	wr(0x1000, 7, 0x77665544332211ull);
	cr_assert_str_eq(a.log, "w4:0=44332211 w2:4=6655 w1:6=77 ");
}

Test(bus, overlap_is_won_by_priority)
{
	a.win.priority = 1;
	a.win.size = 0x10;
	cr_assert_eq(bus_map(bus, &a.win, 0x1040), 0);
	cr_assert_eq(bus_map(bus, &b.win, 0x1000), 0);
	wr(0x103c, 4, 1);
	wr(0x1040, 4, 2);
	wr(0x104c, 4, 3);
	wr(0x1050, 4, 4);
	cr_assert_str_eq(a.log, "w4:0=2 w4:c=3 ");
	cr_assert_str_eq(b.log, "w4:3c=1 w4:50=4 ");
}

Test(bus, overlap_of_equals_is_won_by_the_latest)
{
	cr_assert_eq(bus_map(bus, &a.win, 0x1000), 0);
	cr_assert_eq(bus_map(bus, &b.win, 0x1080), 0);
	wr(0x1080, 4, 1);
	cr_assert_eq(bus_map(bus, &a.win, 0x1000), 0);
	wr(0x1080, 4, 2);
	wr(0x1100, 4, 3);
	cr_assert_str_eq(a.log, "w4:80=2 ");
	cr_assert_str_eq(b.log, "w4:0=1 w4:80=3 ");
}

Test(bus, overlap_of_three_splits_the_lowest_around_the_others)
{
	a.win.size = 0x1000;
	b.win.priority = c.win.priority = 1;
	cr_assert_eq(bus_map(bus, &a.win, 0x1000), 0);
	cr_assert_eq(bus_map(bus, &b.win, 0x1200), 0);
	cr_assert_eq(bus_map(bus, &c.win, 0x1f80), 0);
	wr(0x11ff, 1, 1);
	wr(0x1200, 1, 2);
	wr(0x1300, 1, 3);
	wr(0x1f80, 1, 4);
	wr(0x2000, 1, 5);
	cr_assert_str_eq(a.log, "w1:1ff=1 w1:300=3 ");
	cr_assert_str_eq(b.log, "w1:0=2 ");
	cr_assert_str_eq(c.log, "w1:0=4 w1:80=5 ");
}

Test(bus, unmap_uncovers_what_was_below)
{
	a.win.priority = 1;
	cr_assert_eq(bus_map(bus, &a.win, 0x1000), 0);
	cr_assert_eq(bus_map(bus, &b.win, 0x1000), 0);
	bus_unmap(&a.win);
	wr(0x1000, 4, 1);
	cr_assert_str_eq(a.log, "");
	cr_assert_str_eq(b.log, "w4:0=1 ");
	bus_unmap(&a.win);
	bus_unmap(&c.win);
}

Test(bus, window_without_device_needs_no_lock)
{
	a.win.dev = NULL;
	cr_assert_eq(bus_map(bus, &a.win, 0x1000), 0);
	cr_assert_eq(rd(0x1000, 2), 0x2211);
}

static void move_away(struct probe *p, uint64_t val)
{
	cr_assert_eq(pthread_mutex_trylock(&p->dev.lock), EBUSY);
	cr_assert_eq(bus_map(bus, &p->win, val), 0);
}

Test(bus, callback_may_move_its_own_window)
{
	a.hook = move_away;
	cr_assert_eq(bus_map(bus, &a.win, 0x1000), 0);
	wr(0x1010, 4, 0x2000);
	cr_assert_eq(rd(0x1010, 4), 0xffffffff);
	cr_assert_eq(rd(0x2010, 4), 0x44332211);
	cr_assert_eq(pthread_mutex_trylock(&a.dev.lock), 0);
}

static void unmap_both(struct probe *p, uint64_t val)
{
	bus_unmap(&a.win);
	bus_unmap(&b.win);
}

Test(bus, callback_may_unmap_in_the_middle_of_an_access)
{
	a.hook = unmap_both;
	cr_assert_eq(bus_map(bus, &a.win, 0x1000), 0);
	cr_assert_eq(bus_map(bus, &b.win, 0x1100), 0);
	wr(0x10fc, 8, 0);
	cr_assert_str_eq(a.log, "w4:fc=0 ");
	cr_assert_str_eq(b.log, "", "it was gone when the access came to it");
}

static void note(const struct bus_win *w, void *arg)
{
	strcat(arg, w->name);
}

Test(bus, each_goes_in_address_order)
{
	char names[16] = "";

	cr_assert_eq(bus_map(bus, &a.win, 0x3000), 0);
	cr_assert_eq(bus_map(bus, &b.win, 0x1000), 0);
	cr_assert_eq(bus_map(bus, &c.win, 0x2000), 0);
	bus_each(bus, note, names);
	cr_assert_str_eq(names, "bca");
}

Test(bus, many_windows_all_answer)
{
	static struct probe many[200];
	uint64_t i;

	for (i = 0; i < 200; i++) {
		probe_init(&many[i], "many", 0x10);
		many[i].answer = i;
		cr_assert_eq(bus_map(bus, &many[i].win, (i * 37 % 200) * 0x20), 0);
	}
	for (i = 0; i < 200; i++) {
		cr_assert_eq(rd((i * 37 % 200) * 0x20 + 8, 1), i);
		cr_assert_eq(rd((i * 37 % 200) * 0x20 + 0x10, 1), 0xff);
	}
}

static const struct reg table[] = {
	{ "ID", 0x0, 4, 0x1af4, 0, 0 },
	{ "CTL", 0x4, 4, 0, 0xff, 0 },
	{ 0 }
};

Test(bus, window_with_a_register_table_needs_no_code)
{
	uint8_t image[16];

	a.win.ops = NULL;
	a.win.regs = table;
	a.win.image = image;
	a.win.size = sizeof(image);
	reg_reset(table, image, sizeof(image));
	cr_assert_eq(bus_map(bus, &a.win, 0x1000), 0);
	wr(0x1004, 4, 0x12345678);
	cr_assert_eq(rd(0x1004, 4), 0x78);
	cr_assert_eq(rd(0x1000, 4), 0x1af4);
	cr_assert_eq(rd(0x1008, 8), 0);
	cr_assert_eq(rd(0x100e, 4), 0xffff0000, "last two bytes are nobody's");
}

/* ---- threads ---- */

/* A device whose window is only legal while `shown`, which its lock guards. */
struct racer {
	struct bus_win win;
	struct dev dev;
	bool shown;
	uint64_t hits, ghosts;
};

static uint64_t racer_read(struct bus_win *w, uint64_t off, unsigned int width)
{
	struct racer *r = w->arg;

	r->hits++;
	r->ghosts += !r->shown;
	return 0;
}

static void racer_write(struct bus_win *w, uint64_t off, unsigned int width, uint64_t val)
{
	racer_read(w, off, width);
}

static const struct bus_win_ops racer_ops = { racer_read, racer_write, false };
static struct racer racer;
static atomic_bool stop;

static void *access_loop(void *arg)
{
	uint8_t data[8];
	uint64_t i = 0;

	while (!atomic_load(&stop)) {
		bus_read(bus, 0x1000 + 0x80 * (i++ % 4), data, 8);
		bus_write(bus, 0x10fc, data, 8);
	}
	return NULL;
}

static void *access_once(void *arg)
{
	uint64_t *val = arg;

	bus_read(bus, 0x1000, val, 8);
	return NULL;
}

/* TSAN: an access that found the window just before it went away. */
Test(bus, access_that_waited_for_the_lock_finds_the_window_gone)
{
	uint64_t val = 0;
	pthread_t t;

	cr_assert_eq(bus_map(bus, &a.win, 0x1000), 0);
	pthread_mutex_lock(&a.dev.lock);
	cr_assert_eq(pthread_create(&t, NULL, access_once, &val), 0);
	while (atomic_load(&a.dev.refs) == 1)
		;		/* it holds the device and waits for its lock */
	bus_unmap(&a.win);
	pthread_mutex_unlock(&a.dev.lock);
	pthread_join(t, NULL);
	cr_assert_str_eq(a.log, "");
	cr_assert_eq(val, UINT64_MAX);
}

/* TSAN: unmapping with the device lock held means that no callback runs. */
Test(bus, unmap_under_the_device_lock_excludes_callbacks)
{
	pthread_t t[3];
	int i;

	racer.win = (struct bus_win){ .name = "racer", .dev = &racer.dev, .size = 0x100,
				      .ops = &racer_ops, .arg = &racer };
	pthread_mutex_init(&racer.dev.lock, NULL);
	atomic_init(&racer.dev.refs, 1);
	for (i = 0; i < 3; i++)
		cr_assert_eq(pthread_create(&t[i], NULL, access_loop, NULL), 0);
	for (i = 0; i < 3000; i++) {
		pthread_mutex_lock(&racer.dev.lock);
		racer.shown = true;
		cr_assert_eq(bus_map(bus, &racer.win, i % 2 ? 0x1000 : 0x1080), 0);
		pthread_mutex_unlock(&racer.dev.lock);
		pthread_mutex_lock(&racer.dev.lock);
		bus_unmap(&racer.win);
		racer.shown = false;
		pthread_mutex_unlock(&racer.dev.lock);
	}
	atomic_store(&stop, true);
	for (i = 0; i < 3; i++)
		pthread_join(t[i], NULL);
	cr_assert_eq(racer.ghosts, 0);
	cr_assert_eq(racer.dev.refs, 1);
}

/* TSAN: a device may be freed once its windows are unmapped and refs is 1. */
Test(bus, device_is_free_when_nobody_holds_it)
{
	struct racer *r;
	pthread_t t[2];
	int i;

	for (i = 0; i < 2; i++)
		cr_assert_eq(pthread_create(&t[i], NULL, access_loop, NULL), 0);
	for (i = 0; i < 2000; i++) {
		r = xcalloc(1, sizeof(*r));
		r->win = (struct bus_win){ .name = "r", .dev = &r->dev, .size = 0x100,
					   .ops = &racer_ops, .arg = r };
		pthread_mutex_init(&r->dev.lock, NULL);
		atomic_init(&r->dev.refs, 1);
		cr_assert_eq(bus_map(bus, &r->win, 0x1000), 0);
		bus_unmap(&r->win);
		while (atomic_load_explicit(&r->dev.refs, memory_order_acquire) > 1)
			;
		pthread_mutex_destroy(&r->dev.lock);
		free(r);
	}
	atomic_store(&stop, true);
	for (i = 0; i < 2; i++)
		pthread_join(t[i], NULL);
}
