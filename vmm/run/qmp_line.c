/*
 * vmm/run/qmp_line.c - the monitor's language.
 * Spec:    QAPI introspection as query-qmp-schema returns it: entries with
 *          name and meta-type, types named by other entries.
 * Threads: any one at a time.
 */
#include "vmm/run/qmp_line.h"

#include <errno.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

#include "vmm/base/json.h"
#include "vmm/base/prop.h"
#include "vmm/base/util.h"

#define DEPTH_MAX	8	/* dots in a name */
#define WORDS_MAX	64	/* in a line */

json_t *qmp_line_index(const json_t *schema)
{
	json_t *index = json_object(), *entry;
	size_t i;

	json_array_foreach(schema, i, entry)
		if (json_str(entry, "name", NULL))
			json_object_set(index, json_str(entry, "name", ""), entry);
	return index;
}

/* ---- types ---- */

static const json_t *entry_of(const json_t *index, const char *name, const char *meta)
{
	const json_t *e = json_object_get(index, name);

	return strcmp(json_str(e, "meta-type", ""), meta) ? NULL : e;
}

static const char *member_type(const json_t *object, const char *name)
{
	const json_t *m;
	size_t i;

	json_array_foreach(json_object_get(object, "members"), i, m)
		if (strcmp(json_str(m, "name", ""), name) == 0)
			return json_str(m, "type", NULL);
	return NULL;
}

/* The object that member @name of @object or of its chosen variant is in;
 * @args say which variant: the value of the tag. NULL: none. */
static const json_t *variant_of(const json_t *index, const json_t *object, const json_t *args)
{
	const char *value = json_str(args, json_str(object, "tag", ""), NULL);
	const json_t *v;
	size_t i;

	json_array_foreach(json_object_get(object, "variants"), i, v)
		if (value && strcmp(json_str(v, "case", ""), value) == 0)
			return entry_of(index, json_str(v, "type", ""), "object");
	return NULL;
}

static const char *type_of(const json_t *index, const json_t *object, const json_t *args,
			   const char *name)
{
	const char *t = member_type(object, name);

	return t ? t : member_type(variant_of(index, object, args), name);
}

/* An object below @object: itself, or what an alternate ("a node, or its
 * name") offers as object. */
static const json_t *object_of(const json_t *index, const char *type)
{
	const json_t *alt, *m, *o = type ? entry_of(index, type, "object") : NULL;
	size_t i;

	if (o || !type)
		return o;
	alt = entry_of(index, type, "alternate");
	json_array_foreach(json_object_get(alt, "members"), i, m) {
		o = entry_of(index, json_str(m, "type", ""), "object");
		if (o)
			return o;
	}
	return NULL;
}

static const char *kind_of(const json_t *index, const char *type)
{
	return type ? json_str(entry_of(index, type, "builtin"), "json-type", "") : "";
}

/* ---- parsing ---- */

static json_t *value_of(const json_t *index, const char *type, const char *text)
{
	const char *kind = kind_of(index, type);
	json_t *v = NULL;
	uint64_t n;

	if (text[0] == '{' || text[0] == '[')
		v = json_loads(text, 0, NULL);
	else if (strcmp(kind, "int") == 0 && text[0] == '-' && parse_u64(text + 1, &n) == 0)
		v = json_integer(-(json_int_t)n);
	else if (strcmp(kind, "int") == 0 && parse_u64(text, &n) == 0)
		v = json_integer((json_int_t)n);
	else if (strcmp(kind, "boolean") == 0 && (!strcmp(text, "true") || !strcmp(text, "on")))
		v = json_true();
	else if (strcmp(kind, "boolean") == 0 && (!strcmp(text, "false") || !strcmp(text, "off")))
		v = json_false();
	return v ? v : json_string(text);	/* the VM has the words for a wrong one */
}

/* Go down (and make) the objects that @name's dots name. *name is left at the
 * last part, *object at the type it is in (NULL: unknown). */
static json_t *descend(json_t *args, char **name, const json_t *index, const json_t **object)
{
	char *dot;
	json_t *below;

	for (int depth = 0; (dot = strchr(*name, '.')); depth++) {
		if (depth == DEPTH_MAX)
			return NULL;
		*dot = '\0';
		*object = object_of(index, type_of(index, *object, args, *name));
		below = json_object_get(args, *name);
		if (!below) {
			below = json_object();
			if (json_object_set_new(args, *name, below))
				return NULL;	/* the name is not UTF-8 */
		}
		if (!json_is_object(below))
			return NULL;
		args = below;
		*name = dot + 1;
	}
	return args;
}

static int add_arg(json_t *args, char *word, const json_t *index, const json_t *object,
		   struct err *e)
{
	char *eq = strchr(word, '='), *name = word;
	json_t *in, *val;

	if (!eq || eq == word)
		return err_set(e, -EINVAL, "'%s': an argument is name=value", word);
	*eq = '\0';
	in = descend(args, &name, index, &object);
	if (!in)
		return err_set(e, -EINVAL, "'%s': not an object, not UTF-8, or too many dots",
			       word);
	val = value_of(index, type_of(index, object, in, name), eq + 1);
	if (!val || json_object_set_new(in, name, val))
		return err_set(e, -EINVAL, "'%s': the value is not valid UTF-8", name);
	return 0;
}

/* Cut @line into words in place; 'a b' and "a b" are one each. */
static int split(char *line, char **words, struct err *e)
{
	char *out = line, quote;
	int n = 0;

	for (;;) {
		line += strspn(line, " \t");
		if (!*line)
			return n;
		if (n == WORDS_MAX)
			return err_set(e, -EINVAL, "more than %d words", WORDS_MAX);
		words[n++] = out;
		for (quote = 0; *line && (quote || !strchr(" \t", *line)); line++) {
			if (quote ? *line == quote : *line == '"' || *line == '\'')
				quote = quote ? 0 : *line;
			else
				*out++ = *line;
		}
		if (quote)
			return err_set(e, -EINVAL, "a %c is missing at the end", quote);
		line += *line != '\0';
		*out++ = '\0';
	}
}

static json_t *parse_words(char *line, const json_t *index, struct err *e)
{
	char *words[WORDS_MAX];
	json_t *args = json_object(), *req = NULL;
	const json_t *object;
	int n = split(line, words, e), r = 0;

	if (n > 0) {
		object = entry_of(index, json_str(entry_of(index, words[0], "command"),
						  "arg-type", ""), "object");
		for (int i = 1; i < n && r == 0; i++)
			r = add_arg(args, words[i], index, object, e);
		if (r == 0)
			req = json_pack("{s:s, s:O}", "execute", words[0], "arguments", args);
		if (r == 0 && !req)
			err_set(e, -EINVAL, "the line is not valid UTF-8");
	}
	json_decref(args);
	return req;
}

json_t *qmp_line_parse(const char *line, const json_t *index, struct err *e)
{
	json_error_t je;
	json_t *req;
	char *copy;

	line += strspn(line, " \t");
	if (line[0] == '{') {
		req = json_loads(line, JSON_REJECT_DUPLICATES, &je);
		if (!req)
			err_set(e, -EINVAL, "column %d: %s", je.column, je.text);
		return req;
	}
	copy = xstrdup(line);
	req = parse_words(copy, index, e);
	free(copy);
	return req;
}

/* ---- completion ---- */

static void offer(json_t *out, const char *word, size_t len, const char *text, const char *tail)
{
	char *full;

	if (strncmp(text, word, len))
		return;
	full = xasprintf("%s%s", text, tail);
	json_array_append_new(out, json_string(full));
	free(full);
}

static void offer_commands(json_t *out, const json_t *index, const char *word, size_t len)
{
	const char *name;
	json_t *entry;

	json_object_foreach((json_t *)index, name, entry)
		if (strcmp(json_str(entry, "meta-type", ""), "command") == 0)
			offer(out, word, len, name, "");
}

/* The members of @object whose names go on from @word; @prefix is what stands
 * before them ("file."). */
static void offer_members(json_t *out, const json_t *index, const json_t *object,
			  const json_t *args, const char *prefix, const char *word, size_t len)
{
	const char *name;
	const json_t *m;
	char *full;
	size_t i;

	json_array_foreach(json_object_get(object, "members"), i, m) {
		name = json_str(m, "name", "");
		if (json_object_get(args, name) || strncmp(name, word, len))
			continue;
		full = xasprintf("%s%s%s", prefix, name,
				 object_of(index, json_str(m, "type", "")) ? "." : "=");
		json_array_append_new(out, json_string(full));
		free(full);
	}
}

static void offer_values(json_t *out, const json_t *index, const char *type, const char *prefix,
			 const char *word)
{
	const json_t *en = type ? entry_of(index, type, "enum") : NULL, *m;
	const char *texts[2] = { "false", "true" }, *text;
	char *full;
	size_t i, n;
	bool boolean = strcmp(kind_of(index, type), "boolean") == 0;
	const json_t *list = json_object_get(en, "members");

	if (!list)
		list = json_object_get(en, "values");
	n = boolean ? 2 : json_array_size(list);
	for (i = 0; i < n; i++) {
		m = json_array_get(list, i);
		text = boolean ? texts[i] : json_is_string(m) ? json_string_value(m) :
		       json_str(m, "name", "");
		if (strncmp(text, word, strlen(word)))
			continue;
		full = xasprintf("%s%s", prefix, text);
		json_array_append_new(out, json_string(full));
		free(full);
	}
}

/* @word is an argument: "drive", "file.fi" or "cache.direct=o". */
static void offer_argument(json_t *out, const json_t *index, const json_t *object, json_t *args,
			   const char *word)
{
	char *copy = xstrdup(word), *name = copy, *eq = strchr(copy, '='), *prefix;
	json_t *in;

	if (eq)
		*eq = '\0';
	in = descend(args, &name, index, &object);
	if (in && eq) {
		prefix = xasprintf("%.*s=", (int)(eq - copy), word);
		offer_values(out, index, type_of(index, object, in, name), prefix, eq + 1);
		free(prefix);
	} else if (in) {
		prefix = xasprintf("%.*s", (int)(name - copy), word);
		offer_members(out, index, object, in, prefix, name, strlen(name));
		offer_members(out, index, variant_of(index, object, in), in, prefix, name,
			      strlen(name));
		free(prefix);
	}
	free(copy);
}

static int by_text(const void *a, const void *b)
{
	return strcmp(json_string_value(*(json_t *const *)a),
		      json_string_value(*(json_t *const *)b));
}

static json_t *sorted(json_t *list)
{
	size_t n = json_array_size(list), i;
	json_t **v = xcalloc(n + 1, sizeof(*v)), *out = json_array();

	for (i = 0; i < n; i++)
		v[i] = json_array_get(list, i);
	qsort(v, n, sizeof(*v), by_text);
	for (i = 0; i < n; i++)
		json_array_append(out, v[i]);
	json_decref(list);
	free(v);
	return out;
}

json_t *qmp_line_complete(const char *line, size_t cursor, size_t *start, void *arg)
{
	const json_t *index = arg, *object;
	json_t *out = json_array(), *args = json_object();
	char *copy = xstrdup(line), *words[WORDS_MAX];
	int n;

	copy[cursor] = '\0';
	*start = cursor;
	while (*start && !strchr(" \t", line[*start - 1]))
		(*start)--;
	if (*start == 0 || strspn(copy, " \t") == *start) {
		offer_commands(out, index, copy + *start, cursor - *start);
	} else {
		copy[*start - 1] = '\0';
		n = split(copy, words, NULL);
		object = n > 0 ? entry_of(index, json_str(entry_of(index, words[0], "command"),
							  "arg-type", ""), "object") : NULL;
		for (int i = 1; i < n; i++)
			add_arg(args, words[i], index, object, NULL);
		copy[*start - 1] = ' ';
		char *word = xasprintf("%.*s", (int)(cursor - *start), line + *start);

		if (object)
			offer_argument(out, index, object, args, word);
		free(word);
	}
	free(copy);
	json_decref(args);
	return sorted(out);
}
