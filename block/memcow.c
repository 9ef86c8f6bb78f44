/*
 * block/memcow.c - copy-on-write in memory: a disk whose writes are forgotten.
 *
 * What is written stays in memory above a node that is only read, so many
 * guests may start from one image at once, and block_memcow_reset() gives a
 * test the disk as it was. It is for tests: what is written is as durable as
 * this process.
 *
 * Spec:    own.
 * Threads: requests on any loop; chunks are under the node's lock, which is a
 *          leaf and held for the copy of one request.
 * Missing: giving memory back when the guest discards.
 *
 * Memory is in chunks of 64 KiB with a bit per sector that says whether it was
 * written; no chunk is read from below to be filled up. A chunk without data
 * reads as zeroes where its bits are set: zeroing costs no memory. A read of
 * both kinds of sectors reads all from below and then lays the written ones
 * over it.
 */
#include "block/memcow.h"

#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>

#include "block/graph.h"
#include "vmm/base/util.h"

#define CHUNK_BYTES	(64 * KIB)
#define CHUNK_SECTORS	(CHUNK_BYTES / BLOCK_SECTOR)
#define TABLE_CHUNKS	1024ull			/* 64 MiB of disk */
#define TABLE_BYTES	(TABLE_CHUNKS * CHUNK_BYTES)

struct chunk {
	uint64_t written[CHUNK_SECTORS / 64];	/* bit per sector */
	uint8_t *data;				/* NULL: zeroes */
};

struct table {
	struct chunk *chunk[TABLE_CHUNKS];
};

struct memcow_node {
	struct block_node n;	/* first */
	uint64_t limit;		/* property */
	json_t *file;		/* listed for help; the graph opens it */
	pthread_mutex_t lock;
	/* lock */
	struct table **table;	/* tables entries */
	uint64_t tables;
	uint64_t used;		/* bytes allocated for tables, chunks and data */
};

static const struct prop memcow_props[] = {
	PROP_JSON(struct memcow_node, file, "file",
		  "the node below, which is only read: a node-name, or an object with its "
		  "options"),
	PROP_SIZE(struct memcow_node, limit, "limit", MIB, INT64_MAX, 256 * MIB,
		  "memory that writes may take; more fail with ENOSPC", .unit = "bytes"),
	PROP_END
};

/* ---- chunks ---- */

static void *take(struct memcow_node *m, size_t bytes)
{
	void *p;

	if (bytes > m->limit || m->used > m->limit - bytes)
		return NULL;
	p = calloc(1, bytes);
	if (p)
		m->used += bytes;
	return p;
}

static struct chunk *chunk_at(const struct memcow_node *m, uint64_t off)
{
	const struct table *t = m->table[off / TABLE_BYTES];

	return t ? t->chunk[off / CHUNK_BYTES % TABLE_CHUNKS] : NULL;
}

/* The chunk of @off, made if need be; NULL: over the limit. */
static struct chunk *chunk_get(struct memcow_node *m, uint64_t off, bool with_data)
{
	struct table **t = &m->table[off / TABLE_BYTES];
	struct chunk **c;

	if (!*t)
		*t = take(m, sizeof(**t));
	if (!*t)
		return NULL;
	c = &(*t)->chunk[off / CHUNK_BYTES % TABLE_CHUNKS];
	if (!*c)
		*c = take(m, sizeof(**c));
	if (*c && with_data && !(*c)->data)
		(*c)->data = take(m, CHUNK_BYTES);
	return *c && with_data && !(*c)->data ? NULL : *c;
}

static void table_free(struct table *t)
{
	for (uint64_t i = 0; t && i < TABLE_CHUNKS; i++) {
		if (t->chunk[i])
			free(t->chunk[i]->data);
		free(t->chunk[i]);
	}
	free(t);
}

static bool is_written(const struct chunk *c, uint64_t sector)
{
	return c && (c->written[sector / 64] & BIT64(sector % 64));
}

/* Equal sectors from @off on, within @end and the chunk: how many bytes, and
 * whether they were written. */
static uint64_t run(const struct memcow_node *m, uint64_t off, uint64_t end, bool *written)
{
	const struct chunk *c = chunk_at(m, off);
	uint64_t stop = MIN(end, align_down(off, CHUNK_BYTES) + CHUNK_BYTES);
	uint64_t at = off / BLOCK_SECTOR % CHUNK_SECTORS, n;

	*written = is_written(c, at);
	if (!c)
		return stop - off;
	for (n = BLOCK_SECTOR; off + n < stop; n += BLOCK_SECTOR)
		if (is_written(c, at + n / BLOCK_SECTOR) != *written)
			break;
	return MIN(n, stop - off);
}

/* ---- requests ---- */

enum where { ALL_BELOW, ALL_HERE, MIXED };

/* Under the lock. */
static enum where look(const struct memcow_node *m, const struct block_req *r)
{
	uint64_t off = r->now.offset, end = off + r->bytes;
	bool here = false, below = false, written;

	while (off < end) {
		off += run(m, off, end, &written);
		here |= written;
		below |= !written;
	}
	return here && below ? MIXED : here ? ALL_HERE : ALL_BELOW;
}

/* Under the lock: written sectors over the caller's buffers. */
static void copy_out(const struct memcow_node *m, const struct block_req *r, uint64_t start)
{
	uint64_t off = start, end = start + r->bytes, n;
	const struct chunk *c;
	bool written;

	for (; off < end; off += n) {
		n = run(m, off, end, &written);
		if (!written)
			continue;
		c = chunk_at(m, off);
		if (c->data)
			iov_from_buf(r->iov, r->iovcnt, off - start, c->data + off % CHUNK_BYTES,
				     n);
		else
			iov_zero(r->iov, r->iovcnt, off - start, n);
	}
}

struct mixed {
	struct block_frame frame;	/* first */
	struct memcow_node *m;
};

static void mixed_done(struct block_req *r, int ret)
{
	struct mixed *x = container_of(block_pop(r), struct mixed, frame);
	struct memcow_node *m = x->m;

	free(x);
	if (ret == 0) {
		pthread_mutex_lock(&m->lock);
		copy_out(m, r, r->now.offset);
		pthread_mutex_unlock(&m->lock);
	}
	block_done(r, ret);
}

static void memcow_read(struct memcow_node *m, struct block_req *r)
{
	struct mixed *x;
	enum where w;

	pthread_mutex_lock(&m->lock);
	w = look(m, r);
	if (w == ALL_HERE)
		copy_out(m, r, r->now.offset);
	pthread_mutex_unlock(&m->lock);
	if (w == ALL_HERE) {
		block_done_later(r, 0);
		return;
	}
	if (w == MIXED) {
		x = malloc(sizeof(*x));
		if (!x) {
			block_done_later(r, -ENOMEM);
			return;
		}
		x->m = m;
		block_push(r, &x->frame, mixed_done);
	}
	block_submit(m->n.file.node, r);
}

static void mark(struct chunk *c, uint64_t off, uint64_t n)
{
	uint64_t s = off / BLOCK_SECTOR % CHUNK_SECTORS;

	for (uint64_t i = 0; i < n / BLOCK_SECTOR; i++, s++)
		c->written[s / 64] |= BIT64(s % 64);
}

/* @zero: no data. A part may be written when the limit ends it, as on a disk
 * that fills up. */
static int write_chunks(struct memcow_node *m, const struct block_req *r, bool zero)
{
	uint64_t off = r->now.offset, end = off + r->bytes, n;
	struct chunk *c;

	for (; off < end; off += n) {
		n = MIN(end - off, CHUNK_BYTES - off % CHUNK_BYTES);
		c = chunk_get(m, off, !zero);
		if (!c)
			return -ENOSPC;
		if (zero && c->data)
			memset(c->data + off % CHUNK_BYTES, 0, n);
		else if (!zero)
			iov_to_buf(r->iov, r->iovcnt, off - r->now.offset,
				   c->data + off % CHUNK_BYTES, n);
		mark(c, off, n);
	}
	return 0;
}

static void memcow_write(struct memcow_node *m, struct block_req *r, bool zero)
{
	int ret;

	pthread_mutex_lock(&m->lock);
	ret = write_chunks(m, r, zero);
	pthread_mutex_unlock(&m->lock);
	block_done_later(r, ret);
}

static void memcow_submit(struct block_node *n, struct block_req *r)
{
	struct memcow_node *m = (struct memcow_node *)n;

	switch (r->now.op) {
	case BLOCK_READ:
		memcow_read(m, r);
		break;
	case BLOCK_WRITE:
	case BLOCK_WRITE_ZEROES:
		memcow_write(m, r, r->now.op == BLOCK_WRITE_ZEROES);
		break;
	default:	/* nothing is on its way anywhere; a discard is advice */
		block_done_later(r, 0);
	}
}

/* ---- reset ---- */

static void forget(struct memcow_node *m)
{
	for (uint64_t i = 0; m->table && i < m->tables; i++) {
		table_free(m->table[i]);
		m->table[i] = NULL;
	}
	m->used = 0;
}

/* The memcow node at or below @n. */
static struct memcow_node *find(struct block_node *n)
{
	for (; n; n = n->file.node)
		if (n->drv == &block_driver_memcow)
			return (struct memcow_node *)n;
	return NULL;
}

int block_memcow_reset(struct block_node *n, struct err *e)
{
	struct memcow_node *m = find(n);

	if (!m)
		return err_set(e, -EINVAL, "disk '%.64s' does not keep its writes in memory; add "
			       "snapshot=on to its -drive, or use driver=memcow in -blockdev",
			       n->name);
	pthread_mutex_lock(&m->lock);
	forget(m);
	pthread_mutex_unlock(&m->lock);
	return 0;
}

int64_t block_memcow_used(struct block_node *n)
{
	struct memcow_node *m = find(n);
	int64_t used;

	if (!m)
		return -1;
	pthread_mutex_lock(&m->lock);
	used = (int64_t)m->used;
	pthread_mutex_unlock(&m->lock);
	return used;
}

/* ---- life ---- */

static int memcow_open(struct block_node *n, struct err *e)
{
	struct memcow_node *m = (struct memcow_node *)n;
	const struct block_node *file = n->file.node;

	pthread_mutex_init(&m->lock, NULL);
	if (file->bytes % BLOCK_SECTOR)
		return err_set(e, -EINVAL, "%s is %" PRIu64 " bytes long, which is no multiple of "
			       "%d", file->filename ? file->filename : file->name, file->bytes,
			       BLOCK_SECTOR);
	n->bytes = file->bytes;
	n->request_align = file->request_align;
	n->discard_align = BLOCK_SECTOR;
	n->filename = file->filename;
	m->tables = n->bytes / TABLE_BYTES + 1;
	m->table = calloc(m->tables, sizeof(*m->table));
	if (!m->table)
		return err_set(e, -ENOMEM, "no memory for the map of %" PRIu64 " bytes", n->bytes);
	return 0;
}

static void memcow_close(struct block_node *n)
{
	struct memcow_node *m = (struct memcow_node *)n;

	forget(m);
	free(m->table);
	pthread_mutex_destroy(&m->lock);
}

/* Whatever is done up here, below it is only read, and must not change. */
static int memcow_set_perm(struct block_node *n, uint32_t perm, uint32_t shared, struct err *e)
{
	if (!perm)
		return block_reattach(&n->file, 0, BLOCK_PERM_ALL, e);
	return block_reattach(&n->file, BLOCK_PERM_READ,
			      BLOCK_PERM_READ | BLOCK_PERM_WRITE_UNCHANGED, e);
}

const struct block_driver block_driver_memcow = {
	.name = "memcow", .help = "the node below, with what is written kept in memory",
	.size = sizeof(struct memcow_node), .props = memcow_props,
	.open = memcow_open, .close = memcow_close, .submit = memcow_submit,
	.set_perm = memcow_set_perm,
};
