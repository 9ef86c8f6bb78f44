/*
 * vmm/arch/x86/feature.c - CPUID feature bits by name.
 *
 * Spec:    Intel SDM vol. 2A "CPUID"; AMD APM vol. 3 appendix E; Linux
 *          Documentation/virt/kvm/x86/cpuid.rst.
 * Threads: any; constant tables.
 * Missing: the VMX capability MSRs' names, leaf 0x14 (PT) details.
 */
#include "vmm/arch/x86/feature.h"

#include <assert.h>
#include <string.h>
#include <strings.h>

#include "vmm/base/util.h"

const struct feature_word_info feature_words[FEATURE_WORDS] = {
	[FW_1_EDX] = { 1, 0, REG_EDX,
		"fpu vme de pse tsc msr pae mce cx8 apic - sep mtrr pge mca cmov "
		"pat pse36 pn clflush - ds acpi mmx fxsr sse sse2 ss ht tm ia64 pbe" },
	[FW_1_ECX] = { 1, 0, REG_ECX,
		"pni pclmulqdq dtes64 monitor ds-cpl vmx smx est tm2 ssse3 cid - "
		"fma cx16 xtpr pdcm - pcid dca sse4.1 sse4.2 x2apic movbe popcnt "
		"tsc-deadline aes xsave - avx f16c rdrand hypervisor" },
	[FW_6_EAX] = { 6, 0, REG_EAX, "- - arat" },
	[FW_7_EBX] = { 7, 0, REG_EBX,
		"fsgsbase tsc-adjust sgx bmi1 hle avx2 - smep bmi2 erms invpcid "
		"rtm - - mpx - avx512f avx512dq rdseed adx smap avx512ifma pcommit "
		"clflushopt clwb intel-pt avx512pf avx512er avx512cd sha-ni "
		"avx512bw avx512vl" },
	[FW_7_ECX] = { 7, 0, REG_ECX,
		"- avx512vbmi umip pku - waitpkg avx512vbmi2 - gfni vaes vpclmulqdq "
		"avx512vnni avx512bitalg - avx512-vpopcntdq - la57 - - - - - rdpid "
		"- bus-lock-detect cldemote - movdiri movdir64b - sgxlc pks" },
	[FW_7_EDX] = { 7, 0, REG_EDX,
		"- - avx512-4vnniw avx512-4fmaps fsrm - - - avx512-vp2intersect - "
		"md-clear - - - serialize - tsx-ldtrk - - arch-lbr - - amx-bf16 "
		"avx512-fp16 amx-tile amx-int8 spec-ctrl stibp flush-l1d "
		"arch-capabilities core-capability ssbd" },
	[FW_7_1_EAX] = { 7, 1, REG_EAX,
		"- - - - avx-vnni avx512-bf16 - - - - fzrm fsrs fsrc - - - - - - - "
		"- amx-fp16 - avx-ifma" },
	[FW_D_1_EAX] = { 0xd, 1, REG_EAX, "xsaveopt xsavec xgetbv1 xsaves xfd" },
	[FW_8001_EDX] = { 0x80000001, 0, REG_EDX,
		/* The bits AMD repeats from leaf 1 have no names of their own. */
		"- - - - - - - - - - - syscall - - - - - - - mp nx - mmxext - - "
		"fxsr-opt pdpe1gb rdtscp - lm 3dnowext 3dnow" },
	[FW_8001_ECX] = { 0x80000001, 0, REG_ECX,
		"lahf-lm cmp-legacy svm extapic cr8legacy abm sse4a misalignsse "
		"3dnowprefetch osvw ibs xop skinit wdt - lwp fma4 tce - nodeid-msr "
		"- tbm topoext perfctr-core perfctr-nb" },
	[FW_8007_EDX] = { 0x80000007, 0, REG_EDX, "- - - - - - - - invtsc" },
	[FW_8008_EBX] = { 0x80000008, 0, REG_EBX,
		"clzero - xsaveerptr - - - - - - wbnoinvd - - ibpb - ibrs amd-stibp "
		"- stibp-always-on - - - - - - amd-ssbd virt-ssbd amd-no-ssb - "
		"amd-psfd" },
	[FW_800A_EDX] = { 0x8000000a, 0, REG_EDX,
		"npt lbrv svm-lock nrip-save tsc-scale vmcb-clean flushbyasid "
		"decodeassists - - pause-filter - pfthreshold avic - v-vmsave-vmload "
		"vgif - - - - - - - - vnmi - - svme-addr-chk" },
	[FW_KVM_EAX] = { 0x40000001, 0, REG_EAX,
		/* Both kvmclock bits carry one name; -kvmclock clears both. */
		"kvmclock kvm-nopiodelay kvm-mmu kvmclock kvm-asyncpf kvm-steal-time "
		"kvm-pv-eoi kvm-pv-unhalt - kvm-pv-tlb-flush kvm-asyncpf-vmexit "
		"kvm-pv-ipi kvm-poll-control kvm-pv-sched-yield kvm-asyncpf-int "
		"kvm-msi-ext-dest-id - - - - - - - - kvmclock-stable-bit" },
	[FW_KVM_EDX] = { 0x40000001, 0, REG_EDX, "kvm-hint-dedicated" },
};

/* Spellings QEMU takes beside the ones above. */
static const char *const aliases[][2] = {
	{ "sse3", "pni" }, { "sse4-1", "sse4.1" }, { "sse4-2", "sse4.2" },
	{ "ffxsr", "fxsr-opt" }, { "i64", "lm" }, { "xd", "nx" },
	{ "hypervisor-present", "hypervisor" }, { "pclmuldq", "pclmulqdq" },
	{ "tsc-deadline-timer", "tsc-deadline" }, { "lzcnt", "abm" },
};

/* '_' and '-' are the same in a feature's name. */
static bool name_equal(const char *a, const char *b, size_t blen)
{
	size_t i;

	for (i = 0; i < blen && a[i]; i++)
		if ((a[i] == '_' ? '-' : a[i]) != b[i])
			return false;
	return i == blen && !a[i];
}

bool feature_find(const char *name, enum feature_word *word, uint32_t *mask)
{
	for (size_t i = 0; i < ARRAY_LEN(aliases); i++)
		if (name_equal(name, aliases[i][0], strlen(aliases[i][0])))
			name = aliases[i][1];
	for (int w = 0; w < FEATURE_WORDS; w++) {
		const char *p = feature_words[w].names;

		*mask = 0;
		for (unsigned int bit = 0; *p; bit++) {
			size_t len = strcspn(p, " ");

			if (!(len == 1 && *p == '-') && name_equal(name, p, len))
				*mask |= 1u << bit;
			p += len + (p[len] == ' ');
		}
		if (*mask) {
			*word = (enum feature_word)w;
			return true;
		}
	}
	return false;
}

const char *feature_name(enum feature_word word, unsigned int bit, char *buf, size_t len)
{
	const char *p = feature_words[word].names;
	size_t n;

	for (; bit && *p; bit--) {
		p += strcspn(p, " ");
		p += *p == ' ';
	}
	n = strcspn(p, " ");
	if (n == 0 || (n == 1 && *p == '-') || n >= len)
		n = 0;
	memcpy(buf, p, n);
	buf[n] = '\0';
	return buf;
}

void feature_add_list(struct feature_set *s, const char *list)
{
	while (*list) {
		size_t len = strcspn(list, " ");
		enum feature_word word;
		uint32_t mask;
		char name[32];

		assert(len > 0 && len < sizeof(name));
		memcpy(name, list, len);
		name[len] = '\0';
		if (!feature_find(name, &word, &mask))
			assert(!"a model names a feature that does not exist");
		s->w[word] |= mask;
		list += len + (list[len] == ' ');
	}
}
