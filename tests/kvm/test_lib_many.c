/*
 * tests/kvm/test_lib_many.c - libroost in a process that makes and breaks many
 * VMs: nothing grows. TSAN.
 *
 * ROOST_CYCLES sets how many are created and destroyed in a row.
 */
#include <criterion/criterion.h>
#include <dirent.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <time.h>
#include <unistd.h>

#include "roost.h"

#define HELLO	TEST_BUILD "/tests/kvm/guest_hello.elf"
/* liburing maps its rings by system calls that ThreadSanitizer does not see: one
 * at the address of an older one looks like a race with that. */
#ifdef __SANITIZE_THREAD__
#define AIO	"-aio threads "
#else
#define AIO	""
#endif
#define OPTIONS	AIO "-m 16 -kernel " HELLO
#define MS	30000
#define GUESTS	100
#define AT_ONCE	20

static struct roost_error e;

static void need_kvm(void)
{
	if (access("/dev/kvm", R_OK | W_OK))
		cr_skip_test("/dev/kvm cannot be opened");
}

TestSuite(lib_many, .init = need_kvm, .timeout = 280);

static int entries(const char *dir)
{
	DIR *d = opendir(dir);
	int n = 0;

	while (readdir(d))
		n++;
	closedir(d);
	return n;
}

/* KiB from a line of /proc/self/status. */
static long status_kib(const char *key)
{
	char line[256];
	long kib = -1;
	FILE *f = fopen("/proc/self/status", "r");

	while (f && fgets(line, sizeof(line), f))
		if (strncmp(line, key, strlen(key)) == 0)
			kib = strtol(line + strlen(key), NULL, 10);
	if (f)
		fclose(f);
	return kib;
}

static double now(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return (double)t.tv_sec + (double)t.tv_nsec / 1e9;
}

static struct roost_vm *start_guest(struct roost_error *err)
{
	struct roost_vm *vm;

	if (roost_vm_create(OPTIONS, &vm, err) || roost_vm_start(vm, err)) {
		roost_vm_destroy(vm);
		return NULL;
	}
	return vm;
}

static void one_guest(void)
{
	struct roost_vm *vm = start_guest(&e);

	cr_assert_not_null(vm, "%s", e.text);
	cr_assert_eq(roost_serial_expect(vm, 0, "hello from the guest", 0, MS, NULL, &e), 0,
		     "%s", e.text);
	cr_assert_eq(roost_vm_destroy(vm), 0);
}

Test(lib_many, test_hundred_guests_one_after_the_other)
{
	double start = now();

	for (int i = 0; i < GUESTS; i++)
		one_guest();
	printf("lib: %d guests created, run and destroyed in %.2f s\n", GUESTS, now() - start);
	fflush(stdout);
}

static void *tenth(void *arg)
{
	struct roost_error err;
	struct roost_vm *vm;
	int good = 0;

	for (int i = 0; i < GUESTS / AT_ONCE; i++) {
		vm = start_guest(&err);
		good += vm && roost_serial_expect(vm, 0, "hello", 0, MS, NULL, &err) == 0 &&
			roost_vm_destroy(vm) == 0;
	}
	return (void *)(intptr_t)good;
}

Test(lib_many, test_hundred_guests_twenty_at_once)
{
	pthread_t t[AT_ONCE];
	double start = now();
	intptr_t good = 0;
	void *r;

	for (int i = 0; i < AT_ONCE; i++)
		cr_assert_eq(pthread_create(&t[i], NULL, tenth, NULL), 0);
	for (int i = 0; i < AT_ONCE; i++) {
		pthread_join(t[i], &r);
		good += (intptr_t)r;
	}
	cr_expect_eq(good, GUESTS);
	printf("lib: the same, %d at once, in %.2f s\n", AT_ONCE, now() - start);
	fflush(stdout);
}

Test(lib_many, test_memory_of_idle_guests_is_measured)
{
	struct roost_vm *vm[AT_ONCE];
	long before, after;

	/* Huge pages would count what the guest never touched. */
	prctl(PR_SET_THP_DISABLE, 1, 0, 0, 0);
	one_guest();
	before = status_kib("RssAnon:");
	for (int i = 0; i < AT_ONCE; i++) {
		vm[i] = start_guest(&e);
		cr_assert_not_null(vm[i], "%s", e.text);
		cr_assert_eq(roost_serial_expect(vm[i], 0, "hello", 0, MS, NULL, &e), 0);
	}
	after = status_kib("RssAnon:");
	for (int i = 0; i < AT_ONCE; i++)
		roost_vm_destroy(vm[i]);
	printf("lib: an idle VM takes %ld KiB, its touched guest memory included\n",
	       (after - before) / AT_ONCE);
	fflush(stdout);
#ifndef __SANITIZE_THREAD__
	cr_expect_lt((after - before) / AT_ONCE, 1024);
#endif
}

Test(lib_many, test_cycles_leave_nothing_behind)
{
	const char *text = getenv("ROOST_CYCLES");
	int cycles = text ? atoi(text) : 100;
	struct sigaction before[65] = { 0 }, after = { 0 };
	int fds, threads;
	long rss;

	for (int i = 0; i < 20; i++)	/* let caches fill */
		one_guest();
	for (int i = 1; i < 65; i++)
		sigaction(i, NULL, &before[i]);
	fds = entries("/proc/self/fd");
	threads = entries("/proc/self/task");
	rss = status_kib("RssAnon:");
	for (int i = 0; i < cycles; i++)
		one_guest();
	rss = status_kib("RssAnon:") - rss;
	cr_expect_eq(entries("/proc/self/fd"), fds);
	cr_expect_eq(entries("/proc/self/task"), threads);
	for (int i = 1; i < 65; i++) {
		sigaction(i, NULL, &after);
		cr_expect_eq(after.sa_handler, before[i].sa_handler, "signal %d", i);
	}
	printf("lib: %d cycles: %+ld KiB, %d descriptors, %d threads\n", cycles, rss, fds - 2,
	       threads - 2);
	fflush(stdout);
#if !defined(__SANITIZE_ADDRESS__) && !defined(__SANITIZE_THREAD__)
	cr_expect_lt(rss, 1024);
#endif
}
