/*
 * vmm/control/dispatch.c - from a request to a reply: find the command, check
 * its arguments, run it, answer now or later.
 *
 * Threads: main loop.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "vmm/base/json.h"
#include "vmm/base/util.h"
#include "vmm/base/version.h"
#include "vmm/control/qmp_priv.h"

json_t *qmp_version(void)
{
	return json_pack("{s:{s:i,s:i,s:i},s:s}", "qemu", "major", QMP_QEMU_MAJOR,
			 "minor", QMP_QEMU_MINOR, "micro", QMP_QEMU_MICRO,
			 "package", "roost " ROOST_VERSION);
}

const struct qmp_cmd *qmp_find_cmd(const char *name)
{
	const struct qmp_table *const *t;
	const struct qmp_cmd *c;

	for (t = qmp_tables; *t; t++)
		for (c = (*t)->cmds; c && c->name; c++)
			if (strcmp(c->name, name) == 0)
				return c;
	return NULL;
}

static json_t *with_id(json_t *reply, const json_t *id)
{
	if (id)
		json_object_set(reply, "id", (json_t *)(uintptr_t)id);
	return reply;
}

json_t *qmp_error_reply(const struct err *e, const json_t *id)
{
	json_t *desc = json_string(e->text);

	/* A client's bytes in the sentence may have been cut inside a character. */
	if (!desc)
		desc = json_string("the request holds text that is not UTF-8");
	return with_id(json_pack("{s:{s:s,s:o}}", "error", "class", err_class_name(e->class),
				 "desc", desc), id);
}

/* ---- checks ---- */

/* Members of a request other than the known ones are an error. */
static int check_members(const json_t *req, struct err *e)
{
	static const char *const known[] = { "execute", "exec-oob", "arguments", "id" };
	const char *key;
	json_t *val;
	size_t i;

	json_object_foreach((json_t *)(uintptr_t)req, key, val) {
		for (i = 0; i < ARRAY_LEN(known) && strcmp(key, known[i]); i++)
			;
		if (i == ARRAY_LEN(known))
			return err_set(e, -EINVAL, "QMP input member '%.80s' is unexpected", key);
	}
	return 0;
}

bool qmp_is_oob(const json_t *req)
{
	return json_object_get(req, "exec-oob") != NULL;
}

static int check_request(const json_t *req, const char **name, struct err *e)
{
	const char *word = qmp_is_oob(req) ? "exec-oob" : "execute";
	json_t *args = json_object_get(req, "arguments");
	int r;

	if (!json_is_object(req))
		return err_set(e, -EINVAL, "QMP input must be a JSON object");
	r = check_members(req, e);
	if (r)
		return r;
	if (json_object_get(req, "exec-oob") && json_object_get(req, "execute"))
		return err_set(e, -EINVAL, "QMP input member 'exec-oob' clashes with 'execute'");
	if (!json_object_get(req, word))
		return err_set(e, -EINVAL, "QMP input lacks member 'execute'");
	*name = json_str(req, word, NULL);
	if (!*name)
		return err_set(e, -EINVAL, "QMP input member '%s' must be a string", word);
	if (args && !json_is_object(args))
		return err_set(e, -EINVAL, "QMP input member 'arguments' must be an object");
	return 0;
}

/* ---- run ---- */

static int run_with_struct(struct qmp *q, const struct qmp_cmd *c, const json_t *args,
			   json_t **ret, struct err *e)
{
	static const struct prop none[] = { PROP_END };
	const struct prop *const tables[] = { c->args ? c->args : none, NULL };
	void *a = xcalloc(1, MAX(c->args_size, (size_t)1));
	int r;

	prop_defaults(tables, a);
	r = prop_apply(tables, a, args, NULL, c->name, e);
	if (r == 0)
		r = c->run(q, a, ret, e);
	prop_free(tables, a);
	free(a);
	return r;
}

static int run_cmd(struct qmp *q, const struct qmp_cmd *c, const json_t *given,
		   json_t **ret, struct err *e)
{
	json_t *args = given ? json_incref((json_t *)(uintptr_t)given) : json_object();
	int r = qmp_schema_check_args(q, c, args, e);

	if (r == 0 && c->arg_type)
		r = c->run(q, args, ret, e);
	else if (r == 0)
		r = run_with_struct(q, c, args, ret, e);
	json_decref(args);
	return r;
}

static int execute(struct qmp *q, const json_t *req, json_t **ret, struct err *e)
{
	const struct qmp_cmd *c;
	const char *name = "";
	int r = check_request(req, &name, e);

	if (r)
		return r;
	c = qmp_find_cmd(name);
	if (!c)
		return err_class(e, ERR_COMMAND_NOT_FOUND, -ENOENT,
				 "The command %.80s has not been found", name);
	if (qmp_is_oob(req) && !(c->flags & QMP_OOB))
		return err_set(e, -EINVAL, "The command %s does not support OOB", name);
	return run_cmd(q, c, json_object_get(req, "arguments"), ret, e);
}

/* ---- calls ---- */

static void answer(struct qmp_call *c, json_t *ret, const struct err *e)
{
	json_t *reply;

	if (err_is_set(e)) {
		json_decref(ret);
		reply = qmp_error_reply(e, c->id);
	} else {
		reply = with_id(json_pack("{s:o}", "return", ret ? ret : json_object()), c->id);
	}
	if (c->done)
		c->done(c->arg, reply);
	json_decref(reply);
}

static void call_free(struct qmp_call *c)
{
	json_decref(c->id);
	free(c);
}

void qmp_run(struct qmp *q, struct session *s, const json_t *req,
	     void (*done)(void *arg, json_t *reply), void *arg)
{
	struct qmp_call *c = xcalloc(1, sizeof(*c)), *outer = q->current;
	struct err e = ERR_INIT;
	json_t *ret = NULL;
	int r;

	*c = (struct qmp_call){ .q = q, .session = s, .done = done, .arg = arg,
				.id = json_incref(json_object_get(req, "id")),
				.oob = qmp_is_oob(req), .running = true };
	q->current = c;
	r = execute(q, req, &ret, &e);
	q->current = outer;
	c->running = false;
	if (r < 0 && !err_is_set(&e))
		err_sys(&e, r, "the command failed");
	if (r >= 0 && c->deferred)
		return;
	if (!c->completed)
		answer(c, ret, &e);
	call_free(c);
}

struct qmp_call *qmp_defer(struct qmp *q)
{
	struct qmp_call *c = q->current;

	c->deferred = true;
	c->next = q->calls;
	q->calls = c;
	return c;
}

void qmp_complete(struct qmp_call *c, json_t *ret, const struct err *e)
{
	struct qmp_call **at;

	if (c->q) {
		for (at = &c->q->calls; *at != c; at = &(*at)->next)
			;
		*at = c->next;
		answer(c, ret, e);
	} else {
		json_decref(ret);
	}
	c->deferred = false;
	c->completed = true;
	if (!c->running)
		call_free(c);
}

void qmp_forget_session(struct qmp *q, struct session *s)
{
	struct qmp_call *c;

	for (c = q->calls; c; c = c->next) {
		if (c->session != s)
			continue;
		c->session = NULL;
		c->done = NULL;
	}
	if (q->current && q->current->session == s) {
		q->current->session = NULL;
		q->current->done = NULL;
	}
}

/* ---- in process ---- */

void qmp_execute_async(struct qmp *q, const json_t *req,
		       void (*done)(void *arg, json_t *reply), void *arg)
{
	qmp_run(q, NULL, req, done, arg);
}

static void keep_reply(void *arg, json_t *reply)
{
	*(json_t **)arg = json_incref(reply);
}

json_t *qmp_execute(struct qmp *q, const json_t *req)
{
	json_t *reply = NULL;

	qmp_run(q, NULL, req, keep_reply, &reply);
	while (!reply && loop_turn(q->vm->main, UINT64_MAX) >= 0)
		;
	return reply;
}

/* ---- life ---- */

static void on_vm_event(struct vm_listener *l, const char *name, json_t *data)
{
	session_event_all(container_of(l, struct qmp, listener), name, data);
}

struct qmp *qmp_create(struct vm *vm)
{
	struct qmp *q = xcalloc(1, sizeof(*q));
	const struct qmp_table *const *t;

	q->vm = vm;
	q->listener.event = on_vm_event;
	vm_listen(vm, &q->listener);
	for (t = qmp_tables; *t; t++)
		if ((*t)->init)
			(*t)->init(q);
	return q;
}

struct vm *qmp_vm(struct qmp *q)
{
	return q->vm;
}

void **qmp_state(struct qmp *q, const struct qmp_table *t)
{
	size_t i = 0;

	while (qmp_tables[i] != t)
		i++;
	return &q->state[i];
}

void qmp_destroy(struct qmp *q)
{
	const struct qmp_table *const *t;
	struct qmp_call *c;

	if (!q)
		return;
	vm_unlisten(q->vm, &q->listener);
	session_destroy_all(q);
	/* First: what a table gives up below is answered to nobody. */
	for (c = q->calls; c; c = c->next)
		c->q = NULL;
	for (t = qmp_tables; *t; t++)
		if ((*t)->fini)
			(*t)->fini(q);
	json_decref(q->schema);
	json_decref(q->schema_index);
	free(q);
}
