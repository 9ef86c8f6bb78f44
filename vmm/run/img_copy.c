/*
 * vmm/run/img_copy.c - roost img convert, compare, commit, bench.
 * Threads: the only one of the process.
 * Missing: convert of several files into one.
 */
#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "block/graph.h"
#include "vmm/base/json.h"
#include "vmm/base/util.h"
#include "vmm/run/img_pipe.h"

/* ---- convert ---- */

/* With -B only what the source's own layer has; its chain is the new backing. */
static int convert_plan(struct img_pipe *p, uint64_t at, uint64_t *n, enum img_part *part)
{
	struct img *m = p->m;
	struct image_extent x = { .len = *n, .zero = true, .present = true };
	struct block_node *from = p->from->n;
	int r = at < from->bytes ? image_status(from, m->l, at, MIN(*n, from->bytes - at),
						!m->backing, &x) : 0;

	if (r)
		return r;
	if (!m->sparse || (p->compressed && x.len < *n)) {
		*part = IMG_DATA;
		return 0;
	}
	*n = MIN(*n, x.len);
	if (m->backing && !x.present)
		*part = IMG_SKIP;
	else if (x.data)
		*part = IMG_DATA;
	else
		*part = m->backing || m->keep ? IMG_ZERO : IMG_SKIP;
	return 0;
}

static int copy_all(struct img *m, struct img_file *in, struct img_file *out, struct err *e)
{
	struct img_pipe p = {
		.m = m, .from = in, .to = out, .plan = convert_plan, .depth = m->jobs,
		.any_order = m->any_order && !m->compressed, .compressed = m->compressed,
		.sparse = m->sparse, .zeroes = m->backing || m->keep, .salvage = m->salvage,
		.doing = "converting"
	};
	int r = img_pipe_run(&p, out->n->bytes, e);

	if (r == 0 && img_io(m, out, BLOCK_FLUSH, 0, 0, NULL, 0))
		r = err_set(e, -EIO, "the copy could not be made durable");
	return r;
}

static bool word_is(const char *text, const char *key, const json_t *one, const char *member)
{
	size_t n = strlen(key);
	const char *at = strstr(text, key), *value = json_string_value(json_object_get(one, member));
	const char *end = at ? at + strcspn(at, ",") : NULL;

	return !at || (value && strlen(value) == (size_t)(end - at) - n &&
		       memcmp(value, at + n, strlen(value)) == 0);
}

/* -l snapshot.id=ID,snapshot.name=NAME, one or both: the id of the one meant. */
static int find_snapshot(struct img *m, const char *path, char **id, struct err *e)
{
	json_t *info, *one;
	struct img_file f;
	size_t i;
	int r = img_open(m, &f, path, m->fmt, IMG_NO_BACKING, e);

	if (r)
		return r;
	info = json_object();
	r = image_describe(f.n, m->l, info, e);
	json_array_foreach(json_object_get(info, "snapshots"), i, one)
		if (!*id && word_is(m->snapshot, "snapshot.id=", one, "id") &&
		    word_is(m->snapshot, "snapshot.name=", one, "name"))
			*id = xstrdup(json_string_value(json_object_get(one, "id")));
	json_decref(info);
	img_close(&f);
	if (r == 0 && !*id)
		r = err_set(e, -ENOENT, "-l %.128s: %s has no such snapshot; 'roost img info' lists "
			    "those there are", m->snapshot, path);
	return r;
}

/* The disk, or with -l what a snapshot kept of it. */
static int open_source(struct img *m, struct img_file *in, const char *path, struct err *e)
{
	char *id = NULL;
	int r = 0;

	if (!m->snapshot)
		return img_open(m, in, path, m->fmt, IMG_SOURCE, e);
	if (strcmp(img_format(path, m->fmt), "qcow2"))
		return err_set(e, -ENOTSUP, "-l %.128s: %s is a raw image; only qcow2 images have "
			       "internal snapshots", m->snapshot, path);
	if (strncmp(m->snapshot, "snapshot.", 9) == 0)
		r = find_snapshot(m, path, &id, e);
	if (id)
		m->snapshot = id;
	if (r == 0)
		r = img_open(m, in, path, m->fmt, IMG_SNAPSHOT | IMG_SOURCE, e);
	free(id);	/* the node has its own */
	return r;
}

int img_convert(struct img *m, struct err *e)
{
	const char *from = m->argv[0], *to = m->argv[1], *fmt = m->out_fmt ? m->out_fmt : "raw";
	struct image_qcow2_opts o;
	struct img_file in, out;
	int r;

	if (strcmp(fmt, "raw") && strcmp(fmt, "qcow2"))
		return err_set(e, 1, "Unknown file format '%.32s'; raw and qcow2 can be made", fmt);
	if (m->target_is_zero && !m->keep)
		return err_set(e, 1, "--target-is-zero requires use of -n flag");
	if (m->compressed && strcmp(fmt, "qcow2"))
		return err_set(e, 1, "Compression not supported for this file format");
	r = open_source(m, &in, from, e);
	if (r)
		return 1;
	r = img_qcow2_opts(m, &o, e);
	if (r == 0)
		o.size = align_up(in.n->bytes, BLOCK_SECTOR);
	m->backing = r == 0 ? o.backing_file : NULL;
	if (r == 0 && !m->keep)		/* -n: the target is there */
		r = img_make(m, to, fmt, &o, e);
	if (r == 0)
		r = img_open(m, &out, to, fmt, IMG_WRITE, e);
	if (r == 0) {
		/* A device cannot be cut off: what was on it has to be written over. */
		m->keep |= strcmp(fmt, "raw") == 0 &&
			   out.n->file.node->drv == &block_driver_host_device;
		m->keep &= !m->target_is_zero;
		r = out.n->bytes < in.n->bytes ?
			err_set(e, -EINVAL, "%s is smaller than %s", to, from) :
			copy_all(m, &in, &out, e);
		img_close(&out);
	}
	img_close(&in);
	return r ? 1 : 0;
}

/* ---- compare ---- */

static int read_or_zero(struct img *m, struct img_file *f, uint64_t at, uint8_t *buf,
			uint64_t len)
{
	uint64_t have = at < f->n->bytes ? MIN(len, f->n->bytes - at) : 0;

	memset(buf + have, 0, len - have);
	return have ? img_io(m, f, BLOCK_READ, 0, at, buf, have) : 0;
}

/* 0: identical, 1: differ, 2 and more: an error, as qemu-img compare. */
static int compare_files(struct img *m, struct img_file *a, struct img_file *b, struct err *e)
{
	uint64_t end = MAX(a->n->bytes, b->n->bytes), n, k;
	uint8_t *p = xcalloc(2, IMG_CHUNK), *q = p + IMG_CHUNK;
	int status = 0;

	if (a->n->bytes != b->n->bytes && m->strict) {
		printf("Strict mode: Image size mismatch!\n");
		free(p);
		return 1;
	}
	if (a->n->bytes != b->n->bytes && !m->quiet)
		printf("Warning: Image size mismatch!\n");
	for (uint64_t at = 0; at < end && status == 0; at += n) {
		n = MIN(end - at, (uint64_t)IMG_CHUNK);
		if (read_or_zero(m, a, at, p, n) || read_or_zero(m, b, at, q, n)) {
			status = err_set(e, 4, "Error while reading offset %" PRIu64, at);
		} else if (memcmp(p, q, n)) {
			for (k = 0; p[k] == q[k]; k++)
				;
			if (!m->quiet)
				printf("Content mismatch at offset %" PRIu64 "!\n",
				       at + align_down(k, BLOCK_SECTOR));
			status = 1;
		}
		img_progress(m, at + n, end);
	}
	if (status == 0 && !m->quiet)
		printf("Images are identical.\n");
	free(p);
	return status;
}

int img_compare(struct img *m, struct err *e)
{
	struct img_file a, b;
	int status = 2;

	if (img_open(m, &a, m->argv[0], m->fmt, IMG_SOURCE, e))
		return 2;
	if (img_open(m, &b, m->argv[1], m->backing_fmt, IMG_SOURCE, e) == 0) {
		status = compare_files(m, &a, &b, e);
		img_close(&b);
	}
	img_close(&a);
	return status;
}

/* ---- commit ---- */

static int commit_plan(struct img_pipe *p, uint64_t at, uint64_t *n, enum img_part *part)
{
	struct image_extent x;
	int r = image_status(p->from->n, p->m->l, at, *n, false, &x);

	if (r)
		return r;
	*n = x.len;
	*part = !x.present ? IMG_SKIP : x.zero ? IMG_ZERO : IMG_DATA;
	return 0;
}

static int commit_into(struct img *m, struct img_file *top, struct img_file *base, struct err *e)
{
	struct img_pipe p = {
		.m = m, .from = top, .to = base, .plan = commit_plan, .depth = m->jobs,
		.any_order = true, .doing = "committing"
	};
	int r = img_pipe_run(&p, top->n->bytes, e);

	if (r == 0 && img_io(m, base, BLOCK_FLUSH, 0, 0, NULL, 0))
		r = err_set(e, -EIO, "the backing file could not be made durable");
	return r;
}

/* Only now, when the base has it durably, the overlay may lose it. */
static int empty_overlay(struct img *m, struct img_file *top, struct err *e)
{
	uint64_t n;
	int r = 0;

	for (uint64_t at = 0; at < top->n->bytes && r == 0; at += n) {
		n = MIN(top->n->bytes - at, (uint64_t)GIB);
		r = image_unallocate(top->n, m->l, at, n);
	}
	if (r == 0)
		r = img_io(m, top, BLOCK_FLUSH, 0, 0, NULL, 0);
	return r ? err_sys(e, r, "the overlay could not be emptied; its data is in the backing "
			   "file") : 0;
}

int img_commit(struct img *m, struct err *e)
{
	const char *path = m->argv[0], *slash = strrchr(path, '/'), *name;
	struct img_file top, base;
	char *full = NULL;
	int r = img_open(m, &top, path, m->fmt, IMG_WRITE | IMG_NO_BACKING, e);

	if (r)
		return 1;
	name = top.n->backing_file;
	if (!name || !top.n->backing_format)
		r = err_set(e, -ENOMEDIUM, "Image does not have a backing file");
	if (r == 0) {
		full = *name == '/' || !slash ? xstrdup(name) :
		       xasprintf("%.*s/%s", (int)(slash - path), path, name);
		r = img_open(m, &base, full, top.n->backing_format, IMG_WRITE, e);
	}
	if (r == 0) {
		if (base.n->bytes < top.n->bytes)
			r = err_set(e, -ENOSPC, "%s is smaller than %s; make it larger first with "
				    "'roost img resize'", full, path);
		if (r == 0)
			r = commit_into(m, &top, &base, e);
		if (r == 0 && !m->keep)
			r = empty_overlay(m, &top, e);
		img_close(&base);
	}
	img_close(&top);
	free(full);
	if (r == 0 && !m->quiet)
		printf("Image committed.\n");
	return r ? 1 : 0;
}

/* ---- bench ---- */

struct bench {
	struct img *m;
	struct img_file *f;
	uint64_t started, ended, at;
	int ret;
	struct bench_slot {
		struct block_req r;
		struct iovec iov;
		struct bench *b;
	} *slot;
};

static void bench_next(struct bench_slot *s)
{
	struct bench *b = s->b;

	b->started++;
	s->r.offset = b->at;
	b->at += b->m->step ? b->m->step : b->m->bytes;
	if (b->at > b->f->n->bytes - b->m->bytes)
		b->at %= b->f->n->bytes - b->m->bytes + 1;
	b->at = align_down(b->at, BLOCK_SECTOR);
	block_start(b->f->n, &s->r);
}

static void bench_done(struct block_req *r, int ret)
{
	struct bench_slot *s = container_of(r, struct bench_slot, r);

	s->b->ended++;
	s->b->ret = s->b->ret ? s->b->ret : ret;
	if (s->b->started < s->b->m->count && !s->b->ret)
		bench_next(s);
}

static int bench_run(struct img *m, struct img_file *f, uint8_t *mem)
{
	struct bench b = { .m = m, .f = f, .at = align_down(m->offset, BLOCK_SECTOR) };

	b.slot = xcalloc(m->depth, sizeof(*b.slot));
	for (uint64_t i = 0; i < m->depth && b.started < m->count; i++) {
		struct bench_slot *s = &b.slot[i];

		s->b = &b;
		s->iov = (struct iovec){ mem + i * m->bytes, m->bytes };
		s->r = (struct block_req){ .op = m->writes ? BLOCK_WRITE : BLOCK_READ,
					   .bytes = m->bytes, .iov = &s->iov, .iovcnt = 1,
					   .done = bench_done, .loop = m->l };
		bench_next(s);
	}
	while (b.ended < b.started)
		loop_turn(m->l, NS_PER_SEC);
	free(b.slot);
	return b.ret;
}

int img_bench(struct img *m, struct err *e)
{
	struct img_file f;
	uint8_t *mem = NULL;
	uint64_t t0;
	int r;

	if (m->bytes < BLOCK_SECTOR || m->bytes % BLOCK_SECTOR || m->depth == 0)
		return err_set(e, 1, "-s must be a multiple of 512, -d at least 1");
	r = img_open(m, &f, m->argv[0], m->fmt, m->writes ? IMG_WRITE : 0, e);
	if (r)
		return 1;
	if (f.n->bytes < m->bytes || m->offset > f.n->bytes - m->bytes)
		r = err_set(e, -EINVAL, "the image is too small for these requests");
	if (r == 0 && posix_memalign((void **)&mem, 4096, m->bytes * m->depth))
		r = err_set(e, -ENOMEM, "no memory for %" PRIu64 " requests", m->depth);
	if (r == 0) {
		memset(mem, m->pattern, m->bytes * m->depth);
		if (!m->quiet)
			printf("Sending %" PRIu64 " %s requests, %" PRIu64 " bytes each, %" PRIu64
			       " in parallel (starting at offset %" PRIu64 ", step size %" PRIu64
			       ")\n", m->count, m->writes ? "write" : "read", m->bytes, m->depth,
			       m->offset, m->step ? m->step : m->bytes);
		t0 = clock_ns();
		r = bench_run(m, &f, mem);
		if (r)
			err_sys(e, r, "Failed request");
		else if (!m->quiet)
			printf("Run completed in %.3f seconds.\n",
			       (double)(clock_ns() - t0) / 1e9);
	}
	img_close(&f);
	free(mem);
	return r ? 1 : 0;
}
