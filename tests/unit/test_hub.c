/*
 * tests/unit/test_hub.c - the QMP socket of a VM's folder, for several clients.
 * The VM has no KVM and no devices.
 */
#include <criterion/criterion.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include "vmm/base/log.h"
#include "vmm/base/util.h"
#include "vmm/char/char.h"
#include "vmm/control/qmp.h"
#include "vmm/core/vm.h"
#include "vmm/run/hub.h"

static struct loop *l;
static struct vm *vm;
static struct qmp *q;
static struct hub *h;
static char path[64];

static void quiet(enum log_level level, const char *line, void *arg)
{
}

static void begin(void)
{
	struct err e = ERR_INIT;

	log_set_sink(quiet, NULL);
	cr_assert_eq(loop_create(&l, "main", LOOP_AIO_THREADS, &e), 0, "%s", e.text);
	vm = vm_create(l);
	vm->chars = char_set_create(l);
	q = qmp_create(vm);
	snprintf(path, sizeof(path), "/tmp/roost-hub-%d", getpid());
	cr_assert_eq(hub_create(&h, vm, q, path, &e), 0, "%s", e.text);
}

static void end(void)
{
	hub_destroy(h);
	qmp_destroy(q);
	char_set_destroy(vm->chars);
	vm->chars = NULL;
	vm_destroy(vm);
	loop_destroy(l);
	unlink(path);
}

TestSuite(hub, .init = begin, .fini = end);

static int dial(void)
{
	struct sockaddr_un a = { .sun_family = AF_UNIX };
	int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);

	memcpy(a.sun_path, path, sizeof(path));
	cr_assert_eq(connect(fd, (struct sockaddr *)&a, sizeof(a)), 0, "%s", strerror(errno));
	return fd;
}

/* Turn the loop until @fd has the greeting, for @ns at most. How many turns. */
static unsigned int turn(int fd, uint64_t ns, bool *greeted)
{
	uint64_t stop = clock_ns() + ns, now;
	unsigned int n = 0;
	char buf[512];

	for (*greeted = false; !*greeted && (now = clock_ns()) < stop; n++) {
		cr_assert_geq(loop_turn(l, stop - now), 0);
		*greeted = recv(fd, buf, sizeof(buf), MSG_DONTWAIT) > 0;
	}
	return n;
}

Test(hub, test_hub_out_of_descriptors_waits_and_goes_on)
{
	struct rlimit old, none = { 0, 0 };
	int fd = dial(), spare = dup(fd);
	bool greeted;

	getrlimit(RLIMIT_NOFILE, &old);
	none.rlim_cur = (rlim_t)spare;		/* no number below it is free */
	none.rlim_max = old.rlim_max;
	cr_assert_eq(setrlimit(RLIMIT_NOFILE, &none), 0);
	cr_expect_lt(turn(fd, NS_PER_SEC / 2, &greeted), 50, "the loop spins");
	cr_expect(!greeted);
	cr_assert_eq(setrlimit(RLIMIT_NOFILE, &old), 0);
	turn(fd, 5 * NS_PER_SEC, &greeted);
	cr_expect(greeted);
	close(spare);
	close(fd);
}
