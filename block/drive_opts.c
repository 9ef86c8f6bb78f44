/*
 * block/drive_opts.c - -drive, sugar for nodes and a drive on top.
 *
 * Spec:    QEMU's -drive (docs/system/invocation, qemu-options).
 * Threads: main loop.
 * Missing: formats other than raw and qcow2, media=cdrom.
 */
#include <assert.h>
#include <errno.h>
#include <stdlib.h>
#include <sys/stat.h>

#include "block/graph.h"
#include "block/retry.h"
#include "block/throttle.h"
#include "vmm/base/json.h"
#include "vmm/base/log.h"
#include "vmm/base/util.h"

struct drive_opts {
	char *id, *node_name;
	char *file, *format;
	int iface, media, cache, aio;
	int32_t index;
	bool snapshot, copy_on_read, read_only, auto_read_only;
	int discard, detect_zeroes;
	struct retry_opts retry;
	struct throttle_limits limits;
	char *group;
	int direct, no_flush, writeback;	/* enum prop_auto; auto: as cache= says */
	int locking;
	uint64_t offset, size;
};

/* The first three are enum drive_iface; the others QEMU has and roost not. */
static const char *const iface_words[] = {
	"none", "virtio", "pflash", "ide", "scsi", "sd", "mtd", "floppy", "xen", NULL
};
static const char *const media_words[] = { "disk", "cdrom", NULL };
static const char *const aio_words[] = { "threads", "native", "io_uring", NULL };
static const char *const discard_words[] = { "ignore", "off", "unmap", "on", NULL };
static const char *const detect_words[] = { "off", "on", "unmap", NULL };

/* qemu-options, "cache=": what each word means. */
static const char *const cache_words[] = {
	"writeback", "none", "writethrough", "directsync", "unsafe", NULL
};
static const struct cache_mode {
	bool writeback, direct, no_flush;
} cache_modes[] = {
	{ true, false, false }, { true, true, false }, { false, false, false },
	{ false, true, false }, { true, false, true },
};
static_assert(ARRAY_LEN(cache_words) == ARRAY_LEN(cache_modes) + 1, "one mode each");

#define OPT(kind, field, ...) PROP_##kind(struct drive_opts, field, __VA_ARGS__)
/* qemu-options, "-drive": names from before throttling.*. */
#define OLD_LIMIT(b, word)								\
	OPT(U64, limits.avg[b], word, 0, INT64_MAX, 0, "the same", .flags = PROP_HIDDEN), \
	OPT(U64, limits.max[b], word "_max", 0, INT64_MAX, 0, "the same", .flags = PROP_HIDDEN)

const struct prop drive_props[] = {
	OPT(STR, file, "file", NULL, "image file or block device"),
	OPT(STR, format, "format", NULL, "format of the image: raw or qcow2"),
	OPT(STR, id, "id", NULL, "name of the drive, for -device …,drive=id"),
	OPT(STR, node_name, "node-name", NULL, "name of the format node"),
	OPT(ENUM, iface, "if", iface_words, DRIVE_IF_VIRTIO,
	    "virtio: makes a virtio-blk disk; none: a -device names the drive; pflash: firmware; "
	    "the others are not supported"),
	OPT(I32, index, "index", -1, INT16_MAX, -1, "position among the drives of one if="),
	OPT(ENUM, media, "media", media_words, 0, "disk; cdrom is not supported"),
	OPT(BOOL, read_only, "readonly", false, "refuse writes"),
	OPT(BOOL, read_only, "read-only", false, "the same", .flags = PROP_HIDDEN),
	OPT(BOOL, auto_read_only, "auto-read-only", false,
	    "fall back to read-only when the file may not be written"),
	OPT(ENUM, cache, "cache", cache_words, 0,
	    "none: O_DIRECT; writeback: host page cache; writethrough, directsync: the same two "
	    "with every write durable; unsafe: flushes ignored"),
	OPT(ONOFFAUTO, direct, "cache.direct", PROP_AUTO, "O_DIRECT; auto: as cache= says"),
	OPT(ONOFFAUTO, no_flush, "cache.no-flush", PROP_AUTO,
	    "ignore flushes; auto: as cache= says"),
	OPT(ONOFFAUTO, writeback, "cache.writeback", PROP_AUTO,
	    "the guest sees a write cache; auto: as cache= says"),
	OPT(ENUM, aio, "aio", aio_words, 2,
	    "accepted; every word means the event loop's own engine: io_uring, or threads where "
	    "that is forbidden"),
	THROTTLE_PROPS(struct drive_opts, limits, "throttling."),
	OPT(STR, group, "throttling.group", NULL,
	    "drives of one group, and throttle nodes, share its limits"),
	OLD_LIMIT(THROTTLE_BPS, "bps"), OLD_LIMIT(THROTTLE_BPS_RD, "bps_rd"),
	OLD_LIMIT(THROTTLE_BPS_WR, "bps_wr"), OLD_LIMIT(THROTTLE_IOPS, "iops"),
	OLD_LIMIT(THROTTLE_IOPS_RD, "iops_rd"), OLD_LIMIT(THROTTLE_IOPS_WR, "iops_wr"),
	OPT(U64, limits.iops_size, "iops_size", 0, INT64_MAX, 0, "the same",
	    .flags = PROP_HIDDEN),
	OPT(STR, group, "group", NULL, "the same", .flags = PROP_HIDDEN),
	RETRY_PROPS(struct drive_opts, retry, DRIVE_ENOSPC, DRIVE_REPORT),
	OPT(ENUM, discard, "discard", discard_words, 0,
	    "what the guest's discards do: nothing, or give the space back"),
	OPT(ENUM, detect_zeroes, "detect-zeroes", detect_words, 0,
	    "turn writes of zeroes into write-zeroes requests"),
	OPT(BOOL, snapshot, "snapshot", false,
	    "keep what the guest writes in memory only, 256 MiB at most; the file is not changed"),
	OPT(BOOL, copy_on_read, "copy-on-read", false,
	    "keep what is read from backing files in the disk's own file"),
	OPT(ONOFFAUTO, locking, "file.locking", PROP_AUTO,
	    "lock the file against other programs; auto: where the file system can"),
	OPT(SIZE, offset, "offset", 0, INT64_MAX, 0, "where the disk begins in the file",
	    .unit = "bytes"),
	OPT(SIZE, size, "size", 0, INT64_MAX, 0, "length of the disk, 0 for all of the file",
	    .unit = "bytes"),
	PROP_END
};

static const struct prop *const tables[] = { drive_props, NULL };

/* file= words that are no paths but protocols of QEMU. */
static int check_protocol(const char *file, struct err *e)
{
	static const char *const protocols[] = {
		"nbd:", "nbd+unix:", "http:", "https:", "ftp:", "ftps:", "iscsi:", "rbd:", "ssh:",
		"nfs:", "gluster", "fat:", "json:", "nvme:", "blkdebug:", "blkverify:",
		"blklogwrites:", "null-co:", "null-aio:", "vvfat:", "sheepdog:", "host_cdrom:"
	};

	for (size_t i = 0; i < ARRAY_LEN(protocols); i++)
		if (strncmp(file, protocols[i], strlen(protocols[i])) == 0 && strchr(file, ':'))
			return err_set(e, -ENOTSUP, "file=%.128s names a protocol that "
				       "this build does not support; give a local file or block "
				       "device, or write ./%.32s… if that is a file's name",
				       file, file);
	return 0;
}

static int check_opts(const struct drive_opts *o, struct err *e)
{
	if (!o->file)
		return err_set(e, -EINVAL, "file= is missing");
	if (o->iface > DRIVE_IF_PFLASH)
		return err_set(e, -ENOTSUP, "if=%s is not supported; use if=virtio, or if=none "
			       "with a -device that names the drive", iface_words[o->iface]);
	if (o->media)
		return err_set(e, -ENOTSUP, "media=cdrom is not supported; give the image as a "
			       "read-only disk with readonly=on");
	if (o->copy_on_read && o->read_only)
		return err_set(e, -EINVAL, "copy-on-read=on writes to the disk; leave out "
			       "readonly=on");
	if (o->format && strcmp(o->format, "raw") && strcmp(o->format, "qcow2"))
		return err_set(e, -ENOTSUP, "format=%.32s is not supported in this build; raw and "
			       "qcow2 are: 'qemu-img convert -O qcow2 %.128s disk.qcow2' makes "
			       "such a disk", o->format, o->file);
	if (o->format && strcmp(o->format, "raw") && (o->offset || o->size))
		return err_set(e, -EINVAL, "offset= and size= are of format=raw; the size of a %s "
			       "disk is in the image", o->format);
	if (o->detect_zeroes == BLOCK_DETECT_UNMAP && o->discard < 2)
		return err_set(e, -EINVAL, "detect-zeroes=unmap needs discard=unmap");
	if (o->group && !*o->group)
		return err_set(e, -EINVAL, "throttling.group= is empty; give it a name");
	return check_protocol(o->file, e);
}

/* Without format= the disk is raw, unless it does not look like one. */
static int check_format(const struct drive_opts *o, struct err *e)
{
	const char *looks;

	if (o->format)
		return 0;
	looks = graph_detect_format(graph_path(o->file));
	if (looks)
		return err_set(e, -EINVAL, "%s looks like a %s image, and no format= is given; "
			       "state format=%s for the disk in it, or format=raw to give the guest "
			       "these very bytes", o->file, looks, looks);
	log_warn("disk '%s': no format= given, %s is taken as raw; state format=raw to say so",
		 o->id, o->file);
	return 0;
}

static bool pick(int word, bool def)
{
	return word == PROP_AUTO ? def : word == PROP_ON;
}

static void put_bool(json_t *o, const char *key, bool v)
{
	json_object_set_new(o, key, json_boolean(v));
}

/* snapshot=on: @image is only read, with a node above it that keeps writes. */
static json_t *memcow_args(const struct drive_opts *o, json_t *image)
{
	json_t *top = json_object();

	json_put_str(top, "driver", "memcow");
	put_bool(top, "read-only", o->read_only);
	json_put_str(top, "detect-zeroes", detect_words[o->detect_zeroes]);
	json_put_str(top, "discard", o->discard >= 2 ? "unmap" : "ignore");
	put_bool(image, "read-only", true);
	json_put_str(image, "detect-zeroes", "off");
	json_object_set_new(top, "file", image);
	return top;
}

/* The options as blockdev-add would have them. */
static json_t *node_args(const struct drive_opts *o)
{
	static const char *const lock_words[] = {
		[PROP_AUTO] = "auto", [PROP_ON] = "on", [PROP_OFF] = "off"
	};
	const struct cache_mode *m = &cache_modes[o->cache];
	json_t *raw = json_object(), *file = json_object();
	struct stat st;
	bool dev = stat(graph_path(o->file), &st) == 0 && S_ISBLK(st.st_mode);

	json_put_str(file, "driver", dev ? "host_device" : "file");
	json_put_str(file, "filename", o->file);
	json_put_str(file, "aio", aio_words[o->aio]);
	json_put_str(file, "locking", lock_words[o->locking]);
	json_put_str(raw, "driver", o->format ? o->format : "raw");
	if (o->node_name)
		json_put_str(raw, "node-name", o->node_name);
	put_bool(raw, "read-only", o->read_only);
	put_bool(raw, "auto-read-only", o->auto_read_only);
	put_bool(raw, "cache.direct", pick(o->direct, m->direct));
	put_bool(raw, "cache.no-flush", pick(o->no_flush, m->no_flush));
	json_put_str(raw, "discard", o->discard >= 2 ? "unmap" : "ignore");
	json_put_str(raw, "detect-zeroes", detect_words[o->detect_zeroes]);
	if (!o->format || strcmp(o->format, "raw") == 0) {
		json_object_set_new(raw, "offset", json_integer((json_int_t)o->offset));
		json_object_set_new(raw, "size", json_integer((json_int_t)o->size));
	}
	json_object_set_new(raw, "file", file);
	return o->snapshot ? memcow_args(o, raw) : raw;
}

static struct drive *drive_at(struct block_graph *g, int iface, int index)
{
	for (struct drive *d = g->drives; d; d = d->next)
		if (d->iface == iface && d->index == index)
			return d;
	return NULL;
}

/* id= and index= where they were not given: "virtio0", "none1", …. */
static int settle_name(struct block_graph *g, struct drive_opts *o, struct err *e)
{
	struct drive *other;

	if (o->index >= 0) {
		other = drive_at(g, o->iface, o->index);
		if (other)
			return err_set(e, -EEXIST, "if=%s,index=%d is taken by drive '%s'",
				       iface_words[o->iface], o->index, other->id);
	} else {
		for (o->index = 0; drive_at(g, o->iface, o->index); o->index++)
			;
	}
	if (!o->id)
		o->id = xasprintf("%s%d", iface_words[o->iface], o->index);
	return graph_check_name(g, o->id, e);
}

static int add(struct block_graph *g, const struct drive_opts *o, struct err *e)
{
	struct block_node *n = NULL;
	struct drive *d;
	json_t *args;
	int r;

	args = node_args(o);
	r = graph_node_create(g, args, false, &n, e);
	json_decref(args);
	if (r == 0)
		r = check_format(o, e);
	if (r == 0)
		r = drive_check_size(n, e);
	if (r == 0)
		r = drive_create(g, o->id, n, &d, e);
	if (r == 0) {
		/* A group's name alone: its limits, now or later. */
		if (o->group && !throttle_limits_any(&o->limits))
			throttle_join(&d->throttle, g, o->group);
		else
			throttle_set(d, o->group, &o->limits, "throttling", NULL);
	}
	if (r) {
		if (n)
			graph_node_destroy(n);
		return r;
	}
	n->implicit = true;	/* goes with the drive */
	d->copy_on_read = o->copy_on_read;
	d->iface = o->iface;
	d->index = o->index;
	retry_set(d, &o->retry, NULL, "-drive", NULL);	/* checked before */
	atomic_store(&d->write_cache, pick(o->writeback, cache_modes[o->cache].writeback));
	return 0;
}

int block_drive_add(struct block_graph *g, const json_t *args, struct err *e)
{
	struct drive_opts o = { 0 };
	const char *id = json_str(args, "id", NULL);
	json_t *flat = graph_flatten(args, NULL);
	int r;

	prop_defaults(tables, &o);
	r = prop_apply(tables, &o, flat, NULL, "-drive", e);
	if (r == 0)
		r = check_opts(&o, e);
	if (r == 0)
		r = retry_check(&o.retry, flat, "-drive", e);
	if (r == 0)
		r = throttle_check(&o.limits, "throttling", e);
	if (r == 0)
		r = settle_name(g, &o, e);
	if (r == 0)
		r = add(g, &o, e);
	if (r)
		err_prefix(e, "disk '%.64s'", o.id ? o.id : id ? id : o.file ? o.file : "");
	json_decref(flat);
	prop_free(tables, &o);
	return r;
}
