/*
 * vmm/run/confine.c - what a VM's process gives up once it is set up.
 * Spec:    seccomp(2), libseccomp 2.5; QEMU's words for -runas and -sandbox.
 * Threads: main, before the vCPUs run; the filter covers all threads.
 *
 * The filter is a list of what roost needs while a guest runs, hot-plug and
 * snapshots included. Everything else fails with EPERM, so that a call which
 * nobody thought of costs an error and not the guest; what only an intruder
 * would call ends the process. Memory never becomes executable.
 */
#include "vmm/run/confine.h"

#include <errno.h>
#include <grp.h>
#include <pwd.h>
#include <sched.h>
#include <seccomp.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <unistd.h>

#include "vmm/base/json.h"
#include "vmm/base/prop.h"
#include "vmm/base/util.h"
#include "vmm/run/machine.h"

/* ---- -runas ---- */

static int find_user(const char *text, uid_t *uid, gid_t *gid, struct err *e)
{
	const struct passwd *pw = getpwnam(text);
	char *end, *end2;
	unsigned long u, g;

	if (pw) {
		*uid = pw->pw_uid;
		*gid = pw->pw_gid;
		return 0;
	}
	errno = 0;
	u = strtoul(text, &end, 10);
	g = *end == ':' ? strtoul(end + 1, &end2, 10) : 0;
	if (end == text || *end != ':' || end2 == end + 1 || *end2 || errno ||
	    u >= UINT32_MAX || g >= UINT32_MAX)
		return err_set(e, -EINVAL, "-runas %s: there is no such user; give a name or "
			       "UID:GID", text);
	*uid = (uid_t)u;
	*gid = (gid_t)g;
	return 0;
}

static int become(const char *text, struct err *e)
{
	const struct passwd *pw = getpwnam(text);
	uid_t uid = 0;
	gid_t gid = 0;
	int r = find_user(text, &uid, &gid, e);

	if (r)
		return r;
	if ((pw ? initgroups(text, gid) : setgroups(1, &gid)) < 0 ||
	    setgid(gid) < 0 || setuid(uid) < 0)
		return err_sys(e, -errno, "-runas %s: cannot become it (only root can)", text);
	if (uid && setuid(0) == 0)
		return err_set(e, -EPERM, "-runas %s: root could be had back", text);
	return 0;
}

/* ---- -sandbox ---- */

/* By what they are for. A name that this kernel's or this libseccomp's table
 * lacks is skipped. */
static const char *const allowed[] = {
	/* memory and threads; execution is below */
	"brk", "munmap", "mremap", "madvise", "mlock", "mlock2", "munlock", "mlockall",
	"memfd_create", "futex", "set_robust_list", "rseq", "sched_yield", "sched_getaffinity",
	"gettid", "getpid", "getppid", "tgkill", "exit", "exit_group", "membarrier",
	"set_tid_address", "restart_syscall", "sigaltstack", "rt_sigaction", "rt_sigprocmask",
	"rt_sigreturn", "rt_sigtimedwait", "mincore", "getcpu",
	/* time and chance */
	"clock_gettime", "clock_getres", "clock_nanosleep", "nanosleep", "gettimeofday", "time",
	"getrandom", "timerfd_create", "timerfd_settime", "timerfd_gettime",
	/* waiting */
	"poll", "ppoll", "epoll_create1", "epoll_ctl", "epoll_wait", "epoll_pwait", "eventfd2",
	"signalfd4", "io_uring_setup", "io_uring_enter", "io_uring_register",
	/* descriptors and files: images, sockets, logs, hot-plug */
	"read", "write", "readv", "writev", "pread64", "pwrite64", "preadv", "pwritev",
	"preadv2", "pwritev2", "lseek", "close", "dup", "dup2", "dup3", "fcntl", "ioctl",
	"open", "openat", "openat2", "stat", "lstat", "fstat", "newfstatat", "statx", "statfs",
	"fstatfs", "access", "faccessat", "faccessat2", "readlink", "readlinkat", "getdents64",
	"getcwd", "flock", "fsync", "fdatasync", "sync_file_range", "fallocate", "ftruncate",
	"copy_file_range", "sendfile", "unlink", "unlinkat", "rename", "renameat", "renameat2",
	"symlink", "symlinkat", "mkdir", "mkdirat", "rmdir", "umask", "pipe2", "fadvise64",
	"chmod", "fchmod", "fchmodat",
	/* sockets: QMP, consoles, networks */
	"socket", "socketpair", "bind", "listen", "accept", "accept4", "connect", "shutdown",
	"getsockname", "getpeername", "getsockopt", "setsockopt", "sendto", "recvfrom",
	"sendmsg", "recvmsg", "sendmmsg", "recvmmsg",
	/* who we are */
	"getuid", "geteuid", "getgid", "getegid", "uname", "sysinfo", "getrlimit", "prlimit64",
	"getrusage",
};

/* Nothing here has a use for these, an intruder has. */
static const char *const fatal[] = {
	"execve", "execveat", "fork", "vfork", "ptrace", "process_vm_readv", "process_vm_writev",
	"kexec_load", "kexec_file_load", "init_module", "finit_module", "delete_module", "mount",
	"umount2", "pivot_root", "chroot", "setns", "unshare", "reboot", "bpf", "swapon",
	"swapoff", "personality", "keyctl", "add_key", "request_key", "userfaultfd",
	"open_by_handle_at", "iopl", "ioperm", "modify_ldt", "move_mount", "open_tree", "fsopen",
};

static int add_names(scmp_filter_ctx f, const char *const *names, size_t n, uint32_t action)
{
	int r = 0, nr;

	for (size_t i = 0; i < n && r == 0; i++) {
		nr = seccomp_syscall_resolve_name(names[i]);
		if (nr != __NR_SCMP_ERROR && nr >= 0)
			r = seccomp_rule_add(f, action, nr, 0);
	}
	return r;
}

/* Those that are allowed for some arguments only. */
static int add_conditions(scmp_filter_ctx f)
{
	int r = seccomp_rule_add(f, SCMP_ACT_ALLOW, SCMP_SYS(mmap), 1,
				 SCMP_A2(SCMP_CMP_MASKED_EQ, PROT_EXEC, 0));

	if (r == 0)
		r = seccomp_rule_add(f, SCMP_ACT_ALLOW, SCMP_SYS(mprotect), 1,
				     SCMP_A2(SCMP_CMP_MASKED_EQ, PROT_EXEC, 0));
	/* Threads, not processes. clone3 has its flags in memory, which a
	 * filter cannot see: without it libc takes clone. */
	if (r == 0)
		r = seccomp_rule_add(f, SCMP_ACT_ALLOW, SCMP_SYS(clone), 1,
				     SCMP_A0(SCMP_CMP_MASKED_EQ, CLONE_THREAD, CLONE_THREAD));
	if (r == 0)
		r = seccomp_rule_add(f, SCMP_ACT_ERRNO(ENOSYS), SCMP_SYS(clone3), 0);
	/* Names of threads. */
	if (r == 0)
		r = seccomp_rule_add(f, SCMP_ACT_ALLOW, SCMP_SYS(prctl), 1,
				     SCMP_A0(SCMP_CMP_EQ, PR_SET_NAME));
	return r;
}

static int filter(const struct sandbox_opts *o, struct err *e)
{
	scmp_filter_ctx f = seccomp_init(SCMP_ACT_ERRNO(EPERM));
	int r = f ? 0 : -ENOMEM;

	if (r == 0)
		r = seccomp_attr_set(f, SCMP_FLTATR_CTL_TSYNC, 1);
	if (r == 0)
		r = add_names(f, allowed, ARRAY_LEN(allowed), SCMP_ACT_ALLOW);
	if (r == 0)
		r = add_names(f, fatal, ARRAY_LEN(fatal), SCMP_ACT_KILL_PROCESS);
	if (r == 0)
		r = add_conditions(f);
	if (r == 0 && o->resourcecontrol == SANDBOX_ALLOW)
		r = add_names(f, (const char *const[]){ "sched_setaffinity", "setpriority",
			      "sched_setscheduler", "sched_setparam" }, 4, SCMP_ACT_ALLOW);
	if (r == 0)
		r = seccomp_load(f);
	seccomp_release(f);
	return r ? err_sys(e, r, "-sandbox on: cannot set the filter of system calls") : 0;
}

static int parse(const json_t *desc, struct sandbox_opts *o, struct err *e)
{
	static const struct prop *const tables[] = { sandbox_props, NULL };

	prop_defaults(tables, o);
	return prop_apply(tables, o, json_object_get(desc, "sandbox"), NULL, "-sandbox", e);
}

int confine_check(const json_t *desc, struct err *e)
{
	const char *user = json_str(desc, "runas", NULL);
	struct sandbox_opts o = { 0 };
	uid_t uid;
	gid_t gid;
	int r = parse(desc, &o, e);

	return r || !user ? r : find_user(user, &uid, &gid, e);
}

int confine(const json_t *desc, struct err *e)
{
	const char *user = json_str(desc, "runas", NULL);
	struct sandbox_opts o = { 0 };
	int r = parse(desc, &o, e);

	if (r == 0 && user)
		r = become(user, e);
	return r || !o.enable ? r : filter(&o, e);
}
