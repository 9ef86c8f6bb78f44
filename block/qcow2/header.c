/*
 * block/qcow2/header.c - the header and its extensions.
 *
 * Spec:    docs/interop/qcow2.txt, "s Header", "s Header extensions",
 *          "s Feature name table".
 * Threads: main loop (open) or the worker (writing the header).
 * Missing: encryption (refused by name).
 *
 * Every number here is hostile. Each is checked against a limit, in arithmetic
 * that cannot wrap, before anything is read or allocated by it (CVE-2014-0142
 * to 0148, 0150, 0222, 0223).
 */
#include "block/qcow2/qcow2.h"

#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>

#include "vmm/base/util.h"

static void get_fields(struct q2_header *h, const uint8_t *b)
{
	h->version = get_be32(b + 4);
	h->backing_offset = get_be64(b + 8);
	h->backing_bytes = get_be32(b + 16);
	h->cluster_bits = get_be32(b + 20);
	h->size = get_be64(b + 24);
	h->crypt_method = get_be32(b + 32);
	h->l1_size = get_be32(b + 36);
	h->l1_offset = get_be64(b + 40);
	h->reftable_offset = get_be64(b + 48);
	h->reftable_clusters = get_be32(b + 56);
	h->nb_snapshots = get_be32(b + 60);
	h->snapshots_offset = get_be64(b + 64);
	/* Version 2 "is exactly 72 bytes in length". */
	h->header_length = QCOW2_V2_HEADER;
	h->refcount_order = 4;
	if (h->version < 3)
		return;
	h->incompatible = get_be64(b + 72);
	h->compatible = get_be64(b + 80);
	h->autoclear = get_be64(b + 88);
	h->refcount_order = get_be32(b + 96);
	h->header_length = get_be32(b + 100);
}

/* Is [off, off + bytes) a place in the file where a table can be? Tables at the
 * end of a sparse file may reach up to a cluster behind it. */
static int check_table(const char *what, uint64_t off, uint64_t bytes, uint64_t file_bytes,
		       uint64_t cs, struct err *e)
{
	if (off & (cs - 1))
		return err_set(e, -EINVAL, "%s offset %#" PRIx64 " is not on a cluster boundary",
			       what, off);
	if (bytes && (off == 0 || off > ENTRY_OFFSET || bytes > align_up(file_bytes, cs) ||
		      off > align_up(file_bytes, cs) - bytes))
		return err_set(e, -EINVAL, "%s (%" PRIu64 " bytes at %#" PRIx64 ") reaches beyond "
			       "the file of %" PRIu64 " bytes", what, bytes, off, file_bytes);
	return 0;
}

static int check_basics(const struct q2_header *h, struct err *e)
{
	if (h->version < 2 || h->version > 3)
		return err_set(e, -ENOTSUP, "qcow2 version %" PRIu32 " is not supported; 2 and 3 "
			       "are", h->version);
	if (h->cluster_bits < CLUSTER_BITS_MIN || h->cluster_bits > CLUSTER_BITS_MAX)
		return err_set(e, -EINVAL, "cluster_bits is %" PRIu32 "; it must be %u..%u "
			       "(512 bytes to 2 MiB)", h->cluster_bits, CLUSTER_BITS_MIN,
			       CLUSTER_BITS_MAX);
	if (h->crypt_method)
		return err_set(e, -ENOTSUP, "the image is encrypted (crypt_method %" PRIu32 "), "
			       "which is not supported; decrypt it with 'qemu-img convert'",
			       h->crypt_method);
	if (h->refcount_order > 6)
		return err_set(e, -EINVAL, "refcount_order is %" PRIu32 "; it must be 0..6",
			       h->refcount_order);
	if (h->version == 3 && (h->header_length < QCOW2_V3_HEADER || h->header_length % 8 ||
				h->header_length > BIT64(h->cluster_bits)))
		return err_set(e, -EINVAL, "header_length is %" PRIu32 "; it must be a multiple of "
			       "8 between %d and the cluster size", h->header_length,
			       QCOW2_V3_HEADER);
	return 0;
}

static int check_features(const struct q2_header *h, struct err *e)
{
	bool bit = h->incompatible & INCOMPAT_COMPRESSION;

	/* "If the incompatible bit "Compression type" is set: the field must be
	 * present and non-zero. Otherwise … must be zero." */
	if (bit != (h->compression != 0))
		return err_set(e, -EINVAL, "the compression type is %u, which contradicts the "
			       "compression type bit", h->compression);
	if (h->compression > Q2_ZSTD)
		return err_set(e, -ENOTSUP, "compression type %u is not supported; zlib and zstd "
			       "are", h->compression);
	if ((h->incompatible & INCOMPAT_EXT_L2) && h->cluster_bits < 14)
		return err_set(e, -EINVAL, "extended L2 entries need clusters of 16 KiB or more");
	if ((h->autoclear & AUTOCLEAR_DATA_RAW) && !(h->incompatible & INCOMPAT_DATA_FILE))
		return err_set(e, -EINVAL, "the raw external data bit is set, but there is no "
			       "external data file");
	if ((h->autoclear & AUTOCLEAR_DATA_RAW) && h->backing_offset)
		return err_set(e, -EINVAL, "a raw external data file cannot have a backing file");
	if ((h->incompatible & INCOMPAT_DATA_FILE) && h->nb_snapshots)
		return err_set(e, -EINVAL, "an image with an external data file cannot have "
			       "internal snapshots");
	return 0;
}

/* L1 entries that @size needs. */
static uint64_t l1_needed(const struct q2_header *h)
{
	uint32_t l2_bits = h->cluster_bits - (h->incompatible & INCOMPAT_EXT_L2 ? 4 : 3);
	uint32_t shift = h->cluster_bits + l2_bits;

	return (h->size >> shift) + ((h->size & (BIT64(shift) - 1)) != 0);
}

int q2_header_check_l1(const struct q2_header *h, uint64_t file_bytes, struct err *e)
{
	uint64_t cs = BIT64(h->cluster_bits);

	if (h->size > INT64_MAX || l1_needed(h) > L1_BYTES_MAX / 8)
		return err_set(e, -EFBIG, "the disk is %" PRIu64 " bytes, too large for clusters "
			       "of %" PRIu64 " bytes", h->size, cs);
	if (h->l1_size > L1_BYTES_MAX / 8)
		return err_set(e, -EFBIG, "the L1 table has %" PRIu32 " entries; at most %" PRIu64
			       " are allowed", h->l1_size, (uint64_t)(L1_BYTES_MAX / 8));
	if (h->l1_size < l1_needed(h))
		return err_set(e, -EINVAL, "the L1 table has %" PRIu32 " entries, too few for %"
			       PRIu64 " bytes", h->l1_size, h->size);
	return check_table("L1 table", h->l1_offset, h->l1_size * 8ull, file_bytes, cs, e);
}

static int check_tables(const struct q2_header *h, uint64_t file_bytes, struct err *e)
{
	uint64_t cs = BIT64(h->cluster_bits);
	int r = q2_header_check_l1(h, file_bytes, e);

	if (r)
		return r;
	if (h->reftable_clusters > REFTABLE_BYTES_MAX >> h->cluster_bits)
		return err_set(e, -EFBIG, "the refcount table has %" PRIu32 " clusters; at most %"
			       PRIu64 " are allowed", h->reftable_clusters,
			       (uint64_t)(REFTABLE_BYTES_MAX >> h->cluster_bits));
	if (h->reftable_clusters == 0)
		return err_set(e, -EINVAL, "there is no refcount table");
	if (h->nb_snapshots > SNAPSHOTS_MAX)
		return err_set(e, -EFBIG, "there are %" PRIu32 " internal snapshots; at most %u "
			       "are allowed", h->nb_snapshots, SNAPSHOTS_MAX);
	r = check_table("refcount table", h->reftable_offset,
			(uint64_t)h->reftable_clusters << h->cluster_bits, file_bytes, cs, e);
	if (r == 0)
		r = check_table("snapshot table", h->snapshots_offset, h->nb_snapshots * 40ull,
				file_bytes, cs, e);
	return r;
}

int q2_header_parse(struct q2_header *h, const uint8_t *buf, size_t len, uint64_t file_bytes,
		    struct err *e)
{
	int r;

	memset(h, 0, sizeof(*h));
	if (len < QCOW2_V2_HEADER || get_be32(buf) != QCOW2_MAGIC)
		return err_set(e, -EINVAL, "it is no qcow2 image (the magic number is missing)");
	if (get_be32(buf + 4) == 3 && len < QCOW2_HEADER_MAX)
		return err_set(e, -EINVAL, "the header is cut off");
	get_fields(h, buf);
	r = check_basics(h, e);
	if (r)
		return r;
	/* "A field is considered not present when header_length is less than
	 * or equal to the field's offset." */
	if (h->header_length > 104)
		h->compression = buf[104];
	if (h->incompatible & ~INCOMPAT_KNOWN)
		return q2_refuse_features(h, buf, len, e);
	if (h->backing_offset &&
	    (h->backing_bytes > MIN(BIT64(h->cluster_bits), (uint64_t)BACKING_NAME_MAX) ||
	     h->backing_bytes == 0 ||
	     h->backing_offset < h->header_length ||
	     h->backing_offset > BIT64(h->cluster_bits) - h->backing_bytes))
		return err_set(e, -EINVAL, "the backing file name (%" PRIu32 " bytes at %#" PRIx64
			       ") is not inside the first cluster, or longer than %u",
			       h->backing_bytes, h->backing_offset, BACKING_NAME_MAX);
	r = check_features(h, e);
	return r ? r : check_tables(h, file_bytes, e);
}

/* ---- extensions ---- */

struct ext {
	uint32_t type, len;
	const uint8_t *data;
};

/* The next extension at *@at of @len bytes; false at the end. */
static bool next_ext(const uint8_t *buf, size_t len, size_t *at, struct ext *x)
{
	if (len < 8 || *at > len - 8)
		return false;
	x->type = get_be32(buf + *at);
	x->len = get_be32(buf + *at + 4);
	x->data = buf + *at + 8;
	if (x->type == EXT_END || x->len > len - *at - 8)
		return false;
	*at = MIN((size_t)align_up(*at + 8 + x->len, 8), len);
	return true;
}

/* Extensions end where the backing file name begins. */
static size_t ext_limit(const struct q2_header *h, size_t len)
{
	return h->backing_offset && h->backing_offset < len ? (size_t)h->backing_offset : len;
}

static char *copy_string(const uint8_t *p, size_t len)
{
	char *s = xcalloc(1, len + 1);

	memcpy(s, p, len);	/* an inner NUL ends it earlier */
	return s;
}

static bool feature_name(const struct ext *x, unsigned int bit, char *name)
{
	for (size_t i = 0; i + 48 <= x->len; i += 48) {
		if (x->data[i] != 0 || x->data[i + 1] != bit)
			continue;
		memcpy(name, x->data + i + 2, 46);
		name[46] = '\0';
		for (char *p = name; *p; p++)	/* it goes to a terminal */
			if (*p < ' ' || *p > '~')
				*p = '?';
		return *name != '\0';
	}
	return false;
}

int q2_refuse_features(const struct q2_header *h, const uint8_t *cluster, size_t len,
		       struct err *e)
{
	uint64_t unknown = h->incompatible & ~INCOMPAT_KNOWN;
	unsigned int bit = (unsigned int)__builtin_ctzll(unknown);
	size_t at = h->header_length;
	char name[48];
	struct ext x;

	len = ext_limit(h, len);
	while (next_ext(cluster, len, &at, &x))
		if (x.type == EXT_FEATURE_NAMES && feature_name(&x, bit, name))
			return err_set(e, -ENOTSUP, "it uses the incompatible feature '%s', which "
				       "is not supported", name);
	return err_set(e, -ENOTSUP, "it uses the unknown incompatible feature bit %u, which is not "
		       "supported", bit);
}

static int take_bitmaps(struct q2 *q, const struct ext *x, struct err *e)
{
	uint64_t bytes, off;

	if (x->len < 24)
		return err_set(e, -EINVAL, "the bitmaps extension is cut off");
	bytes = get_be64(x->data + 8);
	off = get_be64(x->data + 16);
	if ((off & (q->cs - 1)) || off > ENTRY_OFFSET || bytes > 64 * MIB)
		return err_set(e, -EINVAL, "the bitmap directory (%" PRIu64 " bytes at %#" PRIx64
			       ") is out of place", bytes, off);
	q->bitmap_dir = off;
	q->bitmap_dir_bytes = bytes;
	return 0;
}

int q2_extensions_parse(struct q2 *q, const uint8_t *cluster, size_t len, struct err *e)
{
	size_t at = q->h.header_length;
	bool bitmaps = false;
	struct ext x;
	int r = 0;

	len = ext_limit(&q->h, len);
	while (r == 0 && next_ext(cluster, len, &at, &x)) {
		if (x.type == EXT_BACKING_FORMAT && !q->backing_format && x.len < 64)
			q->backing_format = copy_string(x.data, x.len);
		else if (x.type == EXT_DATA_FILE && !q->data_name && x.len <= BACKING_NAME_MAX)
			q->data_name = copy_string(x.data, x.len);
		else if (x.type == EXT_BITMAPS) {
			bitmaps = true;
			r = take_bitmaps(q, &x, e);
		}
	}
	/* "It is an error if this bit is set without the bitmaps extension." */
	if (r == 0 && (q->h.autoclear & AUTOCLEAR_BITMAPS) && !bitmaps)
		r = err_set(e, -EINVAL, "the bitmaps bit is set without a bitmaps extension");
	if (r == 0 && q->h.backing_offset)
		q->backing_name = copy_string(cluster + q->h.backing_offset, q->h.backing_bytes);
	return r;
}

bool q2_extensions_copy(const struct q2_header *h, const uint8_t *old, uint8_t *buf, size_t len,
			size_t *at)
{
	size_t from = h->header_length, end = ext_limit(h, len), bytes;
	struct ext x;

	while (next_ext(old, end, &from, &x)) {
		if (x.type == EXT_BACKING_FORMAT || x.type == EXT_DATA_FILE)
			continue;
		bytes = align_up(8 + x.len, 8);
		if (*at > len || bytes > len - *at)
			return false;
		memcpy(buf + *at, x.data - 8, 8 + x.len);
		*at += bytes;
	}
	return true;
}

/* The only extension of type @type, if it lies in the first sector; 0: none such. Then
 * *@end is where the list's end is marked. */
static size_t find_ext(const struct q2_header *h, const uint8_t *first, size_t len,
		       uint32_t type, size_t *end)
{
	size_t limit = ext_limit(h, len), found = 0;
	struct ext x;
	int n = 0;

	*end = h->header_length;
	while (next_ext(first, limit, end, &x)) {
		if (x.type != type)
			continue;
		n++;
		found = (size_t)(x.data - first) - 8;
	}
	if (limit < 8 || *end > limit - 8 || get_be64(first + *end))
		*end = 0;	/* it ends only because the name begins */
	return n == 1 && *end && found + 8 + align_up(get_be32(first + found + 4), 8) <=
	       BLOCK_SECTOR ? found : 0;
}

bool q2_backing_in_place(const struct q2_header *h, uint8_t *first, size_t len, const char *name,
			 const char *format, uint64_t *at)
{
	size_t end, ext = find_ext(h, first, len, EXT_BACKING_FORMAT, &end), n;

	*at = 0;
	if (!name || !end)
		return end;
	n = format ? strlen(format) : 0;
	if (!ext || align_up(n, 8) != align_up(get_be32(first + ext + 4), 8))
		return false;
	put_be32(first + ext + 4, (uint32_t)n);
	memset(first + ext + 8, 0, align_up(n, 8));
	memcpy(first + ext + 8, format, n);
	*at = align_up(end + 8, BLOCK_SECTOR);
	if (h->backing_offset && *at < h->backing_offset + h->backing_bytes &&
	    h->backing_offset < *at + strlen(name))
		*at = align_up(h->backing_offset + h->backing_bytes, BLOCK_SECTOR);
	n = strlen(name);
	if (n > len || *at > len - n)
		return false;
	memcpy(first + *at, name, n);
	return true;
}

/* ---- writing ---- */

void q2_header_put(const struct q2_header *h, uint8_t *b)
{
	put_be32(b, QCOW2_MAGIC);
	put_be32(b + 4, h->version);
	put_be64(b + 8, h->backing_offset);
	put_be32(b + 16, h->backing_bytes);
	put_be32(b + 20, h->cluster_bits);
	put_be64(b + 24, h->size);
	put_be32(b + 32, h->crypt_method);
	put_be32(b + 36, h->l1_size);
	put_be64(b + 40, h->l1_offset);
	put_be64(b + 48, h->reftable_offset);
	put_be32(b + 56, h->reftable_clusters);
	put_be32(b + 60, h->nb_snapshots);
	put_be64(b + 64, h->snapshots_offset);
	if (h->version < 3)
		return;
	put_be64(b + 72, h->incompatible);
	put_be64(b + 80, h->compatible);
	put_be64(b + 88, h->autoclear);
	put_be32(b + 96, h->refcount_order);
	put_be32(b + 100, h->header_length);
	if (h->header_length > 104)
		b[104] = h->compression;
}

/* The first sector holds all fixed fields: they change together or not at all.
 * What follows them there (extensions, the backing file's name) stays. */
int q2_header_write(struct q2 *q, struct loop *l)
{
	uint8_t sector[BLOCK_SECTOR];
	int r;

	r = q2_sync_io(q, l, BLOCK_READ, 0, sector, sizeof(sector));
	if (r)
		return r;
	q2_header_put(&q->h, sector);
	return q2_sync_io(q, l, BLOCK_WRITE, 0, sector, sizeof(sector));
}
