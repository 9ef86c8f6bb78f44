/*
 * tests/bench/bench_replay.c - the block engine alone: requests against a raw
 * file, as `qemu-img bench` makes them, without a guest.
 *
 *	bench_replay FILE read|write DEPTH COUNT STEP CACHE
 *		     [io_uring|threads] [qcow2] [BYTES]
 *
 * COUNT requests of 4 KiB (or BYTES), DEPTH in flight, each STEP bytes behind
 * the last, modulo the disk. CACHE is a word of -drive cache=. The whole ends
 * with a flush, outside the time. Prints one line:
 *
 *	iops=N syscalls_per_request=N ns_per_request=N host_bytes_per_byte=N
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

#define REQUEST_MAX	(1u << 20)
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
	uint64_t depth, count, step, bytes;
	const char *format;
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

/* What this process had written to disks so far (proc(5), write_bytes). */
static uint64_t host_written(void)
{
	FILE *f = fopen("/proc/self/io", "re");
	unsigned long long n = 0;
	char line[80];

	while (f && fgets(line, sizeof(line), f))
		sscanf(line, "write_bytes: %llu", &n);
	if (f)
		fclose(f);
	return n;
}

static void on_flushed(struct block_req *r, int ret)
{
	run.failed += ret != 0;
	loop_quit(run.loop);
}

static void flush(void)
{
	struct block_req r = { .op = BLOCK_FLUSH, .done = on_flushed, .loop = run.loop };

	drive_submit(run.d, &r);
	loop_run(run.loop);
}

static void replay(void)
{
	struct loop_stats before, after;
	uint64_t t0, ns, written;

	for (uint64_t i = 0; i < run.depth; i++) {
		struct slot *s = &run.slot[i];

		s->iov = (struct iovec){ run.mem + i * run.bytes, run.bytes };
		s->r.op = run.op;
		s->r.bytes = run.bytes;
		s->r.iov = &s->iov;
		s->r.iovcnt = 1;
		s->r.done = on_done;
		s->r.loop = run.loop;
	}
	written = host_written();
	before = loop_stats(run.loop);
	t0 = clock_ns();
	for (uint64_t i = 0; i < run.depth; i++)
		next(&run.slot[i]);
	loop_run(run.loop);
	ns = clock_ns() - t0;
	after = loop_stats(run.loop);
	flush();
	written = host_written() - written;
	printf("iops=%.0f syscalls_per_request=%.3f ns_per_request=%.0f "
	       "host_bytes_per_byte=%.4f\n",
	       (double)run.count * 1e9 / (double)ns,
	       (double)(after.syscalls - before.syscalls) / (double)run.count,
	       (double)ns / (double)run.count,
	       (double)written / (double)(run.count * run.bytes));
}

static int set_up(char **argv, enum loop_aio aio, struct err *e)
{
	json_t *args;
	int r;

	r = loop_create(&run.loop, "bench", aio, e);
	if (r)
		return r;
	run.g = block_graph_create(run.loop);
	args = json_pack("{s:s,s:s,s:s,s:s,s:s}", "file", argv[1], "format", run.format, "if", "none",
			 "id", "d", "cache", argv[6]);
	r = block_drive_add(run.g, args, e);
	json_decref(args);
	return r ? r : drive_open(run.g, "d", "bench", DRIVE_OPEN_WRITE, &run.d, e);
}

static void parse_more(char **argv, enum loop_aio *aio)
{
	run.format = "raw";
	run.bytes = 4096;
	for (; *argv; argv++) {
		if (strcmp(*argv, "threads") == 0)
			*aio = LOOP_AIO_THREADS;
		else if (strcmp(*argv, "io_uring") == 0)
			*aio = LOOP_AIO_URING;
		else if (strcmp(*argv, "qcow2") == 0)
			run.format = "qcow2";
		else if (parse_u64(*argv, &run.bytes))
			run.bytes = 0;
	}
}

static int parse(int argc, char **argv, enum loop_aio *aio)
{
	if (argc < 7)
		return -EINVAL;
	parse_more(argv + 7, aio);
	if (run.bytes < 512 || run.bytes > REQUEST_MAX || parse_u64(argv[3], &run.depth) || run.depth < 1 ||
	    run.depth > DEPTH_MAX || parse_u64(argv[4], &run.count) || run.count < run.depth ||
	    parse_u64(argv[5], &run.step) || run.step % run.bytes ||
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

	if (parse(argc, argv, &aio)) {
		fprintf(stderr, "usage: bench_replay FILE read|write DEPTH COUNT STEP CACHE "
			"[io_uring|threads] [qcow2] [BYTES]\n");
		return 2;
	}
	if (posix_memalign((void **)&run.mem, 4096, run.depth * run.bytes))
		return 1;
	memset(run.mem, 0xa5, run.depth * run.bytes);
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
