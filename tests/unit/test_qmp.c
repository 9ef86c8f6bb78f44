/*
 * tests/unit/test_qmp.c - QMP requests, sessions over a socket, hostile input.
 * The VM has no KVM and no devices.
 */
#include <criterion/criterion.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include "vmm/base/json.h"
#include "vmm/base/util.h"
#include "vmm/char/char.h"
#include "vmm/control/qmp.h"
#include "vmm/core/vm.h"

#define TURNS 2000	/* each waits at most a millisecond */

struct rig {
	struct loop *loop;
	struct vm *vm;
	struct qmp *qmp;
	struct char_set *chars;
	char path[64];
	int fd;
	char out[256 * 1024];
	size_t len;
};

static struct rig *rig_open(void)
{
	static unsigned int serial;
	struct rig *r = xcalloc(1, sizeof(*r));
	struct err e = ERR_INIT;

	cr_assert_eq(loop_create(&r->loop, "main", LOOP_AIO_AUTO, &e), 0, "%s", e.text);
	r->vm = vm_create(r->loop);
	r->chars = char_set_create(r->loop);
	r->qmp = qmp_create(r->vm);
	r->fd = -1;
	snprintf(r->path, sizeof(r->path), "/tmp/roost-qmp-%d-%u", getpid(), serial++);
	return r;
}

static void rig_close(struct rig *r)
{
	fd_close(&r->fd);
	qmp_destroy(r->qmp);
	vm_destroy(r->vm);
	char_set_destroy(r->chars);
	loop_destroy(r->loop);
	unlink(r->path);
	free(r);
}

static void rig_connect(struct rig *r)
{
	struct sockaddr_un sa = { .sun_family = AF_UNIX };
	struct err e = ERR_INIT;
	struct chardev *c;
	char spec[128];

	snprintf(spec, sizeof(spec), "unix:%s,server=on,wait=off", r->path);
	cr_assert_eq(char_add_legacy(r->chars, spec, "mon0", &c, &e), 0, "%s", e.text);
	cr_assert_eq(qmp_serve(r->qmp, c, &e), 0, "%s", e.text);
	r->fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
	snprintf(sa.sun_path, sizeof(sa.sun_path), "%s", r->path);
	cr_assert_eq(connect(r->fd, (struct sockaddr *)&sa, sizeof(sa)), 0);
}

/* Turn the loop until @want has been received, or give up. */
static bool rig_expect(struct rig *r, const char *want)
{
	ssize_t n;

	for (int i = 0; i < TURNS; i++) {
		loop_turn(r->loop, NS_PER_MS);
		n = recv(r->fd, r->out + r->len, sizeof(r->out) - 1 - r->len, MSG_DONTWAIT);
		if (n > 0)
			r->len += (size_t)n;
		r->out[r->len] = '\0';
		if (strstr(r->out, want))
			return true;
	}
	return false;
}

static void rig_say(struct rig *r, const char *text)
{
	r->len = 0;
	cr_assert_eq(send(r->fd, text, strlen(text), 0), (ssize_t)strlen(text));
}

static json_t *ask(struct rig *r, const char *text)
{
	json_t *req = json_loads(text, JSON_DECODE_ANY, NULL), *reply;

	reply = qmp_execute(r->qmp, req);
	json_decref(req);
	return reply;
}

Test(qmp, test_qmp_execute_returns_state_and_echoes_id)
{
	struct rig *r = rig_open();
	json_t *reply = ask(r, "{\"execute\":\"query-status\",\"id\":[1]}");
	json_t *ret = json_object_get(reply, "return");

	cr_assert_str_eq(json_str(ret, "status", ""), "prelaunch");
	cr_assert(json_is_false(json_object_get(ret, "running")));
	cr_assert(json_is_array(json_object_get(reply, "id")));
	json_decref(reply);
	rig_close(r);
}

Test(qmp, test_qmp_bad_requests_get_the_right_class)
{
	static const struct { const char *text, *class; } bad[] = {
		{ "{\"execute\":\"no-such\"}", "CommandNotFound" },
		{ "{\"execute\":7}", "GenericError" },
		{ "{}", "GenericError" },
		{ "[]", "GenericError" },
		{ "{\"execute\":\"stop\",\"arguments\":[]}", "GenericError" },
		{ "{\"execute\":\"stop\",\"arguments\":{\"x\":1}}", "GenericError" },
		{ "{\"execute\":\"stop\",\"bogus\":1}", "GenericError" },
	};
	struct rig *r = rig_open();

	for (size_t i = 0; i < ARRAY_LEN(bad); i++) {
		json_t *reply = ask(r, bad[i].text);

		cr_assert_str_eq(json_str(json_object_get(reply, "error"), "class", ""),
				 bad[i].class, "%s", bad[i].text);
		json_decref(reply);
	}
	rig_close(r);
}

Test(qmp, test_qmp_session_greets_negotiates_and_ends_lines_with_crlf)
{
	struct rig *r = rig_open();

	rig_connect(r);
	cr_assert(rig_expect(r, "\"capabilities\":[\"oob\"]}}\r\n"), "got: %s", r->out);
	cr_assert(strstr(r->out, "\"major\":8"));
	rig_say(r, "{\"execute\":\"query-status\"}");
	cr_assert(rig_expect(r, "Expecting capabilities negotiation"));
	rig_say(r, "{\"execute\":\"qmp_capabilities\"}\n");
	cr_assert(rig_expect(r, "{\"return\":{}}\r\n"));
	rig_say(r, "{\"execute\":\"query-version\"}{\"execute\":\"query-status\"}");
	cr_assert(rig_expect(r, "prelaunch"));
	cr_assert(strstr(r->out, "roost "));
	rig_close(r);
}

Test(qmp, test_qmp_events_reach_negotiated_sessions_only)
{
	struct rig *r = rig_open();

	rig_connect(r);
	cr_assert(rig_expect(r, "QMP"));
	vm_event(r->vm, "STOP", NULL);
	rig_say(r, "{\"execute\":\"qmp_capabilities\"}");
	cr_assert(rig_expect(r, "{\"return\":{}}"));
	cr_assert_null(strstr(r->out, "STOP"));
	vm_event(r->vm, "RESUME", NULL);
	cr_assert(rig_expect(r, "\"event\":\"RESUME\"}\r\n"));
	cr_assert(strstr(r->out, "\"microseconds\":"));
	rig_close(r);
}

Test(qmp, test_qmp_rubbish_is_answered_and_survived)
{
	static const char *const rubbish[] = {
		"hello\n", "}\n", "{\"a\":}", "{\"execute\"\n:}", "\"unfinished } \n\"\n", "[[[]]]",
	};
	struct rig *r = rig_open();

	rig_connect(r);
	cr_assert(rig_expect(r, "QMP"));
	rig_say(r, "{\"execute\":\"qmp_capabilities\"}");
	cr_assert(rig_expect(r, "return"));
	for (size_t i = 0; i < ARRAY_LEN(rubbish); i++) {
		rig_say(r, rubbish[i]);
		cr_assert(rig_expect(r, "\"error\""), "%s", rubbish[i]);
	}
	rig_say(r, "{\"execute\":\"query-status\"}");
	cr_assert(rig_expect(r, "prelaunch"));
	rig_close(r);
}

Test(qmp, test_qmp_endless_request_is_refused_in_bounded_memory)
{
	struct rig *r = rig_open();
	char junk[4096];

	rig_connect(r);
	cr_assert(rig_expect(r, "QMP"));
	rig_say(r, "{\"execute\":\"qmp_capabilities\"}");
	cr_assert(rig_expect(r, "return"));
	memset(junk, 'x', sizeof(junk));
	rig_say(r, "{\"execute\":\"");
	for (int i = 0; i < 100; i++) {
		cr_assert_eq(send(r->fd, junk, sizeof(junk), 0), (ssize_t)sizeof(junk));
		for (int t = 0; t < 3; t++)
			loop_turn(r->loop, 0);
	}
	rig_say(r, "\"}");
	cr_assert(rig_expect(r, "QMP request exceeds"));
	rig_say(r, "{\"execute\":\"query-status\"}");
	cr_assert(rig_expect(r, "prelaunch"));
	rig_close(r);
}

Test(qmp, test_qmp_client_that_never_reads_costs_bounded_memory)
{
	struct rig *r = rig_open();

	rig_connect(r);
	cr_assert(rig_expect(r, "QMP"));
	rig_say(r, "{\"execute\":\"qmp_capabilities\"}");
	cr_assert(rig_expect(r, "return"));
	for (int i = 0; i < 20000; i++) {
		vm_event(r->vm, "STOP", NULL);
		loop_turn(r->loop, 0);
	}
	/* What it did not read is dropped; it is still served. */
	cr_assert(rig_expect(r, "STOP"));
	rig_close(r);
}

Test(qmp, test_qmp_schema_describes_itself_and_every_command)
{
	struct rig *r = rig_open();
	struct err e = ERR_INIT;
	json_t *reply = ask(r, "{\"execute\":\"query-commands\"}"), *c;
	size_t i;

	cr_expect_eq(qmp_schema_check(r->qmp, "[SchemaInfo]", qmp_schema(r->qmp), "schema", &e),
		     0, "%s", e.text);
	json_array_foreach(json_object_get(reply, "return"), i, c) {
		bool found = false;
		json_t *s;
		size_t k;

		json_array_foreach(qmp_schema(r->qmp), k, s)
			found |= !strcmp(json_str(s, "name", ""), json_str(c, "name", "?")) &&
				 !strcmp(json_str(s, "meta-type", ""), "command");
		cr_expect(found, "%s", json_str(c, "name", "?"));
	}
	json_decref(reply);
	rig_close(r);
}

Test(qmp, test_qmp_out_of_band_needs_the_capability_and_a_command_that_has_it)
{
	struct rig *r = rig_open();

	rig_connect(r);
	cr_assert(rig_expect(r, "QMP"));
	rig_say(r, "{\"execute\":\"qmp_capabilities\",\"arguments\":{\"enable\":[\"bog\"]}}");
	cr_assert(rig_expect(r, "'enable[0]' does not accept value 'bog'"), "%s", r->out);
	rig_say(r, "{\"execute\":\"qmp_capabilities\",\"arguments\":{\"enable\":[\"oob\"]}}");
	cr_assert(rig_expect(r, "{\"return\":{}}"));
	rig_say(r, "{\"exec-oob\":\"stop\",\"id\":1}");
	cr_assert(rig_expect(r, "The command stop does not support OOB\"},\"id\":1}"));
	rig_say(r, "{\"exec-oob\":\"query-status\",\"id\":2}");
	cr_assert(rig_expect(r, "\"status\":\"prelaunch\"},\"id\":2}"));
	rig_close(r);
}

/* The first reply is large and waits; those behind it wait for it. */
Test(qmp, test_qmp_slow_reader_gets_every_large_reply_whole)
{
	static const char ask_schema[] = "{\"execute\":\"query-qmp-schema\"}";
	static const char ask_last[] = "{\"execute\":\"query-status\",\"id\":\"last\"}";
	struct rig *r = rig_open();
	int replies = 0;
	char *at;

	rig_connect(r);
	cr_assert(rig_expect(r, "QMP"));
	rig_say(r, "{\"execute\":\"qmp_capabilities\"}");
	cr_assert(rig_expect(r, "return"));
	r->len = 0;
	for (int i = 0; i < 4; i++)
		cr_assert(send(r->fd, ask_schema, sizeof(ask_schema) - 1, 0) > 0);
	cr_assert(send(r->fd, ask_last, sizeof(ask_last) - 1, 0) > 0);
	for (int i = 0; i < 50; i++)
		loop_turn(r->loop, 0);
	cr_assert(rig_expect(r, "\"id\":\"last\"}\r\n"));
	for (at = r->out; (at = strstr(at, "{\"return\":[{\"name\":\"str\"")); at++)
		replies++;
	cr_expect_eq(replies, 4);
	rig_close(r);
}

Test(qmp, test_qmp_out_of_band_flood_unread_ends_the_session_only)
{
	static const char flood[] = "{\"exec-oob\":\"query-commands\"}";
	struct rig *r = rig_open();
	ssize_t n = 1;
	char buf[4096];

	rig_connect(r);
	cr_assert(rig_expect(r, "QMP"));
	rig_say(r, "{\"execute\":\"qmp_capabilities\",\"arguments\":{\"enable\":[\"oob\"]}}");
	cr_assert(rig_expect(r, "return"));
	for (int i = 0; i < 20000; i++) {
		send(r->fd, flood, sizeof(flood) - 1, MSG_DONTWAIT | MSG_NOSIGNAL);
		loop_turn(r->loop, 0);
	}
	while (n > 0)
		n = recv(r->fd, buf, sizeof(buf), 0);
	cr_expect_eq(n, 0, "the session has ended");
	rig_close(r);
}
