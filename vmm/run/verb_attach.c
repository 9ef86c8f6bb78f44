/*
 * vmm/run/verb_attach.c - plugging a device into a VM, and out again: the one that
 * runs, its stored configuration, or both.
 * Threads: the only one of the process.
 *
 * `attach` is blockdev-add and device_add, `detach` device_del and, once the
 * guest has let go, blockdev-del. The nodes of a disk attached here are named
 * after the device, which is how detach finds them again. What is stored is the
 * same: an element of devices, and one of blockdevs.
 */
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "vmm/base/json.h"
#include "vmm/base/util.h"
#include "vmm/core/dev.h"
#include "vmm/run/dev_list.h"
#include "vmm/run/stored.h"
#include "vmm/run/verb.h"

#define SLICE_MS	200
#define IDS_MAX		1000

/* What a verb changes. */
struct target {
	const char *name;	/* the VM's, or the file's path */
	struct runtime rt;
	struct qmpc *q;		/* NULL: not the running VM */
	struct stored stored;	/* dirfd -1: not the configuration */
};

struct attach {
	struct target t;
	json_t *device;		/* arguments of device_add; owned */
	const char *id;		/* device's, borrowed from it */
	json_t *node;		/* blockdev-add's, of the image; NULL: none. Owned */
};

/* ---- the target ---- */

static bool is_path(const char *name)
{
	size_t len = strlen(name);

	return strchr(name, '/') || (len > 5 && strcmp(name + len - 5, ".json") == 0);
}

static int target_open_file(struct verb_call *c, struct target *t, struct err *e)
{
	if (c->opts.live || !c->opts.config) {
		c->exit = VERB_USAGE;
		return err_set(e, -EINVAL, "%s is a file, not a running VM; --config alone "
			       "changes it", t->name);
	}
	return stored_open(&t->stored, t->name, e);
}

static int target_open(struct verb_call *c, struct target *t, struct err *e)
{
	int r;

	*t = (struct target){ .name = c->argv[0], .rt = RUNTIME_INIT, .stored = STORED_INIT };
	if (is_path(t->name))
		return target_open_file(c, t, e);
	r = c->opts.config && !c->opts.live ? verb_vm(c, &t->rt, e) : verb_qmp(c, &t->rt, &t->q, e);
	if (r == 0 && c->opts.config)
		r = stored_open_of(&t->stored, &t->rt, e);
	return r;
}

static void target_close(struct target *t)
{
	qmpc_close(t->q);
	runtime_close(&t->rt);
	stored_close(&t->stored);
}

/* ---- names ---- */

/* "virtio-blk" is what people say for virtio-blk-pci. */
static void complete_driver(json_t *device)
{
	const char *driver = json_str(device, "driver", "");
	char *pci;

	if (dev_type_find(dev_list, driver))
		return;
	pci = xasprintf("%s-pci", driver);
	if (dev_type_find(dev_list, pci))
		json_put_str(device, "driver", pci);
	free(pci);
}

static bool has_name(const json_t *list, const char *key, const char *name)
{
	const json_t *item;
	size_t i;

	json_array_foreach(list, i, item)
		if (strcmp(json_str(item, key, ""), name) == 0)
			return true;
	return false;
}

/* Names that the running VM has: devices and nodes. */
static int names_in_use(struct qmpc *q, json_t **devs, json_t **nodes, struct err *e)
{
	int r = 0;

	*devs = *nodes = NULL;
	if (q)
		r = qmpc_run(q, "qom-list", json_pack("{s:s}", "path", "/machine/peripheral"),
			     devs, e);
	if (q && r == 0)
		r = qmpc_run(q, "query-named-block-nodes", NULL, nodes, e);
	return r;
}

/* disk1, disk2… for a disk, otherwise the driver's name and a number. */
static int choose_id(struct attach *a, bool disk, struct err *e)
{
	const char *driver = json_str(a->device, "driver", "dev");
	json_t *devs, *nodes;
	char id[80], node[90];
	bool taken = true;
	int r = names_in_use(a->t.q, &devs, &nodes, e);

	for (int i = 1; r == 0 && taken && i < IDS_MAX; i++) {
		if (disk)
			snprintf(id, sizeof(id), "disk%d", i);
		else
			snprintf(id, sizeof(id), "%.60s%d", driver, i);
		snprintf(node, sizeof(node), "node-%s", id);
		taken = has_name(devs, "name", id) || has_name(nodes, "node-name", node) ||
			stored_has(&a->t.stored, id) || stored_has(&a->t.stored, node);
	}
	json_decref(devs);
	json_decref(nodes);
	if (r)
		return r;
	json_put_str(a->device, "id", id);
	return 0;
}

/* ---- where it went ---- */

/* The id of the bridge that @id is behind; @depth bounds what the other end may
 * nest. */
static const char *port_of(const json_t *devices, const char *id, const char *above, int depth)
{
	const json_t *dev;
	const char *found;
	size_t i;

	json_array_foreach(devices, i, dev) {
		const char *name = json_str(dev, "qdev_id", "");

		if (strcmp(name, id) == 0)
			return above;
		found = depth > 0 ? port_of(json_object_get(json_object_get(dev, "pci_bridge"),
							    "devices"), id, name, depth - 1) : NULL;
		if (found)
			return found;
	}
	return NULL;
}

static void say_attached(struct attach *a, const char *driver)
{
	const char *port = NULL;
	json_t *buses = NULL, *bus;
	size_t i;

	if (a->t.q && qmpc_run(a->t.q, "query-pci", NULL, &buses, NULL) == 0)
		json_array_foreach(buses, i, bus)
			port = port ? port : port_of(json_object_get(bus, "devices"), a->id,
						     json_str(bus, "__org.roost_id", "?"), 8);
	if (a->t.q)
		printf("%s: %s attached as %s%s%s\n", a->t.rt.name, driver, a->id,
		       port ? " on " : "", port ? port : "");
	if (a->t.stored.dirfd >= 0)
		printf("%s: %s added as %s\n", a->t.stored.path, driver, a->id);
	json_decref(buses);
}

/* ---- the image ---- */

static int image_format(const char *path, const char **driver, const char **format,
			struct err *e)
{
	char magic[4] = "";
	struct stat st;
	int fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK);

	if (fd < 0 || fstat(fd, &st) < 0) {
		fd_close(&fd);
		return err_sys(e, -errno, "%s: cannot open it", path);
	}
	*driver = S_ISBLK(st.st_mode) ? "host_device" : "file";
	*format = pread(fd, magic, 4, 0) == 4 && !memcmp(magic, "QFI\xfb", 4) ? "qcow2" : "raw";
	close(fd);
	if (S_ISREG(st.st_mode) || S_ISBLK(st.st_mode))
		return 0;
	return err_set(e, -EINVAL, "%s is neither a file nor a block device", path);
}

static int describe_image(struct attach *a, const char *image, struct err *e)
{
	const char *driver = NULL, *format = NULL;
	char *path = realpath(image, NULL), *node;
	int r;

	if (!path)
		return err_sys(e, -errno, "%s: cannot open it", image);
	r = image_format(path, &driver, &format, e);
	if (r == 0) {
		node = xasprintf("node-%s", a->id);
		a->node = json_pack("{s:s, s:s, s:{s:s, s:s}}", "driver", format, "node-name", node,
				    "file", "driver", driver, "filename", path);
		json_put_str(a->device, "drive", node);
		free(node);
	}
	free(path);
	return r;
}

/* ---- attach ---- */

static int describe(struct attach *a, const char *image, struct err *e)
{
	int r = 0;

	complete_driver(a->device);
	if (!json_object_get(a->device, "id"))
		r = choose_id(a, image != NULL, e);
	a->id = json_str(a->device, "id", "");
	return r == 0 && image ? describe_image(a, image, e) : r;
}

static int attach_live(struct attach *a, struct err *e)
{
	int r = 0;

	if (a->node)
		r = qmpc_run(a->t.q, "blockdev-add", json_deep_copy(a->node), NULL, e);
	if (r)
		return r;
	r = qmpc_run(a->t.q, "device_add", json_deep_copy(a->device), NULL, e);
	if (r && a->node)
		qmpc_run(a->t.q, "blockdev-del",
			 json_pack("{s:O}", "node-name", json_object_get(a->node, "node-name")),
			 NULL, NULL);
	return r;
}

/* The file is checked before the VM is changed, and written after that. */
static int attach(struct attach *a, const char *image, struct err *e)
{
	int r = describe(a, image, e);

	if (r == 0 && a->t.stored.dirfd >= 0)
		r = stored_add(&a->t.stored, a->device, a->node, e);
	if (r == 0 && a->t.q)
		r = attach_live(a, e);
	if (r == 0 && a->t.stored.dirfd >= 0)
		r = stored_save(&a->t.stored, e);
	return r;
}

int verb_attach(struct verb_call *c, struct err *e)
{
	struct attach a = { .t.rt = RUNTIME_INIT, .t.stored = STORED_INIT };
	int r;

	a.device = json_from_keyval(c->argv[1], "driver", 0, "attach", e);
	if (!a.device) {
		c->exit = VERB_USAGE;
		return -EINVAL;
	}
	r = target_open(c, &a.t, e);
	if (r == 0) {
		r = attach(&a, c->argv[2], e);
		if (r == -ETIMEDOUT)
			c->exit = VERB_NO_ANSWER;
	}
	if (r == 0)
		say_attached(&a, json_str(a.device, "driver", "?"));
	target_close(&a.t);
	json_decref(a.node);
	json_decref(a.device);
	return r;
}

/* ---- detach ---- */

/* What the event says about device @id: 1 gone, -EIO refused, 0 nothing. */
static int judge(const json_t *ev, const char *id)
{
	const char *name = json_str(ev, "event", "");

	if (strcmp(json_str(json_object_get(ev, "data"), "device", ""), id))
		return 0;
	if (strcmp(name, "DEVICE_DELETED") == 0)
		return 1;
	return strcmp(name, "DEVICE_UNPLUG_GUEST_ERROR") ? 0 : -EIO;
}

static int await_deleted(struct verb_call *c, struct qmpc *q, struct err *e)
{
	uint64_t start = clock_ns(), deadline = start + c->opts.timeout * NS_PER_SEC;
	const char *vm = c->argv[0], *id = c->argv[1];
	char what[120];
	json_t *ev;
	int r;

	snprintf(what, sizeof(what), "%s: waiting for the guest to release %.40s", vm, id);
	while (clock_ns() < deadline) {
		r = qmpc_event(q, SLICE_MS, &ev, e);
		if (r == 0) {
			r = judge(ev, id);
			json_decref(ev);
			if (r > 0)
				return 0;
			if (r < 0)
				return err_set(e, r, "%s: the guest refuses to release %s", vm, id);
		} else if (r != -ETIMEDOUT) {
			return r;
		}
		verb_progress(what, start);
	}
	return err_set(e, -ETIMEDOUT, "%s: the guest has not released %s within %u s; it may still "
		       "do so later, as when it runs no driver for hot-plug yet", vm, id,
		       c->opts.timeout);
}

static int detach_live(struct verb_call *c, struct qmpc *q, struct err *e)
{
	const char *id = c->argv[1];
	char *node;
	int r = qmpc_run(q, "device_del", json_pack("{s:s}", "id", id), NULL, e);

	if (r == 0)
		r = await_deleted(c, q, e);
	if (r == -ETIMEDOUT)
		c->exit = VERB_NO_ANSWER;
	if (r)
		return r;
	node = xasprintf("node-%s", id);
	qmpc_run(q, "blockdev-del", json_pack("{s:s}", "node-name", node), NULL, NULL);
	free(node);
	printf("%s: %s detached\n", c->argv[0], id);
	return 0;
}

int verb_detach(struct verb_call *c, struct err *e)
{
	struct target t;
	int r = target_open(c, &t, e);

	if (r == 0 && t.stored.dirfd >= 0)
		r = stored_remove(&t.stored, c->argv[1], e);
	if (r == 0 && t.q)
		r = detach_live(c, t.q, e);
	if (r == 0 && t.stored.dirfd >= 0) {
		r = stored_save(&t.stored, e);
		if (r == 0)
			printf("%s: %s removed\n", t.stored.path, c->argv[1]);
	}
	target_close(&t);
	return r;
}
