/*
 * tests/unit/test_block_retry_threads.c - several loops on one disk that fails
 * now and then: every request ends once, none is lost, cancels get through.
 *
 * TSAN: the suspended requests of all loops are in one list.
 */
#include <criterion/criterion.h>
#include <errno.h>
#include <stdlib.h>

#include "block/retry.h"
#include "lib_block.h"
#include "lib_load.h"
#include "lib_script.h"
#include "vmm/base/util.h"

#define THREADS	3
#define ROUNDS	400

static struct bt t;

static void teardown(void)
{
	bt_stop(&t);
}

TestSuite(block_retry_threads, .fini = teardown, .timeout = 60);

static void run(unsigned int percent, bool cancels)
{
	struct load *w = calloc(THREADS, sizeof(*w));
	uint64_t end = clock_ns() + 50 * NS_PER_SEC;
	int turns = 0;

	bt_start(&t, LOOP_AIO_AUTO);
	bt_disk(&t, 64 * 1024, "werror=retry,rerror=retry,retry_interval=0");
	script_install(t.d);
	script.logging = false;
	script.percent = percent;
	for (int i = 0; i < THREADS; i++) {
		w[i].d = t.d;
		w[i].offset = (uint64_t)i * LOAD_DEPTH * 512;
		w[i].left = ROUNDS;
		w[i].cancels = cancels;
		load_start(&w[i]);
	}
	while (load_runs(w, THREADS)) {
		loop_turn(t.loop, NS_PER_MS);
		if (++turns % 16 == 0)
			drive_pause(t.d);
		if (turns % 16 == 4)
			drive_resume(t.d);
		if (turns % 64 == 7)
			drive_retry_now(t.d);
		cr_assert_lt(clock_ns(), end, "some requests never end");
	}
	load_end(w, THREADS);
	for (int i = 0; i < THREADS; i++)
		cr_expect_eq(w[i].failures, 0);
	free(w);
	cr_assert_eq(drive_totals(t.d).inflight, 0);
	cr_assert_eq(drive_retry_info(t.d).parked, 0);
	cr_assert_gt(drive_retry_info(t.d).retries, 0);
}

Test(block_retry_threads, test_every_request_ends_well)
{
	run(20, false);
}

Test(block_retry_threads, test_cancels_from_every_loop_get_through)
{
	run(50, true);
}
