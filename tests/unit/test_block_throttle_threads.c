/*
 * tests/unit/test_block_throttle_threads.c - two drives and a throttle node on three
 * loops in one group, whose limits, members and holds change meanwhile: every request ends once.
 *
 * TSAN: the group's levels, lists and turns.
 */
#include <criterion/criterion.h>
#include <errno.h>
#include <pthread.h>
#include <stdlib.h>

#include "block/throttle.h"
#include "lib_block.h"
#include "lib_load.h"
#include "vmm/base/util.h"

#define THREADS	3
#define DRIVES	2	/* the third disk is a throttle node */
#define ROUNDS	600

static struct bt t;
static struct drive *disks[THREADS];

static void teardown(void)
{
	for (int i = 0; i < THREADS; i++)
		drive_close(disks[i]);
	bt_stop(&t);
}

TestSuite(block_throttle_threads, .fini = teardown, .timeout = 60);

static bool any_waits(void)
{
	uint32_t n = 0;

	for (int i = 0; i < THREADS; i++) {
		pthread_mutex_lock(&disks[i]->lock);
		n += throttle_waiting(disks[i]);
		pthread_mutex_unlock(&disks[i]->lock);
	}
	return n > 0;
}

static void idle(struct drive *d, void *arg)
{
	drive_release(d);
}

static void open_disks(void)
{
	struct err e = ERR_INIT;
	char text[160];

	for (int i = 0; i < DRIVES; i++) {
		snprintf(text, sizeof(text), "d%d.raw", i);
		bt_file(&t, text, 64 * 1024);
		snprintf(text, sizeof(text), "file=%%s/d%d.raw,format=raw,if=none,id=d%d,"
			 "throttling.group=g,throttling.iops-total=2000", i, i);
		cr_assert_eq(bt_drive(&t, text), 0, "%s", bt_error());
		snprintf(text, sizeof(text), "d%d", i);
		cr_assert_eq(drive_open(t.g, text, text, DRIVE_OPEN_MAY_WRITE, &disks[i], &e), 0);
	}
	bt_file(&t, "n.raw", 64 * 1024);
	cr_assert_eq(bt_blockdev(&t, "driver=throttle,node-name=t0,throttle-group=g,"
				 "file.driver=file,file.filename=%s/n.raw"), 0, "%s", bt_error());
	cr_assert_eq(drive_open(t.g, "t0", "t0", DRIVE_OPEN_MAY_WRITE, &disks[DRIVES], &e), 0);
}

static void disturb(int turn)
{
	struct throttle_limits l = { .avg[THROTTLE_IOPS] = 1000u + (unsigned int)turn % 4 * 500,
				     .max[THROTTLE_IOPS] = 3000, .length[THROTTLE_IOPS] = 2 };
	struct drive *d = disks[turn / 8 % THREADS];

	if (turn % 8 == 0)
		throttle_set(d, turn % 3 ? "g" : "h", &l, "test", NULL);
	if (turn % 64 == 9)
		throttle_join(&d->throttle, t.g, NULL);
	if (turn % 16 == 3)
		drive_hold(d, idle, NULL);
}

Test(block_throttle_threads, test_every_request_ends_once_whatever_is_changed)
{
	struct load *w = calloc(THREADS, sizeof(*w));
	uint64_t end = clock_ns() + 50 * NS_PER_SEC;
	bool waited = false;
	int turns = 0;

	bt_start(&t, LOOP_AIO_AUTO);
	open_disks();
	for (int i = 0; i < THREADS; i++) {
		w[i].d = disks[i];
		w[i].left = ROUNDS;
		w[i].cancels = true;
		load_start(&w[i]);
	}
	while (load_runs(w, THREADS)) {
		loop_turn(t.loop, NS_PER_MS);
		waited |= any_waits();
		disturb(++turns);
		cr_assert_lt(clock_ns(), end, "some requests never end");
	}
	load_end(w, THREADS);
	for (int i = 0; i < THREADS; i++) {
		cr_expect_eq(w[i].failures, 0);
		cr_expect_eq(drive_totals(disks[i]).inflight, 0);
		drive_release(disks[i]);
	}
	cr_expect(waited, "nothing waited");
	free(w);
}
