/*
 * vmm/arch/x86/x86.h - what the q35 machine (vmm/run) asks of the
 * architecture: CPUs, interrupt controllers, firmware tables.
 *
 * Threads: main loop, before the vCPUs run or while they are parked.
 */
#ifndef VMM_ARCH_X86_X86_H
#define VMM_ARCH_X86_X86_H

#include <jansson.h>
#include <stdbool.h>
#include <stdint.h>

#include "vmm/base/err.h"
#include "vmm/boot/boot.h"

struct gmem;
struct kvm;
struct vcpu;
struct vm;

/* -smp: cpus = sockets * dies * cores * threads. */
struct x86_topology {
	uint32_t cpus, sockets, dies, cores, threads;
};
/* Fill what is 0 from the rest as QEMU 6.2 and later do (cores before
 * sockets); refuse products that do not match, and more than @max CPUs. */
int x86_topology_complete(struct x86_topology *t, uint32_t max, struct err *e);
uint32_t x86_apic_id(const struct x86_topology *t, uint32_t index);

/*
 * -cpu: "host", "max" or a named model, then ,+feat,-feat,feat=on|off. A named
 * model is honest: features it lacks are masked out, features it has and KVM
 * lacks are an error with enforce=on, else a warning with check=on.
 */
struct x86_cpu_model;
int x86_cpu_parse(struct x86_cpu_model **out, const char *text, struct kvm *k, struct err *e);
void x86_cpu_free(struct x86_cpu_model *m);
/* NULL-terminated names for `-cpu help` and query-cpu-definitions. */
const char *const *x86_cpu_names(void);

/* In-kernel irqchip (or split: APICs in the kernel, IOAPIC routes from user
 * space), PIT, identity map, TSS; sets vm->irq. Before vCPUs are created. */
int x86_irqchip_create(struct vm *vm, bool split, struct err *e);

/*
 * The IOAPIC of a split irqchip lives in user space (devices/x86/ioapic.c,
 * which the machine creates when x86_irqchip_is_split()). Any thread; the
 * callbacks must not take the device's lock.
 */
struct x86_ioapic_ops {
	void (*set_line)(void *arg, uint32_t gsi, bool level);
	void (*eoi)(void *arg, uint8_t vector);	/* a level vector was acknowledged */
};
bool x86_irqchip_is_split(const struct vm *vm);
void x86_ioapic_connect(struct vm *vm, const struct x86_ioapic_ops *ops, void *arg);
/* Have KVM report EOIs of the vector in @m for @pin; NULL: no longer. Waits
 * for readers in the kernel: no lock that the data path takes. */
struct irq_msg;
int x86_ioapic_route(struct vm *vm, uint32_t pin, const struct irq_msg *m);

/* Create vm->vcpu[] with CPUID, MSRs, APIC ids. */
int x86_cpus_create(struct vm *vm, const struct x86_topology *t,
		    const struct x86_cpu_model *m, struct err *e);
/* Reset state for all; the boot processor gets @bs (NULL: reset vector). The
 * in-kernel interrupt controllers reset with the devices. */
int x86_cpus_reset(struct vm *vm, const struct boot_state *bs, struct err *e);
/* Physical address bits the guest sees. */
unsigned int x86_phys_bits(const struct vm *vm);

/* ACPI: what differs between machines. AML comes from compiled ASL. */
/* A PCI bridge, for the objects of what may be ejected behind it. */
struct acpi_bridge {
	uint8_t slot, function;
	uint8_t depth;		/* 0: on the root bus */
	uint8_t root;		/* that bus's number */
	uint16_t number;	/* of its hot-plug slot in pci/eject.c, 0: none */
};

struct acpi_memory {
	uint32_t node;
	uint64_t base, size;
};

/* A root bus: a host bridge with what is behind it. */
struct acpi_host {
	/* The last number is the highest in use or held for hot-plug. Linux
	 * looks for forgotten host bridges on every bus that MCFG offers and it
	 * has not found: two exits for each of 32 slots. */
	uint8_t first_bus, last_bus;
	uint16_t node;			/* ACPI_NODE_NONE: no NUMA node */
	uint64_t mmio32_base, mmio32_size;
	uint64_t mmio64_base, mmio64_size;
	uint32_t pio_base, pio_size;
};
#define ACPI_NODE_NONE 0xffff

struct acpi_info {
	const struct x86_topology *topo;
	uint32_t cpus;
	uint64_t ecam_base;
	uint16_t pm_base;
	uint8_t sci_irq;
	uint32_t pci_gsi_base;
	uint8_t com_ports;	/* bit 0: COM1 at 0x3f8, then 0x2f8, 0x3e8, 0x2e8 */
	bool i8042;		/* a controller with keyboard and mouse */
	bool pvpanic, rtc;
	bool no_pic;		/* split irqchip: no 8259s */
	uint32_t nodes;		/* 0: no SRAT and SLIT */
	const uint8_t *cpu_node;		/* cpus entries */
	const uint8_t *distance;		/* nodes x nodes */
	const struct acpi_memory *memory;
	size_t memory_count;
	const struct acpi_host *hosts;		/* pcie.0 first; borrowed */
	size_t host_count;
	/* Parents before their children, in the order of a walk; borrowed. */
	const struct acpi_bridge *bridges;
	size_t bridge_count;
};
/* Write the tables at @base (size @space) and the RSDP at 0xe0000 or later
 * below 1 MiB; *rsdp gets its address, *used the bytes at @base. */
int acpi_build(struct gmem *gm, const struct acpi_info *a, uint64_t base,
	       uint64_t space, uint64_t *rsdp, uint64_t *used, struct err *e);

/* SMBIOS 3.0 entry point in the low BIOS area, after the RSDP. */
struct smbios_info {
	const uint8_t *uuid;	/* 16 bytes, NULL: none */
	const char *name;
	uint64_t ram_bytes;
	const struct x86_topology *topo;
	const json_t *overrides;	/* -smbios type=1,manufacturer=… objects */
};
int smbios_build(struct gmem *gm, const struct smbios_info *s, uint64_t base,
		 uint64_t space, struct err *e);

#endif
