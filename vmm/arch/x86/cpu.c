/*
 * vmm/arch/x86/cpu.c - create the vCPUs and put them into their first state.
 *
 * Spec:    Linux Documentation/virt/kvm/api.rst (vCPU creation, MP states).
 * Threads: main loop; the vCPUs do not run.
 * Missing: CPU hot-plug.
 *
 * Application processors need nothing but their CPUID: KVM keeps them waiting
 * for INIT and SIPI, which the guest sends.
 */
#include <errno.h>
#include <linux/kvm.h>
#include <stdlib.h>
#include <sys/ioctl.h>

#include "vmm/arch/x86/arch.h"
#include "vmm/base/log.h"
#include "vmm/base/util.h"
#include "vmm/core/kvm.h"
#include "vmm/core/vcpu.h"
#include "vmm/core/vm.h"

unsigned int x86_phys_bits(const struct vm *vm)
{
	const struct kvm_cpuid_entry2 *n =
		cpuid_find(x86_platform(vm)->cpuid, 0x80000008, 0);
	unsigned int bits = n ? n->eax & 0xff : 36;

	return bits >= 32 && bits <= 52 ? bits : 36;
}

/* vcpu_create() calls this on the new descriptor. */
int arch_vcpu_init(struct vcpu *v, struct err *e)
{
	struct x86_platform *x = x86_platform(v->vm);

	cpuid_set_apic_id(x->cpuid, v->arch_id, &x->topo);
	if (ioctl(v->fd, KVM_SET_CPUID2, x->cpuid) < 0)
		return err_sys(e, -errno, "vCPU %u: KVM refuses its CPUID", v->index);
	return state_firmware_msrs(v, e);
}

/* AMD's way to describe threads came with topoext. */
static void warn_of_threads(const struct x86_topology *t, const struct x86_cpu_model *m)
{
	struct feature_set topoext = { 0 };

	feature_add_list(&topoext, "topoext");
	if (t->threads > 1 && cpuid_is_amd(m->supported) &&
	    !(m->features.w[FW_8001_ECX] & topoext.w[FW_8001_ECX]))
		log_warn("-smp threads=%u: this CPU model has no topoext; the guest sees cores "
			 "instead", t->threads);
}

int x86_cpus_create(struct vm *vm, const struct x86_topology *t,
		    const struct x86_cpu_model *m, struct err *e)
{
	struct x86_platform *x = x86_platform(vm);

	warn_of_threads(t, m);
	x->topo = *t;
	x->cpuid = cpuid_build(m, t);
	for (uint32_t i = 0; i < t->cpus; i++) {
		int ret = vcpu_create(vm, i, x86_apic_id(t, i), e);

		if (ret < 0)
			return ret;
	}
	return 0;
}

int x86_cpus_reset(struct vm *vm, const struct boot_state *bs, struct err *e)
{
	struct x86_platform *x = x86_platform(vm);
	int ret = 0;

	/* A new vCPU is in its reset state already. */
	for (uint32_t i = 0; x->started && i < vm->vcpu_count && ret == 0; i++) {
		ret = state_reset(vm->vcpu[i], e);
		if (ret == 0)
			ret = state_firmware_msrs(vm->vcpu[i], e);
	}
	x->started = true;
	if (ret == 0 && bs)
		ret = state_boot(vm->vcpu[0], bs, e);
	return ret;
}
