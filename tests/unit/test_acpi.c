/*
 * ACPI tables: checksums, the chain from the root pointer, what the values say,
 * and that Intel's own disassembler and compiler take them without complaint.
 */
#include <criterion/criterion.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "vmm/arch/x86/layout.h"
#include "vmm/arch/x86/x86.h"
#include "vmm/base/util.h"
#include "vmm/core/gmem.h"

#define RAM	(16 * MIB)
#define BASE	(15 * MIB)

struct env {
	struct gmem *gm;
	uint8_t *host;
	struct x86_topology topo;
	struct acpi_info a;
	struct acpi_host hosts[2];
	uint64_t rsdp, used;
	struct err e;
};

static void env_open(struct env *v, uint32_t cpus)
{
	int fd;

	memset(v, 0, sizeof(*v));
	v->gm = gmem_create();
	cr_assert_eq(gmem_alloc(v->gm, "ram", RAM, NULL, &fd, &v->host, &v->e), 0);
	cr_assert_eq(gmem_add_region(v->gm, 0, RAM, v->host, fd, 0, false, &v->e), 0);
	v->topo = (struct x86_topology){ cpus, 1, 1, cpus, 1 };
	v->hosts[0] = (struct acpi_host){
		.last_bus = 255, .node = ACPI_NODE_NONE, .mmio32_base = X86_MMIO32_BASE,
		.mmio32_size = X86_MMIO32_END - X86_MMIO32_BASE,
		.mmio64_base = 32 * GIB, .mmio64_size = 256 * GIB,
		.pio_base = X86_PIO_BASE, .pio_size = X86_PIO_SIZE,
	};
	v->a = (struct acpi_info){
		.topo = &v->topo, .cpus = cpus, .ecam_base = X86_ECAM_BASE,
		.hosts = v->hosts, .host_count = 1,
		.pm_base = X86_PM_BASE, .sci_irq = X86_SCI_IRQ,
		.pci_gsi_base = X86_PCI_GSI_BASE, .com_ports = 1, .rtc = true,
	};
}

static void build(struct env *v)
{
	cr_assert_eq(acpi_build(v->gm, &v->a, BASE, MIB, &v->rsdp, &v->used, &v->e), 0,
		     "%s", v->e.text);
}

static uint8_t sum(const uint8_t *p, size_t len)
{
	uint8_t s = 0;

	while (len--)
		s = (uint8_t)(s + *p++);
	return s;
}

static const uint8_t *table(const struct env *v, const char *sig)
{
	const uint8_t *xsdt = v->host + get_le64(v->host + v->rsdp + 24);
	uint32_t n = (get_le32(xsdt + 4) - 36) / 8;

	for (uint32_t i = 0; i < n; i++) {
		const uint8_t *t = v->host + get_le64(xsdt + 36 + i * 8);

		if (!memcmp(t, sig, 4))
			return t;
	}
	if (!memcmp(sig, "DSDT", 4))
		return v->host + get_le64(table(v, "FACP") + 140);
	return NULL;
}

static void save(const struct env *v, const char *sig, const char *dir, const char *name)
{
	const uint8_t *t = table(v, sig);
	char path[64];
	FILE *f;

	snprintf(path, sizeof(path), "%s/%s", dir, name);
	f = fopen(path, "w");
	cr_assert(t && f && fwrite(t, get_le32(t + 4), 1, f) == 1);
	fclose(f);
}

/* The table through `iasl -d`, and the text through iasl again; returns the
 * text, to be freed. @with: options for the first. */
static char *round_trip_with(const struct env *v, const char *sig, const char *with)
{
	char dir[] = "/tmp/roost-acpi-XXXXXX", cmd[512];
	char *text = calloc(1, 256 * 1024);
	FILE *f;

	cr_assert(text && mkdtemp(dir));
	save(v, sig, dir, "t.aml");
	save(v, "DSDT", dir, "dsdt.aml");
	/* -we: a warning is an error */
	snprintf(cmd, sizeof(cmd),
		 "cd %s && iasl %s -d t.aml >log 2>&1 && ! grep -iE 'error|warning|invalid' t.dsl && "
		 "iasl -we -vr -p out t.dsl >>log 2>&1", dir, with);
	cr_expect_eq(system(cmd), 0, "iasl refuses %s, see %s/log", sig, dir);
	snprintf(cmd, sizeof(cmd), "%s/t.dsl", dir);
	f = fopen(cmd, "r");
	cr_assert(f && fread(text, 1, 256 * 1024 - 1, f) > 0);
	fclose(f);
	snprintf(cmd, sizeof(cmd), "rm -rf %s", dir);
	cr_assert_eq(system(cmd), 0);
	return text;
}

static char *round_trip(const struct env *v, const char *sig)
{
	return round_trip_with(v, sig, "");
}

/* A port at 02.1 with a slot, one at 03.0 without, a switch in a third's slot. */
static const struct acpi_bridge bridges[] = {
	{ 2, 1, 0, 0, 1 }, { 3, 0, 0, 0, 0 }, { 4, 0, 0, 0, 9 }, { 0, 0, 1, 0, 0 },
	{ 0, 0, 2, 0, 2 }, { 1, 0, 2, 0, 300 }, { 0x1e, 7, 0, 0, 70 },
};

Test(acpi, every_table_sums_up_to_zero)
{
	static const char *const sigs[] = { "FACP", "APIC", "MCFG", "WAET", "DSDT", "SSDT" };
	struct env v;

	env_open(&v, 4);
	v.a.bridges = bridges;
	v.a.bridge_count = ARRAY_LEN(bridges);
	build(&v);
	cr_expect_eq(sum(v.host + v.rsdp, 20), 0);
	cr_expect_eq(sum(v.host + v.rsdp, 36), 0);
	for (size_t i = 0; i < ARRAY_LEN(sigs); i++) {
		const uint8_t *t = table(&v, sigs[i]);

		cr_assert(t, "%s", sigs[i]);
		cr_expect_eq(sum(t, get_le32(t + 4)), 0, "%s", sigs[i]);
	}
	gmem_destroy(v.gm);
}

Test(acpi, root_pointer_is_where_systems_search)
{
	struct env v;

	env_open(&v, 1);
	build(&v);
	cr_expect_geq(v.rsdp, 0xe0000);
	cr_expect_lt(v.rsdp, 0x100000);
	cr_expect_eq(v.rsdp % 16, 0);
	cr_expect_arr_eq(v.host + v.rsdp, "RSD PTR ", 8);
	gmem_destroy(v.gm);
}

Test(acpi, facs_is_aligned)
{
	struct env v;
	uint32_t facs;

	env_open(&v, 1);
	build(&v);
	facs = get_le32(table(&v, "FACP") + 36);
	cr_expect_eq(facs % 64, 0);
	cr_expect_arr_eq(v.host + facs, "FACS", 4);
	gmem_destroy(v.gm);
}

Test(acpi, dsdt_survives_iasl)
{
	struct env v;
	char *text;

	env_open(&v, 2);
	build(&v);
	text = round_trip(&v, "DSDT");
	cr_expect(strstr(text, "0x0000000800000000"), "64-bit window base");
	cr_expect(strstr(text, "0x00000047FFFFFFFF"), "64-bit window end");
	cr_expect(strstr(text, "0x00FF,             // Range Maximum"), "last bus");
	cr_expect(strstr(text, "Name (STC1, 0x0F)"));
	cr_expect(strstr(text, "Name (STC2, Zero)") || strstr(text, "Name (STC2, 0x00)"));
	cr_expect(strstr(text, "Name (STKB, 0x00)"));
	cr_expect(strstr(text, "Name (STPV, 0x00)"));
	free(text);
	gmem_destroy(v.gm);
}

Test(acpi, ssdt_of_slots_survives_iasl_and_names_each)
{
	struct env v;
	char *text;

	env_open(&v, 1);
	build(&v);
	cr_expect_null(table(&v, "SSDT"));
	v.a.bridges = bridges;
	v.a.bridge_count = ARRAY_LEN(bridges);
	build(&v);
	text = round_trip_with(&v, "SSDT", "-e dsdt.aml");
	cr_expect(strstr(text, "Name (_ADR, 0x00020001)"), "%s", text);
	cr_expect(strstr(text, "Notify (\\_SB.PCI0.S11.S00, 0x03)"), "%s", text);
	cr_expect(strstr(text, "Notify (\\_SB.PCI0.S20.S00.S08.S00, 0x03)"), "%s", text);
	cr_expect(strstr(text, "Notify (\\_SB.PCI0.SF7.S00, 0x03)"), "%s", text);
	cr_expect(strstr(text, "EJDO (0x012C)"), "%s", text);
	cr_expect_not(strstr(text, "EJDO (0x09)"), "a switch cannot be ejected");
	cr_expect_not(strstr(text, "Notify (\\_SB.PCI0.S20.S00, 0x03)"));
	cr_expect(strstr(text, "EJST (0x02, Arg0, Arg1)"), "%s", text);
	free(text);
	gmem_destroy(v.gm);
}

/* A second root bus at 20h with a port at 00.0 that has a slot. */
Test(acpi, ssdt_of_a_second_host_bridge_survives_iasl)
{
	static const struct acpi_bridge two[] = { { 2, 1, 0, 0, 1 }, { 0, 0, 0, 0x20, 2 } };
	struct env v;
	char *text;

	env_open(&v, 1);
	v.hosts[0].last_bus = 5;
	v.hosts[1] = (struct acpi_host){ .first_bus = 0x20, .last_bus = 0x21, .node = 1,
					 .mmio32_base = 0xd0000000, .mmio32_size = MIB };
	v.a.host_count = 2;
	v.a.bridges = two;
	v.a.bridge_count = ARRAY_LEN(two);
	build(&v);
	cr_expect_eq(table(&v, "MCFG")[55], 0x21);
	text = round_trip(&v, "DSDT");
	cr_expect(strstr(text, "0x0005,             // Range Maximum"), "last bus");
	free(text);
	text = round_trip_with(&v, "SSDT", "-e dsdt.aml");
	cr_expect(strstr(text, "Device (PC20)"), "%s", text);
	cr_expect(strstr(text, "Name (_HID, EisaId (\"PNP0A08\")"), "%s", text);
	cr_expect(strstr(text, "Name (_PXM, 0x01)"), "%s", text);
	cr_expect(strstr(text, "0x0021,             // Range Maximum"), "%s", text);
	cr_expect(strstr(text, "0xD00FFFFF,         // Range Maximum"), "%s", text);
	cr_expect_not(strstr(text, "QWordMemory"), "a window of no bytes");
	cr_expect(strstr(text, "Return (\\_SB.PCI0._OSC (Arg0, Arg1, Arg2, Arg3))"), "%s", text);
	cr_expect(strstr(text, "Return (\\_SB.PCI0._PRT)"), "%s", text);
	cr_expect(strstr(text, "Notify (\\_SB.PC20.S00.S00, 0x03)"), "%s", text);
	free(text);
	gmem_destroy(v.gm);
}

Test(acpi, dsdt_without_64bit_window_survives_iasl)
{
	struct env v;

	env_open(&v, 1);
	v.hosts[0].mmio64_base = v.hosts[0].mmio64_size = 0;
	v.a.pvpanic = v.a.i8042 = true;
	v.hosts[0].last_bus = 0;
	build(&v);
	free(round_trip(&v, "DSDT"));
	gmem_destroy(v.gm);
}

Test(acpi, other_tables_survive_iasl)
{
	struct env v;

	env_open(&v, 255);
	build(&v);
	free(round_trip(&v, "FACP"));
	free(round_trip(&v, "APIC"));
	free(round_trip(&v, "MCFG"));
	free(round_trip(&v, "WAET"));
	gmem_destroy(v.gm);
}

Test(acpi, numa_tables_survive_iasl_and_say_what_is_where)
{
	static const struct acpi_memory memory[] = {
		{ 0, 0, 2 * GIB }, { 1, 2 * GIB, GIB }, { 1, 4 * GIB, GIB },
	};
	static const uint8_t distance[] = { 10, 30, 30, 10 };
	uint8_t cpu_node[255] = { 0 };
	struct env v;
	char *text;

	env_open(&v, 255);
	build(&v);
	cr_expect_null(table(&v, "SRAT"));
	cr_expect_null(table(&v, "SLIT"));
	v.topo = (struct x86_topology){ 255, 2, 1, 128, 1 };
	cpu_node[254] = 1;
	v.a.nodes = 2;
	v.a.cpu_node = cpu_node;
	v.a.distance = distance;
	v.a.memory = memory;
	v.a.memory_count = ARRAY_LEN(memory);
	build(&v);
	text = round_trip(&v, "SRAT");
	cr_expect(strstr(text, "Base Address : 0000000100000000"), "%s", text);
	cr_expect(strstr(text, "Address Length : 0000000040000000"), "%s", text);
	free(text);
	free(round_trip(&v, "SLIT"));
	cr_expect_arr_eq(table(&v, "SLIT") + 44, distance, 4);
	cr_expect_eq(sum(table(&v, "SRAT"), get_le32(table(&v, "SRAT") + 4)), 0);
	gmem_destroy(v.gm);
}

Test(acpi, fadt_says_what_is_there)
{
	struct env v;
	const uint8_t *t;

	env_open(&v, 1);
	build(&v);
	t = table(&v, "FACP");
	cr_expect_eq(get_le16(t + 109), 0x5);		/* legacy devices, no VGA */
	cr_expect_eq(get_le32(t + 48), 0);		/* no SMI command */
	cr_expect_eq(get_le64(t + 120), 0xcf9);
	cr_expect_eq(get_le64(t + 152), X86_PM_BASE);
	cr_expect_eq(get_le32(t + 56), X86_PM_BASE);
	v.a.i8042 = true;
	v.a.rtc = false;
	build(&v);
	cr_expect_eq(get_le16(table(&v, "FACP") + 109), 0x27);
	gmem_destroy(v.gm);
}

Test(acpi, madt_lists_every_cpu_and_the_overrides)
{
	struct env v;
	const uint8_t *t, *p;
	unsigned int cpus = 0, ioapics = 0, overrides = 0;

	env_open(&v, 12);
	v.topo = (struct x86_topology){ 12, 2, 1, 3, 2 };
	build(&v);
	t = table(&v, "APIC");
	for (p = t + 44; p < t + get_le32(t + 4); p += p[1]) {
		cr_assert_gt(p[1], 1);
		if (p[0] == 0) {
			cr_expect_eq(p[2], cpus);
			cr_expect_eq(p[3], x86_apic_id(&v.topo, cpus));
			cpus++;
		}
		ioapics += p[0] == 1;
		overrides += p[0] == 2;
	}
	cr_expect_eq(p, t + get_le32(t + 4));
	cr_expect_eq(cpus, 12);
	cr_expect_eq(ioapics, 1);
	cr_expect_eq(overrides, 2);
	gmem_destroy(v.gm);
}

Test(acpi, area_too_small_is_an_error)
{
	struct env v;

	env_open(&v, 4);
	cr_expect_eq(acpi_build(v.gm, &v.a, BASE, 2048, &v.rsdp, &v.used, &v.e), -ENOSPC);
	cr_expect(strstr(v.e.text, "2048 bytes"), "%s", v.e.text);
	gmem_destroy(v.gm);
}
