/*
 * vmm/run/verb_monitor.c - QMP by hand, or from a pipe.
 * Threads: the only one of the process.
 */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "vmm/base/json.h"
#include "vmm/base/util.h"
#include "vmm/run/lineedit.h"
#include "vmm/run/qmp_line.h"
#include "vmm/run/verb.h"

struct monitor {
	struct qmpc *q;
	json_t *index;		/* of the schema; empty when the VM has none */
	bool tty;
	bool failed;		/* a command was answered with an error */
};

static void print_json(const struct monitor *m, const char *head, const json_t *val)
{
	if (head)
		printf("%s", head);
	json_dumpf(val, stdout, JSON_ENCODE_ANY | (m->tty ? JSON_INDENT(2) : JSON_COMPACT));
	putchar('\n');
}

static void print_event(const struct monitor *m, const json_t *ev)
{
	const json_t *data = json_object_get(ev, "data");
	char *text = json_dumps(data, JSON_COMPACT);

	if (m->tty)
		printf("* %s%s%s\n", json_str(ev, "event", "?"), text ? " " : "",
		       text ? text : "");
	free(text);
}

/* What has come meanwhile; a pipe's reader asked for replies, not for these. */
static int show_events(struct monitor *m, struct err *e)
{
	json_t *ev;
	int r;

	while ((r = qmpc_event(m->q, 0, &ev, e)) == 0) {
		print_event(m, ev);
		json_decref(ev);
	}
	return r == -ETIMEDOUT ? 0 : r;
}

static void show_reply(struct monitor *m, const json_t *reply)
{
	const json_t *error = json_object_get(reply, "error");

	fflush(stdout);
	if (error) {
		m->failed = true;
		fprintf(stderr, "%s: %s\n", json_str(error, "class", "GenericError"),
			json_str(error, "desc", "error"));
	} else {
		print_json(m, NULL, json_object_get(reply, "return"));
	}
}

static int execute(struct monitor *m, const char *line, struct err *e)
{
	struct err words = ERR_INIT;
	json_t *req, *reply;
	int r;

	if (line[strspn(line, " \t")] == '\0')
		return 0;
	req = qmp_line_parse(line, m->index, &words);
	if (!req) {
		fprintf(stderr, "%s\n", words.text);
		m->failed = true;
		return 0;
	}
	r = qmpc_raw(m->q, req, &reply, e);
	json_decref(req);
	if (r)
		return r;
	show_reply(m, reply);
	json_decref(reply);
	fflush(stdout);
	return show_events(m, e);
}

static int talk(struct monitor *m, struct lineedit *l, struct err *e)
{
	const char *line;
	bool woken;
	int r = 0;

	while (r == 0) {
		line = lineedit_read(l, &woken);
		if (!line && !woken)
			break;
		r = line ? execute(m, line, e) : show_events(m, e);
		fflush(stdout);
	}
	return r;
}

static void learn(struct monitor *m)
{
	json_t *schema = NULL;

	qmpc_run(m->q, "query-qmp-schema", NULL, &schema, NULL);
	m->index = qmp_line_index(schema);
	json_decref(schema);
}

int verb_monitor(struct verb_call *c, struct err *e)
{
	struct monitor m = { .tty = isatty(STDIN_FILENO) && isatty(STDOUT_FILENO) };
	struct runtime rt = RUNTIME_INIT;
	struct lineedit l;
	char prompt[RUNTIME_NAME_MAX + 4];
	int r = verb_qmp(c, &rt, &m.q, e);

	if (r)
		return r;
	snprintf(prompt, sizeof(prompt), "%s> ", rt.name);
	lineedit_init(&l, STDIN_FILENO, STDOUT_FILENO, prompt);
	learn(&m);
	l.complete = qmp_line_complete;
	l.arg = m.index;
	l.wake = m.tty ? qmpc_fd(m.q) : -1;
	r = talk(&m, &l, e);
	if (r == -ETIMEDOUT)
		c->exit = VERB_NO_ANSWER;
	lineedit_fini(&l);
	json_decref(m.index);
	qmpc_close(m.q);
	runtime_close(&rt);
	return r ? r : m.failed ? -EREMOTEIO : 0;
}
