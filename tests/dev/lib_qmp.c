/*
 * tests/dev/lib_qmp.c - commands to a QMP server in the test's own process, and what
 * it tells of jobs.
 */
#include "tests/dev/lib_qmp.h"

#include <criterion/criterion.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "vmm/base/json.h"
#include "vmm/base/util.h"
#include "vmm/loop/loop.h"

#define AWAIT_NS	(20 * NS_PER_SEC)

static void note(struct vm_listener *l, const char *name, json_t *data)
{
	struct qmp_test *t = container_of(l, struct qmp_test, l);
	size_t used = strlen(t->jobs);
	struct err e = ERR_INIT;
	char type[64];
	bool job = strcmp(name, "JOB_STATUS_CHANGE") == 0;

	if (!job && strncmp(name, "BLOCK_JOB_", 10))
		return;
	snprintf(type, sizeof(type), "q_obj_%s-arg", name);
	cr_expect_eq(qmp_schema_check(t->q, type, data, name, &e), 0, "%s", e.text);
	if (job)
		snprintf(t->jobs + used, sizeof(t->jobs) - used, "%s ",
			 json_str(data, "status", "?"));
	else
		snprintf(t->ended, sizeof(t->ended), "%s %s %s", name,
			 json_str(data, "device", "?"), json_str(data, "error", "no error"));
}

void tq_start(struct qmp_test *t, struct vm *vm)
{
	*t = (struct qmp_test){ .vm = vm, .q = qmp_create(vm), .l = { .event = note } };
	vm_listen(vm, &t->l);
}

void tq_stop(struct qmp_test *t)
{
	vm_unlisten(t->vm, &t->l);
	qmp_destroy(t->q);
}

static json_t *request(const char *cmd, const char *fmt, va_list ap)
{
	char text[2048];
	json_t *args;

	vsnprintf(text, sizeof(text), fmt, ap);
	for (char *p = text; *p; p++)
		if (*p == '\'')
			*p = '"';
	args = json_loads(text, 0, NULL);
	cr_assert_not_null(args, "%s", text);
	return json_pack("{s:s,s:o}", "execute", cmd, "arguments", args);
}

static json_t *run(struct qmp_test *t, const char *cmd, const char *fmt, va_list ap)
{
	json_t *req = request(cmd, fmt, ap), *reply = qmp_execute(t->q, req);

	json_decref(req);
	return reply;
}

void tq_begin(struct qmp_test *t, const char *cmd, const char *args, ...)
{
	json_t *req;
	va_list ap;

	va_start(ap, args);
	req = request(cmd, args, ap);
	va_end(ap);
	qmp_execute_async(t->q, req, NULL, NULL);
	json_decref(req);
}

static json_t *value(struct qmp_test *t, const char *cmd, const char *fmt, va_list ap)
{
	json_t *reply = run(t, cmd, fmt, ap), *val = json_incref(json_object_get(reply, "return"));

	cr_assert_not_null(val, "%s: %s", cmd, json_str(json_object_get(reply, "error"), "desc", ""));
	json_decref(reply);
	return val;
}

json_t *tq_ask(struct qmp_test *t, const char *cmd, const char *type, const char *args, ...)
{
	struct err e = ERR_INIT;
	json_t *val;
	va_list ap;

	va_start(ap, args);
	val = value(t, cmd, args, ap);
	va_end(ap);
	if (type)
		cr_assert_eq(qmp_schema_check(t->q, type, val, cmd, &e), 0, "%s", e.text);
	return val;
}

void tq_ok(struct qmp_test *t, const char *cmd, const char *args, ...)
{
	va_list ap;

	va_start(ap, args);
	json_decref(value(t, cmd, args, ap));
	va_end(ap);
}

void tq_fails(struct qmp_test *t, const char *with, const char *cmd, const char *args, ...)
{
	const char *desc;
	json_t *reply;
	va_list ap;

	va_start(ap, args);
	reply = run(t, cmd, args, ap);
	va_end(ap);
	desc = json_str(json_object_get(reply, "error"), "desc", "(it worked)");
	cr_expect(strstr(desc, with), "%s: %s", cmd, desc);
	json_decref(reply);
}

void tq_await(struct qmp_test *t, const char *word)
{
	uint64_t end = clock_ns() + AWAIT_NS;

	while (!strstr(t->jobs, word) && clock_ns() < end)
		loop_turn(t->vm->main, NS_PER_MS);
	cr_assert(strstr(t->jobs, word), "'%s' never comes: %s", word, t->jobs);
}

const char *tq_job_status(struct qmp_test *t)
{
	json_t *list = tq_ask(t, "query-block-jobs", "[BlockJobInfo]", "{}");
	static char word[32];

	cr_assert_eq(json_array_size(list), 1);
	snprintf(word, sizeof(word), "%s", json_str(json_array_get(list, 0), "status", "?"));
	json_decref(list);
	return word;
}
