/*
 * tests/unit/lib_block.c - helpers of the block layer's tests.
 */
#include "lib_block.h"

#include <criterion/criterion.h>
#include <errno.h>
#include <fcntl.h>
#include <ftw.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include "block/file.h"
#include "vmm/base/json.h"
#include "vmm/base/util.h"

#define WAIT_NS	(20 * NS_PER_SEC)	/* a request that never ends fails */

static struct err last;

void bt_start(struct bt *t, enum loop_aio aio)
{
	struct err e = ERR_INIT;

	memset(t, 0, sizeof(*t));
	/* Not /tmp: that may be a tmpfs, where O_DIRECT means little. */
	snprintf(t->dir, sizeof(t->dir), "/var/tmp/roost-block-XXXXXX");
	cr_assert_not_null(mkdtemp(t->dir));
	cr_assert_eq(loop_create(&t->loop, "test", aio, &e), 0, "%s", e.text);
	t->g = block_graph_create(t->loop);
}

static int remove_one(const char *path, const struct stat *st, int flag, struct FTW *ftw)
{
	return remove(path);
}

void bt_stop(struct bt *t)
{
	drive_close(t->d);
	block_graph_destroy(t->g);
	loop_destroy(t->loop);
	nftw(t->dir, remove_one, 16, FTW_DEPTH | FTW_PHYS);
}

const char *bt_path(struct bt *t, const char *name)
{
	static char buf[4][192];
	static unsigned int i;
	char *p = buf[i++ % ARRAY_LEN(buf)];

	snprintf(p, sizeof(buf[0]), "%s/%s", t->dir, name);
	return p;
}

uint8_t bt_byte(uint64_t at, unsigned int round)
{
	uint64_t x = (at + 1) * 0x9e3779b97f4a7c15ull + round * 0x2545f4914f6cdd1dull;

	return (uint8_t)(x >> 56 | 1);	/* never zero: a hole shows */
}

const char *bt_file(struct bt *t, const char *name, uint64_t bytes)
{
	const char *path = bt_path(t, name);
	int fd = open(path, O_RDWR | O_CREAT | O_TRUNC | O_CLOEXEC, 0644);
	uint8_t buf[4096];

	cr_assert(fd >= 0);
	for (uint64_t at = 0; at < bytes; at += sizeof(buf)) {
		size_t n = MIN(bytes - at, (uint64_t)sizeof(buf));

		for (size_t i = 0; i < n; i++)
			buf[i] = bt_byte(at + i, 0);
		cr_assert_eq(fd_write_full(fd, buf, n, (off_t)at), 0);
	}
	close(fd);
	return path;
}

static json_t *parse(struct bt *t, const char *text, const char *implied, int nest)
{
	char full[1024];
	const char *at = strstr(text, "%s");
	json_t *args;

	if (at)
		snprintf(full, sizeof(full), "%.*s%s%s", (int)(at - text), text, t->dir, at + 2);
	last = (struct err)ERR_INIT;
	args = json_from_keyval(at ? full : text, implied, nest, "test", &last);
	cr_assert_not_null(args, "%s", last.text);
	return args;
}

int bt_drive(struct bt *t, const char *text)
{
	json_t *args = parse(t, text, NULL, 0);
	int r = block_drive_add(t->g, args, &last);

	json_decref(args);
	return r;
}

int bt_blockdev(struct bt *t, const char *text)
{
	json_t *args = parse(t, text, "driver", 1);
	int r = block_node_open(t->g, args, NULL, &last);

	json_decref(args);
	return r;
}

const char *bt_error(void)
{
	return last.text;
}

void bt_disk(struct bt *t, uint64_t bytes, const char *more)
{
	char text[512];
	int r;

	bt_file(t, "d0.raw", bytes);
	snprintf(text, sizeof(text), "file=%s/d0.raw,format=raw,if=none,id=d0%s%s", t->dir,
		 *more ? "," : "", more);
	r = bt_drive(t, text);
	cr_assert_eq(r, 0, "%s", bt_error());
	r = drive_open(t->g, "d0", "dev0", DRIVE_OPEN_MAY_WRITE, &t->d, &last);
	cr_assert_eq(r, 0, "%s", bt_error());
}

struct file_node *bt_file_node(struct bt *t)
{
	return (struct file_node *)t->d->node->file.node;
}

static void on_done(struct block_req *r, int ret)
{
	struct bt_req *q = container_of(r, struct bt_req, r);

	q->ret = ret;
	q->done++;
}

void bt_submit(struct bt *t, struct bt_req *q, enum block_op op, uint64_t off, void *buf,
	       size_t len, uint32_t flags)
{
	memset(&q->r, 0, sizeof(q->r));
	q->done = 0;
	q->iov[0] = (struct iovec){ buf, len };
	q->r.op = op;
	q->r.flags = flags;
	q->r.offset = off;
	q->r.bytes = len;
	q->r.iov = buf ? q->iov : NULL;
	q->r.iovcnt = buf ? 1 : 0;
	q->r.done = on_done;
	q->r.loop = t->loop;
	drive_submit(t->d, &q->r);
	cr_assert_eq(q->done, 0, "done was called inside drive_submit()");
}

void bt_wait(struct bt *t, struct bt_req *q)
{
	uint64_t end = clock_ns() + WAIT_NS;

	while (!q->done) {
		loop_turn(t->loop, NS_PER_SEC);
		cr_assert(clock_ns() < end, "the request never ended");
	}
	cr_assert_eq(q->done, 1);
}

int bt_io(struct bt *t, enum block_op op, uint64_t off, void *buf, size_t len, uint32_t flags)
{
	struct bt_req q;

	bt_submit(t, &q, op, off, buf, len, flags);
	bt_wait(t, &q);
	return q.ret;
}
