/*
 * vmm/run/build.c - from a description to a VM that is ready to start.
 *
 * Threads: main loop.
 */
#include "vmm/run/build.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

#include "block/block.h"
#include "vmm/base/json.h"
#include "vmm/base/log.h"
#include "vmm/base/util.h"
#include "vmm/char/char.h"
#include "vmm/control/qmp.h"
#include "vmm/core/vm.h"
#include "vmm/core/object.h"
#include "vmm/run/dev_list.h"
#include "vmm/run/machine.h"
#include "vmm/run/ports.h"
#include "vmm/run/obj_list.h"
#include "vmm/run/options.h"

#define SERIAL_PORTS	4
#define CONSOLE_ID	"roost-console"
#define DRAIN_NS	(200 * NS_PER_MS)	/* console output at exit */

struct built {
	struct vm *vm;
	json_t *desc;			/* vm->desc, borrowed */
	struct machine *machine;	/* NULL: -machine none */
	struct qmp *qmp;
};

struct vm *built_vm(struct built *b)
{
	return b->vm;
}

struct qmp *built_qmp(struct built *b)
{
	return b->qmp;
}

/* ---- objects ---- */

static int add_object(struct built *b, const json_t *args, struct err *e)
{
	if (strcmp(json_str(args, "qom-type", ""), "fault") == 0)
		return 0;	/* add_fault(), when there is what it breaks */
	return vm_object_add(b->vm, args, e);
}

static int add_fault(struct built *b, const json_t *args, struct err *e)
{
	if (strcmp(json_str(args, "qom-type", ""), "fault"))
		return 0;
	return vm_object_add(b->vm, args, e);
}

/* Call @fn for each element of desc[key]; stops at the first failure. */
static int for_each(struct built *b, const char *key,
		    int (*fn)(struct built *, const json_t *, struct err *), struct err *e)
{
	json_t *a = json_object_get(b->desc, key), *item;
	size_t i;
	int r = 0;

	json_array_foreach(a, i, item) {
		r = fn(b, item, e);
		if (r)
			break;
	}
	return r;
}

/* ---- back ends ---- */

static int add_chardev(struct built *b, const json_t *args, struct err *e)
{
	return char_add(b->vm->chars, args, NULL, e);
}

static int add_blockdev(struct built *b, const json_t *args, struct err *e)
{
	return block_node_open(b->vm->blocks, args, NULL, e);
}

static int add_drive(struct built *b, const json_t *args, struct err *e)
{
	return block_drive_add(b->vm->blocks, args, e);
}

/* -drive without if=none, and bare image names, bring their own disk: an
 * element of "devices" is added to the description for each. */
static int expand_drives(struct built *b, struct err *e)
{
	json_t *drives = json_object_get(b->desc, "drives"), *d;
	json_t *devices = json_object_get(b->desc, "devices");
	const char *iface;
	char id[40];
	size_t i;

	if (!devices) {
		devices = json_array();
		json_object_set_new(b->desc, "devices", devices);
	}
	json_array_foreach(drives, i, d) {
		iface = json_str(d, "if", "virtio");
		if (strcmp(iface, "none") == 0)
			continue;
		if (strcmp(iface, "virtio"))
			return err_set(e, -EINVAL, "-drive if=%s: roost has if=virtio (the "
				       "default) and if=none", iface);
		json_put_str(d, "if", "none");
		snprintf(id, sizeof(id), "virtio%zu", i);
		if (!json_object_get(d, "id"))
			json_put_str(d, "id", id);
		json_array_append_new(devices, json_pack("{s:s,s:s}", "driver", "virtio-blk-pci",
							 "drive", json_str(d, "id", "")));
	}
	return 0;
}

static void expand_images(struct built *b)
{
	json_t *images = json_object_get(b->desc, "images"), *img;
	json_t *drives = json_object_get(b->desc, "drives");
	size_t i;

	if (!drives) {
		drives = json_array();
		json_object_set_new(b->desc, "drives", drives);
	}
	json_array_foreach(images, i, img)
		json_array_append_new(drives, json_pack("{s:O}", "file", img));
	json_object_del(b->desc, "images");
}

/* ---- devices ---- */

/*
 * desc.console is the path of the console that everybody can attach to. It goes
 * on the first chardev of a serial port or virtio console; *@id becomes the id
 * of what the port is to use.
 */
static int put_console(struct built *b, const char **id, struct err *e)
{
	const char *path = json_str(b->desc, "console", NULL);
	json_t *args;
	int r;

	if (!path || char_find(b->vm->chars, CONSOLE_ID))
		return 0;
	args = json_pack("{s:s, s:s, s:s, s:s}", "backend", "console", "id", CONSOLE_ID,
			 "path", path, "chardev", *id);
	r = char_add(b->vm->chars, args, NULL, e);
	json_decref(args);
	if (r == 0)
		*id = CONSOLE_ID;
	return r;
}

/* A virtio console can be the console, when there is no serial port. */
static int put_virtconsole(struct built *b, json_t *args, struct err *e)
{
	const char *id = json_str(args, "chardev", NULL);
	int r;

	if (!id || strcmp(json_str(args, "driver", ""), "virtconsole") ||
	    !char_find(b->vm->chars, id))
		return 0;
	r = put_console(b, &id, e);
	if (r == 0)
		json_object_set_new(args, "chardev", json_string(id));
	return r;
}

static int add_device(struct built *b, const json_t *args, struct err *e)
{
	json_t *full;
	int r;

	if (!json_str(args, "driver", NULL))
		return err_set(e, -EINVAL, "-device needs a driver; see -device help");
	full = json_deep_copy(args);
	r = put_virtconsole(b, full, e);
	if (r == 0)
		r = dev_create(b->vm, full, NULL, e);
	json_decref(full);
	return r;
}

static int add_serial(struct built *b, size_t index, const char *spec, struct err *e)
{
	struct chardev *c;
	const char *use;
	char id[32];
	json_t *args;
	int r;

	if (index >= SERIAL_PORTS)
		return err_set(e, -EINVAL, "-serial %s: a machine has %d serial ports", spec,
			       SERIAL_PORTS);
	snprintf(id, sizeof(id), "serial%zu", index);
	r = char_add_legacy(b->vm->chars, spec, id, &c, e);
	if (r || !c)
		return r;
	use = char_id(c);
	r = put_console(b, &use, e);
	if (r)
		return r;
	args = json_pack("{s:s,s:s,s:I}", "driver", "isa-serial", "chardev", use,
			 "index", (json_int_t)index);
	r = dev_create(b->vm, args, NULL, e);
	json_decref(args);
	return r;
}

static bool has_virtconsole(const struct built *b)
{
	json_t *list = json_object_get(b->desc, "devices"), *d;
	size_t i;

	json_array_foreach(list, i, d)
		if (!strcmp(json_str(d, "driver", ""), "virtconsole"))
			return true;
	return false;
}

static int add_serials(struct built *b, struct err *e)
{
	json_t *list = json_object_get(b->desc, "serials"), *s;
	size_t i;
	int r = 0;

	if (!list && !json_object_get(b->desc, "nodefaults") &&
	    !json_object_get(b->desc, "daemonize"))
		return add_serial(b, 0, "mon:stdio", e);
	if (!list && !json_object_get(b->desc, "nodefaults") &&
	    json_object_get(b->desc, "console") && !has_virtconsole(b))
		return add_serial(b, 0, "null", e);
	json_array_foreach(list, i, s) {
		r = add_serial(b, i, json_string_value(s), e);
		if (r)
			break;
	}
	return r;
}

/* ---- monitors ---- */

static int add_mon(struct built *b, const json_t *args, struct err *e)
{
	const char *id = json_str(args, "chardev", "");
	struct chardev *c = char_find(b->vm->chars, id);

	if (strcmp(json_str(args, "mode", "readline"), "control"))
		return err_set(e, -EINVAL, "-mon chardev=%s: there is no human monitor; "
			       "add mode=control for QMP", id);
	if (!c)
		return err_set(e, -ENOENT, "-mon chardev=%s: no such chardev; add -chardev "
			       "socket,id=%s,path=…,server=on,wait=off", id, id);
	return qmp_serve(b->qmp, c, e);
}

static int add_qmps(struct built *b, struct err *e)
{
	json_t *list = json_object_get(b->desc, "qmps"), *s;
	struct chardev *c;
	char id[40];
	size_t i;
	int r = 0;

	json_array_foreach(list, i, s) {
		snprintf(id, sizeof(id), "compat_monitor%zu", i);
		r = char_add_legacy(b->vm->chars, json_string_value(s), id, &c, e);
		if (r == 0 && c)
			r = qmp_serve(b->qmp, c, e);
		if (r)
			break;
	}
	return r;
}

/* ---- the whole ---- */

static int parse_uuid(const char *s, uint8_t out[16])
{
	int n = 0;

	for (int i = 0; i < 16; i++) {
		unsigned int byte;

		if (i == 4 || i == 6 || i == 8 || i == 10)
			if (s[n++] != '-')
				return -EINVAL;
		if (sscanf(s + n, "%2x", &byte) != 1 || !s[n + 1])
			return -EINVAL;
		out[i] = (uint8_t)byte;
		n += 2;
	}
	return s[n] ? -EINVAL : 0;
}

static int set_identity(struct built *b, struct err *e)
{
	const char *uuid = json_str(b->desc, "uuid", NULL);
	static const struct prop *const tables[] = { name_props, NULL };
	struct name_opts name = { 0 };
	struct vm *vm = b->vm;
	int r;

	prop_defaults(tables, &name);
	r = prop_apply(tables, &name, json_object_get(b->desc, "name"), NULL, "-name", e);
	vm->name = name.guest;		/* handed over */
	if (r)
		return r;
	vm->no_reboot = json_object_get(b->desc, "no-reboot") != NULL;
	vm->no_shutdown = json_object_get(b->desc, "no-shutdown") != NULL;
	if (!uuid)
		return 0;
	vm->has_uuid = true;
	if (parse_uuid(uuid, vm->uuid))
		return err_set(e, -EINVAL, "-uuid %s: must look like "
			       "01234567-89ab-cdef-0123-456789abcdef", uuid);
	return 0;
}

static int add_fd(struct built *b, const json_t *args, struct err *e)
{
	return machine_add_fd(b->vm, args, e);
}

static int build_backends(struct built *b, struct err *e)
{
	int r = for_each(b, "fds", add_fd, e);

	if (r == 0)
		r = for_each(b, "objects", add_object, e);

	if (r == 0)
		r = for_each(b, "chardevs", add_chardev, e);
	if (r == 0)
		r = for_each(b, "blockdevs", add_blockdev, e);
	if (r)
		return r;
	expand_images(b);
	r = expand_drives(b, e);
	return r ? r : for_each(b, "drives", add_drive, e);
}

/* There is no human monitor: only "none" can be had. */
static int check_monitors(struct built *b, struct err *e)
{
	json_t *list = json_object_get(b->desc, "monitors"), *s;
	size_t i;

	json_array_foreach(list, i, s)
		if (strcmp(json_string_value(s), "none"))
			return err_set(e, -EINVAL, "-monitor %s: there is no human monitor; use "
				       "-qmp unix:PATH,server=on,wait=off", json_string_value(s));
	return 0;
}

static int build_machine(struct built *b, struct err *e)
{
	int r = machine_create(b->vm, &b->machine, e);

	if (r == 0)
		r = add_serials(b, e);
	if (r == 0) {
		ports_complete(b->desc, machine_root_ports(b->machine));
		r = for_each(b, "devices", add_device, e);
	}
	if (r == 0)
		r = for_each(b, "objects", add_fault, e);
	return r ? r : machine_finish(b->machine, e);
}

static int build_none(struct built *b, struct err *e)
{
	if (json_array_size(json_object_get(b->desc, "devices")) > 0)
		return err_set(e, -EINVAL, "-machine none takes no devices and disks");
	return machine_none_create(b->vm, e);
}

/* For a firmware to come; its words are checked all the same. */
static int check_boot(struct built *b, struct err *e)
{
	static const struct prop *const tables[] = { boot_props, NULL };
	struct boot_opts o = { 0 };
	int r;

	prop_defaults(tables, &o);
	r = prop_apply(tables, &o, json_object_get(b->desc, "boot"), NULL, "-boot", e);
	prop_free(tables, &o);
	return r;
}

static int build_all(struct built *b, struct err *e)
{
	int r = set_identity(b, e);

	if (r == 0)
		r = check_monitors(b, e);
	if (r == 0)
		r = check_boot(b, e);
	if (r == 0)
		r = build_backends(b, e);
	if (r == 0)
		r = machine_is_none(b->desc) ? build_none(b, e) : build_machine(b, e);
	if (r == 0 && json_object_get(b->desc, "attach") && !char_find(b->vm->chars, CONSOLE_ID))
		r = err_set(e, -EINVAL, "--console: the VM has no serial port or virtio console; "
			    "add -serial null");
	if (r)
		return r;
	b->qmp = qmp_create(b->vm);
	r = for_each(b, "mons", add_mon, e);
	return r ? r : add_qmps(b, e);
}

int build_aio(const json_t *desc, enum loop_aio *aio, struct err *e)
{
	static const char *const words[] = {
		[LOOP_AIO_AUTO] = "auto", [LOOP_AIO_URING] = "io_uring",
		[LOOP_AIO_THREADS] = "threads",
	};
	const char *s = json_str(desc, "aio", "auto");

	for (size_t i = 0; i < ARRAY_LEN(words); i++) {
		if (strcmp(words[i], s) == 0) {
			*aio = (enum loop_aio)i;
			return 0;
		}
	}
	return err_set(e, -EINVAL, "-aio %.32s: must be auto, io_uring or threads", s);
}

/* -overcommit mem-lock=on; main() does it, and reports mistakes. */
static bool locks_memory(const json_t *desc)
{
	static const struct prop *const tables[] = { overcommit_props, NULL };
	struct overcommit_opts o = { 0 };
	struct err ignored = ERR_INIT;

	prop_defaults(tables, &o);
	return prop_apply(tables, &o, json_object_get(desc, "overcommit"), NULL, "-overcommit",
			  &ignored) == 0 && o.mem_lock;
}

int build_vm(struct loop *main, const json_t *desc, struct built **out, struct err *e)
{
	struct built *b = xcalloc(1, sizeof(*b));
	int r;

	b->desc = json_deep_copy(desc);
	b->vm = vm_create(main);
	b->vm->aio = loop_aio(main);
	b->vm->desc = b->desc;
	b->vm->types = dev_list;
	b->vm->object_types = obj_list;
	b->vm->machine_types = machine_list;
	b->vm->describe_options = options_describe;
	b->vm->chars = char_set_create(main);
	b->vm->blocks = block_graph_create(main);
	char_set_fds(b->vm->chars, b->vm->fds);
	block_graph_set_fds(b->vm->blocks, b->vm->fds);
	block_graph_set_locked(b->vm->blocks, locks_memory(desc));
	r = build_all(b, e);
	if (r) {
		build_destroy(b);
		b = NULL;
	}
	*out = b;
	return r;
}

void build_destroy(struct built *b)
{
	struct block_graph *blocks;
	struct char_set *chars;

	if (!b)
		return;
	blocks = b->vm->blocks;
	chars = b->vm->chars;
	char_drain(chars, DRAIN_NS);
	qmp_destroy(b->qmp);
	/* Hung storage: what it may still write to stays for the process's life. */
	if (!vm_destroy(b->vm))
		return;
	machine_free(b->machine);
	block_graph_destroy(blocks);
	char_set_destroy(chars);
	free(b);
}
