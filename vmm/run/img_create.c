/*
 * vmm/run/img_create.c - roost img create, resize, rebase.
 * Threads: the only one of the process.
 * Missing: nothing known.
 */
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "block/graph.h"
#include "vmm/base/json.h"
#include "vmm/base/util.h"
#include "vmm/run/img.h"

/* -o of qcow2, with qemu-img's names. */
struct create_opts {
	uint64_t size, cluster_size;
	char *compat, *compression, *backing, *backing_fmt, *data_file;
	uint32_t refcount_bits;
	bool extended_l2, lazy_refcounts, data_file_raw;
	int prealloc;
};

static const char *const prealloc_words[] = { "off", "falloc", "full", "metadata", NULL };
#define PREALLOC_METADATA	3

#define OPT(kind, field, ...) PROP_##kind(struct create_opts, field, __VA_ARGS__)
static const struct prop create_props[] = {
	OPT(SIZE, size, "size", 0, INT64_MAX, 0, "size of the disk", .unit = "bytes"),
	OPT(SIZE, cluster_size, "cluster_size", 512, 2 * MIB, 65536, "size of a cluster",
	    .unit = "bytes"),
	OPT(STR, compat, "compat", "1.1", "0.10 or 1.1"),
	OPT(STR, compression, "compression_type", "zlib", "zlib or zstd"),
	OPT(STR, backing, "backing_file", NULL, "as -b"),
	OPT(STR, backing_fmt, "backing_fmt", NULL, "as -F"),
	OPT(STR, data_file, "data_file", NULL, "external file for the data"),
	OPT(BOOL, data_file_raw, "data_file_raw", false, "the data file is a raw image"),
	OPT(U32, refcount_bits, "refcount_bits", 1, 64, 16, "width of a refcount"),
	OPT(BOOL, extended_l2, "extended_l2", false, "subclusters"),
	OPT(BOOL, lazy_refcounts, "lazy_refcounts", false, "let others postpone refcounts"),
	OPT(ENUM, prealloc, "preallocation", prealloc_words, 0, "space taken at once"),
	PROP_END
};
static const struct prop *const tables[] = { create_props, NULL };

static int parse(const struct img *m, struct create_opts *o, struct err *e)
{
	json_t *args;
	int r = 0;

	prop_defaults(tables, o);
	for (int i = 0; i < m->noptions && r == 0; i++) {
		args = json_from_keyval(m->options[i], NULL, 0, "-o", e);
		r = args ? prop_apply(tables, o, args, NULL, "-o", e) : -EINVAL;
		json_decref(args);
	}
	return r;
}

static int convert_opts(const struct img *m, const struct create_opts *c,
			struct image_qcow2_opts *o, struct err *e)
{
	image_qcow2_defaults(o);
	if (strcmp(c->compat, "0.10") && strcmp(c->compat, "1.1") && strcmp(c->compat, "v2") &&
	    strcmp(c->compat, "v3"))
		return err_set(e, -EINVAL, "compat=%.32s: must be 0.10 or 1.1", c->compat);
	if (strcmp(c->compression, "zlib") && strcmp(c->compression, "zstd"))
		return err_set(e, -EINVAL, "compression_type=%.32s: must be zlib or zstd",
			       c->compression);
	if (!is_pow2(c->cluster_size) || !is_pow2(c->refcount_bits))
		return err_set(e, -EINVAL, "cluster_size and refcount_bits must be powers of two");
	o->version = !strcmp(c->compat, "0.10") || !strcmp(c->compat, "v2") ? 2 : 3;
	o->cluster_bits = (uint32_t)__builtin_ctzll(c->cluster_size);
	o->refcount_order = (uint32_t)__builtin_ctz(c->refcount_bits);
	o->ext_l2 = c->extended_l2;
	o->lazy_refcounts = c->lazy_refcounts;
	o->zstd = strcmp(c->compression, "zstd") == 0;
	o->data_raw = c->data_file_raw;
	o->size = align_up(c->size, BLOCK_SECTOR);
	/* The strings live as long as the process: each runs one command. */
	o->backing_file = m->backing ? m->backing : c->backing ? xstrdup(c->backing) : NULL;
	o->backing_format = m->backing_fmt ? m->backing_fmt :
			    c->backing_fmt ? xstrdup(c->backing_fmt) : NULL;
	o->data_file = c->data_file ? xstrdup(c->data_file) : NULL;
	return 0;
}

int img_qcow2_opts(const struct img *m, struct image_qcow2_opts *o, struct err *e)
{
	struct create_opts c = { 0 };
	int r = parse(m, &c, e);

	if (r == 0)
		r = convert_opts(m, &c, o, e);
	prop_free(tables, &c);
	return r;
}

/* ---- the file ---- */

static int make_file(const char *path, uint64_t bytes, struct err *e)
{
	struct stat st;
	int fd, r = 0;

	if (stat(path, &st) == 0 && S_ISBLK(st.st_mode))
		return 0;
	fd = open(path, O_RDWR | O_CREAT | O_CLOEXEC, 0644);
	if (fd < 0 || (bytes && (ftruncate(fd, 0) || ftruncate(fd, (off_t)bytes))))
		r = err_sys(e, -errno, "%s: Could not create file", path);
	if (fd >= 0)
		close(fd);
	return r;
}

int img_make(struct img *m, const char *path, const char *fmt,
	     const struct image_qcow2_opts *o, struct err *e)
{
	struct img_file f;
	int r;

	/* Locked before anything is cut off: it may be in use. */
	r = make_file(path, 0, e);
	if (r)
		return r;
	r = img_open(m, &f, path, "raw", IMG_WRITE, e);
	if (r)
		return r;
	if (strcmp(fmt, "qcow2") == 0) {
		r = image_qcow2_create(f.n->file.node, m->l, o, e);
	} else if (f.n->file.node->drv->set_length) {
		r = f.n->file.node->drv->set_length(f.n->file.node, 0);
		if (r == 0 || r == -ENOSPC)
			r = f.n->file.node->drv->set_length(f.n->file.node, o->size);
		if (r)
			err_sys(e, r, "%s cannot become %" PRIu64 " bytes long", path, o->size);
	}
	img_close(&f);
	return r;
}

static int size_of_backing(struct img *m, const char *path, const char *backing,
			   const char *fmt, uint64_t *bytes, struct err *e)
{
	const char *slash = strrchr(path, '/');
	char *full = *backing == '/' || !slash ? xstrdup(backing) :
		     xasprintf("%.*s/%s", (int)(slash - path), path, backing);
	struct img_file f;
	int r = img_open(m, &f, full, fmt, 0, e);

	if (r == 0) {
		*bytes = f.n->bytes;
		img_close(&f);
	}
	free(full);
	return r;
}

static void announce(const char *path, const char *fmt, const struct image_qcow2_opts *o)
{
	printf("Formatting '%s', fmt=%s", path, fmt);
	if (strcmp(fmt, "qcow2")) {
		printf(" size=%" PRIu64 "\n", o->size);
		return;
	}
	printf(" cluster_size=%u extended_l2=%s compression_type=%s size=%" PRIu64,
	       1u << o->cluster_bits, o->ext_l2 ? "on" : "off", o->zstd ? "zstd" : "zlib", o->size);
	if (o->backing_file)
		printf(" backing_file=%s backing_fmt=%s", o->backing_file, o->backing_format);
	printf(" lazy_refcounts=%s refcount_bits=%u\n", o->lazy_refcounts ? "on" : "off",
	       1u << o->refcount_order);
}

static int preallocate_chunk(struct img *m, struct img_file *f, int how, uint64_t at,
			     uint8_t *zero)
{
	uint64_t n = MIN(f->n->bytes - at, (uint64_t)IMG_CHUNK);

	return how == PREALLOC_METADATA ? image_preallocate(f->n, m->l, at, n) :
	       img_io(m, f, BLOCK_WRITE, 0, at, zero, n);
}

/* preallocation=: all clusters from @from on, for metadata, or zeroes written to them. */
static int preallocate(struct img *m, const char *path, const char *fmt, int how, uint64_t from,
		       struct err *e)
{
	uint8_t *zero = calloc(1, IMG_CHUNK);
	struct img_file f;
	int r = img_open(m, &f, path, fmt, IMG_WRITE, e);

	if (r == 0) {
		for (uint64_t at = from; at < f.n->bytes && r == 0; at += IMG_CHUNK)
			r = preallocate_chunk(m, &f, how, at, zero);
		if (r == 0)
			r = img_io(m, &f, BLOCK_FLUSH, 0, 0, NULL, 0);
		if (r)
			err_sys(e, r, "%s: preallocation failed", path);
		img_close(&f);
	}
	free(zero);
	return r;
}

int img_create(struct img *m, struct err *e)
{
	const char *path = m->argv[0], *fmt = m->fmt ? m->fmt : "raw";
	struct create_opts c = { 0 };
	struct image_qcow2_opts o;
	int r;

	if (strcmp(fmt, "raw") && strcmp(fmt, "qcow2"))
		return err_set(e, 1, "Unknown file format '%.32s'; raw and qcow2 can be made", fmt);
	r = parse(m, &c, e);
	if (r == 0 && m->argc > 1)
		r = img_size(m->argv[1], &c.size, e);
	if (r == 0)
		r = convert_opts(m, &c, &o, e);
	if (r == 0 && o.backing_file && strcmp(fmt, "raw") == 0)
		r = err_set(e, -EINVAL, "raw images have no backing file; use -f qcow2");
	if (r == 0 && strcmp(fmt, "qcow2") == 0)
		r = image_qcow2_check_opts(&o, e);
	if (r == 0 && c.prealloc == PREALLOC_METADATA &&
	    (strcmp(fmt, "qcow2") || o.backing_file || o.data_file))
		r = err_set(e, -EINVAL, "preallocation=metadata is for qcow2 images without a backing "
			    "or data file");
	if (r == 0 && o.backing_file && c.size == 0)
		r = size_of_backing(m, path, o.backing_file, o.backing_format, &o.size, e);
	if (r == 0 && o.size == 0 && m->argc < 2 && !o.backing_file)
		r = err_set(e, -EINVAL, "Image creation needs a size parameter");
	if (r == 0 && o.data_file)
		r = make_file(o.data_file, o.size, e);
	if (r == 0 && !m->quiet)
		announce(path, fmt, &o);
	if (r == 0)
		r = img_make(m, path, fmt, &o, e);
	if (r == 0 && c.prealloc)
		r = preallocate(m, path, fmt, c.prealloc, 0, e);
	prop_free(tables, &c);
	return r ? 1 : 0;
}

/* ---- resize ---- */

static int parse_resize(const char *text, uint64_t old, uint64_t *bytes, struct err *e)
{
	char sign = *text == '+' || *text == '-' ? *text : 0;
	int r = img_size(text + (sign != 0), bytes, e);

	if (r)
		return r;
	if (sign == '+')
		*bytes = *bytes > INT64_MAX - old ? INT64_MAX : old + *bytes;
	else if (sign == '-')
		*bytes = *bytes > old ? 0 : old - *bytes;
	*bytes = align_up(*bytes, BLOCK_SECTOR);
	return 0;
}

/* What is cut off must not come back when the image grows again. */
static int clear_tail(struct img *m, struct img_file *f, uint64_t from)
{
	uint64_t end = f->n->bytes, n;
	int r = 0;

	for (; from < end && r == 0; from += n) {
		n = MIN(end - from, (uint64_t)GIB);
		r = img_io(m, f, BLOCK_WRITE_ZEROES, BLOCK_UNMAP, from, NULL, n);
	}
	return r;
}

static int check_prealloc(const struct img *m, const struct img_file *f, uint64_t bytes, int *how,
			  struct err *e)
{
	bool raw = strcmp(f->n->drv->name, "qcow2") != 0;

	for (*how = 0; prealloc_words[*how] && strcmp(prealloc_words[*how], m->prealloc); ++*how)
		;
	if (!prealloc_words[*how])
		return err_set(e, -EINVAL, "--preallocation=%.32s: must be off, metadata, falloc or "
			       "full", m->prealloc);
	if (*how && bytes <= f->n->bytes)
		return err_set(e, -EINVAL, "--preallocation=%s is for images that grow, and %s has "
			       "%" PRIu64 " bytes", m->prealloc, m->argv[0], f->n->bytes);
	if (*how == PREALLOC_METADATA && (raw || f->n->backing_file || f->n->data.node))
		return err_set(e, -EINVAL, "--preallocation=metadata is for qcow2 images without a "
			       "backing or data file; use falloc or full");
	return 0;
}

/* Where the disk's last cluster ends: it may be there, with anything in it beyond *@from. */
static int end_of_cluster(struct img *m, const struct img_file *f, uint64_t *from, struct err *e)
{
	json_t *o = json_object();
	int r = image_describe(f->n, m->l, o, e);

	if (r == 0)
		*from = align_up(*from, (uint64_t)json_integer_value(json_object_get(o, "cluster-size")));
	json_decref(o);
	return r;
}

int img_resize(struct img *m, struct err *e)
{
	const char *path = m->argv[0], *fmt = img_format(path, m->fmt);
	uint64_t old, from, hidden, bytes = 0, backing = 0;
	struct img_file f;
	int how = 0;
	int r = img_open(m, &f, path, fmt, IMG_WRITE, e);

	if (r)
		return 1;
	old = f.n->bytes;
	if (f.n->backing.node)
		backing = f.n->backing.node->bytes;
	r = parse_resize(m->argv[1], old, &bytes, e);
	if (r == 0 && bytes < old && !m->shrink)
		r = err_set(e, -EINVAL, "Use the --shrink option to perform a shrink operation; "
			    "it deletes all data beyond the shrunken image's end");
	from = old;
	if (r == 0 && m->prealloc)
		r = check_prealloc(m, &f, bytes, &how, e);
	if (r == 0 && bytes > old && strcmp(fmt, "raw"))
		r = end_of_cluster(m, &f, &from, e);
	if (r == 0 && bytes < old && strcmp(fmt, "raw") && (r = clear_tail(m, &f, bytes)))
		err_sys(e, r, "%s: cannot give up the end", path);
	if (r == 0)
		r = image_resize(f.n, m->l, bytes, e);
	img_close(&f);
	/* Nothing of a longer backing file, or of the last cluster, may come to light. */
	hidden = MIN(bytes, MAX(backing, from));
	if (r == 0 && hidden > old) {
		r = img_open(m, &f, path, fmt, IMG_WRITE, e);
		if (r == 0)
			r = img_io(m, &f, BLOCK_WRITE_ZEROES, 0, old, NULL, hidden - old);
		if (r && f.c.node)
			err_sys(e, r, "%s: what is added could not be made zero", path);
		img_close(&f);
	}
	if (r == 0 && how)
		r = preallocate(m, path, fmt, how, how == PREALLOC_METADATA ? from : old, e);
	if (r == 0 && !m->quiet)
		printf("Image resized.\n");
	return r ? 1 : 0;
}

/* ---- rebase ---- */

/* Copy what the old chain has and the new one has not. */
static int pull(struct img *m, struct img_file *f, struct img_file *to, uint64_t at, uint8_t *a,
		uint8_t *b, uint64_t *n)
{
	struct image_extent x;
	uint64_t there;
	int r = image_status(f->n, m->l, at, *n, false, &x);

	if (r)
		return r;
	*n = x.len;
	if (x.present)
		return 0;
	r = img_io(m, f, BLOCK_READ, 0, at, a, *n);
	memset(b, 0, *n);
	there = to->n && at < to->n->bytes ? MIN(*n, to->n->bytes - at) : 0;
	if (r == 0 && there)
		r = img_io(m, to, BLOCK_READ, 0, at, b, there);
	if (r == 0 && memcmp(a, b, *n))
		r = img_io(m, f, BLOCK_WRITE, 0, at, a, *n);
	return r;
}

static int rebase_safely(struct img *m, struct img_file *f, const char *path, struct err *e)
{
	uint8_t *buf = malloc(2 * (size_t)IMG_CHUNK);
	const char *slash = strrchr(path, '/');
	struct img_file to = { 0 };
	uint64_t n;
	char *full = NULL;
	int r = 0;

	if (*m->backing) {
		full = *m->backing == '/' || !slash ? xstrdup(m->backing) :
		       xasprintf("%.*s/%s", (int)(slash - path), path, m->backing);
		r = img_open(m, &to, full, m->backing_fmt, IMG_SOURCE, e);
	}
	for (uint64_t at = 0; at < f->n->bytes && r == 0; at += n) {
		n = MIN(f->n->bytes - at, (uint64_t)IMG_CHUNK);
		r = pull(m, f, &to, at, buf, buf + IMG_CHUNK, &n);
		if (r)
			err_sys(e, r, "%s: cannot copy at %" PRIu64, path, at);
		img_progress(m, at + n, f->n->bytes);
	}
	if (r == 0 && img_io(m, f, BLOCK_FLUSH, 0, 0, NULL, 0))
		r = err_set(e, -EIO, "%s: cannot make the copy durable", path);
	img_close(&to);
	free(full);
	free(buf);
	return r;
}

int img_rebase(struct img *m, struct err *e)
{
	const char *path = m->argv[0];
	struct img_file f;
	int r;

	if (!m->backing_given)
		return err_set(e, 1, "rebase needs -b (\"\" for no backing file)");
	if (*m->backing && !m->backing_fmt)
		return err_set(e, 1, "the backing file's format is missing; give -F");
	r = img_open(m, &f, path, m->fmt, IMG_WRITE | (m->unsafe ? IMG_NO_BACKING : 0), e);
	if (r)
		return 1;
	if (!m->unsafe)
		r = rebase_safely(m, &f, path, e);
	if (r == 0)
		r = image_set_backing(f.n, m->l, *m->backing ? m->backing : NULL, m->backing_fmt,
				      e);
	img_close(&f);
	return r ? 1 : 0;
}
