/*
 * vmm/arch/x86/model.c - the -cpu option: models and their features.
 *
 * Spec:    the vendors' CPUID tables (Intel SDM vol. 2A, AMD APM vol. 3 and the
 *          processors' PPRs); names and defaults as QEMU has them.
 * Threads: main loop.
 * Missing: Hyper-V enlightenments, versioned model names (EPYC-v2), vendor=.
 *
 * "host" and "max" are what KVM supports. A named model is at most its list:
 * what this host lacks is left out with a warning, or refused with enforce=on.
 * The vendor is always the host's, because KVM cannot run the other vendor's
 * system call instructions faithfully.
 */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <strings.h>

#include "vmm/arch/x86/arch.h"
#include "vmm/base/log.h"
#include "vmm/base/util.h"

struct model {
	const char *name;
	const char *base;	/* features of that model first */
	const char *features;
	uint32_t family, model, stepping, level, xlevel;
	const char *id;
};

#define BASELINE \
	"fpu de pse tsc msr pae mce cx8 apic sep mtrr pge mca cmov pat pse36 " \
	"clflush mmx fxsr sse sse2 pni cx16 syscall nx lm"

static const struct model models[] = {
	{ "qemu64", NULL, BASELINE " lahf-lm", 15, 107, 1, 0xd, 0x8000000a,
	  "QEMU Virtual CPU version 2.5+" },
	{ "kvm64", NULL, BASELINE " vme", 15, 6, 1, 0xd, 0x80000008,
	  "Common KVM processor" },
	/* The psABI's micro-architecture levels. */
	{ "x86-64-v2", "qemu64", "popcnt sse4.1 sse4.2 ssse3", 15, 107, 1, 0xd,
	  0x80000008, "x86-64-v2 compatible processor" },
	{ "x86-64-v3", "x86-64-v2", "avx avx2 bmi1 bmi2 f16c fma abm movbe xsave",
	  15, 107, 1, 0xd, 0x80000008, "x86-64-v3 compatible processor" },
	{ "x86-64-v4", "x86-64-v3", "avx512f avx512bw avx512cd avx512dq avx512vl",
	  15, 107, 1, 0xd, 0x80000008, "x86-64-v4 compatible processor" },

	{ "Nehalem", NULL, BASELINE " vme popcnt sse4.1 sse4.2 ssse3 lahf-lm",
	  6, 26, 3, 11, 0x80000008, "Intel Core i7 9xx (Nehalem Class Core i7)" },
	{ "Haswell-noTSX", "Nehalem",
	  "avx xsave aes tsc-deadline pclmulqdq rdtscp fma pcid movbe f16c rdrand "
	  "abm fsgsbase bmi1 avx2 smep bmi2 erms invpcid xsaveopt arat",
	  6, 60, 1, 0xd, 0x80000008, "Intel Core Processor (Haswell, no TSX)" },
	{ "Haswell", "Haswell-noTSX", "hle rtm", 6, 60, 4, 0xd, 0x80000008,
	  "Intel Core Processor (Haswell)" },
	{ "Skylake-Server", "Haswell",
	  "rdseed adx smap 3dnowprefetch pdpe1gb clwb clflushopt avx512f avx512dq "
	  "avx512bw avx512cd avx512vl xsavec xgetbv1 pku",
	  6, 85, 4, 0xd, 0x80000008, "Intel Xeon Processor (Skylake)" },
	{ "Icelake-Server", "Skylake-Server",
	  "avx512vbmi umip avx512vbmi2 gfni vaes vpclmulqdq avx512vnni "
	  "avx512bitalg avx512-vpopcntdq la57 wbnoinvd spec-ctrl ssbd",
	  6, 134, 0, 0xd, 0x80000008, "Intel Xeon Processor (Icelake)" },

	{ "EPYC", NULL, BASELINE
	  " vme rdrand f16c avx xsave aes popcnt movbe sse4.1 sse4.2 fma ssse3 "
	  "pclmulqdq rdtscp pdpe1gb fxsr-opt mmxext osvw 3dnowprefetch "
	  "misalignsse sse4a abm cr8legacy lahf-lm fsgsbase bmi1 avx2 smep bmi2 "
	  "rdseed adx smap clflushopt sha-ni xsaveopt xsavec xgetbv1 arat topoext "
	  "perfctr-core ibpb",
	  23, 1, 2, 0xd, 0x8000001e, "AMD EPYC Processor" },
	{ "EPYC-Rome", "EPYC",
	  "xsaveerptr wbnoinvd amd-stibp clwb rdpid umip clzero",
	  23, 49, 0, 0xd, 0x8000001e, "AMD EPYC-Rome Processor" },
	{ "EPYC-Milan", "EPYC-Rome",
	  "ibrs amd-ssbd pcid erms invpcid fsrm vaes vpclmulqdq pku",
	  25, 1, 1, 0xd, 0x8000001e, "AMD EPYC-Milan Processor" },
};

/* A model's list never names these; QEMU gives them to every model on KVM. */
static const char always[] = "hypervisor x2apic tsc-adjust arat kvmclock "
	"kvm-nopiodelay kvm-asyncpf kvm-asyncpf-int kvm-steal-time kvm-pv-eoi "
	"kvm-pv-unhalt kvm-pv-tlb-flush kvm-pv-ipi kvm-poll-control "
	"kvm-pv-sched-yield kvmclock-stable-bit tsc-deadline";

const char *const *x86_cpu_names(void)
{
	static const char *names[ARRAY_LEN(models) + 3];

	/* The same values every time, so that two threads do no harm. */
	names[0] = "host";
	names[1] = "max";
	for (size_t i = 0; i < ARRAY_LEN(models); i++)
		names[i + 2] = models[i].name;
	return names;
}

static const struct model *model_find(const char *name)
{
	for (size_t i = 0; i < ARRAY_LEN(models); i++)
		if (!strcasecmp(models[i].name, name))
			return &models[i];
	return NULL;
}

static void model_features(const struct model *md, struct feature_set *s)
{
	if (md->base)
		model_features(model_find(md->base), s);
	feature_add_list(s, md->features);
}

/* What the words after the model's name ask for. */
struct request {
	struct feature_set on, off;
	bool check, enforce, kvm, pmu, pmu_given;
};

static int parse_bool(const char *what, const char *v, bool *out, struct err *e)
{
	if (!strcmp(v, "on") || !strcmp(v, "yes") || !strcmp(v, "true"))
		*out = true;
	else if (!strcmp(v, "off") || !strcmp(v, "no") || !strcmp(v, "false"))
		*out = false;
	else
		return err_set(e, -EINVAL, "-cpu: %s=%s: the value must be on or off", what, v);
	return 0;
}

/* Options of QEMU's that hold here in one setting only. */
static const struct { const char *name; bool only; const char *why; } fixed[] = {
	{ "migratable", true, NULL },	/* both settings are the same here */
	{ "host-phys-bits", true, "the guest always sees the host's address bits" },
	{ "l3-cache", true, "the cache leaves are the host's" },
	{ "host-cache-info", true, "the cache leaves are the host's" },
	{ "x2apic", true, "the in-kernel APIC always offers it" },
	{ "hypervisor", true, "guests would wait for hardware that is not there" },
};

static int request_word(struct request *r, const char *name, const char *value, struct err *e)
{
	enum feature_word word;
	uint32_t mask;
	bool on = false;
	int ret = parse_bool(name, value, &on, e);

	if (ret < 0)
		return ret;
	for (size_t i = 0; i < ARRAY_LEN(fixed); i++)
		if (!strcmp(name, fixed[i].name)) {
			if (on == fixed[i].only || !fixed[i].why)
				return 0;
			return err_set(e, -EINVAL, "-cpu: %s=%s is not supported: %s",
				       name, value, fixed[i].why);
		}
	if (!strcmp(name, "check")) {
		r->check = on;
	} else if (!strcmp(name, "enforce")) {
		r->enforce = on;
	} else if (!strcmp(name, "kvm")) {
		r->kvm = on;
	} else if (!strcmp(name, "pmu")) {
		r->pmu = on;
		r->pmu_given = true;
	} else if (feature_find(name, &word, &mask)) {
		r->on.w[word] = on ? r->on.w[word] | mask : r->on.w[word] & ~mask;
		r->off.w[word] = on ? r->off.w[word] & ~mask : r->off.w[word] | mask;
	} else {
		return err_set(e, -EINVAL, "-cpu: there is no feature or option '%s'", name);
	}
	return 0;
}

static int request_parse(struct request *r, char *words, struct err *e)
{
	char *save = NULL;

	for (char *w = strtok_r(words, ",", &save); w; w = strtok_r(NULL, ",", &save)) {
		char *eq = strchr(w, '=');
		int ret;

		if (*w == '+' || *w == '-') {
			ret = request_word(r, w + 1, *w == '+' ? "on" : "off", e);
		} else {
			if (eq)
				*eq = '\0';
			ret = request_word(r, w, eq ? eq + 1 : "on", e);
		}
		if (ret < 0)
			return ret;
	}
	return 0;
}

/* Names of the bits of @miss into @buf; more than fit end in "...". */
static void missing_names(const struct feature_set *miss, char *buf, size_t len)
{
	size_t n = 0;

	buf[0] = '\0';
	for (int w = 0; w < FEATURE_WORDS; w++)
		for (unsigned int b = 0; b < 32; b++) {
			char name[32];

			if (!(miss->w[w] & 1u << b) ||
			    !*feature_name((enum feature_word)w, b, name, sizeof(name)))
				continue;
			if (n + strlen(name) + 6 > len) {
				snprintf(buf + n, len - n, " ...");
				return;
			}
			n += (size_t)snprintf(buf + n, len - n, "%s%s", n ? " " : "", name);
		}
}

/* Take what is wanted and there; say what is missing. @asked: the bits whose
 * absence matters. */
static int settle(struct x86_cpu_model *m, const struct feature_set *want,
		  const struct feature_set *have, const struct feature_set *asked,
		  const struct request *r, const char *name, struct err *e)
{
	struct feature_set miss;
	char names[256];

	for (int w = 0; w < FEATURE_WORDS; w++) {
		m->features.w[w] = want->w[w] & have->w[w];
		miss.w[w] = asked->w[w] & ~have->w[w];
	}
	missing_names(&miss, names, sizeof(names));
	if (!*names)
		return 0;
	if (r->enforce)
		return err_set(e, -ENOTSUP, "-cpu %s,enforce: this host does not support: %s",
			       name, names);
	if (r->check)
		log_warn("-cpu %s: this host does not support: %s", name, names);
	return 0;
}

/* Bits whose meaning depends on another that is off. */
static void drop_orphans(struct x86_cpu_model *m)
{
	enum feature_word w;
	uint32_t xsave = 0;

	feature_find("xsave", &w, &xsave);
	if (!(m->features.w[FW_1_ECX] & xsave)) {
		struct feature_set s = { 0 };

		feature_add_list(&s, "avx f16c fma avx2 avx512f avx512dq avx512cd "
				 "avx512bw avx512vl vaes vpclmulqdq pku mpx");
		for (int i = 0; i < FEATURE_WORDS; i++)
			m->features.w[i] &= ~s.w[i];
		m->features.w[FW_D_1_EAX] = 0;
	}
	if (!m->kvm)
		m->features.w[FW_KVM_EAX] = m->features.w[FW_KVM_EDX] = 0;
}

static int model_settle(struct x86_cpu_model *m, const struct model *md,
			const struct request *r, const char *name, struct err *e)
{
	struct feature_set have, want, asked = { 0 }, extra = { 0 };
	int ret;

	cpuid_features(m->supported, &have);
	if (md) {
		memset(&want, 0, sizeof(want));
		model_features(md, &want);
		asked = want;
		feature_add_list(&extra, always);
		m->family = md->family;
		m->model = md->model;
		m->stepping = md->stepping;
		m->level = md->level;
		m->xlevel = md->xlevel;
		m->id = md->id;
	} else {
		want = have;
	}
	for (int w = 0; w < FEATURE_WORDS; w++) {
		want.w[w] = ((want.w[w] | extra.w[w]) & ~r->off.w[w]) | r->on.w[w];
		asked.w[w] = (asked.w[w] & ~r->off.w[w]) | r->on.w[w];
	}
	m->host = !md;
	m->kvm = r->kvm;
	m->pmu = r->pmu_given ? r->pmu : !md;
	ret = settle(m, &want, &have, &asked, r, name, e);
	if (ret == 0)
		drop_orphans(m);
	return ret;
}

int x86_cpu_parse(struct x86_cpu_model **out, const char *text, struct kvm *k, struct err *e)
{
	struct request r = { .check = true, .kvm = true };
	const struct model *md = NULL;
	struct x86_cpu_model *m;
	char *copy = xstrdup(text), *words = strchr(copy, ',');
	int ret = 0;

	*out = NULL;
	m = xcalloc(1, sizeof(*m));
	if (words)
		*words++ = '\0';
	if (strcmp(copy, "host") && strcmp(copy, "max")) {
		md = model_find(copy);
		if (!md) {
			const char *near = util_nearest(copy, x86_cpu_names());

			ret = err_set(e, -EINVAL, "-cpu: there is no model '%s'%s%s%s; "
				      "`-cpu help` lists them",
				      copy, near ? "; did you mean '" : "",
				      near ? near : "", near ? "'?" : "");
		}
	}
	if (ret == 0 && words)
		ret = request_parse(&r, words, e);
	if (ret == 0)
		ret = cpuid_supported(k, &m->supported, e);
	if (ret == 0)
		ret = model_settle(m, md, &r, copy, e);
	free(copy);
	if (ret < 0)
		x86_cpu_free(m);
	else
		*out = m;
	return ret;
}

void x86_cpu_missing(const char *name, const struct feature_set *have,
		     struct feature_set *miss)
{
	const struct model *md = model_find(name);

	memset(miss, 0, sizeof(*miss));
	if (!md)
		return;
	model_features(md, miss);
	for (int w = 0; w < FEATURE_WORDS; w++)
		miss->w[w] &= ~have->w[w];
}

void x86_cpu_free(struct x86_cpu_model *m)
{
	if (!m)
		return;
	free(m->supported);
	free(m);
}
