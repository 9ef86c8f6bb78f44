/* Keyboard controller without keyboard: reset, self test, nobody answers. */
#include <criterion/criterion.h>
#include <string.h>

#include "devices/x86/x86_devices.h"
#include "tests/dev/lib_ports.h"
#include "tests/dev/lib_rig.h"
#include "vmm/base/util.h"

static struct rig *kbd_rig(void)
{
	struct rig *r = rig_create(NULL, 4 * MIB);

	rig_builtin(r, &i8042_type, NULL);
	return r;
}

static void cmd(struct rig *r, uint8_t c)
{
	rig_pio_write(r, 0x64, 1, c);
}

static uint8_t status(struct rig *r)
{
	return (uint8_t)rig_pio_read(r, 0x64, 1);
}

static uint8_t data(struct rig *r)
{
	return (uint8_t)rig_pio_read(r, 0x60, 1);
}

static bool was_reset(struct rig *r)
{
	rig_turn(r);
	return strstr(r->events, "RESET");
}

Test(i8042, reset_pulse_resets)
{
	struct rig *r = kbd_rig();

	cmd(r, 0xff);			/* pulses nothing */
	cr_expect_not(was_reset(r));
	cmd(r, 0xfe);
	cr_expect(was_reset(r));
	rig_destroy(r);
}

Test(i8042, output_port_resets)
{
	struct rig *r = kbd_rig();

	cmd(r, 0xd1);
	rig_pio_write(r, 0x60, 1, 0xdf);
	cr_expect_not(was_reset(r));
	cmd(r, 0xd1);
	rig_pio_write(r, 0x60, 1, 0xde);
	cr_expect(was_reset(r));
	rig_destroy(r);
}

Test(i8042, input_buffer_is_never_full)
{
	struct rig *r = kbd_rig();

	for (unsigned int c = 0; c < 0xf0; c++) {
		cmd(r, (uint8_t)c);
		cr_assert_not(status(r) & 2);
	}
	rig_destroy(r);
}

Test(i8042, self_test_passes)
{
	struct rig *r = kbd_rig();

	cmd(r, 0xaa);
	cr_expect(status(r) & 1);
	cr_expect_eq(data(r), 0x55);
	cr_expect_not(status(r) & 1);
	rig_destroy(r);
}

Test(i8042, command_byte_is_kept)
{
	struct rig *r = kbd_rig();

	cmd(r, 0x60);
	rig_pio_write(r, 0x60, 1, 0x47);
	cmd(r, 0x20);
	cr_expect_eq(data(r), 0x47);
	rig_destroy(r);
}

Test(i8042, loopback_marks_auxiliary_data)
{
	struct rig *r = kbd_rig();

	cmd(r, 0xd3);
	rig_pio_write(r, 0x60, 1, 0x5a);
	cr_expect_eq(status(r) & 0x21, 0x21);
	cr_expect_eq(data(r), 0x5a);
	rig_destroy(r);
}

Test(i8042, absent_keyboard_times_out_at_once)
{
	struct rig *r = kbd_rig();

	rig_pio_write(r, 0x60, 1, 0xff);	/* reset the keyboard */
	cr_expect(status(r) & 1);
	cr_expect_eq(data(r), 0xfe);
	rig_destroy(r);
}

Test(i8042, hostile_accesses_do_no_harm)
{
	struct rig *r = kbd_rig();

	ports_hostile(r, 0x60, 1);
	ports_hostile(r, 0x64, 1);
	rig_destroy(r);
}
