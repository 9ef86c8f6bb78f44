/*
 * block/graph.c - nodes: creation, names, removal.
 *
 * Spec:    QEMU qapi/block-core.json (BlockdevOptions), docs/system.
 * Threads: main loop.
 * Missing: formats other than raw and qcow2.
 */
#include "block/graph.h"
#include "block/retry.h"
#include "block/throttle.h"

#include <assert.h>
#include <ctype.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>

#include "vmm/base/json.h"
#include "vmm/base/log.h"
#include "vmm/base/util.h"

/* A node in a node in a node: no useful chain of options is deeper. */
#define NEST_MAX	16
/* How long the end of a VM waits for threads on storage: that may be slow, and what is
 * waited for is a clean image. Where a disk is suspended it is known to be away. */
#define END_NS		(10 * NS_PER_SEC)
#define AWAY_NS		NS_PER_SEC
/* QEMU's limit, which clients know. */
#define NODE_NAME_MAX	31

const struct block_driver *const block_drivers[] = {
	&block_driver_file, &block_driver_host_device, &block_driver_raw, &block_driver_qcow2,
	&block_driver_fault, &block_driver_memcow, &block_driver_null_co,
	&block_driver_throttle, &block_driver_copy_on_read, NULL
};

/* What QEMU has and this build has not: said so rather than "unknown". */
static const char *const absent_drivers[] = {
	"qcow", "qed", "vdi", "vhdx", "vmdk", "vpc", "parallels", "luks",
	"blkdebug", "blkverify", "blklogwrites", "blkreplay", "bochs", "cloop", "compress",
	"copy-before-write", "dmg", "ftp", "ftps", "gluster", "host_cdrom",
	"http", "https", "io_uring", "iscsi", "nbd", "nfs", "null-aio", "nvme",
	"nvme-io_uring", "preallocate", "quorum", "rbd", "replication", "snapshot-access",
	"ssh", "virtio-blk-vfio-pci", "virtio-blk-vhost-user",
	"virtio-blk-vhost-vdpa", "vvfat", NULL
};

static const char *const discard_words[] = { "ignore", "unmap", NULL };
static_assert(ARRAY_LEN(discard_words) == BLOCK_DISCARD_UNMAP + 2, "one word each");
const char *const block_detect_words[] = { "off", "on", "unmap", NULL };
static_assert(ARRAY_LEN(block_detect_words) == BLOCK_DETECT_UNMAP + 2, "one word each");

const struct prop block_node_props[] = {
	PROP_BOOL(struct block_node, read_only, "read-only", false,
		  "refuse writes, and open the file for reading only", .flags = PROP_RUNTIME),
	PROP_BOOL(struct block_node, auto_read_only, "auto-read-only", false,
		  "fall back to read-only when the file may not be written",
		  .flags = PROP_RUNTIME),
	PROP_BOOL(struct block_node, force_share, "force-share", false,
		  "allow any other use of the file meanwhile; needs read-only=on"),
	PROP_BOOL(struct block_node, cache_direct, "cache.direct", false,
		  "bypass the host page cache (O_DIRECT)", .flags = PROP_RUNTIME),
	PROP_BOOL(struct block_node, cache_no_flush, "cache.no-flush", false,
		  "ignore flushes: a host crash loses data", .flags = PROP_RUNTIME),
	PROP_ENUM(struct block_node, discard, "discard", discard_words, BLOCK_DISCARD_IGNORE,
		  "what the guest's discards do: nothing, or give the space back",
		  .flags = PROP_RUNTIME),
	PROP_ENUM(struct block_node, detect_zeroes, "detect-zeroes", block_detect_words,
		  BLOCK_DETECT_OFF, "turn writes of zeroes into write-zeroes requests",
		  .flags = PROP_RUNTIME),
	PROP_END
};

/* Handled here, not through a table. */
const char *const graph_skip[] = {
	"driver", "node-name", "file", "backing", "data-file", NULL
};

struct block_graph *block_graph_create(struct loop *main)
{
	struct block_graph *g = xcalloc(1, sizeof(*g));

	g->loop = main;
	atomic_init(&g->generation, 1);
	return g;
}

void block_graph_set_fds(struct block_graph *g, struct fds *fds)
{
	g->fds = fds;
}

void block_graph_set_locked(struct block_graph *g, bool locked)
{
	g->memory_locked = locked;
}

void block_graph_destroy(struct block_graph *g)
{
	struct block_node *n;

	if (!g || g->late)	/* hung storage: see loop_destroy() */
		return;
	while (g->drives)
		drive_destroy(g->drives);
	while (g->nodes) {
		for (n = g->nodes; n && n->users; n = n->next)
			;
		assert(n);	/* edges only lead down: some node is on top */
		graph_node_destroy(n);
	}
	while (g->groups) {
		g->groups->object = false;
		throttle_group_put(g->groups);
	}
	loop_destroy(g->wait_loop);
	free(g);
}

uint64_t block_graph_end_ns(struct block_graph *g)
{
	bool away = false;

	for (struct drive *d = g->drives; d && !g->end_ns; d = d->next)
		away |= drive_retry_info(d).parked || drive_stall_info(d).stalled;
	if (!g->end_ns)
		g->end_ns = clock_ns() + (away ? AWAY_NS : END_NS);
	return g->end_ns;
}

void graph_changed(struct block_graph *g)
{
	/* Nodes keep 16 bits of it: at the turn they forget what is older. */
	if ((atomic_fetch_add(&g->generation, 1) + 1) % BIT(16))
		return;
	for (struct block_node *n = g->nodes; n; n = n->next)
		if (n->opened && n->drv->forget)
			n->drv->forget(n);
	atomic_fetch_add(&g->generation, 1);
}

struct loop *block_graph_wait_loop(struct block_graph *g)
{
	struct err e = ERR_INIT;

	if (!g->wait_loop && loop_create(&g->wait_loop, "block", LOOP_AIO_AUTO, &e))
		log_err("%s", e.text);
	return g->wait_loop;
}

struct block_node *block_node_find(struct block_graph *g, const char *name)
{
	for (struct block_node *n = g->nodes; n; n = n->next)
		if (strcmp(n->name, name) == 0)
			return n;
	return NULL;
}

struct block_node *block_disk_find(struct block_graph *g, const char *name)
{
	struct drive *d = drive_find(g, name);
	struct block_node *n = d ? d->node : block_node_find(g, name);

	for (d = g->drives; d && !n; d = d->next)
		if (d->owner && strcmp(d->owner, name) == 0)
			n = d->node;
	return n;
}

void block_node_each(struct block_graph *g, void (*fn)(struct block_node *, void *), void *arg)
{
	for (struct block_node *n = g ? g->nodes : NULL, *next; n; n = next) {
		next = n->next;
		fn(n, arg);
	}
}

static void flatten_into(json_t *out, const char *prefix, const json_t *args,
			 const char *const *keep, int depth)
{
	const char *key;
	json_t *val;
	char *full;
	bool kept;

	json_object_foreach((json_t *)(uintptr_t)args, key, val) {
		full = *prefix ? xasprintf("%s.%s", prefix, key) : xstrdup(key);
		kept = false;
		for (int i = 0; keep && keep[i]; i++)
			kept |= strcmp(keep[i], full) == 0;
		if (json_is_object(val) && !kept && depth < NEST_MAX)
			flatten_into(out, full, val, keep, depth + 1);
		else
			json_object_set(out, full, val);
		free(full);
	}
}

json_t *graph_flatten(const json_t *args, const char *const *keep)
{
	json_t *out = json_object();

	flatten_into(out, "", args, keep, 0);
	return out;
}

const char *graph_path(const char *given)
{
	return strncmp(given, "file:", 5) == 0 ? given + 5 : given;
}

int graph_check_name(struct block_graph *g, const char *name, struct err *e)
{
	bool good = isalpha((unsigned char)*name);

	for (const char *p = name; *p; p++)
		good &= isalnum((unsigned char)*p) || strchr("-._", *p);
	if (!good)
		return err_set(e, -EINVAL, "'%.64s' is no usable name: begin with a letter, go on "
			       "with letters, digits, '-', '.' and '_'", name);
	if (block_node_find(g, name))
		return err_set(e, -EEXIST, "a node called '%s' exists already", name);
	if (drive_find(g, name))
		return err_set(e, -EEXIST, "a drive called '%s' exists already", name);
	return 0;
}

static int find_driver(const char *name, const struct block_driver **out, struct err *e)
{
	const char *names[ARRAY_LEN(block_drivers)], *near;
	int i;

	for (i = 0; block_drivers[i]; i++) {
		names[i] = block_drivers[i]->name;
		if (strcmp(names[i], name) == 0) {
			*out = block_drivers[i];
			return 0;
		}
	}
	names[i] = NULL;
	for (i = 0; absent_drivers[i]; i++)
		if (strcmp(absent_drivers[i], name) == 0)
			return err_set(e, -ENOTSUP, "driver '%s' is not supported in this build; "
				       "use file, host_device, raw or qcow2", name);
	near = util_nearest(name, names);
	if (near)
		return err_set(e, -EINVAL, "there is no block driver '%.64s'; did you mean '%s'?",
			       name, near);
	return err_set(e, -EINVAL, "there is no block driver '%.64s'; use file, host_device, raw or qcow2",
		       name);
}

/* Options that hold for an inline child as well unless it says otherwise. A
 * child's discard is on: the parent decides (see block_submit()). */
json_t *graph_child_args(const json_t *parent, const json_t *child)
{
	static const char *const inherited[] = {
		"read-only", "auto-read-only", "force-share", "cache.direct", "cache.no-flush"
	};
	json_t *out = graph_flatten(child, graph_skip);
	json_t *val;

	for (size_t i = 0; i < ARRAY_LEN(inherited); i++) {
		val = json_object_get(parent, inherited[i]);
		if (val && !json_object_get(out, inherited[i]))
			json_object_set(out, inherited[i], val);
	}
	if (!json_object_get(out, "discard"))
		json_put_str(out, "discard", "unmap");
	return out;
}

static int node_create(struct block_graph *g, const json_t *args, bool implicit, int depth,
		       struct block_node **out, struct err *e);

/* The node that option @key names or describes, as child @c of @n. */
static int open_child(struct block_node *n, struct block_child *c, const char *key,
		      const json_t *flat, int depth, struct err *e)
{
	const json_t *opt = json_object_get(flat, key);
	struct block_node *child = NULL;
	json_t *args;
	int r;

	if (json_is_string(opt)) {
		child = block_node_find(n->graph, json_string_value(opt));
		/* Not yet open: @n itself or a node around it. */
		if (!child || !child->opened)
			return err_set(e, -ENOENT, "%s=%.64s: there is no node of that name",
				       key, json_string_value(opt));
	} else if (json_is_object(opt)) {
		args = graph_child_args(flat, opt);
		if (c == &n->backing)
			json_object_set_new(args, "read-only", json_true());
		r = node_create(n->graph, args, true, depth + 1, &child, e);
		json_decref(args);
		if (r)
			return r;
	} else {
		return err_set(e, -EINVAL, "driver '%s' needs %s=: a node-name or the options "
			       "of the node below", n->drv->name, key);
	}
	/* No permission of its own: those come with the users above. */
	r = block_attach(c, child, n->user, 0, BLOCK_PERM_ALL, e);
	if (r && child->implicit)
		graph_node_destroy(child);
	return r;
}

/* backing= and data-file= as far as they are given; null is "none". */
static int open_more(struct block_node *n, const json_t *flat, int depth, struct err *e)
{
	const json_t *backing = json_object_get(flat, "backing");
	const json_t *data = json_object_get(flat, "data-file");
	int r = 0;

	if (!n->drv->backs && (data || (backing && !json_is_null(backing))))
		return err_set(e, -EINVAL, "driver '%s' has no option '%s'", n->drv->name,
			       data ? "data-file" : "backing");
	if (data)
		r = open_child(n, &n->data, "data-file", flat, depth, e);
	/* QEMU takes "" for null. */
	if (r == 0 && backing && !json_is_null(backing) &&
	    !(json_is_string(backing) && !*json_string_value(backing)))
		r = open_child(n, &n->backing, "backing", flat, depth, e);
	return r;
}

int graph_check_common(const struct block_node *n, struct err *e)
{
	if (n->force_share && !n->read_only)
		return err_set(e, -EINVAL, "force-share=on needs read-only=on");
	if (n->detect_zeroes == BLOCK_DETECT_UNMAP && n->discard != BLOCK_DISCARD_UNMAP)
		return err_set(e, -EINVAL, "detect-zeroes=unmap needs discard=unmap");
	return 0;
}

/* Properties, child, driver: everything but the name. */
static int node_open(struct block_node *n, const json_t *flat, int depth, struct err *e)
{
	const struct prop *const tables[] = { n->drv->props, block_node_props, NULL };
	char what[80];
	int r;

	snprintf(what, sizeof(what), "driver '%s'", n->drv->name);
	prop_defaults(tables, n);
	r = prop_apply(tables, n, flat, graph_skip, what, e);
	if (r == 0)
		r = graph_check_common(n, e);
	if (r == 0 && n->drv->protocol && json_object_get(flat, "file"))
		r = err_set(e, -EINVAL, "driver '%s' has no option 'file'; did you mean "
			    "'filename'?", n->drv->name);
	if (r == 0 && !n->drv->protocol)
		r = open_child(n, &n->file, "file", flat, depth, e);
	if (r == 0)
		r = open_more(n, flat, depth, e);
	if (r)
		return r;
	n->opened = true;
	return n->drv->open(n, e);
}

static struct block_node *node_alloc(struct block_graph *g, const struct block_driver *drv,
				     const char *name)
{
	struct block_node *n = xcalloc(1, drv->size);

	n->drv = drv;
	n->graph = g;
	n->name = name ? xstrdup(name) : xasprintf("#block%03u", g->serial++);
	n->user = xasprintf("node '%s'", n->name);
	n->next = g->nodes;
	g->nodes = n;
	return n;
}

static int node_create(struct block_graph *g, const json_t *args, bool implicit, int depth,
		       struct block_node **out, struct err *e)
{
	const char *driver = json_str(args, "driver", NULL);
	const char *name = json_str(args, "node-name", NULL);
	const struct block_driver *drv = NULL;
	struct block_node *n;
	int r;

	if (!driver)
		return err_set(e, -EINVAL, "driver= is missing: file, host_device, raw or qcow2");
	if (depth > NEST_MAX)
		return err_set(e, -EINVAL, "nodes are nested more than %d deep", NEST_MAX);
	r = find_driver(driver, &drv, e);
	if (r == 0 && name)
		r = graph_check_name(g, name, e);
	if (r == 0 && name && strlen(name) > NODE_NAME_MAX)
		r = err_set(e, -EINVAL, "node-name '%.64s' is longer than %d characters",
			    name, NODE_NAME_MAX);
	if (r)
		return r;
	n = node_alloc(g, drv, name);
	n->args = graph_flatten(args, graph_skip);
	r = node_open(n, n->args, depth, e);
	if (r == 0 && n->backing_file && !json_object_get(n->args, "backing"))
		r = graph_open_backing(n, e);
	if (r) {
		graph_node_destroy(n);
		return r;
	}
	/* From here on it goes with its last user; not before, or a failing
	 * open would remove it twice. */
	n->implicit = implicit;
	*out = n;
	return 0;
}

int graph_node_create(struct block_graph *g, const json_t *args, bool implicit,
		      struct block_node **out, struct err *e)
{
	return node_create(g, args, implicit, 0, out, e);
}

void graph_node_destroy(struct block_node *n)
{
	const struct prop *const tables[] = { n->drv->props, block_node_props, NULL };
	struct block_node **p = &n->graph->nodes;

	assert(!n->users);
	if (n->opened)
		n->drv->close(n);
	block_detach(&n->backing);
	block_detach(&n->data);
	fault_node_gone(n);
	block_detach(&n->file);
	while (*p != n)
		p = &(*p)->next;
	*p = n->next;
	prop_free(tables, n);
	json_decref(n->args);
	free(n->user);
	free(n->name);
	free(n);
}

int block_node_open(struct block_graph *g, const json_t *args, struct block_node **out,
		    struct err *e)
{
	const char *name = json_str(args, "node-name", NULL);
	struct block_node *n;
	int r;

	/* A node that nothing names could never be used or removed. */
	if (!name)
		return err_set(e, -EINVAL, "blockdev: node-name= is missing");
	r = graph_node_create(g, args, false, &n, e);
	if (r)
		err_prefix(e, "blockdev '%.64s'", name);
	else if (out)
		*out = n;
	return r;
}

static const char *nearest_node(struct block_graph *g, const char *name)
{
	const char *names[65];
	int i = 0;

	for (struct block_node *n = g->nodes; n && i < 64; n = n->next)
		if (n->name[0] != '#')
			names[i++] = n->name;
	names[i] = NULL;
	return util_nearest(name, names);
}

int graph_no_node(struct block_graph *g, const char *name, struct err *e)
{
	const char *near = nearest_node(g, name);

	return err_set(e, -ENOENT, "there is no node '%.64s'%s%s%s", name,
		       near ? "; did you mean '" : "", near ? near : "", near ? "'?" : "");
}

int block_node_del(struct block_graph *g, const char *name, struct err *e)
{
	struct block_node *n = block_node_find(g, name);

	if (!n)
		return graph_no_node(g, name, e);
	if (n->users)
		return err_set(e, -EBUSY, "node '%s' is in use by %s; remove that first", name,
			       n->users->user);
	graph_node_destroy(n);
	return 0;
}
