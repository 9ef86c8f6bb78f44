/*
 * vmm/control/qmp.h - the QMP server: commands, events and types as tables.
 *
 * Wire format and words are QEMU's (docs/interop/qmp-spec): one JSON object per
 * line, lines end in CRLF (libvirt waits for ever without the CR).
 *
 * A chapter of commands is one file that exports a struct qmp_table and has
 * one line in tables.c. query-qmp-schema is generated from the tables, and the
 * arguments of every request are checked against that same schema before the
 * command runs: what is not in the tables does not exist, anywhere.
 *
 * Types are written as QAPI writes them: "str", "int", "number", "bool",
 * "null", "any", the name of a struct qmp_type of any table, and "[T]" for an
 * array of T. "*name" is an optional member.
 *
 * Threads: main loop.
 */
#ifndef VMM_CONTROL_QMP_H
#define VMM_CONTROL_QMP_H

#include <jansson.h>

#include "vmm/base/err.h"
#include "vmm/base/prop.h"

struct chardev;
struct qmp;
struct qmp_call;
struct vm;

/* The version whose interface is followed; our own goes to "package". */
#define QMP_QEMU_MAJOR	8
#define QMP_QEMU_MINOR	2
#define QMP_QEMU_MICRO	0

/* ---- what a table holds ---- */

struct qmp_member {
	const char *name;	/* "*name": optional; ended by NULL */
	const char *type;
};

struct qmp_variant {
	const char *word;	/* value of the tag; ended by NULL */
	const char *type;	/* an object's, or NULL: no more members */
};

enum qmp_meta {
	QMP_OBJECT,
	QMP_ENUM,
	QMP_ALTERNATE,		/* members' types, told apart by JSON kind */
};

struct qmp_type {
	const char *name;	/* QAPI's; ended by NULL */
	enum qmp_meta meta;
	const struct qmp_member *members;
	const char *const *words;		/* ENUM, NULL-terminated */
	const char *tag;			/* OBJECT: member that selects */
	const struct qmp_variant *variants;
	/* Adds to the row's SchemaInfo what other tables know (drivers of the
	 * block layer, chardev back ends), with qmp_schema_*(). May be NULL. */
	void (*make)(struct qmp *q, json_t *info);
};

struct qmp_event {
	const char *name;	/* ended by NULL */
	const char *type;	/* of "data"; NULL: none */
	const char *help;
};

enum qmp_cmd_flags {
	QMP_OOB = 1 << 0,	/* quick, may be asked for with exec-oob */
	QMP_OPEN = 1 << 1,	/* takes members that the schema does not name
				 * (device_add: the driver's properties) */
};

/*
 * A command. Its arguments are either a property table @args over a struct of
 * @args_size bytes, which @run gets filled in; a property's .kind names the
 * QAPI type of an enum (PROP_ENUM) or of any JSON (PROP_JSON). Or @arg_type is
 * the name of an object type, and @run gets the checked json_t * itself.
 * @run returns 0 and may set *ret (NULL: {}), or -errno with @e.
 */
struct qmp_cmd {
	const char *name;
	const char *help;
	const struct prop *args;	/* NULL: takes none */
	size_t args_size;
	int (*run)(struct qmp *q, void *args, json_t **ret, struct err *e);
	const char *ret;		/* type of the reply; NULL: {} */
	const char *arg_type;
	unsigned int flags;
	const char *const *features;	/* NULL-terminated, or NULL */
};

/* Any pointer may be NULL; arrays end in a row without a name. */
struct qmp_table {
	const struct qmp_cmd *cmds;
	const struct qmp_event *events;
	const struct qmp_type *types;
	/* Called by qmp_create() and qmp_destroy(). */
	void (*init)(struct qmp *q);
	void (*fini)(struct qmp *q);
};

/* All tables; ended by NULL. */
extern const struct qmp_table *const qmp_tables[];

/* ---- the server ---- */

struct qmp *qmp_create(struct vm *vm);
/* Deferred calls are answered to nobody from then on. NULL is allowed. */
void qmp_destroy(struct qmp *q);
struct vm *qmp_vm(struct qmp *q);
/* A slot for a table's own state, NULL at first. */
void **qmp_state(struct qmp *q, const struct qmp_table *t);

/* Serve QMP on @c from now on. */
int qmp_serve(struct qmp *q, struct chardev *c, struct err *e);
/* No longer: @c may be deleted then. Outside of its callbacks. */
void qmp_unserve(struct qmp *q, struct chardev *c);

/*
 * Execute one request in process; the reply as a client would get it, a new
 * reference. A command that completes later is waited for by turning the main
 * loop, so not from inside one of its callbacks: use qmp_execute_async() there.
 */
json_t *qmp_execute(struct qmp *q, const json_t *request);
/* @done gets the reply (borrowed) once, perhaps before this returns; @done NULL
 * when nobody wants to know. Not called when the server is destroyed before. */
void qmp_execute_async(struct qmp *q, const json_t *request,
		       void (*done)(void *arg, json_t *reply), void *arg);

/* ---- for commands ---- */

/*
 * A command that cannot answer at once calls qmp_defer() from its run, returns
 * 0, and calls qmp_complete() once, later, from the main loop. The client's
 * next in-band command waits; other clients, events and the guest do not.
 */
struct qmp_call *qmp_defer(struct qmp *q);
/* Steals @ret (NULL: {}); @e set: an error. The call is gone then. */
void qmp_complete(struct qmp_call *c, json_t *ret, const struct err *e);

/* A descriptor that came with the present command's bytes (SCM_RIGHTS), the
 * caller's from then on; -1: none. */
int qmp_take_fd(struct qmp *q);

/* {"qemu":{major,minor,micro},"package":"roost …"} */
json_t *qmp_version(void);

/* ---- schema.c ---- */

/* The reply of query-qmp-schema: an array of SchemaInfo. Borrowed. */
json_t *qmp_schema(struct qmp *q);
/* Check @val against the type called @type; @name is what to call it in the
 * sentence ("arguments" members get their own). 0 or -EINVAL. */
int qmp_schema_check(struct qmp *q, const char *type, const json_t *val,
		     const char *name, struct err *e);
/* For qmp_type.make: append a member, an enum word, or a variant to @info. */
void qmp_schema_member(struct qmp *q, json_t *info, const char *name, const char *type);
void qmp_schema_word(json_t *info, const char *word);
void qmp_schema_variant(struct qmp *q, json_t *info, const char *word, const char *type);
/* Append the options of @props as members; a dot in a name ("cache.direct")
 * makes objects called after @prefix. */
void qmp_schema_props(struct qmp *q, json_t *info, const struct prop *props);
/* An object type called @name made of property tables; the second leaves out
 * the members in @without (NULL-terminated), which the user of the type has. */
void qmp_schema_object(struct qmp *q, const char *name, const struct prop *const *tables);
void qmp_schema_object_without(struct qmp *q, const char *name,
			       const struct prop *const *tables, const char *const *without);
/* A type that is there already, to add members to it; NULL: it is not. */
json_t *qmp_schema_find(struct qmp *q, const char *name);
/* The schema's name of the type of @p's value. */
const char *qmp_schema_prop_type(struct qmp *q, const struct prop *p);

#endif
