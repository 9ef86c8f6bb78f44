/*
 * vmm/arch/x86/exit.c - exits that only x86 has, and what a vCPU looked like
 * when KVM gave up on it.
 *
 * Spec:    Linux Documentation/virt/kvm/api.rst, "The kvm_run structure".
 * Threads: the vCPU's own.
 * Missing: nothing known.
 */
#include <errno.h>
#include <linux/kvm.h>
#include <stdio.h>
#include <sys/ioctl.h>

#include "vmm/arch/x86/arch.h"
#include "vmm/base/log.h"
#include "vmm/base/util.h"
#include "vmm/core/vcpu.h"
#include "vmm/core/vm.h"

/* Instruction bytes before and from RIP on; the longest instruction has 15. */
#define CODE_BEFORE	16u
#define CODE_BYTES	48u

int arch_vcpu_exit(struct vcpu *v)
{
	const struct x86_platform *x = x86_platform(v->vm);

	switch (v->run->exit_reason) {
	case KVM_EXIT_IOAPIC_EOI:
		if (x->ioapic)
			x->ioapic->eoi(x->ioapic_arg, v->run->eoi.vector);
		return 0;
	case KVM_EXIT_SET_TPR:
		return 0;
	default:
		return -EIO;
	}
}

static void dump_segment(const char *name, const struct kvm_segment *s)
{
	log_err("  %-4s %04x base %016llx limit %08x type %x dpl %u p %u s %u db %u l %u g %u",
		name, s->selector, s->base, s->limit, s->type, s->dpl, s->present,
		s->s, s->db, s->l, s->g);
}

static void dump_regs(const struct kvm_regs *r)
{
	log_err("  rax %016llx rbx %016llx rcx %016llx rdx %016llx",
		r->rax, r->rbx, r->rcx, r->rdx);
	log_err("  rsi %016llx rdi %016llx rbp %016llx rsp %016llx",
		r->rsi, r->rdi, r->rbp, r->rsp);
	log_err("  r8  %016llx r9  %016llx r10 %016llx r11 %016llx",
		r->r8, r->r9, r->r10, r->r11);
	log_err("  r12 %016llx r13 %016llx r14 %016llx r15 %016llx",
		r->r12, r->r13, r->r14, r->r15);
	log_err("  rip %016llx rflags %08llx", r->rip, r->rflags);
}

static void dump_sregs(const struct kvm_sregs *s)
{
	dump_segment("cs", &s->cs);
	dump_segment("ss", &s->ss);
	dump_segment("ds", &s->ds);
	dump_segment("es", &s->es);
	dump_segment("fs", &s->fs);
	dump_segment("gs", &s->gs);
	dump_segment("tr", &s->tr);
	dump_segment("ldt", &s->ldt);
	log_err("  gdt  base %016llx limit %04x   idt base %016llx limit %04x",
		s->gdt.base, s->gdt.limit, s->idt.base, s->idt.limit);
	log_err("  cr0 %08llx cr2 %016llx cr3 %016llx cr4 %08llx efer %08llx apic %llx",
		s->cr0, s->cr2, s->cr3, s->cr4, s->efer, s->apic_base);
}

/* One byte of code at linear address @at. */
static bool code_byte(struct vcpu *v, uint64_t at, uint8_t *out)
{
	struct kvm_translation t = { .linear_address = at };

	return ioctl(v->fd, KVM_TRANSLATE, &t) == 0 && t.valid &&
	       gmem_read(v->vm->mem, gpa(t.physical_address), out, 1) == 0;
}

static void dump_code(struct vcpu *v, uint64_t linear)
{
	char text[CODE_BYTES * 4 + 8];
	size_t n = 0;

	for (unsigned int i = 0; i < CODE_BYTES; i++) {
		uint8_t byte;
		const char *mark = i == CODE_BEFORE ? "<" : "";

		if (code_byte(v, linear - CODE_BEFORE + i, &byte))
			n += (size_t)snprintf(text + n, sizeof(text) - n, " %s%02x%s",
					      mark, byte, *mark ? ">" : "");
		else
			n += (size_t)snprintf(text + n, sizeof(text) - n, " %s??%s",
					      mark, *mark ? ">" : "");
	}
	log_err("  code%s", text);
}

void arch_vcpu_dump(struct vcpu *v)
{
	struct kvm_regs r;
	struct kvm_sregs s;

	if (ioctl(v->fd, KVM_GET_REGS, &r) < 0 || ioctl(v->fd, KVM_GET_SREGS, &s) < 0) {
		log_err("CPU %u: its registers cannot be read", v->index);
		return;
	}
	log_err("CPU %u: exit reason %u, registers:", v->index, v->run->exit_reason);
	dump_regs(&r);
	dump_sregs(&s);
	/* In 64-bit mode the base of CS does not count. */
	dump_code(v, (s.cs.l ? 0 : s.cs.base) + r.rip);
}
