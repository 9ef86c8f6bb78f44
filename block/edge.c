/*
 * block/edge.c - who uses a node, for what, and beside whom.
 *
 * Spec:    QEMU qapi/block-core.json (BlockPermission).
 * Threads: main loop.
 * Missing: nothing known.
 */
#include "block/graph.h"

#include <errno.h>

static const char *perm_word(uint32_t perm)
{
	if (perm & BLOCK_PERM_WRITE)
		return "writing";
	if (perm & BLOCK_PERM_RESIZE)
		return "resizing";
	return "reading";
}

/* May edge @c stand beside the other users of its node? */
static int check_peers(const struct block_child *c, struct err *e)
{
	for (struct block_child *o = c->node->users; o; o = o->next) {
		if (o == c)
			continue;
		if ((c->perm & ~o->shared) || (o->perm & ~c->shared))
			return err_set(e, -EBUSY, "node '%s' is already in use by %s, which does "
				       "not allow %s beside it; give each device its own disk, or "
				       "set share-rw=on on both", c->node->name, o->user,
				       perm_word((c->perm & ~o->shared) | (o->perm & ~c->shared)));
	}
	return 0;
}

/* Tell the driver what all users together need. */
static int update_node(struct block_node *n, struct err *e)
{
	uint32_t perm = 0, shared = BLOCK_PERM_ALL;

	for (struct block_child *c = n->users; c; c = c->next) {
		perm |= c->perm;
		shared &= c->shared;
	}
	if (n->force_share)
		shared = BLOCK_PERM_ALL;
	if (n->read_only && (perm & BLOCK_PERM_WRITE))
		return err_set(e, -EROFS, "node '%s' is read-only", n->name);
	return n->drv->set_perm ? n->drv->set_perm(n, perm, shared, e) : 0;
}

int block_reattach(struct block_child *c, uint32_t perm, uint32_t shared, struct err *e)
{
	uint32_t old_perm = c->perm, old_shared = c->shared;
	int r;

	c->perm = perm;
	c->shared = shared;
	r = check_peers(c, e);
	if (r == 0)
		r = update_node(c->node, e);
	if (r) {
		c->perm = old_perm;
		c->shared = old_shared;
	}
	return r;
}

static void unlink_edge(struct block_child *c)
{
	struct block_child **p = &c->node->users;

	graph_changed(c->node->graph);
	while (*p != c)
		p = &(*p)->next;
	*p = c->next;
	c->node = NULL;
}

int block_check_reserved(const struct block_node *n, struct err *e)
{
	if (!n->reserved_by)
		return 0;
	return err_set(e, -EBUSY, "node '%s' is being worked on by %s; wait for its end, or cancel "
		       "it", n->name, n->reserved_by);
}

int block_attach(struct block_child *c, struct block_node *n, const char *user,
		 uint32_t perm, uint32_t shared, struct err *e)
{
	int r = block_check_reserved(n, e);

	if (r)
		return r;
	*c = (struct block_child){ .node = n, .user = user, .shared = BLOCK_PERM_ALL,
				   .next = n->users };
	n->users = c;
	graph_changed(n->graph);
	r = block_reattach(c, perm, shared, e);
	if (r)
		unlink_edge(c);
	return r;
}

void block_detach(struct block_child *c)
{
	struct block_node *n = c->node;

	if (!n)
		return;
	unlink_edge(c);
	/* Fewer users can only need and forbid less: this cannot fail. */
	update_node(n, NULL);
	if (n->implicit && !n->users)
		graph_node_destroy(n);
}

static int check_writers(const struct block_node *n, struct err *e)
{
	for (const struct block_child *c = n->users; c; c = c->next)
		if (c->perm & ~(uint32_t)BLOCK_PERM_READ)
			return err_set(e, -EBUSY, "node '%s' cannot become read-only: it is "
				       "written to by %s", n->name, c->user);
	return 0;
}

static int reopen_child(const struct block_child *c, bool write, struct err *e)
{
	return c->node ? block_reopen(c->node, write, e) : 0;
}

int block_reopen(struct block_node *n, bool write, struct err *e)
{
	int r = 0;

	if (n->read_only == !write)
		return 0;
	if (!write)
		r = check_writers(n, e);
	if (r == 0 && n->drv->reopen)
		r = n->drv->reopen(n, write, e);
	if (r == 0)
		r = reopen_child(&n->file, write, e);
	if (r == 0)
		r = reopen_child(&n->data, write, e);
	if (r == 0)
		n->read_only = !write;
	else if (n->file.node)
		reopen_child(&n->file, !write, NULL);
	return r;
}
