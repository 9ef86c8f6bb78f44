/*
 * vmm/run/img_info.c - roost img info, check, map.
 * Threads: the only one of the process.
 * Missing: nothing known.
 */
#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>

#include "vmm/base/json.h"
#include "vmm/base/util.h"
#include "vmm/run/img.h"

static void print_json(json_t *o)
{
	json_dumpf(o, stdout, JSON_INDENT(4));
	printf("\n");
}

/* ---- info ---- */

/* A string of the image's, fit for a terminal, in a ring of static buffers. */
static const char *fit(const char *s)
{
	static char buf[4][1100];	/* the longest name that a qcow2 image can hold */
	static unsigned int i;
	char *p = buf[i++ % ARRAY_LEN(buf)];

	snprintf(p, sizeof(buf[0]), "%s", s);
	util_printable(p);
	return p;
}

static void print_value(const char *key, const json_t *v)
{
	printf("    ");
	for (; *key; key++)
		putchar(*key == '-' ? ' ' : *key);
	if (json_is_string(v))
		printf(": %s\n", fit(json_string_value(v)));
	else if (json_is_integer(v))
		printf(": %" JSON_INTEGER_FORMAT "\n", json_integer_value(v));
	else
		printf(": %s\n", json_is_true(v) ? "true" : "false");
}

static void print_snapshots(const json_t *list)
{
	char date[32], clock[32], size[32];
	const json_t *s;
	struct tm tm;
	uint64_t sec;
	time_t t;
	size_t i;

	printf("Snapshot list:\n%-10s%-17s%8s%20s%13s%11s\n", "ID", "TAG", "VM SIZE", "DATE",
	       "VM CLOCK", "ICOUNT");
	json_array_foreach((json_t *)(uintptr_t)list, i, s) {
		t = (time_t)json_integer_value(json_object_get(s, "date-sec"));
		localtime_r(&t, &tm);
		strftime(date, sizeof(date), "%Y-%m-%d %H:%M:%S", &tm);
		sec = (uint64_t)json_integer_value(json_object_get(s, "vm-clock-sec"));
		snprintf(clock, sizeof(clock), "%02u:%02u:%02u.%03u", (unsigned int)(sec / 3600),
			 (unsigned int)(sec / 60 % 60), (unsigned int)(sec % 60),
			 (unsigned int)(json_integer_value(json_object_get(s, "vm-clock-nsec")) /
					1000000));
		img_human((uint64_t)json_integer_value(json_object_get(s, "vm-state-size")), size);
		printf("%-10s%-17s%8s%20s%13s%11s\n", fit(json_str(s, "id", "")),
		       fit(json_str(s, "name", "")), size, date, clock, "");
	}
}

static void print_info(const json_t *o)
{
	const json_t *data = json_object_get(json_object_get(o, "format-specific"), "data");
	uint64_t size = (uint64_t)json_integer_value(json_object_get(o, "virtual-size"));
	const char *backing = json_str(o, "backing-filename", NULL), *key;
	char a[32], b[32];
	json_t *v;

	printf("image: %s\nfile format: %s\nvirtual size: %s (%" PRIu64 " bytes)\ndisk size: %s\n",
	       json_str(o, "filename", ""), json_str(o, "format", ""), img_human(size, a), size,
	       img_human((uint64_t)json_integer_value(json_object_get(o, "actual-size")), b));
	v = json_object_get(o, "cluster-size");
	if (v)
		printf("cluster_size: %" JSON_INTEGER_FORMAT "\n", json_integer_value(v));
	if (backing)
		printf("backing file: %s\n", fit(backing));
	if (json_object_get(o, "backing-filename-format"))
		printf("backing file format: %s\n",
		       fit(json_str(o, "backing-filename-format", "")));
	if (json_object_get(o, "snapshots"))
		print_snapshots(json_object_get(o, "snapshots"));
	if (data)
		printf("Format specific information:\n");
	json_object_foreach((json_t *)(uintptr_t)data, key, v)
		print_value(key, v);
}

static int describe(struct img *m, const char *path, const char *fmt, json_t *o, struct err *e)
{
	struct img_file f;
	struct stat st;
	int r;

	/* Nothing that it names is opened for looking at it. */
	r = img_open(m, &f, path, fmt, IMG_NO_BACKING, e);
	if (r == 0) {
		json_put_str(o, "filename", path);
		json_put_str(o, "format", f.n->drv->name);
		json_object_set_new(o, "virtual-size", json_integer((json_int_t)f.n->bytes));
		json_object_set_new(o, "actual-size", json_integer(stat(path, &st) ? 0 :
				    (json_int_t)st.st_blocks * 512));
		r = image_describe(f.n, m->l, o, e);
		img_close(&f);
	}
	return r;
}

/* What @name in the image at @path means; the caller frees it. */
static char *backing_path(const char *path, const char *name)
{
	const char *slash = strrchr(path, '/');

	if (*name == '/' || !slash)
		return xstrdup(name);
	return xasprintf("%.*s/%s", (int)(slash - path), path, name);
}

static bool is_listed(const json_t *list, const char *path)
{
	const json_t *o;
	struct stat a, b;
	size_t i;

	if (stat(path, &a) < 0)
		return false;
	json_array_foreach((json_t *)(uintptr_t)list, i, o)
		if (stat(json_str(o, "filename", ""), &b) == 0 && a.st_dev == b.st_dev &&
		    a.st_ino == b.st_ino)
			return true;
	return false;
}

/* The image and, when the user says so, the files that it names, and so on. */
static int describe_chain(struct img *m, json_t *list, struct err *e)
{
	char *path = xstrdup(m->argv[0]), *fmt = m->fmt ? xstrdup(m->fmt) : NULL;
	int r = 0;

	while (r == 0 && path) {
		json_t *o = json_object();
		const char *name, *name_fmt;
		char *next = NULL;

		if (is_listed(list, path))
			r = err_set(e, -ELOOP, "Backing file '%.200s' creates an infinite loop", path);
		if (r == 0)
			r = describe(m, path, fmt, o, e);
		name = json_str(o, "backing-filename", NULL);
		name_fmt = json_str(o, "backing-filename-format", NULL);
		if (m->chain && name)
			next = backing_path(path, name);
		free(path);
		free(fmt);
		path = next;
		fmt = name_fmt ? xstrdup(name_fmt) : NULL;
		if (r == 0)
			json_array_append(list, o);
		json_decref(o);
	}
	free(path);
	free(fmt);
	return r;
}

int img_info(struct img *m, struct err *e)
{
	json_t *list = json_array(), *o;
	size_t i;
	int r = describe_chain(m, list, e);

	if (r == 0 && m->json)
		print_json(m->chain ? list : json_array_get(list, 0));
	else if (r == 0)
		json_array_foreach(list, i, o) {
			if (i)
				printf("\n");
			print_info(o);
		}
	json_decref(list);
	return r ? 1 : 0;
}

/* ---- check ---- */

static void on_report(const char *line, void *arg)
{
	fprintf(stderr, "%s\n", line);
}

static void on_progress(uint64_t done, uint64_t all, void *arg)
{
	img_progress(arg, done, all);
}

static void put(json_t *o, const char *key, uint64_t v)
{
	if (v)
		json_object_set_new(o, key, json_integer((json_int_t)v));
}

static void check_json(const char *path, const struct image_check *c)
{
	json_t *o = json_object();

	json_put_str(o, "filename", path);
	json_put_str(o, "format", "qcow2");
	json_object_set_new(o, "check-errors", json_integer(0));
	put(o, "image-end-offset", c->end);
	put(o, "corruptions", c->corruptions);
	put(o, "leaks", c->leaks);
	put(o, "corruptions-fixed", c->corruptions_fixed);
	put(o, "leaks-fixed", c->leaks_fixed);
	put(o, "total-clusters", c->total);
	put(o, "allocated-clusters", c->allocated);
	put(o, "fragmented-clusters", c->fragmented);
	put(o, "compressed-clusters", c->compressed);
	print_json(o);
	json_decref(o);
}

static void check_human(const struct image_check *c)
{
	if (c->corruptions_fixed || c->leaks_fixed)
		printf("The following inconsistencies were found and repaired:\n\n    %" PRIu64
		       " leaked clusters\n    %" PRIu64 " corruptions\n\n", c->leaks_fixed,
		       c->corruptions_fixed);
	if (c->corruptions)
		printf("\n%" PRIu64 " errors were found on the image.\nData may be corrupted, or "
		       "further writes to the image may corrupt it.\n", c->corruptions);
	if (c->leaks)
		printf("\n%" PRIu64 " leaked clusters were found on the image.\nThis means waste "
		       "of disk space, but no harm to data.\n", c->leaks);
	if (!c->corruptions && !c->leaks)
		printf("No errors were found on the image.\n");
	if (c->total)
		printf("%" PRIu64 "/%" PRIu64 " = %.2f%% allocated, %.2f%% fragmented, %.2f%% "
		       "compressed clusters\n", c->allocated, c->total,
		       (double)c->allocated * 100 / (double)c->total,
		       c->allocated ? (double)c->fragmented * 100 / (double)c->allocated : 0,
		       c->allocated ? (double)c->compressed * 100 / (double)c->allocated : 0);
	printf("Image end offset: %" PRIu64 "\n", c->end);
}

/* qemu-img's statuses: 1 could not be checked, 2 corrupt, 3 leaks, 63 no such
 * check for the format. */
int img_check(struct img *m, struct err *e)
{
	struct image_check c = { .report = m->quiet ? NULL : on_report, .arg = m,
				 .progress = m->progress ? on_progress : NULL };
	const char *path = m->argv[0];
	struct img_file f;
	int r;

	if (strcmp(img_format(path, m->fmt), "qcow2"))
		return err_set(e, 63, "This image format does not support checks");
	r = img_open(m, &f, path, m->fmt, IMG_NO_BACKING | IMG_SOURCE |
		     (m->fix ? IMG_REPAIR : 0), e);
	if (r)
		return 1;
	r = image_check(f.n, m->l, m->fix, &c, e);
	img_close(&f);
	if (r)
		return 1;
	if (m->progress)
		img_progress(m, 1, 1);
	if (m->json)
		check_json(path, &c);
	else if (!m->quiet)
		check_human(&c);
	return c.corruptions ? 2 : c.leaks ? 3 : 0;
}

/* ---- map ---- */

static bool alike(const struct image_extent *a, const struct image_extent *b)
{
	return a->data == b->data && a->zero == b->zero && a->present == b->present &&
	       a->depth == b->depth && a->compressed == b->compressed && a->node == b->node &&
	       (!a->node || b->offset == a->offset + a->len);
}

static void map_json(json_t *list, uint64_t at, const struct image_extent *x)
{
	json_t *o = json_object();

	json_object_set_new(o, "start", json_integer((json_int_t)at));
	json_object_set_new(o, "length", json_integer((json_int_t)x->len));
	json_object_set_new(o, "depth", json_integer(x->depth));
	json_object_set_new(o, "present", json_boolean(x->present));
	json_object_set_new(o, "zero", json_boolean(x->zero));
	json_object_set_new(o, "data", json_boolean(x->data));
	if (x->node)
		json_object_set_new(o, "offset", json_integer((json_int_t)x->offset));
	json_array_append_new(list, o);
}

static void map_line(uint64_t at, const struct image_extent *x)
{
	if (x->data && x->node && !x->zero)
		printf("%#-16" PRIx64 "%#-16" PRIx64 "%#-16" PRIx64 "%s\n", at, x->len, x->offset,
		       fit(x->node->filename));
}

static int map_all(struct img *m, const struct img_file *f, json_t *list, struct err *e)
{
	struct image_extent x = { 0 }, next;
	uint64_t all = f->n->bytes, at = MIN(m->offset, all), from = at;
	uint64_t end = at + MIN(m->length, all - at);
	int r = 0;

	if (at == end && list)		/* qemu-img has one entry then, of no length */
		map_json(list, m->offset, &x);
	while (at < end && r == 0) {
		r = image_status(f->n, m->l, at, end - at, true, &next);
		if (r == 0 && next.compressed && !m->json)
			r = err_set(e, -ENOTSUP, "File contains external, encrypted or compressed "
				    "clusters.");
		if (r)
			break;
		if (at > from && alike(&x, &next)) {
			x.len += next.len;
		} else {
			if (at > from)
				list ? map_json(list, from, &x) : map_line(from, &x);
			from = at;
			x = next;
		}
		at += next.len;
	}
	if (r == 0 && at > from)
		list ? map_json(list, from, &x) : map_line(from, &x);
	return r ? err_sys(e, r, "the map could not be read") : 0;
}

int img_map(struct img *m, struct err *e)
{
	json_t *list = m->json ? json_array() : NULL;
	struct img_file f;
	int r = img_open(m, &f, m->argv[0], m->fmt, 0, e);

	if (r == 0) {
		if (!m->json)
			printf("%-16s%-16s%-16s%s\n", "Offset", "Length", "Mapped to", "File");
		r = map_all(m, &f, list, e);
		img_close(&f);
	}
	if (r == 0 && m->json)
		print_json(list);
	json_decref(list);
	return r ? 1 : 0;
}
