/*
 * The run state: requests from any thread, events, reset of devices that take
 * their time, and the end. No KVM: vCPUs are tests/kvm's business.
 */
#include <criterion/criterion.h>
#include <errno.h>
#include <pthread.h>
#include <stdio.h>
#include <string.h>

#include "vmm/base/util.h"
#include "vmm/core/vm.h"

static struct loop *loop;
static struct vm *vm;
static struct err err;
static char log_text[1024];	/* events and hooks in order */
static int boots, boot_result, exits;
static enum vm_cause exit_cause;
static bool slow;		/* the device's reset takes time */

static void say(const char *what)
{
	strncat(log_text, what, sizeof(log_text) - strlen(log_text) - 2);
	strcat(log_text, " ");
}

static void on_event(struct vm_listener *l, const char *name, json_t *data)
{
	char text[96];

	snprintf(text, sizeof(text), data ? "%s(%s%s)" : "%s", name,
		 json_is_true(json_object_get(data, "guest")) ? "guest:" : "",
		 data ? json_string_value(json_object_get(data, json_object_get(data, "reason") ?
							  "reason" : "action")) : "");
	say(text);
}

static int machine_boot(struct vm *v, struct err *e)
{
	boots++;
	say("boot");
	return boot_result ? err_set(e, boot_result, "the kernel is gone") : 0;
}

static void machine_powerdown(struct vm *v)
{
	say("button");
}

static void machine_fini(struct vm *v)
{
	say("fini");
}

static const struct vm_machine_ops machine = {
	.name = "test", .boot = machine_boot, .powerdown = machine_powerdown,
	.fini = machine_fini,
};

static void on_exit_vm(struct vm *v, enum vm_cause cause, void *arg)
{
	exits++;
	exit_cause = cause;
	say("exit");
}

static int dev_reset_op(struct dev *d)
{
	say("reset");
	return slow ? -EINPROGRESS : 0;
}

static void dev_pause_op(struct dev *d, bool paused)
{
	say(paused ? "pause" : "unpause");
}

static void dev_fini_op(struct dev *d)
{
	say(d->path);
}

static const struct dev_type slow_type = {
	.name = "slow", .size = sizeof(struct dev),
	.ops = { .reset = dev_reset_op, .pause = dev_pause_op, .fini = dev_fini_op },
};
static struct dev *dev;
static struct vm_listener listener = { .event = on_event };

static void setup(void)
{
	cr_assert_eq(loop_create(&loop, "main", LOOP_AIO_AUTO, &err), 0, "%s", err.text);
	vm = vm_create(loop);
	vm->machine = &machine;
	vm->on_exit = on_exit_vm;
	cr_assert_eq(dev_create_type(vm, &slow_type, NULL, &dev, &err), 0);
	vm_listen(vm, &listener);
	log_text[0] = '\0';
}

static void teardown(void)
{
	vm_destroy(vm);
	loop_destroy(loop);
}

TestSuite(vm, .init = setup, .fini = teardown);

static void turn(void)
{
	while (loop_turn(loop, 0) > 0)
		;
}

static void start(void)
{
	cr_assert_eq(vm_start(vm, &err), 0, "%s", err.text);
	log_text[0] = '\0';
}

static void request(enum vm_request what, enum vm_cause cause)
{
	vm_request(vm, what, cause);
	turn();
}

Test(vm, start_boots_once)
{
	cr_assert_eq(vm->state, VM_PRELAUNCH);
	cr_assert_eq(vm_start(vm, &err), 0);
	cr_assert_eq(vm->state, VM_RUNNING);
	cr_assert_eq(vm_start(vm, &err), 0);
	cr_assert_str_eq(log_text, "boot unpause RESUME ");
	vm_stop(vm, VM_PAUSED);
	cr_assert_eq(vm_start(vm, &err), 0);
	cr_assert_eq(boots, 1);
}

Test(vm, start_that_cannot_boot_stays_prelaunch)
{
	boot_result = -ENOENT;
	cr_assert_eq(vm_start(vm, &err), -ENOENT);
	cr_assert_str_eq(err.text, "the kernel is gone");
	cr_assert_eq(vm->state, VM_PRELAUNCH);
	boot_result = 0;
	cr_assert_eq(vm_start(vm, &err), 0);
}

Test(vm, stop_pauses_devices_and_says_so)
{
	start();
	vm_stop(vm, VM_PAUSED);
	cr_assert_str_eq(log_text, "pause STOP ");
	cr_assert_str_eq(vm_state_name(vm->state), "paused");
	vm_stop(vm, VM_IO_ERROR);
	cr_assert_eq(vm->state, VM_PAUSED, "what does not run cannot stop");
	cr_assert_str_eq(log_text, "pause STOP ");
}

Test(vm, powerdown_presses_the_button)
{
	start();
	request(VM_REQ_POWERDOWN, VM_CAUSE_HOST_SIGNAL);
	cr_assert_str_eq(log_text, "POWERDOWN button ");
	cr_assert_eq(vm->state, VM_RUNNING);
}

Test(vm, shutdown_ends_the_vm)
{
	start();
	request(VM_REQ_SHUTDOWN, VM_CAUSE_GUEST_SHUTDOWN);
	cr_assert_str_eq(log_text, "SHUTDOWN(guest:guest-shutdown) exit ");
	cr_assert_eq(exit_cause, VM_CAUSE_GUEST_SHUTDOWN);
}

Test(vm, shutdown_with_no_shutdown_stays)
{
	vm->no_shutdown = true;
	start();
	request(VM_REQ_SHUTDOWN, VM_CAUSE_GUEST_SHUTDOWN);
	cr_assert_str_eq(log_text, "SHUTDOWN(guest:guest-shutdown) pause STOP ");
	cr_assert_eq(vm->state, VM_SHUTDOWN);
	cr_assert_eq(exits, 0);
	cr_assert_eq(vm_start(vm, &err), -EINVAL);
	cr_assert_not_null(strstr(err.text, "'shutdown'"), "%s", err.text);
}

Test(vm, quit_ends_the_vm_even_with_no_shutdown)
{
	vm->no_shutdown = true;
	start();
	request(VM_REQ_QUIT, VM_CAUSE_HOST_QMP_QUIT);
	cr_assert_str_eq(log_text, "SHUTDOWN(host-qmp-quit) exit ");
}

Test(vm, reset_resets_devices_boots_and_runs)
{
	start();
	request(VM_REQ_RESET, VM_CAUSE_GUEST_RESET);
	cr_assert_str_eq(log_text, "reset boot RESET(guest:guest-reset) ");
	cr_assert_eq(vm->state, VM_RUNNING);
}

Test(vm, reset_with_no_reboot_is_a_shutdown)
{
	vm->no_reboot = true;
	start();
	request(VM_REQ_RESET, VM_CAUSE_HOST_QMP_RESET);
	cr_assert_str_eq(log_text, "SHUTDOWN(host-qmp-system-reset) exit ");
}

Test(vm, reset_by_a_subsystem_tells_nobody)
{
	vm->no_reboot = true;
	start();
	request(VM_REQ_RESET, VM_CAUSE_SUBSYSTEM_RESET);
	cr_assert_str_eq(log_text, "reset boot ");
}

Test(vm, reset_leaves_shutdown_for_prelaunch)
{
	vm->no_shutdown = true;
	start();
	request(VM_REQ_SHUTDOWN, VM_CAUSE_GUEST_SHUTDOWN);
	request(VM_REQ_RESET, VM_CAUSE_HOST_QMP_RESET);
	cr_assert_eq(vm->state, VM_PRELAUNCH);
	cr_assert_eq(vm_start(vm, &err), 0);
	cr_assert_eq(boots, 2);
}

Test(vm, reset_that_cannot_boot_is_an_internal_error)
{
	start();
	boot_result = -EIO;
	request(VM_REQ_RESET, VM_CAUSE_GUEST_RESET);
	cr_assert_eq(vm->state, VM_INTERNAL_ERROR);
	cr_assert_lt(vm_start(vm, &err), 0);
	boot_result = 0;
	request(VM_REQ_RESET, VM_CAUSE_HOST_QMP_RESET);
	cr_assert_eq(vm_start(vm, &err), 0);
}

Test(vm, reset_waits_for_the_slow_device)
{
	start();
	slow = true;
	request(VM_REQ_RESET, VM_CAUSE_GUEST_RESET);
	cr_assert_str_eq(log_text, "reset ", "not booted yet");
	cr_assert(vm->resetting);
	request(VM_REQ_RESET, VM_CAUSE_GUEST_RESET);
	cr_assert_str_eq(log_text, "reset ", "one is as good as two");
	slow = false;
	dev_reset_done(dev);
	cr_assert_str_eq(log_text, "reset boot RESET(guest:guest-reset) ");
	cr_assert_eq(vm->state, VM_RUNNING);
}

Test(vm, stop_while_a_reset_drains_ends_in_prelaunch)
{
	start();
	slow = true;
	request(VM_REQ_RESET, VM_CAUSE_GUEST_RESET);
	vm_stop(vm, VM_PAUSED);
	slow = false;
	dev_reset_done(dev);
	cr_assert_eq(vm->state, VM_PRELAUNCH);
	cr_assert_str_eq(log_text, "reset pause STOP boot RESET(guest:guest-reset) ");
}

Test(vm, start_while_a_reset_drains_runs_at_its_end)
{
	slow = true;
	request(VM_REQ_RESET, VM_CAUSE_HOST_QMP_RESET);
	cr_assert_eq(vm_start(vm, &err), 0);
	cr_assert_eq(boots, 0);
	slow = false;
	dev_reset_done(dev);
	cr_assert_eq(boots, 1);
	cr_assert_eq(vm->state, VM_RUNNING);
}

Test(vm, panic_stops_and_ends)
{
	start();
	request(VM_REQ_PANIC, VM_CAUSE_GUEST_PANIC);
	cr_assert_str_eq(log_text, "GUEST_PANICKED(poweroff) pause STOP "
			 "SHUTDOWN(guest:guest-panic) exit ");
}

Test(vm, panic_with_no_shutdown_waits_to_be_seen)
{
	vm->no_shutdown = true;
	start();
	request(VM_REQ_PANIC, VM_CAUSE_GUEST_PANIC);
	cr_assert_str_eq(log_text, "GUEST_PANICKED(pause) pause STOP ");
	cr_assert_eq(vm->state, VM_GUEST_PANICKED);
}

Test(vm, request_stop_enters_the_state_asked_for)
{
	start();
	vm_request_stop(vm, VM_IO_ERROR);
	turn();
	cr_assert_eq(vm->state, VM_IO_ERROR);
	cr_assert_eq(vm_start(vm, &err), 0, "cont tries again");
}

Test(vm, requests_of_one_turn_end_with_the_strongest)
{
	start();
	vm_request(vm, VM_REQ_POWERDOWN, VM_CAUSE_HOST_QMP_QUIT);
	vm_request(vm, VM_REQ_RESET, VM_CAUSE_GUEST_RESET);
	vm_request(vm, VM_REQ_QUIT, VM_CAUSE_HOST_SIGNAL);
	vm_request(vm, VM_REQ_QUIT, VM_CAUSE_HOST_UI);
	turn();
	cr_assert_str_eq(log_text, "SHUTDOWN(host-signal) exit ");
}

static void unlisten_self(struct vm_listener *l, const char *name, json_t *data)
{
	say("once");
	vm_unlisten(vm, l);
}

Test(vm, listener_may_leave_from_its_callback)
{
	struct vm_listener once = { .event = unlisten_self };

	vm_listen(vm, &once);
	vm_event(vm, "A", NULL);
	vm_event(vm, "B", NULL);
	cr_assert_str_eq(log_text, "A once B ");
	vm_unlisten(vm, &once);
}

Test(vm, destroy_goes_backwards)
{
	struct loop *l;
	struct vm *v;

	cr_assert_eq(loop_create(&l, "second", LOOP_AIO_AUTO, &err), 0);
	v = vm_create(l);
	v->machine = &machine;
	cr_assert_eq(dev_create_type(v, &slow_type, NULL, NULL, &err), 0);
	cr_assert_eq(dev_create_type(v, &slow_type, NULL, NULL, &err), 0);
	cr_assert_eq(vm_iothread_add(v, "io0", NULL, &err), 0, "%s", err.text);
	cr_assert_eq(vm_iothread_add(v, "io0", NULL, &err), -EEXIST);
	cr_assert_not_null(vm_iothread_find(v, "io0"));
	cr_assert_null(vm_iothread_find(v, "io1"));
	vm_request(v, VM_REQ_SHUTDOWN, VM_CAUSE_HOST_SIGNAL);
	log_text[0] = '\0';
	vm_destroy(v);
	cr_assert_str_eq(log_text, "reset reset slow[1] slow[0] fini ");
	loop_destroy(l);
}

static void finish_reset(struct loop_timer *t)
{
	slow = false;
	dev_reset_done(dev);
}

Test(vm, destroy_waits_for_the_slow_device)
{
	struct loop_timer t = { 0 };

	loop_timer_init(loop, &t, finish_reset, NULL);
	loop_timer_arm(&t, clock_ns() + 20 * NS_PER_MS);
	slow = true;
	vm_destroy(vm);
	cr_assert_str_eq(log_text, "reset slow[0] fini ");
	vm = NULL;
}

static void *ask(void *arg)
{
	int i;

	for (i = 0; i < 500; i++) {
		vm_request(vm, VM_REQ_RESET, VM_CAUSE_GUEST_RESET);
		vm_request_stop(vm, VM_PAUSED);
		vm_request(vm, VM_REQ_POWERDOWN, VM_CAUSE_HOST_SIGNAL);
	}
	return NULL;
}

/* TSAN: requests come from vCPUs and I/O threads. */
Test(vm, requests_from_threads_are_all_served)
{
	pthread_t t[3];
	int i;

	start();
	for (i = 0; i < 3; i++)
		cr_assert_eq(pthread_create(&t[i], NULL, ask, NULL), 0);
	for (i = 0; i < 100; i++) {
		loop_turn(loop, NS_PER_MS);
		log_text[0] = '\0';
		vm_start(vm, NULL);
	}
	for (i = 0; i < 3; i++)
		pthread_join(t[i], NULL);
	turn();
	cr_assert_eq(vm->requests, 0);
	cr_assert_not(vm->resetting);
	vm_start(vm, NULL);
	request(VM_REQ_STOP, VM_CAUSE_NONE);
	cr_assert_eq(vm->state, VM_PAUSED);
}

Test(vm, names_are_qmps)
{
	cr_assert_str_eq(vm_state_name(VM_INTERNAL_ERROR), "internal-error");
	cr_assert_str_eq(vm_state_name(VM_GUEST_PANICKED), "guest-panicked");
	cr_assert_str_eq(vm_cause_name(VM_CAUSE_HOST_QMP_RESET), "host-qmp-system-reset");
}
