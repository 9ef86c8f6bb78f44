/*
 * vmm/run/lib_vm.c - libroost: handles, creation and end of a VM.
 *
 * Spec:    include/roost.h.
 * Threads: any, see there. A VM's main-loop thread builds it, runs its loop
 *          and takes it down again.
 * Missing: an embedding mode without a thread of its own (loop_pollfd()).
 *
 * A handle is a number that is never used twice, so a stale one is an error and
 * not a wild pointer. The list of living VMs is the only state outside of them.
 */
#include <errno.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "vmm/base/json.h"
#include "vmm/base/log.h"
#include "vmm/base/util.h"
#include "vmm/base/version.h"
#include "vmm/run/build.h"
#include "vmm/run/lib.h"

static pthread_mutex_t registry_lock = PTHREAD_MUTEX_INITIALIZER;
static pthread_cond_t registry_cond = PTHREAD_COND_INITIALIZER;	/* refs fell */
/* registry_lock */
static struct lib_vm *registry;
static uintptr_t last_id;
static bool log_chosen;

/* ---- errors ---- */

static int fill(struct roost_error *e, int r, const char *text)
{
	if (e) {
		e->code = r;
		snprintf(e->text, sizeof(e->text), "%s", text);
	}
	return r;
}

int lib_fail(struct roost_error *e, int r, const char *fmt, ...)
{
	char text[sizeof(e->text)];
	va_list ap;

	va_start(ap, fmt);
	vsnprintf(text, sizeof(text), fmt, ap);
	va_end(ap);
	return fill(e, r, text);
}

int lib_fail_err(struct roost_error *e, int r, const struct err *from)
{
	return fill(e, r, err_is_set(from) ? from->text : strerror(-r));
}

/* ---- time ---- */

uint64_t lib_deadline(int timeout_ms)
{
	return timeout_ms < 0 ? UINT64_MAX : clock_ns() + (uint64_t)timeout_ms * NS_PER_MS;
}

void lib_cond_init(pthread_cond_t *cond)
{
	pthread_condattr_t a;

	pthread_condattr_init(&a);
	pthread_condattr_setclock(&a, CLOCK_MONOTONIC);
	pthread_cond_init(cond, &a);
	pthread_condattr_destroy(&a);
}

bool lib_cond_wait(pthread_cond_t *cond, pthread_mutex_t *lock, uint64_t deadline)
{
	struct timespec ts = { (time_t)(deadline / NS_PER_SEC), (long)(deadline % NS_PER_SEC) };

	if (deadline == UINT64_MAX)
		return pthread_cond_wait(cond, lock) == 0;
	return pthread_cond_timedwait(cond, lock, &ts) != ETIMEDOUT;
}

/* ---- handles ---- */

struct lib_vm *lib_get(struct roost_vm *h, struct roost_error *e)
{
	struct lib_vm *v;

	if (!h) {
		lib_fail(e, -EINVAL, "the VM handle is NULL");
		return NULL;
	}
	pthread_mutex_lock(&registry_lock);
	for (v = registry; v && v->id != (uintptr_t)h; v = v->next)
		;
	if (v)
		v->refs++;
	pthread_mutex_unlock(&registry_lock);
	if (!v)
		lib_fail(e, -ESTALE, "this VM handle was destroyed, or never was one");
	return v;
}

void lib_put(struct lib_vm *v)
{
	pthread_mutex_lock(&registry_lock);
	if (--v->refs == 0)
		pthread_cond_broadcast(&registry_cond);
	pthread_mutex_unlock(&registry_lock);
}

static void enter(struct lib_vm *v)
{
	pthread_mutex_lock(&registry_lock);
	last_id += 16;			/* no pointer to anything, never NULL */
	v->id = last_id | 9;
	v->next = registry;
	registry = v;
	pthread_mutex_unlock(&registry_lock);
}

/* Out of the list, which only one caller can do. */
static struct lib_vm *leave(struct roost_vm *h)
{
	struct lib_vm **at = &registry, *v;

	pthread_mutex_lock(&registry_lock);
	while (*at && (*at)->id != (uintptr_t)h)
		at = &(*at)->next;
	v = *at;
	if (v)
		*at = v->next;
	pthread_mutex_unlock(&registry_lock);
	return v;
}

/* ---- calls ---- */

struct call {
	struct lib_vm *v;
	lib_fn *fn;
	void *arg;
	int r;
	struct err e;
};

static void run_call(void *arg)
{
	struct call *c = arg;

	c->r = c->fn(c->v, c->arg, &c->e);
}

int lib_call_on(struct lib_vm *v, lib_fn *fn, void *arg, struct roost_error *e)
{
	struct call c = { .v = v, .fn = fn, .arg = arg, .e = ERR_INIT };

	loop_call(v->loop, run_call, &c);
	return c.r < 0 ? lib_fail_err(e, c.r, &c.e) : c.r;
}

int lib_call(struct roost_vm *h, lib_fn *fn, void *arg, struct roost_error *e)
{
	struct lib_vm *v = lib_get(h, e);
	int r;

	if (!v)
		return h ? -ESTALE : -EINVAL;
	r = lib_call_on(v, fn, arg, e);
	lib_put(v);
	return r;
}

int lib_not_in_callback(struct lib_vm *v, const char *what, struct roost_error *e)
{
	if (!loop_is_current(v->loop))
		return 0;
	return lib_fail(e, -EDEADLK, "%s waits for the VM, so it cannot be called from one of "
			"the VM's own callbacks; call it from another thread", what);
}

/* ---- the VM's thread ---- */

static void on_exit_vm(struct vm *vm, enum vm_cause cause, void *arg)
{
	struct lib_vm *v = arg;

	pthread_mutex_lock(&v->lock);
	v->exit.status = cause == VM_CAUSE_HOST_ERROR ? EXIT_FAILURE :
		atomic_load(&vm->exit_status);
	snprintf(v->exit.reason, sizeof(v->exit.reason), "%s", vm_cause_name(cause));
	v->ends++;
	atomic_store(&v->ended, true);
	pthread_cond_broadcast(&v->cond);
	pthread_mutex_unlock(&v->lock);
	lib_ports_wake(v);
}

static int build(struct lib_vm *v)
{
	enum loop_aio aio = LOOP_AIO_AUTO;
	int r = build_aio(v->desc, &aio, &v->err);

	if (r == 0)
		r = loop_create(&v->loop, "main", aio, &v->err);
	/* From the first turn on the loop knows whose it is. */
	if (r == 0 && loop_turn(v->loop, 0) < 0)
		r = err_set(&v->err, -EIO, "the event loop does not run");
	if (r == 0)
		r = build_vm(v->loop, v->desc, &v->built, &v->err);
	if (r)
		return r;
	v->vm = built_vm(v->built);
	v->vm->on_exit = on_exit_vm;
	v->vm->on_exit_arg = v;
	lib_events_start(v);
	lib_ports_start(v);
	return 0;
}

static void tear_down(struct lib_vm *v)
{
	if (v->vm) {
		lib_ports_stop(v);
		lib_events_stop(v);
	}
	build_destroy(v->built);
	loop_destroy(v->loop);
}

/* Whoever told the loop to quit may still be waking it. */
static void wait_let_go(struct lib_vm *v)
{
	pthread_mutex_lock(&v->lock);
	while (!v->let_go)
		pthread_cond_wait(&v->cond, &v->lock);
	pthread_mutex_unlock(&v->lock);
}

static void *vm_thread(void *arg)
{
	struct lib_vm *v = arg;
	int r;

	pthread_setname_np(pthread_self(), "roost-main");
	r = build(v);
	pthread_mutex_lock(&v->lock);
	v->result = r;
	v->ready = true;
	pthread_cond_broadcast(&v->cond);
	pthread_mutex_unlock(&v->lock);
	if (r == 0) {
		loop_run(v->loop);
		wait_let_go(v);
	}
	tear_down(v);
	return NULL;
}

static int spawn(struct lib_vm *v, struct roost_error *e)
{
	sigset_t all, old;
	int r;

	sigfillset(&all);	/* inherited: our threads take no signals */
	pthread_sigmask(SIG_SETMASK, &all, &old);
	r = pthread_create(&v->thread, NULL, vm_thread, v);
	pthread_sigmask(SIG_SETMASK, &old, NULL);
	if (r)
		return lib_fail(e, -r, "cannot start the VM's thread: %s", strerror(r));
	pthread_mutex_lock(&v->lock);
	while (!v->ready)
		pthread_cond_wait(&v->cond, &v->lock);
	pthread_mutex_unlock(&v->lock);
	if (v->result) {
		pthread_join(v->thread, NULL);
		return lib_fail_err(e, v->result, &v->err);
	}
	return 0;
}

/* ---- life ---- */

static void drop_message(enum log_level level, const char *line, void *arg)
{
}

static void choose_log(void)
{
	bool chosen;

	pthread_mutex_lock(&registry_lock);
	chosen = log_chosen;
	log_chosen = true;
	pthread_mutex_unlock(&registry_lock);
	if (!chosen)
		log_set_sink(drop_message, NULL);
}

void lib_keep_log(void)
{
	pthread_mutex_lock(&registry_lock);
	log_chosen = true;
	pthread_mutex_unlock(&registry_lock);
}

static struct lib_vm *alloc(json_t *desc)
{
	struct lib_vm *v = xcalloc(1, sizeof(*v));

	v->desc = desc;
	v->event_fd = -1;
	v->err = (struct err)ERR_INIT;
	pthread_mutex_init(&v->lock, NULL);
	lib_cond_init(&v->cond);
	for (int i = 0; i < LIB_PORTS; i++) {
		pthread_mutex_init(&v->port[i].lock, NULL);
		lib_cond_init(&v->port[i].cond);
	}
	return v;
}

static void release(struct lib_vm *v)
{
	lib_events_free(v);
	lib_ports_free(v);
	for (int i = 0; i < LIB_PORTS; i++) {
		pthread_mutex_destroy(&v->port[i].lock);
		pthread_cond_destroy(&v->port[i].cond);
	}
	fd_close(&v->event_fd);
	json_decref(v->desc);
	pthread_mutex_destroy(&v->lock);
	pthread_cond_destroy(&v->cond);
	free(v);
}

static int create(int r, json_t *desc, const struct err *why, struct roost_vm **vm,
		  struct roost_error *e)
{
	struct lib_vm *v;

	if (r)
		return lib_fail_err(e, r, why);
	choose_log();
	v = alloc(desc);
	r = spawn(v, e);
	if (r) {
		release(v);
		return r;
	}
	enter(v);
	*vm = (struct roost_vm *)v->id;
	return 0;
}

int roost_vm_create_argv(int argc, const char *const *argv, struct roost_vm **vm,
			 struct roost_error *e)
{
	struct err err = ERR_INIT;
	json_t *desc = NULL;
	int r;

	if (!vm)
		return lib_fail(e, -EINVAL, "there is no place for the VM's handle");
	*vm = NULL;
	if (argc < 0 || (argc > 0 && !argv))
		return lib_fail(e, -EINVAL, "there are no options (argv is NULL)");
	for (int i = 0; i < argc; i++)
		if (!argv[i])
			return lib_fail(e, -EINVAL, "option %d of %d is NULL", i + 1, argc);
	r = lib_describe(argc, argv, &desc, &err);
	return create(r, desc, &err, vm, e);
}

int roost_vm_create(const char *options, struct roost_vm **vm, struct roost_error *e)
{
	struct err err = ERR_INIT;
	char **argv;
	int argc, r;

	if (vm)
		*vm = NULL;
	if (!options)
		return lib_fail(e, -EINVAL, "there are no options (the text is NULL)");
	argv = lib_split(options, &argc, &err);
	if (!argv)
		return lib_fail_err(e, -EINVAL, &err);
	r = roost_vm_create_argv(argc, (const char *const *)argv, vm, e);
	free(argv);
	return r;
}

int roost_vm_create_json(const char *json, struct roost_vm **vm, struct roost_error *e)
{
	struct err err = ERR_INIT;
	json_t *desc = NULL;
	int r;

	if (!vm)
		return lib_fail(e, -EINVAL, "there is no place for the VM's handle");
	*vm = NULL;
	if (!json)
		return lib_fail(e, -EINVAL, "there is no description (the text is NULL)");
	r = lib_describe_json(json, &desc, &err);
	return create(r, desc, &err, vm, e);
}

/* Waiting calls leave first. */
static void send_away(struct lib_vm *v)
{
	atomic_store(&v->closing, true);
	pthread_mutex_lock(&v->lock);
	pthread_cond_broadcast(&v->cond);
	pthread_mutex_unlock(&v->lock);
	lib_ports_wake(v);
	pthread_mutex_lock(&registry_lock);
	while (v->refs)
		pthread_cond_wait(&registry_cond, &registry_lock);
	pthread_mutex_unlock(&registry_lock);
}

int roost_vm_destroy(struct roost_vm *vm)
{
	struct lib_vm *v;
	int r;

	if (!vm)
		return 0;
	v = lib_get(vm, NULL);
	if (!v)
		return -ESTALE;
	r = lib_not_in_callback(v, "roost_vm_destroy()", NULL);
	lib_put(v);
	if (r)
		return r;
	v = leave(vm);
	if (!v)			/* another thread was faster */
		return -ESTALE;
	send_away(v);
	loop_quit(v->loop);
	pthread_mutex_lock(&v->lock);
	v->let_go = true;
	pthread_cond_broadcast(&v->cond);
	pthread_mutex_unlock(&v->lock);
	pthread_join(v->thread, NULL);
	release(v);
	return 0;
}

/* ---- the library ---- */

const char *roost_version(void)
{
	return ROOST_VERSION;
}

void roost_free(void *p)
{
	free(p);
}

/* The client's log function, under the log's own lock. */
static struct {
	void (*fn)(enum roost_log_level level, const char *line, void *arg);
	void *arg;
} client_log;

static void client_sink(enum log_level level, const char *line, void *arg)
{
	client_log.fn((enum roost_log_level)level, line, client_log.arg);
}

void roost_set_log(void (*fn)(enum roost_log_level level, const char *line, void *arg), void *arg)
{
	static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;

	choose_log();
	pthread_mutex_lock(&lock);
	/* Nobody is in the old one once this returns. */
	log_set_sink(drop_message, NULL);
	if (fn) {
		client_log.fn = fn;
		client_log.arg = arg;
		log_set_sink(client_sink, NULL);
	}
	pthread_mutex_unlock(&lock);
}
