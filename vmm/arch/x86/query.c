/*
 * vmm/arch/x86/query.c - what the control plane asks of the architecture:
 * CPU models, features and registers in words and in core files.
 *
 * Spec:    System V ABI AMD64 supplement (ELF notes of a core: elf_prstatus and
 *          user_regs_struct as Linux lays them out); QEMU's names of features.
 * Threads: main loop; vCPUs whose registers are read are parked.
 * Missing: FPU and vector registers in core files.
 */
#include <ctype.h>
#include <elf.h>
#include <errno.h>
#include <linux/kvm.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/procfs.h>

#include "vmm/arch/x86/arch.h"
#include "vmm/base/util.h"
#include "vmm/core/arch.h"
#include "vmm/core/irq.h"
#include "vmm/core/kvm.h"
#include "vmm/core/vcpu.h"
#include "vmm/core/vm.h"

const char *arch_target(void)
{
	return "x86_64";
}

const char *const *arch_cpu_models(void)
{
	return x86_cpu_names();
}

/* ---- features ---- */

static void add_features(json_t *o, const struct feature_set *s, bool all)
{
	char name[32];

	for (int w = 0; w < FEATURE_WORDS; w++) {
		for (unsigned int b = 0; b < 32; b++) {
			bool on = s->w[w] & 1u << b;

			feature_name((enum feature_word)w, b, name, sizeof(name));
			if (*name && (on || (all && !json_object_get(o, name))))
				json_object_set_new(o, name, json_boolean(on));
		}
	}
}

static json_t *missing_of(const char *model, const struct feature_set *have)
{
	json_t *o = json_object(), *list = json_array(), *val;
	struct feature_set miss;
	const char *name;

	x86_cpu_missing(model, have, &miss);
	add_features(o, &miss, false);
	json_object_foreach(o, name, val)
		json_array_append_new(list, json_string(name));
	json_decref(o);
	return list;
}

/* KVM is asked once: that takes a millisecond where KVM is slow. */
json_t *arch_cpu_missing(struct kvm *k)
{
	struct kvm_cpuid2 *supported;
	struct feature_set have;
	const char *const *m;
	json_t *all;

	if (!k || cpuid_supported(k, &supported, NULL) < 0)
		return NULL;
	cpuid_features(supported, &have);
	free(supported);
	all = json_object();
	for (m = x86_cpu_names(); *m; m++)
		json_object_set_new(all, *m, missing_of(*m, &have));
	return all;
}

/* "host" and {"avx2": false} -> "host,check=off,avx2=off". */
static int model_text(const char *model, const json_t *props, char **out, struct err *e)
{
	char *text = xasprintf("%s,check=off", model), *longer;
	const char *name, *c;
	json_t *val;

	*out = text;
	json_object_foreach((json_t *)(uintptr_t)props, name, val) {
		for (c = name; isalnum((unsigned char)*c) || strchr("-_.", *c); c++)
			if (!*c)
				break;
		if (*c || !json_is_boolean(val))
			return err_set(e, -EINVAL, "CPU property '%.40s' must be a feature's "
				       "name with true or false", name);
		longer = xasprintf("%s,%s=%s", text, name, json_is_true(val) ? "on" : "off");
		free(text);
		*out = text = longer;
	}
	return 0;
}

int arch_cpu_expand(struct kvm *k, const char *model, const json_t *props,
		    json_t **out, struct err *e)
{
	struct x86_cpu_model *m = NULL;
	char *text = NULL;
	int r;

	if (!k)
		return err_set(e, -ENODEV, "CPU models cannot be expanded without KVM");
	if (strchr(model, ','))
		return err_set(e, -EINVAL, "The CPU type '%.80s' is not a model", model);
	r = model_text(model, props, &text, e);
	if (r == 0)
		r = x86_cpu_parse(&m, text, k, e);
	free(text);
	if (r)
		return r;
	*out = json_object();
	add_features(*out, &m->features, true);
	x86_cpu_free(m);
	return 0;
}

json_t *arch_cpu_features(const struct vm *vm)
{
	struct feature_set s;
	json_t *o;

	if (!vm->kvm || !vm->vcpu_count || !x86_platform(vm)->cpuid)
		return NULL;
	o = json_object();
	cpuid_features(x86_platform(vm)->cpuid, &s);
	add_features(o, &s, true);
	return o;
}

json_t *arch_cpu_place(const struct vm *vm, uint32_t index)
{
	const struct x86_topology *t = &x86_platform(vm)->topo;
	uint32_t thread = index % t->threads, core = index / t->threads;
	uint32_t die = core / t->cores, socket = die / t->dies;

	json_t *o = json_pack("{s:I,s:I,s:I,s:I}", "socket-id", (json_int_t)socket,
			      "die-id", (json_int_t)(die % t->dies),
			      "core-id", (json_int_t)(core % t->cores),
			      "thread-id", (json_int_t)thread);

	if (vm->numa_nodes)
		json_object_set_new(o, "node-id", json_integer(vm->cpu_node[index]));
	return o;
}

/* ---- interrupts ---- */

/* As a message to all: destination 0xff, delivery mode NMI (SDM vol. 3A
 * s11.11); it reaches vCPUs that run without stopping them. */
int arch_inject_nmi(struct vm *vm, struct err *e)
{
	static const struct irq_msg nmi = { .addr = 0xfee00000 | 0xff << 12, .data = 4 << 8 };
	int r = vm->irq && vm->vcpu_count ? irq_msi(vm->irq, &nmi) : -ENODEV;

	return r < 0 ? err_sys(e, r, "the NMI cannot be delivered") : 0;
}

/* ---- registers ---- */

static void print_segment(FILE *f, const char *name, const struct kvm_segment *s)
{
	uint32_t flags = (uint32_t)s->type << 8 | (uint32_t)s->s << 12 | (uint32_t)s->dpl << 13 |
			 (uint32_t)s->present << 15 | (uint32_t)s->avl << 20 |
			 (uint32_t)s->l << 21 | (uint32_t)s->db << 22 | (uint32_t)s->g << 23;

	fprintf(f, "%-3s=%04x %016llx %08x %08x\n", name, s->selector,
		(unsigned long long)s->base, s->limit, flags);
}

static void print_sregs(FILE *f, const struct kvm_sregs *s)
{
	print_segment(f, "ES", &s->es);
	print_segment(f, "CS", &s->cs);
	print_segment(f, "SS", &s->ss);
	print_segment(f, "DS", &s->ds);
	print_segment(f, "FS", &s->fs);
	print_segment(f, "GS", &s->gs);
	print_segment(f, "LDT", &s->ldt);
	print_segment(f, "TR", &s->tr);
	fprintf(f, "GDT=     %016llx %08x\n", (unsigned long long)s->gdt.base, s->gdt.limit);
	fprintf(f, "IDT=     %016llx %08x\n", (unsigned long long)s->idt.base, s->idt.limit);
	fprintf(f, "CR0=%08llx CR2=%016llx CR3=%016llx CR4=%08llx\n",
		(unsigned long long)s->cr0, (unsigned long long)s->cr2,
		(unsigned long long)s->cr3, (unsigned long long)s->cr4);
	fprintf(f, "EFER=%016llx\n", (unsigned long long)s->efer);
}

char *arch_vcpu_registers(const struct vcpu *v)
{
	struct kvm_sregs s;
	struct kvm_regs r;
	char *text = NULL;
	size_t len;
	FILE *f;

	if (ioctl(v->fd, KVM_GET_REGS, &r) < 0 || ioctl(v->fd, KVM_GET_SREGS, &s) < 0)
		return xasprintf("the registers cannot be read: %s\n", strerror(errno));
	f = open_memstream(&text, &len);
	if (!f)
		return xstrdup("");
#define W(x) ((unsigned long long)r.x)
	fprintf(f, "RAX=%016llx RBX=%016llx RCX=%016llx RDX=%016llx\n",
		W(rax), W(rbx), W(rcx), W(rdx));
	fprintf(f, "RSI=%016llx RDI=%016llx RBP=%016llx RSP=%016llx\n",
		W(rsi), W(rdi), W(rbp), W(rsp));
	fprintf(f, "R8 =%016llx R9 =%016llx R10=%016llx R11=%016llx\n",
		W(r8), W(r9), W(r10), W(r11));
	fprintf(f, "R12=%016llx R13=%016llx R14=%016llx R15=%016llx\n",
		W(r12), W(r13), W(r14), W(r15));
	fprintf(f, "RIP=%016llx RFL=%08llx CPL=%u\n", W(rip), W(rflags), s.cs.selector & 3u);
#undef W
	print_sregs(f, &s);
	fclose(f);
	return text;
}

/* ---- core files ---- */

uint16_t arch_elf_machine(void)
{
	return EM_X86_64;
}

/* user_regs_struct, in its order. */
static void fill_regs(const struct vcpu *v, struct user_regs_struct *u)
{
	struct kvm_sregs s = { 0 };
	struct kvm_regs r = { 0 };

	ioctl(v->fd, KVM_GET_REGS, &r);
	ioctl(v->fd, KVM_GET_SREGS, &s);
	*u = (struct user_regs_struct){
		.r15 = r.r15, .r14 = r.r14, .r13 = r.r13, .r12 = r.r12, .rbp = r.rbp,
		.rbx = r.rbx, .r11 = r.r11, .r10 = r.r10, .r9 = r.r9, .r8 = r.r8,
		.rax = r.rax, .rcx = r.rcx, .rdx = r.rdx, .rsi = r.rsi, .rdi = r.rdi,
		.orig_rax = r.rax, .rip = r.rip, .cs = s.cs.selector, .eflags = r.rflags,
		.rsp = r.rsp, .ss = s.ss.selector, .fs_base = s.fs.base, .gs_base = s.gs.base,
		.ds = s.ds.selector, .es = s.es.selector, .fs = s.fs.selector,
		.gs = s.gs.selector,
	};
}

size_t arch_elf_notes(const struct vcpu *v, uint8_t *buf)
{
	static const char name[8] = "CORE";
	Elf64_Nhdr h = { .n_namesz = 5, .n_descsz = sizeof(struct elf_prstatus),
			 .n_type = NT_PRSTATUS };
	size_t desc = align_up(sizeof(struct elf_prstatus), 4);
	struct elf_prstatus st = { 0 };
	struct user_regs_struct u;

	if (!buf)
		return sizeof(h) + sizeof(name) + desc;
	memset(buf, 0, sizeof(h) + sizeof(name) + desc);
	fill_regs(v, &u);
	st.pr_pid = (pid_t)v->index + 1;	/* readers tell CPUs apart by it */
	memcpy(&st.pr_reg, &u, sizeof(u));
	memcpy(buf, &h, sizeof(h));
	memcpy(buf + sizeof(h), name, sizeof(name));
	memcpy(buf + sizeof(h) + sizeof(name), &st, sizeof(st));
	return sizeof(h) + sizeof(name) + desc;
}
