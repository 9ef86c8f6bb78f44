/*
 * block/backing.c - the chain of backing files that images name themselves.
 *
 * Spec:    docs/interop/qcow2.txt ("s Header": backing_file_offset, "Backing
 *          file format name string").
 * Threads: main loop.
 * Missing: nothing known.
 *
 * An image may come from anybody, so the name in it is a plain local path and
 * nothing else (CVE-2024-4467 made it a protocol): no "json:", no "nbd:", no
 * device. The format is the one the image states; none is guessed, because the
 * guest of a raw backing file may have written any signature (CVE-2026-27211).
 * Whoever wants something else says so with backing=; backing=null opens none.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "block/graph.h"
#include "vmm/base/json.h"
#include "vmm/base/util.h"

/* No chain that people make is longer, and a circle has to end somewhere. */
#define CHAIN_MAX	1024

/* @name as seen from the folder of the image that gives it. */
static char *resolve(const char *image, const char *name)
{
	const char *slash = image ? strrchr(image, '/') : NULL;

	if (*name == '/' || !slash)
		return xstrdup(name);
	return xasprintf("%.*s/%s", (int)(slash - image), image, name);
}

static int check_name(const struct block_node *n, struct err *e)
{
	const char *name = n->backing_file;
	size_t plain = strcspn(name, ":/");

	if (name[plain] == ':')
		return err_set(e, -EPERM, "%s names the backing file '%.128s', which is no plain "
			       "path of a local file; give backing=, or backing=null for none",
			       n->filename, name);
	if (!n->backing_format)
		return err_set(e, -EINVAL, "%s names the backing file '%.128s' without its "
			       "format, and formats are not guessed; state it in the image with "
			       "'roost img rebase -u -b FILE -F raw|qcow2 IMAGE', or give "
			       "backing.driver=", n->filename, name);
	if (strcmp(n->backing_format, "raw") && strcmp(n->backing_format, "qcow2"))
		return err_set(e, -ENOTSUP, "%s has a backing file of format '%.32s'; raw and "
			       "qcow2 are supported", n->filename, n->backing_format);
	return 0;
}

/* The options of the node behind @n. */
static json_t *backing_args(const struct block_node *n, const char *path)
{
	static const char *const same[] = { "force-share", "cache.direct", "cache.no-flush" };
	json_t *args = json_object(), *file = json_object(), *val;
	const char *locking = json_str(n->args, "file.locking", NULL);
	const json_t *below = json_object_get(n->args, "file");

	if (json_is_object(below))
		locking = json_str(below, "locking", locking);
	json_put_str(file, "driver", "file");
	json_put_str(file, "filename", path);
	if (locking)
		json_put_str(file, "locking", locking);
	json_put_str(args, "driver", n->backing_format);
	json_object_set_new(args, "read-only", json_true());
	for (size_t i = 0; i < ARRAY_LEN(same); i++) {
		val = json_object_get(n->args, same[i]);
		if (val)
			json_object_set(args, same[i], val);
	}
	json_object_set_new(args, "file", file);
	/* Ours to follow, so that a long chain needs no deep stack. */
	if (strcmp(n->backing_format, "raw"))
		json_object_set_new(args, "backing", json_null());
	return args;
}

static int open_next(struct block_node *n, struct block_node **next, struct err *e)
{
	json_t *args;
	char *path;
	int r;

	r = check_name(n, e);
	if (r)
		return r;
	path = resolve(n->filename, n->backing_file);
	args = backing_args(n, path);
	r = graph_node_create(n->graph, args, true, next, e);
	json_decref(args);
	if (r) {
		err_prefix(e, "backing file of %s", n->filename);
	} else {
		r = block_attach(&n->backing, *next, n->user, 0, BLOCK_PERM_ALL, e);
		if (r)
			graph_node_destroy(*next);
	}
	free(path);
	return r;
}

int graph_open_backing(struct block_node *n, struct err *e)
{
	const struct block_node *top = n;
	struct block_node *next = NULL;
	int r = 0;

	for (int depth = 0; r == 0 && n->backing_file; depth++) {
		if (depth == CHAIN_MAX)
			return err_set(e, -ELOOP, "%s has more than %d backing files, or they "
				       "name each other in a circle", top->filename, CHAIN_MAX);
		r = open_next(n, &next, e);
		n = next;
	}
	return r;
}

int graph_backing_name(const struct block_node *n, char **out, struct err *e)
{
	if (!n->filename || (strcmp(n->drv->name, "raw") && strcmp(n->drv->name, "qcow2")))
		return err_set(e, -EINVAL, "node '%s' (%s) has no file that an overlay could name; "
			       "its format must be raw or qcow2", n->name, n->drv->name);
	/* The overlay names the file, which is read from its beginning later. */
	if (strcmp(n->drv->name, "raw") == 0 && n->bytes != n->file.node->bytes)
		return err_set(e, -EINVAL, "node '%s' is a part of its file (offset=, size=), which "
			       "an overlay cannot name; use blockdev-snapshot with an overlay of "
			       "your own, or another base", n->name);
	/* Absolute: it holds wherever that is read. */
	*out = realpath(n->filename, NULL);
	if (!*out)
		*out = xstrdup(n->filename);
	return 0;
}

struct block_node *block_chain_find(struct block_node *n, const char *filename)
{
	while (n && !(n->filename && strcmp(n->filename, filename) == 0))
		n = n->backing.node;
	return n;
}
