/*
 * vmm/core/vcpu.h - vCPU threads: enter the guest, decode exits, park.
 *
 * A vCPU thread only runs the guest. It is kicked out by a thread-directed
 * signal that is blocked everywhere except inside KVM_RUN (KVM_SET_SIGNAL_MASK),
 * so the library installs no handler.
 *
 * Threads: create, start, stop, destroy on the main loop.
 */
#ifndef VMM_CORE_VCPU_H
#define VMM_CORE_VCPU_H

#include <linux/kvm.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

#include "vmm/base/err.h"

struct vm;

struct vcpu_stats {		/* written by the vCPU thread only */
	uint64_t exits;		/* returns from KVM_RUN */
	uint64_t pio, mmio, hlt, other;
};

struct vcpu {
	struct vm *vm;
	uint32_t index;
	uint32_t arch_id;	/* APIC id, MPIDR */
	int fd;
	struct kvm_run *run;
	pthread_t thread;
	_Atomic pid_t tid;
	bool has_thread;
	/* vcpu->lock */
	pthread_mutex_t lock;
	pthread_cond_t cond;
	bool want_run, parked, quit;
	struct vcpu_stats stats;
};

int vcpu_create(struct vm *vm, uint32_t index, uint32_t arch_id, struct err *e);
void vcpu_destroy(struct vcpu *v);
/* Start the thread, parked. */
int vcpu_spawn(struct vcpu *v, struct err *e);
/* All vCPUs of @vm; vcpu_park_all returns once none is in the guest. */
void vcpu_run_all(struct vm *vm);
void vcpu_park_all(struct vm *vm);
/* On a vCPU thread inside a callback: do not enter the guest again until the
 * main loop says so (after reset and shutdown requests). */
void vcpu_hold_self(struct vm *vm);

/* Architecture hooks, defined once in vmm/arch/<arch>. */
int arch_vcpu_init(struct vcpu *v, struct err *e);
/* An exit that the core does not know. 0: handled, run on; < 0: stop the VM
 * with VM_INTERNAL_ERROR. */
int arch_vcpu_exit(struct vcpu *v);
/* Registers and instruction bytes as text, for KVM's internal errors. */
void arch_vcpu_dump(struct vcpu *v);

#endif
