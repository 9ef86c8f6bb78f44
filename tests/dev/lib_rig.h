/*
 * tests/dev/lib_rig.h - a VM without KVM, for device tests.
 *
 * Real buses, real guest memory, a real loop; the interrupt controller is a
 * recorder. The test plays the vCPU: its accesses take the same path through
 * the bus as an exit does.
 *
 *	struct rig *r = rig_create(types, 4 * MIB);
 *	struct dev *d = rig_device(r, "{'driver': 'pulse', 'id': 'p0'}");
 *	rig_mmio_write(r, base, 4, 1);
 *	rig_turn(r);
 *	cr_assert_eq(r->msis, 1);
 *	rig_destroy(r);
 *
 * Failures of set-up end the test.
 */
#ifndef TESTS_DEV_LIB_RIG_H
#define TESTS_DEV_LIB_RIG_H

#include <pthread.h>
#include <stdbool.h>
#include <stdint.h>

#include "vmm/core/dev.h"
#include "vmm/core/irq.h"
#include "vmm/core/vm.h"
#include "vmm/loop/loop.h"

#define RIG_LINES	24	/* wired GSIs */
#define RIG_ROUTES	64
#define RIG_MSGS	64	/* remembered; all are counted */
#define RIG_HIGH_BASE	0x100000000ull

struct rig {
	struct loop *loop;
	struct vm *vm;
	struct gmem *mem;
	uint8_t *ram;		/* guest address 0 */
	uint64_t ram_bytes;
	/* what the interrupt controller saw; lock, any thread */
	pthread_mutex_t lock;
	bool level[RIG_LINES];
	uint32_t edges[RIG_LINES];	/* rises */
	struct irq_msg msg[RIG_MSGS];	/* msg[n % RIG_MSGS] is message n */
	uint32_t msis;
	int msi_result;			/* what the controller answers */
	struct irq_msg route[RIG_ROUTES];
	bool route_on[RIG_ROUTES];
	int route_fd[RIG_ROUTES];	/* -1: no eventfd */
	/* events of the VM in order, names only; main loop */
	struct vm_listener listener;
	char events[512];		/* "STOP RESUME " */
	json_t *last_data;		/* of the last event; owned */
	int exits;			/* calls of vm->on_exit */
	enum vm_cause exit_cause;
};

/* @types: NULL-terminated list for dev_create(), may be NULL. */
struct rig *rig_create(const struct dev_type *const *types, uint64_t ram_bytes);
/* More RAM at @base (4 GiB, or adjoining, or ROM); returns the host pointer. */
uint8_t *rig_add_ram(struct rig *r, uint64_t base, uint64_t bytes, bool readonly);
/* Devices, VM and loop. NULL is allowed. */
void rig_destroy(struct rig *r);

/* Create a device from a description; single quotes count as double ones. */
struct dev *rig_device(struct rig *r, const char *json);
/* The same where it must fail: returns the error (0 when it did not fail). */
int rig_device_error(struct rig *r, const char *json, struct err *e);
/* A machine's part, with its type at hand; @json may be NULL. */
struct dev *rig_builtin(struct rig *r, const struct dev_type *t, const char *json);

/* Turn the main loop until nothing is ready. */
void rig_turn(struct rig *r);
/* Turn it until *@flag is not zero, at most some seconds; false: it stayed 0. */
bool rig_turn_until(struct rig *r, const volatile int *flag);
/* Reset the VM as the guest would, and turn until it is done. */
void rig_reset(struct rig *r);

/* What a vCPU does. @width 1, 2, 4 or 8. */
uint64_t rig_pio_read(struct rig *r, uint16_t port, unsigned int width);
void rig_pio_write(struct rig *r, uint16_t port, unsigned int width, uint64_t val);
uint64_t rig_mmio_read(struct rig *r, uint64_t addr, unsigned int width);
void rig_mmio_write(struct rig *r, uint64_t addr, unsigned int width, uint64_t val);

/* Guest memory; the addresses must be RAM. */
void rig_mem_read(struct rig *r, uint64_t addr, void *dst, size_t len);
void rig_mem_write(struct rig *r, uint64_t addr, const void *src, size_t len);
void rig_mem_fill(struct rig *r, uint64_t addr, uint8_t byte, size_t len);
uint64_t rig_mem_get(struct rig *r, uint64_t addr, unsigned int width);
void rig_mem_put(struct rig *r, uint64_t addr, unsigned int width, uint64_t val);

/* The last message, all zero before the first. */
struct irq_msg rig_last_msi(struct rig *r);
uint32_t rig_msis(struct rig *r);
bool rig_level(struct rig *r, uint32_t gsi);

#endif
