/*
 * vmm/core/vm.c - one virtual machine: creation and end, requests, reset.
 *
 * Threads: main loop, except vm_request*().
 * Missing: live migration states.
 *
 * Rules of the run state, as QMP clients know them from QEMU: SHUTDOWN and
 * INTERNAL_ERROR are left by a reset only; a reset while the guest does not run
 * leads to PRELAUNCH.
 */
#include <assert.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "vmm/base/fds.h"
#include "vmm/base/log.h"
#include "vmm/base/util.h"
#include "vmm/core/kvm.h"
#include "vmm/core/plug.h"
#include "vmm/core/object.h"
#include "vmm/core/vcpu.h"
#include "vmm/core/vm.h"
#include "vmm/loop/iothread.h"

#define PIO_BYTES	0x10000ull	/* x86: 16-bit port numbers */
#define MMIO_BYTES	(1ull << 52)	/* the most address bits a CPU has */

/* How long vm_destroy() waits for I/O in flight. The kernel returns cancelled
 * requests at once, except from storage that hangs; what only waits for a retry
 * ends at once. */
#define DRAIN_NS	NS_PER_SEC

/* And for the last flush of a disk whose storage answers, but is slow. */
#define SETTLE_NS	(10 * NS_PER_SEC)

TRACE_DEFINE(vm_request);
TRACE_DEFINE(vm_state);
TRACE_DEFINE(vm_reset_pending);

static const char *const state_names[] = {
	[VM_PRELAUNCH] = "prelaunch",
	[VM_RUNNING] = "running",
	[VM_PAUSED] = "paused",
	[VM_SHUTDOWN] = "shutdown",
	[VM_INTERNAL_ERROR] = "internal-error",
	[VM_IO_ERROR] = "io-error",
	[VM_GUEST_PANICKED] = "guest-panicked",
};
static_assert(ARRAY_LEN(state_names) == VM_STATES, "one word per state");

static const char *const cause_names[] = {
	[VM_CAUSE_NONE] = "none",
	[VM_CAUSE_HOST_ERROR] = "host-error",
	[VM_CAUSE_HOST_QMP_QUIT] = "host-qmp-quit",
	[VM_CAUSE_HOST_QMP_RESET] = "host-qmp-system-reset",
	[VM_CAUSE_HOST_SIGNAL] = "host-signal",
	[VM_CAUSE_HOST_UI] = "host-ui",
	[VM_CAUSE_GUEST_SHUTDOWN] = "guest-shutdown",
	[VM_CAUSE_GUEST_RESET] = "guest-reset",
	[VM_CAUSE_GUEST_PANIC] = "guest-panic",
	[VM_CAUSE_SUBSYSTEM_RESET] = "subsystem-reset",
};
static_assert(ARRAY_LEN(cause_names) == VM_CAUSES, "one word per cause");

static void serve_requests(struct loop_work *w);

const char *vm_state_name(enum vm_state s)
{
	return state_names[s];
}

const char *vm_cause_name(enum vm_cause c)
{
	return cause_names[c];
}

struct vm *vm_create(struct loop *main)
{
	struct vm *vm = xcalloc(1, sizeof(*vm));

	vm->main = main;
	vm->settle_ns = SETTLE_NS;
	vm->mem = gmem_create();
	vm->fds = fds_create();
	vm->bus[BUS_PIO] = bus_create("pio", PIO_BYTES);
	vm->bus[BUS_MMIO] = bus_create("mmio", MMIO_BYTES);
	vm->request_work.cb = serve_requests;
	atomic_init(&vm->state, VM_PRELAUNCH);
	atomic_init(&vm->stop_state, VM_PAUSED);
	return vm;
}

/* ---- listeners ---- */

void vm_listen(struct vm *vm, struct vm_listener *l)
{
	struct vm_listener **at = &vm->listeners;

	while (*at)
		at = &(*at)->next;
	l->next = NULL;
	*at = l;
}

void vm_unlisten(struct vm *vm, struct vm_listener *l)
{
	struct vm_listener **at = &vm->listeners;

	while (*at && *at != l)
		at = &(*at)->next;
	if (*at)
		*at = l->next;
}

void vm_event(struct vm *vm, const char *name, json_t *data)
{
	struct vm_listener *l, *next;

	for (l = vm->listeners; l; l = next) {
		next = l->next;
		l->event(l, name, data);
	}
	json_decref(data);
}

static json_t *cause_data(enum vm_cause cause)
{
	bool guest = cause >= VM_CAUSE_GUEST_SHUTDOWN;

	return json_pack("{s:b, s:s}", "guest", guest, "reason", vm_cause_name(cause));
}

/* ---- run and stop ---- */

static void set_state(struct vm *vm, enum vm_state s)
{
	trace(vm_state, "%s", vm_state_name(s));
	atomic_store(&vm->state, s);
}

static bool is_running(const struct vm *vm)
{
	return atomic_load(&vm->state) == VM_RUNNING;
}

static int boot(struct vm *vm, struct err *e)
{
	int r = 0;

	if (!vm->booted && vm->machine && vm->machine->boot)
		r = vm->machine->boot(vm, e);
	vm->booted = r == 0;
	return r;
}

static int spawn_vcpus(struct vm *vm, struct err *e)
{
	uint32_t i;
	int r = 0;

	for (i = 0; i < vm->vcpu_count && r == 0; i++)
		if (vm->vcpu[i] && !vm->vcpu[i]->has_thread)
			r = vcpu_spawn(vm->vcpu[i], e);
	return r;
}

static void pause_devices(struct vm *vm, bool paused)
{
	struct dev *d;

	for (d = vm->devs; d; d = d->next)
		dev_pause(d, paused);
}

static int check_may_start(struct vm *vm, struct err *e)
{
	int s = atomic_load(&vm->state);

	if (s == VM_PRELAUNCH || s == VM_PAUSED || s == VM_IO_ERROR)
		return 0;
	return err_set(e, -EINVAL, "the VM is in state '%s', which only a reset "
		       "(system_reset) leaves", vm_state_name(s));
}

int vm_start(struct vm *vm, struct err *e)
{
	int r;

	if (is_running(vm))
		return 0;
	r = check_may_start(vm, e);
	/* While a reset drains, its completion boots and runs. */
	if (r == 0 && !vm->resetting)
		r = boot(vm, e);
	if (r == 0)
		r = spawn_vcpus(vm, e);
	if (r < 0)
		return r;
	set_state(vm, VM_RUNNING);
	pause_devices(vm, false);
	vm_event(vm, "RESUME", NULL);
	/* A listener may have stopped it again. */
	if (is_running(vm) && !vm->resetting)
		vcpu_run_all(vm);
	return 0;
}

/* Into a state that is not RUNNING, from any. */
static void force_state(struct vm *vm, enum vm_state s)
{
	bool ran = is_running(vm);

	vcpu_park_all(vm);
	set_state(vm, s);
	if (!ran)
		return;
	pause_devices(vm, true);
	vm_event(vm, "STOP", NULL);
}

void vm_stop(struct vm *vm, enum vm_state why)
{
	if (is_running(vm))
		force_state(vm, why);
}

/* ---- reset ---- */

static void reset_complete(struct vm *vm)
{
	struct err e = ERR_INIT;
	bool run = is_running(vm);

	if (!vm->resetting || plug_at_reset(vm))
		return;
	vm->resetting = false;
	if (boot(vm, &e) < 0) {
		log_err("reset: %s", e.text);
		force_state(vm, VM_INTERNAL_ERROR);
		run = false;
	} else if (!run) {
		set_state(vm, VM_PRELAUNCH);
	}
	/* QEMU's clients never see the resets that a subsystem makes. */
	if (vm->reset_cause != VM_CAUSE_NONE && vm->reset_cause != VM_CAUSE_SUBSYSTEM_RESET)
		vm_event(vm, "RESET", cause_data(vm->reset_cause));
	if (run && is_running(vm) && !vm->resetting)
		vcpu_run_all(vm);
}

void vm_reset_drop(struct vm *vm)
{
	assert(vm->resets_pending > 0);
	if (--vm->resets_pending == 0)
		reset_complete(vm);
}

static void reset(struct vm *vm, enum vm_cause cause)
{
	struct dev *d;

	if (vm->resetting)	/* one is as good as two */
		return;
	vcpu_park_all(vm);
	/* Other vCPUs may have asked as well before they parked. */
	atomic_fetch_and(&vm->requests, ~BIT(VM_REQ_RESET));
	vm->resetting = true;
	vm->reset_cause = cause;
	vm->booted = false;
	vm->resets_pending++;	/* so that none completes it half way */
	for (d = vm->devs; d; d = d->next)
		if (dev_reset(d) == -EINPROGRESS)
			trace(vm_reset_pending, "%s", d->path);
	vm_reset_drop(vm);
}

/* ---- requests ---- */

static void shut_down(struct vm *vm, enum vm_cause cause, bool stay)
{
	vcpu_park_all(vm);
	vm_event(vm, "SHUTDOWN", cause_data(cause));
	if (stay) {
		force_state(vm, VM_SHUTDOWN);
		return;
	}
	set_state(vm, VM_SHUTDOWN);
	if (vm->on_exit)
		vm->on_exit(vm, cause, vm->on_exit_arg);
}

/* QEMU's -action panic=shutdown: end, or with -no-shutdown wait to be seen. */
static void panicked(struct vm *vm, enum vm_cause cause)
{
	vcpu_park_all(vm);
	vm_event(vm, "GUEST_PANICKED", json_pack("{s:s}", "action",
						 vm->no_shutdown ? "pause" : "poweroff"));
	force_state(vm, VM_GUEST_PANICKED);
	if (!vm->no_shutdown)
		shut_down(vm, cause, false);
}

static void serve(struct vm *vm, enum vm_request what, enum vm_cause cause)
{
	trace(vm_request, "%d %s", what, vm_cause_name(cause));
	switch (what) {
	case VM_REQ_POWERDOWN:
		vm_event(vm, "POWERDOWN", NULL);
		if (vm->machine && vm->machine->powerdown)
			vm->machine->powerdown(vm);
		break;
	case VM_REQ_SHUTDOWN:
		shut_down(vm, cause, vm->no_shutdown);
		break;
	case VM_REQ_RESET:
		if (vm->no_reboot && cause != VM_CAUSE_SUBSYSTEM_RESET)
			shut_down(vm, cause, vm->no_shutdown);
		else
			reset(vm, cause);
		break;
	case VM_REQ_STOP:
		vm_stop(vm, (enum vm_state)atomic_exchange(&vm->stop_state, VM_PAUSED));
		break;
	case VM_REQ_PANIC:
		panicked(vm, cause);
		break;
	default:
		shut_down(vm, cause, false);
	}
}

static void serve_requests(struct loop_work *w)
{
	/* The end beats a pause beats a new start; of two ends, quit. */
	static const enum vm_request order[] = {
		VM_REQ_QUIT, VM_REQ_PANIC, VM_REQ_SHUTDOWN, VM_REQ_STOP, VM_REQ_RESET,
		VM_REQ_POWERDOWN,
	};
	struct vm *vm = container_of(w, struct vm, request_work);
	uint32_t asked = atomic_exchange(&vm->requests, 0);
	bool ended = false;	/* then the rest has no meaning */
	enum vm_cause cause;
	size_t i;

	static_assert(ARRAY_LEN(order) == VM_REQUESTS, "every request has a place");
	for (i = 0; i < ARRAY_LEN(order); i++) {
		if (!(asked & BIT(order[i])))
			continue;
		cause = (enum vm_cause)atomic_exchange(&vm->cause[order[i]], VM_CAUSE_NONE);
		if (!ended)
			serve(vm, order[i], cause);
		ended |= order[i] == VM_REQ_QUIT || order[i] == VM_REQ_PANIC ||
			 order[i] == VM_REQ_SHUTDOWN;
	}
}

void vm_request(struct vm *vm, enum vm_request what, enum vm_cause cause)
{
	int none = VM_CAUSE_NONE;

	/* First, or the main loop could serve the request and let this vCPU
	 * run before it held itself, for ever then. */
	if (what != VM_REQ_POWERDOWN)
		vcpu_hold_self(vm);
	atomic_compare_exchange_strong(&vm->cause[what], &none, cause);
	atomic_fetch_or(&vm->requests, BIT(what));
	loop_post(vm->main, &vm->request_work);
}

void vm_request_stop(struct vm *vm, enum vm_state why)
{
	atomic_store(&vm->stop_state, why);
	vm_request(vm, VM_REQ_STOP, VM_CAUSE_NONE);
}

/* ---- I/O threads ---- */

struct iothread *vm_iothread_find(struct vm *vm, const char *id)
{
	int i;

	for (i = 0; i < vm->iothread_count; i++)
		if (strcmp(iothread_id(vm->iothread[i]), id) == 0)
			return vm->iothread[i];
	return NULL;
}

int vm_iothread_add(struct vm *vm, const char *id, const json_t *args, struct err *e)
{
	struct iothread *t;
	int r;

	if (vm_iothread_find(vm, id))
		return err_set(e, -EEXIST, "iothread: id '%s' is taken by another iothread; "
			       "choose another", id);
	r = iothread_create(&t, id, args, vm->aio, e);
	if (r < 0)
		return r;
	vm->iothread = xrealloc(vm->iothread,
				(size_t)(vm->iothread_count + 1) * sizeof(struct iothread *));
	vm->iothread[vm->iothread_count++] = t;
	return 0;
}

void vm_iothread_del(struct vm *vm, struct iothread *t)
{
	int i;

	for (i = 0; i < vm->iothread_count && vm->iothread[i] != t; i++)
		;
	if (i == vm->iothread_count)
		return;
	vm->iothread_count--;
	memmove(vm->iothread + i, vm->iothread + i + 1,
		(size_t)(vm->iothread_count - i) * sizeof(*vm->iothread));
	iothread_destroy(t);
}

/* ---- the end ---- */

static bool await_devices(struct vm *vm, uint64_t patience_ns, const char *what)
{
	uint64_t end = clock_ns() + patience_ns, now;

	while (vm->resets_pending && (now = clock_ns()) < end)
		loop_turn(vm->main, end - now);
	for (struct dev *d = vm->devs; d; d = d->next)
		if (d->resetting)
			log_err("%s: %s does not end, its memory is left behind", d->path, what);
	return vm->resets_pending == 0;
}

/* Cancel all I/O and wait for it. False when storage hangs: then its buffers
 * are still the kernel's to write to. */
static bool drain(struct vm *vm)
{
	struct dev *d;

	vm->resetting = false;
	for (d = vm->devs; d; d = d->next)
		dev_reset(d);
	if (!await_devices(vm, DRAIN_NS, "I/O in flight"))
		return false;
	for (d = vm->devs; d; d = d->next)
		dev_settle(d);
	return await_devices(vm, vm->settle_ns, "the last flush");
}

static void destroy_devices(struct vm *vm)
{
	struct dev *d;

	while (vm->devs) {
		for (d = vm->devs; d->next; d = d->next)
			;
		dev_destroy(d);		/* the last one created first */
	}
}

static void nothing(void *arg)
{
}

/* A loop that has just posted its last work to another may still be waking it:
 * none goes before all have left what they were doing. */
static void settle_iothreads(struct vm *vm)
{
	for (int i = 0; i < vm->iothread_count; i++)
		loop_call(iothread_loop(vm->iothread[i]), nothing, NULL);
}

static void ignore_requests(struct loop_work *w)
{
}

bool vm_destroy(struct vm *vm)
{
	uint32_t c;
	int i;

	if (!vm)
		return true;
	vm->request_work.cb = ignore_requests;
	for (c = 0; c < vm->vcpu_count; c++)
		vcpu_destroy(vm->vcpu[c]);
	if (!drain(vm))
		return false;
	destroy_devices(vm);
	if (vm->machine && vm->machine->fini)
		vm->machine->fini(vm);
	settle_iothreads(vm);
	vm_object_destroy_all(vm);
	for (i = 0; i < vm->iothread_count; i++)	/* those without an object */
		iothread_destroy(vm->iothread[i]);
	/* Nobody is left to post it; the loop lets go of the struct. */
	while (atomic_load(&vm->request_work.queued) && loop_turn(vm->main, 0) >= 0)
		;
	irq_destroy(vm->irq);
	kvm_close(vm->kvm);
	gmem_destroy(vm->mem);
	bus_destroy(vm->bus[BUS_PIO]);
	bus_destroy(vm->bus[BUS_MMIO]);
	json_decref(vm->desc);
	fds_destroy(vm->fds);
	free(vm->iothread);
	free(vm->vcpu);
	free(vm->name);
	free(vm);
	return true;
}
