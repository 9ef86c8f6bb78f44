/*
 * block/qcow2/refcount.c - refcount table and blocks.
 *
 * Spec:    docs/interop/qcow2.txt, "s Host cluster management".
 * Threads: under meta.
 * Missing: blocks stay in memory once read: 64 KiB for 2 GiB of image file.
 *
 * Blocks are kept as they are on the disk, each at its own place of one
 * reserved range of addresses, so that a flush writes them as they are.
 */
#include "block/qcow2/qcow2.h"

#include <errno.h>
#include <inttypes.h>

/* "Refcount block entry (x = refcount_bits - 1) … If refcount_bits implies a
 * sub-byte width, note that bit 0 means the least significant bit." */
uint64_t q2_refblock_get(const uint8_t *b, uint64_t i, uint32_t order)
{
	uint32_t bits = 1u << order;

	switch (order) {
	case 3:
		return b[i];
	case 4:
		return get_be16(b + 2 * i);
	case 5:
		return get_be32(b + 4 * i);
	case 6:
		return get_be64(b + 8 * i);
	default:
		return b[i * bits / 8] >> (i * bits % 8) & (BIT(bits) - 1);
	}
}

void q2_refblock_set(uint8_t *b, uint64_t i, uint32_t order, uint64_t v)
{
	uint32_t bits = 1u << order, shift;

	switch (order) {
	case 3:
		b[i] = (uint8_t)v;
		break;
	case 4:
		put_be16(b + 2 * i, (uint16_t)v);
		break;
	case 5:
		put_be32(b + 4 * i, (uint32_t)v);
		break;
	case 6:
		put_be64(b + 8 * i, v);
		break;
	default:
		shift = (uint32_t)(i * bits % 8);
		b += i * bits / 8;
		*b = (uint8_t)((*b & ~((BIT(bits) - 1) << shift)) | v << shift);
	}
}

static uint64_t meta_bytes(const struct q2 *q)
{
	return (q->meta_map_bits + 7) / 8;
}

static uint64_t rb_dirty_bytes(const struct q2 *q)
{
	return q->rt_max * (q->cs / BLOCK_SECTOR) / 8 + 1;
}

/* As many blocks as the whole disk, as large as it can grow, its metadata and as
 * much again for internal snapshots can need: address space only. What the table
 * has room for does not count: with clusters of 2 MiB that is 512 GiB of blocks in
 * the smallest one. */
static uint32_t max_blocks(const struct q2 *q)
{
	uint64_t clusters = ((uint64_t)q->table_room << q->l2_bits) * 2 + (GIB >> q->cb) + 4096;
	uint64_t used = q->rt_entries, n;

	while (used && !q->rt[used - 1])
		used--;
	n = clusters / q->rb_count + 16 + 2 * used;
	return (uint32_t)MIN(n, (uint64_t)(REFTABLE_BYTES_MAX / 8));
}

static int no_space(struct err *e)
{
	return err_sys(e, -ENOMEM, "no address space for the refcounts of the image");
}

static int read_table(struct q2 *q, bool lenient, struct err *e)
{
	int r = q2_sync_io(q, q2_wloop(q), BLOCK_READ, q->h.reftable_offset, q->rt,
			   q->rt_entries * 8ull);

	if (r)
		return err_sys(e, r, "cannot read the refcount table");
	for (uint32_t i = 0; i < q->rt_entries; i++) {
		q->rt[i] = be64toh(q->rt[i]) & ~(uint64_t)0x1ff;
		if (!lenient && (q->rt[i] & (q->cs - 1) || q->rt[i] > ENTRY_OFFSET))
			return err_set(e, -EUCLEAN, "entry %" PRIu32 " of the refcount table is "
				       "out of place; repair it with 'roost img check -r all'", i);
	}
	return 0;
}

int q2_refs_init(struct q2 *q, bool lenient, struct err *e)
{
	int r;

	q->rb_count = q->cs * 8 >> q->h.refcount_order;
	q->rt_entries = (uint32_t)(((uint64_t)q->h.reftable_clusters << q->cb) / 8);
	q->rt = sparse_map(REFTABLE_BYTES_MAX);
	if (!q->rt)
		return no_space(e);
	r = read_table(q, lenient, e);
	if (r)
		return r;
	q->rt_max = max_blocks(q);
	q->rb_bytes = q->rt_max * q->cs;
	q->meta_map_bits = q->rt_max * q->rb_count;
	q->rt_dirty = sparse_map(REFTABLE_BYTES_MAX / BLOCK_SECTOR / 8);
	q->rb = sparse_map(q->rb_bytes);
	q->rbt = sparse_map(q->rt_max * sizeof(*q->rbt));
	q->rb_dirty = sparse_map(rb_dirty_bytes(q));
	q->meta_map = sparse_map(meta_bytes(q));
	q->frees = sparse_map(Q2_FREES_MAX * sizeof(*q->frees));
	q->rb_dirty_head = TAB_END;
	q->nfrees = 0;
	if (!q->rt_dirty || !q->rb || !q->rbt || !q->rb_dirty || !q->meta_map || !q->frees)
		return no_space(e);
	return 0;
}

void q2_refs_fini(struct q2 *q)
{
	sparse_unmap(q->rt, REFTABLE_BYTES_MAX);
	sparse_unmap(q->rt_dirty, REFTABLE_BYTES_MAX / BLOCK_SECTOR / 8);
	sparse_unmap(q->rb, q->rb_bytes);
	sparse_unmap(q->rbt, q->rt_max * sizeof(*q->rbt));
	sparse_unmap(q->rb_dirty, rb_dirty_bytes(q));
	sparse_unmap(q->meta_map, meta_bytes(q));
	sparse_unmap(q->frees, Q2_FREES_MAX * sizeof(*q->frees));
	q->rt = NULL;
	q->rt_dirty = q->rb = q->rb_dirty = q->meta_map = NULL;
	q->rbt = NULL;
	q->frees = NULL;
	q->meta_map_bits = 0;
}

void q2_rb_dirty(struct q2 *q, uint32_t i, uint32_t first, uint32_t sectors)
{
	for (uint32_t k = 0; k < sectors; k++)
		bit_set(q->rb_dirty, i * (q->cs / BLOCK_SECTOR) + first + k);
	if (!q->rbt[i].dirty) {
		q->rbt[i].dirty = true;
		q->rbt[i].next = q->rb_dirty_head;
		q->rb_dirty_head = i;
	}
}

int q2_rb_need(struct q2 *q, uint64_t i, bool may_block)
{
	int r;

	if (i >= q->rt_entries || !q->rt[i])
		return -ENOENT;
	if (q->rbt[i].state == TAB_LOADED)
		return 0;
	if (!may_block)
		return Q2_BLOCK;
	r = q2_sync_io(q, q2_wloop(q), BLOCK_READ, q->rt[i], q2_rb(q, i), q->cs);
	if (r == 0)
		q->rbt[i].state = TAB_LOADED;
	return r;
}

int q2_ref_add(struct q2 *q, uint64_t c, int64_t delta, bool may_block)
{
	uint64_t i = c / q->rb_count, k = c % q->rb_count, v;
	uint32_t order = q->h.refcount_order;
	int r = q2_rb_need(q, i, may_block);

	if (r == -ENOENT)
		return q2_corrupt(q, c << q->cb, "refcount (of a used cluster) 0");
	if (r)
		return r;
	v = q2_refblock_get(q2_rb(q, i), k, order);
	if (delta < 0 && v < (uint64_t)-delta)
		return q2_corrupt(q, c << q->cb, "refcount (of a used cluster) 0");
	if (delta > 0 && v > q2_ref_max(q) - (uint64_t)delta)
		return -EOVERFLOW;
	v += (uint64_t)delta;
	q2_refblock_set(q2_rb(q, i), k, order, v);
	q2_rb_dirty(q, (uint32_t)i, (uint32_t)((k << order) / 8 / BLOCK_SECTOR), 1);
	if (delta > 0)
		atomic_fetch_add(&q->gen, 1);
	else if (v == 0)
		q->cursor = MIN(q->cursor, c);
	return 0;
}
