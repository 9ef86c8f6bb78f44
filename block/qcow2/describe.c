/*
 * block/qcow2/describe.c - what an image is and where its data lie, for tools.
 *
 * Spec:    QEMU qapi/block-core.json (ImageInfo, ImageInfoSpecificQCow2,
 *          SnapshotInfo), the output of qemu-img map.
 * Threads: main loop's thread.
 * Missing: nothing known.
 */
#include <errno.h>
#include <string.h>

#include "block/file.h"
#include "block/image.h"
#include "block/qcow2/qcow2.h"
#include "vmm/base/json.h"

static void put_int(json_t *o, const char *key, uint64_t v)
{
	json_object_set_new(o, key, json_integer((json_int_t)v));
}

static void put_bool(json_t *o, const char *key, bool v)
{
	json_object_set_new(o, key, json_boolean(v));
}

static json_t *specific(const struct q2 *q)
{
	json_t *data = json_object(), *out = json_object();

	json_put_str(data, "compat", q->h.version < 3 ? "0.10" : "1.1");
	json_put_str(data, "compression-type", q->h.compression == Q2_ZSTD ? "zstd" : "zlib");
	if (q->h.version >= 3) {
		put_bool(data, "lazy-refcounts", q->h.compatible & COMPAT_LAZY_REFCOUNTS);
		put_bool(data, "corrupt", q->h.incompatible & INCOMPAT_CORRUPT);
		put_bool(data, "extended-l2", q->ext);
	}
	put_int(data, "refcount-bits", 1u << q->h.refcount_order);
	if (q->data_name) {
		json_put_str(data, "data-file", q->data_name);
		put_bool(data, "data-file-raw", q->h.autoclear & AUTOCLEAR_DATA_RAW);
	}
	json_put_str(out, "type", "qcow2");
	json_object_set_new(out, "data", data);
	return out;
}

int image_describe(struct block_node *n, struct loop *l, json_t *out, struct err *e)
{
	struct q2 *q = (struct q2 *)n;
	struct q2_snapshot *s = NULL;
	uint64_t bytes = 0;
	json_t *list, *one;
	int r;

	if (!node_is_qcow2(n))
		return 0;
	put_int(out, "cluster-size", q->cs);
	put_bool(out, "dirty-flag", q->h.incompatible & INCOMPAT_DIRTY);
	if (q->backing_name)
		json_put_str(out, "backing-filename", q->backing_name);
	if (q->backing_name && q->backing_format)
		json_put_str(out, "backing-filename-format", q->backing_format);
	json_object_set_new(out, "format-specific", specific(q));
	r = q2_snapshots_read(q, l, &s, &bytes, e);
	if (r || q->h.nb_snapshots == 0) {
		q2_snapshots_free(s, r ? 0 : q->h.nb_snapshots);
		return r;
	}
	list = json_array();
	for (uint32_t i = 0; i < q->h.nb_snapshots; i++) {
		one = json_object();
		json_put_str(one, "id", s[i].id);
		json_put_str(one, "name", s[i].name);
		put_int(one, "vm-state-size", s[i].vm_bytes);
		put_int(one, "date-sec", s[i].date_s);
		put_int(one, "date-nsec", s[i].date_ns);
		put_int(one, "vm-clock-sec", s[i].vm_ns / NS_PER_SEC);
		put_int(one, "vm-clock-nsec", s[i].vm_ns % NS_PER_SEC);
		json_array_append_new(list, one);
	}
	json_object_set_new(out, "snapshots", list);
	q2_snapshots_free(s, q->h.nb_snapshots);
	return 0;
}

#define STATUS_TRIES	100

/* A read brings the L2 table into memory, beside whatever requests are in flight;
 * one or two more where memory for tables is short and others need it. */
static int qcow2_status(struct q2 *q, struct loop *l, uint64_t pos, uint64_t len,
			struct q2_extent *x)
{
	uint8_t sector[BLOCK_SECTOR];
	struct iovec iov = { sector, sizeof(sector) };
	int r = 0;

	for (int i = 0; i < STATUS_TRIES; i++) {
		*x = q2_lookup(q, pos, len);
		if (x->kind != Q2_UNLOADED)
			return 0;
		r = block_io_wait(&q->n, l, BLOCK_READ, 0, align_down(pos, BLOCK_SECTOR), &iov, 1,
				  sizeof(sector));
	}
	return r ? r : -EIO;
}

/* A raw image's holes are zeroes that nothing has to be read for. */
static void raw_status(struct block_node *n, uint64_t pos, struct image_extent *x)
{
	x->node = n->file.node ? n->file.node : n;
	x->offset = pos;
	x->data = true;
	/* Not where the image is a part of its file (offset=, size=). */
	if (strcmp(x->node->drv->name, "file") == 0 && x->node->bytes == n->bytes)
		x->data = !file_hole((const struct file_node *)x->node, pos, &x->len);
	x->zero = !x->data;
}

int image_status(struct block_node *n, struct loop *l, uint64_t pos, uint64_t len, bool deep,
		 struct image_extent *x)
{
	struct q2_extent q;
	unsigned int depth = 0;
	int r;

	for (;; n = n->backing.node, depth++) {
		*x = (struct image_extent){ .len = len, .depth = depth, .present = true };
		if (!node_is_qcow2(n)) {
			raw_status(n, pos, x);
			return 0;
		}
		r = qcow2_status((struct q2 *)n, l, pos, len, &q);
		if (r)
			return r;
		x->len = len = q.len;
		if (q.kind != Q2_UNALLOC)
			break;
		if (!deep || !n->backing.node || pos >= n->backing.node->bytes) {
			x->present = false;
			x->zero = !n->backing.node || pos >= n->backing.node->bytes;
			return 0;
		}
		len = MIN(len, n->backing.node->bytes - pos);
	}
	x->zero = q.kind == Q2_ZEROES;
	x->data = q.kind == Q2_DATA || q.kind == Q2_COMPRESSED || q.kind == Q2_BAD;
	x->compressed = q.kind == Q2_COMPRESSED;
	if (q.kind == Q2_DATA) {
		x->node = q2_data((struct q2 *)n);
		x->offset = q.host;
	}
	return 0;
}
