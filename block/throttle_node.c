/*
 * block/throttle_node.c - the throttle driver: what passes through this node
 * keeps to the limits of a throttle group.
 *
 * Spec:    QEMU's qapi/block-core.json (BlockdevOptionsThrottle).
 * Threads: requests on their own loops; see throttle.c.
 * Missing: below a format node, requests of that node itself (metadata, what
 *          does not lie in one piece) are counted but do not wait.
 *
 * Those who sent such requests may hold a lock that others need, or stand still on
 * the main loop, which is the one that would let them go.
 */
#include <errno.h>

#include "block/graph.h"
#include "block/retry.h"
#include "block/throttle.h"
#include "vmm/base/util.h"

struct throttle_node {
	struct block_node n;		/* first */
	struct throttle_member m;
	char *group;			/* property */
	json_t *file;			/* listed for help; the graph opens it */
};

static const struct prop node_props[] = {
	PROP_STR(struct throttle_node, group, "throttle-group", NULL,
		 "the group whose limits hold", .flags = PROP_REQUIRED | PROP_RUNTIME),
	PROP_JSON(struct throttle_node, file, "file",
		  "the node below: a node-name, or an object with its options"),
	PROP_END
};

static void admitted(struct loop_work *w)
{
	struct block_req *r = container_of(w, struct block_req, work);
	struct throttle_node *t = container_of(r->wait.in, struct throttle_node, m);

	r->wait.in = NULL;
	if (r->cancelled) {
		block_done(r, -ECANCELED);
		return;
	}
	if (stall_watched(r->drive))
		stall_enter(r->drive, r);
	block_submit(t->n.file.node, r);
}

static void node_submit(struct block_node *n, struct block_req *r)
{
	struct throttle_node *t = (struct throttle_node *)n;

	if (__builtin_expect(atomic_load_explicit(&t->m.on, memory_order_relaxed), 1) &&
	    throttle_node_keep(&t->m, r)) {
		/* It is not the storage that it waits for now. */
		if (r->fly.on)
			stall_leave(r->drive, r);
		return;
	}
	block_submit(n->file.node, r);
}

/* @want: options of such a node. */
static int check_group(const struct block_node *n, const struct block_node *want, struct err *e)
{
	const char *group = ((const struct throttle_node *)want)->group;

	if (throttle_group_find(n->graph, group))
		return 0;
	return err_set(e, -ENOENT, "throttle-group=%.64s: there is no throttle group of that "
		       "name; add -object throttle-group,id=%.64s,…", group, group);
}

static void change_group(struct block_node *n)
{
	struct throttle_node *t = (struct throttle_node *)n;

	throttle_join(&t->m, n->graph, t->group);
}

static int node_open(struct block_node *n, struct err *e)
{
	struct throttle_node *t = (struct throttle_node *)n;
	int r = check_group(n, n, e);

	if (r)
		return r;
	filter_opened(n);
	t->m.go = admitted;
	throttle_join(&t->m, n->graph, t->group);
	return 0;
}

/* Without users nothing is in flight, so nothing waits. */
static void node_close(struct block_node *n)
{
	throttle_join(&((struct throttle_node *)n)->m, n->graph, NULL);
}

const struct block_driver block_driver_throttle = {
	.name = "throttle", .help = "the node below, within the limits of a throttle group",
	.size = sizeof(struct throttle_node), .props = node_props,
	.open = node_open, .close = node_close, .submit = node_submit,
	.set_perm = filter_set_perm, .check_length = filter_check_length,
	.set_length = filter_set_length,
	.check_options = check_group, .options_changed = change_group,
};
