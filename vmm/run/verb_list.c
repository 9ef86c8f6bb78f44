/*
 * vmm/run/verb_list.c - every native verb: a row each.
 */
#include <stddef.h>

#include "vmm/run/verb.h"

const struct prop verb_json_opts[] = {
	PROP_BOOL(struct verb_opts, json, "json", 0, "print JSON instead of a table"),
	PROP_END
};

const struct prop verb_stop_opts[] = {
	PROP_U32(struct verb_opts, timeout, "timeout", 0, 86400, 60,
		 "how long the guest may take to power off", .unit = "s"),
	PROP_END
};

const struct prop verb_log_opts[] = {
	PROP_BOOL(struct verb_opts, follow, "follow", 0, "go on until the VM ends"),
	PROP_END
};

static const struct prop console_opts[] = {
	PROP_BOOL(struct verb_opts, read_only, "read-only", 0, "watch, and type nothing"),
	PROP_BOOL(struct verb_opts, take, "take", 0,
		  "take the keyboard from whoever has it"),
	PROP_END
};

#define LIVE_OR_CONFIG							\
	PROP_BOOL(struct verb_opts, live, "live", 0,			\
		  "change the running VM (the default)"),		\
	PROP_BOOL(struct verb_opts, config, "config", 0,		\
		  "change its stored configuration, for the next start")

static const struct prop attach_opts[] = {
	LIVE_OR_CONFIG,
	PROP_END
};

static const struct prop detach_opts[] = {
	LIVE_OR_CONFIG,
	PROP_U32(struct verb_opts, timeout, "timeout", 0, 86400, 60,
		 "how long the guest may take to let go of it", .unit = "s"),
	PROP_END
};

const struct verb verbs[] = {
	{ "run", "[OPTIONS] [IMAGE...]", 0, -1, NULL, NULL, "start a virtual machine",
	  "`run` may be left out before an option or an image that exists. Without -machine\n"
	  "and -nodefaults it is a q35 with two vCPUs, 1 GiB, each image a virtio disk on a\n"
	  "root port of its own, and four empty root ports; -dump-config prints all that.\n"
	  "The VM is called as -name says, or after its first image.", true },
	{ "ps", "", 0, 0, verb_json_opts, verb_ps, "list the running VMs", NULL },
	{ "disks", "NAME", 1, 1, verb_json_opts, verb_disks, "list a VM's disks", NULL },
	{ "attach", "NAME DEVICE[,k=v...] [IMAGE]", 2, 3, attach_opts, verb_attach,
	  "plug a device into a running VM",
	  "With IMAGE, a disk image, the device is a disk on it. A free root port is taken\n"
	  "unless bus= names one. With --config the device is added to the file that the VM\n"
	  "was started from with -readconfig, instead or, with --live as well, also; NAME\n"
	  "may be that file (a path with a slash, or ending in .json)." },
	{ "detach", "NAME ID", 2, 2, detach_opts, verb_detach,
	  "unplug a device from a running VM",
	  "With --config it is taken out of the file that the VM was started from." },
	{ "topology", "NAME", 1, 1, verb_json_opts, verb_topology,
	  "draw a VM's PCI tree with its free ports", NULL },
	{ "snapshot", "create NAME [SNAPSHOT] [--disk DISK[=FILE]]... [--quiesce] | "
	  "list NAME [--json] | delete|revert NAME SNAPSHOT [--disk DISK]...", 0, -1,
	  NULL, verb_snapshot, "freeze a running VM's disks, list what was frozen, go back to it",
	  "From then on the guest writes to new qcow2 files, FILE or, for root.raw and the\n"
	  "snapshot monday, root.monday.qcow2; the files before are left as they are. All\n"
	  "disks that it writes to, or those named by device, drive or node: all of them at\n"
	  "one point in time, or none. Without SNAPSHOT it is called after the time.\n"
	  "--quiesce lets the guest's agent freeze its file systems for that moment; its\n"
	  "socket is found, or given with --agent SOCKET.\n"
	  "delete forgets a snapshot: what was written since then, up to the next one, goes\n"
	  "into the file below, while the guest runs, and the snapshot's own file is removed.\n"
	  "revert takes the disks back to that moment and resets the guest; what was written\n"
	  "since then stays in files that nothing uses any more.", true },
	{ "stop", "NAME", 1, 1, verb_stop_opts, verb_stop,
	  "press the power button and wait for the guest to be off", NULL },
	{ "kill", "NAME", 1, 1, NULL, verb_kill, "end a VM at once",
	  "The guest has no say. Its process is asked to quit, which lets the disks finish;\n"
	  "one that does not answer is killed." },
	{ "pause", "NAME", 1, 1, NULL, verb_pause, "stop the guest's CPUs", NULL },
	{ "resume", "NAME", 1, 1, NULL, verb_resume, "let a paused guest run on", NULL },
	{ "reset", "NAME", 1, 1, NULL, verb_reset, "press the reset button", NULL },
	{ "console", "NAME", 1, 1, console_opts, verb_console,
	  "attach this terminal to a VM's console",
	  "Everything the guest wrote is shown first, from the first byte that is kept\n"
	  "(256 KiB); Ctrl-] leaves. Many may watch; one has the keyboard, at first the\n"
	  "terminal that roost was started on. Standard input may be a pipe or a file." },
	{ "monitor", "NAME", 1, 1, NULL, verb_monitor, "talk QMP to a VM",
	  "A line is a command with k=v arguments (qom-get path=/machine property=type), or\n"
	  "a JSON object. Tab completes commands, arguments and their values; the arrow\n"
	  "keys bring back earlier lines; Ctrl-D ends. Commands may also come from a pipe." },
	{ "events", "NAME", 1, 1, verb_json_opts, verb_events,
	  "print a VM's events as they happen", NULL },
	{ "log", "NAME", 1, 1, verb_log_opts, verb_log,
	  "print what a VM's process had to say", NULL },
	{ "img", "COMMAND [OPTIONS] FILE...", 0, -1, NULL, verb_img, "make, check, copy disk images",
	  "create, info, check, map, convert, compare, resize, commit, rebase, bench: options,\n"
	  "words and exit statuses are qemu-img's. `roost img` alone lists their options.",
	  true },
	{ "help", "[VERB|OPTION|DEVICE]", 0, -1, NULL, verb_help,
	  "explain a verb, an option or a device",
	  "`roost help ignored` lists the options that are taken and change nothing.", true },
	{ 0 }
};
