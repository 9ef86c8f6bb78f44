/*
 * vmm/control/schema.c - the schema made from the tables, and values checked
 * against it.
 *
 * Spec:    QEMU's qapi/introspect.json (SchemaInfo). Names of types are QAPI's
 *          own; QEMU shows numbers in their place and asks clients not to look.
 * Threads: main loop. The schema belongs to the server and is made when it is
 *          first asked for, which is when the first command comes.
 */
#include <assert.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "vmm/base/json.h"
#include "vmm/base/util.h"
#include "vmm/control/qmp_priv.h"

#define PATH_MAX_	160	/* "arguments.file.cache.direct" in a sentence */
#define UNION_DEPTH	4	/* unions inside unions; QAPI has two */
#define NEAR_MAX	64	/* words offered to "did you mean" */
#define LIST_MAX	8	/* as many are listed when none is near */

static const char *type_name(struct qmp *q, const char *type);

/* ---- making it ---- */

static json_t *new_info(struct qmp *q, const char *name, const char *meta)
{
	json_t *o = json_pack("{s:s,s:s}", "name", name, "meta-type", meta);

	json_array_append_new(q->schema, o);
	json_object_set(q->schema_index, name, o);
	return o;
}

static json_t *new_object(struct qmp *q, const char *name)
{
	json_t *o = new_info(q, name, "object");

	json_object_set_new(o, "members", json_array());
	return o;
}

static json_t *new_enum(struct qmp *q, const char *name, const char *const *words)
{
	json_t *o = new_info(q, name, "enum");

	json_object_set_new(o, "members", json_array());
	json_object_set_new(o, "values", json_array());
	for (; words && *words; words++)
		qmp_schema_word(o, *words);
	return o;
}

void qmp_schema_word(json_t *info, const char *word)
{
	json_array_append_new(json_object_get(info, "members"),
			      json_pack("{s:s}", "name", word));
	json_array_append_new(json_object_get(info, "values"), json_string(word));
}

void qmp_schema_member(struct qmp *q, json_t *info, const char *name, const char *type)
{
	bool optional = *name == '*';
	json_t *m = json_pack("{s:s,s:s}", "name", name + optional,
			      "type", type_name(q, type));

	if (optional)
		json_object_set_new(m, "default", json_null());
	json_array_append_new(json_object_get(info, "members"), m);
}

void qmp_schema_variant(struct qmp *q, json_t *info, const char *word, const char *type)
{
	json_t *list = json_object_get(info, "variants");

	if (!list) {
		list = json_array();
		json_object_set_new(info, "variants", list);
	}
	json_array_append_new(list, json_pack("{s:s,s:s}", "case", word, "type",
					      type_name(q, type ? type : "q_empty")));
}

const char *qmp_schema_prop_type(struct qmp *q, const struct prop *p)
{
	static const char *const on_off_auto[] = { "auto", "on", "off", NULL };
	char name[96];

	switch (p->type) {
	case PROP_T_BOOL:
		return "bool";
	case PROP_T_STR:
	case PROP_T_LINK:
		return "str";
	case PROP_T_JSON:
		return p->kind ? p->kind : "any";
	case PROP_T_AUTO:
		if (!json_object_get(q->schema_index, "OnOffAuto"))
			new_enum(q, "OnOffAuto", on_off_auto);
		return "OnOffAuto";
	case PROP_T_ENUM:
		snprintf(name, sizeof(name), "%s", p->kind ? p->kind : p->name);
		if (!p->kind)
			snprintf(name, sizeof(name), "q_enum_%.32s-%.32s", p->name,
				 p->choices[0]);
		if (!json_object_get(q->schema_index, name))
			new_enum(q, name, p->choices);
		return json_str(json_object_get(q->schema_index, name), "name", "");
	default:
		return "int";
	}
}

static json_t *find_member(const json_t *info, const char *name)
{
	json_t *m;
	size_t i;

	json_array_foreach(json_object_get(info, "members"), i, m)
		if (strcmp(json_str(m, "name", ""), name) == 0)
			return m;
	return NULL;
}

/* "cache.direct": member cache of an object type that is made for it. */
static void nested_prop(struct qmp *q, json_t *info, const struct prop *p)
{
	const char *dot = strchr(p->name, '.');
	char *first = xasprintf("*%.*s", (int)(dot - p->name), p->name);
	char *type = xasprintf("%s-%s", json_str(info, "name", ""), first + 1);
	json_t *sub = json_object_get(q->schema_index, type);
	char *last = xasprintf("*%s", dot + 1);

	if (!sub)
		sub = new_object(q, type);
	if (!find_member(info, first + 1))
		qmp_schema_member(q, info, first, type);
	qmp_schema_member(q, sub, last, qmp_schema_prop_type(q, p));
	free(first);
	free(last);
	free(type);
}

void qmp_schema_props(struct qmp *q, json_t *info, const struct prop *props)
{
	char *name;

	for (; props && props->type != PROP_T_END; props++) {
		if (props->flags & PROP_HIDDEN)
			continue;
		if (strchr(props->name, '.')) {
			nested_prop(q, info, props);
			continue;
		}
		if (find_member(info, props->name))
			continue;	/* a more specific table has it */
		name = xasprintf("%s%s", props->flags & PROP_REQUIRED ? "" : "*", props->name);
		qmp_schema_member(q, info, name, qmp_schema_prop_type(q, props));
		free(name);
	}
}

void qmp_schema_object_without(struct qmp *q, const char *name,
			       const struct prop *const *tables, const char *const *without)
{
	json_t *info, *members, *m;
	size_t i;

	if (json_object_get(q->schema_index, name))
		return;
	info = new_object(q, name);
	for (; *tables; tables++)
		qmp_schema_props(q, info, *tables);
	members = json_object_get(info, "members");
	for (; without && *without; without++) {
		json_array_foreach(members, i, m)
			if (strcmp(json_str(m, "name", ""), *without) == 0)
				break;
		json_array_remove(members, i);
	}
}

void qmp_schema_object(struct qmp *q, const char *name, const struct prop *const *tables)
{
	qmp_schema_object_without(q, name, tables, NULL);
}

json_t *qmp_schema_find(struct qmp *q, const char *name)
{
	return json_object_get(q->schema_index, name);
}

static const struct qmp_type *find_type(const char *name)
{
	const struct qmp_table *const *t;
	const struct qmp_type *row;

	for (t = qmp_tables; *t; t++)
		for (row = (*t)->types; row && row->name; row++)
			if (strcmp(row->name, name) == 0)
				return row;
	return NULL;
}

static void add_members(struct qmp *q, json_t *info, const struct qmp_type *row)
{
	const struct qmp_member *m;

	for (m = row->members; m && m->name; m++)
		if (row->meta == QMP_ALTERNATE)
			json_array_append_new(json_object_get(info, "members"),
					      json_pack("{s:s}", "type", type_name(q, m->type)));
		else
			qmp_schema_member(q, info, m->name, m->type);
}

/* The row is entered before its members are, since types may be recursive. */
static void add_type(struct qmp *q, const struct qmp_type *row)
{
	const struct qmp_variant *v;
	json_t *info;

	if (row->meta == QMP_ENUM) {
		info = new_enum(q, row->name, row->words);
	} else {
		info = new_object(q, row->name);
		if (row->meta == QMP_ALTERNATE)
			json_object_set_new(info, "meta-type", json_string("alternate"));
		add_members(q, info, row);
	}
	if (row->tag)
		json_object_set_new(info, "tag", json_string(row->tag));
	for (v = row->variants; v && v->word; v++)
		qmp_schema_variant(q, info, v->word, v->type);
	if (row->make)
		row->make(q, info);
}

/* Enter @type if it is not there yet; returns its name in the schema. */
static const char *type_name(struct qmp *q, const char *type)
{
	const struct qmp_type *row;
	char *element;
	json_t *o;

	if (json_object_get(q->schema_index, type))
		return type;
	if (*type == '[') {
		element = xasprintf("%.*s", (int)strlen(type) - 2, type + 1);
		o = new_info(q, type, "array");
		json_object_set_new(o, "element-type", json_string(type_name(q, element)));
		free(element);
		return type;
	}
	row = find_type(type);
	assert(row);	/* a table names a type that no table has */
	add_type(q, row);
	return type;
}

static void add_builtins(struct qmp *q)
{
	static const char *const builtin[][2] = {
		{ "str", "string" }, { "int", "int" }, { "number", "number" },
		{ "bool", "boolean" }, { "null", "null" }, { "any", "value" },
	};
	size_t i;

	for (i = 0; i < ARRAY_LEN(builtin); i++)
		json_object_set_new(new_info(q, builtin[i][0], "builtin"), "json-type",
				    json_string(builtin[i][1]));
	new_object(q, "q_empty");
}

static json_t *words_array(const char *const *words)
{
	json_t *a = json_array();

	for (; *words; words++)
		json_array_append_new(a, json_string(*words));
	return a;
}

static const char *add_args(struct qmp *q, const struct qmp_cmd *c, char *name, size_t len)
{
	const struct prop *const tables[] = { c->args, NULL };

	if (c->arg_type)
		return type_name(q, c->arg_type);
	if (!c->args)
		return "q_empty";
	snprintf(name, len, "q_obj_%s-arg", c->name);
	qmp_schema_object(q, name, tables);
	return name;
}

static void add_cmd(struct qmp *q, const struct qmp_cmd *c)
{
	json_t *o = new_info(q, c->name, "command");
	char name[80];

	json_object_set_new(o, "arg-type", json_string(add_args(q, c, name, sizeof(name))));
	json_object_set_new(o, "ret-type",
			    json_string(type_name(q, c->ret ? c->ret : "q_empty")));
	if (c->flags & QMP_OOB)
		json_object_set_new(o, "allow-oob", json_true());
	if (c->features)
		json_object_set_new(o, "features", words_array(c->features));
}

static void add_event(struct qmp *q, const struct qmp_event *ev)
{
	json_t *o = new_info(q, ev->name, "event");

	json_object_set_new(o, "arg-type",
			    json_string(type_name(q, ev->type ? ev->type : "q_empty")));
}

json_t *qmp_schema(struct qmp *q)
{
	const struct qmp_table *const *t;
	const struct qmp_cmd *c;
	const struct qmp_event *ev;

	if (q->schema)
		return q->schema;
	q->schema = json_array();
	q->schema_index = json_object();
	add_builtins(q);
	for (t = qmp_tables; *t; t++) {
		for (c = (*t)->cmds; c && c->name; c++)
			add_cmd(q, c);
		for (ev = (*t)->events; ev && ev->name; ev++)
			add_event(q, ev);
	}
	return q->schema;
}

/* ---- checking a value ---- */

static int check(struct qmp *q, const json_t *info, const json_t *val, const char *path,
		 bool open, struct err *e);

static const json_t *info_of(struct qmp *q, const char *name)
{
	qmp_schema(q);
	return json_object_get(q->schema_index, type_name(q, name));
}

static int wrong_type(const char *path, const char *expected, struct err *e)
{
	return err_set(e, -EINVAL, "Invalid parameter type for '%s', expected: %s", path,
		       expected);
}

static bool builtin_accepts(const char *kind, const json_t *val)
{
	switch (*kind) {
	case 's':
		return json_is_string(val);
	case 'i':
		return json_is_integer(val);
	case 'b':
		return json_is_boolean(val);
	case 'n':
		return strcmp(kind, "null") == 0 ? json_is_null(val) : json_is_number(val);
	default:
		return true;
	}
}

static int check_builtin(const json_t *info, const json_t *val, const char *path, struct err *e)
{
	const char *kind = json_str(info, "json-type", "");

	if (builtin_accepts(kind, val))
		return 0;
	return wrong_type(path, strcmp(kind, "int") == 0 ? "integer" : kind, e);
}

/* "a, b or c"; the first that fit. */
static const char *list_words(char *buf, size_t len, const char *const *list, size_t n)
{
	size_t at = 0;

	*buf = '\0';
	for (size_t i = 0; i < n && at < len; i++)
		at += (size_t)snprintf(buf + at, len - at, "%s%s", list[i], i + 1 == n ? "" :
				       i + 2 == n ? " or " : ", ");
	return buf;
}

static int no_such_word(const json_t *words, const char *path, const char *word, struct err *e)
{
	char text[LIST_MAX * 24];
	const char *list[NEAR_MAX + 1], *near;
	json_t *w;
	size_t i, n = 0;

	json_array_foreach((json_t *)(uintptr_t)words, i, w)
		if (n < NEAR_MAX)
			list[n++] = json_string_value(w);
	list[n] = NULL;
	near = util_nearest(word, list);
	if (near)
		return err_set(e, -EINVAL, "Parameter '%s' does not accept value '%.80s'; did "
			       "you mean '%s'?", path, word, near);
	if (n <= LIST_MAX)
		return err_set(e, -EINVAL, "Parameter '%s' does not accept value '%.80s'; it takes "
			       "%s", path, word, list_words(text, sizeof(text), list, n));
	return err_set(e, -EINVAL, "Parameter '%s' does not accept value '%.80s'", path, word);
}

static int check_enum(const json_t *info, const json_t *val, const char *path, struct err *e)
{
	const json_t *words = json_object_get(info, "values");
	const char *word = json_string_value(val);
	json_t *w;
	size_t i;

	if (!word)
		return wrong_type(path, "string", e);
	json_array_foreach((json_t *)(uintptr_t)words, i, w)
		if (strcmp(json_string_value(w), word) == 0)
			return 0;
	return no_such_word(words, path, word, e);
}

static int check_array(struct qmp *q, const json_t *info, const json_t *val,
		       const char *path, struct err *e)
{
	const json_t *element = info_of(q, json_str(info, "element-type", ""));
	char sub[PATH_MAX_];
	json_t *item;
	size_t i;
	int r;

	if (!json_is_array(val))
		return wrong_type(path, "array", e);
	json_array_foreach((json_t *)(uintptr_t)val, i, item) {
		snprintf(sub, sizeof(sub), "%s[%zu]", path, i);
		r = check(q, element, item, sub, false, e);
		if (r)
			return r;
	}
	return 0;
}

/* The kinds of JSON that one branch of an alternate takes. */
static bool alternate_fits(struct qmp *q, const json_t *info, const json_t *val)
{
	switch (*json_str(info, "meta-type", "")) {
	case 'o':
		return json_is_object(val);
	case 'a':
		return json_is_array(val);
	case 'e':
		return json_is_string(val);
	default:
		return builtin_accepts(json_str(info, "json-type", ""), val);
	}
}

static int check_alternate(struct qmp *q, const json_t *info, const json_t *val,
			   const char *path, struct err *e)
{
	const json_t *branch;
	json_t *m;
	size_t i;

	json_array_foreach(json_object_get(info, "members"), i, m) {
		branch = info_of(q, json_str(m, "type", ""));
		if (alternate_fits(q, branch, val))
			return check(q, branch, val, path, false, e);
	}
	return wrong_type(path, json_str(info, "name", ""), e);
}

static const char *join(char *buf, const char *path, const char *name)
{
	snprintf(buf, PATH_MAX_, "%s%s%.60s", path, *path ? "." : "", name);
	return buf;
}

/* The members that @info itself has. */
static int check_members(struct qmp *q, const json_t *info, const json_t *val,
			 const char *path, struct err *e)
{
	char sub[PATH_MAX_];
	const char *name;
	json_t *m, *v;
	size_t i;
	int r;

	json_array_foreach(json_object_get(info, "members"), i, m) {
		name = json_str(m, "name", "");
		v = json_object_get(val, name);
		if (!v && json_object_get(m, "default"))
			continue;
		if (!v)
			return err_set(e, -EINVAL, "Parameter '%s' is missing",
				       join(sub, path, name));
		r = check(q, info_of(q, json_str(m, "type", "")), v, join(sub, path, name),
			  false, e);
		if (r)
			return r;
	}
	return 0;
}

/* What the value of the tag adds, or NULL. */
static const json_t *variant_of(struct qmp *q, const json_t *info, const json_t *val)
{
	const char *tag = json_str(info, "tag", NULL);
	const char *word = tag ? json_str(val, tag, NULL) : NULL;
	json_t *v;
	size_t i;

	if (!word)
		return NULL;
	json_array_foreach(json_object_get(info, "variants"), i, v)
		if (strcmp(json_str(v, "case", ""), word) == 0)
			return info_of(q, json_str(v, "type", ""));
	return NULL;
}

static int unexpected(const json_t *const *part, int parts, const char *path,
		      const char *key, struct err *e)
{
	const char *list[NEAR_MAX + 1], *near;
	char sub[PATH_MAX_];
	size_t i, n = 0;
	json_t *m;

	for (int k = 0; k < parts; k++)
		json_array_foreach(json_object_get(part[k], "members"), i, m)
			if (n < NEAR_MAX)
				list[n++] = json_str(m, "name", "");
	list[n] = NULL;
	near = util_nearest(key, list);
	join(sub, path, key);
	if (near)
		return err_set(e, -EINVAL, "Parameter '%s' is unexpected; did you mean '%s'?",
			       sub, near);
	return err_set(e, -EINVAL, "Parameter '%s' is unexpected", sub);
}

static int check_object(struct qmp *q, const json_t *info, const json_t *val,
			const char *path, bool open, struct err *e)
{
	const json_t *part[UNION_DEPTH];
	json_t *v;
	const char *key;
	int n = 0, i, r;

	if (!json_is_object(val))
		return wrong_type(*path ? path : "arguments", "object", e);
	for (; info && n < UNION_DEPTH; info = variant_of(q, info, val)) {
		part[n++] = info;
		r = check_members(q, info, val, path, e);
		if (r)
			return r;
	}
	if (open)
		return 0;
	json_object_foreach((json_t *)(uintptr_t)val, key, v) {
		for (i = 0; i < n && !find_member(part[i], key); i++)
			;
		if (i == n)
			return unexpected(part, n, path, key, e);
	}
	return 0;
}

static int check(struct qmp *q, const json_t *info, const json_t *val, const char *path,
		 bool open, struct err *e)
{
	const char *meta = json_str(info, "meta-type", "");

	if (strcmp(meta, "builtin") == 0)
		return check_builtin(info, val, path, e);
	if (strcmp(meta, "enum") == 0)
		return check_enum(info, val, path, e);
	if (strcmp(meta, "array") == 0)
		return check_array(q, info, val, path, e);
	if (strcmp(meta, "alternate") == 0)
		return check_alternate(q, info, val, path, e);
	return check_object(q, info, val, path, open, e);
}

int qmp_schema_check(struct qmp *q, const char *type, const json_t *val,
		     const char *name, struct err *e)
{
	return check(q, info_of(q, type), val, name, false, e);
}

int qmp_schema_check_args(struct qmp *q, const struct qmp_cmd *c, const json_t *args,
			  struct err *e)
{
	const json_t *info = info_of(q, c->name);

	return check(q, info_of(q, json_str(info, "arg-type", "")), args, "",
		     c->flags & QMP_OPEN, e);
}
