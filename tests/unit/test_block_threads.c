/*
 * tests/unit/test_block_threads.c - one node from several loops at once: data,
 * flushes that join across loops, ranges and buffers granted across loops.
 *
 * TSAN: the code under test is shared between I/O threads.
 */
#include <criterion/criterion.h>
#include <errno.h>
#include <pthread.h>
#include <stdlib.h>
#include <unistd.h>

#include "block/file.h"
#include "lib_block.h"
#include "vmm/base/util.h"
#include "vmm/loop/iothread.h"

#define THREADS	3
#define DEPTH	8
#define ROUNDS	300
#define PART	(64 * 1024u)	/* each thread's part of the disk */

static struct bt t;

static void teardown(void)
{
	bt_stop(&t);
}

TestSuite(block_threads, .fini = teardown, .timeout = 60);

struct worker {
	struct iothread *io;
	struct loop_work work;
	struct req {
		struct block_req r;	/* first */
		struct iovec iov;
		uint8_t *mem;
		struct worker *w;
	} req[DEPTH];
	uint64_t base;			/* first byte of its part */
	int left, running, failures;
	pthread_mutex_t lock;
	pthread_cond_t idle;
};

static void next(struct req *q);

static void on_done(struct block_req *r, int ret)
{
	struct req *q = container_of(r, struct req, r);
	struct worker *w = q->w;

	if (ret)
		w->failures++;
	if (r->op == BLOCK_READ && ret == 0 && q->mem[0] != q->mem[511])
		w->failures++;	/* a sector is written whole */
	if (w->left > 0) {
		w->left--;
		next(q);
		return;
	}
	pthread_mutex_lock(&w->lock);
	w->running--;
	pthread_cond_signal(&w->idle);
	pthread_mutex_unlock(&w->lock);
}

/* One sector of the thread's own; neighbours belong to other requests, so a
 * 4 KiB unit is always shared. */
static void next(struct req *q)
{
	struct worker *w = q->w;
	unsigned int i = (unsigned int)(q - w->req);
	uint64_t sector = (unsigned int)w->left % 4 * DEPTH + i;

	q->r.op = w->left % 7 == 0 ? BLOCK_FLUSH : w->left % 3 ? BLOCK_WRITE : BLOCK_READ;
	if (q->r.op == BLOCK_WRITE)
		memset(q->mem, w->left & 0xff, 512);
	q->r.offset = w->base + sector * 512;
	q->r.bytes = q->r.op == BLOCK_FLUSH ? 0 : 512;
	q->iov = (struct iovec){ q->mem, 512 };
	q->r.iov = &q->iov;
	q->r.iovcnt = 1;
	q->r.loop = iothread_loop(w->io);
	q->r.done = on_done;
	drive_submit(t.d, &q->r);
}

static void begin(struct loop_work *work)
{
	struct worker *w = container_of(work, struct worker, work);

	for (int i = 0; i < DEPTH; i++)
		next(&w->req[i]);
}

static void run_threads(enum loop_aio aio)
{
	struct worker *w = calloc(THREADS, sizeof(*w));
	struct err e = ERR_INIT;

	for (int i = 0; i < THREADS; i++) {
		cr_assert_eq(iothread_create(&w[i].io, "io", NULL, aio, &e), 0, "%s", e.text);
		pthread_mutex_init(&w[i].lock, NULL);
		pthread_cond_init(&w[i].idle, NULL);
		/* Parts meet inside a unit of 4 KiB. */
		w[i].base = (uint64_t)i * PART + (i ? 512 * 3 : 0);
		w[i].left = ROUNDS;
		w[i].running = DEPTH;
		for (int k = 0; k < DEPTH; k++) {
			w[i].req[k].w = &w[i];
			cr_assert_eq(posix_memalign((void **)&w[i].req[k].mem, 4096, 4096), 0);
			memset(w[i].req[k].mem, 0, 4096);
		}
		w[i].work.cb = begin;
		loop_post(iothread_loop(w[i].io), &w[i].work);
	}
	for (int i = 0; i < THREADS; i++) {
		pthread_mutex_lock(&w[i].lock);
		while (w[i].running)
			pthread_cond_wait(&w[i].idle, &w[i].lock);
		pthread_mutex_unlock(&w[i].lock);
	}
	for (int i = 0; i < THREADS; i++) {
		iothread_destroy(w[i].io);
		cr_expect_eq(w[i].failures, 0, "thread %d", i);
		for (int k = 0; k < DEPTH; k++)
			free(w[i].req[k].mem);
	}
	cr_assert_eq(drive_totals(t.d).inflight, 0);
	free(w);
}

static void disk(const char *opts)
{
	uint8_t zero[4096] = { 0 };

	bt_start(&t, LOOP_AIO_AUTO);
	bt_disk(&t, THREADS * PART + PART, opts);
	for (uint64_t at = 0; at < t.d->node->bytes; at += sizeof(zero))
		cr_assert_eq(bt_io(&t, BLOCK_WRITE, at, zero, sizeof(zero), 0), 0);
}

Test(block_threads, test_loops_share_a_node_uring)
{
	disk("");
	run_threads(LOOP_AIO_URING);
}

Test(block_threads, test_loops_share_a_node_threads)
{
	disk("");
	run_threads(LOOP_AIO_THREADS);
}

static void pretend_4k(void)
{
	struct file_node *f = bt_file_node(&t);

	f->n.request_align = f->mem_align = 4096;
	f->tracked = true;
}

Test(block_threads, test_loops_share_units_larger_than_a_sector_uring)
{
	disk("cache=none");
	pretend_4k();
	run_threads(LOOP_AIO_URING);
}

Test(block_threads, test_loops_share_units_larger_than_a_sector_threads)
{
	disk("cache=none");
	pretend_4k();
	run_threads(LOOP_AIO_THREADS);
}
