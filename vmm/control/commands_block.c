/*
 * vmm/control/commands_block.c - QMP's view of disks: what there is, how it is
 * doing, and what to do with suspended I/O.
 *
 * Spec:    QEMU's qapi/block-core.json, block.json.
 * Threads: main loop. Nothing here waits for a disk, however dead it is.
 * Missing: nested backing-image (query-named-block-nodes is always flat). Requests are
 *          counted where a device makes them: of other nodes only wr_highest_offset is.
 */
#include <assert.h>
#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>

#include "block/block.h"
#include "block/retry.h"
#include "block/throttle.h"
#include "vmm/base/json.h"
#include "vmm/base/util.h"
#include "vmm/control/disk.h"
#include "vmm/core/dev.h"
#include "vmm/core/vm.h"

extern const struct qmp_table qmp_table_block;

static void put_int(json_t *o, const char *key, uint64_t v)
{
	json_object_set_new(o, key, json_integer((json_int_t)v));
}

/* ---- nodes ---- */

static const char *node_file(const struct block_node *n)
{
	return n->filename ? n->filename : "";
}

static json_t *image_info(const struct block_node *n)
{
	json_t *o = json_pack("{s:s,s:s,s:I,s:b}", "filename", node_file(n),
			      "format", n->drv->name, "virtual-size", (json_int_t)n->bytes,
			      "dirty-flag", 0);
	int64_t held = block_node_allocated(n);

	if (held >= 0)
		put_int(o, "actual-size", (uint64_t)held);
	if (n->backing_file) {
		json_put_str(o, "backing-filename", n->backing_file);
		if (n->backing_format)
			json_put_str(o, "backing-filename-format", n->backing_format);
	}
	return o;
}

static unsigned int depth_of(const struct block_node *n)
{
	unsigned int depth = 0;

	while ((n = n->backing.node))
		depth++;
	return depth;
}

/* By enum throttle_bucket, and those for bursts. */
static const char *const limit_words[] = {
	"bps", "bps_rd", "bps_wr", "iops", "iops_rd", "iops_wr"
};
static_assert(ARRAY_LEN(limit_words) == THROTTLE_BUCKETS, "one word each");

static void put_limits(json_t *o, const struct throttle_limits *l, const char *group)
{
	char word[32];

	for (int i = 0; i < THROTTLE_BUCKETS; i++) {
		put_int(o, limit_words[i], l->avg[i]);
		if (!l->max[i])
			continue;
		snprintf(word, sizeof(word), "%s_max", limit_words[i]);
		put_int(o, word, l->max[i]);
		snprintf(word, sizeof(word), "%s_max_length", limit_words[i]);
		put_int(o, word, MAX(l->length[i], 1u));
	}
	if (l->iops_size)
		put_int(o, "iops_size", l->iops_size);
	if (group)
		json_put_str(o, "group", group);
}

/* @d: the drive on top, whose limits are shown; NULL: none. */
static json_t *node_info(const struct block_node *n, bool writeback, struct drive *d)
{
	struct throttle_limits limits = { 0 };
	json_t *o = json_pack("{s:s,s:s,s:b,s:s,s:i,s:b,s:s,s:o,s:{s:b,s:b,s:b}}",
			      "file", node_file(n), "node-name", n->name, "ro", n->read_only,
			      "drv", n->drv->name, "backing_file_depth", depth_of(n),
			      "encrypted", 0, "detect_zeroes",
			      block_detect_words[n->detect_zeroes], "image", image_info(n),
			      "cache", "writeback", writeback, "direct", n->cache_direct,
			      "no-flush", n->cache_no_flush);

	if (n->backing_file)
		json_put_str(o, "backing_file", n->backing_file);
	put_int(o, "write_threshold", 0);
	if (d)
		limits = throttle_get(d);
	put_limits(o, &limits, d && d->throttle.group ? d->throttle.group->name : NULL);
	return o;
}

static void add_node(struct block_node *n, void *arg)
{
	json_array_append_new(arg, node_info(n, true, NULL));
}

struct flat_args {
	bool flat;
};

static const struct prop flat_args[] = {
	PROP_BOOL(struct flat_args, flat, "flat", false, "leave out nested backing images"),
	PROP_END
};

static int query_nodes(struct qmp *q, void *args, json_t **ret, struct err *e)
{
	*ret = json_array();
	block_node_each(qmp_vm(q)->blocks, add_node, *ret);
	return 0;
}

/* ---- disks ---- */

static bool is_virtio(const struct dev *d)
{
	for (const struct dev_class *c = d->type->class; c; c = c->parent)
		if (strncmp(c->name, "virtio", 6) == 0)
			return true;
	return false;
}

/* QEMU's name for what has the drive: of a virtio disk it is the part behind
 * the PCI function. The caller frees it; NULL: nobody has it. */
static char *owner_path(struct vm *vm, const struct drive *d)
{
	struct dev *dev;
	char *path, *full;

	for (dev = d->owner ? vm->devs : NULL; dev; dev = dev->next)
		if (strcmp(dev->path, d->owner) == 0)
			break;
	if (!dev)
		return NULL;
	if (!is_virtio(dev))
		return dev_qom_path(dev);
	path = dev_qom_path(dev);
	full = xasprintf("%s/virtio-backend", path);
	free(path);
	return full;
}

/* Members beside QEMU's: how a suspended disk is doing. NULL: it is not. */
static json_t *retry_state(struct drive *d)
{
	struct drive_retry_info i = drive_retry_info(d);
	struct drive_stall_info st = drive_stall_info(d);
	int err = i.since_ms ? -i.last_err : ETIMEDOUT;
	json_t *o;

	if (!i.since_ms && !st.stalled)
		return NULL;
	o = json_pack("{s:s,s:s,s:i,s:s}", "io-status", i.since_ms ? "retrying" : "stalled",
		      "operation", i.last_op == BLOCK_READ ? "read" : "write", "errno", err,
		      "reason", strerror(err));
	put_int(o, "requests", i.parked);
	put_int(o, "stalled", st.stalled);
	put_int(o, "since", i.since_ms ? i.since_ms : st.since_ms);
	return o;
}

static const char *io_status(struct drive *d)
{
	int err = drive_stop_error(d);

	return !err ? "ok" : err == -ENOSPC ? "nospace" : "failed";
}

struct listing {
	struct vm *vm;
	json_t *list;
};

static void add_disk(struct drive *d, void *arg)
{
	struct listing *l = arg;
	json_t *o = json_pack("{s:s,s:s,s:b,s:b,s:o,s:s}", "device", d->id, "type", "unknown",
			      "removable", 0, "locked", 0, "inserted",
			      node_info(d->node, atomic_load(&d->write_cache), d),
			      "io-status", io_status(d));
	json_t *retry = retry_state(d);
	char *path = owner_path(l->vm, d);

	if (path)
		json_put_str(o, "qdev", path);
	if (retry)
		json_object_set_new(o, "__org.roost_retry", retry);
	free(path);
	json_array_append_new(l->list, o);
}

static int query_block(struct qmp *q, void *args, json_t **ret, struct err *e)
{
	struct listing l = { qmp_vm(q), json_array() };

	drive_each(l.vm->blocks, add_disk, &l);
	*ret = l.list;
	return 0;
}

/* ---- statistics ---- */

static const struct stat_row {
	const char *word;
	enum block_op op, also;		/* QEMU counts write-zeroes as writes */
} stat_rows[] = {
	{ "rd", BLOCK_READ, BLOCK_READ }, { "wr", BLOCK_WRITE, BLOCK_WRITE_ZEROES },
	{ "unmap", BLOCK_DISCARD, BLOCK_DISCARD }, { "flush", BLOCK_FLUSH, BLOCK_FLUSH },
};

static void put_row(json_t *o, const struct stat_row *r, const char *pattern, const uint64_t *v)
{
	char key[48];

	snprintf(key, sizeof(key), pattern, r->word);
	put_int(o, key, v[r->op] + (r->also != r->op ? v[r->also] : 0));
}

static json_t *histogram(const uint64_t *bins)
{
	json_t *limits = json_array(), *counts = json_array();

	for (int i = 0; i < DRIVE_LATENCY_BINS; i++)
		json_array_append_new(counts, json_integer((json_int_t)bins[i]));
	for (int i = 0; i < DRIVE_LATENCY_BINS - 1; i++)
		json_array_append_new(limits, json_integer(1ll << (DRIVE_LATENCY_FIRST + i)));
	return json_pack("{s:o,s:o}", "boundaries", limits, "bins", counts);
}

static json_t *stats_of(const struct drive_totals *t, uint64_t highest)
{
	json_t *o = json_pack("{s:b,s:b,s:[],s:I}", "account_invalid", 0, "account_failed", 0,
			      "timed_stats", "wr_highest_offset", (json_int_t)highest);
	static const uint64_t none[BLOCK_OPS];

	for (size_t i = 0; i < ARRAY_LEN(stat_rows); i++) {
		const struct stat_row *r = &stat_rows[i];

		put_row(o, r, "%s_operations", t->ops);
		put_row(o, r, "%s_total_time_ns", t->ns);
		put_row(o, r, "failed_%s_operations", t->errors);
		put_row(o, r, "invalid_%s_operations", none);
		if (r->op == BLOCK_FLUSH)
			continue;
		put_row(o, r, "%s_bytes", t->bytes);
		put_row(o, r, "%s_merged", none);
	}
	json_object_set_new(o, "rd_latency_histogram", histogram(t->latency[BLOCK_READ]));
	json_object_set_new(o, "wr_latency_histogram", histogram(t->latency[BLOCK_WRITE]));
	json_object_set_new(o, "flush_latency_histogram", histogram(t->latency[BLOCK_FLUSH]));
	return o;
}

static json_t *retry_totals(struct drive *d)
{
	struct drive_retry_info i = drive_retry_info(d);
	json_t *o = json_object();

	put_int(o, "suspensions", i.suspensions);
	put_int(o, "retries", i.retries);
	put_int(o, "timed-out", i.timed_out);
	put_int(o, "suspended-ms", i.suspended_ms);
	put_int(o, "requests", i.parked);
	put_int(o, "stalls", drive_stall_info(d).total);
	return o;
}

/* @t: of the requests that entered the graph at @n. With the node that holds its data as
 * "parent"; @chain: and its backing file. */
static json_t *node_stats(const struct block_node *n, const struct drive_totals *t, bool chain)
{
	static const struct drive_totals none;
	const struct block_node *below = n->data.node ? n->data.node : n->file.node;
	json_t *o = json_pack("{s:s,s:o}", "node-name", n->name, "stats",
			      stats_of(t, atomic_load_explicit(&n->wr_highest_bytes,
							       memory_order_relaxed)));

	if (below)
		json_object_set_new(o, "parent", node_stats(below, &none, chain));
	if (chain && n->backing.node)
		json_object_set_new(o, "backing", node_stats(n->backing.node, &none, true));
	return o;
}

static void add_disk_stats(struct drive *d, void *arg)
{
	struct listing *l = arg;
	struct drive_totals t = drive_totals(d);
	json_t *o = node_stats(d->node, &t, true);
	char *path = owner_path(l->vm, d);

	json_put_str(o, "device", d->id);
	json_object_set_new(o, "__org.roost_retry", retry_totals(d));
	if (path)
		json_put_str(o, "qdev", path);
	free(path);
	json_array_append_new(l->list, o);
}

struct top {
	const struct block_node *n;
	struct drive_totals t;
};

static void find_top(struct drive *d, void *arg)
{
	struct top *top = arg;

	if (d->node == top->n)
		top->t = drive_totals(d);
}

static void add_node_stats(struct block_node *n, void *arg)
{
	struct listing *l = arg;
	struct top top = { .n = n };

	drive_each(l->vm->blocks, find_top, &top);
	json_array_append_new(l->list, node_stats(n, &top.t, false));
}

struct stats_args {
	bool nodes;
};

static const struct prop stats_args[] = {
	PROP_BOOL(struct stats_args, nodes, "query-nodes", false, "of all nodes, not of disks"),
	PROP_END
};

static int query_blockstats(struct qmp *q, void *args, json_t **ret, struct err *e)
{
	struct listing l = { qmp_vm(q), json_array() };

	if (((struct stats_args *)args)->nodes)
		block_node_each(l.vm->blocks, add_node_stats, &l);
	else
		drive_each(l.vm->blocks, add_disk_stats, &l);
	*ret = l.list;
	return 0;
}

/* ---- suspended I/O ---- */

struct device_args {
	char *device;
};

static const struct prop device_args[] = {
	PROP_STR(struct device_args, device, "device", NULL,
		 "the disk: id of its device or drive, or its node-name", .flags = PROP_REQUIRED),
	PROP_END
};

struct find {
	const char *name;
	struct drive *d;
};

static void match(struct drive *d, void *arg)
{
	struct find *f = arg;

	if (!f->d && ((d->owner && strcmp(d->owner, f->name) == 0) ||
		      (*d->id && strcmp(d->id, f->name) == 0) ||
		      strcmp(d->node->name, f->name) == 0))
		f->d = d;
}

/* "/machine/peripheral/disk0/virtio-backend" -> "disk0" */
static void cut_path(const char *path, char *buf, size_t len)
{
	static const char base[] = "/machine/peripheral/";

	if (strncmp(path, base, strlen(base)) == 0)
		path += strlen(base);
	snprintf(buf, len, "%.*s", (int)strcspn(path, "/"), path);
}

struct drive *qmp_disk(struct qmp *q, const char *name, struct err *e)
{
	char cut[128];
	struct find f = { .name = cut };

	cut_path(name, cut, sizeof(cut));
	drive_each(qmp_vm(q)->blocks, match, &f);
	if (!f.d)
		err_class(e, ERR_DEVICE_NOT_FOUND, -ENODEV, "Device '%.64s' not found", name);
	return f.d;
}

static int cmd_retry_now(struct qmp *q, void *args, json_t **ret, struct err *e)
{
	struct drive *d = qmp_disk(q, ((struct device_args *)args)->device, e);

	if (!d)
		return -ENODEV;
	drive_retry_now(d);
	return 0;
}

static int cmd_give_up(struct qmp *q, void *args, json_t **ret, struct err *e)
{
	struct drive *d = qmp_disk(q, ((struct device_args *)args)->device, e);

	if (!d)
		return -ENODEV;
	drive_give_up(d);
	return 0;
}

/* ---- limits ---- */

struct limit_args {
	char *device, *id, *group;
	struct throttle_limits l;
};

#define LIMIT(i, word)								\
	PROP_U64(struct limit_args, l.avg[i], word, 0, INT64_MAX, 0, "per second",	\
		 .flags = PROP_REQUIRED),					\
	PROP_U64(struct limit_args, l.max[i], word "_max", 0, INT64_MAX, 0,	\
		 "what may be done per second in a burst"),			\
	PROP_U64(struct limit_args, l.length[i], word "_max_length", 1,		\
		 THROTTLE_LENGTH_MAX, 1, "how long a burst may last", .unit = "seconds")

static const struct prop limit_args[] = {
	PROP_STR(struct limit_args, device, "device", NULL, "the drive"),
	PROP_STR(struct limit_args, id, "id", NULL, "the device, or its QOM path"),
	PROP_STR(struct limit_args, group, "group", NULL,
		 "the group whose limits are set, and which the disk joins"),
	LIMIT(THROTTLE_BPS, "bps"), LIMIT(THROTTLE_BPS_RD, "bps_rd"),
	LIMIT(THROTTLE_BPS_WR, "bps_wr"), LIMIT(THROTTLE_IOPS, "iops"),
	LIMIT(THROTTLE_IOPS_RD, "iops_rd"), LIMIT(THROTTLE_IOPS_WR, "iops_wr"),
	PROP_U64(struct limit_args, l.iops_size, "iops_size", 0, INT64_MAX, 0,
		 "a larger request counts as several", .unit = "bytes"),
	PROP_END
};

static int cmd_throttle(struct qmp *q, void *args, json_t **ret, struct err *e)
{
	struct limit_args *a = args;
	const char *given = a->id ? a->id : a->device;
	char name[128] = "";
	struct drive *d;

	if (!given)
		return err_set(e, -EINVAL, "give id, the disk's device, or device, its drive");
	cut_path(given, name, sizeof(name));
	d = qmp_disk(q, name, e);
	if (!d)
		return -ENODEV;
	if (a->group && !*a->group)
		return err_set(e, -EINVAL, "group is empty; give it a name, or leave it out");
	return throttle_set(d, a->group, &a->l, name, e);
}

/* ---- tables ---- */

#define DEVICE_ARGS .args = device_args, .args_size = sizeof(struct device_args)

static const struct qmp_cmd cmds[] = {
	{ .name = "query-block", .help = "the disks", .run = query_block, .ret = "[BlockInfo]" },
	{ .name = "query-named-block-nodes", .help = "all block nodes", .args = flat_args,
	  .args_size = sizeof(struct flat_args), .run = query_nodes,
	  .ret = "[BlockDeviceInfo]" },
	{ .name = "query-blockstats", .help = "counters of disks or nodes", .args = stats_args,
	  .args_size = sizeof(struct stats_args), .run = query_blockstats,
	  .ret = "[BlockStats]" },
	{ .name = "block_set_io_throttle", .help = "limit a disk's requests and bytes",
	  .args = limit_args, .args_size = sizeof(struct limit_args), .run = cmd_throttle },
	{ .name = "__org.roost_io-retry-now", .help = "try a disk's suspended requests at once",
	  DEVICE_ARGS, .run = cmd_retry_now },
	{ .name = "__org.roost_io-give-up",
	  .help = "hand a disk's suspended requests to its final policy", DEVICE_ARGS,
	  .run = cmd_give_up },
	{ 0 }
};

static const char *const op_words[] = { "read", "write", NULL };
static const char *const action_words[] = { "ignore", "report", "stop", "retry", NULL };
static const char *const status_words[] = { "ok", "failed", "nospace", NULL };
static const char *const detect_words[] = { "off", "on", "unmap", NULL };

#define COMMON { "device", "str" }, { "qom-path", "str" }, { "node-name", "str" }, \
	{ "operation", "IoOperationType" }
#define SUSPENDED COMMON, { "errno", "int" }, { "reason", "str" }, { "since", "int" }, \
	{ "requests", "int" }

static const struct qmp_member io_error[] = {
	COMMON, { "action", "BlockErrorAction" }, { "*nospace", "bool" }, { "reason", "str" },
	{ "*count", "int" }, { 0 }
};
static const struct qmp_member suspended[] = { SUSPENDED, { "stalled", "bool" }, { 0 } };
static const struct qmp_member resumed[] = {
	SUSPENDED, { "stalled", "bool" }, { "retries", "int" }, { "cancelled", "bool" },
	{ "duration_ms", "int" }, { 0 }
};
static const struct qmp_member timed_out[] = { SUSPENDED, { "duration_ms", "int" }, { 0 } };

static const struct qmp_event events[] = {
	{ "BLOCK_IO_ERROR", "q_obj_BLOCK_IO_ERROR-arg", "a disk's request failed" },
	{ "__org.roost_BLOCK_IO_SUSPENDED", "__org.roost_BlockIoSuspended",
	  "a disk began to keep failed requests" },
	{ "__org.roost_BLOCK_IO_RESUMED", "__org.roost_BlockIoResumed",
	  "a disk keeps no failed requests any more" },
	{ "__org.roost_BLOCK_IO_TIMED_OUT", "__org.roost_BlockIoTimedOut",
	  "kept requests went to the final policy" },
	{ 0 }
};

static const struct qmp_member cache_info[] = {
	{ "writeback", "bool" }, { "direct", "bool" }, { "no-flush", "bool" }, { 0 }
};
static const struct qmp_member image_members[] = {
	{ "filename", "str" }, { "format", "str" }, { "virtual-size", "int" },
	{ "dirty-flag", "bool" }, { "*actual-size", "int" }, { "*backing-filename", "str" },
	{ "*backing-filename-format", "str" }, { 0 }
};
static const struct qmp_member device_info[] = {
	{ "file", "str" }, { "node-name", "str" }, { "ro", "bool" }, { "drv", "str" },
	{ "*backing_file", "str" }, { "backing_file_depth", "int" }, { "encrypted", "bool" },
	{ "detect_zeroes", "BlockdevDetectZeroesOptions" }, { "bps", "int" },
	{ "bps_rd", "int" }, { "bps_wr", "int" }, { "iops", "int" }, { "iops_rd", "int" },
	{ "iops_wr", "int" }, { "*bps_max", "int" }, { "*bps_rd_max", "int" },
	{ "*bps_wr_max", "int" }, { "*iops_max", "int" }, { "*iops_rd_max", "int" },
	{ "*iops_wr_max", "int" }, { "*bps_max_length", "int" }, { "*bps_rd_max_length", "int" },
	{ "*bps_wr_max_length", "int" }, { "*iops_max_length", "int" },
	{ "*iops_rd_max_length", "int" }, { "*iops_wr_max_length", "int" },
	{ "*iops_size", "int" }, { "*group", "str" }, { "image", "ImageInfo" },
	{ "cache", "BlockdevCacheInfo" },
	{ "write_threshold", "int" }, { 0 }
};
static const struct qmp_member block_info[] = {
	{ "device", "str" }, { "*qdev", "str" }, { "type", "str" }, { "removable", "bool" },
	{ "locked", "bool" }, { "*inserted", "BlockDeviceInfo" },
	{ "*io-status", "BlockDeviceIoStatus" }, { "*__org.roost_retry", "__org.roost_Retrying" },
	{ 0 }
};
static const struct qmp_member retrying[] = {
	{ "io-status", "str" }, { "operation", "IoOperationType" }, { "requests", "int" },
	{ "stalled", "int" }, { "since", "int" }, { "errno", "int" }, { "reason", "str" }, { 0 }
};
static const struct qmp_member retry_members[] = {
	{ "suspensions", "int" }, { "retries", "int" }, { "timed-out", "int" },
	{ "suspended-ms", "int" }, { "requests", "int" }, { "stalls", "int" }, { 0 }
};
static const struct qmp_member histogram_members[] = {
	{ "boundaries", "[int]" }, { "bins", "[int]" }, { 0 }
};
static const struct qmp_member block_stats[] = {
	{ "*device", "str" }, { "*qdev", "str" }, { "*node-name", "str" },
	{ "stats", "BlockDeviceStats" }, { "*parent", "BlockStats" }, { "*backing", "BlockStats" },
	{ "*__org.roost_retry", "__org.roost_RetryTotals" }, { 0 }
};

/* The same rows that the reply is made of. */
static void make_stats(struct qmp *q, json_t *info)
{
	static const struct drive_totals none;
	json_t *o = stats_of(&none, 0), *val;
	const char *key;

	json_object_foreach(o, key, val)
		qmp_schema_member(q, info, key, json_is_boolean(val) ? "bool" :
				  json_is_object(val) ? "BlockLatencyHistogramInfo" :
				  json_is_array(val) ? "[any]" : "int");
	json_decref(o);
}

static const struct qmp_type types[] = {
	{ .name = "IoOperationType", .meta = QMP_ENUM, .words = op_words },
	{ .name = "BlockErrorAction", .meta = QMP_ENUM, .words = action_words },
	{ .name = "BlockDeviceIoStatus", .meta = QMP_ENUM, .words = status_words },
	{ .name = "BlockdevDetectZeroesOptions", .meta = QMP_ENUM, .words = detect_words },
	{ .name = "q_obj_BLOCK_IO_ERROR-arg", .members = io_error },
	{ .name = "__org.roost_BlockIoSuspended", .members = suspended },
	{ .name = "__org.roost_BlockIoResumed", .members = resumed },
	{ .name = "__org.roost_BlockIoTimedOut", .members = timed_out },
	{ .name = "BlockdevCacheInfo", .members = cache_info },
	{ .name = "ImageInfo", .members = image_members },
	{ .name = "BlockDeviceInfo", .members = device_info },
	{ .name = "BlockInfo", .members = block_info },
	{ .name = "__org.roost_Retrying", .members = retrying },
	{ .name = "__org.roost_RetryTotals", .members = retry_members },
	{ .name = "BlockStats", .members = block_stats },
	{ .name = "BlockDeviceStats", .make = make_stats },
	{ .name = "BlockLatencyHistogramInfo", .members = histogram_members },
	{ 0 }
};

const struct qmp_table qmp_table_block = { .cmds = cmds, .events = events, .types = types };
