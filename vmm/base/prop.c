/*
 * vmm/base/prop.c - property tables: one row is an option everywhere.
 * Threads: any; an object's fields belong to its owner.
 */
#include "vmm/base/prop.h"

#include <assert.h>
#include <ctype.h>
#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include "vmm/base/util.h"

#define NAMES_MAX 256	/* options of one object; only the "did you mean" */

static const char *const auto_words[] = {
	[PROP_AUTO] = "auto", [PROP_ON] = "on", [PROP_OFF] = "off", NULL
};

static void *field(const struct prop *p, void *obj)
{
	return (char *)obj + p->offset;
}

static bool is_signed(const struct prop *p)
{
	return p->type == PROP_T_I32 || p->type == PROP_T_I64;
}

static void put_number(const struct prop *p, void *obj, uint64_t v)
{
	void *f = field(p, obj);

	switch (p->type) {
	case PROP_T_BOOL:
		*(bool *)f = v;
		break;
	case PROP_T_U8:
		*(uint8_t *)f = (uint8_t)v;
		break;
	case PROP_T_U16:
		*(uint16_t *)f = (uint16_t)v;
		break;
	case PROP_T_U32:
	case PROP_T_I32:
		*(uint32_t *)f = (uint32_t)v;
		break;
	case PROP_T_AUTO:
	case PROP_T_ENUM:
		*(int *)f = (int)v;
		break;
	default:
		*(uint64_t *)f = v;
		break;
	}
}

static uint64_t get_number(const struct prop *p, const void *obj)
{
	const void *f = (const char *)obj + p->offset;

	switch (p->type) {
	case PROP_T_BOOL:
		return *(const bool *)f;
	case PROP_T_U8:
		return *(const uint8_t *)f;
	case PROP_T_U16:
		return *(const uint16_t *)f;
	case PROP_T_U32:
		return *(const uint32_t *)f;
	case PROP_T_I32:
		return (uint64_t)(int64_t)*(const int32_t *)f;
	case PROP_T_AUTO:
	case PROP_T_ENUM:
		return (uint64_t)(int64_t)*(const int *)f;
	default:
		return *(const uint64_t *)f;
	}
}

static bool is_text(const struct prop *p)
{
	return p->type == PROP_T_STR || p->type == PROP_T_LINK;
}

void prop_defaults(const struct prop *const *tables, void *obj)
{
	for (; *tables; tables++) {
		for (const struct prop *p = *tables; p->type != PROP_T_END; p++) {
			if (is_text(p))
				*(char **)field(p, obj) = p->def_str ? xstrdup(p->def_str) : NULL;
			else if (p->type == PROP_T_JSON)
				*(json_t **)field(p, obj) = NULL;
			else
				put_number(p, obj, (uint64_t)p->def);
		}
	}
}

void prop_free(const struct prop *const *tables, void *obj)
{
	for (; *tables; tables++) {
		for (const struct prop *p = *tables; p->type != PROP_T_END; p++) {
			if (is_text(p)) {
				free(*(char **)field(p, obj));
				*(char **)field(p, obj) = NULL;
			} else if (p->type == PROP_T_JSON) {
				json_decref(*(json_t **)field(p, obj));
				*(json_t **)field(p, obj) = NULL;
			}
		}
	}
}

const struct prop *prop_find(const struct prop *const *tables, const char *name)
{
	for (; *tables; tables++)
		for (const struct prop *p = *tables; p->type != PROP_T_END; p++)
			if (strcmp(p->name, name) == 0)
				return p;
	return NULL;
}

int parse_u64(const char *s, uint64_t *out)
{
	char *end;

	if (!isdigit((unsigned char)*s))
		return -EINVAL;
	errno = 0;
	*out = strtoull(s, &end, s[0] == '0' && tolower((unsigned char)s[1]) == 'x' ? 16 : 10);
	if (errno)
		return -errno;
	return *end ? -EINVAL : 0;
}

int parse_size(const char *s, uint64_t unit, uint64_t *out)
{
	static const char suffix[] = "bkmgtpe";
	const char *hit;
	char *end;
	uint64_t v;

	if (!isdigit((unsigned char)*s))
		return -EINVAL;
	errno = 0;
	v = strtoull(s, &end, s[0] == '0' && tolower((unsigned char)s[1]) == 'x' ? 16 : 10);
	if (errno)
		return -errno;
	if (*end) {
		hit = strchr(suffix, tolower((unsigned char)*end));
		if (!hit || (end[1] && strcasecmp(end + 1, "b") && strcasecmp(end + 1, "ib")))
			return -EINVAL;
		unit = 1ull << (10 * (hit - suffix));
	}
	if (__builtin_mul_overflow(v, unit, out))
		return -ERANGE;
	return 0;
}

static int parse_bool(const char *s, bool *out)
{
	static const char *const yes[] = { "on", "yes", "true", "y", NULL };
	static const char *const no[] = { "off", "no", "false", "n", NULL };

	for (int i = 0; yes[i]; i++) {
		if (strcmp(s, yes[i]) == 0 || strcmp(s, no[i]) == 0) {
			*out = strcmp(s, yes[i]) == 0;
			return 0;
		}
	}
	return -EINVAL;
}

static int find_word(const char *const *words, const char *s)
{
	for (int i = 0; words && words[i]; i++)
		if (strcmp(words[i], s) == 0)
			return i;
	return -1;
}

static const char *const type_names[] = {
	[PROP_T_END] = "none", [PROP_T_BOOL] = "bool", [PROP_T_AUTO] = "OnOffAuto",
	[PROP_T_U8] = "uint8", [PROP_T_U16] = "uint16", [PROP_T_U32] = "uint32",
	[PROP_T_U64] = "uint64", [PROP_T_I32] = "int32", [PROP_T_I64] = "int64",
	[PROP_T_SIZE] = "size", [PROP_T_STR] = "str", [PROP_T_ENUM] = "enum",
	[PROP_T_LINK] = "str", [PROP_T_JSON] = "any",
};
static_assert(ARRAY_LEN(type_names) == PROP_T_JSON + 1, "one name per type");

const char *prop_type_name(const struct prop *p)
{
	return type_names[p->type];
}

static void words_text(const char *const *words, char *buf, size_t len)
{
	size_t n = 0;

	buf[0] = '\0';
	for (int i = 0; words[i] && n < len; i++)
		n += (size_t)snprintf(buf + n, len - n, "%s%s", i ? "|" : "", words[i]);
}

const char *prop_range(const struct prop *p, char *buf, size_t len)
{
	switch (p->type) {
	case PROP_T_BOOL:
		snprintf(buf, len, "on|off");
		break;
	case PROP_T_AUTO:
		snprintf(buf, len, "on|off|auto");
		break;
	case PROP_T_ENUM:
		words_text(p->choices, buf, len);
		break;
	case PROP_T_LINK:
		snprintf(buf, len, "the id of a %s", p->kind);
		break;
	case PROP_T_STR:
		snprintf(buf, len, "text");
		break;
	case PROP_T_JSON:
		snprintf(buf, len, "JSON");
		break;
	case PROP_T_I32:
	case PROP_T_I64:
		snprintf(buf, len, "%" PRId64 "..%" PRId64, p->min, (int64_t)p->max);
		break;
	default:
		snprintf(buf, len, "%" PRIu64 "..%" PRIu64, (uint64_t)p->min, p->max);
		break;
	}
	return buf;
}

static int bad_value(const struct prop *p, const char *val, const char *what, struct err *e)
{
	char range[160];

	return err_set(e, -EINVAL, "%s: %s=%s: must be %s%s%s", what, p->name, val,
		       prop_range(p, range, sizeof(range)), p->unit ? " " : "",
		       p->unit ? p->unit : "");
}

static int number_fits(const struct prop *p, uint64_t v, bool negative)
{
	if (is_signed(p))
		return (int64_t)v >= p->min && (int64_t)v <= (int64_t)p->max &&
		       (negative || (int64_t)v >= 0);
	return !negative && v >= (uint64_t)p->min && v <= p->max;
}

static int parse_number(const struct prop *p, const char *s, uint64_t *v, bool *negative)
{
	int r;

	*negative = is_signed(p) && *s == '-';
	if (*negative)
		s++;
	r = p->type == PROP_T_SIZE ? parse_size(s, p->bare ? p->bare : 1, v) : parse_u64(s, v);
	if (r == 0 && *negative) {
		if (*v > (uint64_t)INT64_MAX + 1)
			return -ERANGE;
		*v = -*v;
	}
	return r;
}

static int set_number(const struct prop *p, void *obj, const json_t *val,
		      const char *what, struct err *e)
{
	bool negative = false;
	char text[32];
	uint64_t v;

	if (json_is_integer(val)) {
		v = (uint64_t)json_integer_value(val);
		negative = json_integer_value(val) < 0;
		snprintf(text, sizeof(text), "%" JSON_INTEGER_FORMAT, json_integer_value(val));
		if (!number_fits(p, v, negative))
			return bad_value(p, text, what, e);
	} else if (json_is_string(val)) {
		if (parse_number(p, json_string_value(val), &v, &negative) ||
		    !number_fits(p, v, negative))
			return bad_value(p, json_string_value(val), what, e);
	} else {
		return bad_value(p, "(not a number)", what, e);
	}
	put_number(p, obj, v);
	return 0;
}

/* BOOL, AUTO and ENUM: words, and JSON booleans where they mean something. */
static int set_word(const struct prop *p, void *obj, const json_t *val,
		    const char *what, struct err *e)
{
	const char *s = json_string_value(val);
	int i = -1;
	bool b;

	if (json_is_boolean(val))
		s = json_is_true(val) ? "on" : "off";
	if (!s)
		return bad_value(p, "(not a word)", what, e);
	if (p->type == PROP_T_ENUM)
		i = find_word(p->choices, s);
	else if (parse_bool(s, &b) == 0)
		i = p->type == PROP_T_BOOL ? b : (b ? PROP_ON : PROP_OFF);
	else if (p->type == PROP_T_AUTO && strcmp(s, auto_words[PROP_AUTO]) == 0)
		i = PROP_AUTO;
	if (i < 0)
		return bad_value(p, s, what, e);
	put_number(p, obj, (uint64_t)i);
	return 0;
}

static int set_text(const struct prop *p, void *obj, const json_t *val,
		    const char *what, struct err *e)
{
	char **f = field(p, obj);
	char num[32];
	const char *s = json_string_value(val);

	/* "serial":123 and addr=4 come as numbers from JSON clients. */
	if (!s && json_is_integer(val)) {
		snprintf(num, sizeof(num), "%" JSON_INTEGER_FORMAT, json_integer_value(val));
		s = num;
	}
	if (!s)
		return bad_value(p, "(not a text)", what, e);
	free(*f);
	*f = xstrdup(s);
	return 0;
}

int prop_set(const struct prop *p, void *obj, const json_t *val,
	     const char *what, struct err *e)
{
	json_t **slot;

	switch (p->type) {
	case PROP_T_BOOL:
	case PROP_T_AUTO:
	case PROP_T_ENUM:
		return set_word(p, obj, val, what, e);
	case PROP_T_STR:
	case PROP_T_LINK:
		return set_text(p, obj, val, what, e);
	case PROP_T_JSON:
		slot = field(p, obj);
		json_decref(*slot);
		*slot = json_deep_copy(val);
		return 0;
	default:
		return set_number(p, obj, val, what, e);
	}
}

json_t *prop_get(const struct prop *p, const void *obj)
{
	const char *s;
	json_t *j;
	uint64_t v;

	if (is_text(p)) {
		s = *(char *const *)((const char *)obj + p->offset);
		return s ? json_string(s) : json_null();
	}
	if (p->type == PROP_T_JSON) {
		j = *(json_t *const *)((const char *)obj + p->offset);
		return j ? json_deep_copy(j) : json_null();
	}
	v = get_number(p, obj);
	if (p->type == PROP_T_BOOL)
		return json_boolean(v);
	if (p->type == PROP_T_AUTO)
		return json_string(auto_words[v]);
	if (p->type == PROP_T_ENUM)
		return json_string(p->choices[v]);
	return json_integer((json_int_t)v);
}

static bool in_list(const char *const *list, const char *name)
{
	return list && find_word(list, name) >= 0;
}

static int unknown(const struct prop *const *tables, const char *name,
		   const char *what, struct err *e)
{
	const char *names[NAMES_MAX + 1], *near;
	int n = 0;

	for (; *tables; tables++)
		for (const struct prop *p = *tables; p->type != PROP_T_END; p++)
			if (n < NAMES_MAX && !(p->flags & PROP_HIDDEN))
				names[n++] = p->name;
	names[n] = NULL;
	near = util_nearest(name, names);
	if (near)
		return err_set(e, -EINVAL, "%s has no option '%s'; did you mean '%s'?",
			       what, name, near);
	return err_set(e, -EINVAL, "%s has no option '%s'", what, name);
}

int prop_apply(const struct prop *const *tables, void *obj, const json_t *args,
	       const char *const *skip, const char *what, struct err *e)
{
	const struct prop *p;
	const char *key;
	json_t *val;
	void *it;
	int r;

	for (it = json_object_iter((json_t *)(uintptr_t)args); it;
	     it = json_object_iter_next((json_t *)(uintptr_t)args, it)) {
		key = json_object_iter_key(it);
		val = json_object_iter_value(it);
		if (in_list(skip, key))
			continue;
		p = prop_find(tables, key);
		if (!p)
			return unknown(tables, key, what, e);
		r = prop_set(p, obj, val, what, e);
		if (r)
			return r;
	}
	for (; *tables; tables++)
		for (p = *tables; p->type != PROP_T_END; p++)
			if ((p->flags & PROP_REQUIRED) && !json_object_get(args, p->name))
				return err_set(e, -EINVAL, "%s needs %s= (%s)", what,
					       p->name, p->help);
	return 0;
}
