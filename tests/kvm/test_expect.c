/*
 * tests/kvm/test_expect.c - scripts of roost run --expect against a guest.
 */
#include <criterion/criterion.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "vmm/base/log.h"
#include "vmm/base/util.h"
#include "vmm/run/expect.h"
#include "vmm/run/lib.h"

#define SHELL	TEST_BUILD "/tests/kvm/guest_shell.elf"

static void quiet(enum log_level level, const char *line, void *arg)
{
}

static void need_kvm(void)
{
	if (access("/dev/kvm", R_OK | W_OK))
		cr_skip_test("/dev/kvm cannot be opened");
	log_set_sink(quiet, NULL);
}

TestSuite(expect, .init = need_kvm, .timeout = 60);

/* The status of a script: @pairs times pause and resume, then @last. */
static int run_script(int pairs, const char *last)
{
	static const char *const argv[] = { "-nodefaults", "-serial", "null", "-m", "16",
					    "-kernel", SHELL };
	char path[] = "/tmp/roost-script-XXXXXX";
	FILE *f = fdopen(mkstemp(path), "w");
	struct err err = ERR_INIT;
	json_t *desc;
	int r;

	cr_assert_not_null(f);
	while (pairs--)
		fputs("pause\nresume\n", f);
	fputs(last, f);
	fclose(f);
	cr_assert_eq(lib_describe(ARRAY_LEN(argv), argv, &desc, &err), 0, "%s", err.text);
	json_object_set_new(desc, "expect", json_string(path));
	r = expect_run(desc);
	json_decref(desc);
	unlink(path);
	return r;
}

/* 256 events are kept: what is told of the others is not the one asked for. */
Test(expect, test_expect_event_behind_lost_ones_is_the_one_named)
{
	cr_expect_eq(run_script(150, "timeout 0.2\nexpect-event SHUTDOWN\n"), 1);
	cr_expect_eq(run_script(150, "timeout 5\nexpect-event RESUME\n"), 0);
}
