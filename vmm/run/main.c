/*
 * vmm/run/main.c - the roost program: a VM's process, from argv to exit status.
 *
 * The library's first client; with verb*.c the only code that exits, handles
 * signals or prints to stdout.
 */
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/signalfd.h>
#include <sys/stat.h>
#include <unistd.h>

#include "vmm/base/json.h"
#include "vmm/base/log.h"
#include "vmm/base/util.h"
#include "vmm/base/version.h"
#include "vmm/char/char.h"
#include "vmm/core/vm.h"
#include "vmm/loop/loop.h"
#include "vmm/run/build.h"
#include "vmm/run/confine.h"
#include "vmm/run/console_attach.h"
#include "vmm/run/expect.h"
#include "vmm/run/guess.h"
#include "vmm/run/help.h"
#include "vmm/run/hub.h"
#include "vmm/run/machine.h"
#include "vmm/run/options.h"
#include "vmm/run/runtime.h"
#include "vmm/run/stored.h"
#include "vmm/run/verb.h"

struct program {
	struct loop *loop;
	struct built *built;
	struct loop_fd signals;
	int status;
	int ready_fd;		/* -daemonize: the parent waits on it; -1: none */
	const char *pidfile;	/* written by us, removed at exit */
	struct hub *hub;	/* QMP for verbs */
	struct runtime rt;	/* where verbs find the VM; dirfd -1: nowhere */
	int log_fd;		/* the folder's log; -1: none */
};

/* ---- signals ---- */

/* A crash must not leave the terminal raw. Only async-signal-safe calls. */
static void on_fatal(int sig)
{
	char_restore_terminal();
	signal(sig, SIG_DFL);
	raise(sig);
}

static void catch_fatal_signals(void)
{
	static const int fatal[] = { SIGSEGV, SIGBUS, SIGILL, SIGFPE, SIGABRT };
	struct sigaction sa = { .sa_handler = on_fatal, .sa_flags = SA_RESETHAND };

	for (size_t i = 0; i < ARRAY_LEN(fatal); i++)
		sigaction(fatal[i], &sa, NULL);
	signal(SIGPIPE, SIG_IGN);	/* a vanished peer is an EPIPE */
	signal(SIGXFSZ, SIG_IGN);	/* a file size limit is an EFBIG */
}

/* Ctrl-Z's signal, sent from elsewhere (on the terminal Ctrl-Z is the guest's):
 * the shell gets its terminal back while we are stopped. */
static void stop_process(void)
{
	char_restore_terminal();
	raise(SIGSTOP);
	char_resume_terminal();
}

static void on_signal(struct loop_fd *w, uint32_t revents)
{
	struct program *p = container_of(w, struct program, signals);
	struct signalfd_siginfo si;

	if (read(w->fd, &si, sizeof(si)) != sizeof(si))
		return;
	if (si.ssi_signo == SIGTSTP) {
		stop_process();
		return;
	}
	if (si.ssi_signo == SIGCONT) {
		char_resume_terminal();
		return;
	}
	log_info("ended by signal %u (%s) from process %u", si.ssi_signo,
		 strsignal((int)si.ssi_signo), si.ssi_pid);
	vm_request(built_vm(p->built), VM_REQ_QUIT, VM_CAUSE_HOST_SIGNAL);
}

/* Blocked before any thread exists, so that only the descriptor sees them. */
static void block_signals(sigset_t *set)
{
	sigemptyset(set);
	sigaddset(set, SIGTERM);
	sigaddset(set, SIGINT);
	sigaddset(set, SIGHUP);
	sigaddset(set, SIGTSTP);
	sigaddset(set, SIGCONT);
	pthread_sigmask(SIG_BLOCK, set, NULL);
}

static int watch_signals(struct program *p, const sigset_t *set)
{
	p->signals = (struct loop_fd){ .fd = signalfd(-1, set, SFD_CLOEXEC | SFD_NONBLOCK),
				       .events = POLLIN, .cb = on_signal };
	return loop_fd_add(p->loop, &p->signals);
}

/* ---- run ---- */

static void on_exit_request(struct vm *vm, enum vm_cause cause, void *arg)
{
	struct program *p = arg;

	p->status = cause == VM_CAUSE_HOST_ERROR ? EXIT_FAILURE : atomic_load(&vm->exit_status);
	loop_quit(p->loop);
}

static void on_escape(char key, void *arg)
{
	struct program *p = arg;

	if (key == 'x')
		vm_request(built_vm(p->built), VM_REQ_QUIT, VM_CAUSE_HOST_UI);
}

static int write_pidfile(struct program *p, const char *path, struct err *e)
{
	char text[24];
	int fd = open(path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0644);
	int len = snprintf(text, sizeof(text), "%d\n", getpid());
	int r;

	if (fd < 0)
		return err_sys(e, -errno, "-pidfile %s: cannot create it", path);
	r = fd_write_full(fd, text, (size_t)len, 0);
	close(fd);
	if (r)
		return err_sys(e, r, "-pidfile %s: cannot write it", path);
	p->pidfile = path;
	return 0;
}

/* The parent of a daemon exits when everything is set up. */
static void tell_parent(struct program *p)
{
	int null;

	if (p->ready_fd < 0)
		return;
	null = open("/dev/null", O_RDWR | O_CLOEXEC);
	if (null >= 0) {
		dup2(null, STDIN_FILENO);
		dup2(null, STDOUT_FILENO);
		dup2(null, STDERR_FILENO);
		close(null);
	}
	if (write(p->ready_fd, "", 1) != 1)
		log_warn("the starting process is gone");
	fd_close(&p->ready_fd);
}

static int serve_verbs(struct program *p, struct err *e)
{
	char *path;
	int r;

	if (p->rt.dirfd < 0)
		return 0;
	path = runtime_path(&p->rt, RUNTIME_QMP);
	r = hub_create(&p->hub, built_vm(p->built), built_qmp(p->built), path, e);
	free(path);
	return r;
}

static int start(struct program *p, const json_t *desc, const sigset_t *set, struct err *e)
{
	const char *pidfile = json_str(desc, "pidfile", NULL);
	struct vm *vm;
	int r;

	if (p->rt.dirfd >= 0 && runtime_set_pid(&p->rt, e))
		return -EIO;
	r = build_vm(p->loop, desc, &p->built, e);
	if (r)
		return r;
	vm = built_vm(p->built);
	r = serve_verbs(p, e);
	if (r)
		return r;
	vm->on_exit = on_exit_request;
	vm->on_exit_arg = p;
	char_set_escape(vm->chars, on_escape, p);
	r = watch_signals(p, set);
	if (r)
		return err_sys(e, r, "cannot watch signals");
	if (pidfile)
		r = write_pidfile(p, pidfile, e);
	if (r == 0)
		r = char_wait(vm->chars, e);
	if (r == 0)
		r = confine(desc, e);
	if (r == 0 && !json_object_get(desc, "paused"))
		r = vm_start(vm, e);
	if (r == 0)
		tell_parent(p);
	return r;
}

/* -overcommit mem-lock=on: everything, guest memory too, now and later. */
static int lock_memory(const json_t *desc, struct err *e)
{
	static const struct prop *const tables[] = { overcommit_props, NULL };
	struct overcommit_opts o = { 0 };
	int r;

	prop_defaults(tables, &o);
	r = prop_apply(tables, &o, json_object_get(desc, "overcommit"), NULL, "-overcommit", e);
	if (r || !o.mem_lock)
		return r;
	if (mlockall(MCL_CURRENT | MCL_FUTURE) < 0)
		return err_sys(e, -errno, "-overcommit mem-lock=on: cannot lock memory (raise "
			       "the limit with ulimit -l)");
	return 0;
}

/* ---- the folder where verbs find us ---- */

static void keep_log(struct program *p)
{
	if (p->rt.dirfd < 0)
		return;
	p->log_fd = runtime_open(&p->rt, RUNTIME_LOG, O_WRONLY | O_CREAT | O_APPEND);
	log_set_copy(p->log_fd);
}

static void leave_runtime(struct program *p)
{
	log_set_copy(-1);
	fd_close(&p->log_fd);
	runtime_remove(&p->rt);
}

/* The console that `roost console` attaches to; build.c puts it on the first
 * serial port or virtio console. */
static void add_console(json_t *desc, const struct runtime *rt)
{
	char *path = runtime_path(rt, RUNTIME_CONSOLE);

	json_put_str(desc, "console", path);
	free(path);
}

/*
 * A machine manager's VM (-nodefaults, -machine none) is its own affair, unless
 * `run` was written. A name that was given is taken or not; that there is no
 * place for a folder is no reason not to run.
 */
static int enter_runtime(json_t *desc, bool run_written, struct runtime *rt)
{
	struct err e = ERR_INIT;
	bool given;
	char *name, *text;
	int r;

	if ((json_object_get(desc, "nodefaults") && !run_written) || machine_is_none(desc))
		return 0;
	name = guess_name(desc, &given);
	r = runtime_create(rt, name, !given, &e);
	free(name);
	if (r == -EEXIST || (r && run_written)) {
		log_err("%s", e.text);
		return r;
	}
	if (r) {
		log_warn("%s; roost ps will not show this VM", e.text);
		return 0;
	}
	text = json_dumps(desc, JSON_INDENT(2));
	runtime_write(rt, RUNTIME_CONFIG, text, strlen(text), NULL);
	free(text);
	add_console(desc, rt);
	return 0;
}

/* ---- run ---- */

static void finish(struct program *p)
{
	hub_destroy(p->hub);
	if (p->built)
		build_destroy(p->built);
	if (p->signals.loop)
		loop_fd_del(&p->signals);
	fd_close(&p->signals.fd);
	if (p->pidfile)
		unlink(p->pidfile);
	loop_destroy(p->loop);
	char_restore_terminal();
}

static int run(const json_t *desc, struct runtime *rt, int ready_fd)
{
	struct program p = { .signals.fd = -1, .ready_fd = ready_fd, .rt = *rt, .log_fd = -1 };
	struct err e = ERR_INIT;
	enum loop_aio aio = LOOP_AIO_AUTO;
	sigset_t set;
	int r;

	*rt = (struct runtime)RUNTIME_INIT;	/* it has moved to p.rt */
	block_signals(&set);
	catch_fatal_signals();
	keep_log(&p);
	r = build_aio(desc, &aio, &e);
	if (r == 0)
		r = confine_check(desc, &e);
	if (r == 0)
		r = lock_memory(desc, &e);
	if (r == 0)
		r = loop_create(&p.loop, "main", aio, &e);
	if (r == 0)
		r = start(&p, desc, &set, &e);
	if (r == 0)
		r = loop_run(p.loop);
	finish(&p);
	if (err_is_set(&e))
		log_err("%s", e.text);
	leave_runtime(&p);
	return r ? EXIT_FAILURE : p.status;
}

/* ---- daemon ---- */

static int wait_for_child(int fd)
{
	char c;
	ssize_t n;

	do
		n = read(fd, &c, 1);
	while (n < 0 && errno == EINTR);
	return n == 1 ? EXIT_SUCCESS : EXIT_FAILURE;
}

static int daemonize(const json_t *desc, struct runtime *rt)
{
	int pipe_fd[2];
	pid_t pid;

	if (pipe2(pipe_fd, O_CLOEXEC) < 0) {
		log_err("-daemonize: no pipe: %s", strerror(errno));
		runtime_remove(rt);
		return EXIT_FAILURE;
	}
	pid = fork();
	if (pid < 0) {
		log_err("-daemonize: cannot fork: %s", strerror(errno));
		runtime_remove(rt);
		return EXIT_FAILURE;
	}
	if (pid > 0) {
		close(pipe_fd[1]);
		return wait_for_child(pipe_fd[0]);
	}
	close(pipe_fd[0]);
	setsid();
	return run(desc, rt, pipe_fd[1]);
}

/* --console: the VM goes to the background, this terminal to its console. */
static int run_attached(json_t *desc, struct runtime *rt)
{
	char *path = rt->dirfd < 0 ? NULL : runtime_path(rt, RUNTIME_CONSOLE);
	char *name = xstrdup(rt->name);
	struct err e = ERR_INIT;
	int status = EXIT_FAILURE;

	if (!path) {
		log_err("--console: a VM without a folder of its own (-nodefaults) has no console "
			"to attach to; write roost run, or leave --console out");
	} else {
		json_object_set_new(desc, "daemonize", json_true());
		status = daemonize(desc, rt);
		runtime_close(rt);
		if (status == EXIT_SUCCESS && console_attach(path, name, 0, &e)) {
			log_err("%s", e.text);
			status = EXIT_FAILURE;
		}
	}
	free(path);
	free(name);
	return status;
}

/* ---- options that are about the program ---- */

static void sink_file(enum log_level level, const char *line, void *arg)
{
	fprintf(arg, "%s\n", line);
	fflush(arg);
}

static int set_logging(const json_t *desc, struct err *e)
{
	const char *path = json_str(desc, "logfile", NULL);
	static const struct prop *const tables[] = { msg_props, NULL };
	struct msg_opts msg = { 0 };
	json_t *list = json_object_get(desc, "trace"), *t;
	char *globs, *g, *save;
	FILE *f;
	size_t i;
	int r;

	prop_defaults(tables, &msg);
	r = prop_apply(tables, &msg, json_object_get(desc, "msg"), NULL, "-msg", e);
	if (r)
		return r;
	log_set_timestamps(msg.timestamp);
	if (path) {
		f = fopen(path, "ae");
		if (!f)
			return err_sys(e, -errno, "-D %s: cannot open it", path);
		log_set_sink(sink_file, f);
	}
	json_array_foreach(list, i, t) {
		globs = xstrdup(json_string_value(t));
		for (g = strtok_r(globs, ",", &save); g; g = strtok_r(NULL, ",", &save))
			if (!trace_enable(g))
				log_warn("-d %s: no such trace point; -d help lists them", g);
		free(globs);
	}
	return 0;
}

static unsigned int host_cpus(void)
{
	cpu_set_t set;

	return sched_getaffinity(0, sizeof(set), &set) < 0 ? 1 : (unsigned int)CPU_COUNT(&set);
}

static int act(json_t *desc, enum options_action action, bool run_written)
{
	struct runtime rt = RUNTIME_INIT;
	struct err e = ERR_INIT;
	int status;

	switch (action) {
	case OPTIONS_HELP:
		verb_print_all_help(stdout);
		return EXIT_SUCCESS;
	case OPTIONS_VERSION:
		printf("roost %s\n", ROOST_VERSION);
		return EXIT_SUCCESS;
	case OPTIONS_DUMP:
		json_object_del(desc, STORED_PATH);
		json_dumpf(desc, stdout, JSON_INDENT(2));
		printf("\n");
		return EXIT_SUCCESS;
	default:
		break;
	}
	if (help_print(desc, stdout))
		return EXIT_SUCCESS;
	if (set_logging(desc, &e)) {
		log_err("%s", e.text);
		return EXIT_FAILURE;
	}
	if (json_object_get(desc, "expect"))
		return expect_run(desc);
	if (enter_runtime(desc, run_written, &rt))
		return EXIT_FAILURE;
	if (json_object_get(desc, "attach"))
		return run_attached(desc, &rt);
	status = json_object_get(desc, "daemonize") ? daemonize(desc, &rt) : run(desc, &rt, -1);
	runtime_close(&rt);	/* the daemon's parent has them still */
	return status;
}

/* ---- which of the two: a VM or a verb ---- */

static bool looks_like_image(const char *word)
{
	return strchr(word, '/') || strchr(word, '.') || access(word, F_OK) == 0;
}

static int unknown_word(const char *word)
{
	const char *near = verb_nearest(word);

	if (near)
		log_err("'%s' is neither a verb nor an image; did you mean roost %s?", word, near);
	else
		log_err("'%s' is neither a verb nor an image; see roost help", word);
	return VERB_USAGE;
}

static int run_vm(int argc, char **argv)
{
	bool run_written = strcmp(argv[1], "run") == 0;
	enum options_action action;
	struct err e = ERR_INIT;
	json_t *desc;
	int status;

	if (options_parse(argc, argv, &desc, &action, &e)) {
		log_err("%s", e.text);
		status = EXIT_FAILURE;
	} else {
		guess_defaults(desc, host_cpus());
		status = act(desc, action, run_written);
	}
	json_decref(desc);
	return status;
}

int main(int argc, char **argv)
{
	const struct verb *v;

	if (argc == 1) {
		verb_print_all_help(stderr);
		return VERB_USAGE;
	}
	v = verb_find(argv[1]);
	if (v && v->run)
		return verb_run(v, argc - 2, argv + 2);
	if (!v && argv[1][0] != '-' && !looks_like_image(argv[1]))
		return unknown_word(argv[1]);
	return run_vm(argc, argv);
}
