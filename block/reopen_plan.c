/*
 * block/reopen_plan.c - which options of a node change, and how.
 *
 * Spec:    QEMU's qapi/block-core.json (blockdev-reopen).
 * Threads: main loop.
 * Missing: another node as `file`; options that only a new node can have.
 *
 * What is asked for is read into a node that is never opened, by the same tables
 * as for blockdev-add, and compared with the options that the node was given.
 * PROP_RUNTIME marks those that may differ. What can fail is done first and undone
 * when something fails behind it; the rest is assignments.
 */
#include <errno.h>
#include <stdlib.h>

#include "block/graph.h"
#include "block/reopen.h"
#include "block/retry.h"
#include "vmm/base/json.h"
#include "vmm/base/util.h"

#define NODES_MAX	256	/* of one command: no chain that people change is longer */
#define NEST_MAX	16	/* as in blockdev-add */

const char reopen_user[] = "blockdev-reopen";

static void tables_of(const struct block_node *n, const struct prop *tables[3])
{
	tables[0] = n->drv->props;
	tables[1] = block_node_props;
	tables[2] = NULL;
}

/* A node of @n's driver that holds options and nothing else; the caller frees it
 * with drop_options(). NULL: @e. */
static struct block_node *read_options(const struct block_node *n, const json_t *args,
				       struct err *e)
{
	const struct prop *tables[3];
	struct block_node *o = xcalloc(1, n->drv->size);
	char what[80];

	snprintf(what, sizeof(what), "node '%s'", n->name);
	tables_of(n, tables);
	o->drv = n->drv;
	o->name = n->name;
	prop_defaults(tables, o);
	if (prop_apply(tables, o, args, graph_skip, what, e) == 0)
		return o;
	prop_free(tables, o);
	free(o);
	return NULL;
}

static void drop_options(struct block_node *o)
{
	const struct prop *tables[3];

	if (!o)
		return;
	tables_of(o, tables);
	prop_free(tables, o);
	free(o);
}

static bool is_child(const char *name)
{
	for (int i = 0; graph_skip[i]; i++)
		if (strcmp(name, graph_skip[i]) == 0)
			return true;
	return false;
}

/* Do the two hold the same? */
static bool same(const struct prop *p, const struct block_node *a, const struct block_node *b)
{
	json_t *x = prop_get(p, a), *y = prop_get(p, b);
	bool equal = json_equal(x, y);

	json_decref(x);
	json_decref(y);
	return equal;
}

static int refuse(const struct prop *p, const struct block_node *old,
		  const struct block_node *want, struct err *e)
{
	json_t *x = prop_get(p, old), *y = prop_get(p, want);
	char *is = json_dumps(x, JSON_ENCODE_ANY), *asked = json_dumps(y, JSON_ENCODE_ANY);
	int r;

	r = err_set(e, -EINVAL, "node '%s': %s is %.128s and cannot become %.128s while the node "
		    "exists; state it as it is, or remove the node and add it again", old->name,
		    p->name, is, asked);
	free(is);
	free(asked);
	json_decref(x);
	json_decref(y);
	return r;
}

static int compare(struct reopen_node *k, struct err *e)
{
	const struct block_node *want = k->want;
	struct block_node *old = read_options(k->n, k->n->args, e);
	const struct prop *tables[3], *p;
	int r = old ? 0 : -EINVAL;

	tables_of(k->n, tables);
	for (int i = 0; r == 0 && tables[i]; i++)
		for (p = tables[i]; r == 0 && p->type != PROP_T_END; p++)
			if (!(p->flags & PROP_RUNTIME) && !is_child(p->name) && !same(p, old, want))
				r = refuse(p, old, want, e);
	if (r == 0) {
		r = graph_check_common(want, e);
		if (r == 0 && k->n->drv->check_options)
			r = k->n->drv->check_options(k->n, want, e);
		if (r)
			err_prefix(e, "node '%s'", k->n->name);
		k->was_read_only = old->read_only;
		k->sync = want->cache_direct != k->n->cache_direct ||
			want->read_only != k->n->read_only;
	}
	drop_options(old);
	return r;
}

/* ---- children ---- */

static int add_node(struct reopen_plan *p, struct block_node *n, json_t *flat, int depth,
		    struct err *e);

static int add_inline(struct reopen_plan *p, struct block_node *child, const json_t *parent,
		      const json_t *opt, bool backing, int depth, struct err *e)
{
	json_t *args = graph_child_args(parent, opt);

	if (backing)
		json_object_set_new(args, "read-only", json_true());
	return add_node(p, child, args, depth + 1, e);
}

/* A child that stays: its name, or its options. */
static int check_child(struct reopen_plan *p, const struct block_node *n, const char *key,
		       struct block_node *child, const json_t *flat, int depth, struct err *e)
{
	const json_t *opt = json_object_get(flat, key);

	if (!child && !opt)
		return 0;
	if (!child)
		return err_set(e, -EINVAL, "node '%s' has no %s, and gets none while it exists; "
			       "leave %s= out", n->name, key, key);
	if (json_is_object(opt))
		return add_inline(p, child, flat, opt, false, depth, e);
	if (json_is_string(opt) && strcmp(json_string_value(opt), child->name) == 0)
		return 0;
	return err_set(e, -EINVAL, "node '%s': %s=%.64s cannot be put below it while it exists; "
		       "give '%s', which is there, or remove the node and add it again", n->name,
		       key, json_is_string(opt) ? json_string_value(opt) : "(nothing)",
		       child->name);
}

static int swap_backing(struct reopen_node *k, const char *name, struct err *e)
{
	struct block_node *to = NULL;

	if (name) {
		to = block_node_find(k->n->graph, name);
		if (!to)
			return graph_no_node(k->n->graph, name, e);
	}
	k->swap = to != k->n->backing.node;
	/* No permissions: cannot be refused. */
	if (k->swap && to)
		block_attach(&k->to, to, reopen_user, 0, BLOCK_PERM_ALL, NULL);
	return 0;
}

static int check_backing(struct reopen_plan *p, int i, const json_t *flat, int depth, struct err *e)
{
	struct reopen_node *k = &p->node[i];
	const json_t *opt = json_object_get(flat, "backing");
	struct block_node *n = k->n, *have = n->backing.node;
	const char *name = json_string_value(opt);

	if (!n->drv->backs && opt && !json_is_null(opt))
		return err_set(e, -EINVAL, "node '%s': driver '%s' has no option 'backing'; leave "
			       "it out", n->name, n->drv->name);
	if (!n->drv->backs)
		return 0;
	if (!opt && (have || n->backing_file))
		return err_set(e, -EINVAL, "node '%s': backing= is missing; give '%s', or null for "
			       "none", n->name, have ? have->name : "a node's name");
	if (json_is_object(opt) && !have)
		return err_set(e, -EINVAL, "node '%s' has no backing node whose options could "
			       "change; add one with blockdev-add, and give its name", n->name);
	if (json_is_object(opt))
		return add_inline(p, have, flat, opt, true, depth, e);
	if (opt && !name && !json_is_null(opt))
		return err_set(e, -EINVAL, "node '%s': backing= is neither a node's name nor its "
			       "options; give one of them, or null for none", n->name);
	return swap_backing(k, name && *name ? name : NULL, e);
}

static int check_children(struct reopen_plan *p, int i, const json_t *flat, int depth,
			  struct err *e)
{
	struct block_node *n = p->node[i].n;
	int r = check_child(p, n, "file", n->file.node, flat, depth, e);

	if (r == 0)
		r = check_child(p, n, "data-file", n->data.node, flat, depth, e);
	return r ? r : check_backing(p, i, flat, depth, e);
}

/* ---- nodes ---- */

static struct reopen_node *find(const struct reopen_plan *p, const struct block_node *n)
{
	for (int i = 0; i < p->n; i++)
		if (p->node[i].n == n)
			return &p->node[i];
	return NULL;
}

static int check_identity(const struct reopen_plan *p, const struct block_node *n,
			  const json_t *flat, int depth, struct err *e)
{
	const char *driver = json_str(flat, "driver", NULL);
	const char *name = json_str(flat, "node-name", n->name);

	if (find(p, n))
		return err_set(e, -EINVAL, "node '%s' is named twice; give all its options at once",
			       n->name);
	if (p->n == NODES_MAX || depth > NEST_MAX)
		return err_set(e, -E2BIG, "node '%s' is one too many: %d nodes, nested %d deep, "
			       "can change at a time", n->name, NODES_MAX, NEST_MAX);
	if (strcmp(name, n->name))
		return err_set(e, -EINVAL, "node '%s' cannot be called '%.64s' from now on; leave "
			       "its node-name out", n->name, name);
	if (!driver || strcmp(driver, n->drv->name))
		return err_set(e, -EINVAL, "node '%s': driver=%.64s is not its own; give %s, or "
			       "remove the node and add it again", n->name,
			       driver ? driver : "(nothing)", n->drv->name);
	return 0;
}

/* Takes @flat. */
static int add_node(struct reopen_plan *p, struct block_node *n, json_t *flat, int depth,
		    struct err *e)
{
	struct block_node *want = NULL;
	int r = check_identity(p, n, flat, depth, e), i = p->n;

	if (r == 0) {
		want = read_options(n, flat, e);
		r = want ? 0 : -EINVAL;
	}
	if (r) {
		json_decref(flat);
		return r;
	}
	p->node[i] = (struct reopen_node){ .n = n, .want = want, .args = flat };
	p->n++;
	/* No permissions: cannot be refused. */
	block_attach(&p->node[i].keep, n, reopen_user, 0, BLOCK_PERM_ALL, NULL);
	r = compare(&p->node[i], e);
	return r ? r : check_children(p, i, flat, depth, e);
}

int reopen_plan_add(struct reopen_plan *p, const json_t *options, struct err *e)
{
	const char *name = json_str(options, "node-name", NULL);
	struct block_node *n = name ? block_node_find(p->g, name) : NULL;

	if (!p->node)
		p->node = xcalloc(NODES_MAX, sizeof(*p->node));
	if (!name)
		return err_set(e, -EINVAL, "blockdev-reopen: node-name= is missing; it says which "
			       "node the options are for");
	if (!n)
		return graph_no_node(p->g, name, e);
	return add_node(p, n, graph_flatten(options, graph_skip), 0, e);
}

void reopen_plan_free(struct reopen_plan *p)
{
	for (int i = 0; i < p->n; i++) {
		struct reopen_node *k = &p->node[i];

		block_detach(&k->to);
		block_detach(&k->from);
		block_detach(&k->keep);
		drop_options(k->want);
		json_decref(k->args);
	}
	free(p->node);
	p->node = NULL;
	p->n = 0;
}

/* ---- what is above ---- */

static bool is_marked(const struct block_child *c)
{
	return c->node && c->node->marked;
}

/* Down to up, until nothing new is found: the graph may have any shape. */
static void mark_above(struct block_graph *g)
{
	bool more = true;

	while (more) {
		more = false;
		for (struct block_node *n = g->nodes; n; n = n->next)
			if (!n->marked && (is_marked(&n->file) || is_marked(&n->backing) ||
					   is_marked(&n->data)))
				more = n->marked = true;
	}
}

static void unmark(struct block_graph *g)
{
	for (struct block_node *n = g->nodes; n; n = n->next)
		n->marked = false;
}

/* An edge of a node or a drive, or ours; others are of jobs, which have requests of
 * their own. */
static bool is_known(const struct reopen_plan *p, bool begun, const struct block_child *c)
{
	const struct block_graph *g = p->g;

	/* Once begun, no other command's can be there. */
	if (c->user == reopen_user && begun)
		return true;
	for (int i = 0; i < p->n; i++)
		if (c == &p->node[i].keep || c == &p->node[i].to)
			return true;
	for (const struct block_node *n = g->nodes; n; n = n->next)
		if (c == &n->file || c == &n->backing || c == &n->data)
			return true;
	for (const struct drive *d = g->drives; d; d = d->next)
		if (c == &d->root)
			return true;
	return false;
}

int reopen_plan_mark(struct reopen_plan *p, bool begun, struct err *e)
{
	unmark(p->g);
	for (int i = 0; i < p->n; i++)
		p->node[i].n->marked = true;
	mark_above(p->g);
	for (const struct block_node *n = p->g->nodes; n; n = n->next)
		for (const struct block_child *c = n->users; n->marked && c; c = c->next)
			if (!is_known(p, begun, c))
				return err_set(e, -EBUSY, "node '%s' is in use by %s; wait for its "
					       "end", n->name, c->user);
	return 0;
}

/* ---- changes that may fail ---- */

static bool is_below(struct block_node *n, const struct block_node *top)
{
	unmark(n->graph);
	n->marked = true;
	mark_above(n->graph);
	return top->marked;
}

/* Does an option of its own keep @c read-only? */
static bool stays_read_only(const struct reopen_plan *p, const struct block_child *c)
{
	const struct reopen_node *k = c->node ? find(p, c->node) : NULL;
	struct block_node *o;
	bool stays;

	if (!c->node)
		return false;
	if (k)
		return k->want->read_only;
	o = read_options(c->node, c->node->args, NULL);
	stays = o && o->read_only && !o->auto_read_only;
	drop_options(o);
	return stays;
}

static bool may_fall_back(int err)
{
	return err == -EACCES || err == -EPERM || err == -EROFS;
}

static int change_write(const struct reopen_plan *p, struct reopen_node *k, struct err *e)
{
	const struct block_node *want = k->want;
	struct block_node *n = k->n;
	int r;

	if (want->read_only == n->read_only)
		return 0;
	if (!want->read_only && (stays_read_only(p, &n->file) || stays_read_only(p, &n->data))) {
		if (!k->was_read_only)	/* nothing new is asked for */
			return 0;
		return err_set(e, -EROFS, "node '%s' cannot become writable: '%s' below it is "
			       "read-only; give both read-only=false in one command", n->name,
			       stays_read_only(p, &n->file) ? n->file.node->name :
			       n->data.node->name);
	}
	r = block_reopen(n, !want->read_only, e);
	k->did_write = r == 0;
	if (r && !want->read_only && want->auto_read_only && may_fall_back(r)) {
		*e = (struct err)ERR_INIT;
		r = 0;
	}
	return r;
}

/* Put @to below @n. What its users do with it comes with their permissions. */
static int put_backing(struct block_node *n, struct block_node *to, struct err *e)
{
	int r = 0;

	block_detach(&n->backing);
	if (to)
		r = block_attach(&n->backing, to, n->user, 0, BLOCK_PERM_ALL, e);
	if (r == 0 && n->users)
		r = block_reattach(n->users, n->users->perm, n->users->shared, e);
	return r;
}

static int change_backing(struct reopen_node *k, struct err *e)
{
	struct block_node *n = k->n;

	if (k->to.node && is_below(n, k->to.node))
		return err_set(e, -ELOOP, "node '%s' is a part of '%s', which cannot be its "
			       "backing node; give one that does not use it", n->name, k->to.node->name);
	/* It would go with its last user. */
	if (n->backing.node)
		block_attach(&k->from, n->backing.node, reopen_user, 0, BLOCK_PERM_ALL, NULL);
	k->did_backing = true;
	return put_backing(n, k->to.node, e);
}

static int change(const struct reopen_plan *p, struct reopen_node *k, struct err *e)
{
	struct block_node *n = k->n;
	int r = 0;

	if (n->drv->set_direct && k->want->cache_direct != n->cache_direct) {
		r = n->drv->set_direct(n, k->want->cache_direct, e);
		k->did_direct = r == 0;
	}
	if (r == 0)
		r = change_write(p, k, e);
	if (r == 0 && k->swap)
		r = change_backing(k, e);
	/* It was right when the command came. */
	if (r == 0 && n->drv->check_options)
		r = n->drv->check_options(n, k->want, e);
	return r;
}

/* To what was a moment ago; if the host refuses that by now, the node is left as it
 * is. */
static void undo(struct reopen_node *k)
{
	struct block_node *n = k->n;
	struct err e = ERR_INIT;
	int r = 0;

	if (k->did_backing)
		r = put_backing(n, k->from.node, &e);
	if (r == 0 && k->did_write)
		r = block_reopen(n, n->read_only, &e);
	if (r == 0 && k->did_direct)
		r = n->drv->set_direct(n, !n->cache_direct, &e);
	if (r)
		log_err("node '%s' cannot have its old options again: %s", n->name, e.text);
}

/* ---- the rest ---- */

/* A file's unit, as those above show it; qcow2's is its own. */
static void pass_align(struct block_graph *g, const struct block_node *below)
{
	for (struct block_node *n = g->nodes; n; n = n->next)
		if (n->file.node == below && !n->drv->backs &&
		    n->request_align != below->request_align) {
			n->request_align = below->request_align;
			pass_align(g, n);
		}
}

static void commit(struct reopen_node *k)
{
	const struct prop *tables[3], *p;
	struct block_node *n = k->n;
	bool read_only = n->read_only;	/* what it is, not what is asked */
	json_t *val;

	tables_of(n, tables);
	for (int i = 0; tables[i]; i++)
		for (p = tables[i]; p->type != PROP_T_END; p++) {
			if (!(p->flags & PROP_RUNTIME) || same(p, n, k->want))
				continue;
			val = prop_get(p, k->want);
			prop_set(p, n, val, n->name, NULL);
			json_decref(val);
		}
	n->read_only = read_only;
	if (n->drv->options_changed)
		n->drv->options_changed(n);
	if (k->did_direct)
		pass_align(n->graph, n);
	json_decref(n->args);
	n->args = json_incref(k->args);
}

int reopen_plan_apply(struct reopen_plan *p, struct err *e)
{
	int i, r = 0;

	for (i = 0; i < p->n && r == 0; i++)
		r = change(p, &p->node[i], e);
	while (r && i-- > 0)
		undo(&p->node[i]);
	for (i = 0; i < p->n && r == 0; i++)
		commit(&p->node[i]);
	for (struct drive *d = p->g->drives; d && r == 0; d = d->next)
		retry_update_durable(d);
	return r;
}
