/*
 * block/qcow2/alloc.c - free host clusters: finding, freeing, waiting.
 *
 * Spec:    docs/interop/qcow2.txt, "s Host cluster management".
 * Threads: under meta.
 * Missing: nothing known.
 *
 * A cluster that is freed keeps its refcount until a flush has made durable
 * that nothing on the disk refers to it, and until every request that may
 * still write to it has ended. A crash before that leaks it, no more.
 */
#include "block/qcow2/qcow2.h"

#include <errno.h>
#include <inttypes.h>

/* The file grows in such steps: one system call for many clusters. What is too
 * much is cut off at the end. */
#define GROW_BYTES	(8 * MIB)

void q2_mark_meta(struct q2 *q, uint64_t off, uint64_t bytes, bool on)
{
	for (uint64_t c = off >> q->cb; bytes && c <= (off + bytes - 1) >> q->cb; c++) {
		if (c >= q->meta_map_bits)
			break;
		if (on)
			bit_set(q->meta_map, c);
		else
			bit_clear(q->meta_map, c);
	}
}

bool q2_is_meta(const struct q2 *q, uint64_t off, uint64_t bytes)
{
	for (uint64_t c = off >> q->cb; bytes && c <= (off + bytes - 1) >> q->cb; c++)
		if (c < q->meta_map_bits && bit_get(q->meta_map, c))
			return true;
	return false;
}

static bool can_grow(const struct q2 *q)
{
	const struct block_node *f = q->n.file.node;

	return f->drv->set_length && f->drv != &block_driver_host_device;
}

/* The file reaches to @end. */
static int extend(struct q2 *q, uint64_t end, bool may_block)
{
	struct block_node *f = q->n.file.node;
	uint64_t step = align_up(end, GROW_BYTES);
	int r;

	if (end <= atomic_load(&q->file_len))
		return 0;
	if (!can_grow(q))
		return -ENOSPC;
	if (!may_block)
		return Q2_BLOCK;
	r = f->drv->set_length(f, step);
	if (r) {	/* a limit of the file system may lie between */
		step = end;
		r = f->drv->set_length(f, step);
	}
	if (r == 0)
		atomic_store(&q->file_len, step);
	return r;
}

/* Block @i does not exist: cluster @c, the first free one of its range, becomes
 * it, and counts itself. */
static int new_block(struct q2 *q, uint64_t i, uint64_t c, bool may_block)
{
	int r;

	if (q2_is_meta(q, c << q->cb, q->cs))
		return q2_corrupt(q, c << q->cb, "refcount (of metadata) 0");
	r = extend(q, (c + 1) << q->cb, may_block);
	if (r)
		return r;
	memset(q2_rb(q, i), 0, q->cs);
	q2_refblock_set(q2_rb(q, i), c % q->rb_count, q->h.refcount_order, 1);
	q->rt[i] = c << q->cb;
	q->rbt[i].state = TAB_LOADED;
	bit_set(q->rt_dirty, i / (BLOCK_SECTOR / 8));
	q->rt_any = true;
	q2_rb_dirty(q, (uint32_t)i, 0, (uint32_t)(q->cs / BLOCK_SECTOR));
	q2_mark_meta(q, c << q->cb, q->cs, true);
	q->virgin = MAX(q->virgin, c + 1);
	atomic_fetch_add(&q->gen, 1);
	return 0;
}

/* Clusters for a table of @entries behind everything that the present one
 * covers, and blocks that count both. Returns the number of blocks. */
static uint64_t plan_growth(const struct q2 *q, uint64_t entries)
{
	uint64_t table = (entries * 8 + q->cs - 1) >> q->cb, blocks = 1;

	while (blocks * q->rb_count < blocks + table)
		blocks++;
	return blocks;
}

/* Blocks [i, i + n) count the @used clusters from where they begin. */
static int grow_blocks(struct q2 *q, uint64_t i, uint64_t n, uint64_t used)
{
	uint64_t first = i * q->rb_count;
	int r = 0;

	for (uint64_t k = 0; k < n && r == 0; k++) {
		memset(q2_rb(q, i + k), 0, q->cs);
		for (uint64_t c = 0; c < q->rb_count && k * q->rb_count + c < used; c++)
			q2_refblock_set(q2_rb(q, i + k), c, q->h.refcount_order, 1);
		r = q2_sync_io(q, q2_wloop(q), BLOCK_WRITE, (first + k) << q->cb, q2_rb(q, i + k),
			       q->cs);
	}
	return r;
}

/* The header's fields of the table change in one sector. A flush makes that durable
 * before anything that the new table alone counts is exposed, and before the old
 * one's clusters are free. */
static int switch_table(struct q2 *q, uint64_t off, uint64_t entries, uint64_t table)
{
	struct q2_header old = q->h;
	int r;

	r = q2_sync_io(q, q2_wloop(q), BLOCK_FLUSH, 0, NULL, 0);
	if (r)
		return r;
	q->h.reftable_offset = off;
	q->h.reftable_clusters = (uint32_t)table;
	r = q2_header_write(q, q2_wloop(q));
	if (r) {
		/* What fails may have reached the disk all the same. */
		q->h = old;
		q2_header_write(q, q2_wloop(q));
		return r;
	}
	q2_mark_meta(q, off, table << q->cb, true);
	q2_mark_meta(q, old.reftable_offset, (uint64_t)old.reftable_clusters << q->cb, false);
	q2_free_later(q, old.reftable_offset, old.reftable_clusters);
	q->rt_entries = (uint32_t)entries;
	return 0;
}

/* "The refcount table … needs to be contiguous": a larger one is written
 * elsewhere, then the header points to it. */
static int grow_table(struct q2 *q)
{
	uint64_t first = q->rt_entries * q->rb_count, blocks, table, entries, off, i;
	uint64_t *raw;
	int r;

	entries = align_up(q->rt_entries + q->rt_entries / 2 + 8, q->cs / 8);
	blocks = plan_growth(q, entries);
	entries = MAX(entries, align_up(q->rt_entries + blocks, q->cs / 8));
	table = entries * 8 >> q->cb;
	blocks = plan_growth(q, entries);
	if (q->rt_entries + blocks > q->rt_max || entries * 8 > REFTABLE_BYTES_MAX)
		return -EFBIG;
	off = (first + blocks) << q->cb;
	if (q2_is_meta(q, first << q->cb, (blocks + table) << q->cb))
		return q2_corrupt(q, first << q->cb, "refcount (of metadata) 0");
	r = extend(q, off + (table << q->cb), true);
	/* The new table points to all blocks: they come first. */
	if (r == 0)
		r = q2_write_refblocks(q);
	if (r)
		return r;
	r = grow_blocks(q, q->rt_entries, blocks, blocks + table);
	raw = sparse_map(table << q->cb);
	if (!raw)
		return -ENOMEM;
	for (i = 0; i < q->rt_entries; i++)
		put_be64(&raw[i], q->rt[i]);
	for (i = 0; i < blocks; i++)
		put_be64(&raw[q->rt_entries + i], (first + i) << q->cb);
	if (r == 0)
		r = q2_sync_io(q, q2_wloop(q), BLOCK_WRITE, off, raw, table << q->cb);
	sparse_unmap(raw, table << q->cb);
	/* Until then nothing points there: the next try does it all again. */
	if (r == 0)
		r = switch_table(q, off, entries, table);
	for (i = 0; i < blocks && r == 0; i++) {
		q->rt[first / q->rb_count + i] = (first + i) << q->cb;
		q->rbt[first / q->rb_count + i].state = TAB_LOADED;
		q2_mark_meta(q, (first + i) << q->cb, q->cs, true);
	}
	q->virgin = MAX(q->virgin, first + blocks + table);
	return r;
}

/* Free clusters of block @i from *@c on: their number up to @want; 0: none,
 * and *@c is behind the block. */
static uint32_t scan_block(const struct q2 *q, uint64_t i, uint64_t *c, uint32_t want)
{
	uint64_t end = (i + 1) * q->rb_count, k = *c;
	uint32_t n = 0;

	for (; k < end && n < want; k++) {
		if (q2_refblock_get(q2_rb(q, i), k % q->rb_count, q->h.refcount_order) == 0)
			n++;
		else if (n)
			break;
	}
	*c = k - n;
	return n;
}

/* The refcount blocks at and behind q->cursor are in memory as far as the first
 * free cluster; *@c and *@n tell where it is. */
static int find_free(struct q2 *q, uint64_t *c, uint32_t *n, uint32_t want, bool may_block)
{
	uint64_t i;
	int r;

	for (*c = MAX(q->cursor, (uint64_t)1); ; ) {
		i = *c / q->rb_count;
		if (i >= q->rt_max)
			return -EFBIG;
		if (i >= q->rt_entries) {
			if (!may_block)
				return Q2_BLOCK;
			r = grow_table(q);
		} else if (!q->rt[i]) {
			r = new_block(q, i, *c, may_block);
		} else {
			r = q2_rb_need(q, i, may_block);
		}
		if (r)
			return r;
		*n = scan_block(q, i, c, want);
		if (*n)
			return 0;
		q->cursor = *c;
	}
}

int q2_alloc(struct q2 *q, uint32_t want, uint64_t *host, uint32_t *got, bool *fresh,
	     bool may_block)
{
	uint64_t c;
	uint32_t n, order = q->h.refcount_order;
	int r = find_free(q, &c, &n, want, may_block);

	if (r == 0 && (c + n) << q->cb > ENTRY_OFFSET)
		r = -EFBIG;
	if (r == 0 && q2_is_meta(q, c << q->cb, (uint64_t)n << q->cb))
		r = q2_corrupt(q, c << q->cb, "refcount (of metadata) 0");
	if (r == 0)
		r = extend(q, (c + n) << q->cb, may_block);
	if (r)
		return r;
	for (uint32_t k = 0; k < n; k++) {
		uint64_t at = (c + k) % q->rb_count;

		q2_refblock_set(q2_rb(q, c / q->rb_count), at, order, 1);
		q2_rb_dirty(q, (uint32_t)(c / q->rb_count),
			    (uint32_t)((at << order) / 8 / BLOCK_SECTOR), 1);
	}
	atomic_fetch_add(&q->gen, 1);
	*fresh = c >= q->virgin && can_grow(q);
	q->virgin = MAX(q->virgin, c + n);
	q->cursor = c + n;
	*host = c << q->cb;
	*got = n;
	return 0;
}

/* @n entries of the refcount table in a row, for clusters that were never used, that
 * have no block yet. */
static int empty_entries(struct q2 *q, uint64_t n, uint64_t *first)
{
	uint64_t i = (q->virgin + q->rb_count - 1) / q->rb_count, k = 0;
	int r;

	while (k < n) {
		if (i + n > q->rt_max)
			return -EFBIG;
		if (i + n > q->rt_entries) {
			r = grow_table(q);
			if (r)
				return r;
			k = 0;
		} else if (q->rt[i + k]) {
			i += k + 1;
			k = 0;
		} else {
			k++;
		}
	}
	*first = i;
	return 0;
}

/* Room that has blocks of its own: @want clusters behind everything, and the blocks
 * before them. */
static int alloc_behind(struct q2 *q, uint64_t want, uint64_t *host)
{
	uint64_t blocks = (want + q->rb_count - 2) / (q->rb_count - 1), n = blocks + want, i, c;
	int r = empty_entries(q, blocks, &i);

	if (r)
		return r;
	c = i * q->rb_count;
	if ((c + n) << q->cb > ENTRY_OFFSET)
		return -EFBIG;
	if (q2_is_meta(q, c << q->cb, n << q->cb))
		return q2_corrupt(q, c << q->cb, "refcount (of metadata) 0");
	r = extend(q, (c + n) << q->cb, true);
	if (r)
		return r;
	for (uint64_t k = 0; k < blocks; k++) {
		memset(q2_rb(q, i + k), 0, q->cs);
		for (uint64_t at = 0; at < q->rb_count && k * q->rb_count + at < n; at++)
			q2_refblock_set(q2_rb(q, i + k), at, q->h.refcount_order, 1);
		q->rt[i + k] = (c + k) << q->cb;
		q->rbt[i + k].state = TAB_LOADED;
		bit_set(q->rt_dirty, (i + k) / (BLOCK_SECTOR / 8));
		q2_rb_dirty(q, (uint32_t)(i + k), 0, (uint32_t)(q->cs / BLOCK_SECTOR));
	}
	q->rt_any = true;
	q2_mark_meta(q, c << q->cb, blocks << q->cb, true);
	q->virgin = c + n;
	atomic_fetch_add(&q->gen, 1);
	*host = (c + blocks) << q->cb;
	return 0;
}

int q2_alloc_run(struct q2 *q, uint32_t want, uint64_t *host)
{
	uint32_t got = 0;
	bool fresh;
	int r = 0;

	/* A new block counts itself: no run within one is longer than the rest. */
	if (want >= q->rb_count)
		return alloc_behind(q, want, host);
	while (r == 0 && got < want) {
		r = q2_alloc(q, want, host, &got, &fresh, true);
		if (r == 0 && got < want)	/* too short: given back at the end */
			q2_free_later(q, *host, got);
	}
	return r;
}

/* Allocated just now and never exposed: its block is in memory. */
void q2_free_now(struct q2 *q, uint64_t host, uint32_t clusters)
{
	for (uint32_t k = 0; k < clusters; k++)
		q2_ref_add(q, (host >> q->cb) + k, -1, false);
}

void q2_free_later(struct q2 *q, uint64_t host, uint64_t clusters)
{
	uint64_t c = host >> q->cb, epoch = atomic_load(&q->epoch);
	struct q2_free *last = q->nfrees ? &q->frees[q->nfrees - 1] : NULL;

	if (last && !last->durable && last->epoch == epoch && last->cluster + last->count == c) {
		last->count += clusters;
		return;
	}
	if (q->nfrees == Q2_FREES_MAX) {
		log_guest(&q->limit, q->n.name, "too much was freed since the last flush: %" PRIu64
			  " clusters leak until 'roost img check -r leaks'", clusters);
		return;
	}
	q->frees[q->nfrees++] = (struct q2_free){ c, clusters, epoch, false };
}

/* The oldest epoch of a request in flight. */
static uint64_t oldest(struct q2 *q)
{
	uint64_t min = UINT64_MAX, e;

	for (int i = 0; i < Q2_OPS; i++) {
		e = atomic_load(&q->ops[i].epoch);
		if (e)
			min = MIN(min, e);
	}
	return min;
}

/* Host space of clusters that nobody uses any more. Advice: errors are none. */
static void punch(struct q2 *q, uint64_t c, uint64_t n)
{
	bool pass = q->pass_discard == PROP_AUTO ? q->n.discard == BLOCK_DISCARD_UNMAP :
		    q->pass_discard == PROP_ON;

	if (pass)
		block_io_wait(q->n.file.node, q2_wloop(q), BLOCK_DISCARD, 0, c << q->cb, NULL, 0,
			      n << q->cb);
}

static bool is_free(struct q2 *q, uint64_t c)
{
	return q2_rb_need(q, c / q->rb_count, true) == 0 &&
	       q2_refblock_get(q2_rb(q, c / q->rb_count), c % q->rb_count,
			       q->h.refcount_order) == 0;
}

static void release(struct q2 *q, const struct q2_free *f)
{
	uint64_t run = 0;

	for (uint64_t c = f->cluster; c < f->cluster + f->count; c++) {
		if (q2_ref_add(q, c, -1, true) == 0 && is_free(q, c)) {
			run++;
			continue;
		}
		if (run)
			punch(q, c - run, run);
		run = 0;
	}
	if (run)
		punch(q, f->cluster + f->count - run, run);
}

void q2_frees_release(struct q2 *q)
{
	uint64_t min = oldest(q);
	size_t kept = 0;

	for (size_t i = 0; i < q->nfrees; i++) {
		if (q->frees[i].durable && q->frees[i].epoch < min)
			release(q, &q->frees[i]);
		else
			q->frees[kept++] = q->frees[i];
	}
	q->nfrees = kept;
}
