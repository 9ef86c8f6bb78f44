/*
 * vCPUs: every kind of exit, parking and running, the ends a guest can come to.
 */
#include <criterion/criterion.h>
#include <errno.h>
#include <pthread.h>
#include <stdio.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

#include "tests/kvm/lib_kvm.h"
#include "vmm/base/log.h"
#include "vmm/base/util.h"
#include "vmm/core/irq.h"
#include "vmm/core/reg.h"

/* ---- exits ---- */

static uint64_t ticks_rd(struct dev *d, const struct reg *r, uint32_t index)
{
	static uint64_t ticks = 2;

	return ++ticks;
}

static const struct reg regs[] = {
	{ "ID",    0x00, 4, 0x726f6f73, 0, 0 },
	{ "CTL",   0x04, 4, 0, 0xff00, 0 },
	{ "STS",   0x08, 4, 0xff, 0, 0xff },
	{ "ADDR",  0x10, 8, 0, UINT64_MAX, 0 },
	{ "TICKS", 0x1c, 4, 0, 0, 0, .rd = ticks_rd },
	{ 0 }
};

Test(vcpu, exits_of_every_width_reach_the_bus, .timeout = 30)
{
	struct krig *r = krig_create("exits", 1, 0);
	uint8_t image[0x20];
	struct bus_win win = {
		.name = "regs", .dev = r->board, .size = sizeof(image), .regs = regs,
		.image = image,
	};

	reg_reset(regs, image, sizeof(image));
	cr_assert_eq(bus_map(r->vm->bus[BUS_MMIO], &win, MMIO_REGS), 0);
	krig_start(r);
	krig_finish(r);
	cr_assert_str_eq(r->log,
			 "o1:0=11 o2:2=2222 o4:4=33333333 | "
			 "o1:0=73 o1:0=74 o1:0=72 o1:0=69 o1:0=6e o1:0=67 "
			 "o4:8=a1a2a3a4 o4:8=b1b2b3b4 o4:8=c1c2c3c4 | "
			 "W1:1=11 W2:2=2222 W4:4=33333333 W8:8=4444444455555555 | "
			 "W2:fe=bbaa W1:11=66 W2:12=8877 W1:14=99 | ");
	cr_assert_gt(r->vm->vcpu[0]->stats.exits, 30);
	krig_destroy(r);
}

/* ---- threads ---- */

static const char *thread_name(pid_t tid, char *buf, size_t len)
{
	char path[64];
	FILE *f;

	snprintf(path, sizeof(path), "/proc/self/task/%d/comm", tid);
	f = fopen(path, "re");
	buf[0] = '\0';
	if (f && fgets(buf, (int)len, f))
		buf[strcspn(buf, "\n")] = '\0';
	if (f)
		fclose(f);
	return buf;
}

Test(vcpu, thread_has_the_name_that_management_knows, .timeout = 30)
{
	struct krig *r = krig_create("exits", 2, 0);
	struct err e = ERR_INIT;
	char name[32];

	cr_assert_eq(vcpu_spawn(r->vm->vcpu[1], &e), 0, "%s", e.text);
	cr_assert_str_eq(thread_name(r->vm->vcpu[1]->tid, name, sizeof(name)), "CPU 1/KVM");
	cr_assert_neq(r->vm->vcpu[1]->tid, getpid());
	krig_destroy(r);
}

static bool spun(struct krig *r)
{
	bool yes;

	pthread_mutex_lock(&r->board->lock);
	yes = r->echoed[0] > r->arg;
	pthread_mutex_unlock(&r->board->lock);
	return yes;
}

static uint64_t echoed(struct krig *r)
{
	uint64_t n;

	pthread_mutex_lock(&r->board->lock);
	n = r->echoed[0];
	pthread_mutex_unlock(&r->board->lock);
	return n;
}

/* TSAN: park and run, from everywhere in the guest and in its exits. */
Test(vcpu, park_and_run_a_thousand_times_loses_no_exit, .timeout = 60)
{
	struct krig *r = krig_create("spin", 1, 0);
	struct kvm_regs before, after;
	uint64_t n;
	int i;

	r->echo = true;
	krig_start(r);
	cr_assert(krig_until(r, spun));
	for (i = 0; i < 1000; i++) {
		vcpu_park_all(r->vm);
		cr_assert(r->vm->vcpu[0]->parked);
		n = echoed(r);
		if (i % 100 == 0) {
			cr_assert_eq(ioctl(r->vm->vcpu[0]->fd, KVM_GET_REGS, &before), 0);
			usleep(1000);
			cr_assert_eq(ioctl(r->vm->vcpu[0]->fd, KVM_GET_REGS, &after), 0);
			cr_assert_arr_eq(&before, &after, sizeof(before));
			cr_assert_eq(echoed(r), n, "a parked vCPU ran");
		}
		vcpu_run_all(r->vm);
		if (i % 3 == 0)
			usleep(50 * (unsigned int)(i % 7));
	}
	r->arg = (uint32_t)echoed(r) + 10;
	cr_assert(krig_until(r, spun), "it runs on");
	cr_assert_eq(r->done, 0, "check %u failed in the guest", r->verdict);
	krig_destroy(r);
}

Test(vcpu, stop_and_cont_keep_the_guest_where_it_was, .timeout = 30)
{
	struct krig *r = krig_create("spin", 1, 0);
	uint64_t n;

	r->echo = true;
	krig_start(r);
	cr_assert(krig_until(r, spun));
	vm_stop(r->vm, VM_PAUSED);
	n = echoed(r);
	krig_turn(r, 20);
	cr_assert_eq(echoed(r), n);
	r->arg = (uint32_t)n + 5;
	krig_start(r);
	cr_assert(krig_until(r, spun));
	cr_assert_eq(r->boots, 1);
	cr_assert_str_eq(r->events, "RESUME STOP RESUME ");
	krig_destroy(r);
}

static void request_from_callback(struct krig *r, uint32_t val)
{
	/* As a reset register does, on the vCPU's own thread. */
	vm_request(r->vm, VM_REQ_STOP, VM_CAUSE_NONE);
	r->arg = 0;
}

Test(vcpu, vcpu_that_asks_to_stop_does_not_run_on, .timeout = 30)
{
	struct krig *r = krig_create("fault", 1, 0);

	r->on_mark = request_from_callback;
	krig_start(r);
	/* The main loop has not turned yet: it must hold itself. */
	usleep(100000);
	cr_assert_eq(r->done, 0);
	krig_turn(r, 20);
	cr_assert_eq(r->vm->state, VM_PAUSED);
	krig_start(r);
	krig_finish(r);
	krig_destroy(r);
}

Test(vcpu, destroy_while_the_guest_runs_ends_the_thread, .timeout = 30)
{
	struct krig *r = krig_create("spin", 1, 0);

	r->echo = true;
	krig_start(r);
	cr_assert(krig_until(r, spun));
	krig_destroy(r);
}

Test(vcpu, two_vms_in_one_process, .timeout = 30)
{
	struct krig *a = krig_create("spin", 1, 0), *b = krig_create("irq", 1, 0);

	a->echo = true;
	krig_start(a);
	krig_start(b);
	cr_assert(krig_until(a, spun));
	krig_finish(b);
	krig_destroy(b);
	a->arg = (uint32_t)echoed(a) + 10;
	cr_assert(krig_until(a, spun));
	krig_destroy(a);
}

/* ---- interrupts ---- */

static void *send_msi(void *arg)
{
	const struct irq_msg m = { 0xfee00000, MSI_VECTOR, 0 };
	struct timespec ts = { 0, 5 * 1000 * 1000 };
	struct krig *r = arg;

	nanosleep(&ts, NULL);		/* most likely it sleeps by now */
	cr_assert_geq(irq_msi(r->vm->irq, &m), 0);
	return NULL;
}

static pthread_t sender[8];

static void start_sender(struct krig *r, uint32_t val)
{
	cr_assert_eq(pthread_create(&sender[val], NULL, send_msi, r), 0);
}

Test(vcpu, message_wakes_a_halted_vcpu, .timeout = 30)
{
	struct krig *r = krig_create("irq", 1, 5);
	int i;

	r->on_mark = start_sender;
	krig_start(r);
	krig_finish(r);
	for (i = 0; i < 5; i++)
		pthread_join(sender[i], NULL);
	cr_assert_eq(krig_marks(r), 5);
	cr_assert_eq(irq_stats(r->vm->irq).msis, 5);
	krig_destroy(r);
}

Test(vcpu, halted_vcpu_can_be_parked, .timeout = 30)
{
	struct krig *r = krig_create("irq", 1, 1);

	krig_start(r);
	while (krig_marks(r) == 0)
		krig_turn(r, 5);
	krig_turn(r, 5);
	vm_stop(r->vm, VM_PAUSED);
	krig_start(r);
	send_msi(r);
	krig_finish(r);
	krig_destroy(r);
}

Test(vcpu, second_vcpu_starts_by_sipi, .timeout = 30)
{
	struct krig *r = krig_create("smp", 2, 0);

	krig_start(r);
	krig_finish(r);
	cr_assert_eq(r->mark[0], 0xa9);
	cr_assert_eq(r->vm->vcpu[1]->stats.pio, 1);
	krig_destroy(r);
}

/* ---- how guests end ---- */

static bool reset_twice(struct krig *r)
{
	return r->boots == 3;
}

static void live_the_third_time(struct krig *r, uint32_t how)
{
	if (r->marks == 2)
		r->arg = 0;
}

static _Atomic int triple_fault_lines;

static void count_triple_faults(enum log_level level, const char *line, void *arg)
{
	if (strstr(line, "CPU 0: triple fault"))
		triple_fault_lines++;
}

Test(vcpu, triple_fault_resets_and_boots_again, .timeout = 30)
{
	struct krig *r = krig_create("fault", 1, 1);

	log_set_sink(count_triple_faults, NULL);
	r->on_mark = live_the_third_time;
	krig_start(r);
	cr_assert(krig_until(r, reset_twice), "%s", r->events);
	krig_finish(r);
	cr_assert_str_eq(r->events, "RESUME RESET(guest-reset) RESET(guest-reset) ");
	cr_assert_eq(triple_fault_lines, 2, "each is said: nothing else tells of it");
	krig_destroy(r);
}

static bool has_exited(struct krig *r)
{
	return r->exits;
}

Test(vcpu, triple_fault_with_no_reboot_ends, .timeout = 30)
{
	struct krig *r = krig_create("fault", 1, 1);

	r->vm->no_reboot = true;
	krig_start(r);
	cr_assert(krig_until(r, has_exited));
	cr_assert_str_eq(r->events, "RESUME SHUTDOWN(guest-reset) ");
	krig_destroy(r);
}

static void reset_once(struct krig *r)
{
	if (r->marks == 1)
		vm_request(r->vm, VM_REQ_RESET, VM_CAUSE_GUEST_RESET);
}

static void reset_in_callback(struct krig *r, uint32_t val)
{
	reset_once(r);
}

static bool booted_twice(struct krig *r)
{
	return r->boots == 2;
}

/* The exit that asked for the reset is complete before the registers are set
 * anew, or the second boot would begin one instruction late. */
Test(vcpu, reset_asked_for_by_a_port_starts_at_the_entry, .timeout = 30)
{
	struct krig *r = krig_create("fault", 1, 0);

	r->on_mark = reset_in_callback;
	krig_start(r);
	cr_assert(krig_until(r, booted_twice));
	krig_finish(r);
	cr_assert_eq(krig_marks(r), 2);
	krig_destroy(r);
}

/* A read is what KVM completes by going back into the instruction. */
Test(vcpu, reset_asked_for_by_a_read_starts_at_the_entry, .timeout = 30)
{
	struct krig *r = krig_create("fault", 1, 3);

	r->on_read = reset_once;
	krig_start(r);
	cr_assert(krig_until(r, booted_twice));
	krig_finish(r);
	cr_assert_eq(krig_marks(r), 2);
	krig_destroy(r);
}

static char said[8192];

static void collect(enum log_level level, const char *line, void *arg)
{
	strncat(said, line, sizeof(said) - strlen(said) - 2);
	strcat(said, "\n");
}

static bool in_error(struct krig *r)
{
	return r->vm->state == VM_INTERNAL_ERROR;
}

Test(vcpu, internal_error_is_reported_and_stops, .timeout = 30)
{
	struct krig *r = krig_create("fault", 1, 2);
	struct err e = ERR_INIT;

	log_set_sink(collect, NULL);
	krig_start(r);
	cr_assert(krig_until(r, in_error), "%s", r->events);
	log_set_sink(NULL, NULL);
	cr_assert_not_null(strstr(said, "KVM internal error"), "%s", said);
	cr_assert_not_null(strstr(said, "suberror 1 (emulation failure)"), "%s", said);
	cr_assert_not_null(strstr(said, "rip 00000000d0003000"), "%s", said);
	cr_assert_not_null(strstr(said, "code"), "%s", said);
	cr_assert_str_eq(r->events, "RESUME STOP ");
	cr_assert_eq(vm_start(r->vm, &e), -EINVAL);
	/* A reset leads out of it. */
	r->arg = 0;
	vm_request(r->vm, VM_REQ_RESET, VM_CAUSE_HOST_QMP_RESET);
	krig_turn(r, 10);
	krig_start(r);
	krig_finish(r);
	krig_destroy(r);
}
