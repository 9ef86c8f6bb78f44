/*
 * tests/unit/test_host_memory.c - memory and threads cost the host no more than what
 * they use: no huge page for one byte, no 8 MiB of stack where memory is locked.
 */
#include <criterion/criterion.h>
#include <inttypes.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "vmm/base/sparse.h"
#include "vmm/base/thread.h"
#include "vmm/base/util.h"

/* Is the page at @p one that the kernel must not make part of a huge one?
 * proc(5), smaps, VmFlags. */
static bool never_huge(const void *p)
{
	FILE *f = fopen("/proc/self/smaps", "re");
	uint64_t lo, hi;
	bool inside = false, never = false;
	char line[512];

	cr_assert(f);
	while (fgets(line, sizeof(line), f)) {
		if (sscanf(line, "%" SCNx64 "-%" SCNx64 " ", &lo, &hi) == 2)
			inside = (uintptr_t)p >= lo && (uintptr_t)p < hi;
		if (inside && strncmp(line, "VmFlags:", 8) == 0)
			never = strstr(line, " nh");
	}
	fclose(f);
	return never;
}

Test(host_memory, test_sparse_map_takes_no_huge_pages)
{
	uint8_t *p = sparse_map(16 * MIB), *other = malloc(16 * MIB);

	cr_assert(p);
	p[5 * MIB] = 1;
	cr_expect(never_huge(p + 5 * MIB));
	cr_expect_eq(p[7 * MIB], 0);
	other[8 * MIB] = 1;
	cr_expect(!never_huge(other + 8 * MIB));
	sparse_keep(other, 16 * MIB);
	cr_expect(never_huge(other + 8 * MIB));
	free(other);
	sparse_unmap(p, 16 * MIB);
}

Test(host_memory, test_sparse_map_keeps_its_content_and_nature_when_it_grows)
{
	void *p = sparse_map(4096);

	cr_assert(p);
	memcpy(p, "here", 5);
	cr_assert(sparse_resize(&p, 4096, 64 * MIB));
	cr_expect_str_eq(p, "here");
	((uint8_t *)p)[63 * MIB] = 1;
	cr_expect(never_huge((uint8_t *)p + 63 * MIB));
	cr_assert(sparse_resize(&p, 64 * MIB, 4096));
	cr_expect_str_eq(p, "here");
	sparse_unmap(p, 4096);
}

struct seen {
	pthread_barrier_t named;
	char name[16];
	size_t stack;
	bool deaf;
};

static void *look(void *arg)
{
	struct seen *s = arg;
	pthread_attr_t attr;
	sigset_t set;

	pthread_barrier_wait(&s->named);	/* the name comes from the other side */
	pthread_getattr_np(pthread_self(), &attr);
	pthread_attr_getstacksize(&attr, &s->stack);
	pthread_attr_destroy(&attr);
	pthread_sigmask(SIG_BLOCK, NULL, &set);
	s->deaf = sigismember(&set, SIGTERM) && sigismember(&set, SIGCHLD);
	pthread_getname_np(pthread_self(), s->name, sizeof(s->name));
	return NULL;
}

Test(host_memory, test_threads_have_a_name_a_small_stack_and_no_signals)
{
	struct seen s;
	sigset_t before, after;
	pthread_t t;

	pthread_barrier_init(&s.named, NULL, 2);
	pthread_sigmask(SIG_BLOCK, NULL, &before);
	cr_assert_eq(thread_start(&t, "a name of many characters", look, &s), 0);
	pthread_sigmask(SIG_BLOCK, NULL, &after);
	pthread_barrier_wait(&s.named);
	pthread_join(t, NULL);
	pthread_barrier_destroy(&s.named);
	cr_expect_str_eq(s.name, "a name of many ");
	cr_expect(s.deaf);
#ifndef __SANITIZE_ADDRESS__
	cr_expect_leq(s.stack, 1 * MIB);
#endif
	cr_expect_eq(sigismember(&before, SIGTERM), sigismember(&after, SIGTERM));
}
