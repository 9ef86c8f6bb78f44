/* tests/dev/lib_hang.c - see lib_hang.h. */
#include "tests/dev/lib_hang.h"

#include <criterion/criterion.h>
#include <dirent.h>
#include <errno.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <poll.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "vmm/base/util.h"

#define PATIENCE_NS	(30 * NS_PER_SEC)
#define HANGING_MAX	16

static int notify_fd = -1;
static uint64_t hanging[HANGING_MAX];
static int count;

void hang_begin(int call)
{
	struct sock_filter code[] = {
		BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, nr)),
		BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, (uint32_t)call, 0, 1),
		BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_USER_NOTIF),
		BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW),
	};
	struct sock_fprog prog = { ARRAY_LEN(code), code };

	cr_assert_eq(prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0), 0);
	notify_fd = (int)syscall(SYS_seccomp, SECCOMP_SET_MODE_FILTER,
				 SECCOMP_FILTER_FLAG_NEW_LISTENER, &prog);
	cr_assert_geq(notify_fd, 0, "seccomp: %s", strerror(errno));
}

bool hang_came(void)
{
	struct pollfd p = { .fd = notify_fd, .events = POLLIN };
	struct seccomp_notif n = { 0 };

	if (poll(&p, 1, 0) != 1)
		return false;
	cr_assert_lt(count, HANGING_MAX);
	cr_assert_eq(ioctl(notify_fd, SECCOMP_IOCTL_NOTIF_RECV, &n), 0, "%s", strerror(errno));
	hanging[count++] = n.id;
	return true;
}

static void let_go(uint64_t id)
{
	struct seccomp_notif_resp resp = {
		.id = id, .flags = SECCOMP_USER_NOTIF_FLAG_CONTINUE
	};

	cr_assert_eq(ioctl(notify_fd, SECCOMP_IOCTL_NOTIF_SEND, &resp), 0, "%s", strerror(errno));
}

static bool is_there(const char *thread)
{
	DIR *d = opendir("/proc/self/task");
	char path[64], name[32];
	struct dirent *e;
	bool found = false;
	FILE *f;

	while ((e = readdir(d))) {
		snprintf(path, sizeof(path), "/proc/self/task/%.20s/comm", e->d_name);
		f = *e->d_name == '.' ? NULL : fopen(path, "r");
		if (f && fgets(name, sizeof(name), f))
			found |= strcmp(name, thread) == 0;
		if (f)
			fclose(f);
	}
	closedir(d);
	return found;
}

void hang_end(void)
{
	while (count)
		let_go(hanging[--count]);
}

void hang_await_end(const char *thread)
{
	uint64_t end = clock_ns() + PATIENCE_NS;
	char line[32];

	snprintf(line, sizeof(line), "%s\n", thread);
	while (is_there(line)) {
		cr_assert_lt(clock_ns(), end, "thread '%s' stays", thread);
		if (hang_came())
			hang_end();
		usleep(1000);
	}
}
