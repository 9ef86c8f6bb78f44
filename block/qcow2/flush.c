/*
 * block/qcow2/flush.c - in which order things reach the disk.
 *
 * Spec:    docs/interop/qcow2.txt; the contract "Nothing lost" 1, 2 and 4.
 * Threads: the worker, or the main loop's thread when no worker runs. Holds
 *          meta to look at memory, and over the writes of refcount blocks.
 * Missing: nothing known.
 *
 * Guest data is written before its request ends, metadata wait for a flush:
 *
 *  1. take the changed sectors of L2 tables out of the map (what changes from
 *     now on is for the next flush: its data may not be on the disk yet)
 *  2. write new L2 tables (nothing points to them), then refcount blocks
 *     (they may count too much at any time, never too little)
 *  3. fdatasync: data, counts and new tables are durable
 *  4. refcount table entries of new blocks, fdatasync when there are any
 *  5. write the sectors taken in 1, and L1 entries of the tables of 2
 *  6. fdatasync; only then what those entries referred to before is free
 *
 * A crash anywhere leaves entries that point to counted, complete clusters,
 * and at worst counts that nothing uses. What fails stays dirty, and the next
 * flush tries it again.
 */
#include "block/qcow2/qcow2.h"

#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>

TRACE_DEFINE(qcow2_flush);

int q2_sync_io(struct q2 *q, struct loop *l, enum block_op op, uint64_t off, void *buf,
	       size_t len)
{
	struct iovec iov = { buf, len };
	uint32_t flags = op == BLOCK_READ && align_up(off + len, Q2_TAIL) > atomic_load(&q->file_len) ?
			 BLOCK_EOF_ZEROES : 0;

	return block_io_wait(q->n.file.node, l, op, flags, off, buf ? &iov : NULL, buf != NULL,
			     len);
}

int q2_corrupt(struct q2 *q, uint64_t off, const char *what)
{
	const char *name = q->n.filename ? q->n.filename : q->n.name;

	log_guest(&q->limit, name, "the image is corrupt: bad %s at offset %#" PRIx64 "%s", what,
		  off, q->writable ? "; no more writes; repair it with 'roost img check -r all'" :
		  "");
	if (q->writable)
		atomic_store(&q->broken, true);
	return -EIO;
}

int q2_flush_init(struct q2 *q)
{
	q->stage_bytes = MAX(q->cs, (uint64_t)Q2_STAGE_BYTES);
	q->stage = sparse_map(2 * q->stage_bytes);
	q->segments = xcalloc(Q2_SEGMENTS, sizeof(*q->segments));
	q->l1_disk = sparse_map(q->l1_cap * 8ull);
	if (!q->stage || !q->l1_disk)
		return -ENOMEM;
	for (uint32_t i = 0; i < q->h.l1_size; i++)
		if (atomic_load(&q->l1[i]))
			q->l1_disk[i] = q->l1[i];
	return 0;
}

void q2_flush_fini(struct q2 *q)
{
	sparse_unmap(q->stage, 2 * q->stage_bytes);
	sparse_unmap(q->l1_disk, q->l1_cap * 8ull);
	free(q->segments);
	q->stage = NULL;
	q->l1_disk = NULL;
	q->segments = NULL;
}

static int write_at(struct q2 *q, uint64_t off, void *buf, size_t len)
{
	return q2_sync_io(q, q2_wloop(q), BLOCK_WRITE, off, buf, len);
}

static int sync_all(struct q2 *q)
{
	int r = q2_sync_io(q, q2_wloop(q), BLOCK_FLUSH, 0, NULL, 0);

	if (r == 0 && q->n.data.node)
		r = block_io_wait(q->n.data.node, q2_wloop(q), BLOCK_FLUSH, 0, 0, NULL, 0, 0);
	return r;
}

/* ---- refcounts ---- */

static uint32_t table_sectors(const struct q2 *q)
{
	return (uint32_t)(q->cs / BLOCK_SECTOR);
}

/* The next run of set bits of [*at, end); cleared; its length, 0: none. */
static uint32_t take_run(uint8_t *bits, uint64_t *at, uint64_t end, uint32_t max)
{
	uint32_t n = 0;

	while (*at < end && !bit_get(bits, *at))
		++*at;
	while (*at + n < end && n < max && bit_get(bits, *at + n)) {
		bit_clear(bits, *at + n);
		n++;
	}
	return n;
}

static int write_refblock(struct q2 *q, uint32_t i)
{
	uint64_t base = (uint64_t)i * table_sectors(q), at = base, end = base + table_sectors(q);
	uint32_t n;
	int r = 0;

	while (r == 0 && (n = take_run(q->rb_dirty, &at, end, table_sectors(q)))) {
		uint64_t in = (at - base) * BLOCK_SECTOR;

		r = write_at(q, q->rt[i] + in, q2_rb(q, i) + in, n * (size_t)BLOCK_SECTOR);
		at += n;
	}
	return r;
}

int q2_write_refblocks(struct q2 *q)
{
	uint32_t i;
	int r = 0;

	while (r == 0 && (i = q->rb_dirty_head) != TAB_END) {
		q->rb_dirty_head = q->rbt[i].next;
		q->rbt[i].dirty = false;
		r = write_refblock(q, i);
		if (r)
			q2_rb_dirty(q, i, 0, table_sectors(q));
	}
	return r;
}

/* "s Host cluster management": table entries, big endian. */
static int write_reftable(struct q2 *q)
{
	uint64_t n = (q->rt_entries + 63) / 64;
	uint8_t sector[BLOCK_SECTOR];
	int r = 0;

	for (uint64_t s = 0; s < n && r == 0; s++) {
		if (!bit_get(q->rt_dirty, s))
			continue;
		for (uint64_t k = 0; k < 64; k++)
			put_be64(sector + 8 * k, q->rt[s * 64 + k]);
		r = write_at(q, q->h.reftable_offset + s * BLOCK_SECTOR, sector, sizeof(sector));
		if (r == 0)
			bit_clear(q->rt_dirty, s);
	}
	if (r == 0)
		q->rt_any = false;
	return r;
}

/* ---- L2 and L1 ---- */

/* Where a round of a flush stands. */
struct round {
	uint32_t segments;
	uint64_t staged;	/* bytes of q->stage */
	bool more;		/* dirty sectors are left for another round */
};

/* Under meta: sectors of table @t into the stage; false when that is full. */
static bool stage_table(struct q2 *q, struct round *rd, uint32_t t)
{
	uint64_t base = (uint64_t)t * table_sectors(q), at = base, end = base + table_sectors(q);
	uint32_t n, room;

	for (;;) {
		room = (uint32_t)((q->stage_bytes - rd->staged) / BLOCK_SECTOR);
		if (rd->segments == Q2_SEGMENTS)
			room = 0;
		n = take_run(q->l2_dirty, &at, end, room);
		if (n == 0)
			return at == end;
		q2_table_put(q, t, (uint32_t)(at - base), n, q->stage + rd->staged);
		q->segments[rd->segments++] = (struct q2_segment){
			t, (uint32_t)(at - base), n,
			(atomic_load(&q->l1[t]) & ENTRY_OFFSET) + (at - base) * BLOCK_SECTOR
		};
		rd->staged += n * (uint64_t)BLOCK_SECTOR;
		at += n;
	}
}

static void pop_table(struct q2 *q, uint32_t t)
{
	q->l2_dirty_head = q->l2[t].next;
	q->l2[t].dirty = false;
	q->l2_dirty_count--;
}

/* A table that nothing points to: all of it, behind the stage. */
static int write_new_table(struct q2 *q, struct round *rd, uint32_t t)
{
	uint64_t base = (uint64_t)t * table_sectors(q), off;
	uint8_t *buf = q->stage + q->stage_bytes;
	int r;

	for (uint64_t k = 0; k < table_sectors(q); k++)
		bit_clear(q->l2_dirty, base + k);
	q2_table_put(q, t, 0, table_sectors(q), buf);
	off = atomic_load(&q->l1[t]) & ENTRY_OFFSET;
	pthread_mutex_unlock(&q->meta);
	r = write_at(q, off, buf, q->cs);
	pthread_mutex_lock(&q->meta);
	if (r) {
		q2_tab_dirty(q, t, 0, table_sectors(q));
		return r;
	}
	q->l2[t].fresh = FRESH_WRITTEN;
	q->l1_disk[t] = q->l1[t];
	bit_set(q->l1_dirty, t / 64);
	q->new_tables = q->l1_any = true;
	return 0;
}

/* Under meta, which new tables give up for a while. All new ones are written
 * in the first round: what they replace may be freed when that is over. */
static int take_tables(struct q2 *q, struct round *rd)
{
	uint32_t t, later = TAB_END, next;
	int r = 0;

	while (r == 0 && (t = q->l2_dirty_head) != TAB_END) {
		pop_table(q, t);
		if (q->l2[t].fresh == FRESH_UNWRITTEN) {
			r = write_new_table(q, rd, t);
		} else if (!stage_table(q, rd, t)) {
			q->l2[t].next = later;
			later = t;
		}
	}
	for (t = later; t != TAB_END; t = next) {
		next = q->l2[t].next;
		rd->more = true;
		q->l2[t].dirty = true;
		q->l2[t].next = q->l2_dirty_head;
		q->l2_dirty_head = t;
		q->l2_dirty_count++;
	}
	return r;
}

static int write_staged(struct q2 *q, const struct round *rd)
{
	uint8_t *p = q->stage;
	int r = 0;

	for (uint32_t i = 0; i < rd->segments && r == 0; i++) {
		const struct q2_segment *s = &q->segments[i];

		r = write_at(q, s->off, p, s->sectors * (size_t)BLOCK_SECTOR);
		p += s->sectors * (size_t)BLOCK_SECTOR;
	}
	return r;
}

static int write_l1(struct q2 *q)
{
	uint64_t n = (q->h.l1_size + 63ull) / 64, i;
	uint8_t sector[BLOCK_SECTOR];
	int r = 0;

	for (uint64_t s = 0; s < n && r == 0; s++) {
		if (!bit_get(q->l1_dirty, s))
			continue;
		/* The table ends with its clusters, not with its entries. */
		memset(sector, 0, sizeof(sector));
		for (i = s * 64; i < MIN((s + 1) * 64, (uint64_t)q->l1_cap); i++)
			put_be64(sector + 8 * (i % 64), q->l1_disk[i]);
		r = write_at(q, q->h.l1_offset + s * BLOCK_SECTOR, sector, sizeof(sector));
		if (r == 0)
			bit_clear(q->l1_dirty, s);
	}
	if (r == 0)
		q->l1_any = false;
	return r;
}

/* Under meta: what was taken out goes back, to be tried again. */
static void put_back(struct q2 *q, const struct round *rd)
{
	for (uint32_t i = 0; i < rd->segments; i++)
		q2_tab_dirty(q, q->segments[i].table, q->segments[i].first,
			     q->segments[i].sectors);
}

/* ---- a flush ---- */

/* Steps 2 to 6, without meta. */
static int write_round(struct q2 *q, const struct round *rd)
{
	bool l1, new_blocks, header = q->header_unsure;
	int r = 0;

	pthread_mutex_lock(&q->meta);
	if (header)		/* which L1 table counts, above all */
		r = q2_header_write(q, q2_wloop(q));
	if (r == 0)
		r = q2_write_refblocks(q);
	new_blocks = q->rt_any;
	pthread_mutex_unlock(&q->meta);
	if (r == 0)
		r = sync_all(q);
	if (r == 0 && header)
		q->header_unsure = false;
	if (r == 0 && new_blocks) {
		pthread_mutex_lock(&q->meta);
		/* Blocks made meanwhile are not durable, their entries wait. */
		r = q2_write_refblocks(q);
		if (r == 0)
			r = sync_all(q);
		if (r == 0)
			r = write_reftable(q);
		pthread_mutex_unlock(&q->meta);
		if (r == 0)
			r = sync_all(q);
	}
	if (r == 0)
		r = write_staged(q, rd);
	l1 = q->l1_any;		/* from this round, or one that failed */
	if (r == 0 && l1)
		r = write_l1(q);
	if (r == 0 && (rd->segments || l1))
		r = sync_all(q);
	return r;
}

static int one_round(struct q2 *q, struct round *rd)
{
	int r;

	memset(rd, 0, sizeof(*rd));
	pthread_mutex_lock(&q->meta);
	r = take_tables(q, rd);
	pthread_mutex_unlock(&q->meta);
	if (r == 0)
		r = write_round(q, rd);
	pthread_mutex_lock(&q->meta);
	if (r)
		put_back(q, rd);
	for (uint32_t t = 0; r == 0 && q->new_tables && t < q->tables; t++)
		if (q->l2[t].fresh == FRESH_WRITTEN)
			q->l2[t].fresh = FRESH_NOT;
	if (r == 0)
		q->new_tables = false;
	pthread_mutex_unlock(&q->meta);
	return r;
}

int q2_flush_meta(struct q2 *q)
{
	struct round rd = { 0 };
	uint64_t gen;
	size_t frees;
	int r;

	pthread_mutex_lock(&q->meta);
	frees = q->nfrees;
	/* Requests from here on find what is freed unlinked. */
	atomic_fetch_add(&q->epoch, 1);
	gen = atomic_load(&q->gen);
	pthread_mutex_unlock(&q->meta);
	if (atomic_load(&q->broken))
		return sync_all(q) ?: -EIO;
	do
		r = one_round(q, &rd);
	while (r == 0 && rd.more);
	trace(qcow2_flush, "%s: %d", q->n.name, r);
	if (r)
		return r;
	pthread_mutex_lock(&q->meta);
	for (size_t i = 0; i < frees; i++)
		q->frees[i].durable = true;
	q2_frees_release(q);
	pthread_mutex_unlock(&q->meta);
	atomic_store(&q->clean_gen, gen);
	return 0;
}

static void flushed(struct q2_op *op, int res)
{
	q2_op_end(op, res);
}

static void file_flushed(struct block_req *c, int ret)
{
	q2_op_end(container_of(c, struct q2_op, c), ret);
}

void q2_flush_start(struct q2_op *op)
{
	struct q2 *q = op->q;

	if (q->thread_runs && (q2_is_dirty(q) || q->n.data.node)) {
		op->step = NULL;
		op->stepped = flushed;
		q2_post_step(op);
		return;
	}
	q2_child(op, q->n.data.node ? q->n.data.node : q->n.file.node, BLOCK_FLUSH, 0, NULL, 0, 0,
		 file_flushed);
}
