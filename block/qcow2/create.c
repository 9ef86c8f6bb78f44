/*
 * block/qcow2/create.c - new images, and changes of the header that tools make.
 *
 * Spec:    docs/interop/qcow2.txt, "s Header", "s Header extensions".
 * Threads: main loop's thread.
 * Missing: preallocation (tools write the zeroes themselves).
 */
#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>

#include "block/image.h"
#include "block/qcow2/qcow2.h"

void image_qcow2_defaults(struct image_qcow2_opts *o)
{
	*o = (struct image_qcow2_opts){ .version = 3, .cluster_bits = 16, .refcount_order = 4 };
}

static uint64_t l1_entries(const struct image_qcow2_opts *o, uint64_t size)
{
	uint32_t shift = o->cluster_bits * 2 - (o->ext_l2 ? 4 : 3);

	return (size >> shift) + ((size & (BIT64(shift) - 1)) != 0);
}

int image_qcow2_check_opts(const struct image_qcow2_opts *o, struct err *e)
{
	if (o->version < 2 || o->version > 3)
		return err_set(e, -EINVAL, "version %" PRIu32 " is none of 2 (compat=0.10) and 3 "
			       "(compat=1.1)", o->version);
	if (o->cluster_bits < CLUSTER_BITS_MIN || o->cluster_bits > CLUSTER_BITS_MAX)
		return err_set(e, -EINVAL, "cluster_size must be a power of two between 512 and "
			       "2 MiB");
	if (o->refcount_order > 6)
		return err_set(e, -EINVAL, "refcount_bits must be 1, 2, 4, 8, 16, 32 or 64");
	if (o->version < 3 && (o->refcount_order != 4 || o->ext_l2 || o->lazy_refcounts ||
			       o->zstd || o->data_file))
		return err_set(e, -EINVAL, "compat=0.10 has 16-bit refcounts, zlib, and none of "
			       "extended_l2, lazy_refcounts and data_file; use compat=1.1");
	if (o->ext_l2 && o->cluster_bits < 14)
		return err_set(e, -EINVAL, "extended_l2=on needs a cluster_size of 16 KiB or more");
	if (o->data_raw && (!o->data_file || o->backing_file))
		return err_set(e, -EINVAL, "data_file_raw=on needs data_file= and no backing file");
	if (o->backing_file && !o->backing_format)
		return err_set(e, -EINVAL, "the backing file's format is missing; give -F");
	if (o->backing_file && strlen(o->backing_file) > BACKING_NAME_MAX)
		return err_set(e, -EINVAL, "the backing file's name is longer than %u bytes",
			       BACKING_NAME_MAX);
	if (o->size > INT64_MAX || l1_entries(o, o->size) > L1_BYTES_MAX / 8)
		return err_set(e, -EFBIG, "%" PRIu64 " bytes are too large for this cluster_size",
			       o->size);
	return 0;
}

/* ---- the first cluster ---- */

/* One extension at *@at; false when it does not fit. */
static bool put_ext(uint8_t *buf, size_t len, size_t *at, uint32_t type, const char *data)
{
	size_t n = strlen(data);

	if (align_up(n, 8) + 16 > len - *at)
		return false;
	put_be32(buf + *at, type);
	put_be32(buf + *at + 4, (uint32_t)n);
	memcpy(buf + *at + 8, data, n);
	*at += 8 + align_up(n, 8);
	return true;
}

/* Header, extensions and backing file name. */
static int put_first(struct q2_header *h, uint8_t *buf, const char *backing,
		     const char *format, const char *data_file, const struct q2 *old,
		     const uint8_t *old_first)
{
	size_t len = BIT64(h->cluster_bits), at = h->header_length;
	bool fits = true;

	if (old) {	/* fields behind those that we know stay as well */
		memcpy(buf, old_first, h->header_length);
		fits = q2_extensions_copy(&old->h, old_first, buf, len, &at);
	}
	if (fits && format)
		fits = put_ext(buf, len, &at, EXT_BACKING_FORMAT, format);
	if (fits && data_file)
		fits = put_ext(buf, len, &at, EXT_DATA_FILE, data_file);
	at += 8;	/* the end of the extensions: zeroes */
	if (fits && backing) {
		fits = strlen(backing) <= len - MIN(at, len);
		h->backing_offset = at;
		h->backing_bytes = (uint32_t)strlen(backing);
		if (fits)
			memcpy(buf + at, backing, h->backing_bytes);
	}
	q2_header_put(h, buf);
	return fits ? 0 : -ENOSPC;
}

/* ---- an empty image ---- */

struct layout {
	uint64_t blocks, table, l1;	/* clusters; the header is the first */
};

static void plan(const struct image_qcow2_opts *o, struct layout *y)
{
	uint64_t cs = BIT64(o->cluster_bits), per = cs * 8 >> o->refcount_order, all, before;

	y->l1 = MAX((l1_entries(o, o->size) * 8 + cs - 1) >> o->cluster_bits, (uint64_t)1);
	y->blocks = y->table = 1;
	do {
		before = y->blocks + y->table;
		all = 1 + y->blocks + y->table + y->l1;
		y->blocks = (all + per - 1) / per;
		y->table = (y->blocks * 8 + cs - 1) >> o->cluster_bits;
	} while (y->blocks + y->table != before);
}

static void fill_header(const struct image_qcow2_opts *o, const struct layout *y,
			struct q2_header *h)
{
	*h = (struct q2_header){
		.version = o->version, .cluster_bits = o->cluster_bits, .size = o->size,
		.l1_size = (uint32_t)l1_entries(o, o->size),
		.reftable_offset = BIT64(o->cluster_bits),
		.reftable_clusters = (uint32_t)y->table,
		.l1_offset = (1 + y->table + y->blocks) << o->cluster_bits,
		.refcount_order = o->refcount_order,
		.header_length = o->version < 3 ? QCOW2_V2_HEADER : QCOW2_HEADER_MAX,
		.compression = o->zstd ? Q2_ZSTD : Q2_ZLIB,
	};
	h->incompatible |= o->zstd ? INCOMPAT_COMPRESSION : 0;
	h->incompatible |= o->ext_l2 ? INCOMPAT_EXT_L2 : 0;
	h->incompatible |= o->data_file ? INCOMPAT_DATA_FILE : 0;
	h->compatible |= o->lazy_refcounts ? COMPAT_LAZY_REFCOUNTS : 0;
	h->autoclear |= o->data_raw ? AUTOCLEAR_DATA_RAW : 0;
}

static int put(struct block_node *file, struct loop *l, uint64_t off, void *buf, size_t len)
{
	struct iovec iov = { buf, len };

	return block_io_wait(file, l, BLOCK_WRITE, 0, off, &iov, 1, len);
}

/* Refcount table and blocks; the file is zero so far. */
static int put_counts(struct block_node *file, struct loop *l, const struct q2_header *h,
		      const struct layout *y, uint8_t *buf)
{
	uint64_t cs = BIT64(h->cluster_bits), per = cs * 8 >> h->refcount_order, c;
	uint64_t used = 1 + y->table + y->blocks + y->l1;
	int r = 0;

	for (uint64_t i = 0; i < y->blocks && r == 0; i++) {
		memset(buf, 0, cs);
		for (c = i * per; c < MIN((i + 1) * per, used); c++)
			q2_refblock_set(buf, c - i * per, h->refcount_order, 1);
		r = put(file, l, (1 + y->table + i) << h->cluster_bits, buf, cs);
	}
	for (uint64_t i = 0; i < y->table && r == 0; i++) {
		memset(buf, 0, cs);
		for (c = 0; c < cs / 8 && i * cs / 8 + c < y->blocks; c++)
			put_be64(buf + 8 * c, (1 + y->table + i * cs / 8 + c) << h->cluster_bits);
		r = put(file, l, (1 + i) << h->cluster_bits, buf, cs);
	}
	return r;
}

static int write_image(struct block_node *file, struct loop *l, struct q2_header *h,
		       const struct layout *y, const struct image_qcow2_opts *o, uint8_t *buf,
		       struct err *e)
{
	uint64_t all = (1 + y->table + y->blocks + y->l1) << h->cluster_bits;
	int r;

	/* Empty first: what was there reads as zeroes afterwards. */
	r = file->drv->set_length ? file->drv->set_length(file, 0) : -ENOTSUP;
	if (r == 0)
		r = file->drv->set_length(file, all);
	if (r == 0)
		r = block_io_wait(file, l, BLOCK_WRITE_ZEROES, 0, h->l1_offset, NULL, 0,
				  y->l1 << h->cluster_bits);
	if (r == 0)
		r = put_counts(file, l, h, y, buf);
	if (r == 0)
		r = block_io_wait(file, l, BLOCK_FLUSH, 0, 0, NULL, 0, 0);
	memset(buf, 0, BIT64(h->cluster_bits));
	if (r == 0 && put_first(h, buf, o->backing_file, o->backing_format, o->data_file,
				NULL, NULL))
		return err_set(e, -ENOSPC, "the backing file's name does not fit into a cluster of "
			       "%llu bytes", BIT64(h->cluster_bits));
	/* Last: until here it is no image. */
	if (r == 0)
		r = put(file, l, 0, buf, BIT64(h->cluster_bits));
	if (r == 0)
		r = block_io_wait(file, l, BLOCK_FLUSH, 0, 0, NULL, 0, 0);
	return r ? err_sys(e, r, "cannot write the image") : 0;
}

int image_qcow2_create(struct block_node *file, struct loop *l,
		       const struct image_qcow2_opts *o, struct err *e)
{
	struct q2_header h;
	struct layout y;
	uint8_t *buf;
	int r;

	r = image_qcow2_check_opts(o, e);
	if (r)
		return r;
	plan(o, &y);
	fill_header(o, &y, &h);
	buf = sparse_map(BIT64(o->cluster_bits));
	if (!buf)
		return err_sys(e, -ENOMEM, "no memory for a cluster");
	r = write_image(file, l, &h, &y, o, buf, e);
	sparse_unmap(buf, BIT64(o->cluster_bits));
	return r;
}

/* ---- an image that is there ---- */

/* The first cluster @buf has another name, of @bytes at @at. A crash leaves the old one
 * or the new one: that is durable before the one sector that points to it is written. */
static int write_in_place(struct q2 *q, struct loop *l, struct q2_header *h, uint64_t at,
			  size_t bytes, uint8_t *buf)
{
	int r = 0;

	h->backing_offset = at;
	h->backing_bytes = (uint32_t)bytes;
	q2_header_put(h, buf);
	if (bytes)
		r = q2_sync_io(q, l, BLOCK_WRITE, at, buf + at, align_up(bytes, BLOCK_SECTOR));
	if (r == 0 && bytes)
		r = q2_sync_io(q, l, BLOCK_FLUSH, 0, NULL, 0);
	return r ? r : q2_sync_io(q, l, BLOCK_WRITE, 0, buf, BLOCK_SECTOR);
}

/* Extensions have to move: the whole cluster anew. */
static int rewrite_first(struct q2 *q, struct loop *l, struct q2_header *h, const char *name,
			 const char *format, uint8_t *buf, const uint8_t *old)
{
	int r;

	memset(buf, 0, q->cs);
	h->backing_offset = h->backing_bytes = 0;
	r = put_first(h, buf, name, name ? format : NULL, q->data_name, q, old);
	return r ? r : q2_sync_io(q, l, BLOCK_WRITE, 0, buf, q->cs);
}

int image_set_backing(struct block_node *n, struct loop *l, const char *name,
		      const char *format, struct err *e)
{
	struct q2 *q = (struct q2 *)n;
	struct q2_header h;
	uint8_t *buf, *old;
	uint64_t at;
	int r;

	if (!node_is_qcow2(n))
		return err_set(e, -ENOTSUP, "only qcow2 images have backing files");
	if (q->snapshot)	/* its header is not the image's */
		return err_set(e, -EROFS, "node '%s' shows the internal snapshot '%.64s', which "
			       "cannot be written", n->name, q->snapshot);
	if (name && (!*name || strlen(name) > BACKING_NAME_MAX))
		return err_set(e, -EINVAL, "the backing file's name must have 1 to %u bytes",
			       BACKING_NAME_MAX);
	buf = sparse_map(2 * q->cs);
	if (!buf)
		return err_sys(e, -ENOMEM, "no memory for a cluster");
	old = buf + q->cs;
	/* Tables may grow meanwhile, which the header tells as well. */
	pthread_mutex_lock(&q->meta);
	h = q->h;
	/* Writing made the bitmaps stale: keep an image with some as it is. */
	r = q->bitmap_dir ? -ENOTSUP : q2_sync_io(q, l, BLOCK_READ, 0, old, q->cs);
	memcpy(buf, old, q->cs);
	if (r == 0 && q2_backing_in_place(&q->h, buf, q->cs, name, format, &at))
		r = write_in_place(q, l, &h, at, name ? strlen(name) : 0, buf);
	else if (r == 0)
		r = rewrite_first(q, l, &h, name, format, buf, old);
	if (r == 0)
		r = q2_sync_io(q, l, BLOCK_FLUSH, 0, NULL, 0);
	if (r == 0) {	/* all that changed: requests look at the rest */
		q->h.backing_offset = h.backing_offset;
		q->h.backing_bytes = h.backing_bytes;
	}
	pthread_mutex_unlock(&q->meta);
	sparse_unmap(buf, 2 * q->cs);
	return r ? err_sys(e, r, "cannot change the backing file's name") : 0;
}

void image_backing_changed(struct block_node *n, const char *name, const char *format)
{
	struct q2 *q = (struct q2 *)n;

	free(q->backing_name);
	free(q->backing_format);
	q->backing_name = name ? xstrdup(name) : NULL;
	q->backing_format = format ? xstrdup(format) : NULL;
	n->backing_file = q->backing_name;
	n->backing_format = q->backing_format;
}
