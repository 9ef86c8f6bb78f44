/*
 * vmm/run/verb_watch.c - what a VM says: events and log.
 * Threads: the only one of the process.
 */
#include <ctype.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "vmm/base/json.h"
#include "vmm/base/util.h"
#include "vmm/run/verb.h"

#define FOLLOW_MS 100

/* ---- events ---- */

static void print_event(const json_t *ev)
{
	const json_t *ts = json_object_get(ev, "timestamp"), *data = json_object_get(ev, "data");
	time_t s = (time_t)json_integer_value(json_object_get(ts, "seconds"));
	long long us = json_integer_value(json_object_get(ts, "microseconds"));
	char when[32], *text = json_dumps(data, JSON_COMPACT);
	struct tm tm;

	localtime_r(&s, &tm);
	strftime(when, sizeof(when), "%F %T", &tm);
	printf("%s.%03d  %s%s%s\n", when, (int)(us / 1000) % 1000, json_str(ev, "event", "?"),
	       text ? "  " : "", text ? text : "");
	free(text);
}

static void print_json(const json_t *ev)
{
	json_dumpf(ev, stdout, JSON_COMPACT);
	putchar('\n');
}

int verb_events(struct verb_call *c, struct err *e)
{
	struct runtime rt = RUNTIME_INIT;
	struct qmpc *q;
	json_t *ev;
	int r = verb_qmp(c, &rt, &q, e);

	if (r)
		return r;
	while ((r = qmpc_event(q, -1, &ev, e)) == 0) {
		(c->opts.json ? print_json : print_event)(ev);
		json_decref(ev);
		if (fflush(stdout))
			break;		/* the reader has gone */
	}
	qmpc_close(q);
	runtime_close(&rt);
	if (r != -EPIPE)
		return r;
	*e = (struct err)ERR_INIT;	/* the VM has ended: so do we */
	return 0;
}

/* ---- log ---- */

/* The terminal must not act on what a guest smuggled into a message. */
static void print_clean(char *buf, size_t len)
{
	if (isatty(STDOUT_FILENO))
		for (size_t i = 0; i < len; i++)
			if (iscntrl((unsigned char)buf[i]) && buf[i] != '\n' && buf[i] != '\t')
				buf[i] = '?';
	fwrite(buf, 1, len, stdout);
	fflush(stdout);
}

int verb_log(struct verb_call *c, struct err *e)
{
	struct runtime rt = RUNTIME_INIT;
	bool alive = true;
	struct stat st;
	char buf[4096];
	ssize_t n;
	int fd, r = verb_vm(c, &rt, e);

	if (r)
		return r;
	fd = runtime_open(&rt, RUNTIME_LOG, O_RDONLY);
	if (fd < 0) {
		r = err_sys(e, fd, "%s/" RUNTIME_LOG, rt.dir);
		runtime_close(&rt);
		return r;
	}
	for (;;) {
		n = read(fd, buf, sizeof(buf));
		if (n > 0) {
			print_clean(buf, (size_t)n);
			continue;
		}
		if (n < 0 || !c->opts.follow || !alive || ferror(stdout))
			break;
		if (fstat(fd, &st) == 0 && st.st_size < lseek(fd, 0, SEEK_CUR))
			lseek(fd, 0, SEEK_SET);		/* it was emptied, LOG_COPY_MAX */
		usleep(FOLLOW_MS * 1000);
		alive = runtime_alive(&rt);	/* then once more to the end */
	}
	close(fd);
	runtime_close(&rt);
	return n < 0 ? err_sys(e, -errno, "%s: cannot read its log", c->argv[0]) : 0;
}
