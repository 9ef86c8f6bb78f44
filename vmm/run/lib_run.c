/*
 * vmm/run/lib_run.c - libroost: run state, waiting for the end, reset, rewind.
 *
 * Spec:    include/roost.h.
 * Threads: any, see there.
 * Missing: nothing known.
 */
#include <errno.h>

#include "block/block.h"
#include "block/memcow.h"
#include "vmm/base/util.h"
#include "vmm/run/lib.h"

#define RESET_MS	10000	/* for I/O in flight to come back */

static int start(struct lib_vm *v, void *arg, struct err *e)
{
	return vm_start(v->vm, e);
}

int roost_vm_start(struct roost_vm *vm, struct roost_error *e)
{
	return lib_call(vm, start, NULL, e);
}

int roost_vm_resume(struct roost_vm *vm, struct roost_error *e)
{
	return lib_call(vm, start, NULL, e);
}

static int pause_vm(struct lib_vm *v, void *arg, struct err *e)
{
	vm_stop(v->vm, VM_PAUSED);
	return 0;
}

int roost_vm_pause(struct roost_vm *vm, struct roost_error *e)
{
	return lib_call(vm, pause_vm, NULL, e);
}

static int powerdown(struct lib_vm *v, void *arg, struct err *e)
{
	vm_request(v->vm, VM_REQ_POWERDOWN, VM_CAUSE_HOST_UI);
	return 0;
}

int roost_vm_powerdown(struct roost_vm *vm, struct roost_error *e)
{
	return lib_call(vm, powerdown, NULL, e);
}

const char *roost_vm_state(struct roost_vm *vm)
{
	struct lib_vm *v = lib_get(vm, NULL);
	const char *word;

	if (!v)
		return "";
	word = vm_state_name((enum vm_state)atomic_load(&v->vm->state));
	lib_put(v);
	return word;
}

/* ---- the end ---- */

static int wait_end(struct lib_vm *v, int timeout_ms, struct roost_exit *out,
		    struct roost_error *e)
{
	uint64_t deadline = lib_deadline(timeout_ms);
	bool more = timeout_ms != 0, ended;

	pthread_mutex_lock(&v->lock);
	while (!(ended = atomic_load(&v->ended)) && more && !atomic_load(&v->closing))
		more = lib_cond_wait(&v->cond, &v->lock, deadline);
	if (ended && out)
		*out = v->exit;
	pthread_mutex_unlock(&v->lock);
	if (ended)
		return 0;
	if (atomic_load(&v->closing))
		return lib_fail(e, -ESHUTDOWN, "the VM is being destroyed");
	return lib_fail(e, -ETIMEDOUT, "the VM has not ended within %d ms; it is in state '%s'",
			timeout_ms, vm_state_name((enum vm_state)atomic_load(&v->vm->state)));
}

int roost_vm_wait(struct roost_vm *vm, int timeout_ms, struct roost_exit *out,
		  struct roost_error *e)
{
	struct lib_vm *v = lib_get(vm, e);
	int r;

	if (!v)
		return vm ? -ESTALE : -EINVAL;
	r = lib_not_in_callback(v, "roost_vm_wait()", e);
	if (r == 0)
		r = wait_end(v, timeout_ms, out, e);
	lib_put(v);
	return r;
}

/* ---- reset ---- */

struct reset {
	uint64_t resets, ends;		/* before it */
};

static int reset(struct lib_vm *v, void *arg, struct err *e)
{
	struct reset *before = arg;

	pthread_mutex_lock(&v->lock);
	*before = (struct reset){ v->resets, v->ends };
	pthread_mutex_unlock(&v->lock);
	vm_request(v->vm, VM_REQ_RESET, VM_CAUSE_HOST_QMP_RESET);
	return 0;
}

static int reset_done(struct lib_vm *v, const struct reset *before, struct roost_error *e)
{
	uint64_t deadline = lib_deadline(RESET_MS);
	bool more = true, done, ended;

	pthread_mutex_lock(&v->lock);
	for (;;) {
		done = v->resets != before->resets;
		ended = v->ends != before->ends;
		if (done || ended || !more || atomic_load(&v->closing))
			break;
		more = lib_cond_wait(&v->cond, &v->lock, deadline);
	}
	pthread_mutex_unlock(&v->lock);
	if (done)
		return 0;
	if (ended)
		return lib_fail(e, -ESHUTDOWN, "the reset ended the VM; leave -no-reboot out to "
				"reset it");
	if (atomic_load(&v->closing))
		return lib_fail(e, -ESHUTDOWN, "the VM is being destroyed");
	return lib_fail(e, -ETIMEDOUT, "the reset is not done after %d ms: I/O in flight does not "
			"come back", RESET_MS);
}

static int reset_on(struct lib_vm *v, struct roost_error *e)
{
	struct reset before;
	int r = lib_call_on(v, reset, &before, e);

	return r || loop_is_current(v->loop) ? r : reset_done(v, &before, e);
}

int roost_vm_reset(struct roost_vm *vm, struct roost_error *e)
{
	struct lib_vm *v = lib_get(vm, e);
	int r;

	if (!v)
		return vm ? -ESTALE : -EINVAL;
	r = reset_on(v, e);
	lib_put(v);
	return r;
}

/* ---- rewind ---- */

static void forget_writes(struct block_node *n, void *arg)
{
	block_memcow_reset(n, NULL);
}

static int rewind_parts(struct lib_vm *v, void *arg, struct err *e)
{
	block_node_each(v->vm->blocks, forget_writes, NULL);
	lib_ports_drop(v);
	return 0;
}

int roost_vm_rewind(struct roost_vm *vm, struct roost_error *e)
{
	struct lib_vm *v = lib_get(vm, e);
	int r;

	if (!v)
		return vm ? -ESTALE : -EINVAL;
	r = lib_not_in_callback(v, "roost_vm_rewind()", e);
	if (r == 0)
		r = lib_call_on(v, pause_vm, NULL, e);
	if (r == 0)
		r = reset_on(v, e);
	if (r == 0)
		r = lib_call_on(v, rewind_parts, NULL, e);
	lib_put(v);
	return r;
}
