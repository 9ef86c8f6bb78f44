/*
 * vmm/base/prop.h - property tables: one row is an option everywhere.
 *
 * A row gives name, type, field, range or choices, default, flags and help. It
 * drives `-device k=v`, JSON, QMP, introspection, the manual and the sentence
 * of the error. No option is parsed anywhere else.
 *
 * Threads: set-up and control run on the main loop; tables are constant.
 */
#ifndef VMM_BASE_PROP_H
#define VMM_BASE_PROP_H

#include <jansson.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "vmm/base/err.h"

enum prop_type {
	PROP_T_END,
	PROP_T_BOOL,	/* bool; on|off|yes|no|true|false, JSON true/false */
	PROP_T_AUTO,	/* enum prop_auto; on|off|auto */
	PROP_T_U8,	/* uint8_t  min..max */
	PROP_T_U16,
	PROP_T_U32,
	PROP_T_U64,
	PROP_T_I32,
	PROP_T_I64,
	PROP_T_SIZE,	/* uint64_t bytes; suffixes k M G T, bare number: bytes */
	PROP_T_STR,	/* char *, owned by the object, NULL when not given */
	PROP_T_ENUM,	/* int, index into choices */
	PROP_T_LINK,	/* char *, id of another object; .kind says of what */
	PROP_T_JSON,	/* json_t *, owned; an object or array taken as it is */
};

enum prop_auto { PROP_AUTO, PROP_ON, PROP_OFF };

enum prop_flags {
	PROP_REQUIRED = 1 << 0,		/* error when absent */
	PROP_RUNTIME = 1 << 1,		/* qom-set may change it on a running VM; of a
					 * block node, blockdev-reopen */
	PROP_EXPERIMENTAL = 1 << 2,	/* may change; said in help */
	PROP_GUEST = 1 << 3,		/* the guest can see the value */
	PROP_HIDDEN = 1 << 4,		/* accepted for compatibility, not listed */
};

struct prop {
	const char *name;
	enum prop_type type;
	size_t offset;		/* of the field in the object */
	int64_t min;		/* unsigned types: compared as uint64_t */
	uint64_t max;		/* for I32, I64: cast to int64_t */
	int64_t def;		/* default of numbers, bools, enums */
	const char *def_str;	/* default of STR, LINK */
	const char *const *choices;	/* ENUM words, NULL-terminated */
	const char *kind;	/* LINK: "drive", "chardev", "iothread", … */
	unsigned int flags;
	const char *help;	/* lower case, no full stop */
	const char *unit;	/* "bytes", "ms"; NULL when none */
	uint64_t bare;		/* SIZE: what a bare number in a text counts;
				 * 0: bytes (JSON numbers are always bytes) */
};

#define PROP_END { .type = PROP_T_END }
#define PROP_NUM_(t, st, f, n, lo, hi, d, h, ...) \
	{ .name = (n), .type = (t), .offset = offsetof(st, f), .min = (lo), \
	  .max = (hi), .def = (d), .help = (h), ##__VA_ARGS__ }
#define PROP_BOOL(st, f, n, d, h, ...)	PROP_NUM_(PROP_T_BOOL, st, f, n, 0, 1, d, h, ##__VA_ARGS__)
#define PROP_ONOFFAUTO(st, f, n, d, h, ...) \
	PROP_NUM_(PROP_T_AUTO, st, f, n, 0, 2, d, h, ##__VA_ARGS__)
#define PROP_U8(st, f, n, lo, hi, d, h, ...) \
	PROP_NUM_(PROP_T_U8, st, f, n, lo, hi, d, h, ##__VA_ARGS__)
#define PROP_U16(st, f, n, lo, hi, d, h, ...) \
	PROP_NUM_(PROP_T_U16, st, f, n, lo, hi, d, h, ##__VA_ARGS__)
#define PROP_U32(st, f, n, lo, hi, d, h, ...) \
	PROP_NUM_(PROP_T_U32, st, f, n, lo, hi, d, h, ##__VA_ARGS__)
#define PROP_U64(st, f, n, lo, hi, d, h, ...) \
	PROP_NUM_(PROP_T_U64, st, f, n, lo, hi, d, h, ##__VA_ARGS__)
#define PROP_I32(st, f, n, lo, hi, d, h, ...) \
	PROP_NUM_(PROP_T_I32, st, f, n, lo, hi, d, h, ##__VA_ARGS__)
#define PROP_I64(st, f, n, lo, hi, d, h, ...) \
	PROP_NUM_(PROP_T_I64, st, f, n, lo, hi, d, h, ##__VA_ARGS__)
#define PROP_SIZE(st, f, n, lo, hi, d, h, ...) \
	PROP_NUM_(PROP_T_SIZE, st, f, n, lo, hi, d, h, ##__VA_ARGS__)
#define PROP_STR(st, f, n, d, h, ...) \
	{ .name = (n), .type = PROP_T_STR, .offset = offsetof(st, f), \
	  .def_str = (d), .help = (h), ##__VA_ARGS__ }
#define PROP_ENUM(st, f, n, words, d, h, ...) \
	{ .name = (n), .type = PROP_T_ENUM, .offset = offsetof(st, f), \
	  .choices = (words), .def = (d), .help = (h), ##__VA_ARGS__ }
#define PROP_LINK(st, f, n, link_kind, h, ...) \
	{ .name = (n), .type = PROP_T_LINK, .offset = offsetof(st, f), \
	  .kind = (link_kind), .help = (h), ##__VA_ARGS__ }
#define PROP_JSON(st, f, n, h, ...) \
	{ .name = (n), .type = PROP_T_JSON, .offset = offsetof(st, f), .help = (h), ##__VA_ARGS__ }

/*
 * A list of tables that apply to one object, most specific first; every field
 * offset is relative to the same @obj. NULL-terminated.
 */
typedef const struct prop *const prop_tables[];

/* Write every default into @obj (zeroed by the caller). */
void prop_defaults(const struct prop *const *tables, void *obj);

/*
 * Apply the members of JSON object @args, except those named in @skip (a
 * NULL-terminated list, may be NULL). Values may be JSON typed or strings as
 * they stand on a command line. @what names the object in errors
 * ("virtio-blk-pci 'disk0'"). Unknown names get the nearest match. Checks
 * PROP_REQUIRED at the end. 0 or -errno.
 */
int prop_apply(const struct prop *const *tables, void *obj, const json_t *args,
	       const char *const *skip, const char *what, struct err *e);

/* Set one property from a JSON value (string or typed). */
int prop_set(const struct prop *p, void *obj, const json_t *val,
	     const char *what, struct err *e);

/* The property's present value, JSON typed; a new reference. */
json_t *prop_get(const struct prop *p, const void *obj);

const struct prop *prop_find(const struct prop *const *tables, const char *name);

/* Free strings and JSON the tables' fields own. */
void prop_free(const struct prop *const *tables, void *obj);

/* QAPI type word ("bool", "uint32", "size", "str", …) and a range text such as
 * "1..1024" or "on|off|auto" for help and errors. @buf is the caller's. */
const char *prop_type_name(const struct prop *p);
const char *prop_range(const struct prop *p, char *buf, size_t len);

/* "512M", "0x10", "4k" -> number. Base 10 or 0x. 0 or -EINVAL/-ERANGE. */
int parse_u64(const char *s, uint64_t *out);
int parse_size(const char *s, uint64_t unit, uint64_t *out);

#endif
