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

#include "block/qcow2/qcow2.h"
#include "vmm/base/json.h"

static const char *const overlap_words[] = {
	"none", "constant", "cached", "all", NULL
};

static const struct prop qcow2_props[] = {
	PROP_JSON(struct q2, file_opt, "file",
		  "the node below: a node-name, or an object with its options"),
	PROP_JSON(struct q2, backing_opt, "backing",
		  "the backing node; null: none; not given: the file that the image names, if "
		  "that is a plain local path"),
	PROP_JSON(struct q2, data_opt, "data-file",
		  "the node of an external data file, which is opened only when given here"),
	PROP_SIZE(struct q2, l2_limit, "l2-cache-size", 65536, INT64_MAX, 32 * MIB,
		  "memory for L2 tables at most; they are read when needed", .unit = "bytes"),
	PROP_BOOL(struct q2, lazy_refcounts, "lazy-refcounts", false,
		  "accepted; refcounts are always kept up to date, at no extra flush"),
	PROP_ONOFFAUTO(struct q2, pass_discard, "pass-discard-request", PROP_AUTO,
		       "give the space of freed clusters back to the host; auto: with "
		       "discard=unmap"),
	PROP_ENUM(struct q2, overlap_check, "overlap-check", overlap_words, 2,
		  "accepted; data is never written over metadata, whatever the image says"),
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
	uint8_t *buf = q2_reserve(BIT(CLUSTER_BITS_MAX));
	int r;

	if (!buf)
		return err_sys(e, -ENOMEM, "no memory for the header");
	/* 64 KiB hold what people make; the rest is read when it is larger. */
	r = q2_sync_io(q, l, BLOCK_READ, 0, buf, MIN(len, 65536u));
	if (r == 0)
		r = q2_header_parse(&q->h, buf, MIN(len, 65536u), file_bytes, e);
	else
		err_sys(e, r, "cannot read the header");
	q->cb = q->h.cluster_bits;
	q->cs = BIT64(q->cb);
	len = MIN(len, q->cs);
	if (r == 0 && len > 65536) {
		r = q2_sync_io(q, l, BLOCK_READ, 0, buf, len);
		if (r)
			err_sys(e, r, "cannot read the header");
	}
	if (r == 0)
		r = q2_extensions_parse(q, buf, len, e);
	q2_release(buf, BIT(CLUSTER_BITS_MAX));
	return r;
}

static int read_l1(struct q2 *q, struct loop *l, struct err *e)
{
	uint64_t bytes = q->h.l1_size * 8ull;
	uint64_t *raw;
	int r;

	if (bytes == 0)
		return 0;
	raw = q2_reserve(bytes);
	if (!raw)
		return err_sys(e, -ENOMEM, "no memory for the L1 table");
	r = q2_sync_io(q, l, BLOCK_READ, q->h.l1_offset, raw, bytes);
	if (r)
		err_sys(e, r, "cannot read the L1 table");
	for (uint32_t i = 0; r == 0 && i < q->h.l1_size; i++)
		if (raw[i])
			atomic_store_explicit(&q->l1[i], be64toh(raw[i]), memory_order_relaxed);
	q2_release(raw, bytes);
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
	atomic_store(&q->file_len, q2_data(q)->bytes);
	r = check_data_file(q, e);
	if (r == 0)
		r = q2_map_init(q, e);
	if (r == 0)
		r = read_l1(q, l, e);
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

int q2_activate(struct q2 *q, struct err *e)
{
	return err_set(e, -ENOTSUP, "writing to qcow2 images is not supported yet; use readonly=on");
}

void q2_deactivate(struct q2 *q)
{
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
	.set_perm = qcow2_set_perm,
};
