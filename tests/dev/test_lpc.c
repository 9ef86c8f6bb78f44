/*
 * LPC bridge: PM block (timer, power button, sleep, SCI), reset ports, PMBASE.
 */
#include <criterion/criterion.h>
#include <string.h>

#include "devices/x86/x86_devices.h"
#include "pci/pci.h"
#include "tests/dev/lib_ports.h"
#include "tests/dev/lib_rig.h"
#include "vmm/base/util.h"

#define PM	0x600
#define SCI	9
#define LPC_BDF	(31 << 3)

struct env {
	struct rig *r;
	struct dev *lpc;
};

static uint32_t gsi_of(struct pci_root *r, uint8_t slot, uint8_t pin)
{
	return 16 + (slot + pin) % 8u;
}

static void env_open(struct env *v)
{
	struct pci_windows w = {
		.ecam_base = 0xb0000000, .buses = 255,
		.mmio32_base = 0xc0000000, .mmio32_size = 0x3ec00000,
		.mmio64_base = 32 * GIB, .mmio64_size = 32 * GIB,
		.pio_base = 0x1000, .pio_size = 0xf000,
	};
	struct err e = ERR_INIT;

	v->r = rig_create(NULL, 4 * MIB);
	cr_assert_eq(pci_root_create(v->r->vm, &w, true, &e), 0, "%s", e.text);
	v->r->vm->pci->intx_gsi = gsi_of;
	v->lpc = rig_builtin(v->r, &lpc_type, "{'addr': '1f.0'}");
}

static void env_close(struct env *v)
{
	struct pci_root *root = v->r->vm->pci;

	/* devices first: the root is the machine's to destroy, after them */
	while (v->r->vm->devs)
		dev_destroy(v->r->vm->devs);
	v->r->vm->pci = NULL;
	pci_root_destroy(root);
	rig_destroy(v->r);
}

Test(lpc, ids_are_those_of_the_ich9)
{
	struct env v;

	env_open(&v);
	cr_expect_eq(pci_config_read(v.r->vm->pci, LPC_BDF, 0, 4), 0x29188086);
	cr_expect_eq(pci_config_read(v.r->vm->pci, LPC_BDF, 8, 4) >> 8, 0x060100);
	env_close(&v);
}

Test(lpc, pm_timer_runs_at_its_rate)
{
	struct env v;
	uint32_t a, b;
	uint64_t t0, t1;

	env_open(&v);
	t0 = clock_ns();
	a = (uint32_t)rig_pio_read(v.r, PM + 8, 4);
	while (clock_ns() - t0 < 20 * NS_PER_MS)
		;
	b = (uint32_t)rig_pio_read(v.r, PM + 8, 4);
	t1 = clock_ns();
	cr_expect_geq((b - a) & 0xffffff, 20 * 3579 - 1);
	cr_expect_leq((b - a) & 0xffffff, (t1 - t0) * 3579545 / NS_PER_SEC + 1);
	env_close(&v);
}

Test(lpc, machine_starts_in_acpi_mode)
{
	struct env v;

	env_open(&v);
	cr_expect_eq(rig_pio_read(v.r, PM + 4, 2), 1);
	rig_pio_write(v.r, 0xb2, 1, 3);		/* APM: ACPI off */
	cr_expect_eq(rig_pio_read(v.r, PM + 4, 2), 0);
	rig_pio_write(v.r, 0xb2, 1, 2);
	cr_expect_eq(rig_pio_read(v.r, PM + 4, 2), 1);
	env_close(&v);
}

Test(lpc, power_button_raises_sci_until_acknowledged)
{
	struct env v;

	env_open(&v);
	rig_pio_write(v.r, PM + 2, 2, 0x100);
	lpc_power_button(v.lpc);
	cr_expect(rig_level(v.r, SCI));
	cr_expect_eq(rig_pio_read(v.r, PM, 2) & 0x100, 0x100);
	rig_pio_write(v.r, PM, 2, 0x100);
	cr_expect_not(rig_level(v.r, SCI));
	env_close(&v);
}

Test(lpc, power_button_without_listener_is_forgotten)
{
	struct env v;

	env_open(&v);
	lpc_power_button(v.lpc);
	rig_pio_write(v.r, PM + 2, 2, 0x100);
	cr_expect_not(rig_level(v.r, SCI));
	env_close(&v);
}

Test(lpc, status_and_enable_take_one_dword)
{
	struct env v;

	env_open(&v);
	rig_pio_write(v.r, PM, 4, 0x01000000);
	cr_expect_eq(rig_pio_read(v.r, PM + 2, 2), 0x100);
	lpc_power_button(v.lpc);
	cr_expect_eq(rig_pio_read(v.r, PM, 4) & 0x01000100, 0x01000100);
	rig_pio_write(v.r, PM + 1, 1, 0x01);	/* a byte of the status */
	cr_expect_eq(rig_pio_read(v.r, PM, 2) & 0x100, 0);
	env_close(&v);
}

Test(lpc, s5_shuts_the_vm_down)
{
	struct env v;

	env_open(&v);
	rig_pio_write(v.r, PM + 4, 2, 7 << 10);		/* type without SLP_EN */
	rig_turn(v.r);
	cr_expect_not(strstr(v.r->events, "SHUTDOWN"));
	rig_pio_write(v.r, PM + 4, 2, 7 << 10 | 1 << 13);
	rig_turn(v.r);
	cr_expect(strstr(v.r->events, "SHUTDOWN"), "%s", v.r->events);
	env_close(&v);
}

Test(lpc, unknown_sleep_type_is_ignored)
{
	struct env v;

	env_open(&v);
	rig_pio_write(v.r, PM + 4, 2, 5 << 10 | 1 << 13);
	rig_turn(v.r);
	cr_expect_not(strstr(v.r->events, "SHUTDOWN"));
	cr_expect_not(rig_pio_read(v.r, PM + 4, 2) & 1 << 13);
	env_close(&v);
}

static void expect_reset(uint16_t port, uint8_t val, bool resets)
{
	struct env v;

	env_open(&v);
	rig_pio_write(v.r, port, 1, val);
	rig_turn(v.r);
	cr_expect_eq(!!strstr(v.r->events, "RESET"), resets, "port 0x%x 0x%x: '%s'",
		     port, val, v.r->events);
	env_close(&v);
}

Test(lpc, reset_ports_reset)
{
	expect_reset(0xcf9, 0x02, false);
	expect_reset(0xcf9, 0x06, true);
	expect_reset(0xcf9, 0x0f, true);
	expect_reset(0x92, 0x02, false);
	expect_reset(0x92, 0x03, true);
}

Test(lpc, config_address_port_is_no_reset)
{
	struct env v;

	env_open(&v);
	rig_pio_write(v.r, 0xcf8, 4, 0x80000600 | LPC_BDF << 8);
	rig_turn(v.r);
	cr_expect_not(strstr(v.r->events, "RESET"));
	env_close(&v);
}

Test(lpc, pmbase_moves_the_block)
{
	struct env v;

	env_open(&v);
	pci_config_write(v.r->vm->pci, LPC_BDF, 0x40, 4, 0xb001);
	cr_expect_eq(rig_pio_read(v.r, 0xb004, 2), 1);
	cr_expect_eq(rig_pio_read(v.r, PM + 4, 2), 0xffff);
	pci_config_write(v.r->vm->pci, LPC_BDF, 0x44, 1, 0);	/* ACPI_EN off */
	cr_expect_eq(rig_pio_read(v.r, 0xb004, 2), 0xffff);
	rig_reset(v.r);
	cr_expect_eq(rig_pio_read(v.r, PM + 4, 2), 1);
	env_close(&v);
}

Test(lpc, pmbase_zero_maps_nothing)
{
	struct env v;

	env_open(&v);
	pci_config_write(v.r->vm->pci, LPC_BDF, 0x40, 4, 0);
	cr_expect_eq(rig_pio_read(v.r, 4, 2), 0xffff);
	cr_expect_eq(pci_config_read(v.r->vm->pci, LPC_BDF, 0x40, 4), 1);
	env_close(&v);
}

Test(lpc, reset_clears_status_and_lowers_sci)
{
	struct env v;

	env_open(&v);
	rig_pio_write(v.r, PM + 2, 2, 0x100);
	lpc_power_button(v.lpc);
	cr_assert(rig_level(v.r, SCI));
	rig_reset(v.r);
	cr_expect_not(rig_level(v.r, SCI));
	cr_expect_eq(rig_pio_read(v.r, PM, 4), 0);
	env_close(&v);
}

Test(lpc, hostile_accesses_do_no_harm)
{
	struct env v;

	env_open(&v);
	ports_hostile(v.r, PM, 0x80);
	ports_hostile(v.r, 0x92, 1);
	ports_hostile(v.r, 0xb2, 2);
	ports_hostile(v.r, 0xcf8, 8);
	for (uint16_t off = 0; off < 256; off++) {
		pci_config_write(v.r->vm->pci, LPC_BDF, off, 1, 0xff);
		pci_config_read(v.r->vm->pci, LPC_BDF, off, 1);
	}
	rig_reset(v.r);
	cr_expect_eq(rig_pio_read(v.r, PM + 4, 2), 1);
	env_close(&v);
}
