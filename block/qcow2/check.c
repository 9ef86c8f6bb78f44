/*
 * block/qcow2/check.c - finding and repairing wrong refcounts.
 *
 * Spec:    docs/interop/qcow2.txt, "s Host cluster management", "s Snapshots",
 *          "s Bitmaps".
 * Threads: main loop's thread; nobody writes meanwhile.
 * Missing: nothing is moved: entries that point out of the file are reported
 *          and, when everything is to be repaired, made unallocated.
 *
 * All references are counted, then compared with what the image says. Leaks
 * are repaired in place. For anything worse the refcounts are written anew
 * behind everything that is used, and the header's one sector switches to
 * them: a crash meanwhile leaves the old ones. On a device they go behind what is
 * in use.
 */
#include "block/qcow2/qcow2.h"

#include <errno.h>
#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

#include "block/image.h"

struct checker {
	struct q2 *q;
	struct loop *l;
	struct image_check *c;
	enum image_fix fix;
	uint32_t *refs;			/* found, per host cluster */
	uint64_t clusters;		/* of the file */
	uint64_t top;			/* behind the last cluster referred to */
	uint64_t last_host;		/* for the fragmentation */
	uint8_t *table;			/* an L2 table */
	uint64_t entries_fixed;
	bool lasting;			/* a corruption that has no repair */
};

static void say(struct checker *k, const char *fmt, ...) __attribute__((format(printf, 2, 3)));
static void say(struct checker *k, const char *fmt, ...)
{
	char line[256];
	va_list ap;

	va_start(ap, fmt);
	vsnprintf(line, sizeof(line), fmt, ap);
	va_end(ap);
	if (k->c->report)
		k->c->report(line, k->c->arg);
}

/* Something refers to these bytes of the file. False: they are not in it. */
static bool refer(struct checker *k, uint64_t off, uint64_t bytes)
{
	uint64_t first = off >> k->q->cb, last;

	if (bytes == 0)
		return true;
	last = (off + bytes - 1) >> k->q->cb;
	if (off > ENTRY_OFFSET || last >= k->clusters)
		return false;
	for (uint64_t c = first; c <= last; c++)
		if (k->refs[c] < UINT32_MAX)
			k->refs[c]++;
	k->top = MAX(k->top, last + 1);
	return true;
}

static int read_at(struct checker *k, uint64_t off, void *buf, size_t len)
{
	return q2_sync_io(k->q, k->l, BLOCK_READ, off, buf, len);
}

static int write_at(struct checker *k, uint64_t off, void *buf, size_t len)
{
	return q2_sync_io(k->q, k->l, BLOCK_WRITE, off, buf, len);
}

/* ---- counting ---- */

/* Host bytes of an L2 entry; 0: none. False: nothing it may point to. */
static bool entry_range(const struct q2 *q, uint64_t e, uint64_t *off, uint64_t *bytes)
{
	*bytes = 0;
	if (e & OFLAG_COMPRESSED) {
		q2_compressed_range(q, e, off, bytes);
		return true;
	}
	*off = e & ENTRY_OFFSET;
	if (*off && !q->n.data.node)
		*bytes = q->cs;
	return (*off & (q->cs - 1)) == 0;
}

static void count_stats(struct checker *k, uint64_t e, uint64_t off)
{
	if (e & OFLAG_COMPRESSED) {
		k->c->allocated++;
		k->c->compressed++;
		k->c->fragmented++;	/* as qemu-img counts them */
	} else if (off) {
		k->c->allocated++;
		if (k->last_host && off != k->last_host + k->q->cs)
			k->c->fragmented++;
		k->last_host = off;
	}
}

static int count_l2(struct checker *k, uint64_t table, bool active)
{
	struct q2 *q = k->q;
	uint64_t n = BIT64(q->l2_bits), e, off, bytes;
	uint32_t step = q->ext ? 16 : 8;
	bool changed = false;
	int r = read_at(k, table, k->table, q->cs);

	for (uint64_t i = 0; i < n && r == 0; i++) {
		e = get_be64(k->table + i * step);
		if (entry_range(q, e, &off, &bytes) && refer(k, off, bytes)) {
			if (active)
				count_stats(k, e, off);
			continue;
		}
		say(k, "ERROR: the entry %#" PRIx64 " of the L2 table at %#" PRIx64 " points to "
		    "no place in the file", e, table);
		k->c->corruptions++;
		if (k->fix != IMAGE_FIX_ALL)
			continue;
		memset(k->table + i * step, 0, step);
		changed = true;
		k->c->corruptions--;
		k->c->corruptions_fixed++;
	}
	if (r == 0 && changed)
		r = write_at(k, table, k->table, q->cs);
	return r;
}

/* One L1 table has each L2 table once, so no more than the file has clusters: the
 * same ones over and over would keep us busy for hours. */
static int descend(struct checker *k, uint64_t table, bool active, uint64_t *tables)
{
	if (++*tables <= k->clusters)
		return count_l2(k, table, active);
	if (*tables == k->clusters + 1) {
		say(k, "ERROR: an L1 table has more entries than the file has clusters");
		k->c->corruptions++;
		k->lasting = true;
	}
	return 0;
}

/* Entries that point to no table become 0 in @l1, and when repairing in the file. */
static int count_tables(struct checker *k, uint64_t off, uint64_t *l1, uint32_t size, bool active)
{
	bool changed = false;
	uint64_t table;

	for (uint32_t i = 0; i < size; i++) {
		table = be64toh(l1[i]) & ENTRY_OFFSET;
		if (!table || (!(table & (k->q->cs - 1)) && refer(k, table, k->q->cs)))
			continue;
		say(k, "ERROR: L1 entry %" PRIu32 " (%#" PRIx64 ") points to no L2 table", i,
		    be64toh(l1[i]));
		l1[i] = 0;
		k->c->corruptions++;
		if (k->fix != IMAGE_FIX_ALL)
			continue;
		if (active)
			atomic_store(&k->q->l1[i], 0);
		changed = true;
		k->c->corruptions--;
		k->c->corruptions_fixed++;
	}
	return changed ? write_at(k, off, l1, align_up(size * 8ull, BLOCK_SECTOR)) : 0;
}

/* The table is written before any L2 table is: on hostile images it may be one. */
static int count_l1(struct checker *k, uint64_t off, uint32_t size, bool active)
{
	uint64_t bytes = align_up(size * 8ull, BLOCK_SECTOR), table, tables = 0;
	uint64_t *l1 = sparse_map(bytes);
	int r = l1 ? read_at(k, off, l1, bytes) : -ENOMEM;

	if (r == 0)
		r = count_tables(k, off, l1, size, active);
	for (uint32_t i = 0; i < size && r == 0; i++) {
		table = be64toh(l1[i]) & ENTRY_OFFSET;
		if (k->c->progress && active)
			k->c->progress(i, size, k->c->arg);
		if (table)
			r = descend(k, table, active, &tables);
	}
	sparse_unmap(l1, bytes);
	return r;
}

/* Does somebody else have a part of @s's L1 table? Each one has its own, so this
 * is damage, and "repaired" entries would be another's content (the header's). */
static bool l1_shared(const struct checker *k, const struct q2_snapshot *s)
{
	const struct q2 *q = k->q;
	uint64_t end = s->l1_offset + s->l1_size * 8ull;
	uint64_t table = q->h.reftable_offset, bytes = (uint64_t)q->h.reftable_clusters << q->cb;

	if (s->l1_size == 0)
		return false;
	for (uint64_t c = s->l1_offset >> q->cb; c < k->clusters && c << q->cb < end; c++)
		if (k->refs[c])
			return true;
	return s->l1_offset < table + bytes && table < end;
}

static int count_snapshot(struct checker *k, const struct q2_snapshot *s)
{
	if (l1_shared(k, s)) {
		say(k, "ERROR: the L1 table of snapshot '%.64s' at %#" PRIx64 " overlaps other "
		    "data; save the disk with 'roost img convert'", s->name, s->l1_offset);
		k->c->corruptions++;
		k->lasting = true;
		return 0;
	}
	refer(k, s->l1_offset, s->l1_size * 8ull);
	return count_l1(k, s->l1_offset, s->l1_size, false);
}

static int count_snapshots(struct checker *k, struct err *e)
{
	struct q2_snapshot *s = NULL;
	uint64_t bytes = 0;
	int r = q2_snapshots_read(k->q, k->l, &s, &bytes, e);

	if (r)
		return r;
	refer(k, k->q->h.snapshots_offset, bytes);
	for (uint32_t i = 0; i < k->q->h.nb_snapshots && r == 0; i++)
		r = count_snapshot(k, &s[i]);
	q2_snapshots_free(s, k->q->h.nb_snapshots);
	return r;
}

/* "s Bitmap table": entries with bits 9-55 of a cluster's offset. */
static int count_bitmap_table(struct checker *k, uint64_t off, uint32_t size)
{
	uint64_t *t, e;
	int r;

	if (size > 8 * MIB / 8 || !refer(k, off, size * 8ull))
		return -EUCLEAN;
	t = sparse_map(size * 8ull);
	r = t ? read_at(k, off, t, size * 8ull) : -ENOMEM;
	for (uint32_t i = 0; i < size && r == 0; i++) {
		e = be64toh(t[i]) & ENTRY_OFFSET;
		if (e)
			refer(k, e, k->q->cs);
	}
	sparse_unmap(t, size * 8ull);
	return r;
}

static int count_bitmaps(struct checker *k)
{
	uint64_t bytes = k->q->bitmap_dir_bytes, at = 0;
	uint8_t *dir;
	int r;

	/* Without the bit they are inconsistent: nobody looks at them. */
	if (!(k->q->h.autoclear & AUTOCLEAR_BITMAPS) || bytes == 0)
		return 0;
	if (!refer(k, k->q->bitmap_dir, bytes))
		return -EUCLEAN;
	dir = sparse_map(bytes);
	r = dir ? read_at(k, k->q->bitmap_dir, dir, bytes) : -ENOMEM;
	while (r == 0 && bytes - at >= 24) {
		r = count_bitmap_table(k, get_be64(dir + at), get_be32(dir + at + 8));
		at += align_up(24 + get_be16(dir + at + 18) + (uint64_t)get_be32(dir + at + 20),
			       8);
		if (at > bytes)
			break;
	}
	sparse_unmap(dir, bytes);
	return r;
}

static int count_all(struct checker *k, struct err *e)
{
	struct q2_header *h = &k->q->h;
	int r;

	refer(k, 0, k->q->cs);
	refer(k, h->l1_offset, h->l1_size * 8ull);
	r = count_l1(k, h->l1_offset, h->l1_size, true);
	if (r == 0)
		r = count_snapshots(k, e);
	if (r == 0)
		r = count_bitmaps(k);
	return r;
}

/* ---- comparing ---- */

static bool rt_good(const struct checker *k, uint64_t i)
{
	uint64_t off = k->q->rt[i];

	return off && !(off & (k->q->cs - 1)) && off >> k->q->cb < k->clusters;
}

static void unrefer(struct checker *k, uint64_t off, uint64_t bytes)
{
	for (uint64_t c = off >> k->q->cb; c < k->clusters && c << k->q->cb < off + bytes; c++)
		if (k->refs[c])
			k->refs[c]--;
}

/* The refcounts' own clusters, counted or taken back. */
static void count_refcounts(struct checker *k, bool count)
{
	struct q2 *q = k->q;
	uint64_t bytes = (uint64_t)q->h.reftable_clusters << q->cb;

	if (count)
		refer(k, q->h.reftable_offset, bytes);
	else
		unrefer(k, q->h.reftable_offset, bytes);
	for (uint32_t i = 0; i < q->rt_entries; i++) {
		if (!q->rt[i])
			continue;
		if (!rt_good(k, i) && count) {
			say(k, "ERROR refcount block %" PRIu32 " is outside image", i);
			k->c->corruptions++;
		} else if (rt_good(k, i) && count) {
			refer(k, q->rt[i], q->cs);
		} else if (rt_good(k, i)) {
			unrefer(k, q->rt[i], q->cs);
		}
	}
}

static void compare(struct checker *k, uint64_t c, uint64_t stored)
{
	uint64_t found = k->refs[c];

	if (found)
		k->c->end = (c + 1) << k->q->cb;
	if (stored == found)
		return;
	say(k, "%s cluster %" PRIu64 " refcount=%" PRIu64 " reference=%" PRIu64,
	    stored < found ? "ERROR" : "Leaked", c, stored, found);
	if (stored < found)
		k->c->corruptions++;
	else
		k->c->leaks++;
}

static int compare_all(struct checker *k)
{
	struct q2 *q = k->q;
	/* A sparse file may be much longer than anything in it. */
	uint64_t top = MAX(k->top, MIN(k->clusters, q->rt_entries * q->rb_count));
	uint64_t blocks = (top + q->rb_count - 1) / q->rb_count, stored, c;
	int r = 0;

	for (uint64_t i = 0; i < blocks && r == 0; i++) {
		bool have = i < q->rt_entries && rt_good(k, i);

		if (have)
			r = q2_rb_need(q, i, true);
		else if (i * q->rb_count >= k->top)
			continue;
		for (c = i * q->rb_count; r == 0 && c < MIN((i + 1) * q->rb_count, k->clusters);
		     c++) {
			stored = have ? q2_refblock_get(q2_rb(q, i), c % q->rb_count,
							q->h.refcount_order) : 0;
			compare(k, c, stored);
		}
	}
	return r;
}

/* "1 for standard clusters whose refcount is exactly one", in the active
 * tables; the same bit in L1 for L2 tables. */
static bool fix_copied(struct checker *k, uint8_t *p, uint64_t off, const char *what)
{
	uint64_t e = get_be64(p), c = off >> k->q->cb;
	bool one = c < k->clusters && k->refs[c] == 1;

	if (!off || one == !!(e & OFLAG_COPIED))
		return false;
	say(k, "ERROR OFLAG_COPIED %s: entry=%#" PRIx64 " refcount=%" PRIu32, what, e,
	    c < k->clusters ? k->refs[c] : 0);
	k->c->corruptions++;
	put_be64(p, one ? e | OFLAG_COPIED : e & ~OFLAG_COPIED);
	return k->fix == IMAGE_FIX_ALL;
}

static int copied_l2(struct checker *k, uint64_t table)
{
	struct q2 *q = k->q;
	uint32_t step = q->ext ? 16 : 8;
	uint64_t before = k->c->corruptions, e;
	bool changed = false;
	int r = read_at(k, table, k->table, q->cs);

	for (uint64_t i = 0; i < BIT64(q->l2_bits) && r == 0; i++) {
		e = get_be64(k->table + i * step);
		if (!(e & OFLAG_COMPRESSED) && !q->n.data.node)
			changed |= fix_copied(k, k->table + i * step, e & ENTRY_OFFSET,
					      "data cluster");
	}
	if (r == 0 && changed) {
		r = write_at(k, table, k->table, q->cs);
		k->c->corruptions_fixed += k->c->corruptions - before;
		k->c->corruptions = before;
	}
	return r;
}

/* The L1 table's entries, which are written first: on hostile images it is an L2 table
 * as well, whose repair is not to be undone. */
static int copied_l1(struct checker *k, uint8_t *l1, uint64_t bytes)
{
	struct q2 *q = k->q;
	bool changed = false;
	uint64_t table;
	uint8_t *p = l1;

	for (uint32_t i = 0; i < q->h.l1_size; i++, p += 8) {
		table = get_be64(p) & ENTRY_OFFSET;
		if (!fix_copied(k, p, table, "L2 cluster"))
			continue;
		changed = true;
		k->c->corruptions--;
		k->c->corruptions_fixed++;
		atomic_store(&q->l1[i], get_be64(p));
	}
	return changed ? write_at(k, q->h.l1_offset, l1, bytes) : 0;
}

static int check_copied(struct checker *k)
{
	struct q2 *q = k->q;
	uint64_t bytes = align_up(q->h.l1_size * 8ull, BLOCK_SECTOR), table, tables = 0;
	uint8_t *l1 = sparse_map(bytes);
	int r = l1 ? read_at(k, q->h.l1_offset, l1, bytes) : -ENOMEM;

	if (r == 0)
		r = copied_l1(k, l1, bytes);
	for (uint32_t i = 0; i < q->h.l1_size && r == 0; i++) {
		table = get_be64(l1 + 8 * (uint64_t)i) & ENTRY_OFFSET;
		if (table && !(table & (q->cs - 1)) && table >> q->cb < k->clusters &&
		    ++tables <= k->clusters)
			r = copied_l2(k, table);
	}
	sparse_unmap(l1, bytes);
	return r;
}

/* ---- repairing ---- */

static int lower_leaks(struct checker *k)
{
	struct q2 *q = k->q;
	uint64_t i, at, stored;
	int r = 0;

	for (uint64_t c = 0; c < k->clusters && r == 0; c++) {
		i = c / q->rb_count;
		at = c % q->rb_count;
		if (i >= q->rt_entries)
			break;
		if (!rt_good(k, i)) {
			c += q->rb_count - 1 - at;
			continue;
		}
		stored = q2_refblock_get(q2_rb(q, i), at, q->h.refcount_order);
		if (stored <= k->refs[c])
			continue;
		q2_refblock_set(q2_rb(q, i), at, q->h.refcount_order, k->refs[c]);
		q2_rb_dirty(q, (uint32_t)i,
			    (uint32_t)((at << q->h.refcount_order) / 8 / BLOCK_SECTOR), 1);
		k->c->leaks--;
		k->c->leaks_fixed++;
	}
	r = q2_write_refblocks(q);
	return r ? r : q2_sync_io(q, k->l, BLOCK_FLUSH, 0, NULL, 0);
}

/* New blocks and a new table in clusters [first, first + blocks + table). */
static int write_counts(struct checker *k, uint64_t first, uint64_t blocks, uint64_t table)
{
	struct q2 *q = k->q;
	uint64_t end = first + blocks + table, c, v;
	uint8_t *buf = sparse_map(q->cs);
	int r = buf ? 0 : -ENOMEM;

	for (uint64_t i = 0; i < blocks && r == 0; i++) {
		memset(buf, 0, q->cs);
		for (uint64_t at = 0; at < q->rb_count; at++) {
			c = i * q->rb_count + at;
			v = c >= first ? c < end : c < k->clusters ? k->refs[c] : 0;
			if (v > q2_ref_max(q))
				r = -EOVERFLOW;
			q2_refblock_set(buf, at, q->h.refcount_order, v);
		}
		if (r == 0)
			r = write_at(k, (first + i) << q->cb, buf, q->cs);
	}
	for (uint64_t i = 0; i < table && r == 0; i++) {
		for (uint64_t at = 0; at < q->cs / 8; at++) {
			c = i * q->cs / 8 + at;
			put_be64(buf + 8 * at, c < blocks ? (first + c) << q->cb : 0);
		}
		r = write_at(k, (first + blocks + i) << q->cb, buf, q->cs);
	}
	sparse_unmap(buf, q->cs);
	return r;
}

static bool can_grow(const struct q2 *q)
{
	const struct block_node *n = q->n.file.node;

	while (n->file.node)
		n = n->file.node;
	return n->drv != &block_driver_host_device;
}

/* Clusters for refcounts that count themselves as well, from cluster @first on. */
static void plan_counts(const struct q2 *q, uint64_t first, uint64_t *blocks, uint64_t *table)
{
	uint64_t need;

	*blocks = *table = 1;
	for (;;) {
		need = (first + *blocks + *table + q->rb_count - 1) / q->rb_count;
		if (need <= *blocks && *blocks * 8 <= *table << q->cb)
			break;
		*blocks = MAX(*blocks, need);
		*table = MAX(*table, (*blocks * 8 + q->cs - 1) >> q->cb);
	}
}

static int rebuild(struct checker *k)
{
	struct q2 *q = k->q;
	struct block_node *f = q->n.file.node;
	uint64_t first = can_grow(q) ? k->clusters : k->top, blocks, table;
	int r;

	plan_counts(q, first, &blocks, &table);
	if (table << q->cb > REFTABLE_BYTES_MAX)
		return -EFBIG;
	/* The file's length is known to others as well. */
	r = f->drv->set_length ? f->drv->set_length(f, (first + blocks + table) << q->cb) : 0;
	if (r)
		return r;
	atomic_store(&q->file_len, f->bytes);
	r = write_counts(k, first, blocks, table);
	if (r == 0)
		r = q2_sync_io(q, k->l, BLOCK_FLUSH, 0, NULL, 0);
	if (r)
		return r;
	q->h.reftable_offset = (first + blocks) << q->cb;
	q->h.reftable_clusters = (uint32_t)table;
	k->c->end = (first + blocks + table) << q->cb;
	k->c->corruptions_fixed += k->c->corruptions;
	k->c->leaks_fixed += k->c->leaks;
	k->c->corruptions = k->c->leaks = 0;
	return 0;
}

static int finish(struct checker *k)
{
	struct q2_header *h = &k->q->h;
	int r;

	h->incompatible &= ~(INCOMPAT_DIRTY | INCOMPAT_CORRUPT);
	r = q2_header_write(k->q, k->l);
	if (r == 0)
		r = q2_sync_io(k->q, k->l, BLOCK_FLUSH, 0, NULL, 0);
	if (r == 0)
		atomic_store(&k->q->broken, false);
	return r;
}

static int repair(struct checker *k)
{
	bool marked = k->q->h.incompatible & (INCOMPAT_DIRTY | INCOMPAT_CORRUPT);
	uint64_t wrong = k->c->corruptions;
	int r = 0;

	if (k->fix == IMAGE_FIX_ALL && wrong)
		r = rebuild(k);
	else if (k->fix && k->c->leaks)
		r = lower_leaks(k);
	if (r == 0 && k->fix == IMAGE_FIX_ALL && (wrong || marked))
		r = finish(k);
	return r;
}

/* ---- the whole ---- */

static int run(struct checker *k, struct err *e)
{
	uint64_t before;
	int r = count_all(k, e);

	/* Not all references are known: no count may become lower. */
	if (k->lasting)
		k->fix = IMAGE_FIX_NONE;
	if (r == 0) {
		before = k->c->corruptions_fixed;
		/* The refcounts' own do not count for others' flags. */
		r = check_copied(k);
		k->entries_fixed = k->c->corruptions_fixed - before;
	}
	if (r == 0 && k->entries_fixed)
		r = q2_sync_io(k->q, k->l, BLOCK_FLUSH, 0, NULL, 0);
	if (r == 0) {
		count_refcounts(k, true);
		r = compare_all(k);
	}
	/* A rebuild gives up the old table and blocks: they do not count. */
	if (r == 0 && k->fix == IMAGE_FIX_ALL && k->c->corruptions)
		count_refcounts(k, false);
	return r ? r : repair(k);
}

static int check(struct block_node *n, struct loop *l, enum image_fix fix, struct image_check *c,
		 struct err *e)
{
	struct q2 *q = (struct q2 *)n;
	struct checker k = { .q = q, .l = l, .c = c, .fix = fix };
	int r;

	k.clusters = (n->file.node->bytes + q->cs - 1) >> q->cb;
	k.refs = sparse_map(k.clusters * 4);
	k.table = sparse_map(q->cs);
	c->total = (q->h.size + q->cs - 1) >> q->cb;
	r = k.refs && k.table ? q2_refs_init(q, true, e) : -ENOMEM;
	if (r == 0)
		r = run(&k, e);
	q2_refs_fini(q);
	sparse_unmap(k.table, q->cs);
	sparse_unmap(k.refs, k.clusters * 4);
	return r ? err_sys(e, r, "the check could not be finished") : 0;
}

/* Entries are repaired before it is known whether the refcounts have to be written
 * anew. Where the file cannot grow, a look tells first whether there is room. */
static int check_room(struct q2 *q, struct loop *l, struct err *e)
{
	uint64_t bytes = q->n.file.node->bytes, blocks, table;
	struct image_check look = { 0 };
	int r = check(&q->n, l, IMAGE_FIX_NONE, &look, e);

	if (r || look.corruptions == 0)
		return r;
	plan_counts(q, look.end >> q->cb, &blocks, &table);
	if (look.end + ((blocks + table) << q->cb) <= bytes)
		return 0;
	return err_set(e, -ENOSPC, "%s has no room for new refcounts behind the %" PRIu64 " bytes in "
		       "use, nothing was changed; make it %" PRIu64 " bytes larger",
		       q->n.filename, look.end, look.end + ((blocks + table) << q->cb) - bytes);
}

int image_check(struct block_node *n, struct loop *l, enum image_fix fix, struct image_check *c,
		struct err *e)
{
	int r;

	if (!node_is_qcow2(n))
		return err_set(e, -ENOTSUP, "This image format does not support checks");
	if (((struct q2 *)n)->snapshot)
		return err_set(e, -ENOTSUP, "node '%s' shows an internal snapshot; check the image "
			       "without internal-snapshot=", n->name);
	r = fix == IMAGE_FIX_ALL && !can_grow((struct q2 *)n) ? check_room((struct q2 *)n, l, e) : 0;
	return r ? r : check(n, l, fix, c, e);
}
