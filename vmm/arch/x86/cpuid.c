/*
 * vmm/arch/x86/cpuid.c - the CPUID table of a guest CPU.
 *
 * Spec:    Intel SDM vol. 2A "CPUID"; AMD APM vol. 3 appendix E; Linux
 *          Documentation/virt/kvm/api.rst 4.46 KVM_GET_SUPPORTED_CPUID.
 * Threads: main loop.
 * Missing: leaf 0x8000001d's cache sizes differ from the host's never.
 *
 * The table is what KVM supports, copied leaf by leaf, less what the model
 * lacks; only the leaves that describe the machine (topology, APIC ids) are
 * written here, because KVM passes on the host's.
 */
#include <assert.h>
#include <errno.h>
#include <linux/kvm.h>
#include <stdlib.h>
#include <sys/ioctl.h>

#include "vmm/arch/x86/arch.h"
#include "vmm/base/util.h"
#include "vmm/core/kvm.h"

#define ENTRIES_FIRST	100	/* KVM lists 30 to 60 */
#define ENTRIES_MAX	1024
#define ENTRIES_OURS	16	/* leaves that may have to be added */

#define LEAF_KVM_FIRST	0x40000000u
#define LEAF_KVM_LAST	0x400000ffu

/* Leaf 1 */
#define L1_EDX_HTT		BIT(28)
#define L1_ECX_X2APIC		BIT(21)
#define L1_ECX_TSC_DEADLINE	BIT(24)
#define L1_ECX_XSAVE		BIT(26)
#define L1_ECX_HYPERVISOR	BIT(31)
/* Leaf 0x80000001 */
#define L8001_ECX_CMP_LEGACY	BIT(1)
#define L8001_ECX_TOPOEXT	BIT(22)
#define L8001_EDX_SAME		0x0183f3ffu	/* AMD repeats these of leaf 1 */

static size_t table_bytes(uint32_t entries)
{
	return sizeof(struct kvm_cpuid2) + entries * sizeof(struct kvm_cpuid_entry2);
}

static struct kvm_cpuid_entry2 *find(struct kvm_cpuid2 *c, uint32_t leaf, uint32_t sub)
{
	for (uint32_t i = 0; i < c->nent; i++) {
		struct kvm_cpuid_entry2 *n = &c->entries[i];

		if (n->function == leaf &&
		    (!(n->flags & KVM_CPUID_FLAG_SIGNIFCANT_INDEX) || n->index == sub))
			return n;
	}
	return NULL;
}

const struct kvm_cpuid_entry2 *cpuid_find(const struct kvm_cpuid2 *c,
					  uint32_t leaf, uint32_t subleaf)
{
	return find((struct kvm_cpuid2 *)c, leaf, subleaf);
}

static uint32_t *entry_reg(struct kvm_cpuid_entry2 *n, enum cpuid_reg r)
{
	uint32_t *const regs[] = { &n->eax, &n->ebx, &n->ecx, &n->edx };

	return regs[r];
}

int cpuid_supported(struct kvm *k, struct kvm_cpuid2 **out, struct err *e)
{
	struct kvm_cpuid2 *c = NULL;
	struct kvm_cpuid_entry2 *n;
	uint32_t room;

	for (room = ENTRIES_FIRST; ; room *= 2) {
		c = xrealloc(c, table_bytes(room));
		memset(c, 0, table_bytes(room));
		c->nent = room;
		if (ioctl(k->sys_fd, KVM_GET_SUPPORTED_CPUID, c) == 0)
			break;
		if (errno != E2BIG || room >= ENTRIES_MAX) {
			free(c);
			return err_sys(e, -errno, "KVM does not say which CPU features it "
				       "supports");
		}
	}
	n = find(c, 1, 0);
	if (!n) {
		free(c);
		return err_set(e, -ENOTSUP, "KVM lists no CPUID leaf 1");
	}
	/* What KVM does without listing it: api.rst on TSC deadline and x2APIC
	 * says that user space sets them when the APIC is in the kernel. */
	n->ecx |= L1_ECX_HYPERVISOR | L1_ECX_X2APIC;
	if (kvm_check(k, KVM_CAP_TSC_DEADLINE_TIMER) > 0)
		n->ecx |= L1_ECX_TSC_DEADLINE;
	*out = c;
	return 0;
}

void cpuid_features(const struct kvm_cpuid2 *c, struct feature_set *out)
{
	for (int w = 0; w < FEATURE_WORDS; w++) {
		const struct feature_word_info *i = &feature_words[w];
		struct kvm_cpuid_entry2 *n = find((struct kvm_cpuid2 *)c, i->leaf, i->subleaf);

		out->w[w] = n ? *entry_reg(n, i->reg) : 0;
	}
}

/* ---- which leaves the guest gets ---- */

bool cpuid_is_amd(const struct kvm_cpuid2 *c)
{
	const struct kvm_cpuid_entry2 *n = cpuid_find(c, 0, 0);

	/* "AuthenticAMD" and "HygonGenuine", by their first letters. */
	return n && (n->ebx == 0x68747541 || n->ebx == 0x6f677948);
}

static bool leaf_wanted(const struct x86_cpu_model *m, uint32_t leaf)
{
	if (leaf == 0xb || leaf == 0x1f || leaf == 0x8000001e)
		return false;	/* written below */
	if (leaf >= LEAF_KVM_FIRST && leaf <= LEAF_KVM_LAST)
		return m->kvm;
	if (leaf == 0xa && !m->pmu)
		return false;
	if (m->host)
		return true;
	return leaf >= 0x80000000u ? leaf <= m->xlevel : leaf <= m->level;
}

/* State components of XCR0 that belong to features the guest lacks. */
static uint64_t xcr0_without(const struct feature_set *f)
{
	static const struct { const char *feature; uint64_t bits; } comp[] = {
		{ "avx", 0x4 }, { "mpx", 0x18 }, { "avx512f", 0xe0 },
		{ "pku", 0x200 }, { "amx-tile", 0x60000 },
	};
	uint64_t off = 0;

	for (size_t i = 0; i < ARRAY_LEN(comp); i++) {
		enum feature_word w = FW_1_ECX;
		uint32_t mask = 0;

		feature_find(comp[i].feature, &w, &mask);
		if (!(f->w[w] & mask))
			off |= comp[i].bits;
	}
	return off;
}

/* Leaf 0xd: may component @n of the extended state stay? */
static bool xstate_wanted(const struct kvm_cpuid_entry2 *n, const struct feature_set *f)
{
	if (!(f->w[FW_1_ECX] & L1_ECX_XSAVE))
		return false;
	if (n->index < 2)
		return true;
	if (n->ecx & 1)		/* managed by IA32_XSS: needs XSAVES */
		return f->w[FW_D_1_EAX] & BIT(3);
	return n->index < 64 && !(xcr0_without(f) & BIT64(n->index));
}

static void xstate_adjust(struct kvm_cpuid2 *c, const struct feature_set *f)
{
	struct kvm_cpuid_entry2 *n = find(c, 0xd, 0);
	uint64_t off = xcr0_without(f);
	uint32_t size = 576;	/* legacy area and header */

	if (!n)
		return;
	n->eax &= (uint32_t)~off;
	n->edx &= (uint32_t)(~off >> 32);
	for (uint32_t i = 0; i < c->nent; i++) {
		const struct kvm_cpuid_entry2 *s = &c->entries[i];

		if (s->function == 0xd && s->index >= 2 && !(s->ecx & 1))
			size = MAX(size, s->eax + s->ebx);
	}
	n->ebx = n->ecx = size;		/* KVM follows XCR0 in EBX */
}

static void features_write(struct kvm_cpuid2 *c, const struct x86_cpu_model *m)
{
	for (int w = 0; w < FEATURE_WORDS; w++) {
		const struct feature_word_info *i = &feature_words[w];
		struct kvm_cpuid_entry2 *n = find(c, i->leaf, i->subleaf);

		if (!n)
			continue;
		*entry_reg(n, i->reg) = m->features.w[w];
		if (w == FW_8001_EDX && !m->host && cpuid_is_amd(c))
			n->edx |= m->features.w[FW_1_EDX] & L8001_EDX_SAME;
	}
}

/* ---- what describes this machine rather than the CPU ---- */

static struct kvm_cpuid_entry2 *add(struct kvm_cpuid2 *c, uint32_t room,
				    uint32_t leaf, uint32_t sub, bool indexed)
{
	struct kvm_cpuid_entry2 *n = indexed ? NULL : find(c, leaf, sub);

	if (n)
		return n;
	assert(c->nent < room);
	n = &c->entries[c->nent++];
	*n = (struct kvm_cpuid_entry2){ .function = leaf, .index = sub,
		.flags = indexed ? KVM_CPUID_FLAG_SIGNIFCANT_INDEX : 0 };
	return n;
}

/* One level of leaf 0xb or 0x1f: type 1 SMT, 2 core, 5 die. */
static void add_level(struct kvm_cpuid2 *c, uint32_t room, uint32_t leaf, uint32_t sub,
		      uint32_t type, unsigned int shift, uint32_t count)
{
	struct kvm_cpuid_entry2 *n = add(c, room, leaf, sub, true);

	n->eax = shift;
	n->ebx = count;
	n->ecx = type << 8 | sub;
}

static void add_topology(struct kvm_cpuid2 *c, uint32_t room, const struct x86_topology *t)
{
	uint32_t die = t->cores * t->threads;
	unsigned int pkg = topology_package_bits(t);

	add_level(c, room, 0xb, 0, 1, topology_thread_bits(t), t->threads);
	add_level(c, room, 0xb, 1, 2, pkg, t->dies * die);
	add_level(c, room, 0xb, 2, 0, 0, 0);
	if (t->dies == 1)
		return;
	add_level(c, room, 0x1f, 0, 1, topology_thread_bits(t), t->threads);
	add_level(c, room, 0x1f, 1, 2, topology_core_bits(t), die);
	add_level(c, room, 0x1f, 2, 5, pkg, t->dies * die);
	add_level(c, room, 0x1f, 3, 0, 0, 0);
}

/* Leaf 4 (Intel) and 0x8000001d (AMD): who shares a cache. */
static void cache_adjust(struct kvm_cpuid_entry2 *n, const struct x86_topology *t)
{
	uint32_t level = n->eax >> 5 & 7, sharing;
	unsigned int pkg = topology_package_bits(t) - topology_thread_bits(t);

	if (!(n->eax & 0x1f))	/* no more caches */
		return;
	sharing = level < 3 ? 1u << topology_thread_bits(t) : 1u << topology_core_bits(t);
	n->eax = (n->eax & 0x3fff) | MIN(sharing - 1, 0xfffu) << 14;
	if (n->function == 4)
		n->eax |= MIN((1u << pkg) - 1, 0x3fu) << 26;
}

static void amd_topology(struct kvm_cpuid2 *c, uint32_t room, const struct x86_topology *t)
{
	uint32_t per_pkg = t->dies * t->cores * t->threads;
	struct kvm_cpuid_entry2 *n = find(c, 0x80000001, 0);
	bool topoext = n && (n->ecx & L8001_ECX_TOPOEXT);

	if (n)
		n->ecx = per_pkg > 1 ? n->ecx | L8001_ECX_CMP_LEGACY :
			 n->ecx & ~L8001_ECX_CMP_LEGACY;
	n = find(c, 0x80000008, 0);
	if (n)
		n->ecx = per_pkg > 1 ? topology_package_bits(t) << 12 |
			 MIN(per_pkg - 1, 0xffu) : 0;
	if (!topoext)
		return;
	n = add(c, room, 0x8000001e, 0, false);
	n->ebx = MIN(t->threads - 1, 0xffu) << 8;
	n->ecx = MIN(t->dies - 1, 7u) << 8;
}

static void brand_write(struct kvm_cpuid2 *c, const char *id)
{
	char text[48] = { 0 };

	memcpy(text, id, MIN(strlen(id), sizeof(text) - 1));
	for (uint32_t i = 0; i < 3; i++) {
		struct kvm_cpuid_entry2 *n = find(c, 0x80000002 + i, 0);

		if (!n)
			continue;
		n->eax = get_le32(text + i * 16);
		n->ebx = get_le32(text + i * 16 + 4);
		n->ecx = get_le32(text + i * 16 + 8);
		n->edx = get_le32(text + i * 16 + 12);
	}
}

/* Family, model, stepping as leaf 1 EAX spells them. */
static uint32_t signature(const struct x86_cpu_model *m)
{
	uint32_t family = m->family > 15 ? 15u << 8 | (m->family - 15) << 20 : m->family << 8;

	return family | (m->model & 0xf) << 4 | (m->model >> 4) << 16 | m->stepping;
}

static void levels_write(struct kvm_cpuid2 *c, const struct x86_cpu_model *m,
			 const struct x86_topology *t)
{
	struct kvm_cpuid_entry2 *n = find(c, 0, 0);

	if (n) {
		if (!m->host)
			n->eax = m->level;
		n->eax = MAX(n->eax, t->dies > 1 ? 0x1fu : 0xbu);
	}
	n = find(c, 0x80000000, 0);
	if (n && !m->host)
		n->eax = m->xlevel;
	if (n && find(c, 0x8000001e, 0))
		n->eax = MAX(n->eax, 0x8000001eu);
	n = find(c, 1, 0);
	if (n && !m->host)
		n->eax = signature(m);
}

static void machine_adjust(struct kvm_cpuid2 *c, uint32_t room, const struct x86_topology *t)
{
	uint32_t per_pkg = 1u << topology_package_bits(t);
	struct kvm_cpuid_entry2 *n = find(c, 1, 0);

	if (n) {
		n->ebx = (n->ebx & 0xff00) | MIN(per_pkg, 255u) << 16;
		n->edx = per_pkg > 1 ? n->edx | L1_EDX_HTT : n->edx & ~L1_EDX_HTT;
	}
	add_topology(c, room, t);
	if (cpuid_is_amd(c))
		amd_topology(c, room, t);
	for (uint32_t i = 0; i < c->nent; i++)
		if (c->entries[i].function == 4 || c->entries[i].function == 0x8000001d)
			cache_adjust(&c->entries[i], t);
}

struct kvm_cpuid2 *cpuid_build(const struct x86_cpu_model *m, const struct x86_topology *t)
{
	uint32_t room = m->supported->nent + ENTRIES_OURS;
	struct kvm_cpuid2 *c = xcalloc(1, table_bytes(room));

	for (uint32_t i = 0; i < m->supported->nent; i++) {
		const struct kvm_cpuid_entry2 *n = &m->supported->entries[i];

		if (!leaf_wanted(m, n->function) ||
		    (n->function == 0xd && !xstate_wanted(n, &m->features)))
			continue;
		c->entries[c->nent++] = *n;
	}
	features_write(c, m);
	xstate_adjust(c, &m->features);
	if (m->id)
		brand_write(c, m->id);
	machine_adjust(c, room, t);
	levels_write(c, m, t);
	cpuid_set_apic_id(c, 0, t);
	return c;
}

void cpuid_set_apic_id(struct kvm_cpuid2 *c, uint32_t apic_id, const struct x86_topology *t)
{
	for (uint32_t i = 0; i < c->nent; i++) {
		struct kvm_cpuid_entry2 *n = &c->entries[i];

		switch (n->function) {
		case 1:
			n->ebx = (n->ebx & 0x00ffffff) | apic_id << 24;
			break;
		case 0xb:
		case 0x1f:
			n->edx = apic_id;
			break;
		case 0x8000001e:
			n->eax = apic_id;
			n->ebx = (n->ebx & ~0xffu) |
				 (apic_id >> topology_thread_bits(t) & 0xff);
			n->ecx = (n->ecx & ~0xffu) |
				 (apic_id >> topology_core_bits(t) & 0xff);
			break;
		}
	}
}
