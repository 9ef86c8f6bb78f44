/*
 * tests/bench/bench_scaling.c - one disk from several I/O threads at a time, as the
 * queues of a device with iothread-vq-mapping use it, without a guest.
 *
 *	bench_scaling FILE FORMAT THREADS COUNT
 *
 * Each thread reads COUNT times 4 KiB at random, 32 in flight, through the host's page
 * cache. Prints one line, of all threads together:
 *
 *	iops=N
 *
 * Threads: the main one, which waits, and THREADS I/O threads.
 * Missing: writes.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "block/block.h"
#include "vmm/base/util.h"
#include "vmm/loop/iothread.h"

#define REQUEST		4096u
#define DEPTH		32u
#define THREADS_MAX	16

struct slot {
	struct block_req r;
	struct iovec iov;
	struct worker *w;
};

struct worker {
	struct iothread *t;
	struct slot slot[DEPTH];
	uint64_t seed, started, ended, failed;
	_Atomic bool over;
};

static struct run {
	struct drive *d;
	uint64_t count, threads;
	uint8_t *mem;
	struct worker w[THREADS_MAX];
} run;

static void next(struct slot *s)
{
	struct worker *w = s->w;

	w->started++;
	w->seed = w->seed * 6364136223846793005ull + 1442695040888963407ull;
	s->r.offset = (w->seed >> 20) % (run.d->node->bytes / REQUEST) * REQUEST;
	drive_submit(run.d, &s->r);
}

static void on_done(struct block_req *r, int ret)
{
	struct slot *s = container_of(r, struct slot, r);
	struct worker *w = s->w;

	w->ended++;
	w->failed += ret != 0;
	if (w->started < run.count)
		next(s);
	else if (w->ended == w->started)
		atomic_store(&w->over, true);
}

static void begin(void *arg)
{
	struct worker *w = arg;

	for (unsigned int i = 0; i < DEPTH; i++)
		next(&w->slot[i]);
}

static int prepare(struct worker *w, uint64_t index, struct err *e)
{
	uint8_t *mem = run.mem + index * DEPTH * REQUEST;
	char id[16];
	int r;

	snprintf(id, sizeof(id), "t%u", (unsigned int)index);
	r = iothread_create(&w->t, id, NULL, LOOP_AIO_AUTO, e);
	if (r)
		return r;
	w->seed = index + 1;
	for (unsigned int i = 0; i < DEPTH; i++) {
		struct slot *s = &w->slot[i];

		s->w = w;
		s->iov = (struct iovec){ mem + i * REQUEST, REQUEST };
		s->r = (struct block_req){ .op = BLOCK_READ, .bytes = REQUEST, .iov = &s->iov,
					   .iovcnt = 1, .done = on_done,
					   .loop = iothread_loop(w->t) };
	}
	return 0;
}

static void measure(void)
{
	uint64_t t0 = clock_ns();

	for (uint64_t i = 0; i < run.threads; i++)
		loop_call(iothread_loop(run.w[i].t), begin, &run.w[i]);
	for (uint64_t i = 0; i < run.threads; i++)
		while (!atomic_load(&run.w[i].over))
			usleep(500);
	printf("iops=%.0f\n", (double)(run.threads * run.count) * 1e9 / (double)(clock_ns() - t0));
}

static int set_up(struct block_graph *g, char **argv, struct err *e)
{
	json_t *args = json_pack("{s:s,s:s,s:s,s:s}", "file", argv[1], "format", argv[2], "if",
				 "none", "id", "d");
	int r = block_drive_add(g, args, e);

	json_decref(args);
	if (r == 0)
		r = drive_open(g, "d", "bench", 0, &run.d, e);
	for (uint64_t i = 0; i < run.threads && r == 0; i++)
		r = prepare(&run.w[i], i, e);
	return r;
}

int main(int argc, char **argv)
{
	struct block_graph *g = NULL;
	struct loop *main_loop = NULL;
	struct err e = ERR_INIT;
	uint64_t failed = 0;

	if (argc != 5 || parse_u64(argv[3], &run.threads) || run.threads < 1 ||
	    run.threads > THREADS_MAX || parse_u64(argv[4], &run.count) || run.count < DEPTH) {
		fprintf(stderr, "usage: bench_scaling FILE FORMAT THREADS COUNT\n");
		return 2;
	}
	if (posix_memalign((void **)&run.mem, 4096, run.threads * DEPTH * REQUEST) ||
	    loop_create(&main_loop, "bench", LOOP_AIO_AUTO, &e))
		return 1;
	g = block_graph_create(main_loop);
	if (set_up(g, argv, &e) == 0)
		measure();
	else
		fprintf(stderr, "bench_scaling: %s\n", e.text);
	for (uint64_t i = 0; i < run.threads; i++) {
		iothread_destroy(run.w[i].t);
		failed += run.w[i].failed;
	}
	drive_close(run.d);
	block_graph_destroy(g);
	loop_destroy(main_loop);
	free(run.mem);
	return failed || e.text[0];
}
