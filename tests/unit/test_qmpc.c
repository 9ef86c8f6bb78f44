/*
 * tests/unit/test_qmpc.c - the verbs' QMP client against good and bad servers.
 * TSAN: the server is a thread here.
 */
#include <criterion/criterion.h>
#include <errno.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include "vmm/base/util.h"
#include "vmm/run/qmpc.h"

#define GREETING "{\"QMP\":{\"version\":{},\"capabilities\":[]}}\r\n"
#define TIMEOUT_MS 200

/* A server that plays a script: one line of it after each line received; the
 * first at once. "*" repeats the line before for ever. */
struct server {
	char path[64];
	int listen;
	const char *const *script;
	pthread_t thread;
};

static void say(int fd, const char *text, bool forever)
{
	do {
		if (send(fd, text, strlen(text), MSG_NOSIGNAL) < 0)
			return;
	} while (forever);
}

static bool take_line(int fd)
{
	char c = 0;

	while (c != '\n')
		if (recv(fd, &c, 1, 0) != 1)
			return false;
	return true;
}

static void *serve(void *arg)
{
	struct server *s = arg;
	int fd = accept(s->listen, NULL, NULL);

	for (int i = 0; s->script[i]; i++) {
		if (i && strcmp(s->script[i], "*") && !take_line(fd))
			break;
		if (strcmp(s->script[i], "*") == 0)
			say(fd, s->script[i - 1], true);
		else if (strcmp(s->script[i], "close") == 0)
			shutdown(fd, SHUT_RDWR);
		else
			say(fd, s->script[i], false);
	}
	while (take_line(fd))
		;
	close(fd);
	return NULL;
}

static void server_start(struct server *s, const char *const *script)
{
	struct sockaddr_un a = { .sun_family = AF_UNIX };

	snprintf(s->path, sizeof(s->path), "/tmp/test-qmpc-%d.sock", getpid());
	snprintf(a.sun_path, sizeof(a.sun_path), "%s", s->path);
	unlink(s->path);
	s->listen = socket(AF_UNIX, SOCK_STREAM, 0);
	cr_assert_eq(bind(s->listen, (struct sockaddr *)&a, sizeof(a)), 0);
	cr_assert_eq(listen(s->listen, 1), 0);
	s->script = script;
	cr_assert_eq(pthread_create(&s->thread, NULL, serve, s), 0);
}

static void server_end(struct server *s)
{
	pthread_join(s->thread, NULL);
	close(s->listen);
	unlink(s->path);
}

Test(qmpc, test_command_returns_and_events_are_kept)
{
	static const char *const script[] = {
		GREETING, "{\"return\":{}}\r\n",
		"{\"event\":\"STOP\"}\r\n{\"return\":{\"status\":\"paused\"}}\r\n", NULL
	};
	struct err e = ERR_INIT;
	struct server s;
	struct qmpc *c;
	json_t *ret, *ev;

	server_start(&s, script);
	cr_assert_eq(qmpc_open(&c, "web", s.path, TIMEOUT_MS, &e), 0, "%s", e.text);
	cr_assert_eq(qmpc_run(c, "query-status", NULL, &ret, &e), 0, "%s", e.text);
	cr_expect_str_eq(json_string_value(json_object_get(ret, "status")), "paused");
	cr_assert_eq(qmpc_event(c, 0, &ev, &e), 0);
	cr_expect_str_eq(json_string_value(json_object_get(ev, "event")), "STOP");
	cr_expect_eq(qmpc_event(c, 10, &(json_t *){ NULL }, &e), -ETIMEDOUT);
	json_decref(ev);
	json_decref(ret);
	qmpc_close(c);
	server_end(&s);
}

Test(qmpc, test_error_reply_keeps_text_and_class)
{
	static const char *const script[] = {
		GREETING, "{\"return\":{}}\r\n",
		"{\"error\":{\"class\":\"DeviceNotFound\",\"desc\":\"no d0\"}}\r\n", NULL
	};
	struct err e = ERR_INIT;
	struct server s;
	struct qmpc *c;

	server_start(&s, script);
	cr_assert_eq(qmpc_open(&c, "web", s.path, TIMEOUT_MS, &e), 0);
	cr_expect_eq(qmpc_run(c, "device_del", json_pack("{s:s}", "id", "d0"), NULL, &e),
		     -EREMOTEIO);
	cr_expect_str_eq(e.text, "no d0");
	cr_expect_eq(e.class, ERR_DEVICE_NOT_FOUND);
	qmpc_close(c);
	server_end(&s);
}

/* What each bad server leads to; the time is bounded either way. */
static void expect_failure(const char *const *script, int want, const char *words)
{
	struct err e = ERR_INIT;
	uint64_t start = clock_ns();
	struct server s;
	struct qmpc *c;

	server_start(&s, script);
	cr_expect_eq(qmpc_open(&c, "web", s.path, TIMEOUT_MS, &e), want, "%s", e.text);
	cr_expect(strstr(e.text, words), "%s", e.text);
	cr_expect_null(c);
	server_end(&s);
	cr_expect_lt(clock_ns() - start, 5 * NS_PER_SEC);
}

Test(qmpc, test_silent_server_times_out)
{
	expect_failure((const char *const[]){ "", NULL }, -ETIMEDOUT, "does not answer");
}

Test(qmpc, test_garbage_is_no_qmp)
{
	expect_failure((const char *const[]){ "HTTP/1.1 400 Bad Request\r\n", NULL }, -EPROTO,
		       "does not speak QMP");
}

Test(qmpc, test_greeting_without_qmp_is_refused)
{
	expect_failure((const char *const[]){ "{\"hello\":1}\n", NULL }, -EPROTO,
		       "does not speak QMP");
}

Test(qmpc, test_events_without_end_time_out)
{
	expect_failure((const char *const[]){ GREETING, "{\"event\":\"X\"}\r\n", "*", NULL },
		       -ETIMEDOUT, "does not answer");
}

Test(qmpc, test_blank_lines_without_end_time_out)
{
	expect_failure((const char *const[]){ "\r\n\r\n\r\n", "*", NULL }, -ETIMEDOUT,
		       "does not answer");
}

Test(qmpc, test_line_without_end_is_bounded)
{
	char *chunk = malloc(65537);

	memset(chunk, 'a', 65536);
	chunk[65536] = '\0';
	struct err e = ERR_INIT;
	const char *const script[] = { chunk, "*", NULL };
	struct server s;
	struct qmpc *c;
	int r;

	server_start(&s, script);
	r = qmpc_open(&c, "web", s.path, 5000, &e);
	cr_expect(r == -EPROTO || r == -ETIMEDOUT, "%d %s", r, e.text);
	cr_expect_null(c);
	server_end(&s);
	free(chunk);
}

Test(qmpc, test_server_that_vanishes_is_said_to_be_gone)
{
	expect_failure((const char *const[]){ GREETING, "close", NULL }, -EPIPE, "has gone");
}

Test(qmpc, test_path_that_nobody_serves_is_named)
{
	struct err e = ERR_INIT;
	struct qmpc *c;

	cr_expect_eq(qmpc_open(&c, "web", "/nonexistent/qmp.sock", TIMEOUT_MS, &e), -ENOENT);
	cr_expect(strstr(e.text, "/nonexistent/qmp.sock"), "%s", e.text);
}
