/*
 * tests/fuzz/fuzz_qcow2_chain.c - a hostile qcow2 image is a running disk, and
 * gets snapshots: read, written, and read through overlays.
 *
 * Input as fuzz_qcow2's: a byte n, n requests of four bytes (kind, sector,
 * sector, length in sectors), then the image's bytes. A kind with the high bit is
 * a snapshot. Sound overlays stand on the image: whatever it is, they stay so, and
 * a sector that was written reads back.
 */
#include <fcntl.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "block/graph.h"
#include "block/image.h"
#include "block/snapshot.h"
#include "vmm/base/json.h"
#include "vmm/base/log.h"
#include "vmm/base/util.h"

#define IMAGE_MAX	(512u * 1024)
#define PIECE_MAX	(256 * 512u)
#define DEPTH		4
#define END_NS		(15 * NS_PER_SEC)

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len);

static char dir[] = "/var/tmp/roost-fuzz-XXXXXX";
static struct loop *loop;
static struct block_graph *g;
static struct drive *d;
static int depth;
static bool over;
static int result;

static void no_log(enum log_level level, const char *line, void *arg)
{
}

static const char *path(int n)
{
	static char buf[64];

	snprintf(buf, sizeof(buf), "%s/%d", dir, n);
	return buf;
}

static void clean_up(void)
{
	for (int i = 0; i <= DEPTH; i++)
		unlink(path(i));
	rmdir(dir);
	loop_destroy(loop);
}

static void set_up(void)
{
	struct err e = ERR_INIT;

	if (!mkdtemp(dir) || loop_create(&loop, "fuzz", LOOP_AIO_AUTO, &e))
		abort();
	log_set_sink(no_log, NULL);
	atexit(clean_up);
}

static void put_file(int n, const uint8_t *data, size_t len)
{
	int fd = open(path(n), O_RDWR | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);

	if (fd < 0 || fd_write_full(fd, data, len, 0))
		abort();
	close(fd);
}

static int open_image(int n)
{
	char name[8];
	struct err e = ERR_INIT;
	json_t *args;
	int r;

	snprintf(name, sizeof(name), "n%d", n);
	args = json_pack("{s:s,s:s,s:n,s:s,s:{s:s,s:s,s:s}}", "driver", "qcow2", "node-name", name,
			 "backing", "discard", "unmap", "file", "driver", "file", "filename",
			 path(n), "locking", "off");
	r = block_node_open(g, args, NULL, &e);
	json_decref(args);
	return r;
}

static void make_overlay(int n, uint64_t bytes)
{
	struct image_qcow2_opts o;
	struct block_child c = { 0 };
	struct err e = ERR_INIT;
	struct block_node *f;
	json_t *args;

	put_file(n, NULL, 0);
	image_qcow2_defaults(&o);
	o.size = bytes;
	args = json_pack("{s:s,s:s}", "driver", "file", "filename", path(n));
	if (graph_node_create(g, args, false, &f, &e) ||
	    block_attach(&c, f, "fuzz", BLOCK_PERM_READ | BLOCK_PERM_WRITE | BLOCK_PERM_RESIZE, 0,
			 &e))
		abort();
	result = image_qcow2_create(f, block_graph_wait_loop(g), &o, &e);
	f->implicit = true;
	json_decref(args);
	block_detach(&c);
}

static void snapped(void *arg, int ret, const struct err *e)
{
	over = true;
	result = ret;
}

static void snapshot(void)
{
	char below[8], above[8];
	struct snapshot_pair p = { below, above };
	uint64_t end = clock_ns() + END_NS;
	struct err e = ERR_INIT;
	struct snapshot *s;

	if (depth == DEPTH)
		return;
	make_overlay(depth + 1, d->node->bytes);
	if (result || open_image(depth + 1))
		return;		/* the disk is longer than an overlay can be */
	snprintf(below, sizeof(below), "n%d", depth);
	snprintf(above, sizeof(above), "n%d", depth + 1);
	over = false;
	if (snapshot_start(g, &p, 1, snapped, NULL, &s, &e))
		abort();
	while (!over) {
		if (clock_ns() > end)
			abort();
		loop_turn(loop, NS_PER_MS);
	}
	if (result)		/* what is corrupt cannot be flushed */
		block_node_del(g, above, NULL);
	else
		depth++;
}

static int ended;

static void on_done(struct block_req *r, int ret)
{
	ended++;
	result = ret;
}

static int io(enum block_op op, uint64_t off, void *mem, uint64_t bytes)
{
	struct iovec iov = { mem, bytes };
	struct block_req r = {
		.op = op, .flags = op == BLOCK_WRITE_ZEROES && off & 512 ? BLOCK_UNMAP : 0,
		.offset = op == BLOCK_FLUSH ? 0 : off, .bytes = op == BLOCK_FLUSH ? 0 : bytes,
		.iov = op <= BLOCK_WRITE ? &iov : NULL, .iovcnt = op <= BLOCK_WRITE,
		.done = on_done, .loop = loop,
	};

	ended = 0;
	drive_submit(d, &r);
	while (!ended)
		loop_turn(loop, NS_PER_SEC);
	return result;
}

/* A write that succeeded above a sound overlay reads back. */
static void read_back(uint64_t off, const uint8_t *want, uint8_t *mem, uint64_t bytes)
{
	if (depth && (io(BLOCK_READ, off, mem, bytes) || memcmp(mem, want, bytes)))
		abort();
}

static void run_requests(const uint8_t *p, size_t count)
{
	static uint8_t data[PIECE_MAX], mem[PIECE_MAX];

	for (size_t i = 0; i < count; i++, p += 4) {
		enum block_op op = (enum block_op)((p[0] & 0x7f) % BLOCK_OPS);
		uint64_t off = 512 * (uint64_t)(p[1] | p[2] << 8);
		uint64_t bytes = 512 * (1 + (uint64_t)p[3]);

		if (p[0] & 0x80) {
			snapshot();
			continue;
		}
		if (off >= d->node->bytes && op != BLOCK_FLUSH)
			continue;
		if (op != BLOCK_FLUSH)
			bytes = MIN(bytes, d->node->bytes - off);
		memset(data, (int)i + 1, bytes);
		if (io(op, off, op == BLOCK_READ ? mem : data, bytes) == 0 && op == BLOCK_WRITE)
			read_back(off, data, mem, bytes);
	}
}

/* The overlays are ours: nothing that is below may spoil them. */
static void check(int n)
{
	struct image_check c = { 0 };
	struct block_child child = { 0 };
	struct err e = ERR_INIT;
	char name[8];

	snprintf(name, sizeof(name), "n%d", n);
	if (open_image(n) || block_attach(&child, block_node_find(g, name), "fuzz",
					  BLOCK_PERM_READ, BLOCK_PERM_READ, &e) ||
	    image_check(child.node, block_graph_wait_loop(g), IMAGE_FIX_NONE, &c, &e) ||
	    c.corruptions || c.leaks)
		abort();
	block_detach(&child);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len)
{
	struct err e = ERR_INIT;
	size_t count;

	if (!loop)
		set_up();
	count = len ? data[0] : 0;
	if (len < 1 + count * 4 || len > IMAGE_MAX)
		return 0;
	put_file(0, data + 1 + count * 4, len - 1 - count * 4);
	g = block_graph_create(loop);
	depth = 0;
	if (open_image(0) == 0 && drive_open(g, "n0", "dev", DRIVE_OPEN_WRITE, &d, &e) == 0) {
		run_requests(data + 1, count);
		drive_close(d);
	}
	block_graph_destroy(g);
	g = block_graph_create(loop);
	for (int i = 1; i <= depth; i++)
		check(i);
	block_graph_destroy(g);
	return 0;
}
