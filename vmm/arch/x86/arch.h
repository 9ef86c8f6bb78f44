/*
 * vmm/arch/x86/arch.h - what the files of vmm/arch/x86 share among themselves.
 *
 * Threads: main loop, before the vCPUs run or while they are parked, except
 * where a comment says otherwise.
 */
#ifndef VMM_ARCH_X86_ARCH_H
#define VMM_ARCH_X86_ARCH_H

#include <linux/kvm.h>
#include <pthread.h>
#include <stdbool.h>
#include <stdint.h>

#include "vmm/arch/x86/feature.h"
#include "vmm/arch/x86/x86.h"
#include "vmm/core/dev.h"

struct kvm;
struct vcpu;

/* topology.c: bits of an APIC id below core, die, package. */
unsigned int topology_thread_bits(const struct x86_topology *t);
unsigned int topology_core_bits(const struct x86_topology *t);
unsigned int topology_package_bits(const struct x86_topology *t);

/* ---- -cpu (model.c) ---- */

struct x86_cpu_model {
	struct kvm_cpuid2 *supported;	/* owned; what KVM offers */
	struct feature_set features;	/* what the guest is to have */
	bool host;			/* every leaf as KVM gives it */
	bool kvm;			/* show the KVM leaves */
	bool pmu;
	/* named models only */
	uint32_t family, model, stepping;
	uint32_t level, xlevel;		/* highest basic and extended leaf */
	const char *id;			/* brand string; NULL: the host's */
};

/* What the model called @name has and @have lacks; host and max lack nothing. */
void x86_cpu_missing(const char *name, const struct feature_set *have,
		     struct feature_set *miss);

/* cpuid.c: KVM_GET_SUPPORTED_CPUID into a new array, with the bits that KVM
 * offers without listing them. */
int cpuid_supported(struct kvm *k, struct kvm_cpuid2 **out, struct err *e);
const struct kvm_cpuid_entry2 *cpuid_find(const struct kvm_cpuid2 *c,
					  uint32_t leaf, uint32_t subleaf);
bool cpuid_is_amd(const struct kvm_cpuid2 *c);	/* or Hygon */
/* The feature words of @c. */
void cpuid_features(const struct kvm_cpuid2 *c, struct feature_set *out);

/*
 * The table of CPUs of model @m in @t with the APIC-id dependent leaves of APIC
 * id 0; cpuid_set_apic_id() makes it that of another CPU. free() when done.
 */
struct kvm_cpuid2 *cpuid_build(const struct x86_cpu_model *m,
			       const struct x86_topology *t);
void cpuid_set_apic_id(struct kvm_cpuid2 *c, uint32_t apic_id,
		       const struct x86_topology *t);

/* ---- interrupt controllers and per-VM state (irqchip.c) ---- */

/*
 * One per VM, a device so that its reset and its end come at the right times.
 * irq_arg(vm->irq) is it.
 */
struct x86_platform {
	struct dev dev;
	int vm_fd;			/* borrowed from struct kvm */
	bool split;
	pthread_mutex_t route_lock;	/* a leaf */
	struct kvm_irq_routing *routes;	/* route_lock */
	uint32_t route_room;
	const struct x86_ioapic_ops *ioapic;	/* split only */
	void *ioapic_arg;
	struct kvm_cpuid2 *cpuid;	/* owned; APIC id of the CPU set last */
	struct x86_topology topo;
	bool started;			/* vCPUs may have run: reset for real */
};

struct x86_platform *x86_platform(const struct vm *vm);
/* The in-kernel PIC, IOAPIC and PIT as after power-on. */
int x86_irqchip_reset(struct vm *vm, struct err *e);

/* ---- vCPU state (state.c) ---- */

/* Power-on state of a vCPU that ran before. */
int state_reset(struct vcpu *v, struct err *e);
/* MSRs that firmware would have set, in one call. */
int state_firmware_msrs(struct vcpu *v, struct err *e);
/* Registers for the kernel's entry. */
int state_boot(struct vcpu *v, const struct boot_state *bs, struct err *e);

#endif
