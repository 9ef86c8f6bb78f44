/*
 * tests/unit/test_block_reopen_threads.c - a qcow2 disk that three loops use, while
 * its cache mode, its backing node and what it does with zeroes change.
 *
 * TSAN: fields that requests read are written with the disk held.
 */
#include <criterion/criterion.h>
#include <stdio.h>
#include <stdlib.h>

#include "block/reopen.h"
#include "lib_load.h"
#include "lib_qcow2.h"
#include "vmm/base/util.h"

#define THREADS	3
#define ROUNDS	3000
#define CHANGES	8	/* while requests run, at least */

static struct bt t;
static int finished, result;
static struct err why;

static void teardown(void)
{
	bt_stop(&t);
}

TestSuite(block_reopen_threads, .fini = teardown, .timeout = 100);

static void done(void *arg, int ret, const struct err *e)
{
	finished++;
	result = ret;
	why = *e;
}

static void change(int turn)
{
	json_t *file = json_pack("{s:s,s:s,s:s,s:{s:b}}", "driver", "file", "node-name", "qf",
				 "filename", bt_path(&t, "q.qcow2"), "cache", "direct", turn & 1);
	json_t *top = json_pack("{s:s,s:s,s:s,s:s,s:s,s:s}", "driver", "qcow2", "node-name", "q",
				"file", "qf", "backing", turn & 2 ? "a" : "b", "discard", "unmap",
				"detect-zeroes", turn & 4 ? "unmap" : "off");
	json_t *list = json_pack("[o,o]", file, top);
	struct reopen *r;
	struct err e = ERR_INIT;

	finished = 0;
	cr_assert_eq(reopen_start(t.g, list, done, NULL, &r, &e), 0, "%s", e.text);
	json_decref(list);
	for (int i = 0; i < 20000 && !finished; i++)
		loop_turn(t.loop, NS_PER_MS);
	cr_assert_eq(finished, 1, "the command never ends");
	cr_assert_eq(result, 0, "%s", why.text);
}

static void open_disk(void)
{
	struct err e = ERR_INIT;

	bt_start(&t, LOOP_AIO_AUTO);
	bt_file(&t, "a.raw", 256 * 1024);
	bt_file(&t, "b.raw", 256 * 1024);
	qt_sh(&t, "qemu-img create -q -f qcow2 -o cluster_size=512 q.qcow2 256k");
	cr_assert_eq(bt_blockdev(&t, "driver=file,node-name=a,read-only=on,filename=%s/a.raw"), 0);
	cr_assert_eq(bt_blockdev(&t, "driver=file,node-name=b,read-only=on,filename=%s/b.raw"), 0);
	cr_assert_eq(bt_blockdev(&t, "driver=file,node-name=qf,filename=%s/q.qcow2"), 0);
	cr_assert_eq(bt_blockdev(&t, "driver=qcow2,node-name=q,file=qf,backing=a"), 0);
	cr_assert_eq(drive_open(t.g, "q", "dev0", DRIVE_OPEN_MAY_WRITE, &t.d, &e), 0, "%s", e.text);
}

Test(block_reopen_threads, test_every_request_succeeds_whatever_is_changed)
{
	struct load *w = calloc(THREADS, sizeof(*w));
	int changes = 0;

	open_disk();
	for (int i = 0; i < THREADS; i++) {
		w[i].d = t.d;
		w[i].offset = (uint64_t)i * 64 * 1024;
		w[i].left = ROUNDS;
		load_start(&w[i]);
	}
	while (load_runs(w, THREADS))
		change(changes++);
	load_end(w, THREADS);
	for (int i = 0; i < THREADS; i++)
		cr_expect_eq(w[i].failures, 0);
	cr_expect_eq(drive_totals(t.d).inflight, 0);
	cr_expect_geq(changes, CHANGES, "%d changes only", changes);
	qt_close(&t);
	qt_check(&t, "q.qcow2");
	free(w);
}
