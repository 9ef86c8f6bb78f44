/*
 * tests/fuzz/fuzz_qcow2.c - hostile qcow2 images: opened, read, written,
 * checked and repaired.
 *
 * Input: a byte n, n requests of four bytes (kind, sector, sector, length in
 * sectors), then the image's bytes. The image is read as a whole, then opened
 * for writing and given the requests, then checked, repaired, checked again:
 * after a repair that worked, nothing may be corrupt.
 */
#include <errno.h>
#include <fcntl.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "block/graph.h"
#include "block/image.h"
#include "vmm/base/json.h"
#include "vmm/base/log.h"
#include "vmm/base/util.h"

#define IMAGE_MAX	(512u * 1024)
#define READ_MAX	(1u << 20)	/* of a disk that says it is huge */

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len);

static char dir[] = "/var/tmp/roost-fuzz-XXXXXX";
static char path[64];
static struct loop *loop;
static struct block_graph *g;
static uint8_t *mem;

static void no_log(enum log_level level, const char *line, void *arg)
{
}

static void clean_up(void)
{
	unlink(path);
	rmdir(dir);
	loop_destroy(loop);
	free(mem);
}

static void set_up(void)
{
	struct err e = ERR_INIT;

	if (!mkdtemp(dir) || loop_create(&loop, "fuzz", LOOP_AIO_AUTO, &e))
		abort();
	log_set_sink(no_log, NULL);
	snprintf(path, sizeof(path), "%s/i", dir);
	mem = malloc(READ_MAX);
	atexit(clean_up);
}

static bool put_image(const uint8_t *data, size_t len)
{
	int fd = open(path, O_RDWR | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);

	if (fd < 0 || fd_write_full(fd, data, len, 0))
		abort();
	close(fd);
	return true;
}

/* As a user of its node; false: refused, with a sentence. @snapshot: as that is, or NULL. */
static bool open_image(struct block_child *c, const char *snapshot, bool write, bool repair)
{
	uint32_t perm = BLOCK_PERM_READ | (write ? BLOCK_PERM_WRITE : 0);
	uint32_t shared = BLOCK_PERM_READ | BLOCK_PERM_WRITE_UNCHANGED;
	struct block_node *n = NULL;
	struct err e = ERR_INIT;
	json_t *args;
	int r;

	args = json_pack("{s:s,s:b,s:n,s:s,s:{s:s,s:s,s:b,s:s}}", "driver", "qcow2", "read-only",
			 !write, "backing", "discard", "unmap", "file", "driver", "file",
			 "filename", path, "read-only", !write && !repair, "locking", "off");
	if (snapshot)
		json_object_set_new(args, "internal-snapshot", json_string(snapshot));
	r = graph_node_create(g, args, true, &n, &e);
	json_decref(args);
	if (r == 0) {
		r = block_attach(c, n, "fuzz", perm, shared, &e);
		if (r)
			graph_node_destroy(n);
	}
	if (r == 0 && repair)
		r = block_reattach(&n->file, BLOCK_PERM_READ | BLOCK_PERM_WRITE, shared, &e);
	if ((r != 0) != (e.text[0] != '\0'))
		abort();
	return r == 0;
}

static void io(struct block_node *n, enum block_op op, uint64_t off, uint64_t bytes)
{
	struct iovec iov = { mem, bytes };

	if (off >= n->bytes)
		return;
	bytes = MIN(bytes, n->bytes - off);
	bytes = MIN(bytes, (uint64_t)READ_MAX);
	iov.iov_len = bytes;
	block_io_wait(n, block_graph_wait_loop(g), op, off & 512 ? BLOCK_UNMAP : 0, off,
		      op <= BLOCK_WRITE ? &iov : NULL, op <= BLOCK_WRITE, bytes);
}

static void run_requests(struct block_node *n, const uint8_t *p, size_t count)
{
	for (size_t i = 0; i < count; i++, p += 4)
		io(n, (enum block_op)(p[0] % BLOCK_OPS),
		   512 * (uint64_t)(p[1] | p[2] << 8), 512 * (1 + (uint64_t)p[3]));
}

static void check_and_repair(void)
{
	struct image_check c = { 0 }, fix = { 0 }, after = { 0 };
	struct block_child child = { 0 };
	struct err e = ERR_INIT;
	json_t *info = json_object();

	if (!open_image(&child, NULL, false, true)) {
		json_decref(info);
		return;
	}
	image_describe(child.node, block_graph_wait_loop(g), info, &e);
	json_decref(info);
	e = (struct err)ERR_INIT;
	if (image_check(child.node, block_graph_wait_loop(g), IMAGE_FIX_NONE, &c, &e) == 0 &&
	    image_check(child.node, block_graph_wait_loop(g), IMAGE_FIX_ALL, &fix, &e) == 0 &&
	    image_check(child.node, block_graph_wait_loop(g), IMAGE_FIX_NONE, &after, &e) == 0 &&
	    after.corruptions && !fix.corruptions)
		abort();
	block_detach(&child);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len)
{
	struct block_child c = { 0 };
	size_t count;

	if (!loop)
		set_up();
	count = len ? data[0] : 0;
	if (len < 1 + count * 4 || len > IMAGE_MAX)
		return 0;
	put_image(data + 1 + count * 4, len - 1 - count * 4);
	g = block_graph_create(loop);
	if (open_image(&c, NULL, false, false)) {
		io(c.node, BLOCK_READ, 0, READ_MAX);
		io(c.node, BLOCK_READ, c.node->bytes / 2, 65536);
		block_detach(&c);
	}
	if (open_image(&c, "1", false, false)) {
		io(c.node, BLOCK_READ, 0, READ_MAX);
		block_detach(&c);
	}
	if (open_image(&c, NULL, true, false)) {
		run_requests(c.node, data + 1, count);
		block_detach(&c);
	}
	check_and_repair();
	block_graph_destroy(g);
	return 0;
}
