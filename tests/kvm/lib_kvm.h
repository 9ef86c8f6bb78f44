/*
 * tests/kvm/lib_kvm.h - a VM on /dev/kvm that runs one of the guests here.
 *
 * Memory, interrupt controllers, vCPUs and the loader are the real ones; the
 * board has only the windows of guestlib.h. Without /dev/kvm a test is skipped
 * with the reason.
 */
#ifndef TESTS_KVM_LIB_KVM_H
#define TESTS_KVM_LIB_KVM_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

#include "tests/kvm/guestlib.h"
#include "vmm/core/vm.h"
#include "vmm/core/vcpu.h"

#define KRIG_RAM	(4ull << 20)
#define KRIG_MARKS	256

struct krig {
	struct loop *loop;
	struct vm *vm;
	const char *guest;		/* path of the ELF file */
	int boots;
	struct dev *board;		/* owns the windows; its lock guards: */
	uint32_t arg;			/* what PORT_ARG reads */
	char log[2048];			/* "o4:4=33333333 " port, "W4:.." memory */
	bool echo;			/* probes return the last value written */
	uint64_t echoed[2];
	uint32_t mark[KRIG_MARKS];	/* mark[n % KRIG_MARKS] is mark n */
	uint32_t marks;
	uint32_t verdict;
	_Atomic int done;		/* PORT_DONE was written */
	/* On the vCPU's thread, board lock held; may be NULL. */
	void (*on_mark)(struct krig *r, uint32_t val);
	void (*on_read)(struct krig *r);	/* of a probe */
	/* main loop */
	struct loop_work wake;
	struct vm_listener listener;
	char events[512];		/* "RESUME RESET(guest-reset) " */
	int exits;			/* calls of vm->on_exit */
};

/* Load @guest ("exits" for guest_exits.elf) for @cpus vCPUs; not started. */
struct krig *krig_create(const char *guest, uint32_t cpus, uint32_t arg);
void krig_destroy(struct krig *r);
void krig_start(struct krig *r);

/* Turn the main loop until @flag is true or ten seconds are over; true: it is. */
bool krig_until(struct krig *r, bool (*flag)(struct krig *r));
/* Until the guest reported; fails the test unless it reported success. */
void krig_finish(struct krig *r);
/* Turn the main loop for about @ms milliseconds. */
void krig_turn(struct krig *r, unsigned int ms);

uint32_t krig_marks(struct krig *r);

#endif
