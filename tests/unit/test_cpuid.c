/*
 * CPU models and CPUID tables, on what the real /dev/kvm supports. Skipped,
 * with the reason, where it cannot be used.
 */
#include <criterion/criterion.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <unistd.h>

#include "vmm/arch/x86/arch.h"
#include "vmm/base/log.h"
#include "vmm/base/util.h"
#include "vmm/core/kvm.h"

struct env {
	struct kvm *k;
	struct x86_cpu_model *m;
	struct kvm_cpuid2 *c;
	struct x86_topology t;
	struct err e;
};

static void no_log(enum log_level level, const char *line, void *arg)
{
}

static void env_open(struct env *v, uint32_t sockets, uint32_t dies, uint32_t cores,
		     uint32_t threads)
{
	memset(v, 0, sizeof(*v));
	log_set_sink(no_log, NULL);
	if (kvm_open(&v->k, NULL, &v->e) < 0)
		cr_skip_test("%s", v->e.text);
	v->t = (struct x86_topology){ sockets * dies * cores * threads,
				      sockets, dies, cores, threads };
}

static void model(struct env *v, const char *text)
{
	cr_assert_eq(x86_cpu_parse(&v->m, text, v->k, &v->e), 0, "%s", v->e.text);
	v->c = cpuid_build(v->m, &v->t);
}

static void env_close(struct env *v)
{
	free(v->c);
	x86_cpu_free(v->m);
	kvm_close(v->k);
}

static const struct kvm_cpuid_entry2 *leaf(const struct env *v, uint32_t l, uint32_t sub)
{
	const struct kvm_cpuid_entry2 *n = cpuid_find(v->c, l, sub);

	cr_assert(n, "leaf 0x%x.%u is missing", l, sub);
	return n;
}

static bool has(const struct env *v, const char *name)
{
	struct feature_set s;
	enum feature_word w = FW_1_EDX;
	uint32_t mask = 0;

	cr_assert(feature_find(name, &w, &mask), "%s", name);
	cpuid_features(v->c, &s);
	return s.w[w] & mask;
}

/* /dev/kvm without hardware below it offers no XSAVE. */
static void need(struct env *v, const char *name)
{
	if (!has(v, name))
		cr_skip_test("this KVM has no %s", name);
}

/* No feature bit that KVM does not support, whatever the model. */
static void expect_supported(const struct env *v)
{
	struct feature_set have, got;

	cpuid_features(v->m->supported, &have);
	cpuid_features(v->c, &got);
	/* the machine's own: HTT, CMP_LEGACY */
	have.w[FW_1_EDX] |= BIT(28);
	have.w[FW_8001_ECX] |= BIT(1);
	for (int w = 0; w < FEATURE_WORDS; w++)
		cr_expect_eq(got.w[w] & ~have.w[w], 0, "word %d: 0x%x", w,
			     got.w[w] & ~have.w[w]);
}

Test(cpuid, every_model_is_accepted_by_kvm)
{
	const char *const *names = x86_cpu_names();
	struct env v;

	for (int i = 0; names[i]; i++) {
		int fd;

		env_open(&v, 1, 1, 2, 1);
		model(&v, names[i]);
		expect_supported(&v);
		fd = ioctl(v.k->vm_fd, KVM_CREATE_VCPU, 0ul);
		cr_assert(fd >= 0);
		cr_expect_eq(ioctl(fd, KVM_SET_CPUID2, v.c), 0, "%s: %s", names[i],
			     strerror(errno));
		close(fd);
		env_close(&v);
	}
}

Test(cpuid, host_shows_hypervisor_x2apic_and_kvm)
{
	struct env v;

	env_open(&v, 1, 1, 1, 1);
	model(&v, "host");
	cr_expect(has(&v, "hypervisor"));
	cr_expect(has(&v, "x2apic"));
	cr_expect_eq(leaf(&v, 0x40000000, 0)->ebx, 0x4b4d564b);	/* KVMK */
	cr_expect(has(&v, "kvmclock"));
	env_close(&v);
}

Test(cpuid, kvm_off_hides_the_signature)
{
	struct env v;

	env_open(&v, 1, 1, 1, 1);
	model(&v, "host,kvm=off");
	cr_expect_null(cpuid_find(v.c, 0x40000000, 0));
	cr_expect_null(cpuid_find(v.c, 0x40000001, 0));
	env_close(&v);
}

Test(cpuid, single_cpu_has_no_siblings)
{
	struct env v;

	env_open(&v, 1, 1, 1, 1);
	model(&v, "host");
	cr_expect_eq(leaf(&v, 1, 0)->ebx >> 16 & 0xff, 1);
	cr_expect_not(leaf(&v, 1, 0)->edx & BIT(28));
	cr_expect_eq(leaf(&v, 0xb, 0)->ebx, 1);
	cr_expect_eq(leaf(&v, 0xb, 1)->ebx, 1);
	env_close(&v);
}

Test(cpuid, leaf_b_describes_threads_and_cores)
{
	struct env v;

	env_open(&v, 2, 1, 3, 2);
	model(&v, "host");
	cpuid_set_apic_id(v.c, x86_apic_id(&v.t, 11), &v.t);
	cr_expect_eq(leaf(&v, 0xb, 0)->eax, 1);
	cr_expect_eq(leaf(&v, 0xb, 0)->ebx, 2);
	cr_expect_eq(leaf(&v, 0xb, 0)->ecx, 0x100);
	cr_expect_eq(leaf(&v, 0xb, 1)->eax, 3);
	cr_expect_eq(leaf(&v, 0xb, 1)->ebx, 6);
	cr_expect_eq(leaf(&v, 0xb, 1)->ecx, 0x201);
	cr_expect_eq(leaf(&v, 0xb, 2)->ecx, 2);
	cr_expect_eq(leaf(&v, 0xb, 1)->edx, 13);
	cr_expect_eq(leaf(&v, 1, 0)->ebx >> 24, 13);
	cr_expect_eq(leaf(&v, 1, 0)->ebx >> 16 & 0xff, 8);
	cr_expect(leaf(&v, 1, 0)->edx & BIT(28));
	cr_expect_geq(leaf(&v, 0, 0)->eax, 0xb);
	env_close(&v);
}

Test(cpuid, dies_add_leaf_1f)
{
	struct env v;

	env_open(&v, 1, 2, 2, 2);
	model(&v, "host");
	cr_expect_geq(leaf(&v, 0, 0)->eax, 0x1f);
	cr_expect_eq(leaf(&v, 0x1f, 1)->eax, 2);
	cr_expect_eq(leaf(&v, 0x1f, 1)->ebx, 4);
	cr_expect_eq(leaf(&v, 0x1f, 2)->ecx, 0x502);
	cr_expect_eq(leaf(&v, 0x1f, 2)->ebx, 8);
	env_close(&v);
}

Test(cpuid, feature_words_switch_features)
{
	struct env v;

	env_open(&v, 1, 1, 1, 1);
	model(&v, "host,-cx16,sse2=off,clflush=off,+clflush,-kvmclock");
	cr_expect_not(has(&v, "cx16"));
	cr_expect_not(has(&v, "sse2"));
	cr_expect(has(&v, "clflush"));
	cr_expect_not(has(&v, "kvmclock"));
	env_close(&v);
}

Test(cpuid, without_xsave_nothing_of_avx_is_left)
{
	struct env v;

	env_open(&v, 1, 1, 1, 1);
	model(&v, "host,-xsave");
	cr_expect_not(has(&v, "avx"));
	cr_expect_not(has(&v, "avx2"));
	cr_expect_null(cpuid_find(v.c, 0xd, 0));
	env_close(&v);
}

Test(cpuid, without_avx512_its_state_is_gone)
{
	struct env v;

	env_open(&v, 1, 1, 1, 1);
	model(&v, "host,-avx512f");
	need(&v, "xsave");
	cr_expect_eq(leaf(&v, 0xd, 0)->eax & 0xe0, 0);
	cr_expect_leq(leaf(&v, 0xd, 0)->ecx, 0x988 + 0x40);
	env_close(&v);
}

Test(cpuid, named_model_has_its_name_and_family)
{
	struct env v;
	char brand[49] = { 0 };

	env_open(&v, 1, 1, 1, 1);
	model(&v, "EPYC-Milan");
	for (uint32_t i = 0; i < 3; i++)
		memcpy(brand + i * 16, &leaf(&v, 0x80000002 + i, 0)->eax, 16);
	cr_expect_str_eq(brand, "AMD EPYC-Milan Processor");
	cr_expect_eq(leaf(&v, 1, 0)->eax, 0x00a00f11);
	env_close(&v);
}

Test(cpuid, small_model_lacks_what_it_does_not_name)
{
	struct env v;

	env_open(&v, 1, 1, 1, 1);
	model(&v, "kvm64");
	cr_expect_not(has(&v, "avx"));
	cr_expect_not(has(&v, "sse4.1"));
	cr_expect(has(&v, "cx16"));
	cr_expect(has(&v, "lm"));
	cr_expect(has(&v, "kvmclock"));
	env_close(&v);
}

static void expect_refused(const char *text, int ret, const char *word)
{
	struct env v;

	env_open(&v, 1, 1, 1, 1);
	cr_expect_eq(x86_cpu_parse(&v.m, text, v.k, &v.e), ret, "%s", text);
	cr_expect(strstr(v.e.text, word), "'%s' lacks '%s'", v.e.text, word);
	env_close(&v);
}

Test(cpuid, bad_options_are_refused)
{
	expect_refused("pentium9", -EINVAL, "no model 'pentium9'");
	expect_refused("EPIC", -EINVAL, "did you mean 'EPYC'");
	expect_refused("host,+flux", -EINVAL, "'flux'");
	expect_refused("host,avx=maybe", -EINVAL, "avx=maybe");
	expect_refused("host,hypervisor=off", -EINVAL, "hypervisor=off");
	expect_refused("host,enforce,+3dnowext,+ia64", -ENOTSUP, "does not support");
}

/* ---- names, without KVM ---- */

Test(feature, every_name_is_found_at_its_bit)
{
	for (int w = 0; w < FEATURE_WORDS; w++)
		for (unsigned int b = 0; b < 32; b++) {
			enum feature_word word;
			uint32_t mask;
			char name[32];

			if (!*feature_name((enum feature_word)w, b, name, sizeof(name)))
				continue;
			cr_assert(feature_find(name, &word, &mask), "%s", name);
			cr_expect_eq((int)word, w, "%s", name);
			cr_expect(mask & 1u << b, "%s", name);
		}
}

Test(feature, known_bits_have_their_names)
{
	static const struct { const char *name; enum feature_word w; uint32_t mask; } known[] = {
		{ "pbe", FW_1_EDX, BIT(31) }, { "hypervisor", FW_1_ECX, BIT(31) },
		{ "tsc-deadline", FW_1_ECX, BIT(24) }, { "x2apic", FW_1_ECX, BIT(21) },
		{ "avx512vl", FW_7_EBX, BIT(31) }, { "smap", FW_7_EBX, BIT(20) },
		{ "pks", FW_7_ECX, BIT(31) }, { "rdpid", FW_7_ECX, BIT(22) },
		{ "ssbd", FW_7_EDX, BIT(31) }, { "spec-ctrl", FW_7_EDX, BIT(26) },
		{ "amx-tile", FW_7_EDX, BIT(24) }, { "avx512-bf16", FW_7_1_EAX, BIT(5) },
		{ "3dnow", FW_8001_EDX, BIT(31) }, { "lm", FW_8001_EDX, BIT(29) },
		{ "topoext", FW_8001_ECX, BIT(22) }, { "perfctr-nb", FW_8001_ECX, BIT(24) },
		{ "invtsc", FW_8007_EDX, BIT(8) }, { "ibpb", FW_8008_EBX, BIT(12) },
		{ "amd-ssbd", FW_8008_EBX, BIT(24) }, { "amd-psfd", FW_8008_EBX, BIT(28) },
		{ "svme-addr-chk", FW_800A_EDX, BIT(28) }, { "vgif", FW_800A_EDX, BIT(16) },
		{ "kvmclock", FW_KVM_EAX, BIT(0) | BIT(3) },
		{ "kvm-pv-ipi", FW_KVM_EAX, BIT(11) },
		{ "kvmclock-stable-bit", FW_KVM_EAX, BIT(24) },
		{ "sse4_2", FW_1_ECX, BIT(20) }, { "sse3", FW_1_ECX, BIT(0) },
	};

	for (size_t i = 0; i < ARRAY_LEN(known); i++) {
		enum feature_word w = FW_1_EDX;
		uint32_t mask = 0;

		cr_assert(feature_find(known[i].name, &w, &mask), "%s", known[i].name);
		cr_expect_eq(w, known[i].w, "%s", known[i].name);
		cr_expect_eq(mask, known[i].mask, "%s: 0x%x", known[i].name, mask);
	}
}

Test(feature, name_that_does_not_exist_is_not_found)
{
	enum feature_word w;
	uint32_t mask;

	cr_expect_not(feature_find("-", &w, &mask));
	cr_expect_not(feature_find("", &w, &mask));
	cr_expect_not(feature_find("avx5", &w, &mask));
}
