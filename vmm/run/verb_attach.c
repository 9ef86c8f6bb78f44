/*
 * vmm/run/verb_attach.c - plugging a device into a running VM, and out again.
 * Threads: the only one of the process.
 *
 * `attach` is blockdev-add and device_add, `detach` device_del and, once the
 * guest has let go, blockdev-del. The nodes of a disk attached here are named
 * after the device, which is how detach finds them again.
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
#include "vmm/run/verb.h"

#define SLICE_MS	200
#define IDS_MAX		1000

struct attach {
	struct qmpc *q;
	const char *vm;		/* its name */
	json_t *device;		/* arguments of device_add; owned */
	const char *id;		/* device's, borrowed from it */
	char *node;		/* of the image; NULL: none. Owned */
};

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

/* disk1, disk2… for a disk, otherwise the driver's name and a number. */
static int choose_id(struct attach *a, bool disk, struct err *e)
{
	const char *driver = json_str(a->device, "driver", "dev");
	json_t *devs = NULL, *nodes = NULL;
	char id[80], node[90];
	bool taken = true;
	int r;

	r = qmpc_run(a->q, "qom-list", json_pack("{s:s}", "path", "/machine/peripheral"), &devs, e);
	if (r == 0 && disk)
		r = qmpc_run(a->q, "query-named-block-nodes", NULL, &nodes, e);
	for (int i = 1; r == 0 && taken && i < IDS_MAX; i++) {
		if (disk)
			snprintf(id, sizeof(id), "disk%d", i);
		else
			snprintf(id, sizeof(id), "%.60s%d", driver, i);
		snprintf(node, sizeof(node), "node-%s", id);
		taken = has_name(devs, "name", id) || has_name(nodes, "node-name", node);
	}
	json_decref(devs);
	json_decref(nodes);
	if (r)
		return r;
	json_put_str(a->device, "id", id);
	return 0;
}

/* ---- where it goes ---- */

static bool is_port(const json_t *dev)
{
	const json_t *id = json_object_get(dev, "id");
	json_int_t vendor = json_integer_value(json_object_get(id, "vendor"));
	json_int_t device = json_integer_value(json_object_get(id, "device"));

	/* pcie-root-port; xio3130-downstream. Other bridges take no hot-plug. */
	return (vendor == 0x1b36 && device == 0x000c) || (vendor == 0x104c && device == 0x8233);
}

/* The id of an empty port among @devices and behind them; @depth bounds what
 * the other end may nest. */
static const char *free_port(const json_t *devices, int depth)
{
	const json_t *dev, *bridge, *below;
	const char *id;
	size_t i;

	json_array_foreach(devices, i, dev) {
		bridge = json_object_get(dev, "pci_bridge");
		below = json_object_get(bridge, "devices");
		if (bridge && is_port(dev) && json_array_size(below) == 0 &&
		    *json_str(dev, "qdev_id", ""))
			return json_str(dev, "qdev_id", "");
		id = depth > 0 ? free_port(below, depth - 1) : NULL;
		if (id)
			return id;
	}
	return NULL;
}

static int choose_bus(struct attach *a, struct err *e)
{
	json_t *buses, *bus;
	const char *id = NULL;
	size_t i;
	int r = qmpc_run(a->q, "query-pci", NULL, &buses, e);

	if (r)
		return r;
	json_array_foreach(buses, i, bus) {
		id = free_port(json_object_get(bus, "devices"), 8);
		if (id)
			break;
	}
	if (id)
		json_put_str(a->device, "bus", id);
	else
		r = err_set(e, -ENOSPC, "%s has no empty root port left: detach something, name a "
			    "bus=, or start it with more -device pcie-root-port,id=…", a->vm);
	json_decref(buses);
	return r;
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

static int add_image(struct attach *a, const char *image, struct err *e)
{
	const char *driver = NULL, *format = NULL;
	char *path = realpath(image, NULL);
	int r;

	if (!path)
		return err_sys(e, -errno, "%s: cannot open it", image);
	r = image_format(path, &driver, &format, e);
	if (r == 0) {
		a->node = xasprintf("node-%s", a->id);
		r = qmpc_run(a->q, "blockdev-add",
			     json_pack("{s:s, s:s, s:{s:s, s:s}}", "driver", format,
				       "node-name", a->node, "file", "driver", driver,
				       "filename", path), NULL, e);
		json_put_str(a->device, "drive", a->node);
	}
	free(path);
	return r;
}

/* ---- attach ---- */

static int attach(struct attach *a, const char *image, struct err *e)
{
	int r = 0;

	complete_driver(a->device);
	if (!json_object_get(a->device, "id"))
		r = choose_id(a, image != NULL, e);
	a->id = json_str(a->device, "id", "");
	if (r == 0 && !json_object_get(a->device, "bus"))
		r = choose_bus(a, e);
	if (r == 0 && image)
		r = add_image(a, image, e);
	if (r)
		return r;
	r = qmpc_run(a->q, "device_add", json_deep_copy(a->device), NULL, e);
	if (r && a->node)
		qmpc_run(a->q, "blockdev-del", json_pack("{s:s}", "node-name", a->node), NULL,
			 NULL);
	return r;
}

int verb_attach(struct verb_call *c, struct err *e)
{
	struct attach a = { .vm = c->argv[0] };
	struct runtime rt = RUNTIME_INIT;
	int r;

	a.device = json_from_keyval(c->argv[1], "driver", 0, "attach", e);
	if (!a.device) {
		c->exit = VERB_USAGE;
		return -EINVAL;
	}
	r = verb_qmp(c, &rt, &a.q, e);
	if (r == 0) {
		r = attach(&a, c->argv[2], e);
		if (r == -ETIMEDOUT)
			c->exit = VERB_NO_ANSWER;
	}
	if (r == 0)
		printf("%s: %s attached as %s on %s\n", rt.name, json_str(a.device, "driver", "?"),
		       a.id, json_str(a.device, "bus", "?"));
	qmpc_close(a.q);
	runtime_close(&rt);
	free(a.node);
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

int verb_detach(struct verb_call *c, struct err *e)
{
	struct runtime rt = RUNTIME_INIT;
	struct qmpc *q;
	char *node;
	int r = verb_qmp(c, &rt, &q, e);

	if (r)
		return r;
	r = qmpc_run(q, "device_del", json_pack("{s:s}", "id", c->argv[1]), NULL, e);
	if (r == 0)
		r = await_deleted(c, q, e);
	if (r == -ETIMEDOUT)
		c->exit = VERB_NO_ANSWER;
	if (r == 0) {
		node = xasprintf("node-%s", c->argv[1]);
		qmpc_run(q, "blockdev-del", json_pack("{s:s}", "node-name", node), NULL, NULL);
		free(node);
		printf("%s: %s detached\n", rt.name, c->argv[1]);
	}
	qmpc_close(q);
	runtime_close(&rt);
	return r;
}
