/*
 * tests/kvm/test_verbs.c - the native verbs as processes, against VMs that run
 * a small guest, and against folders where something evil lives.
 */
#include <criterion/criterion.h>
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <unistd.h>

#include "vmm/base/util.h"

#define GUEST "-kernel " TEST_BUILD "/tests/kvm/guest_power.elf -m 32M -smp 1 "

static char top[64];	/* XDG_RUNTIME_DIR */
static char out[16384];	/* of the last sh(): stdout and stderr */

static void no_kvm_skips(void)
{
	int fd = open("/dev/kvm", O_RDWR | O_CLOEXEC);

	if (fd < 0)
		cr_skip_test("/dev/kvm cannot be opened: %s", strerror(errno));
	close(fd);
}

/* Run a shell command, in which $R is roost, at most 30 s; its exit status. */
static int __attribute__((format(printf, 1, 2))) sh(const char *fmt, ...)
{
	char cmd[4096];
	size_t n;
	va_list ap;
	FILE *f;
	int status;

	n = (size_t)snprintf(cmd, sizeof(cmd), "{ ");
	va_start(ap, fmt);
	n += (size_t)vsnprintf(cmd + n, sizeof(cmd) - n, fmt, ap);
	va_end(ap);
	snprintf(cmd + n, sizeof(cmd) - n, "; } 2>&1 </dev/null");
	f = popen(cmd, "r");
	cr_assert(f);
	n = fread(out, 1, sizeof(out) - 1, f);
	out[n] = '\0';
	status = pclose(f);
	return WIFEXITED(status) ? WEXITSTATUS(status) : 128;
}

static bool says(const char *text)
{
	return strstr(out, text) != NULL;
}

static void setup(void)
{
	snprintf(top, sizeof(top), "/tmp/test-verbs-XXXXXX");
	cr_assert(mkdtemp(top));
	setenv("XDG_RUNTIME_DIR", top, 1);
	setenv("R", "timeout -k 1 30 " TEST_BUILD "/roost", 1);
	setenv("T", top, 1);
}

static void fini(void)
{
	sh("for p in $T/roost/*/pid; do kill -9 $(cat $p); done");
	sh("rm -rf $T");
}

/* Start a VM called @name in the background, up when this returns. */
static void start(const char *name, const char *more)
{
	no_kvm_skips();
	cr_assert_eq(sh("$R run " GUEST "-name %s -daemonize -serial file:$T/%s.txt %s", name, name,
			more), 0, "%s", out);
	cr_assert_eq(sh("for i in $(seq 100); do grep -q 'guest is up' $T/%s.txt && exit 0; "
			"sleep 0.05; done; exit 1", name), 0);
}

TestSuite(verbs, .init = setup, .fini = fini, .timeout = 120);

Test(verbs, test_ps_lists_two_vms_in_order)
{
	start("web", "");
	start("db", "");
	cr_assert_eq(sh("$R ps"), 0);
	cr_expect_eq(strncmp(out, "NAME ", 5), 0, "%s", out);
	cr_expect(strstr(out, "\ndb ") && strstr(out, "\nweb ") > strstr(out, "\ndb "), "%s", out);
	cr_expect(says("running"), "%s", out);
	cr_expect(says("32M"), "%s", out);
	cr_expect_eq(sh("$R ps --json | python3 -c 'import json,sys; v = json.load(sys.stdin); "
			"print([x[\"name\"] for x in v], v[0][\"memory\"], v[0][\"vcpus\"])'"), 0);
	cr_expect(says("['db', 'web'] 33554432 1"), "%s", out);
}

Test(verbs, test_pause_resume_and_reset_say_the_state)
{
	start("web", "");
	cr_expect_eq(sh("$R pause web"), 0, "%s", out);
	cr_expect_str_eq(out, "web: paused\n");
	cr_expect_eq(sh("$R ps | grep paused"), 0);
	cr_expect_eq(sh("$R resume web"), 0);
	cr_expect_str_eq(out, "web: running\n");
	cr_expect_eq(sh("$R reset web"), 0);
	cr_expect_str_eq(out, "web: running\n");
	cr_expect_eq(sh("for i in $(seq 100); do [ $(grep -c 'guest is up' $T/web.txt) = 2 ] && "
			"exit 0; sleep 0.05; done; exit 1"), 0, "the guest started again");
}

Test(verbs, test_stop_waits_for_the_guest_to_be_off)
{
	start("web", "");
	cr_expect_eq(sh("$R stop web"), 0, "%s", out);
	cr_expect_str_eq(out, "web: off\n");
	cr_expect_eq(sh("grep 'guest is off' $T/web.txt"), 0);
	cr_expect_eq(sh("for i in $(seq 40); do [ -e $T/roost/web ] || exit 0; sleep 0.05; done; "
			"exit 1"), 0, "the folder is gone");
	cr_expect_eq(sh("$R stop web"), 3);
}

Test(verbs, test_stop_of_a_guest_that_ignores_the_button_times_out)
{
	no_kvm_skips();
	cr_assert_eq(sh("$R run -kernel " TEST_BUILD "/tests/kvm/guest_spin.elf -m 32M -smp 1 "
			"-name deaf -daemonize"), 0, "%s", out);
	cr_expect_eq(sh("$R stop deaf --timeout=1"), 4, "%s", out);
	cr_expect(says("did not power off within 1 s"), "%s", out);
	cr_expect(says("roost kill deaf"), "%s", out);
}

/* Not told to a terminal: the guest's own bytes are all there is on stdout. */
Test(verbs, test_console_shows_from_the_first_byte)
{
	start("web", "");
	cr_expect_eq(sh("$R console web >$T/one & $R console web --read-only >$T/two & "
			"for i in $(seq 100); do grep -q up $T/one && grep -q up $T/two && break; "
			"sleep 0.1; done; $R stop web && wait"), 0, "%s", out);
	cr_expect_eq(sh("cat $T/one $T/two"), 0);
	cr_expect_str_eq(out, "guest is up\nguest is off\nguest is up\nguest is off\n");
	cr_expect_eq(sh("$R console web"), 3, "%s", out);
	cr_expect_eq(sh("$R console web --read-only --take"), 2, "%s", out);
}

Test(verbs, test_console_of_a_vm_without_a_port_says_so)
{
	no_kvm_skips();
	cr_assert_eq(sh("$R run " GUEST "-name mute -daemonize -serial none"), 0, "%s", out);
	cr_expect_eq(sh("$R console mute"), 1, "%s", out);
	cr_expect(says("mute has no serial port or virtio console"), "%s", out);
}

Test(verbs, test_run_console_attaches_and_leaves_the_vm_running)
{
	no_kvm_skips();
	cr_expect_eq(sh("timeout 2 $R run --console " GUEST "-name web >$T/seen; cat $T/seen"), 0,
		     "%s", out);
	cr_expect(says("guest is up"), "%s", out);
	cr_expect_eq(sh("$R ps; cat $T/roost/*/log; $R stop web"), 0, "%s", out);
	cr_expect(says("running"), "%s", out);
	cr_expect_eq(sh("$R run --console -nodefaults " GUEST), 1, "%s", out);
	cr_expect(says("--console: the VM has no serial port"), "%s", out);
	cr_expect_eq(sh("$R ps | grep -v NAME"), 1, "%s", out);
}

Test(verbs, test_stop_of_a_paused_guest_is_refused)
{
	start("web", "");
	sh("$R pause web");
	cr_expect_eq(sh("$R stop web"), 1);
	cr_expect(says("roost resume web first"), "%s", out);
}

Test(verbs, test_stop_under_no_shutdown_says_that_the_process_stays)
{
	start("web", "-no-shutdown");
	cr_expect_eq(sh("$R stop web"), 0, "%s", out);
	cr_expect(says("its process stays"), "%s", out);
	cr_expect_eq(sh("$R kill web"), 0, "%s", out);
}

Test(verbs, test_kill_ends_a_vm_and_a_stopped_process)
{
	start("web", "");
	cr_expect_eq(sh("$R kill web"), 0);
	cr_expect_str_eq(out, "web: ended\n");
	start("db", "");
	cr_assert_eq(sh("kill -STOP $(cat $T/roost/db/pid)"), 0);
	cr_expect_eq(sh("$R kill db"), 0, "%s", out);
	cr_expect_eq(sh("[ -e $T/roost/db ]"), 1, "the folder is gone");
}

Test(verbs, test_hanging_vm_is_listed_and_does_not_hang_verbs)
{
	start("web", "");
	start("db", "");
	cr_assert_eq(sh("kill -STOP $(cat $T/roost/db/pid)"), 0);
	cr_expect_eq(sh("timeout 10 $R ps"), 0);
	cr_expect(says("no answer"), "%s", out);
	cr_expect(says("running"), "%s", out);
	cr_expect_eq(sh("timeout 10 $R pause db"), 4);
	cr_expect(says("does not answer"), "%s", out);
	sh("kill -CONT $(cat $T/roost/db/pid)");
}

Test(verbs, test_taken_name_is_refused_and_a_killed_ones_is_free)
{
	start("web", "");
	cr_expect_eq(sh("$R run " GUEST "-name web -serial null"), 1);
	cr_expect(says("-name web: a VM of that name runs already"), "%s", out);
	cr_assert_eq(sh("p=$(cat $T/roost/web/pid); kill -9 $p; while kill -0 $p; do sleep 0.01; "
			"done"), 0);
	cr_expect_eq(sh("[ -e $T/roost/web/qmp.sock ]"), 0, "the folder is stale now");
	start("web", "");
	cr_expect_eq(sh("$R kill web"), 0, "%s", out);
}

Test(verbs, test_stale_folder_is_gone_after_ps)
{
	start("web", "");
	cr_assert_eq(sh("p=$(cat $T/roost/web/pid); kill -9 $p; while kill -0 $p; do sleep 0.01; "
			"done"), 0);
	cr_expect_eq(sh("$R pause web"), 3, "%s", out);
	cr_expect_eq(sh("$R ps"), 0);
	cr_expect_not(says("web"), "%s", out);
	cr_expect_eq(sh("[ -e $T/roost/web ]"), 1);
}

Test(verbs, test_events_stream_until_the_vm_ends)
{
	start("web", "");
	cr_expect_eq(sh("$R events web >$T/ev & e=$!; $R events web --json >$T/evj & sleep 0.5; "
			"$R pause web; $R resume web; $R kill web; wait $e; wait"), 0, "%s", out);
	cr_expect_eq(sh("cat $T/ev"), 0);
	cr_expect(says("  STOP") && says("  RESUME") && says("  SHUTDOWN  {"), "%s", out);
	cr_expect_eq(sh("python3 -c 'import json,sys; "
			"print([json.loads(l)[\"event\"] for l in sys.stdin])' <$T/evj"), 0);
	cr_expect(says("'STOP', 'RESUME', 'SHUTDOWN'"), "%s", out);
}

Test(verbs, test_many_clients_are_served_and_more_are_turned_away)
{
	start("web", "");
	/* 15 and the verb itself are 16; a second after that it has left. */
	cr_expect_eq(sh("for i in $(seq 15); do $R events web >$T/ev$i 2>&1 & done; sleep 1; "
			"$R pause web"), 0, "%s", out);
	cr_expect_eq(sh("sleep 1.5; $R events web >$T/ev16 2>&1 & sleep 0.5; $R resume web"), 1);
	cr_expect(says("has gone"), "%s", out);
	cr_expect_eq(sh("grep 'one more was turned away' $T/roost/web/log"), 0);
	cr_expect_eq(sh("$R kill web"), 0, "also when nobody gets in: %s", out);
	cr_expect_eq(sh("sleep 0.5; cat $T/ev[0-9]* | grep -c STOP"), 0);
	cr_expect_str_eq(out, "15\n", "every client sees every event");
}

Test(verbs, test_log_shows_what_the_process_said_and_follows_to_the_end)
{
	start("web", "");
	cr_expect_eq(sh("$R log web -f >$T/log & l=$!; sleep 0.3; kill -TERM $(cat "
			"$T/roost/web/pid); wait $l"), 0);
	cr_expect_eq(sh("grep 'ended by signal 15' $T/log"), 0);
}

Test(verbs, test_disks_lists_image_and_size)
{
	no_kvm_skips();
	sh("truncate -s 3M $T/root.raw; truncate -s 1M $T/data.raw");
	start("web", "$T/root.raw -drive file=$T/data.raw,format=raw,read-only=on");
	cr_expect_eq(sh("$R disks web"), 0, "%s", out);
	cr_expect(says("disk0") && says("root.raw") && says("3M"), "%s", out);
	cr_expect(says("data.raw") && says("read-only"), "%s", out);
	cr_expect_eq(sh("$R disks web --json | python3 -m json.tool"), 0);
	cr_expect_eq(sh("$R ps"), 0);
	cr_expect(says("root.raw,data.raw"), "%s", out);
}

Test(verbs, test_monitor_takes_words_and_json_from_a_pipe)
{
	start("web", "");
	cr_expect_eq(sh("printf '%%s\\n' query-status '{\"execute\":\"query-name\"}' '' | "
			"$R monitor web"), 0, "%s", out);
	cr_expect(says("\"status\":\"running\"") && says("{\"name\":\"web\"}"), "%s", out);
	cr_expect_eq(sh("echo nonsense | $R monitor web"), 1);
	cr_expect(says("CommandNotFound"), "%s", out);
}

Test(verbs, test_images_name_the_vm_and_count_on)
{
	no_kvm_skips();
	sh("truncate -s 1M $T/alpha.raw $T/b");
	cr_expect_eq(sh("$R $T/alpha.raw " GUEST "-daemonize"), 0, "%s", out);
	cr_expect_eq(sh("cd $T/roost && echo *"), 0);
	cr_expect_str_eq(out, "alpha\n");
	cr_expect_eq(sh("$R " GUEST "-daemonize; $R " GUEST "-daemonize; cd $T/roost; echo *"), 0);
	cr_expect_str_eq(out, "alpha vm vm-2\n");
}

Test(verbs, test_nodefaults_leaves_no_folder)
{
	no_kvm_skips();
	cr_expect_eq(sh("$R " GUEST "-nodefaults -name web -daemonize -pidfile $T/p; ls $T; "
			"kill $(cat $T/p)"), 0, "%s", out);
	cr_expect_not(says("roost"), "%s", out);
}

/* ---- giving up rights ---- */

Test(verbs, test_sandboxed_vm_does_all_that_verbs_ask)
{
	start("web", "-sandbox on,obsolete=deny,elevateprivileges=deny,spawn=deny,"
		     "resourcecontrol=deny -object iothread,id=io0");
	cr_expect_eq(sh("grep Seccomp: /proc/$(cat $T/roost/web/pid)/status"), 0);
	cr_expect(says("Seccomp:\t2"), "%s", out);
	cr_expect_eq(sh("cat /proc/$(cat $T/roost/web/pid)/task/*/status | grep -c '^Seccomp:.2'; "
			"ls /proc/$(cat $T/roost/web/pid)/task | wc -l"), 0);
	cr_expect_eq(atoi(out), atoi(strchr(out, '\n')), "every thread is covered: %s", out);
	cr_expect_eq(sh("$R pause web && $R resume web && $R reset web"), 0, "%s", out);
	cr_expect_eq(sh("for i in $(seq 100); do [ $(grep -c 'guest is up' $T/web.txt) = 2 ] && "
			"exit 0; sleep 0.05; done; exit 1"), 0, "the kernel was loaded again");
	cr_expect_eq(sh("$R stop web"), 0, "%s", out);
	cr_expect_eq(sh("sleep 0.3; [ -e $T/roost/web ]"), 1, "the folder is gone");
}

Test(verbs, test_runas_leaves_root_for_good)
{
	if (geteuid() != 0)
		cr_skip_test("only root can become another user");
	start("web", "-runas 12345:23456 -sandbox on");
	cr_expect_eq(sh("grep -E '^(Uid|Gid|Groups):' /proc/$(cat $T/roost/web/pid)/status"), 0);
	cr_expect(says("Uid:\t12345\t12345\t12345\t12345") &&
		  says("Gid:\t23456\t23456\t23456\t23456") && says("Groups:\t23456 \n"),
		  "%s", out);
	cr_expect_eq(sh("$R pause web && $R kill web"), 0, "%s", out);
	cr_expect_eq(sh("$R run " GUEST "-runas nosuchuser -serial null"), 1);
	cr_expect(says("-runas nosuchuser: there is no such user"), "%s", out);
}

/* ---- folders that are not what they seem ---- */

/* A folder as a living VM's, whose QMP socket answers with @script: what a
 * child says to whoever connects. */
static pid_t impostor(const char *name, void (*answer)(int fd))
{
	struct sockaddr_un a = { .sun_family = AF_UNIX };
	struct flock l = { .l_type = F_WRLCK, .l_whence = SEEK_SET };
	int pid_fd, s;
	pid_t child;

	sh("mkdir -m 700 -p $T/roost; chmod 700 $T/roost; mkdir -m 700 $T/roost/%s; "
	   "umask 077; touch $T/roost/%s/pid", name, name);
	snprintf(a.sun_path, sizeof(a.sun_path), "%s/roost/%s/qmp.sock", top, name);
	s = socket(AF_UNIX, SOCK_STREAM, 0);
	cr_assert_eq(bind(s, (struct sockaddr *)&a, sizeof(a)), 0);
	listen(s, 5);
	child = fork();
	if (child == 0) {
		char path[200];

		signal(SIGPIPE, SIG_IGN);
		snprintf(path, sizeof(path), "%s/roost/%s/pid", top, name);
		pid_fd = open(path, O_RDWR);
		fcntl(pid_fd, F_OFD_SETLK, &l);
		for (;;)
			answer(accept(s, NULL, NULL));
	}
	close(s);
	usleep(100000);
	return child;
}

static void garbage(int fd)
{
	dprintf(fd, "220 mail.example.org ESMTP\r\n");
	close(fd);
}

static void silence(int fd)
{
}

static void endless(int fd)
{
	while (write(fd, "{\"event\":\"X\"}\r\n", 15) == 15)
		;
	close(fd);
}

/* Every verb ends in time, with a sentence, and without harm. */
static void try_all_verbs(const char *name, void (*answer)(int fd))
{
	static const char *const lines[] = {
		"pause %s", "resume %s", "reset %s", "stop %s", "events %s", "disks %s",
		"monitor %s", "attach %s virtio-rng-pci", "detach %s d0",
		"topology %s",
	};
	pid_t child = impostor(name, answer);
	char line[100];
	int r;

	cr_expect_eq(sh("timeout 10 $R ps"), 0);
	cr_expect(says(name), "%s", out);
	for (size_t i = 0; i < ARRAY_LEN(lines); i++) {
		snprintf(line, sizeof(line), lines[i], name);
		r = sh("timeout 12 $R %s | head -c 5000", line);
		cr_expect(says("roost: "), "%s: %d, %s", line, r, out);
		cr_expect_lt(strlen(out), 1000u, "%s", line);
	}
	kill(child, SIGKILL);
	waitpid(child, NULL, 0);
}

Test(verbs, test_socket_that_answers_garbage_gets_a_sentence)
{
	try_all_verbs("evil", garbage);
}

Test(verbs, test_socket_that_never_answers_is_left)
{
	try_all_verbs("evil", silence);
}

Test(verbs, test_socket_that_answers_without_end_is_left)
{
	try_all_verbs("evil", endless);
}

Test(verbs, test_folder_that_is_a_link_is_refused)
{
	sh("mkdir -m 700 $T/roost $T/elsewhere; ln -s $T/elsewhere $T/roost/web");
	cr_expect_eq(sh("$R ps"), 0);
	cr_expect_not(says("web"), "%s", out);
	cr_expect_eq(sh("$R kill web"), 1);
	cr_expect(says("cannot open"), "%s", out);
	cr_expect_eq(sh("[ -d $T/elsewhere ]"), 0, "and not followed");
}

/* ---- snapshots ---- */

Test(verbs, test_snapshot_create_and_list)
{
	cr_assert_eq(sh("truncate -s 1M $T/a.raw $T/b.raw"), 0);
	start("web", "-drive file=$T/a.raw,format=raw,if=none,id=d0 -device virtio-blk-pci,drive=d0,id=disk0 "
	      "-drive file=$T/b.raw,format=raw,if=none,id=d1 -device virtio-blk-pci,drive=d1,id=disk1");
	cr_expect_eq(sh("$R snapshot list web"), 0, "%s", out);
	cr_expect_eq(sh("$R snapshot create web monday"), 0, "%s", out);
	cr_expect(says("web: snapshot monday created\n") && says("/a.monday.qcow2\n") &&
		  says("/b.monday.qcow2\n"), "%s", out);
	cr_expect_eq(sh("$R snapshot create web tuesday --disk disk0"), 0, "%s", out);
	cr_expect(says("/a.tuesday.qcow2\n") && !says("/b."), "%s", out);
	cr_expect_eq(sh("$R snapshot create web --disk=d1=$T/new.qcow2 --atomic"), 0, "%s", out);
	cr_expect_eq(sh("$R snapshot list web --json | python3 -c 'import json,sys; "
			"print([(s[\"name\"], s[\"disk\"]) for s in json.load(sys.stdin)])'"), 0);
	cr_expect_str_eq(out, "[('monday', 'disk0'), ('tuesday', 'disk0'), ('monday', 'disk1'), "
			 "('new', 'disk1')]\n");
	cr_expect_eq(sh("$R snapshot list web"), 0);
	cr_expect(says("NAME ") && says("CREATED"), "%s", out);
	/* All or none: what exists is not overwritten. */
	cr_expect_eq(sh("echo x >$T/b.wednesday.qcow2; $R snapshot create web wednesday --disk d0 "
			"--disk d1=$T/b.wednesday.qcow2"), 1, "%s", out);
	cr_expect_eq(sh("test ! -e $T/a.wednesday.qcow2 && grep -qx x $T/b.wednesday.qcow2"), 0);
	cr_expect_eq(sh("$R snapshot create web x --disk nosuch"), 1);
	cr_expect(says("web has no disk 'nosuch'; roost disks web lists them"), "%s", out);
	cr_expect_eq(sh("$R snapshot create web a/b"), 2, "%s", out);
	cr_expect_eq(sh("$R snapshot melt web"), 2, "%s", out);
	cr_expect_eq(sh("$R snapshot list none"), 3, "%s", out);
	cr_expect_eq(sh("$R kill web; qemu-img check -q $T/a.tuesday.qcow2 && "
			"qemu-img info --backing-chain $T/a.tuesday.qcow2 | grep -c ^image:"), 0);
	cr_expect(says("3\n"), "%s", out);
}

/* An agent as a guest's could be, that writes what it was asked to $T/asked. It says
 * something old first, and @freeze to guest-fsfreeze-freeze. */
static void start_agent(const char *freeze)
{
	FILE *f;
	char name[96];

	snprintf(name, sizeof(name), "%s/agent.py", top);
	f = fopen(name, "w");
	cr_assert(f);
	fprintf(f, "import json, os, socket, sys\n"
		"s = socket.socket(socket.AF_UNIX)\n"
		"s.bind(os.environ['T'] + '/ga.sock')\n"
		"s.listen(1)\n"
		"open(os.environ['T'] + '/listens', 'w')\n"
		"c, _ = s.accept()\n"
		"log = open(os.environ['T'] + '/asked', 'w')\n"
		"c.sendall(b'{\"return\": 1}\\n')\n"
		"for line in c.makefile('rb'):\n"
		"    q = json.loads(line.lstrip(b'\\xff'))\n"
		"    print(q['execute'], file=log, flush=True)\n"
		"    a, pre = {'return': 2}, b''\n"
		"    if q['execute'] == 'guest-sync-delimited':\n"
		"        a, pre = {'return': q['arguments']['id']}, b'\\xff'\n"
		"    if q['execute'] == 'guest-fsfreeze-freeze':\n"
		"        a = %s\n"
		"    c.sendall(pre + json.dumps(a).encode() + b'\\n')\n", freeze);
	fclose(f);
	cr_assert_eq(sh("rm -f $T/ga.sock $T/listens; (T=$T python3 %s >$T/agent.log 2>&1 &); "
			"for i in $(seq 100); do [ -e $T/listens ] && break; sleep 0.1; done; "
			"test -e $T/listens", name), 0, "%s", out);
}

Test(verbs, test_snapshot_of_file_systems_that_hold_still)
{
	cr_assert_eq(sh("truncate -s 1M $T/a.raw"), 0);
	start("web", "-drive file=$T/a.raw,format=raw,if=none,id=d0 -device virtio-blk-pci,drive=d0");
	start_agent("{'return': 3}");
	cr_expect_eq(sh("$R snapshot create web monday --quiesce --agent $T/ga.sock"), 0, "%s", out);
	cr_expect(says("web: snapshot monday created\n"), "%s", out);
	cr_expect_eq(sh("cat $T/asked"), 0);
	cr_expect_str_eq(out, "guest-sync-delimited\nguest-fsfreeze-freeze\nguest-fsfreeze-thaw\n");
	/* Nothing is frozen, nothing stays. */
	start_agent("{'error': {'desc': 'no \\33[1mfreezer'}}");
	cr_expect_eq(sh("$R snapshot create web x --agent $T/ga.sock"), 1, "%s", out);
	cr_expect(says("web: the guest agent to guest-fsfreeze-freeze: no ?[1mfreezer"), "%s", out);
	cr_expect_eq(sh("! test -e $T/a.x.qcow2 && tail -1 $T/asked"), 0);
	cr_expect_str_eq(out, "guest-fsfreeze-thaw\n");
	cr_expect_eq(sh("$R snapshot create web x --quiesce"), 1, "%s", out);
	cr_expect(says("web has no channel for a guest agent; start it with "), "%s", out);
}

Test(verbs, test_agent_that_is_not_there_is_not_waited_for)
{
	cr_assert_eq(sh("truncate -s 1M $T/a.raw"), 0);
	start("web", "-drive file=$T/a.raw,format=raw,if=none,id=d0 -device virtio-blk-pci,drive=d0 "
	      "-device virtio-serial-pci -chardev socket,id=c0,path=$T/c.sock,server=on,wait=off "
	      "-device virtserialport,chardev=c0,name=org.qemu.guest_agent.0");
	cr_expect_eq(sh("$R snapshot create web x --quiesce"), 1, "%s", out);
	cr_expect(says("web: the guest agent does not answer guest-sync-delimited; is "), "%s", out);
	cr_expect_eq(sh("test -e $T/a.x.qcow2"), 1);
	cr_expect_eq(sh("$R snapshot create web y"), 0, "%s", out);
}

/* a.raw <- a.monday.qcow2 <- a.tuesday.qcow2, each with something, and the disk. */
static void start_on_snapshots(void)
{
	cr_assert_eq(sh("cd $T && truncate -s 1M a.raw && "
			"qemu-img create -q -f qcow2 -b a.raw -F raw a.monday.qcow2 && "
			"qemu-img create -q -f qcow2 -b a.monday.qcow2 -F qcow2 a.tuesday.qcow2 && "
			"qemu-io -f raw -c 'write -P 1 0 100k' a.raw >log && "
			"qemu-io -f qcow2 -c 'write -P 2 64k 100k' a.monday.qcow2 >log && "
			"qemu-io -f qcow2 -c 'write -P 3 128k 100k' a.tuesday.qcow2 >log && "
			"for i in monday tuesday; do qemu-img convert -O raw a.$i.qcow2 $i.raw; done && "
			"cp a.raw base.raw"), 0, "%s", out);
	start("web", "-drive file=$T/a.tuesday.qcow2,format=qcow2,if=none,id=d0 "
	      "-device virtio-blk-pci,drive=d0,id=disk0");
}

Test(verbs, test_snapshots_are_deleted)
{
	start_on_snapshots();
	cr_expect_eq(sh("$R snapshot delete web sunday"), 1, "%s", out);
	cr_expect(says("web has no snapshot 'sunday'; roost snapshot list web lists them"), "%s", out);
	cr_expect_eq(sh("$R snapshot delete web monday --disk nosuch"), 1, "%s", out);
	cr_expect(says("no snapshot 'monday' on that disk"), "%s", out);
	cr_expect_eq(sh("$R snapshot delete web"), 2, "%s", out);
	/* Another VM reads the base: all stays as it is. */
	start("other", "-drive file=$T/a.raw,format=raw,if=none,id=d0,readonly=on "
	      "-device virtio-blk-pci,drive=d0");
	cr_expect_eq(sh("$R snapshot delete web monday"), 1, "%s", out);
	cr_expect(says("a.raw is in use by another process"), "%s", out);
	cr_expect_eq(sh("$R kill other && $R snapshot delete web monday"), 0, "%s", out);
	cr_expect(says("/a.monday.qcow2: removed, what it had is in ") &&
		  says("web: snapshot monday deleted\n"), "%s", out);
	cr_expect_eq(sh("test ! -e $T/a.monday.qcow2 && cmp $T/a.raw $T/monday.raw && "
			"qemu-img compare -U -f raw -F qcow2 $T/tuesday.raw $T/a.tuesday.qcow2"), 0,
		     "%s", out);
	cr_expect_eq(sh("$R snapshot create web now && $R snapshot delete web tuesday --disk d0 && "
			"$R snapshot delete web now"), 0, "%s", out);
	cr_expect_eq(sh("$R snapshot list web; ls $T/*.qcow2"), 2, "none is left: %s", out);
	cr_expect_eq(sh("$R disks web | grep -q /a.raw && $R kill web && "
			"cmp $T/a.raw $T/tuesday.raw"), 0, "%s", out);
}

Test(verbs, test_disk_goes_back_to_a_snapshot)
{
	start_on_snapshots();
	cr_expect_eq(sh("$R snapshot revert web sunday"), 1, "%s", out);
	cr_expect_eq(sh("$R snapshot create web now && $R snapshot revert web tuesday"), 0, "%s", out);
	cr_expect(says("as it was at tuesday, and goes on in ") &&
		  says("web: reverted to snapshot tuesday, and reset\n"), "%s", out);
	cr_expect_eq(sh("f=$(ls $T/a.tuesday-*.qcow2) && $R disks web | grep -q $f && "
			"qemu-img compare -U -f raw -F qcow2 $T/monday.raw $f"), 0, "%s", out);
	cr_expect_eq(sh("qemu-img compare -f raw -F qcow2 $T/tuesday.raw $T/a.now.qcow2"), 0,
		     "what was left behind is whole, and locked by nobody: %s", out);
	/* And further, while it is paused. */
	cr_expect_eq(sh("$R pause web && $R snapshot revert web monday"), 0, "%s", out);
	cr_expect(says("reset; it is paused"), "%s", out);
	cr_expect_eq(sh("$R snapshot list web --json | python3 -c 'import json,sys; "
			"print(len(json.load(sys.stdin)))'"), 0);
	cr_expect_str_eq(out, "1\n");
	cr_expect_eq(sh("$R resume web && $R kill web && f=$(ls $T/a.monday-*.qcow2) && "
			"qemu-img check -q $f && qemu-img compare -f raw -F qcow2 $T/base.raw $f"), 0,
		     "%s", out);
}

/* ---- stored configuration ---- */

Test(verbs, test_attach_config_changes_the_file_alone)
{
	cr_assert_eq(sh("truncate -s 1M $T/d.raw && $R run " GUEST "-name web -dump-config "
			">$T/web.json && chmod 640 $T/web.json"), 0, "%s", out);
	cr_assert_eq(sh("$R attach $T/web.json virtio-blk $T/d.raw --config"), 0, "%s", out);
	cr_expect(says("web.json: virtio-blk added as disk1\n"), "%s", out);
	cr_assert_eq(sh("$R attach $T/web.json virtio-rng-pci,id=dice --config"), 0, "%s", out);
	cr_assert_eq(sh("cp $T/web.json $T/both.json; $R -readconfig $T/web.json -dump-config | "
			"cmp - $T/web.json && stat -c %%a $T/web.json && ls $T"), 0, "%s", out);
	cr_expect(says("640\n"), "the mode stays: %s", out);
	cr_expect_not(says("web.json."), "nothing is left behind: %s", out);
	cr_expect_eq(sh("grep -c '\"node-disk1\"\\|\"dice\"' $T/both.json"), 0);
	cr_expect_str_eq(out, "3\n");
	cr_expect_eq(sh("$R attach $T/web.json virtio-blk,id=disk1 $T/d.raw --config"), 1);
	cr_expect(says("web.json has a 'disk1' already; choose another id="), "%s", out);
	cr_assert_eq(sh("$R detach $T/web.json disk1 --config"), 0, "%s", out);
	cr_expect_eq(sh("grep -c 'disk1\\|d.raw' $T/web.json"), 1);
	cr_expect_eq(sh("$R detach $T/web.json disk1 --config"), 1);
	cr_expect(says("web.json has no device 'disk1'"), "%s", out);
	cr_expect_eq(sh("$R attach $T/web.json virtio-rng-pci --live --config"), 2, "%s", out);
	cr_expect_eq(sh("$R attach $T/none.json virtio-rng-pci --config"), 1, "%s", out);
	cr_expect_eq(sh("echo '[1]' >$T/x.json; $R attach $T/x.json virtio-rng-pci --config"), 1);
	cr_expect(says("a stored configuration is what -dump-config prints"), "%s", out);
}

Test(verbs, test_attach_live_and_config_change_both)
{
	no_kvm_skips();
	cr_assert_eq(sh("$R run " GUEST "-name web -serial file:$T/web.txt -dump-config "
			">$T/web.json"), 0, "%s", out);
	start("db", "");
	cr_assert_eq(sh("$R run -readconfig $T/web.json -daemonize"), 0, "%s", out);
	cr_assert_eq(sh("$R attach web virtio-rng-pci --live --config"), 0, "%s", out);
	cr_expect(says("web: virtio-rng-pci attached as virtio-rng-pci1 on port"), "%s", out);
	cr_expect(says("web.json: virtio-rng-pci added as virtio-rng-pci1\n"), "%s", out);
	cr_expect_eq(sh("$R topology web | grep virtio-rng-pci1 && grep virtio-rng-pci1 $T/web.json"),
		     0, "%s", out);
	cr_assert_eq(sh("$R attach web virtio-rng-pci --config"), 0, "%s", out);
	cr_expect_eq(sh("$R topology web | grep virtio-rng-pci2"), 1);
	cr_expect_eq(sh("cp $T/web.json $T/before.json; $R attach web virtio-rng-pci,max-bytes=x "
			"--live --config"), 1);
	cr_expect_eq(sh("cmp $T/web.json $T/before.json"), 0, "what failed live is not stored");
	cr_expect_eq(sh("$R attach db virtio-rng-pci --config"), 1);
	cr_expect(says("db was started without -readconfig, so it has no stored configuration"),
		  "%s", out);
	cr_expect_eq(sh("$R attach none virtio-rng-pci --config"), 3, "%s", out);
}

Test(verbs, test_folder_of_another_user_is_refused)
{
	if (geteuid() != 0)
		cr_skip_test("only root can give a folder to another user");
	sh("mkdir -m 700 $T/roost $T/roost/web; touch $T/roost/web/pid; chown -R 12345 $T/roost/web");
	cr_expect_eq(sh("$R pause web"), 1);
	cr_expect(says("belongs to user 12345"), "%s", out);
	sh("chown 12345 $T/roost");
	cr_expect_eq(sh("$R ps"), 1);
	cr_expect(says("belongs to user 12345"), "%s", out);
}
