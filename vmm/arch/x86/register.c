/*
 * vmm/arch/x86/register.c - registers of a parked vCPU by name.
 *
 * Spec:    linux/kvm.h (kvm_regs, kvm_sregs).
 * Threads: main loop; the vCPU does not run.
 * Missing: FPU and vector registers, MSRs.
 */
#include <errno.h>
#include <linux/kvm.h>
#include <stddef.h>
#include <sys/ioctl.h>

#include "vmm/base/util.h"
#include "vmm/core/arch.h"
#include "vmm/core/vcpu.h"

#define REG(n)		{ #n, false, offsetof(struct kvm_regs, n), 8 }
#define SREG(n)		{ #n, true, offsetof(struct kvm_sregs, n), 8 }
#define FIELD(n, f, m)	{ #n "." #f, true, offsetof(struct kvm_sregs, n.m), \
			  sizeof(((struct kvm_sregs *)0)->n.m) }
#define SEGMENT(n)	FIELD(n, selector, selector), FIELD(n, base, base), FIELD(n, limit, limit)

static const struct {
	const char *name;
	bool special;		/* of kvm_sregs */
	size_t offset;
	unsigned int width;	/* bytes */
} registers[] = {
	REG(rax), REG(rbx), REG(rcx), REG(rdx), REG(rsi), REG(rdi), REG(rsp), REG(rbp),
	REG(r8), REG(r9), REG(r10), REG(r11), REG(r12), REG(r13), REG(r14), REG(r15),
	REG(rip), REG(rflags),
	SREG(cr0), SREG(cr2), SREG(cr3), SREG(cr4), SREG(cr8), SREG(efer), SREG(apic_base),
	SEGMENT(cs), SEGMENT(ds), SEGMENT(es), SEGMENT(fs), SEGMENT(gs), SEGMENT(ss),
	SEGMENT(tr), SEGMENT(ldt),
	FIELD(gdt, base, base), FIELD(gdt, limit, limit),
	FIELD(idt, base, base), FIELD(idt, limit, limit),
};

union both {
	struct kvm_regs regs;
	struct kvm_sregs sregs;
};

const char *arch_register_name(unsigned int i)
{
	return i < ARRAY_LEN(registers) ? registers[i].name : NULL;
}

static int fetch(struct vcpu *v, unsigned int i, union both *b, struct err *e)
{
	if (ioctl(v->fd, registers[i].special ? KVM_GET_SREGS : KVM_GET_REGS, b) < 0)
		return err_sys(e, -errno, "CPU %u: cannot read its registers", v->index);
	return 0;
}

int arch_register_read(struct vcpu *v, unsigned int i, uint64_t *value, struct err *e)
{
	union both b;
	int r = fetch(v, i, &b, e);

	if (r == 0)
		*value = get_le((const uint8_t *)&b + registers[i].offset, registers[i].width);
	return r;
}

int arch_register_write(struct vcpu *v, unsigned int i, uint64_t value, struct err *e)
{
	unsigned int bits = registers[i].width * 8;
	union both b;
	int r;

	if (bits < 64 && value >> bits)
		return err_set(e, -EINVAL, "register %s has %u bits; 0x%llx is too large",
			       registers[i].name, bits, (unsigned long long)value);
	r = fetch(v, i, &b, e);
	if (r)
		return r;
	put_le((uint8_t *)&b + registers[i].offset, registers[i].width, value);
	if (ioctl(v->fd, registers[i].special ? KVM_SET_SREGS : KVM_SET_REGS, &b) < 0)
		return err_sys(e, -errno, "CPU %u: KVM does not take 0x%llx for %s", v->index,
			       (unsigned long long)value, registers[i].name);
	return 0;
}
