/*
 * block/drive_open.c - drives: names, who has one, and whether it may.
 *
 * Threads: main loop.
 * Missing: change of medium.
 */
#include <assert.h>
#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>

#include "block/graph.h"
#include "block/retry.h"
#include "block/throttle.h"
#include "vmm/base/util.h"

#define NAMES_MAX	128	/* for "did you mean" only */

struct drive *drive_find(struct block_graph *g, const char *id)
{
	for (struct drive *d = g->drives; d; d = d->next)
		if (*d->id && strcmp(d->id, id) == 0)
			return d;
	return NULL;
}

void drive_each(struct block_graph *g, void (*fn)(struct drive *, void *), void *arg)
{
	for (struct drive *d = g ? g->drives : NULL, *next; d; d = next) {
		next = d->next;
		fn(d, arg);
	}
}

void block_node_resized(struct block_node *n)
{
	graph_changed(n->graph);	/* what is known of its end */
	for (struct drive *d = n->graph->drives; d; d = d->next)
		if (d->node == n && d->on_resize)
			d->on_resize(d);
}

int drive_create(struct block_graph *g, const char *id, struct block_node *n,
		 struct drive **out, struct err *e)
{
	struct drive *d, **p;
	int r;

	/* Not xcalloc: the shards want their own cache lines. */
	d = aligned_alloc(_Alignof(struct drive), sizeof(*d));
	if (!d)
		return err_sys(e, -ENOMEM, "no memory for a drive");
	memset(d, 0, sizeof(*d));
	d->user = xasprintf("drive '%s'", id);
	r = block_attach(&d->root, n, d->user, 0, BLOCK_PERM_ALL, e);
	if (r) {
		free(d->user);
		free(d);
		return r;
	}
	d->id = xstrdup(id);
	d->node = n;
	d->graph = g;
	d->index = -1;
	d->read_only = n->read_only;
	atomic_init(&d->write_cache, true);
	d->werror = d->rerror = DRIVE_AUTO;
	pthread_mutex_init(&d->lock, NULL);
	retry_init(d);
	hold_init(d);
	stall_init(d);
	throttle_init(d);
	/* In the order they were given: that is the order of the disks. */
	for (p = &g->drives; *p; p = &(*p)->next)
		;
	*p = d;
	*out = d;
	return 0;
}

void drive_destroy(struct drive *d)
{
	struct drive **p = &d->graph->drives;

	assert(!d->owner && !d->stopped.head && drive_totals(d).inflight == 0);
	while (*p != d)
		p = &(*p)->next;
	*p = d->next;
	retry_fini(d);
	loop_work_cancel(d->graph->loop, &d->idle_work);
	stall_quiet(d);
	throttle_join(&d->throttle, d->graph, NULL);
	pthread_mutex_destroy(&d->stall.lock);
	block_detach(&d->root);
	pthread_mutex_destroy(&d->lock);
	free(d->user);
	free(d->id);
	free(d);
}

int drive_check_size(const struct block_node *n, struct err *e)
{
	const char *file = n->filename ? n->filename : n->name;

	if (n->bytes == 0)
		return err_set(e, -EINVAL, "%s is empty; make it as large as the disk shall be, "
			       "for example with 'truncate -s 10G %s'", file, file);
	if (n->bytes % BLOCK_SECTOR)
		return err_set(e, -EINVAL, "%s is %" PRIu64 " bytes long, which is no multiple of "
			       "%d; round it up with 'truncate -s %%%d %s'", file, n->bytes,
			       BLOCK_SECTOR, BLOCK_SECTOR, file);
	return 0;
}

static int no_such_drive(struct block_graph *g, const char *name, struct err *e)
{
	const char *names[NAMES_MAX + 1], *near;
	int i = 0;

	for (struct drive *d = g->drives; d && i < NAMES_MAX; d = d->next)
		if (*d->id)
			names[i++] = d->id;
	for (struct block_node *n = g->nodes; n && i < NAMES_MAX; n = n->next)
		if (n->name[0] != '#')
			names[i++] = n->name;
	names[i] = NULL;
	near = util_nearest(name, names);
	if (near)
		return err_set(e, -ENOENT, "there is no drive or node '%.64s'; did you mean '%s'?",
			       name, near);
	return err_set(e, -ENOENT, "there is no drive or node '%.64s'; add -drive id=%.64s,… or "
		       "-blockdev node-name=%.64s,…", name, name, name);
}

/* The permissions of a guest disk are those of QEMU's: others may read, and
 * may write only where that was asked for. */
static int take_perms(struct drive *d, uint32_t flags, struct err *e)
{
	uint32_t perm = BLOCK_PERM_READ;
	uint32_t shared = BLOCK_PERM_READ | BLOCK_PERM_WRITE_UNCHANGED | BLOCK_PERM_RESIZE;

	if (!d->read_only && (flags & (DRIVE_OPEN_WRITE | DRIVE_OPEN_MAY_WRITE)))
		perm |= BLOCK_PERM_WRITE;
	else
		d->read_only = true;
	if (flags & DRIVE_OPEN_SHARE)
		shared |= BLOCK_PERM_WRITE;
	return block_reattach(&d->root, perm, shared, e);
}

static int drive_take(struct drive *d, const char *owner, uint32_t flags, struct err *e)
{
	char *user;
	int r;

	if (d->owner)
		return err_set(e, -EBUSY, "it is already used by device '%s'; give each device "
			       "its own disk", d->owner);
	d->read_only = d->node->read_only;
	if ((flags & DRIVE_OPEN_WRITE) && d->read_only)
		return err_set(e, -EROFS, "%s is read-only; the device would write to it",
			       d->node->filename ? d->node->filename : d->node->name);
	r = block_check_reserved(d->node, e);	/* a named drive keeps its edge */
	if (r == 0)
		r = drive_check_size(d->node, e);
	if (r == 0)
		r = take_perms(d, flags, e);
	if (r)
		return r;
	d->owner = xstrdup(owner);
	user = xasprintf("device '%s'", owner);
	free(d->user);
	d->user = user;
	d->root.user = user;
	retry_update_durable(d);
	return 0;
}

int drive_open(struct block_graph *g, const char *name, const char *owner, uint32_t flags,
	       struct drive **out, struct err *e)
{
	struct drive *d = drive_find(g, name);
	struct block_node *n;
	bool made = false;
	int r = 0;

	if (!d) {
		n = block_node_find(g, name);
		if (!n)
			return no_such_drive(g, name, e);
		r = drive_create(g, "", n, &d, e);
		made = r == 0;
	}
	if (r == 0)
		r = drive_take(d, owner, flags, e);
	if (r) {
		err_prefix(e, "disk '%.64s'", name);
		if (made)
			drive_destroy(d);
		return r;
	}
	*out = d;
	return 0;
}

struct drive *drive_on(const struct block_node *n, struct drive *d)
{
	for (d = d ? d->next : n->graph->drives; d && d->node != n; d = d->next)
		;
	return d;
}

/* ---- the last flush ---- */

/* What one flush frees, the next one writes down; more are not needed. */
#define SETTLE_ROUNDS	3

static bool unsettled(struct block_node *n)
{
	if (n->drv->unsettled)
		return n->drv->unsettled(n);
	return n->file.node && unsettled(n->file.node);
}

static bool settle_step(struct drive *d);

static void settle_done(struct block_req *r, int ret)
{
	struct drive *d = container_of(r, struct drive, settle);

	if (ret || !settle_step(d))
		d->on_settled(d->on_settled_arg);
}

static bool settle_step(struct drive *d)
{
	if (d->settle_rounds++ == SETTLE_ROUNDS || !unsettled(d->node))
		return false;
	d->settle = (struct block_req){ .op = BLOCK_FLUSH, .loop = d->graph->loop,
					.done = settle_done };
	block_start(d->node, &d->settle);
	return true;
}

bool drive_settle(struct drive *d, void (*done)(void *arg), void *arg)
{
	d->on_settled = done;
	d->on_settled_arg = arg;
	d->settle_rounds = 0;
	return settle_step(d);
}

void drive_close(struct drive *d)
{
	if (!d)
		return;
	if (d->on_close)
		d->on_close(d, d->on_close_arg);
	assert(!d->stopped.head && drive_totals(d).inflight == 0);
	retry_fini(d);
	loop_work_cancel(d->graph->loop, &d->idle_work);
	stall_quiet(d);
	free(d->owner);
	d->owner = NULL;
	d->on_error = NULL;
	d->on_event = NULL;
	d->on_resize = NULL;
	if (!*d->id) {
		drive_destroy(d);
		return;
	}
	free(d->user);
	d->user = xasprintf("drive '%s'", d->id);
	d->root.user = d->user;
	/* Less than before: cannot be refused. */
	block_reattach(&d->root, 0, BLOCK_PERM_ALL, NULL);
}

int drive_move(struct drive *d, struct block_node *to, struct err *e)
{
	int r;

	block_detach(&d->root);
	r = block_attach(&d->root, to, d->user, 0, BLOCK_PERM_ALL, e);
	d->node = to;
	return r;
}
