/*
 * vmm/core/vm.h - one virtual machine: what all of its parts share, and its
 * run state.
 *
 * Threads: the struct is built on the main loop and constant from then on,
 * except where a comment says otherwise. vm_request() is for any thread.
 */
#ifndef VMM_CORE_VM_H
#define VMM_CORE_VM_H

#include <jansson.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

#include "vmm/base/err.h"
#include "vmm/core/bus.h"
#include "vmm/core/dev.h"
#include "vmm/core/gmem.h"
#include "vmm/core/irq.h"
#include "vmm/loop/loop.h"

struct vcpu;
struct kvm;
struct block_graph;	/* block/: opaque here */
struct char_set;	/* vmm/char/: opaque here */
struct fds;
struct net_set;		/* net/: opaque here */
struct iothread;
struct vm_object;
struct vm_object_type;
struct pci_root;	/* pci/: the machine's root complex, opaque here */
struct vm;

/* QMP's RunState words, those that exist here. */
enum vm_state {
	VM_PRELAUNCH,		/* built, -S or not yet started */
	VM_RUNNING,
	VM_PAUSED,
	VM_SHUTDOWN,		/* guest is off, process stays (-no-shutdown) */
	VM_INTERNAL_ERROR,	/* KVM gave up on a vCPU */
	VM_IO_ERROR,		/* a disk's policy stopped it */
	VM_GUEST_PANICKED,
	VM_STATES
};

/* QMP's ShutdownCause words. */
enum vm_cause {
	VM_CAUSE_NONE, VM_CAUSE_HOST_ERROR, VM_CAUSE_HOST_QMP_QUIT,
	VM_CAUSE_HOST_QMP_RESET, VM_CAUSE_HOST_SIGNAL, VM_CAUSE_HOST_UI,
	VM_CAUSE_GUEST_SHUTDOWN, VM_CAUSE_GUEST_RESET, VM_CAUSE_GUEST_PANIC,
	VM_CAUSE_SUBSYSTEM_RESET, VM_CAUSES
};

/* POWERDOWN presses the power button; PANIC is the guest's pvpanic; QUIT ends
 * the VM also under -no-shutdown. */
enum vm_request {
	VM_REQ_POWERDOWN, VM_REQ_SHUTDOWN, VM_REQ_RESET, VM_REQ_STOP,
	VM_REQ_PANIC, VM_REQ_QUIT, VM_REQUESTS
};

/* Who is told of events (QMP, the library's client). Main loop. Names and data
 * are QMP's: STOP, RESUME, POWERDOWN without data, SHUTDOWN and RESET with
 * {"guest": bool, "reason": vm_cause_name()}, GUEST_PANICKED {"action": ...}. */
struct vm_listener {
	/* @data: a borrowed object or NULL. May unlisten itself. */
	void (*event)(struct vm_listener *l, const char *name, json_t *data);
	struct vm_listener *next;
};

/* The machine's hooks into the run state; filled by vmm/arch or by tests. */
struct vm_machine_ops {
	const char *name;			/* "q35" */
	/* Put CPUs and boot data into the state of a fresh start; vCPUs are
	 * stopped, devices are reset already. Main loop. */
	int (*boot)(struct vm *vm, struct err *e);
	void (*powerdown)(struct vm *vm);	/* press the power button */
	/* The host's clock as the guest sees it jumps; NULL: there is none. */
	void (*clock_jump)(struct vm *vm, int64_t seconds);
	/* vm_destroy(): devices and vCPUs are gone; free what the machine
	 * added (root complex, back ends), not what struct vm says it owns. */
	void (*fini)(struct vm *vm);
};

/* A kind of machine, as query-machines and -machine help show it. */
struct vm_machine_type {
	const char *name, *alias;	/* alias: NULL, none */
	const char *help;
	uint32_t cpu_max;
	bool is_default;
	const char *default_cpu_type;	/* NULL: it has no CPUs */
	const char *default_ram_id;
	const struct prop *props;	/* -machine's; NULL: none */
};

struct vm {
	char *name;
	uint8_t uuid[16];
	bool has_uuid;
	struct loop *main;		/* owned by the caller of vm_create */
	enum loop_aio aio;
	struct kvm *kvm;		/* NULL in device tests; owned */
	struct gmem *mem;		/* owned */
	struct bus *bus[BUS_SPACES];	/* owned */
	struct irqchip *irq;		/* owned */
	struct pci_root *pci;
	struct block_graph *blocks;
	struct char_set *chars;
	struct fds *fds;		/* descriptors from clients; owned */
	struct net_set *nets;
	const struct dev_type *const *types;	/* dev_list.c, or a test's */
	const struct vm_object_type *const *object_types;	/* obj_list.c, or NULL */
	const struct vm_machine_type *const *machine_types;	/* machine_list.c, or NULL */
	/* query-command-line-options' reply; NULL: no command line. */
	json_t *(*describe_options)(void);
	const struct vm_machine_ops *machine;
	void *machine_arg;
	json_t *desc;			/* the description it was built from; owned */

	struct vcpu **vcpu;		/* vcpu_count entries, see vcpu_create() */
	uint32_t vcpu_count;
	uint32_t numa_nodes;		/* 0: no -numa */
	const uint8_t *cpu_node;	/* by vCPU; the machine's */

	struct dev *devs;		/* creation order; main loop */
	struct vm_object *objects;	/* creation order; main loop */
	struct dev_bus *buses;		/* those of dev_bus.h; main loop */
	struct iothread **iothread;	/* by -object iothread; main loop */
	int iothread_count;

	/* main loop; readable from any thread */
	_Atomic int state;		/* enum vm_state */
	bool no_reboot, no_shutdown;
	struct vm_listener *listeners;

	/* any thread, see vm_request() */
	_Atomic uint32_t requests;	/* bit per enum vm_request */
	_Atomic int cause[VM_REQUESTS];	/* the first one since it was served */
	_Atomic int stop_state;		/* what VM_REQ_STOP leads to next */
	_Atomic int exit_status;	/* what isa-debug-exit asks the process to end with */
	struct loop_work request_work;

	/* main loop */
	bool booted;			/* machine->boot ran since the last reset */
	bool resetting;			/* a reset of the whole VM is under way */
	int resets_pending;		/* devices that still drain */
	uint64_t settle_ns;		/* how long vm_destroy() lets devices settle */
	enum vm_cause reset_cause;

	/* Called when the VM is to end (SHUTDOWN without -no-shutdown, quit);
	 * the owner of the main loop decides what that means. */
	void (*on_exit)(struct vm *vm, enum vm_cause cause, void *arg);
	void *on_exit_arg;
};

/* An empty VM on @main: memory, buses, no KVM. Never fails. */
struct vm *vm_create(struct loop *main);
/* Stop vCPUs, drain and destroy devices in reverse order, free. On the main
 * loop's thread, outside its callbacks: it may turn the loop. NULL allowed.
 * False: the host does not let go of I/O in flight, and the VM is left behind,
 * since its memory may still be written to; back ends and machine must stay. */
bool vm_destroy(struct vm *vm);

/* -object iothread. Main loop. */
struct iothread *vm_iothread_find(struct vm *vm, const char *id);
int vm_iothread_add(struct vm *vm, const char *id, const json_t *args, struct err *e);
void vm_iothread_del(struct vm *vm, struct iothread *t);	/* nobody uses it */

/* Main loop. cont from PRELAUNCH, PAUSED or IO_ERROR, no-op when RUNNING;
 * -EINVAL with a sentence where the state does not allow it. The first start
 * after creation or reset boots the machine, and starts vCPU threads. */
int vm_start(struct vm *vm, struct err *e);
/* Park the vCPUs, pause devices, enter state @why; no-op unless RUNNING. */
void vm_stop(struct vm *vm, enum vm_state why);
/* Any thread: ask the main loop for a change of state. A vCPU that asks for
 * reset or shutdown does not run on: it parks when its callback returns. */
void vm_request(struct vm *vm, enum vm_request what, enum vm_cause cause);
/* Any thread: stop in state @why (VM_INTERNAL_ERROR, VM_IO_ERROR, ...). A vCPU
 * that asks does not run on. */
void vm_request_stop(struct vm *vm, enum vm_state why);
/* For dev.c and plug.c: one device less drains; after the last one a reset that
 * waited for them is completed. */
void vm_reset_drop(struct vm *vm);
/* Tell every listener. Main loop. Steals @data (may be NULL). */
void vm_event(struct vm *vm, const char *name, json_t *data);
void vm_listen(struct vm *vm, struct vm_listener *l);
void vm_unlisten(struct vm *vm, struct vm_listener *l);

const char *vm_state_name(enum vm_state s);	/* "running", "prelaunch", … */
const char *vm_cause_name(enum vm_cause c);	/* "guest-shutdown", … */

#endif
