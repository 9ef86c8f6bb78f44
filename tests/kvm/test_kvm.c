/*
 * /dev/kvm itself: what is said when it cannot be used, memory slots,
 * doorbells.
 */
#include <criterion/criterion.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/kvm.h>
#include <pthread.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/stat.h>
#include <unistd.h>

#include "tests/kvm/lib_kvm.h"
#include "vmm/base/util.h"
#include "vmm/core/kvm.h"

static struct kvm *open_or_skip(void)
{
	struct err e = ERR_INIT;
	struct kvm *k = NULL;

	if (kvm_open(&k, NULL, &e) < 0)
		cr_skip_test("%s", e.text);
	return k;
}

Test(kvm, open_absent_device_says_what_to_do)
{
	struct err e = ERR_INIT;
	struct kvm *k = NULL;

	cr_assert_eq(kvm_open(&k, "/nonexistent/kvm", &e), -ENOENT);
	cr_assert_not_null(strstr(e.text, "/nonexistent/kvm does not exist"), "%s", e.text);
	cr_assert(strstr(e.text, "modprobe kvm_") || strstr(e.text, "virtualization"),
		  "%s", e.text);
	cr_assert_null(k);
}

Test(kvm, open_something_else_says_so)
{
	struct err e = ERR_INIT;
	struct kvm *k;

	cr_assert_lt(kvm_open(&k, "/dev/null", &e), 0);
	cr_assert_str_eq(e.text, "/dev/null is not a KVM device");
}

Test(kvm, open_without_permission_names_the_group)
{
	char path[] = "/tmp/roost-kvm-XXXXXX";
	struct err e = ERR_INIT;
	struct kvm *k;

	cr_assert_geq(mkstemp(path), 0);
	cr_assert_eq(chmod(path, 0), 0);
	if (geteuid() == 0)
		cr_assert_eq(seteuid(65534), 0);	/* root may open anything */
	cr_assert_eq(kvm_open(&k, path, &e), -EACCES);
	cr_assert_eq(seteuid(getuid()), 0);
	unlink(path);
	cr_assert_not_null(strstr(e.text, path), "%s", e.text);
	cr_assert_not_null(strstr(e.text, "usermod -aG kvm"), "%s", e.text);
}

Test(kvm, open_is_close_on_exec)
{
	struct kvm *k = open_or_skip();

	cr_assert(fcntl(k->sys_fd, F_GETFD) & FD_CLOEXEC);
	cr_assert(fcntl(k->vm_fd, F_GETFD) & FD_CLOEXEC);
	kvm_close(k);
}

Test(kvm, need_names_a_missing_capability)
{
	struct kvm *k = open_or_skip();
	struct err e = ERR_INIT;

	cr_assert_eq(kvm_need(k, KVM_CAP_USER_MEMORY, "KVM_CAP_USER_MEMORY", &e), 0);
	cr_assert_eq(kvm_need(k, 99999, "KVM_CAP_FUTURE", &e), -ENOTSUP);
	cr_assert_not_null(strstr(e.text, "KVM_CAP_FUTURE"), "%s", e.text);
	cr_assert_eq(e.class, ERR_KVM_MISSING_CAP);
	kvm_close(k);
}

Test(kvm, slots_are_reused_and_run_out)
{
	struct gmem *gm = gmem_create();
	struct kvm *k = open_or_skip();
	struct err e = ERR_INIT;
	uint32_t a, b, c;
	uint8_t *host;
	int fd;

	cr_assert_eq(gmem_alloc(gm, "ram", MIB, NULL, &fd, &host, &e), 0);
	cr_assert_eq(kvm_slot_add(k, 0, 64 * KIB, host, false, &a, &e), 0, "%s", e.text);
	cr_assert_eq(kvm_slot_add(k, MIB, 64 * KIB, host, true, &b, &e), 0, "%s", e.text);
	cr_assert_eq(kvm_slot_del(k, a), 0);
	cr_assert_eq(kvm_slot_add(k, 2 * MIB, 4096, host, false, &c, &e), 0, "%s", e.text);
	cr_assert_eq(c, a);
	cr_assert_lt(kvm_slot_add(k, 2 * MIB, 4096, host, false, &c, &e), 0, "overlap");
	cr_assert_not_null(strstr(e.text, "0x200000"), "%s", e.text);
	e.text[0] = '\0';
	k->slots_max = 2;
	cr_assert_eq(kvm_slot_add(k, 4 * MIB, 4096, host, false, &c, &e), -ENOSPC);
	kvm_close(k);
	gmem_destroy(gm);
}

/* ---- doorbells ---- */

static struct loop_event bells[2];
static int rang_times[2];

static void rang(struct loop_event *ev)
{
	rang_times[ev - bells]++;
}

static bool all_rang(struct krig *r)
{
	return rang_times[0] && rang_times[1] && atomic_load(&r->done);
}

/* The loop leaves the counter to whoever wants to know. */
static uint64_t rings(int i)
{
	uint64_t n = 0;

	cr_assert_eq(read(bells[i].fd, &n, sizeof(n)), (ssize_t)sizeof(n));
	return n;
}

Test(kvm, ioeventfd_rings_the_loop_without_an_exit, .timeout = 30)
{
	struct krig *r = krig_create("kick", 1, 20);
	struct kvm *k = r->vm->kvm;
	int i;

	for (i = 0; i < 2; i++) {
		bells[i].fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
		bells[i].cb = rang;
		cr_assert_eq(loop_event_add(r->loop, &bells[i]), 0);
	}
	cr_assert_eq(kvm_ioeventfd(k, BUS_PIO, PORT_DOORBELL, 2, bells[0].fd, true, 1, true), 0);
	cr_assert_eq(kvm_ioeventfd(k, BUS_MMIO, MMIO_DOORBELL, 0, bells[1].fd, false, 0, true), 0);
	krig_start(r);
	cr_assert(krig_until(r, all_rang), "%d %d", rang_times[0], rang_times[1]);
	cr_assert_eq(r->verdict, 0);
	cr_assert_eq(rings(0), 20);
	cr_assert_eq(rings(1), 40);
	/* PORT_ARG, the value that did not match, PORT_DONE. */
	cr_assert_eq(r->vm->vcpu[0]->stats.pio, 3);
	cr_assert_eq(r->vm->vcpu[0]->stats.mmio, 0);
	for (i = 0; i < 2; i++)
		loop_event_del(&bells[i]);
	krig_destroy(r);
}

Test(kvm, ioeventfd_taken_away_exits_again, .timeout = 30)
{
	struct krig *r = krig_create("kick", 1, 5);
	struct kvm *k = r->vm->kvm;
	int fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);

	cr_assert_eq(kvm_ioeventfd(k, BUS_MMIO, MMIO_DOORBELL, 0, fd, false, 0, true), 0);
	cr_assert_eq(kvm_ioeventfd(k, BUS_MMIO, MMIO_DOORBELL, 0, fd, false, 0, false), 0);
	cr_assert_eq(kvm_ioeventfd(k, BUS_MMIO, MMIO_DOORBELL, 0, fd, false, 0, false), -ENOENT);
	krig_start(r);
	krig_finish(r);
	cr_assert_eq(r->vm->vcpu[0]->stats.mmio, 10);
	krig_destroy(r);
	close(fd);
}
