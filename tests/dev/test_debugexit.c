/* Debug-exit port. */
#include <criterion/criterion.h>
#include <errno.h>
#include <string.h>

#include "devices/x86/x86_devices.h"
#include "tests/dev/lib_ports.h"
#include "tests/dev/lib_rig.h"
#include "vmm/base/util.h"

static const struct dev_type *const types[] = { &debug_exit_type, NULL };

Test(debugexit, value_becomes_status)
{
	struct rig *r = rig_create(types, 4 * MIB);

	rig_device(r, "{'driver': 'isa-debug-exit'}");
	rig_pio_write(r, 0x501, 1, 0x2a);
	rig_turn(r);
	cr_expect_eq(r->exits, 1);
	cr_expect_eq(r->vm->exit_status, 0x2a << 1 | 1);
	rig_destroy(r);
}

Test(debugexit, ports_are_properties)
{
	struct rig *r = rig_create(types, 4 * MIB);

	rig_device(r, "{'driver': 'isa-debug-exit', 'iobase': '0xf4', 'iosize': '0x04'}");
	rig_pio_write(r, 0xf4, 4, 0);
	rig_turn(r);
	cr_expect_eq(r->exits, 1);
	cr_expect_eq(r->vm->exit_status, 1);
	rig_destroy(r);
}

Test(debugexit, range_past_the_last_port_is_refused)
{
	struct rig *r = rig_create(types, 4 * MIB);
	struct err e = ERR_INIT;

	cr_expect_eq(rig_device_error(r, "{'driver': 'isa-debug-exit', 'iobase': 65535}", &e),
		     -ENOSPC);
	cr_expect(strstr(e.text, "0xffff"), "%s", e.text);
	rig_destroy(r);
}

Test(debugexit, hostile_accesses_do_no_harm)
{
	struct rig *r = rig_create(types, 4 * MIB);

	rig_device(r, "{'driver': 'isa-debug-exit'}");
	ports_hostile(r, 0x501, 2);
	rig_destroy(r);
}
