/*
 * vmm/core/vcpu.c - vCPU threads: enter the guest, decode exits, park.
 *
 * Threads: vcpu_thread() and what it calls run on the vCPU's own thread; the
 *          rest on the main loop, except where vcpu.h says otherwise.
 * Missing: guest debugging (KVM_EXIT_DEBUG goes to the architecture).
 *
 * How a vCPU is stopped. Whoever wants it out clears want_run, sets
 * run->immediate_exit and, from another thread, sends KICK_SIGNAL. The signal
 * is blocked outside KVM_RUN, so one that comes early stays pending and ends
 * the next KVM_RUN: no window in which it could be lost. immediate_exit lets
 * the kernel complete the exit we answered last (advance past the instruction,
 * store the value read) without running the guest further; without that, the
 * completion would be applied on top of registers that a reset has set.
 */
#include <assert.h>
#include <errno.h>
#include <inttypes.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

#include "vmm/base/log.h"
#include "vmm/base/thread.h"
#include "vmm/base/util.h"
#include "vmm/core/kvm.h"
#include "vmm/core/vcpu.h"
#include "vmm/core/vm.h"

/* A real-time signal, so that a program that embeds the library keeps SIGUSR1:
 * the kernel may hand a process's signal to any thread that has it unblocked,
 * and eat_kicks() would swallow it. */
#define KICK_SIGNAL	SIGRTMIN
#define KERNEL_SIGSET_BYTES 8	/* _NSIG / 8; glibc's sigset_t is larger */

TRACE_DEFINE(vcpu_exit);
TRACE_DEFINE(vcpu_park);
TRACE_DEFINE(vcpu_run);

static __thread struct vcpu *self;

struct vcpu *vcpu_self(void)
{
	return self;
}

static void count(_Atomic uint64_t *n)
{
	/* One writer: no locked instruction needed. */
	atomic_store_explicit(n, atomic_load_explicit(n, memory_order_relaxed) + 1,
			      memory_order_relaxed);
}

/* The kernel reads the byte on entry to KVM_RUN, other threads write it. */
static void set_immediate_exit(struct vcpu *v, uint8_t on)
{
	__atomic_store_n(&v->run->immediate_exit, on, __ATOMIC_RELAXED);
}

/* ---- exits ---- */

/* Keep out of the guest from now on; @v->lock not held. */
static void hold(struct vcpu *v)
{
	pthread_mutex_lock(&v->lock);
	v->want_run = false;
	set_immediate_exit(v, 1);
	pthread_mutex_unlock(&v->lock);
}

void vcpu_hold_self(struct vm *vm)
{
	if (self && self->vm == vm)
		hold(self);
}

/* String instructions come as one exit with a count (bounded by the kernel: a
 * page of data). */
static void exit_io(struct vcpu *v)
{
	struct kvm_run *run = v->run;
	uint8_t *data = (uint8_t *)run + run->io.data_offset;
	struct bus *b = v->vm->bus[BUS_PIO];
	uint32_t i;

	count(&v->stats.pio);
	for (i = 0; i < run->io.count; i++, data += run->io.size) {
		if (run->io.direction == KVM_EXIT_IO_OUT)
			bus_write(b, run->io.port, data, run->io.size);
		else
			bus_read(b, run->io.port, data, run->io.size);
	}
}

static void exit_mmio(struct vcpu *v)
{
	struct kvm_run *run = v->run;
	struct bus *b = v->vm->bus[BUS_MMIO];

	count(&v->stats.mmio);
	if (run->mmio.is_write)
		bus_write(b, run->mmio.phys_addr, run->mmio.data, run->mmio.len);
	else
		bus_read(b, run->mmio.phys_addr, run->mmio.data, run->mmio.len);
}

static void exit_system_event(struct vcpu *v)
{
	switch (v->run->system_event.type) {
	case KVM_SYSTEM_EVENT_SHUTDOWN:
		vm_request(v->vm, VM_REQ_SHUTDOWN, VM_CAUSE_GUEST_SHUTDOWN);
		break;
	case KVM_SYSTEM_EVENT_RESET:
		vm_request(v->vm, VM_REQ_RESET, VM_CAUSE_GUEST_RESET);
		break;
	case KVM_SYSTEM_EVENT_CRASH:
		vm_request(v->vm, VM_REQ_PANIC, VM_CAUSE_GUEST_PANIC);
		break;
	default:
		log_warn("CPU %u: system event %u of KVM is not known", v->index,
			 v->run->system_event.type);
	}
}

/* The vCPU cannot go on. The VM stays, stopped, for its owner to look at. */
static void give_up(struct vcpu *v)
{
	arch_vcpu_dump(v);
	vm_request_stop(v->vm, VM_INTERNAL_ERROR);
}

static void exit_internal_error(struct vcpu *v)
{
	static const char *const words[] = {
		[KVM_INTERNAL_ERROR_EMULATION] = "emulation failure",
		[KVM_INTERNAL_ERROR_SIMUL_EX] = "simultaneous exceptions",
		[KVM_INTERNAL_ERROR_DELIVERY_EV] = "event delivery failure",
		[KVM_INTERNAL_ERROR_UNEXPECTED_EXIT_REASON] = "unexpected exit reason",
	};
	uint32_t i, sub = v->run->internal.suberror;
	const char *word = sub < ARRAY_LEN(words) ? words[sub] : NULL;

	log_err("CPU %u: KVM internal error, exit reason %u, suberror %u (%s)", v->index,
		v->run->exit_reason, sub, word ? word : "unknown");
	for (i = 0; i < v->run->internal.ndata && i < ARRAY_LEN(v->run->internal.data); i++)
		log_err("CPU %u: data[%u] 0x%" PRIx64, v->index, i,
			(uint64_t)v->run->internal.data[i]);
	give_up(v);
}

/* Some kernels reboot this way; most often it is a crash, and KVM has reset the
 * registers that could tell of it. */
static void log_triple_fault(struct vcpu *v)
{
	char who[16];

	snprintf(who, sizeof(who), "CPU %u", v->index);
	log_guest(&v->guest_log, who, "triple fault; the machine resets");
}

static void exit_other(struct vcpu *v)
{
	struct kvm_run *run = v->run;

	count(&v->stats.other);
	switch (run->exit_reason) {
	case KVM_EXIT_SHUTDOWN:		/* x86: triple fault */
		log_triple_fault(v);
		vm_request(v->vm, VM_REQ_RESET, VM_CAUSE_GUEST_RESET);
		break;
	case KVM_EXIT_SYSTEM_EVENT:
		exit_system_event(v);
		break;
	case KVM_EXIT_INTERNAL_ERROR:
		exit_internal_error(v);
		break;
	case KVM_EXIT_FAIL_ENTRY:
		log_err("CPU %u: the processor refuses to enter the guest, hardware reason "
			"0x%" PRIx64, v->index,
			(uint64_t)run->fail_entry.hardware_entry_failure_reason);
		give_up(v);
		break;
	default:
		if (arch_vcpu_exit(v) >= 0)
			break;
		log_err("CPU %u: exit reason %u of KVM is not handled", v->index,
			run->exit_reason);
		give_up(v);
	}
}

static void handle_exit(struct vcpu *v)
{
	trace(vcpu_exit, "CPU %u reason %u", v->index, v->run->exit_reason);
	switch (v->run->exit_reason) {
	case KVM_EXIT_IO:
		exit_io(v);
		break;
	case KVM_EXIT_MMIO:
		exit_mmio(v);
		break;
	case KVM_EXIT_HLT:
		/* Only without an irqchip in the kernel, and then nothing can
		 * wake it but the main loop. */
		count(&v->stats.hlt);
		hold(v);
		break;
	case KVM_EXIT_INTR:
		break;
	default:
		exit_other(v);
	}
}

/* ---- the thread ---- */

/* A kick that ended KVM_RUN is still pending, as is one that came later. */
static void eat_kicks(void)
{
	const struct timespec now = { 0 };
	sigset_t set;

	sigemptyset(&set);
	sigaddset(&set, KICK_SIGNAL);
	while (sigtimedwait(&set, NULL, &now) > 0)
		;
}

/* Run the guest until somebody wants it out; returns with the last exit
 * complete. */
static void run_guest(struct vcpu *v)
{
	int r;

	for (;;) {
		r = ioctl(v->fd, KVM_RUN, 0) < 0 ? errno : 0;
		count(&v->stats.exits);
		if (r == 0) {
			handle_exit(v);
			continue;
		}
		if (r == EINTR) {
			eat_kicks();
			/* Set together with want_run, and read by the kernel
			 * too: it need not cost a lock here. */
			if (__atomic_load_n(&v->run->immediate_exit, __ATOMIC_RELAXED))
				return;
			continue;
		}
		if (r == EAGAIN)	/* a secondary CPU that waits to be started */
			continue;
		log_err("CPU %u: KVM_RUN failed: %s (exit reason %u)", v->index,
			strerror(r), v->run->exit_reason);
		give_up(v);
		hold(v);
		return;
	}
}

/* Wait until the guest shall run; false when the thread shall end. */
static bool park(struct vcpu *v)
{
	bool run;

	pthread_mutex_lock(&v->lock);
	v->parked = true;
	pthread_cond_broadcast(&v->cond);
	trace(vcpu_park, "CPU %u", v->index);
	while (!v->want_run && !v->quit)
		pthread_cond_wait(&v->cond, &v->lock);
	v->parked = false;
	run = !v->quit;
	if (run)
		set_immediate_exit(v, 0);
	trace(vcpu_run, "CPU %u", v->index);
	pthread_mutex_unlock(&v->lock);
	return run;
}

static void *vcpu_thread(void *arg)
{
	struct vcpu *v = arg;

	self = v;
	atomic_store(&v->tid, (pid_t)syscall(SYS_gettid));
	while (park(v))
		run_guest(v);
	return NULL;
}

static void kick_out(struct vcpu *v, bool quit)
{
	pthread_mutex_lock(&v->lock);
	v->want_run = false;
	v->quit |= quit;
	set_immediate_exit(v, 1);
	pthread_cond_broadcast(&v->cond);
	if (!v->parked)
		pthread_kill(v->thread, KICK_SIGNAL);
	pthread_mutex_unlock(&v->lock);
}

static void wait_parked(struct vcpu *v)
{
	pthread_mutex_lock(&v->lock);
	while (!v->parked)
		pthread_cond_wait(&v->cond, &v->lock);
	pthread_mutex_unlock(&v->lock);
}

void vcpu_park_all(struct vm *vm)
{
	uint32_t i;

	assert(!self || self->vm != vm);	/* it would wait for itself */
	for (i = 0; i < vm->vcpu_count; i++)
		if (vm->vcpu[i] && vm->vcpu[i]->has_thread)
			kick_out(vm->vcpu[i], false);
	for (i = 0; i < vm->vcpu_count; i++)
		if (vm->vcpu[i] && vm->vcpu[i]->has_thread)
			wait_parked(vm->vcpu[i]);
}

void vcpu_run_all(struct vm *vm)
{
	struct vcpu *v;
	uint32_t i;

	for (i = 0; i < vm->vcpu_count; i++) {
		v = vm->vcpu[i];
		if (!v || !v->has_thread)
			continue;
		pthread_mutex_lock(&v->lock);
		v->want_run = true;
		pthread_cond_broadcast(&v->cond);
		pthread_mutex_unlock(&v->lock);
	}
}

/* ---- life ---- */

/* Inside KVM_RUN all signals are blocked but the kick. */
static int set_signal_mask(struct vcpu *v, struct err *e)
{
	uint8_t raw[sizeof(struct kvm_signal_mask) + KERNEL_SIGSET_BYTES];
	struct kvm_signal_mask *m = (struct kvm_signal_mask *)raw;
	uint64_t set = ~(1ull << (KICK_SIGNAL - 1));

	m->len = KERNEL_SIGSET_BYTES;
	memcpy(m->sigset, &set, sizeof(set));
	if (ioctl(v->fd, KVM_SET_SIGNAL_MASK, m) < 0)
		return err_sys(e, -errno, "CPU %u: cannot set the signal mask", v->index);
	return 0;
}

static int open_vcpu(struct vcpu *v, struct err *e)
{
	struct kvm *k = v->vm->kvm;
	void *p;

	v->fd = ioctl(k->vm_fd, KVM_CREATE_VCPU, (unsigned long)v->arch_id);
	if (v->fd < 0)
		return err_sys(e, -errno, "CPU %u: KVM cannot create it (of at most %u)",
			       v->index, k->vcpus_max);
	p = mmap(NULL, k->run_size, PROT_READ | PROT_WRITE, MAP_SHARED, v->fd, 0);
	if (p == MAP_FAILED)
		return err_sys(e, -errno, "CPU %u: cannot map its run area", v->index);
	v->run = p;
	return set_signal_mask(v, e);
}

static void enter_in_vm(struct vcpu *v)
{
	struct vm *vm = v->vm;

	if (v->index >= vm->vcpu_count) {
		vm->vcpu = xrealloc(vm->vcpu, (v->index + 1) * sizeof(struct vcpu *));
		while (vm->vcpu_count <= v->index)
			vm->vcpu[vm->vcpu_count++] = NULL;
	}
	assert(!vm->vcpu[v->index]);
	vm->vcpu[v->index] = v;
}

int vcpu_create(struct vm *vm, uint32_t index, uint32_t arch_id, struct err *e)
{
	struct vcpu *v = xcalloc(1, sizeof(*v));
	int r;

	v->vm = vm;
	v->index = index;
	v->arch_id = arch_id;
	v->fd = -1;
	pthread_mutex_init(&v->lock, NULL);
	pthread_cond_init(&v->cond, NULL);
	enter_in_vm(v);
	r = open_vcpu(v, e);
	if (r == 0)
		r = arch_vcpu_init(v, e);
	if (r < 0)
		vcpu_destroy(v);
	return r;
}

int vcpu_spawn(struct vcpu *v, struct err *e)
{
	char name[16];
	int r;

	snprintf(name, sizeof(name), "CPU %u/KVM", v->index);	/* libvirt's and people's */
	r = thread_start(&v->thread, name, vcpu_thread, v);
	if (r)
		return err_sys(e, r, "CPU %u: cannot start its thread", v->index);
	v->has_thread = true;
	wait_parked(v);		/* its tid is known from here on */
	return 0;
}

void vcpu_destroy(struct vcpu *v)
{
	if (!v)
		return;
	if (v->has_thread) {
		kick_out(v, true);
		pthread_join(v->thread, NULL);
	}
	if (v->run)
		munmap(v->run, v->vm->kvm->run_size);
	fd_close(&v->fd);
	v->vm->vcpu[v->index] = NULL;
	pthread_cond_destroy(&v->cond);
	pthread_mutex_destroy(&v->lock);
	free(v);
}
