/*
 * block/qcow2/map.c - the map from guest to host clusters.
 *
 * Spec:    docs/interop/qcow2.txt, "s Cluster mapping", "s Extended L2 Entries".
 * Threads: look-ups on any loop without a lock; a table is loaded by one loop
 *          at a time (tab_lock, for its state only); entries change and tables
 *          leave under `meta`.
 * Missing: nothing known.
 *
 * Each L2 table has its own place in one reserved range of addresses, so an
 * entry is found by its index, no pointer is followed and none can dangle: a
 * table that is given up reads as zero, which means "not loaded". Loaded
 * entries carry a bit that is reserved on the disk, so they are never zero. An
 * L1 entry of zero needs no table at all.
 */
#include "block/qcow2/qcow2.h"

#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>
#include <sys/mman.h>

#define PAGE	4096u

static uint64_t dirty_bytes(const struct q2 *q, uint32_t tables)
{
	return (tables * (q->cs / BLOCK_SECTOR) + 7) / 8;
}

/* So many L2 tables get addresses: a disk that is written may grow while requests
 * look at the map, which therefore never moves. 16 TiB are 2 GiB of addresses with
 * clusters of 64 KiB, 16 GiB at worst; what is larger may become four times as
 * large. Locked memory (mlockall()) makes addresses pages: no room to grow then. */
#define ROOM_BYTES	(16 * 1024 * GIB)

static uint32_t growth_room(const struct q2 *q)
{
	uint64_t size = q->h.size <= INT64_MAX / 4 ? q->h.size * 4 : INT64_MAX, n;

	if (q->n.read_only || q->n.file.node->read_only || q->n.graph->memory_locked)
		return q->tables;
	n = MAX(size, (uint64_t)ROOM_BYTES) >> (q->cb + q->l2_bits);
	n = MIN(n, (uint64_t)(L1_BYTES_MAX / 8));
	return MAX(q->tables, (uint32_t)n);
}

static bool map_reserve(struct q2 *q, uint32_t tables)
{
	q->table_room = tables;
	q->map_bytes = q->table_room * q->cs;
	q->l1_cap = MAX(q->h.l1_size, q->table_room);
	q->map = sparse_map(q->map_bytes);
	q->l2 = sparse_map(q->table_room * sizeof(*q->l2));
	q->l2_dirty = sparse_map(dirty_bytes(q, q->table_room));
	q->l1 = sparse_map(q->l1_cap * 8ull);
	q->l1_dirty = sparse_map(q->l1_cap / 64 / 8 + 1);
	q->l2_dirty_head = TAB_END;
	return q->map && q->l2 && q->l2_dirty && q->l1 && q->l1_dirty;
}

int q2_map_init(struct q2 *q, struct err *e)
{
	if (map_reserve(q, growth_room(q)))
		return 0;
	/* A limit on addresses (ulimit -v): then it cannot grow. */
	q2_map_fini(q);
	if (map_reserve(q, q->tables))
		return 0;
	return err_sys(e, -ENOMEM, "no address space for the map of the image");
}

void q2_map_make_room(struct q2 *q)
{
	uint32_t old = q->table_room, cap = q->l1_cap, room = growth_room(q);
	struct { void *p; uint64_t old, new; } part[] = {
		{ &q->map, old * q->cs, room * q->cs },
		{ &q->l2, old * sizeof(*q->l2), room * sizeof(*q->l2) },
		{ &q->l2_dirty, dirty_bytes(q, old), dirty_bytes(q, room) },
		{ &q->l1, cap * 8ull, MAX(cap, room) * 8ull },
		{ &q->l1_dirty, cap / 64 / 8 + 1, MAX(cap, room) / 64 / 8 + 1 },
		{ &q->below, q->below_words * 8, MAX(q->below_words, (uint64_t)room <<
						     q->l2_bits) * 8 },
	};
	size_t n = 0;

	if (room <= old)
		return;
	while (n < ARRAY_LEN(part) && sparse_resize(part[n].p, part[n].old, part[n].new))
		n++;
	if (n < ARRAY_LEN(part)) {	/* smaller is always possible */
		while (n-- > 0)
			sparse_resize(part[n].p, part[n].new, part[n].old);
		return;
	}
	q->table_room = room;
	q->map_bytes = room * q->cs;
	q->l1_cap = MAX(cap, room);
	q->below_words = part[5].new / 8;
}

void q2_map_fini(struct q2 *q)
{
	sparse_unmap(q->map, q->map_bytes);
	sparse_unmap(q->l2, q->table_room * sizeof(*q->l2));
	sparse_unmap(q->l2_dirty, dirty_bytes(q, q->table_room));
	sparse_unmap(q->l1, q->l1_cap * 8ull);
	sparse_unmap(q->l1_dirty, q->l1_cap / 64 / 8 + 1);
	q->map = q->l1 = NULL;
	q->l2 = NULL;
	q->l2_dirty = q->l1_dirty = NULL;
}

/* ---- look-up ---- */

static uint64_t word(const struct q2 *q, uint64_t i)
{
	return atomic_load_explicit(&q->map[i], memory_order_acquire);
}

static enum q2_kind kind_of(const struct q2 *q, uint64_t e)
{
	if (e & OFLAG_COMPRESSED)
		return Q2_COMPRESSED;
	if (e & ENTRY_BAD)
		return Q2_BAD;
	if (e & OFLAG_ZERO)
		return Q2_ZEROES;
	/* "The offset may only be 0 with bit 63 set when an external data file
	 * is used." */
	if ((e & ENTRY_OFFSET) || ((e & OFLAG_COPIED) && q->n.data.node))
		return Q2_DATA;
	return Q2_UNALLOC;
}

/* Both words of an extended entry, from one moment. */
static uint64_t ext_words(struct q2 *q, uint64_t g, uint64_t *bitmap)
{
	uint32_t s;
	uint64_t e;

	do {
		s = atomic_load(&q->seq);
		e = word(q, 2 * g);
		*bitmap = word(q, 2 * g + 1);
		atomic_thread_fence(memory_order_acquire);
	} while ((s & 1) || s != atomic_load(&q->seq));
	return e;
}

/* The unit (subcluster or cluster) that @pos lies in; len reaches to its end. */
static struct q2_extent unit_at(struct q2 *q, uint64_t pos)
{
	uint64_t g = pos >> q->cb, in = pos & (q->cs - 1), bitmap = 0, e, i;
	struct q2_extent x = { 0 };

	e = q->ext ? ext_words(q, g, &bitmap) : word(q, g);
	x.len = q->cs - in;
	if (e == 0) {
		x.kind = Q2_UNLOADED;
		if (!atomic_load_explicit(&q->l1[q2_table_of(q, g)], memory_order_acquire)) {
			x.kind = Q2_UNALLOC;
			/* No table: nothing in all its range. */
			x.len = BIT64(q->cb + q->l2_bits) -
				(pos & (BIT64(q->cb + q->l2_bits) - 1));
		}
		return x;
	}
	x.kind = kind_of(q, e);
	x.copied = e & OFLAG_COPIED;
	if (x.kind == Q2_COMPRESSED || x.kind == Q2_BAD) {
		x.host = e;
		return x;
	}
	if (q->ext) {
		i = in / q->sub;
		x.len = q->sub - (in & (q->sub - 1));
		x.kind = bitmap >> (32 + i) & 1 ? Q2_ZEROES :
			 bitmap >> i & 1 ? Q2_DATA : Q2_UNALLOC;
	}
	x.host = (e & ENTRY_OFFSET) + in;
	return x;
}

static bool continues(const struct q2_extent *a, const struct q2_extent *b)
{
	if (a->kind != b->kind)
		return false;
	if (a->kind == Q2_DATA)
		return b->host == a->host + a->len && a->copied == b->copied;
	return a->kind == Q2_UNALLOC || a->kind == Q2_ZEROES;
}

struct q2_extent q2_lookup(struct q2 *q, uint64_t pos, uint64_t len)
{
	struct q2_extent x = unit_at(q, pos), more;

	while (x.len < len && x.kind != Q2_COMPRESSED) {
		more = unit_at(q, pos + x.len);
		if (!continues(&x, &more))
			break;
		x.len += more.len;
	}
	x.len = MIN(x.len, len);
	return x;
}

/* "Compressed Clusters Descriptor (x = 62 - (cluster_bits - 8))". The range is
 * in whole sectors, from the one that has the first byte. */
void q2_compressed_range(const struct q2 *q, uint64_t entry, uint64_t *off, uint64_t *bytes)
{
	uint32_t x = 62 - (q->cb - 8);
	uint64_t sectors = ((entry & (OFLAG_COMPRESSED - 1)) >> x) + 1;

	*off = entry & (BIT64(x) - 1);
	*bytes = sectors * BLOCK_SECTOR - (*off & (BLOCK_SECTOR - 1));
}

/* ---- entries, under meta ---- */

uint64_t q2_entry(const struct q2 *q, uint64_t g, uint64_t *bitmap)
{
	uint64_t e = word(q, q->ext ? 2 * g : g);

	if (bitmap)
		*bitmap = q->ext ? word(q, 2 * g + 1) : 0;
	return e & OFLAG_COMPRESSED ? e : e & ~ENTRY_LOADED;
}

static void put_word(struct q2 *q, uint64_t i, uint64_t v)
{
	atomic_store_explicit(&q->map[i], v, memory_order_release);
}

static void put_entry(struct q2 *q, uint64_t g, uint64_t entry, uint64_t bitmap)
{
	uint64_t e = entry & OFLAG_COMPRESSED ? entry : entry | ENTRY_LOADED;

	if (!q->ext) {
		put_word(q, g, e);
		return;
	}
	atomic_fetch_add(&q->seq, 1);
	put_word(q, 2 * g, e);
	put_word(q, 2 * g + 1, bitmap);
	atomic_fetch_add(&q->seq, 1);
}

void q2_tab_dirty(struct q2 *q, uint32_t t, uint32_t first, uint32_t sectors)
{
	uint64_t at = t * (q->cs / BLOCK_SECTOR) + first;

	for (uint32_t i = 0; i < sectors; i++)
		bit_set(q->l2_dirty, at + i);
	if (!q->l2[t].dirty) {
		q->l2_dirty_count++;
		q->l2[t].dirty = true;
		q->l2[t].next = q->l2_dirty_head;
		q->l2_dirty_head = t;
	}
	atomic_fetch_add(&q->gen, 1);
}

void q2_entry_set(struct q2 *q, uint64_t g, uint64_t entry, uint64_t bitmap)
{
	uint32_t esize = q->ext ? 16 : 8;
	uint64_t in = (g & (BIT64(q->l2_bits) - 1)) * esize;

	put_entry(q, g, entry, bitmap);
	q2_tab_dirty(q, q2_table_of(q, g), (uint32_t)(in / BLOCK_SECTOR), 1);
}

void q2_table_put(const struct q2 *q, uint32_t t, uint32_t first, uint32_t n, uint8_t *buf)
{
	uint64_t i = t * (q->cs / 8) + first * (BLOCK_SECTOR / 8), w;

	for (uint32_t k = 0; k < n * (BLOCK_SECTOR / 8); k++) {
		w = word(q, i + k);
		if (!(q->ext && (k & 1)) && !(w & OFLAG_COMPRESSED))
			w &= ~ENTRY_LOADED;
		put_be64(buf + 8 * k, w);
	}
}

/* ---- loading ---- */

/* An entry as we keep it, or ENTRY_BAD. Reserved bits are not looked at, as
 * QEMU does. */
static uint64_t check_entry(const struct q2 *q, uint64_t g, uint64_t e, uint64_t bitmap)
{
	uint64_t off = e & ENTRY_OFFSET, bytes;

	if (e & OFLAG_COMPRESSED) {
		q2_compressed_range(q, e, &off, &bytes);
		if (q->n.data.node || off > ENTRY_OFFSET ||
		    (q->meta_map && q2_is_meta(q, off, bytes)))
			return ENTRY_BAD;
		return e & ~OFLAG_COPIED;
	}
	e &= OFLAG_COPIED | ENTRY_OFFSET | (q->h.version >= 3 && !q->ext ? OFLAG_ZERO : 0);
	if (off & (q->cs - 1))
		return ENTRY_BAD;
	/* "In this case the allocation status bit must be unset", and "the host
	 * cluster offset field must contain a valid offset". */
	if ((bitmap >> 32 & bitmap) || ((uint32_t)bitmap && !off && !q->n.data.node))
		return ENTRY_BAD;
	if (q->n.data.node && (off || (e & OFLAG_COPIED)) && off != g << q->cb)
		return ENTRY_BAD;
	if (!q->n.data.node && off && q->meta_map && q2_is_meta(q, off, q->cs))
		return ENTRY_BAD;
	return e;
}

/* Take table @t as read from the disk; it is LOADING, so nobody else has it. */
static void fill(struct q2 *q, uint32_t t, const uint8_t *buf)
{
	uint64_t g = (uint64_t)t << q->l2_bits, n = BIT64(q->l2_bits), e, bitmap;
	bool bad = false;

	for (uint64_t i = 0; i < n; i++) {
		bitmap = q->ext ? get_be64(buf + 16 * i + 8) : 0;
		e = check_entry(q, g + i, get_be64(buf + (q->ext ? 16 : 8) * i), bitmap);
		bad |= !(e & OFLAG_COMPRESSED) && (e & ENTRY_BAD);
		put_entry(q, g + i, e, bitmap);
	}
	if (bad)
		q2_corrupt(q, atomic_load(&q->l1[t]) & ENTRY_OFFSET, "L2 table");
}

/* Give up tables that are clean until the rest fits. Under meta. */
static void evict(struct q2 *q, uint64_t limit)
{
	uint32_t unit = q->cs < PAGE ? (uint32_t)(PAGE / q->cs) : 1, t, k, n;
	uint32_t units = (q->tables + unit - 1) / unit;
	bool clean;

	for (uint32_t looked = 0; q->l2_loaded > limit && looked < units; looked++) {
		t = q->clock * unit;
		q->clock = (q->clock + 1) % units;
		n = MIN(unit, q->tables - t);
		pthread_mutex_lock(&q->tab_lock);
		clean = true;
		for (k = 0; k < n; k++)
			clean &= !q->l2[t + k].dirty && q->l2[t + k].state != TAB_LOADING;
		atomic_fetch_add(&q->seq, 1);
		if (clean)
			madvise((char *)q->map + t * q->cs, MAX(q->cs, (uint64_t)PAGE),
				MADV_DONTNEED);
		atomic_fetch_add(&q->seq, 1);
		for (k = 0; clean && k < n; k++) {
			q->l2_loaded -= q->l2[t + k].state == TAB_LOADED ? q->cs : 0;
			q->l2[t + k].state = TAB_ABSENT;
		}
		pthread_mutex_unlock(&q->tab_lock);
	}
}

void q2_evict_all(struct q2 *q)
{
	evict(q, 0);
}

void q2_table_new(struct q2 *q, uint32_t t)
{
	uint64_t g = (uint64_t)t << q->l2_bits;

	for (uint64_t i = 0; i < BIT64(q->l2_bits); i++)
		put_entry(q, g + i, 0, 0);
	pthread_mutex_lock(&q->tab_lock);
	q->l2[t].state = TAB_LOADED;
	pthread_mutex_unlock(&q->tab_lock);
	q->l2_loaded += q->cs;
}

/* A load ended: those who waited for one look again, on their own loops. */
static void wake_load_waiters(struct q2 *q, struct q2_op *w)
{
	for (struct q2_op *next; w; w = next) {
		next = w->next;
		loop_post(w->loop, &w->work);
	}
}

static void load_work(struct loop_work *w)
{
	struct q2_op *op = container_of(w, struct q2_op, work);

	op->resume(op);
}

static void settle(struct q2 *q, uint32_t t, int ret)
{
	struct q2_op *w;

	pthread_mutex_lock(&q->tab_lock);
	q->l2[t].state = ret ? TAB_ABSENT : TAB_LOADED;
	q->l2_loaded += ret ? 0 : q->cs;
	w = q->load_wait;
	q->load_wait = NULL;
	pthread_mutex_unlock(&q->tab_lock);
	wake_load_waiters(q, w);
	/* Over the limit for a moment does no harm: never wait for meta here. */
	if (q->l2_loaded > q->l2_limit && pthread_mutex_trylock(&q->meta) == 0) {
		evict(q, q->l2_limit);
		pthread_mutex_unlock(&q->meta);
	}
}

/* The place of table @t, or -EIO when no table can be there. */
static int table_offset(struct q2 *q, uint32_t t, uint64_t *off)
{
	*off = atomic_load(&q->l1[t]) & ENTRY_OFFSET;
	if (*off == 0 || (*off & (q->cs - 1)))
		return q2_corrupt(q, *off, "L1 entry");
	return 0;
}

static void loaded(struct block_req *c, int ret)
{
	struct q2_op *op = container_of(c, struct q2_op, c);
	struct q2 *q = op->q;

	if (ret == 0)
		fill(q, op->need, op->buf->zin);
	settle(q, op->need, ret);
	if (op->buf->rd != op)
		q2_put_buf(op);
	if (ret)
		q2_op_end(op, ret);
	else
		op->resume(op);
}

static void load_with_buf(struct q2_op *op)
{
	struct q2 *q = op->q;
	uint32_t t = op->need;
	uint64_t off;
	bool mine, wait;
	int r;

	op->work.cb = load_work;
	pthread_mutex_lock(&q->tab_lock);
	mine = q->l2[t].state == TAB_ABSENT;
	wait = q->l2[t].state == TAB_LOADING;
	if (mine)
		q->l2[t].state = TAB_LOADING;
	if (wait && op->buf->rd == op) {	/* keeps its buffer */
		op->next = q->load_wait;
		q->load_wait = op;
	}
	pthread_mutex_unlock(&q->tab_lock);
	if (mine) {
		r = table_offset(q, t, &off);
		if (r) {
			loaded(&op->c, r);
			return;
		}
		op->v[0] = (struct iovec){ op->buf->zin, q->cs };
		q2_child(op, q->n.file.node, BLOCK_READ, off, op->v, 1, q->cs, loaded);
		return;
	}
	if (op->buf->rd == op) {
		if (!wait)
			op->resume(op);
		return;
	}
	/* Without the buffer: others may need it to make progress. */
	q2_put_buf(op);
	pthread_mutex_lock(&q->tab_lock);
	wait = q->l2[t].state == TAB_LOADING;
	if (wait) {
		op->next = q->load_wait;
		q->load_wait = op;
	}
	pthread_mutex_unlock(&q->tab_lock);
	if (!wait)
		op->resume(op);
}

void q2_load(struct q2_op *op)
{
	op->entry = 0;
	if (op->buf)
		load_with_buf(op);
	else
		q2_get_buf(op, load_with_buf);
}

int q2_load_sync(struct q2 *q, uint32_t t, struct loop *l)
{
	uint8_t *buf;
	uint64_t off;
	int r;

	if (q->l2[t].state == TAB_LOADED || atomic_load(&q->l1[t]) == 0)
		return 0;
	r = table_offset(q, t, &off);
	if (r)
		return r;
	buf = sparse_map(q->cs);
	if (!buf)
		return -ENOMEM;
	q->l2[t].state = TAB_LOADING;
	r = q2_sync_io(q, l, BLOCK_READ, off, buf, q->cs);
	if (r == 0)
		fill(q, t, buf);
	settle(q, t, r);
	sparse_unmap(buf, q->cs);
	return r;
}
