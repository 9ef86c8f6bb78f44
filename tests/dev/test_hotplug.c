/*
 * Hot-plug: slot registers, states and events, with a driver that the test
 * plays. TSAN: answers are posted from config writes.
 */
#include <criterion/criterion.h>
#include <string.h>

#include "pci/internal.h"
#include "tests/dev/lib_pci.h"
#include "vmm/base/json.h"
#include "vmm/base/log.h"
#include "vmm/base/util.h"

#define PORT	BDF(0, 2, 0)
#define FN	BDF(1, 0, 0)
#define CHANGES	(PCI_EXP_SLTSTA_PDC | PCI_EXP_SLTSTA_DLLSC)
#define ON	PCI_EXP_SLTCTL_PWR_IND_ON
#define OFF	PCI_EXP_SLTCTL_PWR_IND_OFF
#define LISTEN	(PCI_EXP_SLTCTL_PDCE | PCI_EXP_SLTCTL_DLLSCE | PCI_EXP_SLTCTL_HPIE)

static struct rig *r;
static uint16_t exp_cap;
static struct pci_bus *ejected_bus;	/* what the platform was asked to eject */
static int ejects;
static char log_text[1024];	/* "STATE:device ..." and DEVICE_DELETED:… */
static struct vm_listener listener;

static void on_event(struct vm_listener *l, const char *name, json_t *data)
{
	size_t n = strlen(log_text);
	const char *what = json_str(data, "state", name);

	snprintf(log_text + n, sizeof(log_text) - n, "%s:%s ", what,
		 json_str(data, "device", "-"));
}

static void eject(struct pci_root *root, struct pci_bus *b)
{
	ejected_bus = b;
	ejects++;
}

/* A guest with its hot-plug driver at work, two ports: rp on bus 1, rq on 2. */
static void setup(void)
{
	r = pci_rig();
	listener.event = on_event;
	vm_listen(r->vm, &listener);
	r->vm->pci->eject = eject;
	pci_port(r, "'id': 'rp', 'addr': '2', 'slot': 7");
	pci_port(r, "'id': 'rq', 'addr': '3', 'slot': 8");
	pci_enumerate_ok(r);
	exp_cap = find_cap(r, PORT, PCI_CAP_ID_EXP);
	atomic_store(&r->vm->state, VM_RUNNING);
	ecam_write(r, PORT, exp_cap + PCI_EXP_SLTCTL, 2, LISTEN | OFF);
}

static void teardown(void)
{
	vm_unlisten(r->vm, &listener);
	pci_rig_end(r);
}

TestSuite(hotplug, .init = setup, .fini = teardown);

static json_t *description(const char *members)
{
	char text[512], *c;
	json_t *args;

	snprintf(text, sizeof(text), "{'driver': 'tpci', %s}", members);
	for (c = text; *c; c++)
		if (*c == '\'')
			*c = '"';
	args = json_loads(text, 0, NULL);
	cr_assert_not_null(args, "%s", text);
	return args;
}

static struct tpci *plug(const char *members)
{
	json_t *args = description(members);
	struct err e = ERR_INIT;
	struct dev *d = NULL;

	cr_assert_eq(dev_plug(r->vm, args, &d, &e), 0, "%s", e.text);
	json_decref(args);
	return (struct tpci *)d;
}

static void plug_refused(const char *members, const char *why)
{
	json_t *args = description(members);
	struct err e = ERR_INIT;

	cr_expect_lt(dev_plug(r->vm, args, NULL, &e), 0);
	cr_expect_str_eq(e.text, why);
	json_decref(args);
}

static int unplug(const char *id, bool force, uint64_t timeout_ms, struct err *e)
{
	struct dev_unplug_opts o = { force, timeout_ms };
	int ret = dev_unplug(r->vm, id, &o, e);

	rig_turn(r);
	return ret;
}

static void unplug_ok(const char *id, bool force)
{
	struct err e = ERR_INIT;

	cr_expect_eq(unplug(id, force, 0, &e), 0, "%s", e.text);
}

static uint16_t slot_status(void)
{
	return (uint16_t)ecam_read(r, PORT, exp_cap + PCI_EXP_SLTSTA, 2);
}

static bool link_up(void)
{
	return ecam_read(r, PORT, exp_cap + PCI_EXP_LNKSTA, 2) & PCI_EXP_LNKSTA_DLLLA;
}

static void light(uint16_t pic)
{
	ecam_write(r, PORT, exp_cap + PCI_EXP_SLTCTL, 2, LISTEN | pic);
	rig_turn(r);
}

static void clear_changes(void)
{
	ecam_write(r, PORT, exp_cap + PCI_EXP_SLTSTA, 2, CHANGES);
}

/* As Linux does: look, clear, switch the function and the light on. */
static void guest_takes(void)
{
	clear_changes();
	ecam_write(r, FN, PCI_COMMAND, 2, PCI_COMMAND_MEMORY | PCI_COMMAND_MASTER);
	light(ON);
}

static void expect_log(const char *text)
{
	cr_expect_str_eq(log_text, text);
	log_text[0] = '\0';
}

/* ---- coming ---- */

Test(hotplug, test_slot_offers_nothing_that_a_guest_waits_for)
{
	uint32_t cap = (uint32_t)ecam_read(r, PORT, exp_cap + PCI_EXP_SLTCAP, 4);

	cr_expect_eq(cap & 0x7ffff, PCI_EXP_SLTCAP_HPC | PCI_EXP_SLTCAP_HPS |
		     PCI_EXP_SLTCAP_PIP | PCI_EXP_SLTCAP_NCCS);
	cr_expect_neq(ecam_read(r, PORT, exp_cap + PCI_EXP_LNKCAP, 4) &
		      PCI_EXP_LNKCAP_DLLLARC, 0);
	ecam_write(r, PORT, exp_cap + PCI_EXP_SLTCTL, 2, 0xffff);
	cr_expect_eq(ecam_read(r, PORT, exp_cap + PCI_EXP_SLTCTL, 2),
		     LISTEN | PCI_EXP_SLTCTL_PIC);
}

Test(hotplug, test_plug_raises_presence_and_link_and_the_interrupt)
{
	cr_expect_eq(slot_status(), 0);
	plug("'id': 'd', 'bus': 'rp', 'mem32': 4096");
	cr_expect_eq(slot_status(), CHANGES | PCI_EXP_SLTSTA_PDS);
	cr_expect(link_up());
	cr_expect(rig_level(r, T_GSI + 2));
	cr_expect_eq(ecam_read(r, FN, 0, 4), 0x56781234);
	clear_changes();
	cr_expect_not(rig_level(r, T_GSI + 2));
	expect_log("plugging:d ");
	guest_takes();
	expect_log("present:d ");
}

Test(hotplug, test_plug_sends_one_message_until_all_is_cleared)
{
	uint16_t msi = find_cap(r, PORT, PCI_CAP_ID_MSI);

	ecam_write(r, PORT, msi + PCI_MSI_ADDRESS_LO, 4, 0xfee00000);
	ecam_write(r, PORT, msi + PCI_MSI_FLAGS, 2, PCI_MSI_FLAGS_ENABLE);
	ecam_write(r, PORT, PCI_COMMAND, 2, PCI_COMMAND_MASTER | PCI_COMMAND_MEMORY);
	plug("'id': 'd', 'bus': 'rp'");
	cr_expect_eq(rig_msis(r), 1);
	ecam_write(r, PORT, exp_cap + PCI_EXP_SLTSTA, 2, PCI_EXP_SLTSTA_PDC);
	cr_expect_eq(rig_msis(r), 1);
	clear_changes();
	guest_takes();
	unplug_ok("d", true);
	cr_expect_eq(rig_msis(r), 2);
	cr_expect_not(rig_level(r, T_GSI + 2));
}

Test(hotplug, test_plug_without_a_listener_is_seen_when_it_comes)
{
	ecam_write(r, PORT, exp_cap + PCI_EXP_SLTCTL, 2, OFF);
	plug("'id': 'd', 'bus': 'rp'");
	cr_expect_not(rig_level(r, T_GSI + 2));
	ecam_write(r, PORT, exp_cap + PCI_EXP_SLTCTL, 2, LISTEN | OFF);
	cr_expect(rig_level(r, T_GSI + 2));
}

Test(hotplug, test_plug_without_bus_takes_free_ports_in_order)
{
	cr_expect_str_eq(plug("'id': 'a'")->pci.bus->name, "rp");
	cr_expect_str_eq(plug("'id': 'b'")->pci.bus->name, "rq");
	plug_refused("'id': 'c'", "c: no free root port: rp holds a, rq holds b; reserve more "
		     "at the start with -device pcie-root-port");
}

Test(hotplug, test_plug_where_it_cannot_be_is_refused)
{
	plug_refused("'id': 'x', 'bus': 'pcie.0'",
		     "Bus 'pcie.0' does not support hotplugging; x: use bus= with a "
		     "pcie-root-port: rp holds nothing, rq holds nothing");
	plug_refused("'id': 'rp2', 'driver': 'pcie-root-port'",
		     "Device 'pcie-root-port' does not support hotplugging; add it before "
		     "the VM starts");
	cr_expect_eq(slot_status(), 0);
}

Test(hotplug, test_plug_without_any_port_says_what_to_reserve)
{
	pci_rig_end(r);
	r = pci_rig();
	plug_refused("'id': 'x', 'bus': 'pcie.0'",
		     "Bus 'pcie.0' does not support hotplugging, and there is no root port for x; "
		     "reserve some at the start with -device pcie-root-port");
}

Test(hotplug, test_plug_takes_defaults_from_the_command_line)
{
	r->vm->desc = json_pack("{s:[{s:s}, {s:s, s:s, s:s}]}", "globals", "tpci.mem32", "8192",
				"driver", "tpci", "property", "msix", "value", "3");
	plug("'id': 'a', 'bus': 'rp', 'mem32': 4096");
	cr_expect_eq(msix_vectors((struct pci_dev *)dev_find(r->vm, "a")), 3);
	cr_expect_eq(((struct tpci *)dev_find(r->vm, "a"))->mem32, 4096);
	plug("'id': 'b', 'bus': 'rq'");
	cr_expect_eq(((struct tpci *)dev_find(r->vm, "b"))->mem32, 8192);
}

static char warning[256];

static void on_log(enum log_level level, const char *line, void *arg)
{
	snprintf(warning, sizeof(warning), "%s", line);
}

Test(hotplug, test_plug_of_more_than_the_window_holds_is_told)
{
	log_set_sink(on_log, NULL);
	plug("'id': 'a', 'bus': 'rp', 'mem32': '1M', 'msix': 3, 'pref64': '32M'");
	cr_expect_str_eq(warning, "");
	plug("'id': 'b', 'bus': 'rq', 'pref64': '64M'");
	log_set_sink(NULL, NULL);
	cr_expect(strstr(warning, "what is on 'rq' needs 65536 KiB, its window has 32768 KiB, so the "
			 "guest may not find room; start with pref64-reserve=67108864 on that port"),
		  "%s", warning);
}

Test(hotplug, test_multifunction_slot_shows_when_function_0_comes)
{
	plug("'id': 'b', 'bus': 'rp', 'addr': '0.1'");
	cr_expect_eq(slot_status(), 0);
	cr_expect_eq(ecam_read(r, BDF(1, 0, 1), 0, 4), 0xffffffff);
	plug("'id': 'a', 'bus': 'rp', 'addr': '0.0', 'multifunction': true");
	cr_expect_eq(slot_status(), CHANGES | PCI_EXP_SLTSTA_PDS);
	cr_expect_eq(ecam_read(r, BDF(1, 0, 1), 0, 4), 0x56781234);
	plug_refused("'id': 'c', 'bus': 'rp', 'addr': '0.2'",
		     "c: slot 0 function 0 of 'rp' is already occupied by 'a', so the guest "
		     "would not find function 2; add function 0 last");
	guest_takes();
	log_text[0] = '\0';
	unplug_ok("b", false);
	expect_log("unplug-requested:a ");
	light(OFF);
	expect_log("guest-acknowledged:a DEVICE_DELETED:b DEVICE_DELETED:a ejected:a ");
	cr_expect_eq(slot_status() & PCI_EXP_SLTSTA_PDS, 0);
}

/* ---- leaving ---- */

static void plugged(void)
{
	plug("'id': 'd', 'bus': 'rp', 'mem32': 4096");
	guest_takes();
	log_text[0] = '\0';
}

Test(hotplug, test_unplug_waits_for_the_guest)
{
	plugged();
	unplug_ok("d", false);
	cr_expect_eq(ejects, 1);
	cr_expect_eq(ejected_bus, pci_bus_find(r->vm->pci, "rp"));
	expect_log("unplug-requested:d ");
	cr_expect_eq(ecam_read(r, FN, 0, 4), 0x56781234);
	light(OFF);
	expect_log("guest-acknowledged:d DEVICE_DELETED:d ejected:d ");
	cr_expect_null(dev_find(r->vm, "d"));
	cr_expect_eq(ecam_read(r, FN, 0, 4), 0xffffffff);
	cr_expect_eq(slot_status(), CHANGES);
	plug("'id': 'd', 'bus': 'rp'");		/* id and place are free */
	cr_expect_eq(ecam_read(r, FN, 0, 4), 0x56781234);
}

Test(hotplug, test_unplug_by_force_takes_the_link_first_then_the_device)
{
	struct tpci *t;
	struct err e = ERR_INIT;

	plugged();
	t = (struct tpci *)dev_find(r->vm, "d");
	ecam_write(r, FN, PCI_BASE_ADDRESS_0, 4, 0xc0000000);
	unplug_ok("d", true);
	cr_expect_eq(slot_status(), CHANGES);
	cr_expect_not(link_up());
	cr_expect_eq(ecam_read(r, FN, 0, 4), 0xffffffff);
	cr_expect(t->pci.bar[0].mapped);	/* for the driver's last words */
	expect_log("");
	cr_expect_lt(unplug("d", false, 0, &e), 0);
	cr_expect_str_eq(e.text, "Device d is already in the process of unplug; "
			 "DEVICE_DELETED follows");
	light(OFF);
	expect_log("DEVICE_DELETED:d surprise-removed:d ");
	plug("'id': 'd', 'bus': 'rp'");
	cr_expect(link_up());
}

Test(hotplug, test_unplug_by_force_twice_or_from_a_stopped_guest_is_at_once)
{
	plugged();
	unplug_ok("d", true);
	unplug_ok("d", true);
	expect_log("DEVICE_DELETED:d surprise-removed:d ");
	light(OFF);
	plugged();
	atomic_store(&r->vm->state, VM_PAUSED);
	unplug_ok("d", true);
	expect_log("DEVICE_DELETED:d surprise-removed:d ");
}

Test(hotplug, test_unplug_by_force_waits_a_second_at_most)
{
	plugged();
	unplug_ok("d", true);
	for (int i = 0; i < 300 && dev_find(r->vm, "d"); i++)
		loop_turn(r->loop, 10 * NS_PER_MS);
	expect_log("DEVICE_DELETED:d surprise-removed:d ");
}

Test(hotplug, test_unplug_repeated_asks_again_and_force_ends_it)
{
	plugged();
	unplug_ok("d", false);
	unplug_ok("d", false);
	cr_expect_eq(ejects, 2);
	unplug_ok("/machine/peripheral/d", true);
	light(OFF);
	expect_log("unplug-requested:d unplug-requested:d DEVICE_DELETED:d "
		   "surprise-removed:d ");
}

Test(hotplug, test_unplug_refused_leaves_the_device)
{
	plugged();
	unplug_ok("d", false);
	dev_unplug_answer(dev_find(r->vm, "d"), false);
	rig_turn(r);
	expect_log("unplug-requested:d DEVICE_UNPLUG_GUEST_ERROR:d refused:d ");
	cr_expect_eq(dev_plug_state(dev_find(r->vm, "d")), DEV_PLUG_REFUSED);
	unplug_ok("d", false);
	light(OFF);
	cr_expect_null(dev_find(r->vm, "d"));
}

Test(hotplug, test_unplug_unanswered_times_out_and_can_be_repeated)
{
	struct err e = ERR_INIT;

	plugged();
	cr_expect_eq(unplug("d", false, 1, &e), 0);
	for (int i = 0; i < 100 && !strstr(log_text, "timed"); i++)
		loop_turn(r->loop, 10 * NS_PER_MS);
	expect_log("unplug-requested:d DEVICE_UNPLUG_GUEST_ERROR:d timed-out:d ");
	cr_expect_eq(unplug("d", false, 0, &e), 0);
	light(OFF);
	cr_expect_null(dev_find(r->vm, "d"));
}

Test(hotplug, test_unplug_time_does_not_run_while_the_guest_is_stopped)
{
	struct err e = ERR_INIT;

	plugged();
	atomic_store(&r->vm->state, VM_PAUSED);
	cr_expect_eq(unplug("d", false, 1, &e), 0);
	for (int i = 0; i < 5; i++)
		loop_turn(r->loop, 2 * NS_PER_MS);
	expect_log("unplug-requested:d ");
	atomic_store(&r->vm->state, VM_RUNNING);
	for (int i = 0; i < 100 && !strstr(log_text, "timed"); i++)
		loop_turn(r->loop, 10 * NS_PER_MS);
	expect_log("DEVICE_UNPLUG_GUEST_ERROR:d timed-out:d ");
}

Test(hotplug, test_unplug_of_what_cannot_leave_is_refused)
{
	struct err e = ERR_INIT, e2 = ERR_INIT, e3 = ERR_INIT;

	pci_fn(r, "'id': 'fixed', 'addr': '9'");
	cr_expect_lt(unplug("fixed", true, 0, &e), 0);
	cr_expect_str_eq(e.text, "Bus 'pcie.0' does not support hotplugging; 'fixed' stays for "
			 "as long as the VM does");
	cr_expect_lt(unplug("rp", true, 0, &e2), 0);
	cr_expect_str_eq(e2.text, "Device 'pcie-root-port' does not support hotplugging; 'rp' "
			 "stays for as long as the VM does");
	cr_expect_lt(unplug("nobody", true, 0, &e3), 0);
	cr_expect_str_eq(e3.text, "Device 'nobody' not found");
	cr_expect_eq(e3.class, ERR_DEVICE_NOT_FOUND);
}

Test(hotplug, test_unplug_of_what_the_guest_never_touched_is_immediate)
{
	plug("'id': 'd', 'bus': 'rp'");
	log_text[0] = '\0';
	unplug_ok("d", false);
	expect_log("unplug-requested:d DEVICE_DELETED:d ejected:d ");
	cr_expect_eq(ejects, 0);
}

Test(hotplug, test_unplug_after_the_guest_let_go_is_immediate)
{
	plugged();
	light(OFF);
	cr_expect_not_null(dev_find(r->vm, "d"));
	unplug_ok("d", false);
	cr_expect_null(dev_find(r->vm, "d"));
}

Test(hotplug, test_unplug_before_the_start_and_after_the_end_is_immediate)
{
	atomic_store(&r->vm->state, VM_PRELAUNCH);
	r->vm->booted = true;
	plug("'id': 'd', 'bus': 'rp'");
	cr_expect_not(r->vm->booted);		/* it is enumerated at the start */
	cr_expect_eq(slot_status(), PCI_EXP_SLTSTA_PDS);
	r->vm->booted = true;
	unplug_ok("d", false);
	cr_expect_null(dev_find(r->vm, "d"));
	cr_expect_not(r->vm->booted);
	plug("'id': 'd', 'bus': 'rp'");
	atomic_store(&r->vm->state, VM_SHUTDOWN);
	unplug_ok("d", false);
	cr_expect_null(dev_find(r->vm, "d"));
	plugged();
	atomic_store(&r->vm->state, VM_GUEST_PANICKED);
	unplug_ok("d", false);
	cr_expect_null(dev_find(r->vm, "d"));
}

/* ---- with a reset ---- */

Test(hotplug, test_reset_completes_an_unplug_that_waits)
{
	plugged();
	unplug_ok("d", false);
	log_text[0] = '\0';
	rig_reset(r);
	cr_expect_null(dev_find(r->vm, "d"));
	expect_log("DEVICE_DELETED:d ejected:d RESET:- ");
	cr_expect_eq(slot_status(), 0);
}

Test(hotplug, test_reset_keeps_what_was_plugged_and_reports_no_change)
{
	plug("'id': 'd', 'bus': 'rp'");
	rig_reset(r);
	cr_expect_eq(slot_status(), PCI_EXP_SLTSTA_PDS);
	cr_expect_eq(ecam_read(r, PORT, exp_cap + PCI_EXP_SLTCTL, 2), ON);
	cr_expect_eq(dev_plug_state(dev_find(r->vm, "d")), DEV_PLUG_PRESENT);
	cr_expect_not(rig_level(r, T_GSI + 2));
}

Test(hotplug, test_reset_with_a_function_that_waits_for_function_0_boots)
{
	plug("'id': 'b', 'bus': 'rp', 'addr': '0.1'");
	rig_reset(r);
	pci_enumerate_ok(r);
	cr_expect_eq(slot_status(), 0);
}

/* ---- a hostile guest ---- */

Test(hotplug, test_guest_toggling_the_slot_harms_nobody)
{
	plugged();
	for (int i = 0; i < 300; i++) {
		ecam_write(r, PORT, exp_cap + PCI_EXP_SLTCTL, 4, (uint32_t)i * 2654435761u);
		ecam_write(r, PORT, exp_cap + PCI_EXP_LNKCTL, 2, i & 1 ? PCI_EXP_LNKCTL_LD : 0);
		if (i % 7 == 0)
			rig_turn(r);
	}
	rig_turn(r);
	cr_expect_not_null(dev_find(r->vm, "d"));	/* nobody asked it to go */
	unplug_ok("d", true);
	unplug_ok("d", true);
	cr_expect_null(dev_find(r->vm, "d"));
	expect_log("DEVICE_DELETED:d surprise-removed:d ");
}

Test(hotplug, test_vm_ends_with_an_unplug_under_way)
{
	struct err e = ERR_INIT;

	plugged();
	cr_expect_eq(dev_unplug(r->vm, "d", NULL, &e), 0);
	cr_expect_eq(dev_unplug(r->vm, "d", &(struct dev_unplug_opts){ .force = true }, &e), 0);
	cr_expect_lt(dev_unplug(r->vm, "d", NULL, &e), 0);
	cr_expect_str_eq(e.text, "Device d is already in the process of unplug; "
			 "DEVICE_DELETED follows");
}
