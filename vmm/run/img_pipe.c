/*
 * vmm/run/img_pipe.c - copy an image's contents with several pieces in flight.
 *
 * Threads: the only one of the process.
 * Missing: nothing known.
 *
 * Callbacks only note that a request has ended; what comes next is decided in one
 * place, advance(), so that planning may wait on the same loop.
 */
#include "vmm/run/img_pipe.h"

#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "vmm/base/util.h"

#define STRETCH		GIB	/* of what is no data */

enum state { FREE, READING, FILLED, WRITING, WRITTEN };

struct piece {
	struct block_req r;
	struct iovec iov;
	uint8_t *buf;
	enum state state;
	enum img_part part;
	uint64_t at, len;
	uint64_t pos;			/* written so far */
	int ret;
};

struct copy {
	struct img_pipe *p;
	struct piece *piece;
	uint64_t end, next;		/* planned so far */
	uint64_t due;			/* when data may be planned again, clock_ns() */
	int ret;
	uint64_t failed_at;
};

/* ---- requests ---- */

static void request_done(struct block_req *r, int ret)
{
	struct piece *s = container_of(r, struct piece, r);

	s->ret = ret;
	s->state = s->state == READING ? FILLED : WRITTEN;
}

static void request(struct copy *c, struct piece *s, const struct img_file *f, enum block_op op,
		    uint64_t pos, uint64_t len)
{
	bool data = op == BLOCK_READ || op == BLOCK_WRITE;

	s->iov = (struct iovec){ s->buf + pos, len };
	s->r = (struct block_req){ .op = op, .flags = data ? 0 : BLOCK_UNMAP,
				   .offset = s->at + pos, .bytes = len, .iov = &s->iov,
				   .iovcnt = data, .done = request_done, .loop = c->p->m->l };
	s->state = op == BLOCK_READ ? READING : WRITING;
	block_start(f->n, &s->r);
}

/* ---- a piece ---- */

static void begin(struct copy *c, struct piece *s, uint64_t len, enum img_part part)
{
	uint64_t bytes = c->p->from->n->bytes;
	uint64_t have = c->next < bytes ? MIN(len, bytes - c->next) : 0;

	s->at = c->next;
	s->len = len;
	s->part = part;
	s->pos = 0;
	s->ret = 0;
	s->state = FILLED;
	if (part != IMG_DATA)
		return;
	memset(s->buf + have, 0, len - have);
	if (have)
		request(c, s, c->p->from, BLOCK_READ, 0, have);
}

/* How many bytes from s->pos on are alike. */
static uint64_t run_of(const struct piece *s, uint64_t sparse, bool *zero)
{
	uint64_t n = 0, unit;

	for (uint64_t at = s->pos; at < s->len; at += unit, n += unit) {
		unit = MIN(s->len - at, sparse);
		if (n == 0)
			*zero = img_is_zero(s->buf + at, unit);
		else if (img_is_zero(s->buf + at, unit) != *zero)
			break;
	}
	return n;
}

/* Write what comes next of the piece. It is FREE when that is nothing. */
static void write_next(struct copy *c, struct piece *s)
{
	struct img_pipe *p = c->p;
	bool zero = s->part == IMG_ZERO;
	uint64_t n;

	while (s->pos < s->len) {
		n = p->sparse && !zero ? run_of(s, p->sparse, &zero) : s->len - s->pos;
		if (!zero || p->zeroes || s->part == IMG_ZERO) {
			request(c, s, p->to, zero ? BLOCK_WRITE_ZEROES : BLOCK_WRITE, s->pos, n);
			s->pos += n;
			return;
		}
		s->pos += n;
		zero = false;
	}
	s->state = FREE;
}

static void write_compressed(struct copy *c, struct piece *s)
{
	struct img_pipe *p = c->p;

	s->ret = image_write_compressed(p->to->n, p->m->l, s->at, s->buf, s->len);
	s->state = FREE;
}

/* Sector by sector: what cannot be read is zero, told once where it begins. */
static void salvage(struct copy *c, struct piece *s)
{
	uint64_t end = MIN(s->len, c->p->from->n->bytes - s->at), n;
	bool told = false;
	int r;

	for (uint64_t pos = 0; pos < end; pos += n) {
		n = MIN(end - pos, (uint64_t)BLOCK_SECTOR);
		r = img_io(c->p->m, c->p->from, BLOCK_READ, 0, s->at + pos, s->buf + pos, n);
		if (r && !told)
			log_warn("error while reading offset %" PRIu64 ": %s; from there on it is zero "
				 "in the copy, up to what can be read", s->at + pos, strerror(-r));
		if (r)
			memset(s->buf + pos, 0, n);
		told = r != 0;
	}
	s->ret = 0;
}

/* Is every piece before @s done with? */
static bool is_first(const struct copy *c, const struct piece *s)
{
	for (uint64_t i = 0; i < c->p->depth; i++)
		if (c->piece[i].state != FREE && c->piece[i].at < s->at)
			return false;
	return true;
}

static void advance(struct copy *c, struct piece *s)
{
	struct img_pipe *p = c->p;

	if (s->state != FILLED && s->state != WRITTEN)
		return;
	if (s->ret && s->state == FILLED && p->salvage)
		salvage(c, s);
	if (s->ret == 0 && c->ret == 0) {
		if (s->state == FILLED && !p->any_order && !is_first(c, s))
			return;
		if (p->compressed && s->part == IMG_DATA)
			write_compressed(c, s);
		else
			write_next(c, s);
	}
	if (s->ret && c->ret == 0) {
		c->ret = s->ret;
		c->failed_at = s->at;
	}
	if (c->ret)
		s->state = FREE;
}

/* ---- all of them ---- */

static struct piece *find(struct copy *c, bool busy)
{
	for (uint64_t i = 0; i < c->p->depth; i++)
		if ((c->piece[i].state != FREE) == busy)
			return &c->piece[i];
	return NULL;
}

/* Each piece of data pays with the time before the next one. */
static void keep_to_rate(struct copy *c, uint64_t n)
{
	uint64_t rate = c->p->m->rate;

	if (rate)
		c->due = MAX(c->due, clock_ns()) + (uint64_t)((double)n * 1e9 / (double)rate);
}

/* Plan until a piece has something to do, or all is planned. */
static void plan(struct copy *c, struct piece *s)
{
	enum img_part part = IMG_SKIP;
	uint64_t n;
	int r;

	for (; c->next < c->end && s->state == FREE; c->next += n) {
		/* Compressed clusters are written whole: no piece ends inside one. */
		n = MIN(c->end - c->next, c->p->compressed ? (uint64_t)IMG_CHUNK : STRETCH);
		r = c->p->plan(c->p, c->next, &n, &part);
		if (r) {
			c->ret = r;
			c->failed_at = c->next;
			return;
		}
		if (part == IMG_DATA)
			n = MIN(n, (uint64_t)IMG_CHUNK);
		if (part != IMG_SKIP)
			begin(c, s, n, part);
		if (part == IMG_DATA)
			keep_to_rate(c, n);
	}
}

static uint64_t done_to(const struct copy *c)
{
	uint64_t at = c->next;

	for (uint64_t i = 0; i < c->p->depth; i++)
		if (c->piece[i].state != FREE)
			at = MIN(at, c->piece[i].at);
	return at;
}

static bool waits(const struct copy *c)
{
	for (uint64_t i = 0; i < c->p->depth; i++)
		if (c->piece[i].state == READING || c->piece[i].state == WRITING)
			return true;
	return false;
}

/* Wait for a request or, where none is under way, until data may be planned again. */
static void wait_turn(struct copy *c)
{
	uint64_t now = clock_ns();
	bool early = !c->ret && c->next < c->end && now < c->due;

	if (waits(c) ? early || c->ret || c->next == c->end || !find(c, false) :
		       early && !find(c, true))
		loop_turn(c->p->m->l, early ? MIN(c->due - now, NS_PER_SEC) : NS_PER_SEC);
}

static void run(struct copy *c)
{
	struct piece *s;

	while ((c->next < c->end && !c->ret) || find(c, true)) {
		while (!c->ret && c->next < c->end && clock_ns() >= c->due && (s = find(c, false)))
			plan(c, s);
		for (uint64_t i = 0; i < c->p->depth; i++)
			advance(c, &c->piece[i]);
		if (!c->ret)
			img_progress(c->p->m, done_to(c), c->end);
		wait_turn(c);
	}
}

int img_pipe_run(struct img_pipe *p, uint64_t end, struct err *e)
{
	struct copy c = { .p = p, .end = end };
	uint8_t *mem;

	if (posix_memalign((void **)&mem, 4096, p->depth * IMG_CHUNK))
		return err_set(e, -ENOMEM, "no memory for %" PRIu64 " pieces of %u MiB", p->depth,
			       IMG_CHUNK >> 20);
	c.piece = xcalloc(p->depth, sizeof(*c.piece));
	for (uint64_t i = 0; i < p->depth; i++)
		c.piece[i].buf = mem + i * IMG_CHUNK;
	run(&c);
	free(c.piece);
	free(mem);
	if (c.ret)
		return err_sys(e, c.ret, "error while %s at offset %" PRIu64, p->doing,
			       c.failed_at);
	return 0;
}
