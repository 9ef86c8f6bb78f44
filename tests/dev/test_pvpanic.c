/* Panic port. */
#include <criterion/criterion.h>
#include <errno.h>
#include <string.h>

#include "devices/x86/x86_devices.h"
#include "tests/dev/lib_ports.h"
#include "tests/dev/lib_rig.h"
#include "vmm/base/util.h"

static const struct dev_type *const types[] = { &pvpanic_type, NULL };

Test(pvpanic, panic_is_reported)
{
	struct rig *r = rig_create(types, 4 * MIB);

	rig_device(r, "{'driver': 'pvpanic'}");
	cr_expect_eq(rig_pio_read(r, 0x505, 1), 1);
	rig_pio_write(r, 0x505, 1, 1);
	rig_turn(r);
	cr_expect(strstr(r->events, "GUEST_PANICKED"), "'%s'", r->events);
	rig_destroy(r);
}

Test(pvpanic, event_that_is_not_offered_is_ignored)
{
	struct rig *r = rig_create(types, 4 * MIB);

	rig_device(r, "{'driver': 'pvpanic', 'events': 0}");
	rig_pio_write(r, 0x505, 1, 0xff);
	rig_turn(r);
	cr_expect_not(strstr(r->events, "GUEST_PANICKED"));
	rig_destroy(r);
}

Test(pvpanic, port_is_a_property)
{
	struct rig *r = rig_create(types, 4 * MIB);

	rig_device(r, "{'driver': 'pvpanic', 'ioport': 1234}");
	cr_expect_eq(rig_pio_read(r, 1234, 1), 1);
	cr_expect_eq(rig_pio_read(r, 0x505, 1), 0xff);
	rig_destroy(r);
}

Test(pvpanic, hostile_accesses_do_no_harm)
{
	struct rig *r = rig_create(types, 4 * MIB);

	rig_device(r, "{'driver': 'pvpanic'}");
	ports_hostile(r, 0x505, 1);
	rig_destroy(r);
}
