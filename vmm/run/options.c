/*
 * vmm/run/options.c - the command line: from argv to the description.
 *
 * One row per option says how its argument becomes JSON. What the members of
 * an object mean is the business of the property table that will read them,
 * not of this file.
 */
#include "vmm/run/options.h"

#include <errno.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

#include "vmm/base/json.h"
#include "vmm/base/util.h"
#include "vmm/run/ignored.h"
#include "vmm/run/stored.h"

enum opt_kind {
	OPT_FLAG,	/* no argument: key = true */
	OPT_TEXT,	/* key = text; the last one wins */
	OPT_OBJECT,	/* key = object, later ones add members */
	OPT_LIST,	/* append an object to array key */
	OPT_TEXTS,	/* append the text to array key */
	OPT_SET,	/* changes an element of an array */
	OPT_READ,	/* a description from a file */
	OPT_ACTION,	/* an enum options_action */
};

struct opt {
	const char *name;
	enum opt_kind kind;
	const char *key;	/* in the description */
	const char *implied;	/* name of a first bare value */
	int nest;		/* see json_from_keyval() */
	const char *arg;	/* as --help shows it */
	const char *help;
	int action;
};

static const struct opt opts[] = {
	/* machine */
	{ "machine", OPT_OBJECT, "machine", "type", 0, "TYPE[,k=v...]",
	  "machine type: q35 (`help` lists)", 0 },
	{ "M", OPT_OBJECT, "machine", "type", 0, "TYPE[,k=v...]", "the same", 0 },
	{ "accel", OPT_OBJECT, "accel", "accel", 0, "kvm[,device=PATH]", "accelerator: kvm", 0 },
	{ "cpu", OPT_TEXT, "cpu", NULL, 0, "MODEL[,+feature,-feature...]",
	  "CPU model (default host; `help` lists)", 0 },
	{ "smp", OPT_OBJECT, "smp", "cpus", 0, "N[,sockets=,dies=,cores=,threads=]",
	  "number of vCPUs and their topology", 0 },
	{ "m", OPT_OBJECT, "memory", "size", 0, "SIZE",
	  "guest memory (default 512M; bare number: MiB)", 0 },
	{ "object", OPT_LIST, "objects", "qom-type", 0, "TYPE,id=ID[,k=v...]",
	  "iothread, memory-backend-ram|memfd|file, throttle-group, fault", 0 },
	{ "numa", OPT_LIST, "numas", "type", JSON_JOIN,
	  "node,nodeid=N,cpus=A-B,memdev=ID | dist,src=N,dst=N,val=D",
	  "a NUMA node, a distance between two", 0 },
	{ "name", OPT_OBJECT, "name", "guest", 0, "NAME[,debug-threads=on|off]",
	  "the guest's name", 0 },
	{ "uuid", OPT_TEXT, "uuid", NULL, 0, "UUID", "the guest's UUID, as SMBIOS shows it", 0 },
	{ "rtc", OPT_OBJECT, "rtc", NULL, 0, "base=utc|localtime|DATE",
	  "what the real-time clock shows", 0 },
	{ "smbios", OPT_LIST, "smbios", NULL, 0, "type=N,field=value...", "SMBIOS fields", 0 },
	/* what boots */
	{ "kernel", OPT_TEXT, "kernel", NULL, 0, "FILE", "bzImage or ELF vmlinux to boot", 0 },
	{ "initrd", OPT_TEXT, "initrd", NULL, 0, "FILE", "initial RAM disk", 0 },
	{ "append", OPT_TEXT, "append", NULL, 0, "TEXT", "kernel command line", 0 },
	/* devices and back ends */
	{ "device", OPT_LIST, "devices", "driver", 0, "DRIVER[,k=v...]",
	  "add a device (`help` lists, `DRIVER,help` shows options)", 0 },
	{ "drive", OPT_LIST, "drives", NULL, 0, "file=FILE,if=none,id=ID,format=raw[,k=v...]",
	  "a disk image and its caching", 0 },
	{ "blockdev", OPT_LIST, "blockdevs", "driver", 1, "DRIVER,node-name=NAME[,k=v...]",
	  "a block node", 0 },
	{ "hda", OPT_TEXTS, "images", NULL, 0, "FILE", "the same as FILE without an option", 0 },
	{ "chardev", OPT_LIST, "chardevs", "backend", 0, "BACKEND,id=ID[,k=v...]",
	  "stdio, pty, file, socket, null, ringbuf, console, serial", 0 },
	{ "serial", OPT_TEXTS, "serials", NULL, 0, "DEV",
	  "serial port on mon:stdio, stdio, pty, file:F, unix:F, chardev:ID, null, none", 0 },
	{ "add-fd", OPT_LIST, "fds", NULL, 0, "fd=N,set=N[,opaque=TEXT]",
	  "an inherited descriptor for /dev/fdset/N", 0 },
	{ "global", OPT_LIST, "globals", NULL, 0, "DRIVER.PROP=VALUE",
	  "default of a device property", 0 },
	/* control */
	{ "qmp", OPT_TEXTS, "qmps", NULL, 0, "unix:PATH,server=on,wait=off", "QMP socket", 0 },
	{ "mon", OPT_LIST, "mons", "chardev", 0, "chardev=ID,mode=control", "QMP on a chardev", 0 },
	{ "monitor", OPT_TEXTS, "monitors", NULL, 0, "none", "no human monitor; QMP is on -qmp", 0 },
	{ "S", OPT_FLAG, "paused", NULL, 0, NULL, "do not start the vCPUs; wait for QMP cont", 0 },
	{ "expect", OPT_TEXT, "expect", NULL, 0, "FILE",
	  "run a script of what to type on the serial port and what to wait for", 0 },
	{ "no-reboot", OPT_FLAG, "no-reboot", NULL, 0, NULL, "end instead of rebooting", 0 },
	{ "no-shutdown", OPT_FLAG, "no-shutdown", NULL, 0, NULL,
	  "stay when the guest powers off", 0 },
	{ "daemonize", OPT_FLAG, "daemonize", NULL, 0, NULL,
	  "go to the background once everything is set up", 0 },
	{ "console", OPT_FLAG, "attach", NULL, 0, NULL,
	  "run in the background, with this terminal on the console; Ctrl-] leaves", 0 },
	{ "pidfile", OPT_TEXT, "pidfile", NULL, 0, "FILE", "write the process id there", 0 },
	{ "nodefaults", OPT_FLAG, "nodefaults", NULL, 0, NULL,
	  "no serial port unless asked for", 0 },
	{ "nographic", OPT_FLAG, "nographic", NULL, 0, NULL,
	  "serial port on the terminal (the default)", 0 },
	{ "msg", OPT_OBJECT, "msg", NULL, 0, "timestamp=on|off", "time stamps in messages", 0 },
	{ "d", OPT_TEXTS, "trace", NULL, 0, "GLOB[,GLOB...]",
	  "trace points to switch on (`help` lists)", 0 },
	{ "D", OPT_TEXT, "logfile", NULL, 0, "FILE", "write messages there", 0 },
	{ "readconfig", OPT_READ, NULL, NULL, 0, "FILE",
	  "read a description that -dump-config printed", 0 },
	{ "dump-config", OPT_ACTION, NULL, NULL, 0, NULL,
	  "print the description as JSON and end", OPTIONS_DUMP },
	{ "aio", OPT_TEXT, "aio", NULL, 0, "auto|io_uring|threads",
	  "how loops wait and do file I/O", 0 },
	{ "help", OPT_ACTION, NULL, NULL, 0, NULL, "this text", OPTIONS_HELP },
	{ "h", OPT_ACTION, NULL, NULL, 0, NULL, "the same", OPTIONS_HELP },
	{ "version", OPT_ACTION, NULL, NULL, 0, NULL, "print the version", OPTIONS_VERSION },
	{ "boot", OPT_OBJECT, "boot", "order", 0, "order=...,strict=on|off",
	  "boot order; for firmware, which there is none of yet", 0 },
	{ "runas", OPT_TEXT, "runas", NULL, 0, "USER|UID:GID",
	  "become this user once everything is open", 0 },
	{ "sandbox", OPT_OBJECT, "sandbox", "enable", 0, "on|off[,k=allow|deny...]",
	  "allow only the system calls that a running guest needs", 0 },
	{ "set", OPT_SET, NULL, NULL, 0, "GROUP.ID.NAME=VALUE",
	  "change an option given before: device, drive, chardev, object, blockdev", 0 },
	{ "overcommit", OPT_OBJECT, "overcommit", NULL, 0, "mem-lock=on|off",
	  "lock guest memory", 0 },
};

/* Options that QEMU has and roost has not: a sentence beats a guess. */
static const char *const qemu_only[] = {
	"bios", "pflash", "netdev", "nic", "net", "usb", "usbdevice", "vnc", "spice",
	"cdrom", "fda", "fdb", "hdb", "hdc", "hdd", "snapshot", "loadvm", "incoming",
	"only-migratable",
	"tpmdev", "audiodev", "audio", "fsdev", "virtfs", "parallel", "gdb", "s",
	"icount", "watchdog-action", "chroot", "fw_cfg", "dtb",
	"writeconfig", "mem-path", "mem-prealloc", "option-rom", "semihosting",
	"k", "full-screen", "win2k-hack", "trace", "plugin", "qtest",
	"action", "qmp-pretty", "singlestep", "preconfig", "enable-fips", "L",
	"curses", "sdl", "no-fd-bootchk", "mtdblock", "sd", "g", "alt-grab", "rotate",
	"portrait", "tpm", "compat", "iscsi", "acpitable",
	"prom-env", "echr", "xen-domid", "old-param", "tb-size", "seed", "dumpdtb", NULL
};

static const struct opt *find_opt(const char *name)
{
	for (size_t i = 0; i < ARRAY_LEN(opts); i++)
		if (strcmp(opts[i].name, name) == 0)
			return &opts[i];
	return NULL;
}

static int unknown_opt(const char *arg, const char *name, struct err *e)
{
	const char *names[ARRAY_LEN(opts) + 1], *near;

	if (options_qemu_only(name))
		return err_set(e, -EINVAL, "%s: QEMU has this option, roost has not (yet); "
			       "see roost --help", arg);
	for (size_t i = 0; i < ARRAY_LEN(opts); i++)
		names[i] = opts[i].name;
	names[ARRAY_LEN(opts)] = NULL;
	near = util_nearest(name, names);
	if (near)
		return err_set(e, -EINVAL, "unknown option %s; did you mean -%s?", arg, near);
	return err_set(e, -EINVAL, "unknown option %s; see roost --help", arg);
}

static json_t *array_at(json_t *desc, const char *key)
{
	json_t *a = json_object_get(desc, key);

	if (!json_is_array(a)) {
		a = json_array();
		json_object_set_new(desc, key, a);
	}
	return a;
}

/* ---- descriptions from files ---- */

static const struct opt *opt_of_key(const char *key)
{
	for (size_t i = 0; i < ARRAY_LEN(opts); i++)
		if (opts[i].key && strcmp(opts[i].key, key) == 0)
			return &opts[i];
	return NULL;
}

static int unknown_key(const char *path, const char *key, struct err *e)
{
	const char *keys[ARRAY_LEN(opts) + 1], *near;
	size_t n = 0;

	for (size_t i = 0; i < ARRAY_LEN(opts); i++)
		if (opts[i].key)
			keys[n++] = opts[i].key;
	keys[n] = NULL;
	near = util_nearest(key, keys);
	return err_set(e, -EINVAL, "-readconfig %s: there is no '%s' in a description%s%s%s", path,
		       key, near ? "; did you mean '" : "", near ? near : "", near ? "'?" : "");
}

static bool all_of(const json_t *list, json_type type)
{
	const json_t *item;
	size_t i;

	json_array_foreach(list, i, item)
		if (json_typeof(item) != type)
			return false;
	return json_is_array(list);
}

/* Nothing behind the parser looks at a type again. */
static const char *wrong_type(const struct opt *o, const json_t *val)
{
	switch (o->kind) {
	case OPT_FLAG:
		return json_is_true(val) ? NULL : "true";
	case OPT_OBJECT:
		return json_is_object(val) ? NULL : "an object";
	case OPT_LIST:
		return all_of(val, JSON_OBJECT) ? NULL : "an array of objects";
	case OPT_TEXTS:
		return all_of(val, JSON_STRING) ? NULL : "an array of strings";
	default:
		return json_is_string(val) ? NULL : "a string";
	}
}

static void merge(json_t *desc, const char *key, json_t *val)
{
	json_t *have = json_object_get(desc, key), *item;
	size_t i;

	if (json_is_array(val)) {
		array_at(desc, key);	/* also an empty one */
		json_array_foreach(val, i, item)
			json_array_append(array_at(desc, key), item);
	} else if (json_is_object(val) && have) {
		json_object_update(have, val);
	} else {
		json_object_set(desc, key, val);
	}
}

/* Where `roost attach --config` finds it: the last one counts. */
static void note_file(json_t *desc, const char *path)
{
	char *whole = realpath(path, NULL);

	if (whole)
		json_put_str(desc, STORED_PATH, whole);
	free(whole);
}

/* As if the options that @path holds stood here. */
static int read_config(json_t *desc, const char *path, struct err *e)
{
	json_error_t je = { .line = 0 };
	json_t *o = json_load_file(path, JSON_REJECT_DUPLICATES, &je), *val;
	const char *key, *want;
	int r = 0;

	if (!json_is_object(o)) {
		if (o)
			err_set(e, -EINVAL, "-readconfig %s: a JSON object is needed, as "
				"-dump-config prints it", path);
		else
			err_set(e, -EINVAL, "-readconfig %s: line %d: %s; it takes what "
				"-dump-config prints", path, je.line, je.text);
		json_decref(o);
		return -EINVAL;
	}
	json_object_foreach(o, key, val) {
		const struct opt *opt = opt_of_key(key);

		want = opt ? wrong_type(opt, val) : NULL;
		if (!opt)
			r = unknown_key(path, key, e);
		else if (want)
			r = err_set(e, -EINVAL, "-readconfig %s: '%s' must be %s", path, key, want);
		if (r)
			break;
		merge(desc, key, val);
	}
	json_decref(o);
	if (r == 0)
		note_file(desc, path);
	return r;
}

/* ---- -set ---- */

static json_t *element(json_t *list, const char *id, size_t len)
{
	json_t *item;
	const char *have;
	size_t i;

	json_array_foreach(list, i, item) {
		have = json_str(item, "id", json_str(item, "node-name", ""));
		if (strlen(have) == len && strncmp(have, id, len) == 0)
			return item;
	}
	return NULL;
}

/* "device.disk0.serial=A1": QEMU's groups are the names of the options. */
static int set_member(json_t *desc, const char *text, struct err *e)
{
	const char *dot = strchr(text, '.'), *dot2 = dot ? strchr(dot + 1, '.') : NULL;
	const char *eq = dot2 ? strchr(dot2, '=') : NULL;
	char group[20], name[64];
	const struct opt *o;
	json_t *item, *val;

	if (!eq || eq == dot2 + 1)
		return err_set(e, -EINVAL, "-set %s: must be GROUP.ID.NAME=VALUE", text);
	snprintf(group, sizeof(group), "%.*s", (int)MIN(dot - text, 19), text);
	snprintf(name, sizeof(name), "%.*s", (int)MIN(eq - dot2 - 1, 63), dot2 + 1);
	o = find_opt(group);
	if (!o || o->kind != OPT_LIST)
		return err_set(e, -EINVAL, "-set %s: there is no group '%s'; use device, drive, "
			       "chardev, object or blockdev", text, group);
	item = element(json_object_get(desc, o->key), dot + 1, (size_t)(dot2 - dot - 1));
	if (!item)
		return err_set(e, -ENOENT, "-set %s: no -%s before it has this id", text, group);
	val = json_string(eq + 1);
	if (!val || json_object_set_new(item, name, val))
		return err_set(e, -EINVAL, "-set %s: the value is not valid UTF-8", text);
	return 0;
}

/* ---- options ---- */

static int add_object(json_t *desc, const struct opt *o, const char *val, struct err *e)
{
	char what[40] = "-";
	json_t *obj, *have;

	strncat(what, o->name, sizeof(what) - 2);
	obj = json_from_keyval(val, o->implied, o->nest, what, e);
	if (!obj)
		return -EINVAL;
	if (o->kind == OPT_LIST) {
		json_array_append_new(array_at(desc, o->key), obj);
		return 0;
	}
	have = json_object_get(desc, o->key);
	if (have) {
		json_object_update(have, obj);
		json_decref(obj);
	} else {
		json_object_set_new(desc, o->key, obj);
	}
	return 0;
}

static int add_text(json_t *desc, const struct opt *o, const char *val, struct err *e)
{
	json_t *text = json_string(val);

	if (!text)
		return err_set(e, -EINVAL, "-%s: the value is not valid UTF-8", o->name);
	if (o->kind == OPT_TEXTS)
		json_array_append_new(array_at(desc, o->key), text);
	else
		json_object_set_new(desc, o->key, text);
	return 0;
}

static int take_opt(json_t *desc, const struct opt *o, const char *val,
		    enum options_action *act, struct err *e)
{
	switch (o->kind) {
	case OPT_FLAG:
		json_object_set_new(desc, o->key, json_true());
		return 0;
	case OPT_ACTION:
		*act = (enum options_action)o->action;
		return 0;
	case OPT_READ:
		return read_config(desc, val, e);
	case OPT_SET:
		return set_member(desc, val, e);
	case OPT_OBJECT:
	case OPT_LIST:
		return add_object(desc, o, val, e);
	default:
		return add_text(desc, o, val, e);
	}
}

/* The argument of argv[*i], which @shown describes; NULL with @e. */
static const char *argument(int argc, char **argv, int *i, const char *shown, struct err *e)
{
	if (*i + 1 < argc)
		return argv[++*i];
	err_set(e, -EINVAL, "%s needs an argument: %s", argv[*i], shown);
	return NULL;
}

/* -audiodev '{"id":"a","driver":"none"}' is "none" with an id. */
static bool is_audio_none(const char *name, const char *val)
{
	json_t *o = strcmp(name, "audiodev") ? NULL :
		    json_from_keyval(val, "driver", 0, "-audiodev", NULL);
	bool none = o && strcmp(json_str(o, "driver", ""), "none") == 0;

	json_decref(o);
	return none;
}

static int take_ignored(const struct ignored *ig, int argc, char **argv, int *i, struct err *e)
{
	const char *opt = argv[*i], *val;

	if (!ig->arg)
		return 0;
	val = argument(argc, argv, i, ig->arg, e);
	if (!val)
		return -EINVAL;
	if (!ig->only || strcmp(val, ig->only) == 0 || is_audio_none(ig->option, val))
		return 0;
	return err_set(e, -EINVAL, "%s %s: %s; use %s %s or leave it out", opt, val, ig->why, opt,
		       ig->only);
}

/* argv[*i] and its argument. */
static int parse_one(json_t *desc, int argc, char **argv, int *i, enum options_action *act,
		     struct err *e)
{
	const char *arg = argv[*i], *name = arg + (arg[1] == '-' ? 2 : 1), *val = NULL;
	const struct ignored *ig = ignored_find(name);
	const struct opt *o = find_opt(name);

	if (ig)
		return take_ignored(ig, argc, argv, i, e);
	if (!o)
		return unknown_opt(arg, name, e);
	if (o->arg) {
		val = argument(argc, argv, i, o->arg, e);
		if (!val)
			return -EINVAL;
	}
	return take_opt(desc, o, val, act, e);
}

int options_parse(int argc, char **argv, json_t **desc, enum options_action *act,
		  struct err *e)
{
	int i = argc > 1 && strcmp(argv[1], "run") == 0 ? 2 : 1, r;

	*desc = json_object();
	*act = OPTIONS_RUN;
	for (; i < argc; i++) {
		if (argv[i][0] != '-' || argv[i][1] == '\0')
			r = add_text(*desc, find_opt("hda"), argv[i], e);
		else
			r = parse_one(*desc, argc, argv, &i, act, e);
		if (r || *act == OPTIONS_HELP || *act == OPTIONS_VERSION)
			return r;
	}
	return 0;
}

static void print_opt(const struct opt *o, FILE *f)
{
	char left[80];

	snprintf(left, sizeof(left), "-%s%s%s", o->name, o->arg ? " " : "", o->arg ? o->arg : "");
	if (strlen(left) > 32)
		fprintf(f, "  %s\n  %-32s %s\n", left, "", o->help);
	else
		fprintf(f, "  %-32s %s\n", left, o->help);
}

void options_print_list(FILE *f)
{
	for (size_t i = 0; i < ARRAY_LEN(opts); i++)
		print_opt(&opts[i], f);
}

bool options_print_one(const char *name, FILE *f)
{
	const struct opt *o = find_opt(name);

	if (o)
		print_opt(o, f);
	return o != NULL;
}

bool options_qemu_only(const char *name)
{
	for (int i = 0; qemu_only[i]; i++)
		if (strcmp(qemu_only[i], name) == 0)
			return true;
	return false;
}

bool options_at(size_t i, struct option_info *info)
{
	if (i >= ARRAY_LEN(opts))
		return false;
	*info = (struct option_info){ opts[i].name, opts[i].arg, opts[i].help };
	return true;
}
