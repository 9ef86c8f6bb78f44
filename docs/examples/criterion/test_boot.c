/*
 * test_boot.c - a Criterion test that boots a guest and asserts on what it does.
 *
 *	cc -o test_boot test_boot.c $(pkg-config --cflags --libs roost) -lcriterion
 *	KERNEL=/boot/vmlinuz INITRD=/boot/initrd.img ./test_boot
 *
 * KERNEL is the guest; BANNER is what it says when it is up ("Linux version"
 * without it). INITRD and APPEND are optional. Each test has a VM of its own;
 * they run side by side.
 */
#include <criterion/criterion.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include <roost.h>

#define BOOT_MS	120000

static const char *env(const char *name, const char *otherwise)
{
	const char *value = getenv(name);

	return value ? value : otherwise;
}

/* A guest that has said its banner. */
static struct roost_vm *boot(void)
{
	const char *initrd = getenv("INITRD"), *append = env("APPEND", "console=ttyS0");
	const char *argv[] = { "-m", "256", "-smp", "1", "-kernel", getenv("KERNEL"),
			       "-append", append, "-initrd", initrd };
	struct roost_error e;
	struct roost_vm *vm;

	if (access("/dev/kvm", R_OK | W_OK))
		cr_skip_test("/dev/kvm cannot be opened");
	cr_assert(argv[5], "KERNEL= is not set");
	cr_assert_eq(roost_vm_create_argv(initrd ? 10 : 8, argv, &vm, &e), 0, "%s", e.text);
	cr_assert_eq(roost_vm_start(vm, &e), 0, "%s", e.text);
	cr_assert_eq(roost_serial_expect(vm, 0, env("BANNER", "Linux version"), 0, BOOT_MS, NULL,
					 &e), 0, "%s", e.text);
	return vm;
}

Test(boot, guest_says_its_banner)
{
	struct roost_vm *vm = boot();

	cr_expect_str_eq(roost_vm_state(vm), "running");
	roost_vm_destroy(vm);
}

Test(boot, guest_comes_up_again_after_a_reset)
{
	struct roost_vm *vm = boot();
	struct roost_error e;

	cr_assert_eq(roost_vm_reset(vm, &e), 0, "%s", e.text);
	cr_expect_eq(roost_serial_expect(vm, 0, env("BANNER", "Linux version"), 0, BOOT_MS, NULL,
					 &e), 0, "%s", e.text);
	roost_vm_destroy(vm);
}

Test(boot, paused_guest_keeps_its_registers)
{
	struct roost_vm *vm = boot();
	uint64_t before = 0, after = 1;
	struct roost_error e;

	cr_assert_eq(roost_vm_pause(vm, &e), 0, "%s", e.text);
	cr_assert_eq(roost_register_read(vm, 0, "rip", &before, &e), 0, "%s", e.text);
	usleep(20000);
	cr_assert_eq(roost_register_read(vm, 0, "rip", &after, &e), 0, "%s", e.text);
	cr_expect_eq(before, after);
	roost_vm_destroy(vm);
}
