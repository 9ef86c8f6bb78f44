/*
 * vmm/run/verb_power.c - stop, kill, pause, resume and reset.
 * Threads: the only one of the process.
 */
#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "vmm/base/json.h"
#include "vmm/base/util.h"
#include "vmm/run/verb.h"

#define SLICE_MS	200	/* progress is redrawn this often */
#define LEAVE_MS	3000	/* a VM whose guest is off ends well within it */
#define END_MS		15000	/* what slow storage may need on top */
#define QUIT_MS		3000	/* what a disk may need to finish on quit */

/* ---- simple ones ---- */

static char *status_of(struct qmpc *q, struct err *e)
{
	json_t *ret;
	char *s = NULL;

	if (qmpc_run(q, "query-status", NULL, &ret, e) == 0)
		s = xstrdup(json_str(ret, "status", "unknown"));
	json_decref(ret);
	return s;
}

/* One command without arguments, then what state the VM is in. */
static int simple(struct verb_call *c, const char *command, struct err *e)
{
	struct runtime rt = RUNTIME_INIT;
	struct qmpc *q;
	char *state;
	int r = verb_qmp(c, &rt, &q, e);

	if (r)
		return r;
	r = qmpc_run(q, command, NULL, NULL, e);
	if (r == 0) {
		state = status_of(q, NULL);
		printf("%s: %s\n", rt.name, state ? state : "gone");
		free(state);
	}
	if (r == -ETIMEDOUT)
		c->exit = VERB_NO_ANSWER;
	qmpc_close(q);
	runtime_close(&rt);
	return r;
}

int verb_pause(struct verb_call *c, struct err *e)
{
	return simple(c, "stop", e);
}

int verb_resume(struct verb_call *c, struct err *e)
{
	return simple(c, "cont", e);
}

int verb_reset(struct verb_call *c, struct err *e)
{
	return simple(c, "system_reset", e);
}

/* ---- stop ---- */

/* The process lets go of its folder, and with it of its name, last. */
static bool await_end(const struct runtime *rt, int ms)
{
	uint64_t start = clock_ns(), deadline = start + (uint64_t)ms * NS_PER_MS;
	char what[100];

	snprintf(what, sizeof(what), "%s: waiting for it to end", rt->name);
	while (runtime_alive(rt)) {
		if (clock_ns() >= deadline)
			return false;
		verb_progress(what, start);
		usleep(10000);
	}
	return true;
}

/* Until the VM has gone (0), its guest is off but the process stays (1), or the
 * time is over (-ETIMEDOUT). */
static int await_off(struct qmpc *q, const char *name, int timeout_s)
{
	uint64_t start = clock_ns(), deadline = start + (uint64_t)timeout_s * NS_PER_SEC;
	bool off = false;
	char what[100];
	json_t *ev;
	int r;

	snprintf(what, sizeof(what), "%s: waiting for the guest to power off", name);
	for (;;) {
		r = qmpc_event(q, SLICE_MS, &ev, NULL);
		if (r == 0) {
			if (strcmp(json_str(ev, "event", ""), "SHUTDOWN") == 0 && !off) {
				off = true;
				deadline = clock_ns() + LEAVE_MS * NS_PER_MS;
			}
			json_decref(ev);
		} else if (r != -ETIMEDOUT) {
			return 0;
		}
		if (clock_ns() >= deadline)
			return off ? 1 : -ETIMEDOUT;
		verb_progress(what, start);
	}
}

static int press_and_wait(struct verb_call *c, struct qmpc *q, const struct runtime *rt,
			  struct err *e)
{
	const char *name = rt->name;
	int r = qmpc_run(q, "system_powerdown", NULL, NULL, e);
	bool ended;

	if (r)
		return r;
	r = await_off(q, name, (int)c->opts.timeout);
	ended = r || await_end(rt, END_MS);
	verb_progress_end();
	if (r == -ETIMEDOUT)
		return err_set(e, r, "%s did not power off within %u s: its guest may not heed the "
			       "power button; roost kill %s ends it at once", name,
			       c->opts.timeout, name);
	if (!ended)
		return err_set(e, -ETIMEDOUT, "%s: the guest is off, but its process %d does not end: "
			       "its storage may hang; roost kill %s ends it", name, rt->pid, name);
	if (r == 1)
		printf("%s: the guest is off; its process stays (-no-shutdown) until "
		       "roost kill %s\n", name, name);
	else
		printf("%s: off\n", name);
	return 0;
}

int verb_stop(struct verb_call *c, struct err *e)
{
	struct runtime rt = RUNTIME_INIT;
	struct qmpc *q;
	char *state;
	int r = verb_qmp(c, &rt, &q, e);

	if (r)
		return r;
	state = status_of(q, e);
	if (!state)
		r = -ETIMEDOUT;
	else if (strcmp(state, "running"))
		r = err_set(e, -EBUSY, "%s is not running (%s), so its guest cannot answer the "
			    "power button; roost resume %s first, or roost kill %s", rt.name, state,
			    rt.name, rt.name);
	else
		r = press_and_wait(c, q, &rt, e);
	if (r == -ETIMEDOUT)
		c->exit = VERB_NO_ANSWER;
	free(state);
	qmpc_close(q);
	runtime_close(&rt);
	return r;
}

/* ---- kill ---- */

static void ask_to_quit(const struct runtime *rt)
{
	char *path = runtime_path(rt, RUNTIME_QMP);
	struct qmpc *q;

	if (qmpc_open(&q, rt->name, path, QUIT_MS, NULL) == 0)
		qmpc_run(q, "quit", NULL, NULL, NULL);
	qmpc_close(q);
	free(path);
}

/* The descriptor pins the process: if the lock is still held after it was
 * opened, the number has not been given to another. */
static int kill_process(const struct runtime *rt, struct err *e)
{
	int fd = rt->pid > 0 ? (int)syscall(SYS_pidfd_open, rt->pid, 0) : -1, r = 0;

	if (fd >= 0 && runtime_alive(rt))
		r = syscall(SYS_pidfd_send_signal, fd, SIGKILL, NULL, 0) < 0 ? -errno : 0;
	fd_close(&fd);
	if (r == 0 && await_end(rt, QUIT_MS))
		return 0;
	return err_set(e, r ? r : -ETIMEDOUT, "%s: process %d does not end%s%s", rt->name, rt->pid,
		       r ? ": " : "; it may wait for a device of the host",
		       r ? strerror(-r) : "");
}

int verb_kill(struct verb_call *c, struct err *e)
{
	struct runtime rt = RUNTIME_INIT;
	int r = verb_vm(c, &rt, e);

	if (r)
		return r;
	ask_to_quit(&rt);
	if (await_end(&rt, QUIT_MS))
		printf("%s: ended\n", rt.name);
	else
		r = kill_process(&rt, e);
	if (r == 0 && rt.dirfd >= 0)
		runtime_remove(&rt);	/* what a killed process leaves */
	runtime_close(&rt);
	return r;
}
