/*
 * tests/kvm/test_lib.c - libroost as a client uses it: life, run state, serial
 * ports, memory, registers, QMP, events, faults, several VMs. TSAN.
 */
#include <criterion/criterion.h>
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "roost.h"

#define SHELL	TEST_BUILD "/tests/kvm/guest_shell.elf"
#define HELLO	TEST_BUILD "/tests/kvm/guest_hello.elf"
#define OPTIONS	"-nodefaults -serial null -m 16 -kernel "
#define MS	10000		/* longer than anything takes */

static struct roost_error e;

static void need_kvm(void)
{
	if (access("/dev/kvm", R_OK | W_OK))
		cr_skip_test("/dev/kvm cannot be opened");
}

TestSuite(lib, .init = need_kvm, .timeout = 60);

static struct roost_vm *vm_with(const char *options)
{
	struct roost_vm *vm;
	int r = roost_vm_create(options, &vm, &e);

	cr_assert_eq(r, 0, "%s", e.text);
	return vm;
}

static void ok(int r)
{
	cr_assert_geq(r, 0, "%d: %s", r, e.text);
}

static void type(struct roost_vm *vm, const char *text)
{
	ok(roost_serial_write(vm, 0, text, strlen(text), MS, &e));
}

static void expect(struct roost_vm *vm, const char *text)
{
	ok(roost_serial_expect(vm, 0, text, 0, MS, NULL, &e));
}

/* A guest at its prompt. */
static struct roost_vm *shell(const char *more)
{
	char options[512];
	struct roost_vm *vm;

	snprintf(options, sizeof(options), OPTIONS SHELL " %s", more);
	vm = vm_with(options);
	ok(roost_vm_start(vm, &e));
	expect(vm, "guest ready\r\n> ");
	return vm;
}

static void done(struct roost_vm *vm)
{
	cr_expect_eq(roost_vm_destroy(vm), 0);
}

/* ---- run state ---- */

Test(lib, test_states_follow_start_pause_resume)
{
	struct roost_vm *vm = vm_with(OPTIONS SHELL);

	cr_expect_str_eq(roost_vm_state(vm), "prelaunch");
	ok(roost_vm_start(vm, &e));
	cr_expect_str_eq(roost_vm_state(vm), "running");
	ok(roost_vm_start(vm, &e));
	expect(vm, "ready");
	ok(roost_vm_pause(vm, &e));
	cr_expect_str_eq(roost_vm_state(vm), "paused");
	type(vm, "p");
	cr_expect_eq(roost_serial_expect(vm, 0, "pong", 0, 50, NULL, &e), -ETIMEDOUT);
	ok(roost_vm_resume(vm, &e));
	expect(vm, "pong");
	done(vm);
}

Test(lib, test_power_off_ends_the_wait_with_its_reason)
{
	struct roost_vm *vm = shell("");
	struct roost_exit out;

	cr_expect_eq(roost_vm_wait(vm, 20, &out, &e), -ETIMEDOUT);
	cr_expect(strstr(e.text, "running"), "%s", e.text);
	type(vm, "o");
	ok(roost_vm_wait(vm, MS, &out, &e));
	cr_expect_str_eq(out.reason, "guest-shutdown");
	cr_expect_eq(out.status, 0);
	cr_expect_str_eq(roost_vm_state(vm), "shutdown");
	expect(vm, "bye");	/* is still there */
	cr_expect_eq(roost_vm_start(vm, &e), -EINVAL);
	cr_expect(strstr(e.text, "reset"), "%s", e.text);
	done(vm);
}

Test(lib, test_debug_exit_gives_the_status)
{
	struct roost_vm *vm = shell("-device isa-debug-exit");
	struct roost_exit out;

	type(vm, "x\x10");
	ok(roost_vm_wait(vm, MS, &out, &e));
	cr_expect_eq(out.status, 0x21);
	done(vm);
}

Test(lib, test_reset_of_a_running_guest_boots_it_again)
{
	struct roost_vm *vm = shell("");

	type(vm, "p");
	expect(vm, "pong");
	ok(roost_vm_reset(vm, &e));
	expect(vm, "guest ready\r\n> ");
	type(vm, "q");
	expect(vm, "count 1\r\n");
	done(vm);
}

Test(lib, test_rewind_after_the_end_starts_from_the_beginning)
{
	struct roost_vm *vm = shell("");

	for (int i = 0; i < 5; i++) {
		type(vm, "o");
		ok(roost_vm_wait(vm, MS, NULL, &e));
		ok(roost_vm_rewind(vm, &e));
		cr_expect_str_eq(roost_vm_state(vm), "prelaunch");
		cr_expect_eq(roost_vm_wait(vm, 0, NULL, &e), -ETIMEDOUT);
		ok(roost_vm_start(vm, &e));
		expect(vm, "guest ready\r\n> ");
	}
	done(vm);
}

Test(lib, test_reset_under_no_reboot_says_that_it_ended)
{
	struct roost_vm *vm = shell("-no-reboot");

	cr_expect_eq(roost_vm_reset(vm, &e), -ESHUTDOWN);
	cr_expect(strstr(e.text, "-no-reboot"), "%s", e.text);
	done(vm);
}

Test(lib, test_two_vms_do_not_disturb_each_other)
{
	struct roost_vm *a = shell(""), *b = shell("");

	type(a, "o");
	ok(roost_vm_wait(a, MS, NULL, &e));
	type(b, "p");
	expect(b, "pong");
	done(a);
	type(b, "q");
	expect(b, "count 2\r\n");
	done(b);
}

/* ---- serial ports ---- */

Test(lib, test_expect_failure_tells_what_came_and_takes_nothing)
{
	struct roost_vm *vm = shell("");
	char *text;

	type(vm, "p");
	cr_expect_eq(roost_serial_expect(vm, 0, "login:", 0, 200, &text, &e), -ETIMEDOUT);
	cr_expect_str_eq(text, "pong\r\n");
	cr_expect_str_eq(e.text, "serial port 0: no 'login:' within 200 ms; the last line is "
			 "'pong'");
	cr_expect_eq(e.code, -ETIMEDOUT);
	roost_free(text);
	expect(vm, "pong");
	done(vm);
}

Test(lib, test_expect_of_an_ended_vm_does_not_wait)
{
	struct roost_vm *vm = shell("");

	type(vm, "o");
	cr_expect_eq(roost_serial_expect(vm, 0, "login:", 0, -1, NULL, &e), -ESHUTDOWN);
	cr_expect(strstr(e.text, "'bye'"), "%s", e.text);
	done(vm);
}

Test(lib, test_expect_of_an_empty_match_takes_no_byte_that_is_not_there)
{
	struct roost_vm *vm = shell("");
	char *text, c;

	while (roost_serial_read(vm, 0, &c, 1, 0, NULL) > 0)
		;
	cr_expect_eq(roost_serial_expect(vm, 0, "(no)?", ROOST_EXPECT_REGEX, 50, &text, &e),
		     -ETIMEDOUT);
	cr_expect_str_eq(text, "");
	roost_free(text);
	type(vm, "p");
	ok(roost_serial_expect(vm, 0, "(no)?", ROOST_EXPECT_REGEX, MS, &text, &e));
	cr_expect_str_eq(text, "p");
	roost_free(text);
	expect(vm, "ong\r\n");
	done(vm);
}

Test(lib, test_expect_takes_up_to_the_end_of_the_match)
{
	struct roost_vm *vm = shell("");
	char *text;

	type(vm, "l\r");
	ok(roost_serial_expect(vm, 0, "^line (9|10)0\r$", ROOST_EXPECT_REGEX, MS, &text, &e));
	cr_expect(strstr(text, "line 0\r\nline 1\r\n") == text, "%.20s", text);
	cr_expect_str_eq(text + strlen(text) - 8, "line 90\r");
	roost_free(text);
	ok(roost_serial_expect(vm, 0, "\n", 0, MS, NULL, &e));
	ok(roost_serial_expect(vm, 0, "\r\n", 0, MS, &text, &e));
	cr_expect_str_eq(text, "line 91\r\n");
	roost_free(text);
	expect(vm, "line 199\r\n> ");
	done(vm);
}

Test(lib, test_read_gives_bytes_as_they_come)
{
	struct roost_vm *vm = shell("");
	char buf[3], all[64] = "";
	int r;

	type(vm, "q");
	while (strlen(all) < 9) {
		r = roost_serial_read(vm, 0, buf, sizeof(buf) - 1, MS, &e);
		ok(r);
		buf[r] = 0;
		strcat(all, buf);
	}
	cr_expect_str_eq(all, "count 1\r\n");
	cr_expect_eq(roost_serial_read(vm, 0, buf, sizeof(buf), 20, &e), -ETIMEDOUT);
	cr_expect_eq(roost_serial_read(vm, 0, buf, sizeof(buf), 0, &e), -ETIMEDOUT);
	done(vm);
}

Test(lib, test_long_input_waits_for_the_guest)
{
	struct roost_vm *vm = shell("");
	char many[2001];

	memset(many, 'p', 2000);
	many[2000] = 0;
	type(vm, many);
	type(vm, "q");
	expect(vm, "count 2001\r\n");
	done(vm);
}

Test(lib, test_port_with_a_file_behind_it_can_be_read_as_well)
{
	char path[] = "/tmp/roost-lib-XXXXXX", options[128], text[64] = "";
	struct roost_vm *vm;
	int fd = mkstemp(path);

	snprintf(options, sizeof(options), "-nodefaults -m 16 -serial file:%s -kernel " SHELL, path);
	vm = vm_with(options);
	ok(roost_vm_start(vm, &e));
	expect(vm, "guest ready\r\n> ");
	type(vm, "p");
	expect(vm, "pong");
	done(vm);
	cr_expect_gt(read(fd, text, sizeof(text) - 1), 0);
	cr_expect(strstr(text, "guest ready"), "%s", text);
	close(fd);
	unlink(path);
}

Test(lib, test_vm_without_serial_option_has_one_port)
{
	struct roost_vm *vm = vm_with("-m 16 -kernel " HELLO);

	ok(roost_vm_start(vm, &e));
	expect(vm, "hello from the guest\r\n");
	cr_expect_eq(roost_serial_write(vm, 1, "x", 1, 0, &e), -ENODEV);
	done(vm);
}

/* ---- memory and registers ---- */

Test(lib, test_memory_is_the_guests)
{
	uint64_t v = 0, mine = 42;
	struct roost_vm *vm = shell("");

	type(vm, "m");
	expect(vm, "written");
	ok(roost_memory_read(vm, 0x300000, &v, sizeof(v), &e));
	cr_expect_eq(v, 0xfeedfacecafef00dull);
	ok(roost_memory_write(vm, 0x300000, &mine, sizeof(mine), &e));
	ok(roost_memory_read(vm, 0x300000, &v, sizeof(v), &e));
	cr_expect_eq(v, 42);
	cr_expect_eq(roost_memory_read(vm, (16 << 20) - 4, &v, sizeof(v), &e), -EFAULT);
	cr_expect_eq(roost_memory_write(vm, UINT64_MAX - 3, &v, sizeof(v), &e), -EFAULT);
	ok(roost_memory_read(vm, 0, NULL, 0, &e));
	done(vm);
}

Test(lib, test_registers_are_read_and_written)
{
	struct roost_vm *vm = shell("");
	uint64_t v;

	type(vm, "h");
	expect(vm, "halted");
	for (int i = 0; i < 100; i++) {
		ok(roost_register_read(vm, 0, "rbx", &v, &e));
		if (v == 0x1122334455667788ull)
			break;
		usleep(1000);
	}
	cr_expect_eq(v, 0x1122334455667788ull);
	ok(roost_register_write(vm, 0, "r15", 77, &e));
	ok(roost_register_read(vm, 0, "r15", &v, &e));
	cr_expect_eq(v, 77);
	ok(roost_register_read(vm, 0, "cr0", &v, &e));
	cr_expect(v & 1, "no protected mode?");
	cr_expect_eq(roost_register_read(vm, 0, "eax", &v, &e), -EINVAL);
	cr_expect_eq(roost_register_read(vm, 1, "rax", &v, &e), -EINVAL);
	cr_expect_eq(roost_register_write(vm, 0, "cs.selector", 1 << 16, &e), -EINVAL);
	cr_expect_null(roost_register_name(1000));
	done(vm);
}

Test(lib, test_register_reads_do_not_stop_a_reset)
{
	struct roost_vm *vm = shell("");
	uint64_t v;

	for (int i = 0; i < 5; i++) {
		type(vm, "r");
		for (int k = 0; k < 20; k++)
			ok(roost_register_read(vm, 0, "rip", &v, &e));
		expect(vm, "guest ready\r\n> ");
	}
	done(vm);
}

/* A guest that has switched itself off is not let go on by a look at it. */
Test(lib, test_monitor_reads_registers_without_letting_an_ended_guest_run)
{
	static const char look[] = "{\"execute\":\"human-monitor-command\",\"arguments\":"
		"{\"command-line\":\"info registers\"}}";
	struct roost_exit out;
	struct roost_vm *vm;
	char buf[64];
	int n;

	for (int i = 0; i < 20; i++) {
		vm = shell("");
		type(vm, "op");
		for (int k = 0; k < 100 && roost_vm_wait(vm, 0, &out, NULL) != 0; k++)
			ok(roost_qmp(vm, look, NULL, &e));
		ok(roost_vm_wait(vm, MS, &out, &e));
		n = roost_serial_read(vm, 0, buf, sizeof(buf) - 1, 0, NULL);
		buf[n > 0 ? n : 0] = '\0';
		cr_expect_null(strstr(buf, "pong"), "it went on: %s", buf);
		done(vm);
	}
}

/* ---- control ---- */

Test(lib, test_qmp_replies_and_refuses)
{
	struct roost_vm *vm = shell("");
	char *text;

	ok(roost_qmp(vm, "{'execute':'query-status'}", &text, &e) == -EINVAL ? 0 : -1);
	ok(roost_qmp(vm, "{\"execute\":\"query-status\",\"id\":7}", &text, &e));
	cr_expect(strstr(text, "\"running\""), "%s", text);
	cr_expect(strstr(text, "\"id\":7"), "%s", text);
	roost_free(text);
	ok(roost_qmp(vm, "{\"execute\":\"query-nothing\"}", &text, &e));
	cr_expect(strstr(text, "CommandNotFound"), "%s", text);
	roost_free(text);
	ok(roost_qmp_command(vm, "query-name", NULL, &text, &e));
	cr_expect_str_eq(text, "{}");
	roost_free(text);
	cr_expect_eq(roost_qmp_command(vm, "query-nothing", NULL, NULL, &e), -ENOSYS);
	cr_expect_eq(roost_qmp_command(vm, "stop", "{\"x\":1}", NULL, &e), -EINVAL);
	ok(roost_qmp_command(vm, "stop", NULL, NULL, &e));
	cr_expect_str_eq(roost_vm_state(vm), "paused");
	ok(roost_qmp_command(vm, "quit", NULL, NULL, &e));
	ok(roost_vm_wait(vm, MS, NULL, &e));
	done(vm);
}

Test(lib, test_parts_are_added_and_removed)
{
	struct roost_vm *vm = vm_with(OPTIONS SHELL " -device pcie-root-port,id=rp0");
	uint64_t cursor = 0;

	ok(roost_add(vm, "object", "iothread,id=io0", &e));
	ok(roost_add(vm, "device", "virtio-rng-pci,id=rng0,bus=rp0", &e));
	cr_expect_lt(roost_add(vm, "device", "virtio-rng-pci,id=rng0,bus=rp0", &e), 0);
	ok(roost_remove(vm, "device", "rng0", &e));
	ok(roost_event_wait(vm, "DEVICE_DELETED", &cursor, MS, NULL, &e));
	ok(roost_add(vm, "chardev", "null,id=c0", &e));
	ok(roost_remove(vm, "chardev", "c0", &e));
	ok(roost_remove(vm, "object", "io0", &e));
	cr_expect_lt(roost_remove(vm, "object", "io0", &e), 0);
	cr_expect_eq(roost_add(vm, "toaster", "x", &e), -EINVAL);
	ok(roost_vm_start(vm, &e));
	expect(vm, "ready");
	done(vm);
}

/* ---- events ---- */

struct seen {
	_Atomic int events, resets;
	int id, r;
	char name[64];
};

static void on_event(struct roost_vm *vm, const char *name, const char *json, void *arg)
{
	struct seen *s = arg;

	s->events++;
	s->resets += strcmp(name, "RESET") == 0;
	snprintf(s->name, sizeof(s->name), "%s", name);
	cr_expect(strstr(json, name), "%s", json);
}

Test(lib, test_events_reach_callbacks_readers_and_the_descriptor)
{
	struct roost_vm *vm = vm_with(OPTIONS SHELL);
	struct pollfd pfd = { .events = POLLIN };
	uint64_t cursor = 0, all = 0, n;
	struct seen s = { 0 };
	char *text;
	int sub;

	pfd.fd = roost_event_fd(vm, &e);
	ok(pfd.fd);
	cr_expect_eq(roost_event_fd(vm, &e), pfd.fd);
	sub = roost_event_subscribe(vm, on_event, &s, &e);
	cr_assert_gt(sub, 0);
	ok(roost_vm_start(vm, &e));
	cr_expect_eq(poll(&pfd, 1, MS), 1);
	cr_expect_eq(read(pfd.fd, &n, sizeof(n)), sizeof(n));
	expect(vm, "ready");
	type(vm, "r");
	ok(roost_event_wait(vm, "RESET", &cursor, MS, &text, &e));
	cr_expect(strstr(text, "guest-reset"), "%s", text);
	roost_free(text);
	cr_expect_eq(roost_event_wait(vm, "RESET", &cursor, 20, &text, &e), -ETIMEDOUT);
	cr_expect_null(text);
	ok(roost_event_wait(vm, NULL, &all, 0, &text, &e));
	cr_expect(strstr(text, "RESUME"), "%s", text);
	roost_free(text);
	ok(roost_event_unsubscribe(vm, sub, &e));
	cr_expect_eq(roost_event_unsubscribe(vm, sub, &e), -ENOENT);
	cr_expect_eq(s.resets, 1);
	n = (uint64_t)s.events;
	ok(roost_vm_pause(vm, &e));
	cr_expect_eq((uint64_t)s.events, n);
	done(vm);
}

Test(lib, test_late_reader_is_told_what_it_missed)
{
	struct roost_vm *vm = shell("");
	uint64_t cursor = 0;
	char *text;

	for (int i = 0; i < 200; i++) {
		ok(roost_vm_pause(vm, &e));
		ok(roost_vm_resume(vm, &e));
	}
	ok(roost_event_wait(vm, NULL, &cursor, 0, &text, &e));
	cr_expect(strstr(text, "__org.roost_EVENTS_LOST"), "%s", text);
	cr_expect(strstr(text, "\"count\":145"), "%s", text);
	roost_free(text);
	ok(roost_event_wait(vm, "STOP", &cursor, 0, NULL, &e));
	done(vm);
}

/* What a callback may do, and what it may not. */
static void meddle(struct roost_vm *vm, const char *name, const char *json, void *arg)
{
	struct roost_error err;
	struct seen *s = arg;
	uint64_t v, cursor = 0;
	char *text;

	if (strcmp(name, "STOP") || s->events++)
		return;
	s->r |= roost_vm_destroy(vm) != -EDEADLK;
	s->r |= (roost_vm_wait(vm, 10, NULL, &err) != -EDEADLK) << 1;
	s->r |= (roost_vm_rewind(vm, &err) != -EDEADLK) << 2;
	s->r |= (roost_event_wait(vm, NULL, &cursor, -1, NULL, &err) != -EDEADLK) << 3;
	s->r |= (roost_serial_expect(vm, 0, "x", 0, 10, NULL, &err) != -EDEADLK) << 4;
	s->r |= (roost_register_read(vm, 0, "rip", &v, &err) != 0) << 5;
	s->r |= (roost_qmp_command(vm, "query-status", NULL, &text, &err) != 0) << 6;
	roost_free(text);
	s->r |= (roost_event_unsubscribe(vm, s->id, &err) != 0) << 7;
	s->r |= (roost_vm_reset(vm, &err) != 0) << 8;
	s->r |= (roost_vm_resume(vm, &err) != 0) << 9;
}

Test(lib, test_callback_may_call_all_that_does_not_wait)
{
	struct roost_vm *vm = shell("");
	struct seen s = { 0 };

	s.id = roost_event_subscribe(vm, meddle, &s, &e);
	ok(s.id);
	ok(roost_vm_pause(vm, &e));
	expect(vm, "guest ready");
	cr_expect_eq(s.r, 0, "0x%x", s.r);
	cr_expect_eq(s.events, 1);
	done(vm);
}

/* ---- faults and disks ---- */

Test(lib, test_serial_stall_holds_the_guest_up)
{
	struct roost_vm *vm = shell("");
	char *text;

	ok(roost_fault_add(vm, "id=f,chardev=serial0,stall=in", &e));
	ok(roost_fault_list(vm, &text, &e));
	cr_expect_str_eq(text, "[{\"id\":\"f\",\"chardev\":\"serial0\",\"stall\":\"in\"}]");
	roost_free(text);
	type(vm, "p");
	cr_expect_eq(roost_serial_expect(vm, 0, "pong", 0, 100, NULL, &e), -ETIMEDOUT);
	ok(roost_fault_remove(vm, "f", &e));
	expect(vm, "pong");
	cr_expect_eq(roost_fault_remove(vm, "f", &e), -ENOENT);
	cr_expect_eq(roost_fault_add(vm, "id=g,drive=none,errno=EIO", &e), -ENOENT);
	done(vm);
}

Test(lib, test_disk_reset_wants_a_stopped_guest_and_a_disk_in_memory)
{
	char path[] = "/tmp/roost-lib-XXXXXX", more[256];
	int fd = mkstemp(path);
	struct roost_vm *vm;

	cr_assert_eq(ftruncate(fd, 1 << 20), 0);
	snprintf(more, sizeof(more), "-drive file=%s,format=raw,id=d0,snapshot=on "
		 "-drive file=%s,format=raw,id=d1,readonly=on", path, path);
	vm = shell(more);
	cr_expect_eq(roost_disk_reset(vm, "d0", &e), -EBUSY);
	ok(roost_vm_pause(vm, &e));
	ok(roost_disk_reset(vm, "d0", &e));
	cr_expect_eq(roost_disk_reset(vm, "d1", &e), -EINVAL);
	cr_expect(strstr(e.text, "snapshot=on"), "%s", e.text);
	cr_expect_eq(roost_disk_reset(vm, "d2", &e), -ENOENT);
	ok(roost_fault_add(vm, "id=f,drive=d0,errno=EIO,op=write", &e));
	done(vm);
	close(fd);
	unlink(path);
}

/* ---- misuse ---- */

Test(lib, test_null_and_stale_handles_are_errors)
{
	struct roost_vm *vm = vm_with(OPTIONS SHELL);
	uint64_t v, cursor = 0;
	char buf[8];

	cr_expect_eq(roost_vm_destroy(NULL), 0);
	done(vm);
	cr_expect_eq(roost_vm_destroy(vm), -ESTALE);
	cr_expect_eq(roost_vm_start(vm, &e), -ESTALE);
	cr_expect_eq(e.code, -ESTALE);
	cr_expect_eq(roost_vm_start(NULL, &e), -EINVAL);
	cr_expect_eq(roost_vm_start(vm, NULL), -ESTALE);
	cr_expect_eq(roost_vm_wait(vm, -1, NULL, &e), -ESTALE);
	cr_expect_eq(roost_vm_reset(vm, &e), -ESTALE);
	cr_expect_eq(roost_vm_rewind(NULL, &e), -EINVAL);
	cr_expect_eq(roost_serial_read(vm, 0, buf, sizeof(buf), -1, &e), -ESTALE);
	cr_expect_eq(roost_serial_expect(vm, 0, "x", 0, -1, NULL, &e), -ESTALE);
	cr_expect_eq(roost_memory_read(vm, 0, buf, sizeof(buf), &e), -ESTALE);
	cr_expect_eq(roost_register_read(vm, 0, "rip", &v, &e), -ESTALE);
	cr_expect_eq(roost_qmp_command(vm, "stop", NULL, NULL, &e), -ESTALE);
	cr_expect_eq(roost_event_wait(vm, NULL, &cursor, -1, NULL, &e), -ESTALE);
	cr_expect_eq(roost_event_fd(vm, &e), -ESTALE);
	cr_expect_eq(roost_event_subscribe(vm, on_event, NULL, &e), -ESTALE);
	cr_expect_eq(roost_fault_add(vm, "id=f", &e), -ESTALE);
	cr_expect_str_eq(roost_vm_state(vm), "");
	cr_expect_str_eq(roost_vm_state(NULL), "");
}

Test(lib, test_null_arguments_are_errors)
{
	struct roost_vm *vm = vm_with(OPTIONS SHELL);

	cr_expect_eq(roost_memory_read(vm, 0, NULL, 1, &e), -EINVAL);
	cr_expect_eq(roost_register_read(vm, 0, NULL, NULL, &e), -EINVAL);
	cr_expect_eq(roost_serial_read(vm, 0, NULL, 1, 0, &e), -EINVAL);
	cr_expect_eq(roost_serial_write(vm, 0, NULL, 1, 0, &e), -EINVAL);
	cr_expect_eq(roost_serial_expect(vm, 0, NULL, 0, 0, NULL, &e), -EINVAL);
	cr_expect_eq(roost_serial_expect(vm, 0, "(", ROOST_EXPECT_REGEX, 0, NULL, &e), -EINVAL);
	cr_expect_eq(roost_serial_expect(vm, 0, "x", 6, 0, NULL, &e), -EINVAL);
	cr_expect_eq(roost_qmp(vm, NULL, NULL, &e), -EINVAL);
	cr_expect_eq(roost_qmp_command(vm, NULL, NULL, NULL, &e), -EINVAL);
	cr_expect_eq(roost_qmp_command(vm, "stop", "[", NULL, &e), -EINVAL);
	cr_expect_eq(roost_add(vm, NULL, "x", &e), -EINVAL);
	cr_expect_eq(roost_add(vm, "device", NULL, &e), -EINVAL);
	cr_expect_eq(roost_remove(vm, "device", NULL, &e), -EINVAL);
	cr_expect_eq(roost_event_subscribe(vm, NULL, NULL, &e), -EINVAL);
	cr_expect_eq(roost_event_wait(vm, NULL, NULL, 0, NULL, &e), -EINVAL);
	cr_expect_eq(roost_disk_reset(vm, NULL, &e), -EINVAL);
	cr_expect_eq(roost_fault_list(vm, NULL, &e), -EINVAL);
	done(vm);
}

static void *wait_for_end(void *arg)
{
	struct roost_error err;

	return (void *)(intptr_t)roost_vm_wait(arg, -1, NULL, &err);
}

static void *expect_nothing(void *arg)
{
	struct roost_error err;

	return (void *)(intptr_t)roost_serial_expect(arg, 0, "never", 0, -1, NULL, &err);
}

Test(lib, test_destroy_sends_waiting_threads_away)
{
	struct roost_vm *vm = shell("");
	pthread_t a, b;
	void *ra, *rb;

	pthread_create(&a, NULL, wait_for_end, vm);
	pthread_create(&b, NULL, expect_nothing, vm);
	usleep(50000);
	done(vm);
	pthread_join(a, &ra);
	pthread_join(b, &rb);
	cr_expect_eq((intptr_t)ra, -ESHUTDOWN);
	cr_expect_eq((intptr_t)rb, -ESHUTDOWN);
}

static void *destroy(void *arg)
{
	return (void *)(intptr_t)roost_vm_destroy(arg);
}

static void *hammer(void *arg)
{
	struct roost_error err;
	uint64_t v;
	int r;

	do {
		r = roost_register_read(arg, 0, "rip", &v, &err);
		roost_vm_state(arg);
		roost_memory_read(arg, 0, &v, sizeof(v), &err);
		roost_serial_write(arg, 0, "p", 1, 0, &err);
		roost_qmp_command(arg, "query-status", NULL, NULL, &err);
	} while (r == 0);
	return (void *)(intptr_t)r;
}

Test(lib, test_calls_from_many_threads_while_it_is_destroyed)
{
	struct roost_vm *vm = shell("");
	pthread_t t[4], d[2];
	void *r[4], *rd[2];

	for (int i = 0; i < 4; i++)
		pthread_create(&t[i], NULL, hammer, vm);
	usleep(100000);
	for (int i = 0; i < 2; i++)
		pthread_create(&d[i], NULL, destroy, vm);
	for (int i = 0; i < 4; i++) {
		pthread_join(t[i], &r[i]);
		cr_expect_eq((intptr_t)r[i], -ESTALE);
	}
	for (int i = 0; i < 2; i++)
		pthread_join(d[i], &rd[i]);
	cr_expect_eq((intptr_t)rd[0] + (intptr_t)rd[1], -ESTALE, "not destroyed exactly once");
}

/* ---- the process ---- */

static int entries(const char *dir)
{
	DIR *d = opendir(dir);
	int n = 0;

	while (readdir(d))
		n++;
	closedir(d);
	return n;
}

Test(lib, test_failed_creations_leave_nothing)
{
	static const char *const bad[] = {
		OPTIONS "/nonexistent", "-m 16 -device toaster -kernel " SHELL, "-nonsense",
		"-m 16 -machine toaster -kernel " SHELL, "-m 16",
		"-drive file=/nonexistent -kernel " SHELL, "-m 16 -kernel 'x", "-help",
		"-daemonize -kernel " SHELL,
	};
	struct roost_vm *vm = (struct roost_vm *)&e;
	int fds, threads;

	roost_vm_create(bad[0], &vm, &e);	/* whatever is allocated once */
	fds = entries("/proc/self/fd");
	threads = entries("/proc/self/task");
	for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
		memset(&e, 0, sizeof(e));
		cr_expect_lt(roost_vm_create(bad[i], &vm, &e), 0, "%s", bad[i]);
		cr_expect_null(vm);
		cr_expect_gt(strlen(e.text), 10, "%s: '%s'", bad[i], e.text);
	}
	cr_expect_eq(entries("/proc/self/fd"), fds);
	cr_expect_eq(entries("/proc/self/task"), threads);
}
