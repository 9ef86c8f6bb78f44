/*
 * vmm/core/kvm.h - the descriptors of /dev/kvm and what every architecture
 * asks of them. The only file outside vmm/core and vmm/arch that may need it
 * is pci/vfio.
 *
 * Threads: set-up on the main loop; ioeventfd functions from any thread.
 */
#ifndef VMM_CORE_KVM_H
#define VMM_CORE_KVM_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "vmm/base/err.h"
#include "vmm/core/bus.h"
#include "vmm/core/gmem.h"

struct kvm {
	int sys_fd;		/* /dev/kvm */
	int vm_fd;
	size_t run_size;	/* of a vCPU's kvm_run mapping */
	uint32_t slots_max;
	uint32_t vcpus_max;
	uint64_t slot_used[512];	/* bitmap; main loop or bus lock */
};

/* Open /dev/kvm (or @path) and create a VM; says which group or module is
 * missing, and names a missing capability. */
int kvm_open(struct kvm **out, const char *path, struct err *e);
void kvm_close(struct kvm *k);

int kvm_check(const struct kvm *k, long cap);	/* KVM_CHECK_EXTENSION on the VM */
int kvm_need(const struct kvm *k, long cap, const char *name, struct err *e);

/* One memory slot; @slot returned for kvm_slot_del. */
int kvm_slot_add(struct kvm *k, uint64_t gpa, uint64_t size, void *host,
		 bool readonly, uint32_t *slot, struct err *e);
int kvm_slot_del(struct kvm *k, uint32_t slot);
/* Every region of @gm. */
int kvm_map_memory(struct kvm *k, const struct gmem *gm, struct err *e);

/* Let KVM signal @fd when the guest writes @len bytes (0: any width) at @addr,
 * with value @match when @has_match. 0 or -errno. */
int kvm_ioeventfd(struct kvm *k, enum bus_space space, uint64_t addr,
		  unsigned int len, int fd, bool has_match, uint64_t match, bool on);

#endif
