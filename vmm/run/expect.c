/*
 * vmm/run/expect.c - `roost run --expect FILE`: a line-based script on top of
 * the library's public interface.
 *
 * Spec:    docs/testing-your-guest.md.
 * Threads: the caller's; the VM's are the library's.
 * Missing: conditions and loops, on purpose: a shell has them.
 *
 * The whole script is read and checked before the VM is made, so that a typing
 * error in the last line does not cost a boot.
 */
#include "vmm/run/expect.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>

#include "vmm/base/json.h"
#include "vmm/base/log.h"
#include "vmm/base/util.h"
#include "vmm/run/lib.h"

#define SCRIPT_MAX	MIB
#define TIMEOUT_MS	30000
#define SECONDS_MAX	86400.0

enum arg_kind { ARG_NONE, ARG_STRING, ARG_TEXT, ARG_SECONDS, ARG_NUMBER };

struct script;

struct step {
	const struct word *word;
	int line;
	char *text;
	size_t len;		/* a string may hold NUL bytes */
	int number;		/* or milliseconds */
	struct step *next;
};

struct script {
	const char *path;
	struct step *steps, **tail;
	struct roost_vm *vm;
	int timeout_ms;
	uint64_t cursor;	/* of events */
	struct roost_error e;
};

struct word {
	const char *name;
	enum arg_kind arg;
	bool optional;
	/* 0 or negative errno with s->e. */
	int (*run)(struct script *s, const struct step *step);
};

/* ---- what the words do ---- */

static int do_timeout(struct script *s, const struct step *step)
{
	s->timeout_ms = step->number;
	return 0;
}

static int do_send(struct script *s, const struct step *step)
{
	return roost_serial_write(s->vm, 0, step->text, step->len, s->timeout_ms, &s->e);
}

static int expect(struct script *s, const struct step *step, int flags)
{
	char *text;
	int r = roost_serial_expect(s->vm, 0, step->text, flags, s->timeout_ms, &text, &s->e);

	if (text)
		fwrite(text, 1, strlen(text), stdout);
	fflush(stdout);
	roost_free(text);
	return r;
}

static int do_expect(struct script *s, const struct step *step)
{
	return expect(s, step, 0);
}

static int do_expect_regex(struct script *s, const struct step *step)
{
	return expect(s, step, ROOST_EXPECT_REGEX);
}

static int do_qmp(struct script *s, const struct step *step)
{
	json_t *reply, *error;
	char *text;
	int r = roost_qmp(s->vm, step->text, &text, &s->e);

	if (r)
		return r;
	printf("%s\n", text);
	reply = json_loads(text, 0, NULL);
	error = json_object_get(reply, "error");
	if (error)
		r = lib_fail(&s->e, -EINVAL, "%s", json_str(error, "desc", "the command failed"));
	json_decref(reply);
	roost_free(text);
	return r;
}

static bool is_called(const char *event, const char *name)
{
	json_t *o = json_loads(event, 0, NULL);
	bool same = strcmp(json_str(o, "event", ""), name) == 0;

	json_decref(o);
	return same;
}

/* A message that some were lost comes first, and is not what is waited for. */
static int do_expect_event(struct script *s, const struct step *step)
{
	bool found = false;
	char *text;
	int r;

	do {
		r = roost_event_wait(s->vm, step->text, &s->cursor, s->timeout_ms, &text, &s->e);
		if (r == 0)
			found = is_called(text, step->text);
		roost_free(text);
	} while (r == 0 && !found);
	return r;
}

/* What the guest still said, to be seen as well. */
static void print_rest(struct script *s)
{
	char buf[4096];
	int n;

	while ((n = roost_serial_read(s->vm, 0, buf, sizeof(buf), 0, NULL)) > 0)
		fwrite(buf, 1, (size_t)n, stdout);
	fflush(stdout);
}

static int do_expect_exit(struct script *s, const struct step *step)
{
	struct roost_exit out;
	int r = roost_vm_wait(s->vm, s->timeout_ms, &out, &s->e);

	print_rest(s);
	if (r == 0 && out.status != step->number)
		r = lib_fail(&s->e, -EINVAL, "the VM ended with status %d (%s), not %d",
			     out.status, out.reason, step->number);
	return r;
}

static int do_fault(struct script *s, const struct step *step)
{
	return roost_fault_add(s->vm, step->text, &s->e);
}

static int do_fault_remove(struct script *s, const struct step *step)
{
	return roost_fault_remove(s->vm, step->text, &s->e);
}

static int do_sleep(struct script *s, const struct step *step)
{
	struct timespec ts = { step->number / 1000, step->number % 1000 * 1000000l };

	nanosleep(&ts, NULL);
	return 0;
}

static int do_pause(struct script *s, const struct step *step)
{
	return roost_vm_pause(s->vm, &s->e);
}

static int do_resume(struct script *s, const struct step *step)
{
	return roost_vm_resume(s->vm, &s->e);
}

static int do_reset(struct script *s, const struct step *step)
{
	return roost_vm_reset(s->vm, &s->e);
}

static int do_powerdown(struct script *s, const struct step *step)
{
	return roost_vm_powerdown(s->vm, &s->e);
}

/* To the beginning, and on from there. */
static int do_rewind(struct script *s, const struct step *step)
{
	int r = roost_vm_rewind(s->vm, &s->e);

	return r ? r : roost_vm_start(s->vm, &s->e);
}

static const struct word words[] = {
	{ "timeout", ARG_SECONDS, false, do_timeout },
	{ "send", ARG_STRING, false, do_send },
	{ "expect", ARG_STRING, false, do_expect },
	{ "expect-regex", ARG_STRING, false, do_expect_regex },
	{ "expect-event", ARG_TEXT, false, do_expect_event },
	{ "expect-exit", ARG_NUMBER, true, do_expect_exit },
	{ "qmp", ARG_TEXT, false, do_qmp },
	{ "fault", ARG_TEXT, false, do_fault },
	{ "fault-remove", ARG_TEXT, false, do_fault_remove },
	{ "sleep", ARG_SECONDS, false, do_sleep },
	{ "pause", ARG_NONE, false, do_pause },
	{ "resume", ARG_NONE, false, do_resume },
	{ "reset", ARG_NONE, false, do_reset },
	{ "powerdown", ARG_NONE, false, do_powerdown },
	{ "rewind", ARG_NONE, false, do_rewind },
};

/* ---- reading ---- */

static int hex(char c)
{
	return c >= '0' && c <= '9' ? c - '0' : c >= 'a' && c <= 'f' ? c - 'a' + 10 :
		c >= 'A' && c <= 'F' ? c - 'A' + 10 : -1;
}

/* One escape behind a backslash, *@p moved on; -1: there is none like it. */
static int unescape(const char **p)
{
	static const char from[] = "nrtea0\\\"", to[] = "\n\r\t\033\a\0\\\"";
	const char *at = **p ? strchr(from, **p) : NULL;
	int c;

	if (**p == 'x' && hex((*p)[1]) >= 0 && hex((*p)[2]) >= 0) {
		c = hex((*p)[1]) * 16 + hex((*p)[2]);
		*p += 3;
		return c;
	}
	if (!at)
		return -1;
	(*p)++;
	return (unsigned char)to[at - from];
}

static int read_string(struct step *s, const char *arg, struct err *e)
{
	char *out = s->text = xcalloc(1, strlen(arg) + 1);
	const char *p = arg + 1;
	int c = *arg == '"' ? 0 : -1;

	while (c >= 0 && *p && *p != '"') {
		c = (unsigned char)*p++;
		if (c == '\\')
			c = unescape(&p);
		*out++ = (char)c;
	}
	s->len = (size_t)(out - s->text);
	if (c < 0 || *p != '"' || p[1])
		return err_set(e, -EINVAL, "%s needs a text in \"…\", with \\n \\r \\t \\e \\a \\0 "
			       "\\\\ \\\" and \\xNN in it; not %.60s", s->word->name, arg);
	return 0;
}

static int read_number(struct step *s, const char *arg, struct err *e)
{
	char *end;
	double v = strtod(arg, &end);
	bool seconds = s->word->arg == ARG_SECONDS;

	if (end == arg || *end || !(v >= 0) || v > (seconds ? SECONDS_MAX : 255) ||
	    (!seconds && v != (double)(int)v))
		return err_set(e, -EINVAL, "%s %.40s: must be %s", s->word->name, arg, seconds ?
			       "seconds, as 30 or 0.5, up to 86400" : "a status of 0..255");
	s->number = (int)(seconds ? v * 1000 : v);
	return 0;
}

static int read_arg(struct step *s, const char *arg, struct err *e)
{
	const struct word *w = s->word;

	if (!*arg && w->arg != ARG_NONE)
		return w->optional ? 0 : err_set(e, -EINVAL, "%s: what? Something must follow it",
						 w->name);
	switch (w->arg) {
	case ARG_NONE:
		return *arg ? err_set(e, -EINVAL, "%s takes nothing behind it, not %.40s", w->name,
				      arg) : 0;
	case ARG_STRING:
		return read_string(s, arg, e);
	case ARG_TEXT:
		s->text = xstrdup(arg);
		return 0;
	default:
		return read_number(s, arg, e);
	}
}

static const struct word *find_word(const char *name, struct err *e)
{
	const char *names[ARRAY_LEN(words) + 1] = { 0 }, *near;

	for (size_t i = 0; i < ARRAY_LEN(words); i++) {
		names[i] = words[i].name;
		if (strcmp(name, words[i].name) == 0)
			return &words[i];
	}
	near = util_nearest(name, names);
	err_set(e, -EINVAL, "'%.40s' is no word of a script%s%s%s", name,
		near ? "; did you mean '" : "", near ? near : "", near ? "'?" : "");
	return NULL;
}

static void trim(char *line)
{
	size_t n = strlen(line);

	while (n && strchr(" \t\r\n", line[n - 1]))
		line[--n] = '\0';
}

static int read_line(struct script *s, char *line, int number, struct err *e)
{
	struct step *step;
	char *arg;

	line += strspn(line, " \t");
	trim(line);
	if (!*line || *line == '#')
		return 0;
	arg = line + strcspn(line, " \t");
	if (*arg)
		*arg++ = '\0';
	arg += strspn(arg, " \t");
	step = xcalloc(1, sizeof(*step));
	step->line = number;
	*s->tail = step;
	s->tail = &step->next;
	step->word = find_word(line, e);
	return step->word ? read_arg(step, arg, e) : -EINVAL;
}

/* @text is cut into lines in place. */
static int read_lines(struct script *s, char *text, struct err *e)
{
	int r = 0, number = 0;
	char *line;

	while (r == 0 && (line = strsep(&text, "\n"))) {
		number++;
		r = read_line(s, line, number, e);
	}
	if (r)
		err_prefix(e, "%s:%d", s->path, number);
	return r;
}

/* A pipe has no size that could be asked for, and may have no end. */
static int read_file(struct script *s, FILE *f, struct err *e)
{
	char *text = xcalloc(1, SCRIPT_MAX + 2);
	size_t n = fread(text, 1, SCRIPT_MAX + 1, f);
	int r;

	if (n > SCRIPT_MAX)
		r = err_set(e, -E2BIG, "--expect %s: is larger than %llu bytes", s->path,
			    SCRIPT_MAX);
	else
		r = read_lines(s, text, e);
	free(text);
	return r;
}

static int read_script(struct script *s, struct err *e)
{
	FILE *f = fopen(s->path, "re");
	struct stat st;
	int r;

	if (!f || fstat(fileno(f), &st) < 0)
		r = err_sys(e, -errno, "--expect %s: cannot open it", s->path);
	else if (S_ISDIR(st.st_mode))
		r = err_set(e, -EISDIR, "--expect %s: is a directory; name a script", s->path);
	else
		r = read_file(s, f, e);
	if (f)
		fclose(f);
	if (r == 0 && !s->steps)
		r = err_set(e, -EINVAL, "--expect %s: the script is empty", s->path);
	return r;
}

static void free_steps(struct script *s)
{
	struct step *step;

	while ((step = s->steps)) {
		s->steps = step->next;
		free(step->text);
		free(step);
	}
}

/* ---- running ---- */

static int run_steps(struct script *s)
{
	int r = roost_vm_start(s->vm, &s->e);

	if (r) {
		log_err("%s", s->e.text);
		return r;
	}
	for (struct step *step = s->steps; step; step = step->next) {
		r = step->word->run(s, step);
		if (r) {
			printf("\n");
			fflush(stdout);
			log_err("%s:%d: %s", s->path, step->line, s->e.text);
			return r;
		}
	}
	print_rest(s);
	return 0;
}

static int make_vm(struct script *s, const json_t *desc)
{
	/* What the program has done already. */
	static const char *const ours[] = { "expect", "msg", "logfile", "trace", "overcommit" };
	json_t *copy = json_deep_copy(desc);
	char *text;
	int r;

	for (size_t i = 0; i < ARRAY_LEN(ours); i++)
		json_object_del(copy, ours[i]);
	text = json_dumps(copy, JSON_COMPACT);
	json_decref(copy);
	lib_keep_log();
	r = roost_vm_create_json(text, &s->vm, &s->e);
	free(text);
	if (r)
		log_err("%s", s->e.text);
	return r;
}

int expect_run(const json_t *desc)
{
	struct script s = { .path = json_str(desc, "expect", ""), .timeout_ms = TIMEOUT_MS };
	struct err e = ERR_INIT;
	int r;

	s.tail = &s.steps;
	if (read_script(&s, &e)) {
		log_err("%s", e.text);
		free_steps(&s);
		return 2;
	}
	r = make_vm(&s, desc);
	if (r == 0)
		r = run_steps(&s);
	roost_vm_destroy(s.vm);
	free_steps(&s);
	return r ? 1 : 0;
}
