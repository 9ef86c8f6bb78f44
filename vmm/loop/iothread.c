/*
 * vmm/loop/iothread.c - a thread that runs a loop (-object iothread).
 * Threads: created and destroyed on the main loop.
 * Missing: thread-pool-min and -max: the pool is small and grows on demand.
 */
#include <errno.h>
#include <semaphore.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include "vmm/base/thread.h"
#include "vmm/base/util.h"
#include "vmm/loop/iothread.h"
#include "vmm/loop/loop_priv.h"

struct iothread {
	char *id;
	struct loop *loop;
	pthread_t thread;
	bool has_thread;
	_Atomic pid_t tid;
	sem_t up;		/* tid is known */
	/* properties */
	uint64_t poll_max_ns, poll_grow, poll_shrink;
};

/*
 * Spinning is off by default, where QEMU spins for 32 us: kick and completion
 * arrive in the same wait here, so a spin saves no system call, only the
 * wake-up of a sleeping thread, and it costs a host CPU that on a full host a
 * vCPU would use. Whoever has CPUs to spare sets poll-max-ns.
 */
const struct prop iothread_props[] = {
	PROP_U64(struct iothread, poll_max_ns, "poll-max-ns", 0, 1000000000, 0,
		 "longest busy wait before sleeping, 0 for none",
		 .unit = "ns", .flags = PROP_RUNTIME),
	PROP_U64(struct iothread, poll_grow, "poll-grow", 0, 1000, 0,
		 "factor by which a busy wait that fell short grows, 0 for 2",
		 .flags = PROP_RUNTIME),
	PROP_U64(struct iothread, poll_shrink, "poll-shrink", 0, 1000, 0,
		 "divisor of a busy wait that was in vain, 0 to start over",
		 .flags = PROP_RUNTIME),
	PROP_END
};

static void *iothread_main(void *arg)
{
	struct iothread *t = arg;

	atomic_store(&t->tid, gettid());
	loop_turn(t->loop, 0);	/* own it before anybody else touches it */
	sem_post(&t->up);
	loop_run(t->loop);
	loop_turn(t->loop, 0);	/* whoever posted before the end is served */
	loop_disown(t->loop);
	return NULL;
}

static int iothread_spawn(struct iothread *t, struct err *e)
{
	char name[16];
	int r;

	snprintf(name, sizeof(name), "IO %.12s", t->id);
	r = thread_start(&t->thread, name, iothread_main, t);
	if (r)
		return err_sys(e, r, "iothread '%s': cannot start a thread", t->id);
	t->has_thread = true;
	while (sem_wait(&t->up) < 0)
		;
	return 0;
}

static void apply(void *arg)
{
	struct iothread *t = arg;

	loop_set_poll(t->loop, t->poll_max_ns, t->poll_grow, t->poll_shrink);
}

void iothread_apply(struct iothread *t)
{
	loop_call(t->loop, apply, t);
}

int iothread_create(struct iothread **out, const char *id, const json_t *args,
		    enum loop_aio aio, struct err *e)
{
	static const char *const skip[] = { "id", "qom-type", NULL };
	const struct prop *const tables[] = { iothread_props, NULL };
	struct iothread *t = xcalloc(1, sizeof(*t));
	char what[64];
	int r = 0;

	t->id = xstrdup(id);
	sem_init(&t->up, 0, 0);
	snprintf(what, sizeof(what), "iothread '%.48s'", id);
	prop_defaults(tables, t);
	if (args)
		r = prop_apply(tables, t, args, skip, what, e);
	if (r >= 0)
		r = loop_create(&t->loop, id, aio, e);
	if (r >= 0) {
		loop_set_poll(t->loop, t->poll_max_ns, t->poll_grow, t->poll_shrink);
		r = iothread_spawn(t, e);
	}
	if (r < 0) {
		iothread_destroy(t);
		return r;
	}
	*out = t;
	return 0;
}

void iothread_destroy(struct iothread *t)
{
	if (!t)
		return;
	if (t->has_thread) {
		loop_quit(t->loop);
		pthread_join(t->thread, NULL);
	}
	loop_destroy(t->loop);
	sem_destroy(&t->up);
	free(t->id);
	free(t);
}

struct loop *iothread_loop(struct iothread *t)
{
	return t->loop;
}

pid_t iothread_tid(const struct iothread *t)
{
	return atomic_load(&t->tid);
}

const char *iothread_id(const struct iothread *t)
{
	return t->id;
}

json_t *iothread_info(const struct iothread *t)
{
	return json_pack("{s:s,s:i,s:I,s:I,s:I}", "id", t->id, "thread-id", iothread_tid(t),
			 "poll-max-ns", (json_int_t)t->poll_max_ns, "poll-grow",
			 (json_int_t)t->poll_grow, "poll-shrink", (json_int_t)t->poll_shrink);
}
