/*
 * vmm/run/lib_config.c - libroost: from a client's words to a description.
 *
 * Threads: any; no state.
 * Missing: nothing known.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "vmm/base/json.h"
#include "vmm/base/log.h"
#include "vmm/base/util.h"
#include "vmm/run/lib.h"
#include "vmm/run/options.h"

/* ---- words, as a shell quotes them ---- */

static bool is_blank(char c)
{
	return c == ' ' || c == '\t' || c == '\n' || c == '\r';
}

/* One word from *@in to *@out, both moved on; false: a quote is not closed. */
static bool take_word(const char **in, char **out)
{
	const char *p = *in;
	char *w = *out, quote = 0;

	for (; *p && (quote || !is_blank(*p)); p++) {
		if (*p == quote)
			quote = 0;
		else if (!quote && (*p == '\'' || *p == '"'))
			quote = *p;
		else if (*p == '\\' && quote != '\'' && p[1])
			*w++ = *++p;
		else
			*w++ = *p;
	}
	*w++ = '\0';
	*in = p;
	*out = w;
	return quote == 0;
}

char **lib_split(const char *options, int *argc, struct err *e)
{
	size_t len = strlen(options), n = 0;
	/* At most one word per two characters, and the text once more. */
	char **argv = xcalloc(1, (len / 2 + 2) * sizeof(*argv) + len + 2);
	char *text = (char *)(argv + len / 2 + 2);

	for (const char *p = options; ; ) {
		while (is_blank(*p))
			p++;
		if (!*p)
			break;
		argv[n++] = text;
		if (!take_word(&p, &text)) {
			err_set(e, -EINVAL, "the options end inside a quote, which begins with "
				"%.40s", argv[n - 1]);
			free(argv);
			return NULL;
		}
	}
	argv[n] = NULL;
	*argc = (int)n;
	return argv;
}

/* ---- what a library cannot do ---- */

static const struct {
	const char *key, *why;
} refused[] = {
	{ "daemonize", "-daemonize is the program's; a library stays in its process" },
	{ "pidfile", "-pidfile is the program's; write one yourself" },
	{ "logfile", "-D is the program's; call roost_set_log()" },
	{ "msg", "-msg is the program's; lines from roost_set_log() have no time in front" },
	{ "overcommit", "-overcommit is the program's; call mlockall() yourself" },
};

static void enable_trace(const json_t *desc)
{
	json_t *list = json_object_get(desc, "trace"), *t;
	char *globs, *g, *save;
	size_t i;

	json_array_foreach(list, i, t) {
		globs = xstrdup(json_string_value(t));
		for (g = strtok_r(globs, ",", &save); g; g = strtok_r(NULL, ",", &save))
			trace_enable(g);
		free(globs);
	}
}

/* The library's own defaults: a serial port that is nobody's but the client's. */
static int settle(json_t *desc, struct err *e)
{
	for (size_t i = 0; i < ARRAY_LEN(refused); i++)
		if (json_object_get(desc, refused[i].key))
			return err_set(e, -EINVAL, "%s", refused[i].why);
	if (!json_object_get(desc, "serials") && !json_object_get(desc, "nodefaults"))
		json_object_set_new(desc, "serials", json_pack("[s]", "null"));
	enable_trace(desc);
	return 0;
}

static int asks_for_text(const json_t *desc)
{
	return strcmp(json_str(json_object_get(desc, "machine"), "type", ""), "help") == 0 ||
		strcmp(json_str(desc, "cpu", ""), "help") == 0;
}

int lib_describe(int argc, const char *const *argv, json_t **desc, struct err *e)
{
	char **all = xcalloc((size_t)argc + 2, sizeof(*all));
	enum options_action act = OPTIONS_RUN;
	int r;

	*desc = NULL;
	all[0] = (char *)(uintptr_t)"roost";
	for (int i = 0; i < argc; i++)
		all[i + 1] = (char *)(uintptr_t)argv[i];
	r = options_parse(argc + 1, all, desc, &act, e);
	free(all);
	if (r == 0 && (act != OPTIONS_RUN || asks_for_text(*desc)))
		r = err_set(e, -EINVAL, "the options ask for a text (help, version, "
			    "-dump-config), not for a VM; run roost for that");
	if (r == 0)
		r = settle(*desc, e);
	if (r) {
		json_decref(*desc);
		*desc = NULL;
	}
	return r;
}

int lib_describe_json(const char *json, json_t **desc, struct err *e)
{
	json_error_t je;
	int r;

	*desc = json_loads(json, JSON_REJECT_DUPLICATES, &je);
	if (!*desc)
		return err_set(e, -EINVAL, "the description is no JSON: line %d: %s", je.line,
			       je.text);
	r = json_is_object(*desc) ? settle(*desc, e) :
		err_set(e, -EINVAL, "the description must be a JSON object");
	if (r) {
		json_decref(*desc);
		*desc = NULL;
	}
	return r;
}
