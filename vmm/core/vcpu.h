/*
 * vmm/core/vcpu.h - vCPU threads: enter the guest, decode exits, park.
 *
 * A vCPU thread only runs the guest. It is kicked out by a thread-directed
 * signal that is blocked everywhere except inside KVM_RUN (KVM_SET_SIGNAL_MASK),
 * so the library installs no handler. A parked vCPU has completed its last
 * exit: its registers may be read and replaced.
 *
 * Threads: create, spawn, destroy, run_all and park_all on the main loop.
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
#include "vmm/base/log.h"

struct vm;

/* Written by the vCPU thread only, read by any. */
struct vcpu_stats {
	_Atomic uint64_t exits;		/* returns from KVM_RUN */
	_Atomic uint64_t pio, mmio, hlt, other;
};

struct vcpu {
	struct vm *vm;
	uint32_t index;
	uint32_t arch_id;	/* APIC id, MPIDR */
	int fd;
	struct kvm_run *run;	/* shared with the kernel; run_size bytes */
	pthread_t thread;
	_Atomic pid_t tid;
	bool has_thread;
	pthread_mutex_t lock;	/* a leaf */
	pthread_cond_t cond;
	/* lock */
	bool want_run;		/* what the main loop or hold_self asks for */
	bool parked;		/* outside the guest, last exit complete */
	bool quit;		/* the thread shall end */
	struct vcpu_stats stats;
	struct log_limit guest_log;	/* for messages the guest causes */
};

/* Also enters it in vm->vcpu[], which grows to @index + 1. On failure nothing
 * is left. @arch_id is the number KVM knows it by. */
int vcpu_create(struct vm *vm, uint32_t index, uint32_t arch_id, struct err *e);
/* Out of the guest, thread joined, out of vm->vcpu[]. NULL is allowed. */
void vcpu_destroy(struct vcpu *v);
/* Start the thread, parked. */
int vcpu_spawn(struct vcpu *v, struct err *e);
/* All vCPUs of @vm; vcpu_park_all returns once none is in the guest. */
void vcpu_run_all(struct vm *vm);
void vcpu_park_all(struct vm *vm);
/* On a vCPU thread inside a callback: complete this exit, then do not enter the
 * guest again until the main loop says so (vm_request() calls it after reset
 * and shutdown requests). On other threads, or another VM's: nothing. */
void vcpu_hold_self(struct vm *vm);
/* The calling thread's vCPU, or NULL. */
struct vcpu *vcpu_self(void);

/* Architecture hooks, defined once in vmm/arch/<arch>. */
int arch_vcpu_init(struct vcpu *v, struct err *e);	/* end of vcpu_create */
/* An exit that the core does not know. 0: handled, run on; < 0: stop the VM
 * with VM_INTERNAL_ERROR. On the vCPU's thread. */
int arch_vcpu_exit(struct vcpu *v);
/* Registers and instruction bytes by log_err(), for KVM's internal errors. On
 * the vCPU's thread. */
void arch_vcpu_dump(struct vcpu *v);

#endif
