/*
 * vmm/arch/x86/topology.c - sockets, dies, cores, threads and APIC ids.
 *
 * Spec:    Intel SDM vol. 3A s9.9 "Managing topology": each level of an APIC
 *          id takes the bits that its count needs, rounded up.
 * Threads: any; pure functions.
 * Missing: clusters, books and drawers, NUMA nodes.
 */
#include <errno.h>

#include "vmm/arch/x86/arch.h"
#include "vmm/arch/x86/x86.h"
#include "vmm/base/util.h"

/* More levels than a guest can have CPUs make no sense, and the bound keeps
 * the products below far from overflow. */
#define LEVEL_MAX 4096u

/* Messages and the IOAPIC carry 8 bits, and 255 means all CPUs. */
#define APIC_ID_MAX 254u

static void fill_missing(struct x86_topology *t)
{
	uint32_t known;

	t->dies = t->dies ? t->dies : 1;
	if (t->cpus == 0) {	/* everything that is not given is one */
		t->sockets = t->sockets ? t->sockets : 1;
		t->cores = t->cores ? t->cores : 1;
		t->threads = t->threads ? t->threads : 1;
		t->cpus = t->sockets * t->dies * t->cores * t->threads;
		return;
	}
	if (t->cores == 0) {	/* cores before sockets, as QEMU since 6.2 */
		t->sockets = t->sockets ? t->sockets : 1;
		t->threads = t->threads ? t->threads : 1;
		known = t->sockets * t->dies * t->threads;
		t->cores = MAX(t->cpus / known, 1u);
	} else if (t->sockets == 0) {
		t->threads = t->threads ? t->threads : 1;
		known = t->dies * t->cores * t->threads;
		t->sockets = MAX(t->cpus / known, 1u);
	} else if (t->threads == 0) {
		known = t->sockets * t->dies * t->cores;
		t->threads = MAX(t->cpus / known, 1u);
	}
}

int x86_topology_complete(struct x86_topology *t, uint32_t max, struct err *e)
{
	uint64_t product;

	max = MIN(max, APIC_ID_MAX + 1);
	if (t->cpus > LEVEL_MAX || t->sockets > LEVEL_MAX || t->dies > LEVEL_MAX ||
	    t->cores > LEVEL_MAX || t->threads > LEVEL_MAX ||
	    (uint64_t)MAX(t->sockets, 1u) * MAX(t->dies, 1u) > LEVEL_MAX ||
	    (uint64_t)MAX(t->cores, 1u) * MAX(t->threads, 1u) > LEVEL_MAX)
		return err_set(e, -ERANGE, "-smp: a count is too large; this machine takes "
			       "1 to %u CPUs", max);
	fill_missing(t);
	product = (uint64_t)t->sockets * t->dies * t->cores * t->threads;
	if (product != t->cpus)
		return err_set(e, -EINVAL, "-smp: sockets (%u) * dies (%u) * cores (%u) * "
			       "threads (%u) is %llu, not cpus (%u)",
			       t->sockets, t->dies, t->cores, t->threads,
			       (unsigned long long)product, t->cpus);
	if (t->cpus > max)
		return err_set(e, -ERANGE, "-smp: %u CPUs; this machine takes 1 to %u",
			       t->cpus, max);
	if (x86_apic_id(t, t->cpus - 1) > APIC_ID_MAX)
		return err_set(e, -ERANGE, "-smp: with %u cores of %u threads the last "
			       "CPU's APIC id is %u; %u is the highest possible: use "
			       "powers of two",
			       t->cores, t->threads, x86_apic_id(t, t->cpus - 1), APIC_ID_MAX);
	return 0;
}

static unsigned int bits_for(uint32_t count)
{
	return count > 1 ? 32 - (unsigned int)__builtin_clz(count - 1) : 0;
}

unsigned int topology_thread_bits(const struct x86_topology *t)
{
	return bits_for(t->threads);
}

unsigned int topology_core_bits(const struct x86_topology *t)
{
	return topology_thread_bits(t) + bits_for(t->cores);
}

unsigned int topology_package_bits(const struct x86_topology *t)
{
	return topology_core_bits(t) + bits_for(t->dies);
}

uint32_t x86_apic_id(const struct x86_topology *t, uint32_t index)
{
	uint32_t thread = index % t->threads, core = index / t->threads;
	uint32_t die = core / t->cores, socket = die / t->dies;

	core %= t->cores;
	die %= t->dies;
	return thread | core << topology_thread_bits(t) |
	       die << topology_core_bits(t) | socket << topology_package_bits(t);
}
