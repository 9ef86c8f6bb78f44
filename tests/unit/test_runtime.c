/*
 * tests/unit/test_runtime.c - the folders of running VMs, and who may not be
 * believed there.
 */
#include <criterion/criterion.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "vmm/base/util.h"
#include "vmm/run/runtime.h"

static char top[64];
static struct err e;

static void setup(void)
{
	snprintf(top, sizeof(top), "/tmp/test-runtime-XXXXXX");
	cr_assert(mkdtemp(top));
	setenv("XDG_RUNTIME_DIR", top, 1);
	e = (struct err)ERR_INIT;
}

static void fini(void)
{
	char cmd[100];

	snprintf(cmd, sizeof(cmd), "rm -rf %s", top);
	cr_expect_eq(system(cmd), 0);
}

static const char *at(const char *rest)
{
	static char path[200];

	snprintf(path, sizeof(path), "%s/roost%s", top, rest);
	return path;
}

TestSuite(runtime, .init = setup, .fini = fini);

Test(runtime, test_create_makes_a_private_folder_that_find_finds)
{
	struct runtime rt = RUNTIME_INIT, found = RUNTIME_INIT;
	struct stat st;

	cr_assert_eq(runtime_create(&rt, "web", false, &e), 0, "%s", e.text);
	cr_assert_eq(runtime_set_pid(&rt, &e), 0);
	cr_assert_eq(stat(at("/web"), &st), 0);
	cr_expect_eq(st.st_mode & 0777, 0700);
	cr_assert_eq(runtime_find(&found, "web", &e), 0, "%s", e.text);
	cr_expect_eq(found.pid, getpid());
	cr_expect_str_eq(found.dir, at("/web"));
	runtime_close(&found);
	runtime_remove(&rt);
	cr_expect_neq(stat(at("/web"), &st), 0);
}

Test(runtime, test_create_of_a_taken_name_is_refused_by_name)
{
	struct runtime rt = RUNTIME_INIT, second = RUNTIME_INIT;

	cr_assert_eq(runtime_create(&rt, "web", false, &e), 0);
	cr_assert_eq(runtime_set_pid(&rt, &e), 0);
	cr_expect_eq(runtime_create(&second, "web", false, &e), -EEXIST);
	cr_expect(strstr(e.text, "-name web: a VM of that name runs already"), "%s", e.text);
	runtime_remove(&rt);
}

Test(runtime, test_create_of_a_taken_generated_name_counts_on)
{
	struct runtime rt = RUNTIME_INIT, second = RUNTIME_INIT;

	cr_assert_eq(runtime_create(&rt, "vm", true, &e), 0);
	cr_assert_eq(runtime_create(&second, "vm", true, &e), 0, "%s", e.text);
	cr_expect_str_eq(second.name, "vm-2");
	runtime_remove(&second);
	runtime_remove(&rt);
}

Test(runtime, test_create_after_a_killed_vm_takes_its_name_again)
{
	struct runtime rt = RUNTIME_INIT;
	int status;
	pid_t child = fork();

	if (child == 0) {
		runtime_create(&rt, "web", false, NULL);
		runtime_set_pid(&rt, NULL);
		runtime_write(&rt, RUNTIME_LOG, "old", 3, NULL);
		kill(getpid(), SIGKILL);
	}
	waitpid(child, &status, 0);
	cr_assert_eq(access(at("/web/log"), F_OK), 0);
	cr_assert_eq(runtime_create(&rt, "web", false, &e), 0, "%s", e.text);
	cr_expect_neq(access(at("/web/log"), F_OK), 0, "the dead VM's files are gone");
	runtime_remove(&rt);
}

Test(runtime, test_list_has_the_living_and_removes_the_dead)
{
	struct runtime a = RUNTIME_INIT, b = RUNTIME_INIT, *list;
	size_t count;

	cr_assert_eq(runtime_create(&b, "b", false, &e), 0);
	cr_assert_eq(runtime_create(&a, "a", false, &e), 0);
	mkdir(at("/dead"), 0700);
	close(open(at("/dead/pid"), O_CREAT | O_WRONLY, 0600));
	cr_assert_eq(runtime_list(&list, &count, &e), 0);
	cr_assert_eq(count, 2);
	cr_expect_str_eq(list[0].name, "a");
	cr_expect_str_eq(list[1].name, "b");
	cr_expect_neq(access(at("/dead"), F_OK), 0);
	runtime_list_free(list, count);
	runtime_remove(&a);
	runtime_remove(&b);
}

Test(runtime, test_find_of_an_unknown_name_gives_the_nearest)
{
	struct runtime rt = RUNTIME_INIT, found = RUNTIME_INIT;

	cr_assert_eq(runtime_create(&rt, "webserver", false, &e), 0);
	cr_expect_eq(runtime_find(&found, "webservr", &e), -ENOENT);
	cr_expect(strstr(e.text, "did you mean webserver?"), "%s", e.text);
	runtime_remove(&rt);
}

Test(runtime, test_find_follows_no_link)
{
	struct runtime rt = RUNTIME_INIT, found = RUNTIME_INIT;

	cr_assert_eq(runtime_create(&rt, "web", false, &e), 0);
	cr_assert_eq(symlink("web", at("/link")), 0);
	cr_expect_lt(runtime_find(&found, "link", &e), 0);
	cr_expect(strstr(e.text, "cannot open"), "%s", e.text);
	cr_expect_eq(runtime_create(&found, "link", false, NULL), -ENOTDIR);
	runtime_remove(&rt);
}

Test(runtime, test_base_that_others_can_open_is_refused)
{
	struct runtime rt = RUNTIME_INIT;

	mkdir(at(""), 0755);
	chmod(at(""), 0755);
	cr_expect_eq(runtime_create(&rt, "web", false, &e), -EPERM);
	cr_expect(strstr(e.text, "can be opened by others (mode 755)"), "%s", e.text);
}

Test(runtime, test_base_that_is_a_link_is_refused)
{
	struct runtime rt = RUNTIME_INIT;

	cr_assert_eq(symlink("/tmp", at("")), 0);
	cr_expect_lt(runtime_create(&rt, "web", false, &e), 0);
	cr_expect(strstr(e.text, "cannot open"), "%s", e.text);
}

Test(runtime, test_pid_file_that_is_a_fifo_holds_nobody_up)
{
	struct runtime rt = RUNTIME_INIT;

	mkdir(at(""), 0700);
	mkdir(at("/web"), 0700);
	cr_assert_eq(mkfifo(at("/web/pid"), 0600), 0);
	cr_expect_eq(runtime_find(&rt, "web", &e), -ENOENT);
	cr_expect_eq(runtime_create(&rt, "web", false, &e), 0, "it is stale: %s", e.text);
	runtime_remove(&rt);
}

Test(runtime, test_names_that_lead_elsewhere_are_refused)
{
	static const char *const bad[] = { "", ".", "..", "a/b", "-x", ".hidden", "a b", "ä" };

	for (size_t i = 0; i < ARRAY_LEN(bad); i++)
		cr_expect_eq(runtime_check_name(bad[i], NULL), -EINVAL, "'%s'", bad[i]);
	cr_expect_eq(runtime_check_name("web-1.a_b+c", NULL), 0);
}

Test(runtime, test_config_is_read_back)
{
	struct runtime rt = RUNTIME_INIT;
	static const char text[] = "{\"cpu\":\"host\"}";
	json_t *o;

	cr_assert_eq(runtime_create(&rt, "web", false, &e), 0);
	cr_assert_eq(runtime_write(&rt, RUNTIME_CONFIG, text, strlen(text), &e), 0);
	o = runtime_config(&rt);
	cr_expect_str_eq(json_string_value(json_object_get(o, "cpu")), "host");
	json_decref(o);
	cr_assert_eq(runtime_write(&rt, RUNTIME_CONFIG, "[1]", 3, &e), 0);
	cr_expect_null(runtime_config(&rt));
	runtime_remove(&rt);
}
