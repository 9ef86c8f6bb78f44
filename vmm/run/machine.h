/*
 * vmm/run/machine.h - assembling a VM from its description.
 *
 * Threads: main loop.
 */
#ifndef VMM_RUN_MACHINE_H
#define VMM_RUN_MACHINE_H

#include <jansson.h>
#include <stdbool.h>
#include <stdint.h>

#include "vmm/base/err.h"
#include "vmm/base/prop.h"

struct vm;

/* -machine, -smp, -m, -accel, -rtc, -name, -overcommit as property tables. */
struct machine_opts {
	char *type, *accel, *memory_backend;
	int irqchip;			/* enum machine_irqchip */
	bool usb, dump_guest_core, mem_merge, graphics, i8042;
	int vmport, hpet, acpi;		/* enum prop_auto */
	int eject;			/* enum machine_eject */
	uint32_t root_ports;
};
/* How a guest is asked to let go of a device in a hot-plug slot. */
enum machine_eject { MACHINE_EJECT_ACPI, MACHINE_EJECT_NONE };
enum machine_irqchip { MACHINE_IRQCHIP_ON, MACHINE_IRQCHIP_SPLIT, MACHINE_IRQCHIP_OFF };
extern const struct prop machine_props[];

struct smp_opts {
	uint32_t cpus, maxcpus, sockets, dies, cores, threads;
};
extern const struct prop smp_props[];

struct mem_opts {
	uint64_t size, maxmem;
	uint32_t slots;
};
extern const struct prop mem_props[];

struct accel_opts {
	char *accel, *device;
};
extern const struct prop accel_props[];

struct name_opts {
	char *guest;
	bool debug_threads;
};
extern const struct prop name_props[];

struct overcommit_opts {
	bool mem_lock;
};
extern const struct prop overcommit_props[];

/* -boot: checked, and kept for the firmware that is to come. */
struct boot_opts {
	char *order, *once, *splash;
	bool menu, strict;
	int32_t splash_time, reboot_timeout;
};
extern const struct prop boot_props[];

/* -sandbox: QEMU's words. */
enum sandbox_word { SANDBOX_ALLOW, SANDBOX_DENY, SANDBOX_CHILDREN };
struct sandbox_opts {
	bool enable;
	int obsolete, elevateprivileges, spawn, resourcecontrol;
};
extern const struct prop sandbox_props[];

struct msg_opts {
	bool timestamp;
};
extern const struct prop msg_props[];

/* Memory objects (-object memory-backend-*): what the object's obj is. */
struct mem_backend {
	char *id, *kind, *path;
	uint64_t size;
	bool share, prealloc, merge, dump, hugetlb;
	uint64_t hugetlb_size;
};
extern const struct prop mem_backend_props[];

/* The q35-like machine: create CPUs, memory, buses and fixed devices on @vm,
 * then `machine_add_devices` from the description, then machine_finish()
 * enumerates PCI, writes the tables and loads the kernel. Names of missing or
 * contradictory options are in @e. */
struct machine;
int machine_create(struct vm *vm, struct machine **out, struct err *e);
int machine_finish(struct machine *m, struct err *e);
/* How many root ports -machine asks for. */
uint32_t machine_root_ports(const struct machine *m);
/* After vm_destroy(). NULL is allowed. */
void machine_free(struct machine *m);

/* ---- machine_list.c ---- */

/* NULL-terminated; for query-machines and `-machine help`. */
struct vm_machine_type;
extern const struct vm_machine_type *const machine_list[];
extern const struct vm_machine_type machine_q35_type;
/* Name or alias of one of them, else a sentence. */
int machine_check_type(const char *type, struct err *e);
/* "kvm", also as the first of a list ("kvm:tcg"). */
int machine_check_accel(const char *accel, struct err *e);

/* -add-fd (addfd.c). */
int machine_add_fd(struct vm *vm, const json_t *args, struct err *e);

/* -machine none: no CPU, no memory, no device; to ask what roost has. With KVM
 * where it can be had. */
bool machine_is_none(const json_t *desc);
int machine_none_create(struct vm *vm, struct err *e);
/* The same for `-cpu help`. */
const char *const *machine_cpu_names(void);

#endif
