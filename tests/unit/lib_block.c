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
	bt_open(t, bt_file(t, "d0.raw", bytes), more);
}

void bt_open(struct bt *t, const char *file, const char *more)
{
	char text[512];
	int r;

	snprintf(text, sizeof(text), "file=%s,format=raw,if=none,id=d0%s%s", file,
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

void bt_on_done(struct block_req *r, int ret)
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
	q->r.done = bt_on_done;
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

/* ---- random requests against a shadow ---- */

#define SLOTS	24
#define ROUNDS	1500
#define WINDOW	(256 * 1024u)

struct slot {
	struct bt_req q;		/* first */
	uint8_t *mem;
	uint64_t off;
	size_t len;
	bool busy;
};

static unsigned int seed = 1;

static unsigned int rnd(unsigned int n)
{
	seed = seed * 1664525u + 1013904223u;
	return (seed >> 8) % n;
}

static bool overlaps_busy(const struct slot *s, uint64_t off, size_t len)
{
	for (int i = 0; i < SLOTS; i++)
		if (s[i].busy && off < s[i].off + s[i].len && s[i].off < off + len)
			return true;
	return false;
}

/* Cut the memory into up to 4 entries, @shift bytes off alignment. */
static void cut(struct slot *s, unsigned int shift)
{
	size_t left = s->len, at = 0;
	int n = 0;

	for (; left > 0; n++) {
		size_t part = n == 3 ? left : MIN(left, (size_t)(1 + rnd(8)) * 512);

		s->q.iov[n] = (struct iovec){ s->mem + shift + at, part };
		at += part;
		left -= part;
	}
	s->q.r.iovcnt = n;
}

static void check_read(const struct slot *s, const uint8_t *shadow)
{
	uint8_t *flat = malloc(s->len);

	iov_to_buf(s->q.iov, s->q.r.iovcnt, 0, flat, s->len);
	cr_assert_arr_eq(flat, shadow + s->off, s->len, "wrong data at %lu, %zu bytes",
			 (unsigned long)s->off, s->len);
	free(flat);
}

static void start(struct bt *t, struct slot *s, uint8_t *shadow, unsigned int round,
		  unsigned int shift)
{
	static const enum block_op ops[] = {
		BLOCK_READ, BLOCK_READ, BLOCK_WRITE, BLOCK_WRITE, BLOCK_WRITE_ZEROES
	};
	enum block_op op = ops[rnd(ARRAY_LEN(ops))];

	if (op == BLOCK_WRITE)
		for (size_t i = 0; i < s->len; i++)
			s->mem[shift + i] = shadow[s->off + i] = bt_byte(s->off + i, round);
	if (op == BLOCK_WRITE_ZEROES)
		memset(shadow + s->off, 0, s->len);
	memset(&s->q.r, 0, sizeof(s->q.r));
	cut(s, shift);
	s->q.r.op = op;
	s->q.r.flags = rnd(4) == 0 && op != BLOCK_READ ? BLOCK_FUA : 0;
	s->q.r.flags |= rnd(2) ? BLOCK_UNMAP : 0;
	s->q.r.offset = s->off;
	s->q.r.bytes = s->len;
	s->q.r.iov = s->q.iov;
	s->q.r.loop = t->loop;
	s->q.r.done = bt_on_done;
	s->q.done = 0;
	s->busy = true;
	drive_submit(t->d, &s->q.r);
}

static void reap(struct slot *slots, uint8_t *shadow)
{
	for (int i = 0; i < SLOTS; i++) {
		struct slot *s = &slots[i];

		if (!s->busy || !s->q.done)
			continue;
		cr_assert_eq(s->q.ret, 0, "op %d at %lu: %d", s->q.r.op, (unsigned long)s->off,
			     s->q.ret);
		if (s->q.r.op == BLOCK_READ)
			check_read(s, shadow);
		s->busy = false;
	}
}

void bt_integrity(struct bt *t, unsigned int shift, unsigned int max_sectors)
{
	struct slot *slots = calloc(SLOTS, sizeof(*slots));
	uint8_t *shadow = malloc(WINDOW), *back = malloc(WINDOW);
	unsigned int round = 0;

	for (size_t i = 0; i < WINDOW; i++)
		shadow[i] = bt_byte(i, 0);
	for (int i = 0; i < SLOTS; i++)
		cr_assert_eq(posix_memalign((void **)&slots[i].mem, 4096,
					    512 * max_sectors + 4096), 0);
	while (round < ROUNDS) {
		struct slot *s = &slots[rnd(SLOTS)];
		size_t len = 512 * (1 + (size_t)rnd(max_sectors));
		uint64_t off = 512 * (uint64_t)rnd((unsigned int)((WINDOW - len) / 512 + 1));

		if (!s->busy && !overlaps_busy(slots, off, len)) {
			s->off = off;
			s->len = len;
			start(t, s, shadow, ++round, shift);
		} else {
			loop_turn(t->loop, NS_PER_MS);
		}
		reap(slots, shadow);
	}
	while (drive_totals(t->d).inflight)
		loop_turn(t->loop, NS_PER_SEC);
	reap(slots, shadow);
	cr_assert_eq(bt_io(t, BLOCK_READ, 0, back, WINDOW, 0), 0);
	cr_assert_arr_eq(back, shadow, WINDOW, "the disk differs at the end");
	cr_assert_eq(drive_totals(t->d).errors[BLOCK_WRITE], 0);
	for (int i = 0; i < SLOTS; i++)
		free(slots[i].mem);
	free(slots);
	free(shadow);
	free(back);
}
