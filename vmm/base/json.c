/*
 * vmm/base/json.c - glue over jansson: command-line syntax to JSON.
 * Threads: any; results belong to the caller.
 */
#include "vmm/base/json.h"

#include <errno.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

#include "vmm/base/util.h"

#define NEST_MAX 16	/* a.b.c…: deeper than any option goes */

const char *json_str(const json_t *o, const char *key, const char *def)
{
	const char *s = json_string_value(json_object_get(o, key));

	return s ? s : def;
}

void json_put_str(json_t *o, const char *key, const char *v)
{
	json_object_set_new(o, key, json_string(v));
}

/* The next word up to a single comma, with ",," undone; *p moves behind it. */
static char *next_word(const char **p)
{
	char *word = xcalloc(1, strlen(*p) + 1), *w = word;

	while (**p) {
		if ((*p)[0] == ',' && (*p)[1] != ',')
			break;
		if (**p == ',')
			(*p)++;
		*w++ = *(*p)++;
	}
	if (**p == ',')
		(*p)++;
	return word;
}

/* Set "a.b.c" below @o, making objects on the way. */
static int put_nested(json_t *o, char *key, const char *val)
{
	char *dot;
	json_t *sub;

	for (int depth = 0; (dot = strchr(key, '.')); depth++) {
		if (dot == key || depth == NEST_MAX)
			return -EINVAL;
		*dot = '\0';
		sub = json_object_get(o, key);
		if (!sub) {
			sub = json_object();
			if (json_object_set_new(o, key, sub))
				return -EINVAL;	/* not UTF-8; @sub is gone */
		}
		if (!json_is_object(sub))
			return -EINVAL;
		o = sub;
		key = dot + 1;
	}
	if (!*key || json_object_set_new(o, key, json_string(val)))
		return -EINVAL;
	return 0;
}

static int put_joined(json_t *o, const char *key, const char *val)
{
	const char *before = json_str(o, key, NULL);
	char *all = before ? xasprintf("%s,%s", before, val) : xstrdup(val);
	int r = json_object_set_new(o, key, json_string(all)) ? -EINVAL : 0;

	free(all);
	return r;
}

/* One "key=value", "key" or implied first value. */
static int put_word(json_t *o, char *word, const char *implied, int nest,
		    const char *what, struct err *e)
{
	char *eq = strchr(word, '=');
	char *key = word, *full;
	const char *val;
	int r;

	if (implied && !eq) {
		json_put_str(o, implied, word);
		return 0;
	}
	val = eq ? eq + 1 : "on";
	if (eq)
		*eq = '\0';
	if (!*key)
		return err_set(e, -EINVAL, "%s: '=%s' has no name before the '='", what, val);
	full = xstrdup(key);
	if (nest == JSON_NEST)
		r = put_nested(o, key, val);
	else if (nest == JSON_JOIN)
		r = put_joined(o, key, val);
	else
		r = json_object_set_new(o, key, json_string(val)) ? -EINVAL : 0;
	if (r)
		err_set(e, r, "%s: '%s' is no usable option name, or its value is not UTF-8",
			what, full);
	free(full);
	return r;
}

static json_t *parse_json(const char *text, const char *what, struct err *e)
{
	json_error_t je;
	json_t *o = json_loads(text, JSON_REJECT_DUPLICATES, &je);

	if (o && !json_is_object(o)) {
		json_decref(o);
		o = NULL;
		err_set(e, -EINVAL, "%s: a JSON object is needed", what);
	} else if (!o) {
		err_set(e, -EINVAL, "%s: not valid JSON at character %d: %s",
			what, je.position, je.text);
	}
	return o;
}

json_t *json_from_keyval(const char *text, const char *implied, int nest,
			 const char *what, struct err *e)
{
	const char *p = text;
	bool first = true;
	json_t *o;
	char *word;
	int r = 0;

	if (*text == '{')
		return parse_json(text, what, e);
	o = json_object();
	while (*p && r == 0) {
		word = next_word(&p);
		if (*word || first)
			r = put_word(o, word, first ? implied : NULL, nest, what, e);
		free(word);
		first = false;
	}
	if (r) {
		json_decref(o);
		return NULL;
	}
	return o;
}
