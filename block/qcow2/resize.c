/*
 * block/qcow2/resize.c - another length: growth of a disk in use, and tools.
 *
 * Spec:    docs/interop/qcow2.txt, "s Header"; QEMU qapi/block-core.json
 *          (block_resize).
 * Threads: a thread of the caller's that may wait (q2_set_length()), with the
 *          worker for what changes metadata; image_resize() alone.
 * Missing: shrinking in use.
 *
 * Growth in use takes three steps, and a crash between any two writes leaves an
 * image of the old or the new length:
 *
 *  1. where L1 is too small: clusters for a larger one, their counts durable; the
 *     table durable; then the header's sector, which names it with the old
 *     length; only then the old table is free
 *  2. what lies behind the old end becomes zeroes, by ordinary requests that order
 *     themselves with the guest's: the rest of the last cluster, what a longer
 *     backing file has, and entries that somebody left there
 *  3. all of that durable; then the header's sector with the new length
 */
#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>

#include "block/image.h"
#include "block/qcow2/qcow2.h"

TRACE_DEFINE(qcow2_resize);

static uint64_t l1_entries(const struct q2 *q, uint64_t bytes)
{
	uint64_t per = BIT64(q->cb + q->l2_bits);

	return bytes / per + (bytes % per != 0);
}

static uint32_t l1_clusters(const struct q2 *q, uint32_t entries)
{
	return (uint32_t)(align_up(entries * 8ull, q->cs) >> q->cb);
}

/* What the format allows. */
static int check_size(const struct q2 *q, uint64_t bytes, struct err *e)
{
	if (q->h.nb_snapshots && q->h.version < 3)
		return err_set(e, -ENOTSUP, "Can't resize a version 2 image which has snapshots");
	if (bytes > INT64_MAX || l1_entries(q, bytes) > L1_BYTES_MAX / 8)
		return err_set(e, -EFBIG, "%" PRIu64 " bytes are too large for clusters of %" PRIu64
			       " bytes", bytes, q->cs);
	return 0;
}

/* The header has this table and length, durably. When that fails it may have them or
 * not, and the next flush sees to it that it has not. */
static int switch_header(struct q2 *q, uint64_t l1_offset, uint32_t l1_size, uint64_t bytes)
{
	struct q2_header old;
	int r;

	pthread_mutex_lock(&q->meta);
	old = q->h;
	q->h.l1_offset = l1_offset;
	q->h.l1_size = l1_size;
	q->h.size = bytes;
	r = q2_header_write(q, q2_wloop(q));
	if (r == 0)
		r = q2_sync_io(q, q2_wloop(q), BLOCK_FLUSH, 0, NULL, 0);
	if (r) {
		q->h.l1_offset = old.l1_offset;
		q->h.l1_size = old.l1_size;
		q->h.size = old.size;
		q->header_unsure = true;
		atomic_fetch_add(&q->gen, 1);
	}
	pthread_mutex_unlock(&q->meta);
	return r;
}

/* A table of @entries at @host, beginning with what the disk's has. */
static int write_l1_at(struct q2 *q, uint64_t host, uint32_t entries)
{
	uint64_t bytes = align_up(entries * 8ull, q->cs);
	uint64_t *raw = sparse_map(bytes);
	int r;

	if (!raw)
		return -ENOMEM;
	for (uint32_t i = 0; i < q->h.l1_size; i++)
		if (q->l1_disk[i])
			put_be64(&raw[i], q->l1_disk[i]);
	r = q2_sync_io(q, q2_wloop(q), BLOCK_WRITE, host, raw, bytes);
	sparse_unmap(raw, bytes);
	return r ? r : q2_sync_io(q, q2_wloop(q), BLOCK_FLUSH, 0, NULL, 0);
}

/* A larger L1 table elsewhere. On the worker, or alone: no flush runs meanwhile. */
static int grow_l1(struct q2 *q, uint32_t entries)
{
	uint32_t n = l1_clusters(q, entries), gone = n;
	uint64_t old = q->h.l1_offset, host;
	uint32_t old_clusters = l1_clusters(q, q->h.l1_size);
	int r;

	pthread_mutex_lock(&q->meta);
	r = q2_alloc_run(q, n, &host);
	if (r == 0)
		q2_mark_meta(q, host, (uint64_t)n << q->cb, true);
	pthread_mutex_unlock(&q->meta);
	if (r)
		return r;
	r = q2_flush_meta(q);
	if (r == 0)
		r = write_l1_at(q, host, entries);
	if (r == 0)
		r = switch_header(q, host, entries, q->h.size);
	if (r == 0) {
		host = old;
		gone = old_clusters;
	}
	/* The table that the header does not name, once that is durable. */
	pthread_mutex_lock(&q->meta);
	q2_mark_meta(q, host, (uint64_t)gone << q->cb, false);
	if (gone)
		q2_free_later(q, host, gone);
	pthread_mutex_unlock(&q->meta);
	return r;
}

/* ---- in use ---- */

struct growth {
	uint64_t bytes;
	uint32_t entries;
};

static int grow_tables(struct q2 *q, void *arg)
{
	const struct growth *g = arg;
	int r = g->entries > q->h.l1_size ? grow_l1(q, g->entries) : 0;

	pthread_mutex_lock(&q->meta);
	if (r == 0)
		q->tables = MAX(q->tables, g->entries);
	pthread_mutex_unlock(&q->meta);
	return r;
}

static int tell_size(struct q2 *q, void *arg)
{
	const struct growth *g = arg;
	int r = q2_flush_meta(q);

	return r ? r : switch_header(q, q->h.l1_offset, q->h.l1_size, g->bytes);
}

static int zero(struct block_node *n, struct loop *l, uint64_t pos, uint64_t end)
{
	return pos < end ? block_io_wait(n, l, BLOCK_WRITE_ZEROES, BLOCK_UNMAP, pos, NULL, 0,
					 end - pos) : 0;
}

/* An external data file may be longer than the disk, with anything there. */
static int grow_data(struct q2 *q, struct loop *l, uint64_t bytes)
{
	struct block_node *d = q->n.data.node;
	int r = zero(d, l, q->n.bytes, MIN((uint64_t)d->bytes, bytes));

	if (r == 0 && d->bytes < bytes)
		r = d->drv->set_length ? d->drv->set_length(d, bytes) : -ENOSPC;
	return r;
}

/* Behind the old end, up to @bytes, the disk reads as zeroes. */
static int clear_behind(struct q2 *q, struct loop *l, uint64_t bytes)
{
	struct block_node *d = q->n.data.node;
	uint64_t pos = align_up(q->n.bytes, q->cs), end = d ? bytes : align_up(bytes, q->cs);
	uint64_t per = BIT64(q->cb + q->l2_bits), next;
	int r = d ? grow_data(q, l, bytes) : 0;

	atomic_store(&q->reach, end);
	if (r == 0)
		r = zero(&q->n, l, q->n.bytes, MIN(pos, end));
	for (; pos < end && r == 0; pos = next) {
		next = MIN(align_down(pos, per) + per, end);
		/* Most tables of a large disk do not exist. */
		if (atomic_load(&q->l1[pos / per]) || q2_backed(q, pos))
			r = zero(&q->n, l, pos, next);
	}
	return r;
}

int q2_check_length(const struct block_node *n, uint64_t bytes, struct err *e)
{
	const struct q2 *q = (const struct q2 *)n;
	int r;

	if (bytes < n->bytes)
		return err_set(e, -ENOTSUP, "node '%s' (qcow2) is %" PRIu64 " bytes long and can only "
			       "grow while it is in use; shrink the image with 'roost img resize "
			       "--shrink' when no VM has it", n->name, (uint64_t)n->bytes);
	r = check_size(q, bytes, e);
	if (r)
		return r;
	if (l1_entries(q, bytes) > q->table_room)
		return err_set(e, -EFBIG, "node '%s' can grow to %" PRIu64 " bytes at most while it "
			       "is in use; use 'roost img resize' when no VM has it", n->name,
			       (uint64_t)q->table_room << (q->cb + q->l2_bits));
	return 0;
}

int q2_set_length(struct block_node *n, uint64_t bytes)
{
	struct q2 *q = (struct q2 *)n;
	struct growth g = { bytes, (uint32_t)l1_entries(q, bytes) };
	struct loop *l = NULL;
	int r = q2_check_length(n, bytes, NULL);

	if (r || bytes == n->bytes)
		return r;
	if (!q->thread_runs)
		return -EROFS;		/* nobody asked for BLOCK_PERM_RESIZE */
	r = loop_create(&l, "resize", LOOP_AIO_AUTO, NULL);
	if (r == 0)
		r = q2_worker_call(q, grow_tables, &g);
	if (r == 0)
		r = clear_behind(q, l, bytes);
	if (r == 0)
		r = q2_worker_call(q, tell_size, &g);
	if (r == 0) {
		/* Under meta: zero.c looks whether the last cluster is still that. */
		pthread_mutex_lock(&q->meta);
		n->bytes = bytes;
		pthread_mutex_unlock(&q->meta);
	}
	atomic_store(&q->reach, n->bytes);
	loop_destroy(l);
	trace(qcow2_resize, "%s to %" PRIu64 " bytes: %d", n->name, bytes, r);
	return r;
}

/* ---- tools ---- */

/* The node is of no more use afterwards: its tables have the old size. */
int image_resize(struct block_node *n, struct loop *l, uint64_t bytes, struct err *e)
{
	struct q2 *q = (struct q2 *)n;
	uint64_t entries;
	int r;

	if (!node_is_qcow2(n)) {
		r = n->drv->set_length ? n->drv->set_length(n, bytes) : -ENOTSUP;
		return r ? err_sys(e, r, "the size cannot be changed") : 0;
	}
	r = check_size(q, bytes, e);
	if (r)
		return r;
	entries = l1_entries(q, bytes);
	q2_worker_stop(q);
	r = q2_flush_meta(q);
	if (r == 0 && entries > q->h.l1_size)
		r = grow_l1(q, (uint32_t)entries);
	if (r == 0)
		r = switch_header(q, q->h.l1_offset, q->h.l1_size, bytes);
	return r ? err_sys(e, r, "the image cannot be resized") : 0;
}
