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

enum opt_kind {
	OPT_FLAG,	/* no argument: key = true */
	OPT_TEXT,	/* key = text; the last one wins */
	OPT_OBJECT,	/* key = object, later ones add members */
	OPT_LIST,	/* append an object to array key */
	OPT_TEXTS,	/* append the text to array key */
	OPT_ACTION,	/* an enum options_action */
	OPT_NONE,	/* argument or not, accepted and without effect here */
	OPT_NONE_ARG,
};

struct opt {
	const char *name;
	enum opt_kind kind;
	const char *key;	/* in the description */
	const char *implied;	/* name of a first bare value */
	bool nest;		/* dots make objects */
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
	{ "enable-kvm", OPT_NONE, NULL, NULL, 0, NULL, "no effect: KVM is what roost runs on", 0 },
	{ "cpu", OPT_TEXT, "cpu", NULL, 0, "MODEL[,+feature,-feature...]",
	  "CPU model (default host; `help` lists)", 0 },
	{ "smp", OPT_OBJECT, "smp", "cpus", 0, "N[,sockets=,dies=,cores=,threads=]",
	  "number of vCPUs and their topology", 0 },
	{ "m", OPT_OBJECT, "memory", "size", 0, "SIZE",
	  "guest memory (default 512M; bare number: MiB)", 0 },
	{ "object", OPT_LIST, "objects", "qom-type", 0, "TYPE,id=ID[,k=v...]",
	  "iothread, memory-backend-ram|memfd|file", 0 },
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
	  "stdio, pty, file, socket, null, ringbuf", 0 },
	{ "serial", OPT_TEXTS, "serials", NULL, 0, "DEV",
	  "serial port on mon:stdio, stdio, pty, file:F, unix:F, chardev:ID, null, none", 0 },
	{ "global", OPT_LIST, "globals", NULL, 0, "DRIVER.PROP=VALUE",
	  "default of a device property", 0 },
	/* control */
	{ "qmp", OPT_TEXTS, "qmps", NULL, 0, "unix:PATH,server=on,wait=off", "QMP socket", 0 },
	{ "mon", OPT_LIST, "mons", "chardev", 0, "chardev=ID,mode=control", "QMP on a chardev", 0 },
	{ "monitor", OPT_TEXTS, "monitors", NULL, 0, "none", "no human monitor; QMP is on -qmp", 0 },
	{ "S", OPT_FLAG, "paused", NULL, 0, NULL, "do not start the vCPUs; wait for QMP cont", 0 },
	{ "no-reboot", OPT_FLAG, "no-reboot", NULL, 0, NULL, "end instead of rebooting", 0 },
	{ "no-shutdown", OPT_FLAG, "no-shutdown", NULL, 0, NULL,
	  "stay when the guest powers off", 0 },
	{ "daemonize", OPT_FLAG, "daemonize", NULL, 0, NULL,
	  "go to the background once everything is set up", 0 },
	{ "pidfile", OPT_TEXT, "pidfile", NULL, 0, "FILE", "write the process id there", 0 },
	{ "nodefaults", OPT_FLAG, "nodefaults", NULL, 0, NULL,
	  "no serial port unless asked for", 0 },
	{ "nographic", OPT_FLAG, "nographic", NULL, 0, NULL,
	  "serial port on the terminal (the default)", 0 },
	{ "msg", OPT_OBJECT, "msg", NULL, 0, "timestamp=on|off", "time stamps in messages", 0 },
	{ "d", OPT_TEXTS, "trace", NULL, 0, "GLOB[,GLOB...]",
	  "trace points to switch on (`help` lists)", 0 },
	{ "D", OPT_TEXT, "logfile", NULL, 0, "FILE", "write messages there", 0 },
	{ "readconfig", OPT_TEXTS, "readconfig", NULL, 0, "FILE",
	  "read a description that -dump-config printed", 0 },
	{ "dump-config", OPT_ACTION, NULL, NULL, 0, NULL,
	  "print the description as JSON and end", OPTIONS_DUMP },
	{ "aio", OPT_TEXT, "aio", NULL, 0, "auto|io_uring|threads",
	  "how loops wait and do file I/O", 0 },
	{ "help", OPT_ACTION, NULL, NULL, 0, NULL, "this text", OPTIONS_HELP },
	{ "h", OPT_ACTION, NULL, NULL, 0, NULL, "the same", OPTIONS_HELP },
	{ "version", OPT_ACTION, NULL, NULL, 0, NULL, "print the version", OPTIONS_VERSION },
	/* accepted because leaving them out changes nothing here */
	{ "display", OPT_NONE_ARG, NULL, NULL, 0, "none", "no effect: there is no display", 0 },
	{ "vga", OPT_NONE_ARG, NULL, NULL, 0, "none", "no effect: there is no VGA", 0 },
	{ "boot", OPT_NONE_ARG, NULL, NULL, 0, "order=...,strict=...",
	  "no effect: the kernel given is what boots", 0 },
	{ "no-user-config", OPT_NONE, NULL, NULL, 0, NULL,
	  "no effect: no configuration file is read", 0 },
	{ "no-hpet", OPT_NONE, NULL, NULL, 0, NULL, "no effect: there is no HPET", 0 },
	{ "overcommit", OPT_OBJECT, "overcommit", NULL, 0, "mem-lock=on|off",
	  "lock guest memory", 0 },
};

/* Options that QEMU has and roost has not: a sentence beats a guess. */
static const char *const qemu_only[] = {
	"bios", "pflash", "netdev", "nic", "net", "usb", "usbdevice", "vnc", "spice",
	"cdrom", "fda", "fdb", "hdb", "hdc", "hdd", "snapshot", "loadvm", "incoming",
	"only-migratable",
	"tpmdev", "audiodev", "audio", "fsdev", "virtfs", "parallel", "gdb", "s",
	"icount", "watchdog-action", "runas", "chroot", "sandbox", "fw_cfg", "dtb",
	"set", "writeconfig", "numa", "mem-path", "mem-prealloc", "option-rom", "semihosting",
	"k", "full-screen", "win2k-hack", "no-acpi", "add-fd", "trace", "plugin", "qtest",
	"action", "qmp-pretty", "singlestep", "preconfig", "enable-fips", "iscsi", "acpitable",
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

	for (int i = 0; qemu_only[i]; i++)
		if (strcmp(qemu_only[i], name) == 0)
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

/* A description from a file, as if its options stood here. */
static int read_config(json_t *desc, const char *path, struct err *e)
{
	json_error_t je;
	json_t *o = json_load_file(path, JSON_REJECT_DUPLICATES, &je), *val, *item;
	const char *key;
	size_t i;

	if (!json_is_object(o)) {
		json_decref(o);
		return err_set(e, -EINVAL, "-readconfig %s: line %d: %s", path,
			       je.line, o ? "a JSON object is needed" : je.text);
	}
	json_object_foreach(o, key, val) {
		if (json_is_array(val)) {
			json_array_foreach(val, i, item)
				json_array_append(array_at(desc, key), item);
		} else if (json_is_object(val) && json_is_object(json_object_get(desc, key))) {
			json_object_update(json_object_get(desc, key), val);
		} else {
			json_object_set(desc, key, val);
		}
	}
	json_decref(o);
	return 0;
}

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
	case OPT_NONE:
	case OPT_NONE_ARG:
		return 0;
	case OPT_OBJECT:
	case OPT_LIST:
		return add_object(desc, o, val, e);
	default:
		if (strcmp(o->name, "readconfig") == 0)
			return read_config(desc, val, e);
		return add_text(desc, o, val, e);
	}
}

static bool takes_arg(const struct opt *o)
{
	return o->kind != OPT_FLAG && o->kind != OPT_ACTION && o->kind != OPT_NONE;
}

int options_parse(int argc, char **argv, json_t **desc, enum options_action *act,
		  struct err *e)
{
	const struct opt *o;
	const char *name, *val;
	int i = 1, r;

	*desc = json_object();
	*act = OPTIONS_RUN;
	if (argc > 1 && strcmp(argv[1], "run") == 0)
		i = 2;
	for (; i < argc; i++) {
		if (argv[i][0] != '-' || argv[i][1] == '\0') {
			r = add_text(*desc, find_opt("hda"), argv[i], e);
			if (r)
				return r;
			continue;
		}
		name = argv[i] + (argv[i][1] == '-' ? 2 : 1);
		o = find_opt(name);
		if (!o)
			return unknown_opt(argv[i], name, e);
		val = NULL;
		if (takes_arg(o)) {
			if (i + 1 == argc)
				return err_set(e, -EINVAL, "%s needs an argument: %s",
					       argv[i], o->arg);
			val = argv[++i];
		}
		r = take_opt(*desc, o, val, act, e);
		if (r)
			return r;
		if (*act == OPTIONS_HELP || *act == OPTIONS_VERSION)
			return 0;
	}
	return 0;
}

void options_print_help(FILE *f)
{
	char left[80];

	fprintf(f,
		"usage: roost [OPTIONS] [IMAGE...]\n"
		"       roost run [OPTIONS] [IMAGE...]\n\n"
		"Start a virtual machine. IMAGE is a raw disk image, shown to the guest as a\n"
		"virtio disk. The serial port is on this terminal; Ctrl-A x ends roost and\n"
		"Ctrl-A h lists the other keys.\n\n");
	for (size_t i = 0; i < ARRAY_LEN(opts); i++) {
		snprintf(left, sizeof(left), "-%s%s%s", opts[i].name,
			 opts[i].arg ? " " : "", opts[i].arg ? opts[i].arg : "");
		if (strlen(left) > 32)
			fprintf(f, "  %s\n  %-32s %s\n", left, "", opts[i].help);
		else
			fprintf(f, "  %-32s %s\n", left, opts[i].help);
	}
	fprintf(f, "\nExit status: 0 the guest powered off or the user quit, 1 an error; a guest\n"
		"with an isa-debug-exit device chooses its own odd status.\n");
}
