/*
 * vmm/run/numa.c - -numa: which vCPUs, which memory, how far apart.
 *
 * Spec:    the option is QEMU's: node,nodeid=,cpus=,memdev= and dist,src=,dst=,val=;
 *          ACPI 6.4 s5.2.17 (a distance of 10 is local, 255 is unreachable).
 * Threads: main loop.
 * Missing: cpu and hmat-*; nodes for devices only (initiator=).
 */
#include "vmm/run/numa.h"

#include <ctype.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "vmm/base/json.h"
#include "vmm/base/log.h"
#include "vmm/base/util.h"

#define NO_NODE		UINT8_MAX
#define DISTANCE_LOCAL	10
#define DISTANCE_REMOTE	20	/* what is assumed without a SLIT */

struct node_opts {
	char *type, *memdev;
	uint32_t nodeid;
};

struct dist_opts {
	char *type;
	uint32_t src, dst, val;
};

const struct prop numa_node_props[] = {
	PROP_STR(struct node_opts, type, "type", NULL, "node"),
	PROP_U32(struct node_opts, nodeid, "nodeid", 0, NUMA_NODES_MAX - 1, 0,
		 "its number; default: the next"),
	PROP_STR(struct node_opts, memdev, "memdev", NULL,
		 "memory object that is its memory; all nodes' make up -m"),
	PROP_END
};

const struct prop numa_dist_props[] = {
	PROP_STR(struct dist_opts, type, "type", NULL, "dist"),
	PROP_U32(struct dist_opts, src, "src", 0, NUMA_NODES_MAX - 1, 0, "node",
		 .flags = PROP_REQUIRED),
	PROP_U32(struct dist_opts, dst, "dst", 0, NUMA_NODES_MAX - 1, 0, "another node",
		 .flags = PROP_REQUIRED),
	PROP_U32(struct dist_opts, val, "val", DISTANCE_LOCAL, 255, DISTANCE_REMOTE,
		 "distance; 255: unreachable", .flags = PROP_REQUIRED),
	PROP_END
};

static const struct prop *const node_tables[] = { numa_node_props, NULL };
static const struct prop *const dist_tables[] = { numa_dist_props, NULL };

struct reader {
	struct numa *n;
	uint32_t cpus;
	bool seen[NUMA_NODES_MAX];
	bool any_cpus;		/* some node names its vCPUs */
};

/* ---- vCPUs of a node ---- */

static int bad_cpus(const char *text, const struct reader *r, struct err *e)
{
	return err_set(e, -EINVAL, "-numa node: cpus=%s: expected vCPUs below %u, as in 0-3 or 5",
		       text, r->cpus);
}

static int take_cpus(struct reader *r, uint32_t node, unsigned long first, unsigned long last,
		     const char *text, struct err *e)
{
	if (first > last || last >= r->cpus)
		return bad_cpus(text, r, e);
	for (unsigned long i = first; i <= last; i++) {
		if (r->n->cpu_node[i] != NO_NODE && r->n->cpu_node[i] != node)
			return err_set(e, -EINVAL, "-numa node: cpus=%s: vCPU %lu is in node %u "
				       "already", text, i, r->n->cpu_node[i]);
		r->n->cpu_node[i] = (uint8_t)node;
	}
	return 0;
}

/* "0-3,5": ranges, of several cpus= as well. */
static int read_cpu_text(struct reader *r, uint32_t node, const char *text, struct err *e)
{
	const char *p = text;
	unsigned long first, last;
	char *end;
	int err;

	do {
		if (!isdigit((unsigned char)*p))
			return bad_cpus(text, r, e);
		first = last = strtoul(p, &end, 10);
		if (*end == '-' && isdigit((unsigned char)end[1]))
			last = strtoul(end + 1, &end, 10);
		if (*end && *end != ',')
			return bad_cpus(text, r, e);
		err = take_cpus(r, node, first, last, text, e);
		p = end + 1;
	} while (err == 0 && *end);
	return err;
}

static int read_cpus(struct reader *r, uint32_t node, const json_t *cpus, struct err *e)
{
	const json_t *item;
	size_t i;
	int err = 0;

	if (json_is_string(cpus))
		return read_cpu_text(r, node, json_string_value(cpus), e);
	if (cpus && !json_is_array(cpus))
		return bad_cpus("?", r, e);
	json_array_foreach(cpus, i, item) {
		json_int_t cpu = json_is_integer(item) ? json_integer_value(item) : -1;

		if (cpu < 0 || cpu >= r->cpus)
			return bad_cpus("[...]", r, e);
		err = take_cpus(r, node, (unsigned long)cpu, (unsigned long)cpu, "[...]", e);
		if (err)
			break;
	}
	return err;
}

/* ---- the options ---- */

static int use_node(struct reader *r, const struct node_opts *o, const json_t *args,
		    struct err *e)
{
	uint32_t id = json_object_get(args, "nodeid") ? o->nodeid : r->n->nodes;

	if (id >= NUMA_NODES_MAX)
		return err_set(e, -EINVAL, "-numa node: there can be %d nodes, numbered from 0",
			       NUMA_NODES_MAX);
	if (r->seen[id])
		return err_set(e, -EEXIST, "-numa node,nodeid=%u: there is such a node already; "
			       "use another number", id);
	r->seen[id] = true;
	r->n->nodes = MAX(r->n->nodes, id + 1);
	if (o->memdev)
		r->n->memdev[id] = xstrdup(o->memdev);
	r->any_cpus |= json_object_get(args, "cpus") != NULL;
	return read_cpus(r, id, json_object_get(args, "cpus"), e);
}

static int read_node(struct reader *r, const json_t *args, struct err *e)
{
	static const char *const skip[] = { "cpus", NULL };
	struct node_opts o = { 0 };
	int err;

	if (json_object_get(args, "mem"))
		return err_set(e, -EINVAL, "-numa node: mem= is not taken; add -object "
			       "memory-backend-ram,id=m0,size=… and write memdev=m0");
	prop_defaults(node_tables, &o);
	err = prop_apply(node_tables, &o, args, skip, "-numa node", e);
	if (err == 0)
		err = use_node(r, &o, args, e);
	prop_free(node_tables, &o);
	return err;
}

static int read_dist(struct reader *r, const json_t *args, struct err *e)
{
	struct dist_opts o = { 0 };
	struct numa *n = r->n;
	int err;

	prop_defaults(dist_tables, &o);
	err = prop_apply(dist_tables, &o, args, NULL, "-numa dist", e);
	prop_free(dist_tables, &o);
	if (err)
		return err;
	if (o.src >= n->nodes || o.dst >= n->nodes)
		return err_set(e, -ENOENT, "-numa dist,src=%u,dst=%u: there are %u nodes; add "
			       "-numa node,nodeid=%u", o.src, o.dst, n->nodes, MAX(o.src, o.dst));
	if ((o.src == o.dst) != (o.val == DISTANCE_LOCAL))
		return err_set(e, -EINVAL, "-numa dist,src=%u,dst=%u,val=%u: the distance of a "
			       "node to itself, and of no other, is %d", o.src, o.dst, o.val,
			       DISTANCE_LOCAL);
	n->distance[o.src * n->nodes + o.dst] = (uint8_t)o.val;
	return 0;
}

/* One direction given counts for both. */
static void complete_distances(struct numa *n)
{
	for (uint32_t i = 0; i < n->nodes; i++) {
		for (uint32_t k = 0; k < n->nodes; k++) {
			uint8_t *d = &n->distance[i * n->nodes + k];
			uint8_t back = n->distance[k * n->nodes + i];

			if (!*d)
				*d = i == k ? DISTANCE_LOCAL : back ? back : DISTANCE_REMOTE;
		}
	}
}

static void complete_cpus(struct reader *r)
{
	for (uint32_t i = 0; i < r->cpus; i++) {
		if (r->n->cpu_node[i] != NO_NODE)
			continue;
		if (r->any_cpus)
			log_warn("-numa: vCPU %u is in no node's cpus=; it is in node 0", i);
		r->n->cpu_node[i] = 0;
	}
}

static int read_all(struct reader *r, const json_t *list, const char *type,
		    int (*read)(struct reader *, const json_t *, struct err *), struct err *e)
{
	const json_t *args;
	size_t i;
	int err = 0;

	json_array_foreach(list, i, args) {
		if (strcmp(json_str(args, "type", ""), type))
			continue;
		err = read(r, args, e);
		if (err)
			break;
	}
	return err;
}

static int check_types(const json_t *list, struct err *e)
{
	const json_t *args;
	const char *type;
	size_t i;

	json_array_foreach(list, i, args) {
		type = json_str(args, "type", "");
		if (strcmp(type, "node") && strcmp(type, "dist"))
			return err_set(e, -EINVAL, "-numa %s: must be node or dist", type);
	}
	return 0;
}

int numa_read(struct numa *n, const json_t *desc, uint32_t cpus, struct err *e)
{
	const json_t *list = json_object_get(desc, "numas");
	struct reader r = { .n = n, .cpus = MIN(cpus, (uint32_t)NUMA_CPUS_MAX) };
	int err;

	memset(n, 0, sizeof(*n));
	memset(n->cpu_node, NO_NODE, sizeof(n->cpu_node));
	err = check_types(list, e);
	if (err == 0)
		err = read_all(&r, list, "node", read_node, e);
	for (uint32_t i = 0; err == 0 && i < n->nodes; i++)
		if (!r.seen[i])
			err = err_set(e, -EINVAL, "-numa: there is no node %u below node %u; "
				      "number them from 0", i, n->nodes - 1);
	if (err == 0)
		err = read_all(&r, list, "dist", read_dist, e);
	if (err == 0 && n->nodes) {
		complete_distances(n);
		complete_cpus(&r);
	}
	return err;
}

void numa_free(struct numa *n)
{
	for (uint32_t i = 0; i < NUMA_NODES_MAX; i++)
		free(n->memdev[i]);
	memset(n, 0, sizeof(*n));
}
