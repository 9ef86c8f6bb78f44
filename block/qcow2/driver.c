/*
 * block/qcow2/driver.c - the qcow2 node: options, opening, permissions.
 *
 * Spec:    docs/interop/qcow2.txt, "s Header"; QEMU qapi/block-core.json
 *          (BlockdevOptionsQcow2).
 * Threads: main loop.
 * Missing: encryption; bitmaps are kept, and marked inconsistent by writing,
 *          as the specification asks of who does not maintain them.
 */
#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>

#include "block/image.h"
#include "block/qcow2/qcow2.h"
#include "vmm/base/json.h"

static const char *const overlap_words[] = {
	"none", "constant", "cached", "all", NULL
};

static const struct prop qcow2_props[] = {
	PROP_JSON(struct q2, file_opt, "file",
		  "the node below: a node-name, or an object with its options",
		  .kind = "BlockdevRef"),
	PROP_JSON(struct q2, backing_opt, "backing",
		  "the backing node; null: none; not given: the file that the image names, if "
		  "that is a plain local path", .kind = "BlockdevRefOrNull"),
	PROP_JSON(struct q2, data_opt, "data-file",
		  "the node of an external data file, which is opened only when given here",
		  .kind = "BlockdevRef"),
	PROP_SIZE(struct q2, l2_limit, "l2-cache-size", 65536, INT64_MAX, 32 * MIB,
		  "memory for L2 tables at most; they are read when needed", .unit = "bytes"),
	PROP_BOOL(struct q2, lazy_refcounts, "lazy-refcounts", false,
		  "accepted; refcounts are always kept up to date, at no extra flush",
		  .flags = PROP_RUNTIME),
	PROP_ONOFFAUTO(struct q2, pass_discard, "pass-discard-request", PROP_AUTO,
		       "give the space of freed clusters back to the host; auto: with "
		       "discard=unmap"),
	PROP_STR(struct q2, snapshot, "internal-snapshot", NULL,
		 "show the disk as the internal snapshot of this id, or else of this name, kept "
		 "it; nothing can be written then"),
	PROP_ENUM(struct q2, overlap_check, "overlap-check", overlap_words, 2,
		  "accepted; data is never written over metadata, whatever the image says",
		  .flags = PROP_RUNTIME),
	PROP_END
};

static int refuse(const struct q2 *q, int ret, struct err *e)
{
	err_prefix(e, "%s", q->n.file.node->filename ? q->n.file.node->filename :
		   q->n.file.node->name);
	return ret;
}

/* The part of the first cluster that the header, its extensions and the
 * backing file's name can take. */
static int read_header(struct q2 *q, struct loop *l, struct err *e)
{
	uint64_t file_bytes = q->n.file.node->bytes;
	size_t len = (size_t)MIN(file_bytes, (uint64_t)BIT(CLUSTER_BITS_MAX));
	uint8_t *buf = sparse_map(BIT(CLUSTER_BITS_MAX));
	int r;

	if (!buf)
		return err_sys(e, -ENOMEM, "no memory for the header");
	/* 64 KiB hold what people make; the rest is read when it is larger. */
	r = q2_sync_io(q, l, BLOCK_READ, 0, buf, MIN(len, 65536u));
	if (r == 0)
		r = q2_header_parse(&q->h, buf, MIN(len, 65536u), file_bytes, e);
	else
		err_sys(e, r, "cannot read the header");
	if (r == 0) {
		q->cb = q->h.cluster_bits;
		q->cs = BIT64(q->cb);
		len = MIN(len, q->cs);
	}
	if (r == 0 && len > 65536) {
		r = q2_sync_io(q, l, BLOCK_READ, 0, buf, len);
		if (r)
			err_sys(e, r, "cannot read the header");
	}
	if (r == 0)
		r = q2_extensions_parse(q, buf, len, e);
	sparse_unmap(buf, BIT(CLUSTER_BITS_MAX));
	return r;
}

static int read_l1(struct q2 *q, struct loop *l, struct err *e)
{
	uint64_t bytes = q->h.l1_size * 8ull;
	uint64_t *raw;
	int r;

	if (bytes == 0)
		return 0;
	raw = sparse_map(bytes);
	if (!raw)
		return err_sys(e, -ENOMEM, "no memory for the L1 table");
	r = q2_sync_io(q, l, BLOCK_READ, q->h.l1_offset, raw, bytes);
	if (r)
		err_sys(e, r, "cannot read the L1 table");
	for (uint32_t i = 0; r == 0 && i < q->h.l1_size; i++)
		if (raw[i])
			atomic_store_explicit(&q->l1[i], be64toh(raw[i]), memory_order_relaxed);
	sparse_unmap(raw, bytes);
	return r;
}

static int check_data_file(const struct q2 *q, struct err *e)
{
	bool wants = q->h.incompatible & INCOMPAT_DATA_FILE;

	if (wants && !q->n.data.node)
		return err_set(e, -EPERM, "its data is in an external file%s%.128s%s, which is "
			       "opened only when data-file= names it", q->data_name ? ", '" : "",
			       q->data_name ? q->data_name : "", q->data_name ? "'" : "");
	if (!wants && q->n.data.node)
		return err_set(e, -EINVAL, "data-file= is given, but the image has no external "
			       "data file");
	return 0;
}

static int open_tables(struct q2 *q, struct loop *l, struct err *e)
{
	int r;

	q->ext = q->h.incompatible & INCOMPAT_EXT_L2;
	q->l2_bits = q->cb - (q->ext ? 4 : 3);
	q->sub = q->ext ? q->cs / SUBCLUSTERS : q->cs;
	/* Entries behind the disk's end hold VM state, which is not looked at. */
	q->tables = (uint32_t)((q->h.size + BIT64(q->cb + q->l2_bits) - 1) >>
			       (q->cb + q->l2_bits));
	atomic_store(&q->file_len, q->n.file.node->bytes);
	r = check_data_file(q, e);
	if (r == 0)
		r = q2_map_init(q, e);
	if (r == 0)
		r = read_l1(q, l, e);
	if (r == 0 && q2_below_init(q))
		r = err_sys(e, -ENOMEM, "no address space for the map of the chain");
	return r ? r : q2_pool_init(q, e);
}

static void init_locks(struct q2 *q)
{
	pthread_mutex_init(&q->tab_lock, NULL);
	pthread_mutex_init(&q->pool_lock, NULL);
	pthread_mutex_init(&q->meta, NULL);
	pthread_mutex_init(&q->work_lock, NULL);
	pthread_cond_init(&q->work_cond, NULL);
	q->work_tail = &q->work;
	atomic_init(&q->epoch, 1);
}

static int qcow2_open(struct block_node *n, struct err *e)
{
	struct q2 *q = (struct q2 *)n;
	struct loop *l = block_graph_wait_loop(n->graph);
	int r;

	init_locks(q);
	/* Nobody may change the file while it is open here, used or not. */
	r = block_reattach(&n->file, BLOCK_PERM_READ, BLOCK_PERM_READ | BLOCK_PERM_WRITE_UNCHANGED,
			   e);
	if (r)
		return r;
	r = read_header(q, l, e);
	if (r == 0 && q->snapshot)
		r = q2_snapshot_show(q, l, e);
	if (r == 0)
		r = open_tables(q, l, e);
	if (r)
		return refuse(q, r, e);
	if ((q->h.incompatible & INCOMPAT_CORRUPT) && !n->read_only) {
		err_set(e, -EUCLEAN, "the image is marked corrupt; repair it with 'roost img "
			"check -r all', or use readonly=on");
		return refuse(q, -EUCLEAN, e);
	}
	n->bytes = align_down(q->h.size, BLOCK_SECTOR);
	atomic_store(&q->reach, n->bytes);
	n->request_align = 1;
	n->discard_align = (uint32_t)q->cs;
	n->filename = n->file.node->filename;
	n->read_only |= n->file.node->read_only;
	n->backing_file = q->backing_name;
	n->backing_format = q->backing_format;
	return 0;
}

static void qcow2_close(struct block_node *n)
{
	struct q2 *q = (struct q2 *)n;

	if (q->writable)
		q2_deactivate(q);
	q2_pool_fini(q);
	q2_below_fini(q);
	q2_map_fini(q);
	free(q->backing_name);
	free(q->backing_format);
	free(q->data_name);
	pthread_mutex_destroy(&q->tab_lock);
	pthread_mutex_destroy(&q->pool_lock);
	pthread_mutex_destroy(&q->meta);
	pthread_mutex_destroy(&q->work_lock);
	pthread_cond_destroy(&q->work_cond);
}

/* What guest data must never be written to: header, tables, blocks. A place
 * that two of them claim is damage. */
static int mark_all(struct q2 *q, struct err *e)
{
	uint64_t off;

	q2_mark_meta(q, 0, q->cs, true);
	q2_mark_meta(q, q->h.l1_offset, q->h.l1_size * 8ull, true);
	q2_mark_meta(q, q->h.reftable_offset, (uint64_t)q->h.reftable_clusters << q->cb, true);
	for (uint32_t i = 0; i < q->rt_entries + q->h.l1_size; i++) {
		off = i < q->rt_entries ? q->rt[i] :
		      atomic_load(&q->l1[i - q->rt_entries]) & ENTRY_OFFSET;
		if (!off)
			continue;
		if ((off & (q->cs - 1)) || q2_is_meta(q, off, q->cs))
			return err_set(e, -EUCLEAN, "the table at %#" PRIx64 " overlaps other "
				       "metadata; repair the image with 'roost img check -r all'",
				       off);
		q2_mark_meta(q, off, q->cs, true);
	}
	return 0;
}

static int mark_snapshots(struct q2 *q, struct err *e)
{
	struct q2_snapshot *s = NULL;
	uint64_t bytes = 0;
	int r;

	r = q2_snapshots_read(q, q2_wloop(q), &s, &bytes, e);
	if (r)
		return r;
	q2_mark_meta(q, q->h.snapshots_offset, bytes, true);
	for (uint32_t i = 0; i < q->h.nb_snapshots; i++)
		q2_mark_meta(q, s[i].l1_offset, s[i].l1_size * 8ull, true);
	q2_snapshots_free(s, q->h.nb_snapshots);
	return 0;
}

/* "An implementation may only write to an image with unknown auto-clear
 * features if it clears the respective bits from this field first." Bitmaps are
 * known, but not kept up to date. */
static int clear_features(struct q2 *q, struct err *e)
{
	uint64_t keep = q->h.autoclear & AUTOCLEAR_DATA_RAW;
	int r;

	if (q->h.version < 3 || q->h.autoclear == keep)
		return 0;
	q->h.autoclear = keep;
	r = q2_header_write(q, q2_wloop(q));
	if (r == 0)
		r = q2_sync_io(q, q2_wloop(q), BLOCK_FLUSH, 0, NULL, 0);
	return r ? err_sys(e, r, "cannot write the header") : 0;
}

static int grow_data_file(struct q2 *q, struct err *e)
{
	struct block_node *d = q->n.data.node;
	int r;

	if (!d || d->bytes >= q->n.bytes || !d->drv->set_length)
		return 0;
	r = d->drv->set_length(d, q->n.bytes);
	return r ? err_sys(e, r, "the data file cannot become as large as the disk") : 0;
}

static int repair_dirty(struct q2 *q, struct err *e)
{
	struct image_check c = { 0 };
	int r;

	log_info("%s was not closed properly: its refcounts are repaired", q->n.filename);
	r = image_check(&q->n, q2_wloop(q), IMAGE_FIX_ALL, &c, e);
	if (r == 0 && c.corruptions)
		return err_set(e, -EUCLEAN, "it was not closed properly and cannot be repaired; save "
			       "the disk with 'roost img convert', or use readonly=on");
	return r;
}

static int prepare(struct q2 *q, struct err *e)
{
	int r;

	if (q->h.incompatible & INCOMPAT_CORRUPT)
		return err_set(e, -EUCLEAN, "the image is marked corrupt; repair it with 'roost "
			       "img check -r all', or use readonly=on");
	if (q->stale)
		return err_set(e, -EIO, "its metadata could not be written when it was last in use; "
			       "remove the node and add it again");
	r = 0;
	/* "Make sure to scan L1/L2 tables to repair refcounts before accessing
	 * the image." */
	if (q->h.incompatible & INCOMPAT_DIRTY)
		r = repair_dirty(q, e);
	if (r == 0)
		r = q2_refs_init(q, false, e);
	if (r == 0)
		r = mark_all(q, e);
	if (r == 0)
		r = mark_snapshots(q, e);
	if (r == 0)
		r = clear_features(q, e);
	if (r == 0)
		r = grow_data_file(q, e);
	if (r == 0 && q2_flush_init(q))
		r = err_sys(e, -ENOMEM, "no memory for flushes");
	return r;
}

int q2_activate(struct q2 *q, struct err *e)
{
	int r;

	/* It was opened read-only, and block_reopen() made it writable. */
	q2_map_make_room(q);
	r = prepare(q, e);
	if (r == 0) {
		/* What was read so far was not checked against the tables. */
		pthread_mutex_lock(&q->meta);
		q2_evict_all(q);
		pthread_mutex_unlock(&q->meta);
		q->cursor = 1;
		q->old_len = q->n.file.node->bytes;
		atomic_store(&q->file_len, q->old_len);
		q->virgin = (q->old_len + q->cs - 1) >> q->cb;
		q->writable = true;
		graph_changed(q->n.graph);
		r = q2_worker_start(q, e);
	}
	if (r) {
		q->writable = false;
		q2_worker_stop(q);
		q2_flush_fini(q);
		q2_refs_fini(q);
		return refuse(q, r, e);
	}
	return 0;
}

/* Space that growing in steps took and nothing came to use. */
static void cut_tail(struct q2 *q)
{
	struct block_node *f = q->n.file.node;
	uint64_t end = MAX(q->virgin << q->cb, q->old_len);

	if (atomic_load(&q->file_len) > end && f->drv->set_length(f, end) == 0)
		atomic_store(&q->file_len, end);
}

static void set_corrupt(struct q2 *q)
{
	if (q->h.version < 3)
		return;		/* has no such bit */
	q->h.incompatible |= INCOMPAT_CORRUPT;
	if (q2_header_write(q, q2_wloop(q)) == 0)
		q2_sync_io(q, q2_wloop(q), BLOCK_FLUSH, 0, NULL, 0);
}

void q2_deactivate(struct q2 *q)
{
	int r;

	q2_worker_stop(q);
	r = q2_flush_meta(q);
	/* What the first one freed. */
	if (r == 0)
		r = q2_flush_meta(q);
	if (atomic_load(&q->broken))
		set_corrupt(q);
	else if (r)
		log_err("%s: its metadata could not be written (%s): what was written since the "
			"last flush may be lost", q->n.filename, strerror(-r));
	else
		cut_tail(q);
	q->stale = q2_is_dirty(q);
	q->writable = false;
	q2_flush_fini(q);
	q2_refs_fini(q);
}

static bool qcow2_unsettled(struct block_node *n)
{
	struct q2 *q = (struct q2 *)n;

	return q->writable && q2_is_dirty(q);
}

/* What users do to the disk is done to the files: data and metadata go to
 * `file`, which nobody else may write meanwhile; `backing` is only read. */
static int qcow2_set_perm(struct block_node *n, uint32_t perm, uint32_t shared, struct err *e)
{
	struct q2 *q = (struct q2 *)n;
	uint32_t others = BLOCK_PERM_READ | BLOCK_PERM_WRITE_UNCHANGED;
	bool write = perm & (BLOCK_PERM_WRITE | BLOCK_PERM_RESIZE | BLOCK_PERM_WRITE_UNCHANGED);
	uint32_t below = BLOCK_PERM_READ | (write ? BLOCK_PERM_WRITE | BLOCK_PERM_RESIZE : 0);
	int r = 0;

	/* read-only=off may be asked for later, by blockdev-reopen. */
	if (write && q->snapshot)
		return err_set(e, -EROFS, "node '%s' shows the internal snapshot '%.64s', which "
			       "cannot be written; convert it into an image of its own", n->name,
			       q->snapshot);
	if (write && n->read_only)
		return err_set(e, -EROFS, "node '%s' is read-only", n->name);
	if (!write && q->writable)
		q2_deactivate(q);
	r = block_reattach(&n->file, below, others, e);
	if (r == 0 && n->data.node)
		r = block_reattach(&n->data, below, others, e);
	if (r == 0 && n->backing.node)
		r = block_reattach(&n->backing, perm ? BLOCK_PERM_READ : 0, others |
				   (shared & BLOCK_PERM_WRITE ? BLOCK_PERM_WRITE |
				    BLOCK_PERM_RESIZE : 0), e);
	if (r == 0 && write && !q->writable)
		r = q2_activate(q, e);
	return r;
}

const struct block_driver block_driver_qcow2 = {
	.name = "qcow2", .help = "QEMU's image format, versions 2 and 3", .backs = true,
	.size = sizeof(struct q2), .props = qcow2_props,
	.open = qcow2_open, .close = qcow2_close, .submit = q2_submit,
	.set_perm = qcow2_set_perm, .unsettled = qcow2_unsettled, .forget = q2_below_forget,
	.check_length = q2_check_length, .set_length = q2_set_length,
};
