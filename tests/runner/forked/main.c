/*
 * tests/runner/forked/main.c - runs tests under a sanitizer, one fork each.
 * Threads: this process has one; each test's child has what the test starts.
 * Missing: nothing known.
 *
 * Understands Criterion's --tap=FILE, so that tests/runner/criterion.sh counts
 * both alike. A data race makes the child's exit status 66, which fails it.
 */
#include <errno.h>
#include <stdarg.h>
#include <sys/wait.h>
#include <unistd.h>

#include <criterion/criterion.h>

enum {
	DEFAULT_TIMEOUT_S = 60,
	STATUS_FAILED = 99,
	STATUS_SKIPPED = 98,
};

static struct forked_test *tests, **tests_tail = &tests;
static FILE *tap;
static const char *skip_path;	/* the child leaves its reason here */
static int failures;		/* of the test in this child */

void forked_test_add(struct forked_test *t)
{
	*tests_tail = t;
	tests_tail = &t->next;
}

void forked_test_fail(bool fatal, const char *file, int line, const char *expr,
		    const char *fmt, ...)
{
	va_list ap;

	flockfile(stderr);
	fprintf(stderr, "%s:%d: %s ", file, line, expr);
	va_start(ap, fmt);
	vfprintf(stderr, fmt, ap);
	va_end(ap);
	fputc('\n', stderr);
	funlockfile(stderr);
	__atomic_add_fetch(&failures, 1, __ATOMIC_RELAXED);
	if (fatal)
		_exit(STATUS_FAILED);
}

void forked_test_skip(const char *fmt, ...)
{
	FILE *f = fopen(skip_path, "w");
	va_list ap;

	if (f) {
		va_start(ap, fmt);
		vfprintf(f, fmt, ap);
		va_end(ap);
		fclose(f);
	}
	_exit(STATUS_SKIPPED);
}

static void apply_suite(struct forked_test *t)
{
	const struct forked_test *s;

	for (s = tests; s; s = s->next) {
		if (!s->is_suite || strcmp(s->suite, t->suite))
			continue;
		t->init = t->init ? t->init : s->init;
		t->fini = t->fini ? t->fini : s->fini;
		t->timeout = t->timeout ? t->timeout : s->timeout;
		t->disabled |= s->disabled;
	}
}

static void run_child(struct forked_test *t, void *param)
{
	alarm(t->timeout >= 1 ? (unsigned)t->timeout : DEFAULT_TIMEOUT_S);
	if (t->init)
		t->init();
	if (t->each)
		t->each(param);
	else
		t->fn();
	if (t->fini)
		t->fini();
	exit(failures ? STATUS_FAILED : 0);
}

static void print_skip(const struct forked_test *t)
{
	char why[256] = "no reason given";
	FILE *f = fopen(skip_path, "r");

	if (f) {
		if (fgets(why, sizeof(why), f))
			why[strcspn(why, "\n")] = '\0';
		fclose(f);
	}
	fprintf(tap, "ok - %s::%s # SKIP %s\n", t->suite, t->name, why);
}

/* Returns 1 where it failed. */
static int run_once(struct forked_test *t, void *param)
{
	int status, failed;
	pid_t pid;

	if (t->disabled) {
		fprintf(tap, "ok - %s::%s # SKIP test is disabled\n", t->suite, t->name);
		return 0;
	}
	unlink(skip_path);
	fflush(NULL);
	pid = fork();
	if (pid == 0)
		run_child(t, param);
	if (pid < 0 || waitpid(pid, &status, 0) < 0) {
		perror("fork");
		return 1;
	}
	if (WIFEXITED(status) && WEXITSTATUS(status) == STATUS_SKIPPED) {
		print_skip(t);
		return 0;
	}
	if (t->signal)
		failed = !WIFSIGNALED(status) || WTERMSIG(status) != t->signal;
	else
		failed = !WIFEXITED(status) || WEXITSTATUS(status) != t->exit_code;
	if (failed)
		fprintf(stderr, "%s::%s: wait status 0x%x\n", t->suite, t->name, status);
	fprintf(tap, "%s - %s::%s\n", failed ? "not ok" : "ok", t->suite, t->name);
	return failed;
}

static int run_test(struct forked_test *t)
{
	struct criterion_test_params p = { .length = 1 };
	int bad = 0;

	apply_suite(t);
	if (t->params)
		p = t->params();
	for (size_t i = 0; i < p.length; i++)
		bad += run_once(t, (char *)p.array + i * p.size);
	return bad;
}

static int test_count(const struct forked_test *t)
{
	if (t->is_suite)
		return 0;
	return t->params ? (int)t->params().length : 1;
}

int main(int argc, char **argv)
{
	static char path[] = "/tmp/roost-test-XXXXXX";
	struct forked_test *t;
	int i, fd, n = 0, bad = 0;

	tap = stdout;
	for (i = 1; i < argc; i++)
		if (!strncmp(argv[i], "--tap=", 6))
			tap = fopen(argv[i] + 6, "w");
	fd = mkstemp(path);
	if (!tap || fd < 0) {
		perror("test runner");
		return 2;
	}
	close(fd);
	skip_path = path;
	for (t = tests; t; t = t->next)
		n += test_count(t);
	fprintf(tap, "1..%d\n", n);
	for (t = tests; t; t = t->next)
		if (!t->is_suite)
			bad += run_test(t);
	unlink(path);
	fclose(tap);
	return bad ? 1 : 0;
}
