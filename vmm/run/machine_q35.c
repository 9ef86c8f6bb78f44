/*
 * vmm/run/machine_q35.c - the q35-like machine: what is fixed on it, and how
 * it starts.
 *
 * Threads: main loop. The vCPUs do not run while anything here does.
 * Missing: firmware (fw_cfg, pflash), memory and vCPU hot-plug.
 */
#include <errno.h>
#include <linux/kvm.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "devices/x86/x86_devices.h"
#include "pci/pci.h"
#include "vmm/arch/x86/layout.h"
#include "vmm/arch/x86/x86.h"
#include "vmm/base/json.h"
#include "vmm/base/util.h"
#include "vmm/core/kvm.h"
#include "vmm/core/object.h"
#include "vmm/core/vcpu.h"
#include "vmm/core/vm.h"
#include "vmm/run/machine.h"
#include "vmm/run/numa.h"
#include "vmm/run/machine_q35_ram.h"

#define SERIAL_PORTS	4
#define MMIO64_ALIGN	(32 * GIB)	/* as QEMU's q35: leaves room above RAM */
#define MMIO64_SIZE	(256 * GIB)

struct machine {
	struct vm *vm;
	struct machine_opts opts;
	struct accel_opts accel;
	struct x86_topology topo;
	struct x86_cpu_model *cpu;
	struct numa numa;
	struct ram ram;
	uint64_t tables;			/* guest address of the ACPI area */
	struct pci_windows win;
	struct dev *lpc, *rtc;
	json_t *desc;				/* borrowed: vm->desc */
};

static const struct prop *const machine_tables[] = { machine_props, NULL };
static const struct prop *const smp_tables[] = { smp_props, NULL };
static const struct prop *const accel_tables[] = { accel_props, NULL };


const char *const *machine_cpu_names(void)
{
	return x86_cpu_names();
}

const struct vm_machine_type machine_q35_type = {
	.name = "pc-q35-8.2", .alias = "q35", .help = "PC with PCI Express (ICH9, 2009)",
	.cpu_max = 255, .is_default = true, .default_cpu_type = "host-x86_64-cpu",
	.default_ram_id = "pc.ram", .props = machine_props,
};

/* Options that ask for something this build does not have. */
static int refuse_absent(const struct machine *m, struct err *e)
{
	int r = machine_check_accel(m->opts.accel, e);

	if (r == 0)
		r = machine_check_accel(m->accel.accel, e);
	if (r)
		return r;
	if (m->opts.irqchip == MACHINE_IRQCHIP_OFF)
		return err_set(e, -EINVAL, "-machine kernel-irqchip=off: not "
			       "supported; use on or split");
	if (m->opts.usb)
		return err_set(e, -EINVAL, "-machine usb=on: there are no USB "
			       "controllers yet; leave it off");
	if (m->opts.hpet == PROP_ON)
		return err_set(e, -EINVAL, "-machine hpet=on: there is no HPET; leave it off");
	return 0;
}

static int read_options(struct machine *m, struct err *e)
{
	int r;

	prop_defaults(machine_tables, &m->opts);
	prop_defaults(accel_tables, &m->accel);
	r = prop_apply(machine_tables, &m->opts, json_object_get(m->desc, "machine"),
		       NULL, "-machine", e);
	if (r == 0)
		r = prop_apply(accel_tables, &m->accel, json_object_get(m->desc, "accel"),
			       NULL, "-accel", e);
	if (r == 0)
		r = machine_check_type(m->opts.type, e);
	if (r == 0)
		r = refuse_absent(m, e);
	return r;
}

static int read_smp(struct machine *m, struct err *e)
{
	struct smp_opts s = { 0 };
	int r;

	prop_defaults(smp_tables, &s);
	r = prop_apply(smp_tables, &s, json_object_get(m->desc, "smp"), NULL, "-smp", e);
	if (r)
		return r;
	if (s.maxcpus && s.cpus && s.maxcpus != s.cpus)
		return err_set(e, -EINVAL, "-smp cpus=%u,maxcpus=%u: vCPU hot-plug is not "
			       "supported; make them equal", s.cpus, s.maxcpus);
	m->topo = (struct x86_topology){ s.cpus ? s.cpus : s.maxcpus, s.sockets,
					 s.dies, s.cores, s.threads };
	return x86_topology_complete(&m->topo, m->vm->kvm->vcpus_max, e);
}

static int create_memory(struct machine *m, struct err *e)
{
	int r = numa_read(&m->numa, m->desc, m->topo.cpus, e);

	if (r == 0)
		r = ram_create(&m->ram, m->vm, &m->opts, &m->numa, e);
	if (r)
		return r;
	m->tables = m->ram.low - X86_TABLES_SIZE;
	m->vm->numa_nodes = m->numa.nodes;
	m->vm->cpu_node = m->numa.cpu_node;
	return kvm_map_memory(m->vm->kvm, m->vm->mem, e);
}

/* The 64-bit window: above RAM, inside what the CPU can address. */
static int choose_windows(struct machine *m, struct err *e)
{
	uint64_t top = 1ull << x86_phys_bits(m->vm);
	uint64_t base = align_up(X86_RAM_HIGH_BASE + m->ram.high, MMIO64_ALIGN);

	if (X86_RAM_HIGH_BASE + m->ram.high > top)
		return err_set(e, -EINVAL, "-m %llu: the CPU addresses %u bits; use less memory",
			       (unsigned long long)m->ram.bytes, x86_phys_bits(m->vm));
	m->win = (struct pci_windows){
		.ecam_base = X86_ECAM_BASE, .buses = 255,
		.mmio32_base = X86_MMIO32_BASE,
		.mmio32_size = X86_MMIO32_END - X86_MMIO32_BASE,
		.pio_base = X86_PIO_BASE, .pio_size = X86_PIO_SIZE,
	};
	if (base < top) {
		m->win.mmio64_base = base;
		m->win.mmio64_size = MIN(MMIO64_SIZE, top - base);
	}
	return 0;
}

/* PIRQs A..H are IOAPIC inputs 16..23; root bus slot and pin rotate over them
 * (the DSDT's _PRT says the same). */
static uint32_t intx_gsi(struct pci_root *r, uint8_t slot, uint8_t pin)
{
	return X86_PCI_GSI_BASE + (uint32_t)(slot + pin) % 8;
}

static void raise_eject(struct pci_root *r)
{
	lpc_gpe(r->eject_arg, X86_EJECT_GPE);
}

static int create_pci(struct machine *m, struct err *e)
{
	struct vm *vm = m->vm;
	json_t *args;
	int r = choose_windows(m, e);

	if (r == 0)
		r = pci_root_create(vm, &m->win, true, e);
	if (r)
		return r;
	vm->pci->intx_gsi = intx_gsi;
	args = json_pack("{s:s}", "addr", "1f.0");
	r = dev_create_type(vm, &lpc_type, args, &m->lpc, e);
	json_decref(args);
	if (r == 0 && m->opts.eject == MACHINE_EJECT_ACPI) {
		vm->pci->eject_raise = raise_eject;
		vm->pci->eject_arg = m->lpc;
		r = pci_eject_create(vm->pci, X86_EJECT_BASE);
	}
	return r;
}

static int create_platform(struct machine *m, struct err *e)
{
	json_t *rtc = json_object_get(m->desc, "rtc"), *args;
	int r;

	args = rtc ? json_deep_copy(rtc) : json_object();
	r = dev_create_type(m->vm, &rtc_type, args, &m->rtc, e);
	json_decref(args);
	if (r == 0 && m->opts.i8042)
		r = dev_create_type(m->vm, &i8042_type, NULL, NULL, e);
	if (r == 0 && x86_irqchip_is_split(m->vm))
		r = dev_create_type(m->vm, &ioapic_type, NULL, NULL, e);
	return r;
}

static int create_cpus(struct machine *m, struct err *e)
{
	const char *text = json_str(m->desc, "cpu", "host");
	int r = x86_cpu_parse(&m->cpu, text, m->vm->kvm, e);

	return r ? r : x86_cpus_create(m->vm, &m->topo, m->cpu, e);
}

static void add_range(struct boot_info *b, uint64_t base, uint64_t end, uint32_t type)
{
	if (end > base)
		b->map[b->map_count++] = (struct boot_range){ base, end - base, type };
}

enum { E820_RAM = 1, E820_RESERVED = 2, E820_ACPI = 3 };

static void describe_memory(const struct machine *m, struct boot_info *b)
{
	add_range(b, 0, X86_EBDA_BASE, E820_RAM);
	add_range(b, X86_EBDA_BASE, 0xa0000, E820_RESERVED);
	add_range(b, X86_BIOS_LOW_BASE, X86_BIOS_LOW_END, E820_RESERVED);
	add_range(b, X86_BIOS_LOW_END, m->tables, E820_RAM);
	add_range(b, m->tables, m->ram.low, E820_ACPI);
	add_range(b, X86_ECAM_BASE, X86_ECAM_BASE + X86_ECAM_SIZE, E820_RESERVED);
	add_range(b, X86_RAM_HIGH_BASE, X86_RAM_HIGH_BASE + m->ram.high, E820_RAM);
	b->ram_low_end = m->ram.low;
	b->tables_base = m->tables;
}

/* The highest bus number that enumeration gave out or held back below @b. */
static uint8_t last_bus(const struct pci_bus *b)
{
	uint8_t last = b->number;

	for (int i = 0; i < 256; i++) {
		const struct pci_dev *p = b->slot[i];

		if (p && p->child)
			last = MAX(last, p->config[PCI_SUBORDINATE_BUS]);
	}
	return last;
}

static void note_com_port(const struct bus_win *w, void *arg)
{
	static const uint16_t base[SERIAL_PORTS] = { 0x3f8, 0x2f8, 0x3e8, 0x2e8 };
	uint8_t *ports = arg;

	for (unsigned int i = 0; i < SERIAL_PORTS; i++)
		if (w->base == base[i])
			*ports |= (uint8_t)BIT(i);
}

static uint8_t com_ports(const struct vm *vm)
{
	uint8_t ports = 0;

	bus_each(vm->bus[BUS_PIO], note_com_port, &ports);
	return ports;
}

struct bridge_list {
	struct acpi_bridge *v;
	size_t n;
	bool eject;
};

static void note_bridge(struct pci_dev *p, void *arg)
{
	struct bridge_list *l = arg;
	const struct pci_bus *b = p->bus;
	uint8_t depth = 0;

	if (!p->child)
		return;
	for (; b->bridge; b = b->bridge->bus)
		depth++;
	l->v = xrealloc(l->v, (l->n + 1) * sizeof(l->v[0]));
	l->v[l->n++] = (struct acpi_bridge){ p->devfn >> 3, p->devfn & 7, depth, b->number,
					     l->eject ? p->child->slot_hp.number : 0 };
}

/* Windows of the root buses are what enumeration left to each. */
static void describe_host(struct acpi_host *h, const struct pci_bus *b)
{
	const struct pci_need *mem = &b->need[PCI_SPACE_MEM], *io = &b->need[PCI_SPACE_IO];
	const struct pci_need *pref = &b->need[PCI_SPACE_PREF];

	*h = (struct acpi_host){
		.first_bus = b->number, .last_bus = last_bus(b), .node = b->numa_node,
		.mmio32_base = mem->base, .mmio32_size = mem->size,
		.mmio64_base = pref->base, .mmio64_size = pref->size,
		.pio_base = (uint32_t)io->base, .pio_size = (uint32_t)io->size,
	};
}

/* pcie.0 first; the caller frees them. */
static struct acpi_host *describe_hosts(const struct pci_root *r, size_t *n)
{
	struct acpi_host *hosts = NULL;
	struct pci_bus *b = NULL;

	for (*n = 0; (b = pci_root_bus_next(r, b)); (*n)++) {
		hosts = xrealloc(hosts, (*n + 1) * sizeof(hosts[0]));
		describe_host(&hosts[*n], b);
	}
	return hosts;
}

static int write_tables(struct machine *m, uint64_t *rsdp, struct err *e)
{
	struct bridge_list bridges = { .eject = m->opts.eject == MACHINE_EJECT_ACPI };
	struct vm *vm = m->vm;
	struct acpi_info a = {
		.topo = &m->topo, .cpus = m->topo.cpus,
		.ecam_base = m->win.ecam_base,
		.pm_base = X86_PM_BASE, .sci_irq = X86_SCI_IRQ,
		.pci_gsi_base = X86_PCI_GSI_BASE,
		.com_ports = com_ports(vm),
		/* The controller is there for its reset pulse; without a
		 * keyboard a guest that probes for one waits for answers. */
		.i8042 = false, .rtc = true,
		.no_pic = m->opts.irqchip == MACHINE_IRQCHIP_SPLIT,
		.nodes = m->numa.nodes, .cpu_node = m->numa.cpu_node,
		.distance = m->numa.distance,
		.memory = m->ram.range, .memory_count = m->ram.ranges,
	};
	struct acpi_host *hosts;
	struct smbios_info s = {
		.uuid = vm->has_uuid ? vm->uuid : NULL, .name = vm->name,
		.ram_bytes = m->ram.bytes, .topo = &m->topo,
		.overrides = json_object_get(m->desc, "smbios"),
	};
	uint64_t used;
	int r;

	for (struct dev *d = vm->devs; d; d = d->next)
		if (d->type == &pvpanic_type)
			a.pvpanic = true;
	hosts = describe_hosts(vm->pci, &a.host_count);
	a.hosts = hosts;
	pci_each(vm->pci, note_bridge, &bridges);
	a.bridges = bridges.v;
	a.bridge_count = bridges.n;
	r = acpi_build(vm->mem, &a, m->tables, X86_TABLES_SIZE / 2, rsdp, &used, e);
	if (r == 0)
		r = smbios_build(vm->mem, &s, m->tables + X86_TABLES_SIZE / 2,
				 X86_TABLES_SIZE / 2, e);
	free(bridges.v);
	free(hosts);
	return r;
}

/* What firmware would do, at every start and reset: addresses for PCI, tables,
 * kernel, first register values. */
static int machine_boot(struct vm *vm, struct err *e)
{
	struct machine *m = vm->machine_arg;
	struct boot_info info = {
		.kernel = json_str(m->desc, "kernel", NULL),
		.initrd = json_str(m->desc, "initrd", NULL),
		.cmdline = json_str(m->desc, "append", ""),
	};
	struct boot_state bs;
	int r;

	r = pci_enumerate(vm->pci, e);
	if (r)
		return r;
	describe_memory(m, &info);
	r = write_tables(m, &info.acpi_rsdp, e);
	if (r == 0)
		r = boot_load(vm->mem, &info, &bs, e);
	if (r == 0)
		r = x86_cpus_reset(vm, &bs, e);
	return r;
}

static void machine_powerdown(struct vm *vm)
{
	struct machine *m = vm->machine_arg;

	lpc_power_button(m->lpc);
}

static void machine_clock_jump(struct vm *vm, int64_t seconds)
{
	struct machine *m = vm->machine_arg;

	if (m->rtc)
		rtc_jump(m->rtc, seconds);
}

static void machine_fini(struct vm *vm)
{
	((struct machine *)vm->machine_arg)->rtc = NULL;	/* gone with the devices */
	pci_root_destroy(vm->pci);
	vm->pci = NULL;
}

static const struct vm_machine_ops machine_ops = {
	.name = "q35", .boot = machine_boot, .powerdown = machine_powerdown,
	.clock_jump = machine_clock_jump,
	.fini = machine_fini,
};

int machine_create(struct vm *vm, struct machine **out, struct err *e)
{
	struct machine *m = xcalloc(1, sizeof(*m));
	int r;

	*out = m;
	m->vm = vm;
	m->desc = vm->desc;
	vm->machine = &machine_ops;
	vm->machine_arg = m;
	r = read_options(m, e);
	if (r == 0)
		r = kvm_open(&vm->kvm, m->accel.device, e);
	if (r == 0)
		r = read_smp(m, e);
	if (r == 0)
		r = create_memory(m, e);
	if (r == 0)
		r = x86_irqchip_create(vm, m->opts.irqchip == MACHINE_IRQCHIP_SPLIT, e);
	if (r == 0)
		r = create_cpus(m, e);
	if (r == 0)
		r = create_pci(m, e);
	if (r == 0)
		r = create_platform(m, e);
	return r;
}

uint32_t machine_root_ports(const struct machine *m)
{
	return m->opts.root_ports;
}

int machine_finish(struct machine *m, struct err *e)
{
	int r;

	if (!json_object_get(m->desc, "kernel"))
		return err_set(e, -EINVAL, "no -kernel given: starting from a disk's own boot "
			       "loader needs firmware, which this version does not have; "
			       "give -kernel, -initrd and -append");
	r = machine_boot(m->vm, e);
	m->vm->booted = r == 0;
	return r;
}

void machine_free(struct machine *m)
{
	if (!m)
		return;
	prop_free(machine_tables, &m->opts);
	prop_free(accel_tables, &m->accel);
	numa_free(&m->numa);
	x86_cpu_free(m->cpu);
	free(m);
}
