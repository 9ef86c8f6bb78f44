/*
 * tests/unit/test_block_snapshot_threads.c - snapshots of a disk that several
 * loops write to: no request is lost, none goes to the wrong node.
 *
 * TSAN: drives change their nodes under I/O threads.
 */
#include <criterion/criterion.h>
#include <errno.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>

#include "block/snapshot.h"
#include "lib_block.h"
#include "lib_qcow2.h"
#include "vmm/base/util.h"
#include "vmm/loop/iothread.h"

#define THREADS	3
#define DEPTH	4
#define DISK	(256 * 1024u)
#define SNAPSHOTS 8

static struct bt t;

static void teardown(void)
{
	bt_stop(&t);
}

TestSuite(block_snapshot_threads, .fini = teardown, .timeout = 100);

struct worker {
	struct iothread *io;
	struct loop_work work;
	struct req {
		struct block_req r;	/* first */
		struct iovec iov;
		uint8_t mem[512];
		struct worker *w;
		int index, round;
	} req[DEPTH];
	_Atomic int running, failures;
	_Atomic bool stop;
};

static struct worker worker[THREADS];

static void next(struct req *q);

/* Write, read it back, write the next: what is read must be what was written. */
static void on_done(struct block_req *r, int ret)
{
	struct req *q = container_of(r, struct req, r);
	struct worker *w = q->w;

	if (ret || q->mem[0] != (uint8_t)q->round || q->mem[511] != (uint8_t)q->round)
		w->failures++;
	if (atomic_load(&w->stop) && r->op == BLOCK_READ)
		w->running--;
	else
		next(q);
}

static void next(struct req *q)
{
	q->r.op = q->r.op == BLOCK_WRITE ? BLOCK_READ : BLOCK_WRITE;
	if (q->r.op == BLOCK_WRITE)
		q->round++;
	memset(q->mem, q->r.op == BLOCK_WRITE ? q->round : 0, 512);
	q->r.offset = (uint64_t)q->index * 8192;
	q->r.bytes = 512;
	q->iov = (struct iovec){ q->mem, 512 };
	q->r.iov = &q->iov;
	q->r.iovcnt = 1;
	q->r.loop = iothread_loop(q->w->io);
	q->r.done = on_done;
	drive_submit(t.d, &q->r);
}

static void begin(struct loop_work *work)
{
	struct worker *w = container_of(work, struct worker, work);

	for (int i = 0; i < DEPTH; i++)
		next(&w->req[i]);
}

static void nothing(void *arg)
{
}

static int finished, result;

static void done(void *arg, int ret, const struct err *e)
{
	finished++;
	result = ret;
}

static void snapshot(int i, char *top)
{
	char name[16], file[24], under[24];
	struct snapshot_pair p = { top, name };
	struct snapshot *s;
	struct err e = ERR_INIT;
	json_t *args;
	int r;

	snprintf(name, sizeof(name), "s%d", i);
	snprintf(file, sizeof(file), "s%d.qcow2", i);
	snprintf(under, sizeof(under), i ? "s%d.qcow2" : "d0.raw", i - 1);
	qt_sh(&t, "qemu-img create -q -f qcow2 -b %s -F %s %s", under, i ? "qcow2" : "raw", file);
	args = json_pack("{s:s,s:s,s:n,s:{s:s,s:s}}", "driver", "qcow2", "node-name", name,
			 "backing", "file", "driver", "file", "filename", bt_path(&t, file));
	r = block_node_open(t.g, args, NULL, &e);
	json_decref(args);
	cr_assert_eq(r, 0, "%s", e.text);
	finished = 0;
	r = snapshot_start(t.g, &p, 1, done, NULL, &s, &e);
	cr_assert_eq(r, 0, "%s", e.text);
	for (int n = 0; n < 10000 && !finished; n++)
		loop_turn(t.loop, NS_PER_MS);
	cr_assert_eq(finished, 1);
	cr_assert_eq(result, 0);
	snprintf(top, 16, "%s", name);
}

Test(block_snapshot_threads, test_snapshots_under_load_lose_nothing)
{
	struct err e = ERR_INIT;
	char top[16] = "d0";
	int running = 1;

	bt_start(&t, LOOP_AIO_AUTO);
	bt_disk(&t, DISK, "cache=none");
	for (int i = 0; i < THREADS; i++) {
		struct worker *w = &worker[i];

		cr_assert_eq(iothread_create(&w->io, "io", NULL, LOOP_AIO_AUTO, &e), 0);
		w->running = DEPTH;
		for (int k = 0; k < DEPTH; k++) {
			w->req[k].w = w;
			w->req[k].index = i * DEPTH + k;
		}
		w->work.cb = begin;
		loop_post(iothread_loop(w->io), &w->work);
	}
	for (int i = 0; i < SNAPSHOTS; i++)
		snapshot(i, top);
	for (int i = 0; i < THREADS; i++)
		worker[i].stop = true;
	for (int n = 0; n < 20000 && running; n++) {
		loop_turn(t.loop, NS_PER_MS);
		running = 0;
		for (int i = 0; i < THREADS; i++)
			running += worker[i].running;
	}
	cr_assert_eq(running, 0, "%d requests never ended", running);
	for (int i = 0; i < THREADS; i++)
		loop_call(iothread_loop(worker[i].io), nothing, NULL);
	for (int i = 0; i < THREADS; i++) {
		cr_expect_eq(worker[i].failures, 0);
		iothread_destroy(worker[i].io);
	}
	drive_close(t.d);
	t.d = NULL;
}
