/*
 * vmm/arch/x86/feature.h - CPUID feature bits by name.
 */
#ifndef VMM_ARCH_X86_FEATURE_H
#define VMM_ARCH_X86_FEATURE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* A feature word is one register of one CPUID leaf. */
enum feature_word {
	FW_1_EDX, FW_1_ECX, FW_6_EAX, FW_7_EBX, FW_7_ECX, FW_7_EDX, FW_7_1_EAX,
	FW_D_1_EAX, FW_8001_EDX, FW_8001_ECX, FW_8007_EDX, FW_8008_EBX,
	FW_800A_EDX, FW_KVM_EAX, FW_KVM_EDX,
	FEATURE_WORDS
};

enum cpuid_reg { REG_EAX, REG_EBX, REG_ECX, REG_EDX };

struct feature_word_info {
	uint32_t leaf, subleaf;
	enum cpuid_reg reg;
	/* Space-separated, bit 0 first; "-" where a bit has no name. Spelled
	 * as QEMU spells them, so that libvirt's and users' lines work. */
	const char *names;
};

extern const struct feature_word_info feature_words[FEATURE_WORDS];

struct feature_set {
	uint32_t w[FEATURE_WORDS];
};

/* "avx2", also with '_' for '-' and the other spellings QEMU takes. */
bool feature_find(const char *name, enum feature_word *word, uint32_t *mask);
/* The name of one bit into @buf, or "" when it has none. */
const char *feature_name(enum feature_word word, unsigned int bit, char *buf, size_t len);
/* Add every name in the space-separated @list; a name that does not exist is
 * our bug. */
void feature_add_list(struct feature_set *s, const char *list);

#endif
