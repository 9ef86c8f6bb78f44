/*
 * tests/bench/bench_replay.c - the block engine alone: requests against a raw
 * file, as `qemu-img bench` makes them, without a guest.
 *
 *	bench_replay FILE read|write DEPTH COUNT STEP CACHE [io_uring|threads]
 *
 * COUNT requests of 4 KiB, DEPTH in flight, each STEP bytes behind the last,
 * modulo the file. CACHE is a word of -drive cache=. Prints one line:
 *
 *	iops=N syscalls_per_request=N ns_per_request=N
 *
 * Threads: one.
 * Missing: the same through a scripted virtio ring.
 */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "block/block.h"
#include "vmm/base/util.h"

#define REQUEST		4096u
#define DEPTH_MAX	256

struct slot {
	struct block_req r;
	struct iovec iov;
};

struct run {
	struct loop *loop;
	struct block_graph *g;
	struct drive *d;
	enum block_op op;
	uint64_t depth, count, step;
	uint64_t offset, started, ended, failed;
	uint8_t *mem;
	struct slot slot[DEPTH_MAX];
};

static struct run run;

static void next(struct slot *s)
{
	run.started++;
	s->r.offset = run.offset;
	run.offset = (run.offset + run.step) % run.d->node->bytes;
	drive_submit(run.d, &s->r);
}

static void on_done(struct block_req *r, int ret)
{
	run.ended++;
	run.failed += ret != 0;
	if (run.started < run.count)
		next(container_of(r, struct slot, r));
	else if (run.ended == run.count)
		loop_quit(run.loop);
}

static void replay(void)
{
	struct loop_stats before, after;
	uint64_t t0, ns;

	for (uint64_t i = 0; i < run.depth; i++) {
		struct slot *s = &run.slot[i];

		s->iov = (struct iovec){ run.mem + i * REQUEST, REQUEST };
		s->r.op = run.op;
		s->r.bytes = REQUEST;
		s->r.iov = &s->iov;
		s->r.iovcnt = 1;
		s->r.done = on_done;
		s->r.loop = run.loop;
	}
	before = loop_stats(run.loop);
	t0 = clock_ns();
	for (uint64_t i = 0; i < run.depth; i++)
		next(&run.slot[i]);
	loop_run(run.loop);
	ns = clock_ns() - t0;
	after = loop_stats(run.loop);
	printf("iops=%.0f syscalls_per_request=%.3f ns_per_request=%.0f\n",
	       (double)run.count * 1e9 / (double)ns,
	       (double)(after.syscalls - before.syscalls) / (double)run.count,
	       (double)ns / (double)run.count);
}

static int set_up(char **argv, enum loop_aio aio, struct err *e)
{
	json_t *args;
	int r;

	r = loop_create(&run.loop, "bench", aio, e);
	if (r)
		return r;
	run.g = block_graph_create(run.loop);
	args = json_pack("{s:s,s:s,s:s,s:s,s:s}", "file", argv[1], "format", "raw", "if", "none",
			 "id", "d", "cache", argv[6]);
	r = block_drive_add(run.g, args, e);
	json_decref(args);
	return r ? r : drive_open(run.g, "d", "bench", DRIVE_OPEN_WRITE, &run.d, e);
}

static int parse(int argc, char **argv)
{
	if (argc < 7 || argc > 8 || parse_u64(argv[3], &run.depth) || run.depth < 1 ||
	    run.depth > DEPTH_MAX || parse_u64(argv[4], &run.count) || run.count < run.depth ||
	    parse_u64(argv[5], &run.step) || run.step % REQUEST ||
	    (strcmp(argv[2], "read") && strcmp(argv[2], "write")))
		return -EINVAL;
	run.op = strcmp(argv[2], "read") ? BLOCK_WRITE : BLOCK_READ;
	return 0;
}

int main(int argc, char **argv)
{
	enum loop_aio aio = LOOP_AIO_AUTO;
	struct err e = ERR_INIT;
	int r = 1;

	if (parse(argc, argv)) {
		fprintf(stderr, "usage: bench_replay FILE read|write DEPTH COUNT STEP CACHE "
			"[io_uring|threads]\n");
		return 2;
	}
	if (argc == 8)
		aio = strcmp(argv[7], "threads") ? LOOP_AIO_URING : LOOP_AIO_THREADS;
	if (posix_memalign((void **)&run.mem, 4096, DEPTH_MAX * REQUEST))
		return 1;
	memset(run.mem, 0xa5, DEPTH_MAX * REQUEST);
	if (set_up(argv, aio, &e)) {
		fprintf(stderr, "bench_replay: %s\n", e.text);
	} else {
		replay();
		if (run.failed)
			fprintf(stderr, "bench_replay: %llu requests failed\n",
				(unsigned long long)run.failed);
		r = run.failed != 0;
	}
	drive_close(run.d);
	block_graph_destroy(run.g);
	loop_destroy(run.loop);
	free(run.mem);
	return r;
}
