/*
 * vmm/arch/x86/state.c - register state of a vCPU at power-on and at entry.
 *
 * Spec:    Intel SDM vol. 3A s10.1 table 10-1 (reset), s13.4.7 (APIC reset);
 *          Linux Documentation/x86/boot.rst "64-bit Boot Protocol"; Xen
 *          docs/misc/pvh.pandoc (PVH entry).
 * Threads: main loop; the vCPU does not run.
 * Missing: nothing known.
 */
#include <errno.h>
#include <linux/kvm.h>
#include <stdlib.h>
#include <sys/ioctl.h>

#include "vmm/arch/x86/arch.h"
#include "vmm/arch/x86/layout.h"
#include "vmm/base/util.h"
#include "vmm/core/vcpu.h"
#include "vmm/core/vm.h"

#define CR0_PE		BIT64(0)
#define CR0_ET		BIT64(4)
#define CR0_NW		BIT64(29)
#define CR0_CD		BIT64(30)
#define CR0_PG		BIT64(31)
#define CR4_PAE		BIT64(5)
#define EFER_LME	BIT64(8)
#define EFER_LMA	BIT64(10)
#define RFLAGS_FIXED	0x2u

#define APIC_BASE_BSP		BIT(8)
#define APIC_BASE_ENABLE	BIT(11)

/* APIC registers (SDM vol. 3A table 11-1) */
#define APIC_REG_ID	0x020
#define APIC_REG_VER	0x030
#define APIC_REG_DFR	0x0e0
#define APIC_REG_SVR	0x0f0
#define APIC_REG_CMCI	0x2f0
#define APIC_REG_LVT	0x320	/* timer, thermal, perf, LINT0, LINT1, error */
#define APIC_REG_LINT0	0x350
#define APIC_REG_LINT1	0x360
#define LVT_MASKED	BIT(16)
#define LVT_NMI		(4u << 8)
#define LVT_EXTINT	(7u << 8)

/* MSRs (SDM vol. 4; kvm/x86/msr.rst) */
#define MSR_TSC			0x10
#define MSR_TSC_ADJUST		0x3b
#define MSR_SPEC_CTRL		0x48
#define MSR_SYSENTER_CS		0x174
#define MSR_SYSENTER_ESP	0x175
#define MSR_SYSENTER_EIP	0x176
#define MSR_MCG_STATUS		0x17a
#define MSR_MISC_ENABLE		0x1a0
#define MSR_DEBUGCTL		0x1d9
#define MSR_MTRR_BASE0		0x200
#define MSR_MTRR_MASK0		0x201
#define MSR_PAT			0x277
#define MSR_MTRR_DEF_TYPE	0x2ff
#define MSR_PERF_GLOBAL_CTRL	0x38f
#define MSR_TSC_DEADLINE	0x6e0
#define MSR_XSS			0xda0
#define MSR_STAR		0xc0000081
#define MSR_LSTAR		0xc0000082
#define MSR_CSTAR		0xc0000083
#define MSR_SFMASK		0xc0000084
#define MSR_KERNEL_GS_BASE	0xc0000102
#define MSR_TSC_AUX		0xc0000103
#define MSR_VM_HSAVE_PA		0xc0010117
#define MSR_KVM_WALL_CLOCK	0x4b564d00
#define MSR_KVM_SYSTEM_TIME	0x4b564d01
#define MSR_KVM_ASYNC_PF_EN	0x4b564d02
#define MSR_KVM_STEAL_TIME	0x4b564d03
#define MSR_KVM_PV_EOI_EN	0x4b564d04
#define MSR_KVM_POLL_CONTROL	0x4b564d05
#define MSR_KVM_ASYNC_PF_INT	0x4b564d06

#define MISC_ENABLE_FAST_STRINGS BIT(0)
#define MTRR_ENABLE		BIT(11)
#define MTRR_TYPE_UC		0u
#define MTRR_TYPE_WB		6u

struct msr {
	uint32_t index;
	uint64_t value;
};

/*
 * What firmware leaves behind: all memory write-back but the hole below 4 GiB,
 * and fast string operations on. Linux turns PAT off when MTRRs are off.
 */
static const struct msr firmware_msrs[] = {
	{ MSR_MISC_ENABLE, MISC_ENABLE_FAST_STRINGS },
	{ MSR_MTRR_BASE0, X86_RAM_LOW_MAX | MTRR_TYPE_UC },
	{ MSR_MTRR_MASK0, 0 },		/* by address width, see below */
	{ MSR_MTRR_DEF_TYPE, MTRR_ENABLE | MTRR_TYPE_WB },
};

/* Power-on values of what a guest may have changed. */
static const struct msr reset_msrs[] = {
	/* First, or KVM goes on writing into the memory of a guest that is
	 * no more. */
	{ MSR_KVM_SYSTEM_TIME, 0 }, { MSR_KVM_WALL_CLOCK, 0 },
	{ MSR_KVM_ASYNC_PF_EN, 0 }, { MSR_KVM_ASYNC_PF_INT, 0 },
	{ MSR_KVM_STEAL_TIME, 0 }, { MSR_KVM_PV_EOI_EN, 0 },
	{ MSR_KVM_POLL_CONTROL, 1 },
	/* KVM takes 0 for "as the other vCPUs' counters". On AMD a triple fault
	 * clears the offset in the VMCB (svm.c, shutdown_interception()) and
	 * KVM does not notice: the guest then reads the host's counter, and
	 * its timers fire by the age of the VM too late. */
	{ MSR_TSC, 0 },
	{ MSR_TSC_DEADLINE, 0 }, { MSR_TSC_ADJUST, 0 }, { MSR_SPEC_CTRL, 0 },
	{ MSR_SYSENTER_CS, 0 }, { MSR_SYSENTER_ESP, 0 }, { MSR_SYSENTER_EIP, 0 },
	{ MSR_MCG_STATUS, 0 }, { MSR_DEBUGCTL, 0 }, { MSR_PERF_GLOBAL_CTRL, 0 },
	{ MSR_PAT, 0x0007040600070406 }, { MSR_XSS, 0 },
	{ MSR_STAR, 0 }, { MSR_LSTAR, 0 }, { MSR_CSTAR, 0 }, { MSR_SFMASK, 0 },
	{ MSR_KERNEL_GS_BASE, 0 }, { MSR_TSC_AUX, 0 }, { MSR_VM_HSAVE_PA, 0 },
};

#define MSRS_MAX ARRAY_LEN(reset_msrs)

static int fail(struct vcpu *v, struct err *e, int ret, const char *what)
{
	return err_sys(e, ret, "vCPU %u: KVM does not set its %s", v->index, what);
}

/* KVM stops at the first it refuses, which an MSR of another CPU vendor may be
 * (and KVM_GET_MSR_INDEX_LIST lacks some that it takes): go on behind that. */
static int msrs_set(struct vcpu *v, const struct msr *list, size_t n, struct err *e)
{
	uint8_t raw[sizeof(struct kvm_msrs) + MSRS_MAX * sizeof(struct kvm_msr_entry)]
		__attribute__((aligned(8)));
	struct kvm_msrs *m = (struct kvm_msrs *)raw;

	while (n > 0) {
		int done;

		memset(raw, 0, sizeof(raw));
		m->nmsrs = (uint32_t)n;
		for (size_t i = 0; i < n; i++) {
			m->entries[i].index = list[i].index;
			m->entries[i].data = list[i].value;
		}
		done = ioctl(v->fd, KVM_SET_MSRS, m);
		if (done < 0)
			return fail(v, e, -errno, "MSRs");
		if ((size_t)done >= n)
			return 0;
		list += done + 1;
		n -= (size_t)done + 1;
	}
	return 0;
}

int state_firmware_msrs(struct vcpu *v, struct err *e)
{
	struct msr m[ARRAY_LEN(firmware_msrs)];
	unsigned int bits = x86_phys_bits(v->vm);

	memcpy(m, firmware_msrs, sizeof(m));
	for (size_t i = 0; i < ARRAY_LEN(m); i++)
		if (m[i].index == MSR_MTRR_MASK0)	/* 2 GiB to 4 GiB */
			m[i].value = (BIT64(bits) - X86_RAM_LOW_MAX) | MTRR_ENABLE;
	return msrs_set(v, m, ARRAY_LEN(m), e);
}

/* ---- power-on ---- */

static struct kvm_segment segment(uint16_t selector, uint64_t base, uint32_t limit, uint8_t type)
{
	return (struct kvm_segment){
		.selector = selector, .base = base, .limit = limit,
		.type = type, .present = 1, .s = 1,
	};
}

static int sregs_reset(struct vcpu *v)
{
	struct kvm_segment data = segment(0, 0, 0xffff, 3);
	struct kvm_sregs s = {
		.cs = segment(0xf000, 0xffff0000, 0xffff, 11),
		.ds = data, .es = data, .fs = data, .gs = data, .ss = data,
		.tr = { .limit = 0xffff, .type = 11, .present = 1 },
		.ldt = { .limit = 0xffff, .type = 2, .present = 1 },
		.gdt = { .limit = 0xffff }, .idt = { .limit = 0xffff },
		.cr0 = CR0_ET | CR0_NW | CR0_CD,
		.apic_base = X86_LAPIC_BASE | APIC_BASE_ENABLE |
			     (v->index == 0 ? APIC_BASE_BSP : 0),
	};

	return ioctl(v->fd, KVM_SET_SREGS, &s) < 0 ? -errno : 0;
}

static void lapic_put(struct kvm_lapic_state *l, unsigned int reg, uint32_t val)
{
	put_le32(l->regs + reg, val);
}

/* The mode is xAPIC again by now (sregs). */
static int lapic_reset(struct vcpu *v)
{
	struct kvm_lapic_state l;
	uint32_t version;

	if (ioctl(v->fd, KVM_GET_LAPIC, &l) < 0)
		return -errno;
	version = get_le32(l.regs + APIC_REG_VER);
	memset(&l, 0, sizeof(l));
	lapic_put(&l, APIC_REG_ID, v->arch_id << 24);
	lapic_put(&l, APIC_REG_VER, version);
	lapic_put(&l, APIC_REG_DFR, 0xffffffff);
	lapic_put(&l, APIC_REG_SVR, 0xff);
	lapic_put(&l, APIC_REG_CMCI, LVT_MASKED);
	for (unsigned int i = 0; i < 6; i++)
		lapic_put(&l, APIC_REG_LVT + i * 0x10, LVT_MASKED);
	return ioctl(v->fd, KVM_SET_LAPIC, &l) < 0 ? -errno : 0;
}

static int fpu_reset(struct vcpu *v)
{
	/* KVM_CAP_XSAVE2 sizes beyond 4 KiB concern AMX, which goes to its
	 * initial state by its bit in XSTATE_BV being clear. */
	struct kvm_xsave x = { 0 };
	struct kvm_xcrs c = { .nr_xcrs = 1, .xcrs[0] = { .xcr = 0, .value = 1 } };

	put_le16(x.region, 0x37f);			/* FCW */
	put_le32((uint8_t *)x.region + 24, 0x1f80);	/* MXCSR */
	put_le64((uint8_t *)x.region + 512, 3);		/* XSTATE_BV: x87, SSE */
	if (ioctl(v->fd, KVM_SET_XSAVE, &x) < 0)
		return -errno;
	/* Refused where the guest has no XSAVE. */
	if (ioctl(v->fd, KVM_SET_XCRS, &c) < 0 && errno != EINVAL)
		return -errno;
	return 0;
}

/* A reset may find the CPU inside a guest of the guest. KVM without nesting,
 * or a model without svm and vmx, refuses: then there is none to leave. */
static void nested_leave(struct vcpu *v, bool amd)
{
	struct kvm_nested_state n = { .size = sizeof(n) };

	if (amd) {
		n.format = KVM_STATE_NESTED_FORMAT_SVM;
		n.flags = KVM_STATE_NESTED_GIF_SET;
	} else {
		n.format = KVM_STATE_NESTED_FORMAT_VMX;
		n.hdr.vmx.vmxon_pa = UINT64_MAX;
		n.hdr.vmx.vmcs12_pa = UINT64_MAX;
	}
	(void)ioctl(v->fd, KVM_SET_NESTED_STATE, &n);
}

static int misc_reset(struct vcpu *v)
{
	struct kvm_vcpu_events ev = { 0 };
	struct kvm_debugregs dr = { .dr6 = 0xffff0ff0, .dr7 = 0x400 };
	struct kvm_mp_state mp = {
		.mp_state = v->index == 0 ? KVM_MP_STATE_RUNNABLE :
			    KVM_MP_STATE_UNINITIALIZED,
	};

	if (ioctl(v->fd, KVM_SET_VCPU_EVENTS, &ev) < 0 ||
	    ioctl(v->fd, KVM_SET_DEBUGREGS, &dr) < 0 ||
	    ioctl(v->fd, KVM_SET_MP_STATE, &mp) < 0)
		return -errno;
	return 0;
}

int state_reset(struct vcpu *v, struct err *e)
{
	/* RDX holds the CPU's signature; RIP is 16 bytes below the top. */
	struct kvm_regs r = { .rip = 0xfff0, .rflags = RFLAGS_FIXED };
	const struct kvm_cpuid_entry2 *sig = cpuid_find(x86_platform(v->vm)->cpuid, 1, 0);
	int ret;

	r.rdx = sig ? sig->eax : 0;
	nested_leave(v, cpuid_is_amd(x86_platform(v->vm)->cpuid));
	ret = msrs_set(v, reset_msrs, ARRAY_LEN(reset_msrs), e);
	if (ret < 0)
		return ret;
	if ((ret = misc_reset(v)) < 0)
		return fail(v, e, ret, "events and run state");
	if ((ret = sregs_reset(v)) < 0)
		return fail(v, e, ret, "segment and control registers");
	if ((ret = lapic_reset(v)) < 0)
		return fail(v, e, ret, "local APIC");
	if ((ret = fpu_reset(v)) < 0)
		return fail(v, e, ret, "floating-point state");
	if (ioctl(v->fd, KVM_SET_REGS, &r) < 0)
		return fail(v, e, -errno, "registers");
	return 0;
}

/* ---- entry into a kernel ---- */

/* LINT0 carries the PIC (virtual wire mode), LINT1 the NMI, as firmware
 * leaves the boot processor (MultiProcessor Specification 3.6.2.2). */
static int lapic_virtual_wire(struct vcpu *v)
{
	struct kvm_lapic_state l;

	if (ioctl(v->fd, KVM_GET_LAPIC, &l) < 0)
		return -errno;
	lapic_put(&l, APIC_REG_LINT0, LVT_EXTINT);
	lapic_put(&l, APIC_REG_LINT1, LVT_NMI);
	return ioctl(v->fd, KVM_SET_LAPIC, &l) < 0 ? -errno : 0;
}

static void flat(struct kvm_segment *s, uint16_t selector, uint8_t type, bool is64)
{
	*s = segment(selector, 0, 0xffffffff, type);
	s->g = 1;
	s->l = is64;
	s->db = !is64;
}

static void flat_data(struct kvm_sregs *s, uint16_t selector)
{
	flat(&s->ds, selector, 3, false);
	s->es = s->fs = s->gs = s->ss = s->ds;
}

/* boot.rst: long mode, identity mapped, CS 0x10, data 0x18, RSI boot_params. */
static void enter_linux64(struct kvm_sregs *s, struct kvm_regs *r, const struct boot_state *bs)
{
	flat(&s->cs, 0x10, 11, true);
	flat_data(s, 0x18);
	s->gdt.limit = 0x1f;
	s->cr0 = CR0_PE | CR0_ET | CR0_PG;
	s->cr3 = bs->page_tables;
	s->cr4 = CR4_PAE;
	s->efer = EFER_LME | EFER_LMA;
	r->rsi = bs->arg;
}

/* PVH: flat 32-bit protected mode, paging off, EBX start_info. */
static void enter_pvh(struct kvm_sregs *s, struct kvm_regs *r, const struct boot_state *bs)
{
	flat(&s->cs, 0x8, 11, false);
	flat_data(s, 0x10);
	s->gdt.limit = 0x17;
	s->cr0 = CR0_PE | CR0_ET;
	s->cr4 = 0;
	s->tr.limit = 0x67;
	r->rbx = bs->arg;
}

int state_boot(struct vcpu *v, const struct boot_state *bs, struct err *e)
{
	struct kvm_regs r = { .rip = bs->entry, .rflags = RFLAGS_FIXED };
	struct kvm_sregs s;

	if (ioctl(v->fd, KVM_GET_SREGS, &s) < 0)
		return fail(v, e, -errno, "segment registers");
	s.gdt.base = bs->gdt;
	s.idt.base = 0;
	s.idt.limit = 0;
	if (bs->kind == BOOT_PVH)
		enter_pvh(&s, &r, bs);
	else
		enter_linux64(&s, &r, bs);
	if (ioctl(v->fd, KVM_SET_SREGS, &s) < 0)
		return fail(v, e, -errno, "segment and control registers");
	if (ioctl(v->fd, KVM_SET_REGS, &r) < 0)
		return fail(v, e, -errno, "registers");
	if (lapic_virtual_wire(v) < 0)
		return fail(v, e, -errno, "local APIC");
	return 0;
}
