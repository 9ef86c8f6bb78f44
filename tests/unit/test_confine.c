/*
 * tests/unit/test_confine.c - what is left to a process under -sandbox on.
 * The file is part of the program, not of the library: it is included here.
 */
#include <criterion/criterion.h>
#include <fcntl.h>
#include <signal.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <threads.h>

#include "vmm/run/confine.c"

/* A child under the filter runs @fn; what it ended with: its status, or 1000
 * and the signal. */
static int confined(int (*fn)(void))
{
	struct err e = ERR_INIT;
	int status;
	pid_t pid = fork();

	if (pid == 0) {
		json_t *d = json_pack("{s:{s:s, s:s}}", "sandbox", "enable", "on",
					"resourcecontrol", "deny");

		if (confine(d, &e)) {
			fprintf(stderr, "%s\n", e.text);
			_exit(99);
		}
		_exit(fn());
	}
	waitpid(pid, &status, 0);
	return WIFSIGNALED(status) ? 1000 + WTERMSIG(status) : WEXITSTATUS(status);
}

static int thread(void *arg)
{
	*(int *)arg = 1;
	return 0;
}

static int daily_work(void)
{
	thrd_t t;
	int ran = 0, fd = open("/dev/zero", O_RDWR | O_CLOEXEC), s[2];
	void *p = mmap(NULL, 1 << 20, PROT_READ | PROT_WRITE, MAP_PRIVATE, fd, 0);

	if (fd < 0 || p == MAP_FAILED || socketpair(AF_UNIX, SOCK_STREAM, 0, s) < 0)
		return 1;
	if (thrd_create(&t, thread, &ran) != thrd_success ||
	    thrd_join(t, NULL) != thrd_success || !ran)
		return 2;
	free(malloc(64 << 20));
	return 0;
}

static int try_fork(void)
{
	return (int)syscall(SYS_fork) < 0 ? 1 : 2;
}

static int try_clone(void)
{
	long r = syscall(SYS_clone, SIGCHLD, NULL, NULL, NULL, NULL);

	return r < 0 && errno == EPERM ? 0 : 1;
}

static int try_exec(void)
{
	execl("/bin/true", "true", NULL);
	return 1;
}

static int try_ptrace(void)
{
	syscall(SYS_ptrace, 16, getppid(), NULL, NULL);
	return 1;
}

static int try_executable_memory(void)
{
	void *p = mmap(NULL, 4096, PROT_READ | PROT_EXEC, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	void *q = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

	return p != MAP_FAILED || mprotect(q, 4096, PROT_READ | PROT_EXEC) == 0;
}

static int try_privileges(void)
{
	return (setuid(0) == 0) | (setgid(0) == 0) << 1 |
	       (syscall(SYS_setpriority, 0, 0, -5) == 0) << 2 |
	       (prctl(PR_SET_DUMPABLE, 1) == 0) << 3 | (kill(getppid(), 0) == 0) << 4;
}

Test(confine, test_daily_work_goes_on)
{
	cr_expect_eq(confined(daily_work), 0);
}

Test(confine, test_what_only_an_intruder_calls_ends_the_process)
{
	cr_expect_eq(confined(try_fork), 1000 + SIGSYS);
	cr_expect_eq(confined(try_exec), 1000 + SIGSYS);
	cr_expect_eq(confined(try_ptrace), 1000 + SIGSYS);
}

Test(confine, test_everything_else_is_refused)
{
	cr_expect_eq(confined(try_clone), 0);
	cr_expect_eq(confined(try_executable_memory), 0);
	cr_expect_eq(confined(try_privileges), 0, "%d", confined(try_privileges));
}
