/*
 * vmm/run/verb.c - finding, parsing and describing native verbs.
 * Threads: the only one of the process.
 */
#include "vmm/run/verb.h"

#include <assert.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "vmm/base/log.h"
#include "vmm/base/util.h"

#define VERBS_MAX 64

const struct verb *verb_find(const char *name)
{
	for (const struct verb *v = verbs; v->name; v++)
		if (strcmp(v->name, name) == 0)
			return v;
	return NULL;
}

const char *verb_nearest(const char *word)
{
	const char *names[VERBS_MAX + 1] = { NULL };

	for (int i = 0; verbs[i].name && i < VERBS_MAX; i++)
		names[i] = verbs[i].name;
	return util_nearest(word, names);
}

const char *verb_exit_help(enum verb_exit x)
{
	static const char *const words[] = {
		[VERB_OK] = "done; for run: the guest powered off, or the user quit",
		[VERB_ERROR] = "an error; one sentence on stderr says which",
		[VERB_USAGE] = "a verb's command line makes no sense",
		[VERB_NO_VM] = "no VM of that name is running",
		[VERB_NO_ANSWER] = "the VM or its guest did not answer in time",
	};

	static_assert(ARRAY_LEN(words) == VERB_EXITS, "a sentence for each status");
	return words[x];
}

/* ---- words and options ---- */

static int take_option(struct verb_call *c, const char *arg, char **words, int *i,
		       struct err *e)
{
	const struct prop *tables[] = { c->verb->opts, NULL };
	const char *name = arg + strspn(arg, "-"), *eq = strchr(name, '=');
	char key[32];
	const struct prop *p;
	json_t *val;
	int r;

	snprintf(key, sizeof(key), "%.*s", eq ? (int)(eq - name) : 31, name);
	if (strcmp(arg, "-f") == 0)
		snprintf(key, sizeof(key), "follow");
	p = c->verb->opts ? prop_find(tables, key) : NULL;
	if (!p)
		return err_set(e, -EINVAL, "%s: there is no option %s; see roost help %s",
			       c->verb->name, arg, c->verb->name);
	if (!eq && p->type == PROP_T_BOOL)
		val = json_true();
	else if (!eq && !words[*i + 1])
		return err_set(e, -EINVAL, "%s: %s needs a value", c->verb->name, arg);
	else
		val = json_string(eq ? eq + 1 : words[++*i]);
	snprintf(key, sizeof(key), "%s", c->verb->name);
	r = val ? prop_set(p, &c->opts, val, key, e) : err_set(e, -EINVAL, "%s: not UTF-8", arg);
	json_decref(val);
	return r;
}

static int parse(struct verb_call *c, int argc, char **argv, struct err *e)
{
	bool words_only = false;
	int r;

	for (int i = 0; i < argc; i++) {
		if (c->verb->raw) {
			c->argv[c->argc++] = argv[i];
		} else if (!words_only && strcmp(argv[i], "--") == 0) {
			words_only = true;
		} else if (!words_only && argv[i][0] == '-' && argv[i][1]) {
			r = take_option(c, argv[i], argv, &i, e);
			if (r)
				return r;
		} else {
			c->argv[c->argc++] = argv[i];
		}
	}
	if (c->argc < c->verb->min)
		return err_set(e, -EINVAL, "usage: roost %s %s", c->verb->name, c->verb->args);
	if (c->verb->max >= 0 && c->argc > c->verb->max)
		return err_set(e, -EINVAL, "%s: '%s' is one word too many; usage: roost %s %s",
			       c->verb->name, c->argv[c->verb->max], c->verb->name, c->verb->args);
	return 0;
}

static bool wants_help(int argc, char **argv)
{
	return argc == 1 && (!strcmp(argv[0], "--help") || !strcmp(argv[0], "-h") ||
			     !strcmp(argv[0], "-help"));
}

int verb_run(const struct verb *v, int argc, char **argv)
{
	struct verb_call c = { .verb = v, .exit = VERB_USAGE };
	const struct prop *tables[] = { v->opts, NULL };
	struct err e = ERR_INIT;
	int r;

	if (wants_help(argc, argv)) {
		verb_print_help(v, stdout);
		return VERB_OK;
	}
	c.argv = xcalloc((size_t)argc + 1, sizeof(*c.argv));
	if (v->opts)
		prop_defaults(tables, &c.opts);
	r = parse(&c, argc, argv, &e);
	if (r == 0) {
		c.exit = VERB_ERROR;
		r = v->run(&c, &e);
	}
	verb_progress_end();
	if (r && err_is_set(&e))
		log_err("%s", e.text);
	if (fflush(stdout) && r == 0) {
		log_err("%s: cannot write: %s", v->name, strerror(errno));
		r = -EIO;
	}
	if (v->opts)
		prop_free(tables, &c.opts);
	free(c.argv);
	return r ? (int)c.exit : VERB_OK;
}

/* ---- help ---- */

static void print_options(const struct prop *p, FILE *f)
{
	char left[60];

	for (; p && p->type != PROP_T_END; p++) {
		if (p->type == PROP_T_BOOL)
			snprintf(left, sizeof(left), "--%s%s", p->name,
				 strcmp(p->name, "follow") ? "" : ", -f");
		else
			snprintf(left, sizeof(left), "--%s %s", p->name, prop_type_name(p));
		fprintf(f, "  %-20s %s", left, p->help);
		if (p->type == PROP_T_U32)
			fprintf(f, " (default %lld %s)", (long long)p->def, p->unit);
		fputc('\n', f);
	}
}

void verb_print_help(const struct verb *v, FILE *f)
{
	fprintf(f, "usage: roost %s %s%s\n\n%s\n", v->name, v->args,
		v->opts ? " [OPTIONS]" : "", v->help);
	if (v->more)
		fprintf(f, "\n%s\n", v->more);
	if (v->opts)
		fputc('\n', f);
	print_options(v->opts, f);
}

void verb_print_list(FILE *f)
{
	char left[60];

	for (const struct verb *v = verbs; v->name; v++) {
		snprintf(left, sizeof(left), "%s %s", v->name, v->args);
		if (strlen(left) > 32)
			fprintf(f, "  %s\n  %-32s %s\n", left, "", v->help);
		else
			fprintf(f, "  %-32s %s\n", left, v->help);
	}
}

/* ---- the VM ---- */

int verb_vm(struct verb_call *c, struct runtime *rt, struct err *e)
{
	int r = runtime_find(rt, c->argv[0], e);

	if (r == -ENOENT)
		c->exit = VERB_NO_VM;
	return r;
}

int verb_qmp(struct verb_call *c, struct runtime *rt, struct qmpc **q, struct err *e)
{
	int r = verb_vm(c, rt, e);

	*q = NULL;
	if (r)
		return r;
	r = runtime_connect(rt, q, e);
	if (r == -ETIMEDOUT)
		c->exit = VERB_NO_ANSWER;
	if (r)
		runtime_close(rt);
	return r;
}

/* ---- progress ---- */

static bool progress_shown;

void verb_progress(const char *what, uint64_t since_ns)
{
	uint64_t s = (clock_ns() - since_ns) / NS_PER_SEC;

	if (s < 1 || !isatty(STDERR_FILENO))
		return;
	fprintf(stderr, "\r%s, %llu s\033[K", what, (unsigned long long)s);
	progress_shown = true;
}

void verb_progress_end(void)
{
	if (progress_shown)
		fprintf(stderr, "\r\033[K");
	progress_shown = false;
}
