/*
 * block/fault.c - faults on purpose: rules on nodes, and the `fault` driver.
 *
 * Spec:    own; QEMU's blkdebug is the model for errno words and ranges.
 * Threads: rules change on the main loop under the point's lock; requests come
 *          on any loop. The lock is a leaf: nothing is submitted under it.
 * Missing: faults of the host's kernel below a protocol node.
 *
 * A node has at most one fault point, which stays until the node goes, so a
 * loop that just saw it may use it. node->fault is NULL as long as there is no
 * rule: that one load is what a healthy node pays.
 *
 * A held request belongs to whoever takes it off the point's list: its own loop
 * (the timer, or a cancellation), or the main loop when the rule is removed,
 * which then posts it back to its loop.
 */
#include "block/fault.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>

#include "block/graph.h"
#include "vmm/base/json.h"
#include "vmm/base/log.h"
#include "vmm/base/util.h"

#define ERRNO_MAX	133		/* EHWPOISON, the last one Linux has */

TRACE_DEFINE(fault_hit);

struct fault {
	struct fault_opts o;		/* constant */
	char *id;
	uint32_t ops;			/* bit per enum block_op */
	int err;			/* -errno, 0: none */
	struct fault *next;
	/* point's lock */
	uint64_t matched, hits, random;
	uint32_t held;
};

/* A request that waits. */
struct fault_hold {
	struct block_req *r;
	struct block_node *n;
	struct fault *rule;		/* valid while linked */
	bool linked;
	int err;
	uint64_t cut;
	struct loop_timer timer;
	struct loop_work work;		/* the rule went */
	struct fault_hold **pprev, *next;
};

struct fault_point {
	pthread_mutex_t lock;
	struct fault *rules;		/* changed on the main loop, under lock */
	struct fault_hold *holds;	/* lock */
};

/* What the rules decided about one request. */
struct verdict {
	bool hit, hang;
	uint64_t delay_ns;
	int err;
	uint64_t cut;
	struct fault *rule;		/* that holds it */
};

static const struct prop fault_props[] = { FAULT_PROPS(struct fault_opts,), PROP_END };
static const struct prop *const tables[] = { fault_props, NULL };

/* ---- rules ---- */

static const char *const op_words[] = {
	[BLOCK_READ] = "read", [BLOCK_WRITE] = "write", [BLOCK_FLUSH] = "flush",
	[BLOCK_DISCARD] = "discard", [BLOCK_WRITE_ZEROES] = "write-zeroes",
};

static int find_op(const char *word, size_t len)
{
	for (size_t i = 0; i < ARRAY_LEN(op_words); i++)
		if (strlen(op_words[i]) == len && strncmp(op_words[i], word, len) == 0)
			return (int)i;
	return -1;
}

static int parse_ops(struct fault *f, struct err *e)
{
	const char *p = f->o.op;
	size_t len;
	int op;

	f->ops = p ? 0 : BIT(BLOCK_OPS) - 1;
	while (p) {
		len = strcspn(p, "+");
		op = find_op(p, len);
		if (op < 0)
			return err_set(e, -EINVAL, "op=%.64s: must be of read, write, flush, "
				       "discard and write-zeroes, with '+' between", f->o.op);
		f->ops |= BIT(op);
		p = p[len] ? p + len + 1 : NULL;
	}
	return 0;
}

static int parse_errno(struct fault *f, struct err *e)
{
	const char *word = f->o.err_word;
	uint64_t num;

	if (!word)
		return 0;
	if (parse_u64(word, &num) == 0 && num >= 1 && num <= ERRNO_MAX) {
		f->err = -(int)num;
		return 0;
	}
	for (int i = 1; i <= ERRNO_MAX; i++) {
		const char *name = strerrorname_np(i);

		if (name && strcmp(name, word) == 0) {
			f->err = -i;
			return 0;
		}
	}
	return err_set(e, -EINVAL, "errno=%.32s: must be a name as EIO, ENOSPC or ETIMEDOUT, or a "
		       "number of 1..%d", word, ERRNO_MAX);
}

static int rule_check(struct fault *f, struct err *e)
{
	int r = parse_ops(f, e);

	if (r == 0)
		r = parse_errno(f, e);
	if (r)
		return r;
	if (f->o.cut % BLOCK_SECTOR)
		return err_set(e, -EINVAL, "short=%" PRIu64 ": must be a multiple of %d bytes",
			       f->o.cut, BLOCK_SECTOR);
	if (!f->err && !f->o.latency && !f->o.jitter && !f->o.cut && !f->o.hang)
		return err_set(e, -EINVAL, "a fault without errno=, latency=, jitter=, short= or "
			       "hang=on does nothing; give one of them");
	f->random = f->o.seed;
	return 0;
}

static void rule_free(struct fault *f)
{
	prop_free(tables, &f->o);
	free(f->id);
	free(f);
}

static struct fault_point *point_get(struct block_node *n)
{
	if (!n->fault_point) {
		n->fault_point = xcalloc(1, sizeof(struct fault_point));
		pthread_mutex_init(&n->fault_point->lock, NULL);
	}
	return n->fault_point;
}

static void rule_link(struct block_node *n, struct fault *f)
{
	struct fault_point *p = point_get(n);
	struct fault **at = &p->rules;

	pthread_mutex_lock(&p->lock);
	while (*at)
		at = &(*at)->next;
	*at = f;
	pthread_mutex_unlock(&p->lock);
	atomic_store_explicit(&n->fault, p, memory_order_release);
}

/* ---- does it hit? ---- */

/* splitmix64 (Steele, Lea, Flood 2014): any seed is good. */
static uint64_t next_random(uint64_t *s)
{
	uint64_t z = *s += 0x9e3779b97f4a7c15ull;

	z = (z ^ z >> 30) * 0xbf58476d1ce4e5b9ull;
	z = (z ^ z >> 27) * 0x94d049bb133111ebull;
	return z ^ z >> 31;
}

static bool in_range(const struct fault_opts *o, const struct block_req *r)
{
	uint64_t lo = o->sector * BLOCK_SECTOR;
	uint64_t hi = o->sectors ? lo + o->sectors * BLOCK_SECTOR : UINT64_MAX;

	if (!o->sector && !o->sectors)
		return true;
	if (r->now.op == BLOCK_FLUSH)	/* has no place */
		return false;
	return r->now.offset < hi && r->now.offset + r->bytes > lo;
}

static bool rule_hits(struct fault *f, const struct block_req *r)
{
	if (!(f->ops & BIT(r->now.op)) || !in_range(&f->o, r))
		return false;
	if (f->matched++ < f->o.after || (f->o.count && f->hits >= f->o.count))
		return false;
	if (f->o.probability < FAULT_PER_MILLION &&
	    next_random(&f->random) % FAULT_PER_MILLION >= f->o.probability)
		return false;
	f->hits++;
	return true;
}

/* Delays add up; the first rule that spoils the result decides about it. */
static void judge(struct fault_point *p, const struct block_req *r, struct verdict *v)
{
	uint64_t ms;

	for (struct fault *f = p->rules; f; f = f->next) {
		if (!rule_hits(f, r))
			continue;
		v->hit = true;
		ms = f->o.latency;
		if (f->o.jitter)
			ms += next_random(&f->random) % (f->o.jitter + 1ull);
		v->delay_ns += ms * NS_PER_MS;
		v->hang |= f->o.hang;
		if (ms || f->o.hang)
			v->rule = f;
		v->err = f->err;
		v->cut = f->o.cut;
		if (v->err || v->cut)
			break;
	}
}

/* ---- a part of the data ---- */

struct fault_cut {
	struct block_frame frame;	/* first */
	struct block_node *n;
	const struct iovec *iov;	/* the request's own */
	int iovcnt;
	uint64_t bytes;
	uint64_t cut;
	int err;
	struct iovec part[];		/* iovcnt */
};

/* Entries for @len bytes from @skip on. */
static int iov_part(const struct iovec *iov, int n, size_t skip, size_t len, struct iovec *out)
{
	int used = 0;

	for (int i = 0; i < n && len; i++) {
		size_t here = iov[i].iov_len, take;

		if (skip >= here) {
			skip -= here;
			continue;
		}
		take = MIN(here - skip, len);
		out[used++] = (struct iovec){ (char *)iov[i].iov_base + skip, take };
		len -= take;
		skip = 0;
	}
	return used;
}

static void cut_piece(struct fault_cut *c, struct block_req *r, uint64_t skip, uint64_t len,
		      void (*ended)(struct block_req *, int))
{
	block_push(r, &c->frame, ended);
	r->iovcnt = iov_part(c->iov, c->iovcnt, skip, len, c->part);
	r->iov = c->part;
	r->bytes = len;
	r->now.offset += skip;
	block_submit_now(c->n, r);
}

static struct fault_cut *cut_pop(struct block_req *r)
{
	struct fault_cut *c = container_of(block_pop(r), struct fault_cut, frame);

	r->iov = c->iov;
	r->iovcnt = c->iovcnt;
	r->bytes = c->bytes;
	return c;
}

static void second_done(struct block_req *r, int ret)
{
	free(cut_pop(r));
	block_done(r, ret);
}

static void first_done(struct block_req *r, int ret)
{
	struct fault_cut *c = cut_pop(r);

	if (ret == 0 && r->cancelled)
		ret = -ECANCELED;
	if (ret == 0 && !c->err) {
		cut_piece(c, r, c->cut, c->bytes - c->cut, second_done);
		return;
	}
	ret = ret ? ret : c->err;
	free(c);
	block_done(r, ret);
}

static void cut_start(struct block_node *n, struct block_req *r, uint64_t cut, int err)
{
	struct fault_cut *c = malloc(sizeof(*c) + (size_t)r->iovcnt * sizeof(struct iovec));

	if (!c) {
		block_done_later(r, -ENOMEM);
		return;
	}
	*c = (struct fault_cut){ .n = n, .iov = r->iov, .iovcnt = r->iovcnt,
				 .bytes = r->bytes, .cut = cut, .err = err };
	cut_piece(c, r, 0, cut, first_done);
}

static void carry_out(struct block_node *n, struct block_req *r, int err, uint64_t cut)
{
	if (cut && r->now.op <= BLOCK_WRITE && cut < r->bytes)
		cut_start(n, r, cut, err);
	else if (err)
		block_done_later(r, err);
	else
		block_submit_now(n, r);
}

/* ---- late requests ---- */

static bool hold_unlink(struct fault_hold *h)
{
	struct fault_point *p = h->n->fault_point;
	bool mine;

	pthread_mutex_lock(&p->lock);
	mine = h->linked;
	if (mine) {
		*h->pprev = h->next;
		if (h->next)
			h->next->pprev = h->pprev;
		h->linked = false;
		h->rule->held--;
	}
	pthread_mutex_unlock(&p->lock);
	return mine;
}

static void hold_end(struct fault_hold *h)
{
	struct block_req *r = h->r;
	struct block_node *n = h->n;
	uint64_t cut = h->cut;
	int err = h->err;

	loop_timer_cancel(&h->timer);
	r->held = NULL;
	free(h);
	if (r->cancelled)
		block_done_later(r, -ECANCELED);
	else
		carry_out(n, r, err, cut);
}

static void hold_timer(struct loop_timer *t)
{
	struct fault_hold *h = container_of(t, struct fault_hold, timer);

	if (hold_unlink(h))		/* else its work is on the way */
		hold_end(h);
}

static void hold_released(struct loop_work *w)
{
	hold_end(container_of(w, struct fault_hold, work));
}

/* Under the point's lock. */
static void hold_link(struct fault_point *p, struct fault_hold *h)
{
	h->linked = true;
	h->next = p->holds;
	h->pprev = &p->holds;
	if (h->next)
		h->next->pprev = &h->next;
	p->holds = h;
	h->rule->held++;
}

/* Under the point's lock: give @f's requests back to their loops. */
static void release_holds(struct fault_point *p, struct fault *f)
{
	struct fault_hold *h, *next;

	for (h = p->holds; h; h = next) {
		next = h->next;
		if (h->rule != f)
			continue;
		*h->pprev = next;
		if (next)
			next->pprev = h->pprev;
		h->linked = false;
		loop_post(h->r->loop, &h->work);
	}
}

bool fault_take(struct block_node *n, struct fault_point *p, struct block_req *r)
{
	struct verdict v = { 0 };
	struct fault_hold *h = NULL;

	pthread_mutex_lock(&p->lock);
	judge(p, r, &v);
	if (v.rule) {
		h = malloc(sizeof(*h));
		if (h) {
			*h = (struct fault_hold){ .r = r, .n = n, .rule = v.rule, .err = v.err,
						  .cut = v.cut, .work.cb = hold_released };
			loop_timer_init(r->loop, &h->timer, hold_timer, NULL);
			r->held = h;
			hold_link(p, h);
		}
	}
	pthread_mutex_unlock(&p->lock);
	if (!v.hit)
		return false;
	trace(fault_hit, "%s: %s at %" PRIu64 ": %d, %" PRIu64 " ns%s", n->name,
	      op_words[r->now.op], r->now.offset, v.err, v.delay_ns, v.hang ? ", hangs" : "");
	/* Released meanwhile, its work is yet to run on this loop. */
	if (h && !v.hang)
		loop_timer_arm(&h->timer, clock_ns() + v.delay_ns);
	else if (!h)
		carry_out(n, r, v.err, v.cut);
	return true;
}

bool fault_cancel(struct block_req *r)
{
	struct fault_hold *h = r->held;

	if (!h)
		return false;
	if (hold_unlink(h))
		hold_end(h);
	return true;
}

/* ---- the main loop's side ---- */

static struct fault *find_rule(struct block_graph *g, const char *id, struct block_node **n)
{
	for (*n = g->nodes; *n; *n = (*n)->next)
		for (struct fault *f = (*n)->fault_point ? (*n)->fault_point->rules : NULL; f;
		     f = f->next)
			if (strcmp(f->id, id) == 0)
				return f;
	return NULL;
}

int block_fault_add(struct block_graph *g, const json_t *args, struct err *e)
{
	static const char *const skip[] = { "id", "drive", "qom-type", NULL };
	const char *drive = json_str(args, "drive", NULL), *id = json_str(args, "id", "");
	struct block_node *n;
	struct fault *f;
	int r;

	if (!*id)
		return err_set(e, -EINVAL, "a fault needs id=");
	if (find_rule(g, id, &n))
		return err_set(e, -EEXIST, "the id is taken by another fault; choose another");
	if (!drive)
		return err_set(e, -EINVAL, "drive= is missing: the disk to break");
	n = block_disk_find(g, drive);
	if (!n)
		return err_set(e, -ENOENT, "drive=%.64s: there is no drive, node or disk device "
			       "of that name", drive);
	f = xcalloc(1, sizeof(*f));
	f->id = xstrdup(id);
	prop_defaults(tables, &f->o);
	r = prop_apply(tables, &f->o, args, skip, "fault", e);
	if (r == 0)
		r = rule_check(f, e);
	if (r)
		rule_free(f);
	else
		rule_link(n, f);
	return r;
}

int block_fault_del(struct block_graph *g, const char *id, struct err *e)
{
	struct block_node *n;
	struct fault *f = *id ? find_rule(g, id, &n) : NULL, **at;
	struct fault_point *p;

	if (!f)
		return err_set(e, -ENOENT, "there is no fault '%.64s'", id);
	p = n->fault_point;
	pthread_mutex_lock(&p->lock);
	for (at = &p->rules; *at != f; at = &(*at)->next)
		;
	*at = f->next;
	release_holds(p, f);
	if (!p->rules)
		atomic_store_explicit(&n->fault, NULL, memory_order_relaxed);
	pthread_mutex_unlock(&p->lock);
	rule_free(f);
	return 0;
}

void block_fault_each(struct block_graph *g,
		      void (*fn)(const struct block_fault_info *i, void *arg), void *arg)
{
	for (struct block_node *n = g->nodes; n; n = n->next) {
		struct fault_point *p = n->fault_point;

		for (struct fault *f = p ? p->rules : NULL; f; f = f->next) {
			struct block_fault_info i = { .id = f->id, .node = n->name };

			pthread_mutex_lock(&p->lock);
			i.matched = f->matched;
			i.hits = f->hits;
			i.held = f->held;
			pthread_mutex_unlock(&p->lock);
			fn(&i, arg);
		}
	}
}

/* Without users nothing is in flight, so nothing is held. */
void fault_node_gone(struct block_node *n)
{
	struct fault_point *p = n->fault_point;
	struct fault *f;

	if (!p)
		return;
	while ((f = p->rules)) {
		p->rules = f->next;
		rule_free(f);
	}
	pthread_mutex_destroy(&p->lock);
	free(p);
	n->fault_point = NULL;
}

/* ---- the node ---- */

struct fault_node {
	struct block_node n;	/* first */
	struct fault_opts o;	/* moved to a rule by open */
	json_t *file;		/* listed for help; the graph opens it */
};

static const struct prop node_props[] = {
	PROP_JSON(struct fault_node, file, "file",
		  "the node below: a node-name, or an object with its options"),
	FAULT_PROPS(struct fault_node, o.),
	PROP_END
};

static int fault_open(struct block_node *n, struct err *e)
{
	struct fault_node *fn = (struct fault_node *)n;
	struct fault *f = xcalloc(1, sizeof(*f));
	int r;

	filter_opened(n);
	f->id = xstrdup("");
	f->o = fn->o;
	fn->o.op = fn->o.err_word = NULL;	/* the rule's now */
	r = rule_check(f, e);
	if (r)
		rule_free(f);
	else
		rule_link(n, f);
	return r;
}

static void fault_close(struct block_node *n)
{
}

static void fault_submit(struct block_node *n, struct block_req *r)
{
	block_submit(n->file.node, r);
}

const struct block_driver block_driver_fault = {
	.name = "fault", .help = "the node below, with errors and delays on purpose",
	.size = sizeof(struct fault_node), .props = node_props,
	.open = fault_open, .close = fault_close, .submit = fault_submit,
	.set_perm = filter_set_perm, .check_length = filter_check_length,
	.set_length = filter_set_length,
};
