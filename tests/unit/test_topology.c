/* -smp: filling in, refusing, and the APIC ids that follow. */
#include <criterion/criterion.h>
#include <errno.h>
#include <string.h>

#include "vmm/arch/x86/x86.h"

static struct x86_topology complete(uint32_t cpus, uint32_t sockets, uint32_t dies,
				    uint32_t cores, uint32_t threads)
{
	struct x86_topology t = { cpus, sockets, dies, cores, threads };
	struct err e = ERR_INIT;

	cr_assert_eq(x86_topology_complete(&t, 255, &e), 0, "%s", e.text);
	return t;
}

static void refuse(struct x86_topology t, int ret, const char *word)
{
	struct err e = ERR_INIT;

	cr_expect_eq(x86_topology_complete(&t, 255, &e), ret);
	cr_expect(strstr(e.text, word), "'%s' lacks '%s'", e.text, word);
}

Test(topology, nothing_given_is_one_cpu)
{
	struct x86_topology t = complete(0, 0, 0, 0, 0);

	cr_expect_eq(t.cpus, 1);
	cr_expect_eq(t.sockets * t.dies * t.cores * t.threads, 1);
}

Test(topology, cpus_only_become_cores)
{
	struct x86_topology t = complete(6, 0, 0, 0, 0);

	cr_expect_eq(t.sockets, 1);
	cr_expect_eq(t.cores, 6);
	cr_expect_eq(t.threads, 1);
}

Test(topology, sockets_and_threads_leave_cores)
{
	struct x86_topology t = complete(16, 2, 0, 0, 2);

	cr_expect_eq(t.cores, 4);
}

Test(topology, cores_leave_sockets)
{
	struct x86_topology t = complete(8, 0, 0, 2, 2);

	cr_expect_eq(t.sockets, 2);
}

Test(topology, parts_only_make_cpus)
{
	struct x86_topology t = complete(0, 2, 0, 3, 2);

	cr_expect_eq(t.cpus, 12);
}

Test(topology, product_that_differs_is_refused)
{
	refuse((struct x86_topology){ 3, 2, 1, 1, 1 }, -EINVAL,
	       "sockets (2) * dies (1) * cores (1) * threads (1) is 2, not cpus (3)");
}

Test(topology, more_than_the_machine_takes_is_refused)
{
	refuse((struct x86_topology){ .cpus = 256 }, -ERANGE, "1 to 255");
}

Test(topology, counts_that_overflow_are_refused)
{
	refuse((struct x86_topology){ 0, 65536, 1, 65536, 1 }, -ERANGE, "too large");
	refuse((struct x86_topology){ UINT32_MAX, 0, 0, 0, 0 }, -ERANGE, "too large");
	refuse((struct x86_topology){ 0, 4096, 1, 4096, 4096 }, -ERANGE, "too large");
}

Test(topology, apic_id_beyond_8_bits_is_refused)
{
	refuse((struct x86_topology){ 195, 3, 1, 65, 1 }, -ERANGE, "APIC id is 320");
}

Test(topology, apic_ids_of_255_cpus_are_dense)
{
	struct x86_topology t = complete(255, 1, 1, 255, 1);

	for (uint32_t i = 0; i < 255; i++)
		cr_assert_eq(x86_apic_id(&t, i), i);
}

Test(topology, apic_id_has_bits_of_each_level)
{
	struct x86_topology t = complete(0, 2, 2, 3, 2);

	/* thread 1 bit, core 2 bits, die 1 bit, socket above */
	cr_expect_eq(x86_apic_id(&t, 0), 0);
	cr_expect_eq(x86_apic_id(&t, 1), 1);
	cr_expect_eq(x86_apic_id(&t, 2), 2);
	cr_expect_eq(x86_apic_id(&t, 5), 5);
	cr_expect_eq(x86_apic_id(&t, 6), 8);
	cr_expect_eq(x86_apic_id(&t, 12), 16);
	cr_expect_eq(x86_apic_id(&t, 23), 29);
}
