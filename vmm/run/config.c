/*
 * vmm/run/config.c - property tables of the options that are not devices.
 */
#include "vmm/base/util.h"
#include "vmm/run/machine.h"

static const char *const irqchip_words[] = {
	[MACHINE_IRQCHIP_ON] = "on", [MACHINE_IRQCHIP_SPLIT] = "split",
	[MACHINE_IRQCHIP_OFF] = "off", NULL
};

static const char *const eject_words[] = {
	[MACHINE_EJECT_ACPI] = "acpi", [MACHINE_EJECT_NONE] = "none", NULL
};

const struct prop machine_props[] = {
	PROP_STR(struct machine_opts, type, "type", "q35", "machine type"),
	PROP_STR(struct machine_opts, accel, "accel", "kvm", "accelerator"),
	PROP_ENUM(struct machine_opts, irqchip, "kernel-irqchip", irqchip_words,
		  MACHINE_IRQCHIP_ON, "interrupt controllers in the kernel; split: IOAPIC here"),
	PROP_LINK(struct machine_opts, memory_backend, "memory-backend",
		  "memory backend", "object that guest memory comes from"),
	PROP_BOOL(struct machine_opts, dump_guest_core, "dump-guest-core", 1,
		  "guest memory in core dumps"),
	PROP_BOOL(struct machine_opts, mem_merge, "mem-merge", 0,
		  "let the host merge identical pages"),
	PROP_BOOL(struct machine_opts, usb, "usb", 0, "accepted; must be off"),
	PROP_BOOL(struct machine_opts, graphics, "graphics", 0, "accepted; there is none"),
	/* 29 slots of 8 are free on the root bus; 254 bus numbers. */
	PROP_U32(struct machine_opts, root_ports, "root-ports", 0, 232, 0,
		 "PCIe root ports to add, named rp1, rp2, …"),
	PROP_ENUM(struct machine_opts, eject, "pci-eject", eject_words, MACHINE_EJECT_ACPI,
		  "how the guest is asked to let go of a device in a hot-plug slot",
		  .flags = PROP_GUEST),
	PROP_ONOFFAUTO(struct machine_opts, hpet, "hpet", PROP_OFF, "accepted; there is none"),
	PROP_ONOFFAUTO(struct machine_opts, vmport, "vmport", PROP_OFF, "accepted; there is none"),
	PROP_ONOFFAUTO(struct machine_opts, acpi, "acpi", PROP_ON, "accepted; always there"),
	PROP_BOOL(struct machine_opts, i8042, "i8042", 1, "keyboard controller"),
	PROP_END
};

const struct prop smp_props[] = {
	PROP_U32(struct smp_opts, cpus, "cpus", 0, 255, 0, "vCPUs at start"),
	PROP_U32(struct smp_opts, maxcpus, "maxcpus", 0, 255, 0, "vCPUs at most"),
	PROP_U32(struct smp_opts, sockets, "sockets", 0, 255, 0, "sockets"),
	PROP_U32(struct smp_opts, dies, "dies", 0, 255, 0, "dies in a socket"),
	PROP_U32(struct smp_opts, cores, "cores", 0, 255, 0, "cores in a die"),
	PROP_U32(struct smp_opts, threads, "threads", 0, 255, 0, "threads in a core"),
	PROP_END
};

/* 16 MiB is less than any kernel needs; 4 TiB is more than KVM's tables like. */
const struct prop mem_props[] = {
	PROP_SIZE(struct mem_opts, size, "size", 16 * MIB, 4096 * GIB, 512 * MIB,
		  "guest memory", .unit = "bytes", .bare = MIB),
	PROP_SIZE(struct mem_opts, maxmem, "maxmem", 0, 4096 * GIB, 0,
		  "memory at most, hot-plugged parts included", .unit = "bytes", .bare = MIB),
	PROP_U32(struct mem_opts, slots, "slots", 0, 256, 0, "memory hot-plug slots"),
	PROP_END
};

const struct prop accel_props[] = {
	PROP_STR(struct accel_opts, accel, "accel", "kvm", "accelerator"),
	PROP_STR(struct accel_opts, device, "device", "/dev/kvm", "path of KVM's device"),
	PROP_END
};

const struct prop name_props[] = {
	PROP_STR(struct name_opts, guest, "guest", NULL, "the guest's name"),
	PROP_BOOL(struct name_opts, debug_threads, "debug-threads", 1,
		  "accepted; threads always have names"),
	PROP_END
};

const struct prop overcommit_props[] = {
	PROP_BOOL(struct overcommit_opts, mem_lock, "mem-lock", 0, "lock all memory"),
	PROP_END
};

const struct prop boot_props[] = {
	PROP_STR(struct boot_opts, order, "order", NULL, "letters of drives, c is the first disk"),
	PROP_STR(struct boot_opts, once, "once", NULL, "order of the first start only"),
	PROP_BOOL(struct boot_opts, menu, "menu", 0, "offer a boot menu"),
	PROP_BOOL(struct boot_opts, strict, "strict", 0, "only devices with a bootindex"),
	PROP_STR(struct boot_opts, splash, "splash", NULL, "picture to show"),
	PROP_I32(struct boot_opts, splash_time, "splash-time", -1, 65535, -1, "how long",
		 .unit = "ms"),
	PROP_I32(struct boot_opts, reboot_timeout, "reboot-timeout", -1, 65535, -1,
		 "pause before trying again", .unit = "ms"),
	PROP_END
};

static const char *const allow_words[] = { "allow", "deny", NULL };
static const char *const elevate_words[] = { "allow", "deny", "children", NULL };

const struct prop sandbox_props[] = {
	PROP_BOOL(struct sandbox_opts, enable, "enable", 0, "put the filter on"),
	PROP_ENUM(struct sandbox_opts, obsolete, "obsolete", allow_words, SANDBOX_DENY,
		  "accepted; always denied"),
	PROP_ENUM(struct sandbox_opts, elevateprivileges, "elevateprivileges", elevate_words,
		  SANDBOX_ALLOW, "accepted; always denied"),
	PROP_ENUM(struct sandbox_opts, spawn, "spawn", allow_words, SANDBOX_ALLOW,
		  "accepted; always denied"),
	PROP_ENUM(struct sandbox_opts, resourcecontrol, "resourcecontrol", allow_words,
		  SANDBOX_ALLOW, "affinity and priority of threads may be changed"),
	PROP_END
};

const struct prop msg_props[] = {
	PROP_BOOL(struct msg_opts, timestamp, "timestamp", 0, "time in front of messages"),
	PROP_END
};

const struct prop mem_backend_props[] = {
	PROP_STR(struct mem_backend, kind, "qom-type", NULL, "kind of object"),
	PROP_STR(struct mem_backend, id, "id", NULL, "name for memory-backend=",
		 .flags = PROP_REQUIRED),
	PROP_SIZE(struct mem_backend, size, "size", 16 * MIB, 4096 * GIB, 512 * MIB,
		  "bytes", .unit = "bytes", .flags = PROP_REQUIRED),
	PROP_STR(struct mem_backend, path, "mem-path", NULL, "file or directory it lives in"),
	PROP_BOOL(struct mem_backend, share, "share", 0,
		  "let other processes map it (always on for memfd and file)"),
	PROP_BOOL(struct mem_backend, prealloc, "prealloc", 0, "touch all pages at start"),
	PROP_BOOL(struct mem_backend, merge, "merge", 0, "let the host merge identical pages"),
	PROP_BOOL(struct mem_backend, dump, "dump", 1, "part of core dumps"),
	PROP_BOOL(struct mem_backend, hugetlb, "hugetlb", 0, "huge pages (memory-backend-memfd)"),
	PROP_SIZE(struct mem_backend, hugetlb_size, "hugetlbsize", 0, 1 * GIB, 0,
		  "size of a huge page", .unit = "bytes"),
	PROP_END
};
