/*
 * vmm/control/commands_char.c - QMP commands about chardevs and I/O threads.
 *
 * Spec:    QEMU's qapi/char.json, misc.json.
 * Threads: main loop.
 * Missing: mux and the back ends that roost has not.
 */
#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "vmm/base/json.h"
#include "vmm/base/util.h"
#include "vmm/char/char.h"
#include "vmm/control/qmp.h"
#include "vmm/core/vm.h"
#include "vmm/loop/iothread.h"

static void add_chardev(struct chardev *c, void *arg)
{
	if (strchr(char_id(c), '#'))	/* a further client of a QMP socket */
		return;
	json_array_append_new(arg, json_pack("{s:s,s:s,s:b}", "label", char_id(c),
					     "filename", char_filename(c),
					     "frontend-open", char_has_front(c)));
}

static int query_chardev(struct qmp *q, void *args, json_t **ret, struct err *e)
{
	*ret = json_array();
	if (qmp_vm(q)->chars)
		char_each(qmp_vm(q)->chars, add_chardev, *ret);
	return 0;
}

static int query_backends(struct qmp *q, void *args, json_t **ret, struct err *e)
{
	*ret = json_array();
	for (int i = 0; char_drivers[i]; i++)
		json_array_append_new(*ret, json_pack("{s:s}", "name", char_drivers[i]->name));
	return 0;
}

/* ---- chardev-add, chardev-change ---- */

/* The members of @from into @to, under other names where the command line has
 * them ({"out": "path"}). */
static void copy_members(json_t *to, const json_t *from, const char *const (*names)[2])
{
	const char *key, *as;
	json_t *val;
	int i;

	json_object_foreach((json_t *)(uintptr_t)from, key, val) {
		as = key;
		for (i = 0; names && names[i][0]; i++)
			if (strcmp(names[i][0], key) == 0)
				as = names[i][1];
		json_object_set(to, as, val);
	}
}

/* SocketAddressLegacy: the flat members that -chardev socket takes. */
static void flatten_address(json_t *to)
{
	static const char *const names[][2] = { { "str", "fd" }, { NULL, NULL } };
	json_t *addr = json_incref(json_object_get(to, "addr"));

	json_object_del(to, "addr");
	copy_members(to, json_object_get(addr, "data"), names);
	json_decref(addr);
	/* A server that waits would stop the whole VM here. */
	if (!json_object_get(to, "server"))
		json_object_set_new(to, "server", json_true());
	json_object_set_new(to, "wait", json_false());
}

static json_t *flatten(const json_t *args)
{
	static const char *const names[][2] = { { "out", "path" }, { NULL, NULL } };
	const json_t *backend = json_object_get(args, "backend");
	const char *type = json_str(backend, "type", "");
	json_t *o = json_object();

	copy_members(o, json_object_get(backend, "data"), strcmp(type, "file") ? NULL : names);
	if (json_object_get(o, "addr"))
		flatten_address(o);
	json_object_set(o, "id", json_object_get(args, "id"));
	json_put_str(o, "backend", type);
	return o;
}

static int no_chars(struct err *e)
{
	return err_set(e, -ENODEV, "this VM has no chardevs");
}

/* What would wait for a peer, or reach for a descriptor that is ours. */
static int check_runtime(const json_t *o, struct err *e)
{
	const char *id = json_str(o, "id", ""), *fd = json_str(o, "fd", NULL);

	if (fd && *fd >= '0' && *fd <= '9')
		return err_set(e, -EINVAL, "chardev '%.64s': a descriptor's number means nothing "
			       "to a running VM; send it with getfd and give its name", id);
	if (json_object_get(o, "host") && json_is_false(json_object_get(o, "server")) &&
	    json_integer_value(json_object_get(o, "reconnect")) == 0)
		return err_set(e, -EINVAL, "chardev '%.64s': a TCP client needs reconnect= on a "
			       "running VM, which must not wait for its peer", id);
	return 0;
}

/* @make is char_add() or char_change(). */
static int make_backend_of(struct qmp *q, const json_t *args, json_t **ret, struct err *e,
			   int (*make)(struct char_set *, const json_t *, struct chardev **,
				       struct err *))
{
	json_t *flat = flatten(args);
	struct chardev *c;
	const char *name;
	int r = check_runtime(flat, e);

	if (r >= 0)
		r = make(qmp_vm(q)->chars, flat, &c, e);
	json_decref(flat);
	if (r < 0)
		return r;
	name = char_filename(c);
	if (strncmp(name, "pty:", 4) == 0)
		*ret = json_pack("{s:s}", "pty", name + 4);
	return 0;
}

static int chardev_add(struct qmp *q, void *args, json_t **ret, struct err *e)
{
	const char *id = json_str(args, "id", "");

	if (!qmp_vm(q)->chars)
		return no_chars(e);
	if (strchr(id, '#'))
		return err_set(e, -EINVAL, "Parameter 'id': '%.80s' must not have a '#'", id);
	return make_backend_of(q, args, ret, e, char_add);
}

struct id_args {
	char *id;
};

static const struct prop id_args[] = {
	PROP_STR(struct id_args, id, "id", NULL, "the chardev", .flags = PROP_REQUIRED),
	PROP_END
};

static struct chardev *find(struct qmp *q, const char *id, struct err *e)
{
	struct char_set *set = qmp_vm(q)->chars;
	struct chardev *c = set ? char_find(set, id) : NULL;

	if (!c)
		err_set(e, -ENOENT, "Chardev '%.80s' not found", id);
	return c;
}

static int chardev_change(struct qmp *q, void *args, json_t **ret, struct err *e)
{
	if (!find(q, json_str(args, "id", ""), e))
		return -ENOENT;
	return make_backend_of(q, args, ret, e, char_change);
}

static int chardev_remove(struct qmp *q, void *args, json_t **ret, struct err *e)
{
	const char *id = ((struct id_args *)args)->id;

	return find(q, id, e) ? char_del(qmp_vm(q)->chars, id, e) : -ENOENT;
}

static int chardev_send_break(struct qmp *q, void *args, json_t **ret, struct err *e)
{
	struct chardev *c = find(q, ((struct id_args *)args)->id, e);

	if (!c)
		return -ENOENT;
	char_send_break(c);
	return 0;
}

/* ---- I/O threads ---- */

static int query_iothreads(struct qmp *q, void *args, json_t **ret, struct err *e)
{
	struct vm *vm = qmp_vm(q);

	*ret = json_array();
	for (int i = 0; i < vm->iothread_count; i++)
		json_array_append_new(*ret, iothread_info(vm->iothread[i]));
	return 0;
}

static const struct qmp_cmd cmds[] = {
	{ .name = "query-chardev", .help = "chardevs and who uses them",
	  .run = query_chardev, .ret = "[ChardevInfo]" },
	{ .name = "query-chardev-backends", .help = "kinds of chardevs",
	  .run = query_backends, .ret = "[ChardevBackendInfo]" },
	{ .name = "chardev-add", .help = "add a chardev", .arg_type = "q_obj_chardev-add-arg",
	  .run = chardev_add, .ret = "ChardevReturn" },
	{ .name = "chardev-change", .help = "another backend for a chardev that is in use",
	  .arg_type = "q_obj_chardev-change-arg", .run = chardev_change, .ret = "ChardevReturn" },
	{ .name = "chardev-remove", .help = "remove a chardev that nobody uses",
	  .args = id_args, .args_size = sizeof(struct id_args), .run = chardev_remove },
	{ .name = "chardev-send-break", .help = "a break on a serial line", .args = id_args,
	  .args_size = sizeof(struct id_args), .run = chardev_send_break },
	{ .name = "query-iothreads", .help = "I/O threads", .run = query_iothreads,
	  .ret = "[IOThreadInfo]" },
	{ 0 }
};

/* ---- types ---- */

static const struct qmp_member chardev_info[] = {
	{ "label", "str" }, { "filename", "str" }, { "frontend-open", "bool" }, { 0 }
};
static const struct qmp_member backend_info[] = { { "name", "str" }, { 0 } };
static const struct qmp_member add_arg[] = {
	{ "id", "str" }, { "backend", "ChardevBackend" }, { 0 }
};
static const struct qmp_member chardev_return[] = { { "*pty", "str" }, { 0 } };
static const struct qmp_member backend[] = { { "type", "ChardevBackendKind" }, { 0 } };
static const struct qmp_member wrapper_file[] = { { "data", "ChardevFile" }, { 0 } };
static const struct qmp_member chardev_file[] = {
	{ "out", "str" }, { "*append", "bool" }, { "*logfile", "str" },
	{ "*logappend", "bool" }, { 0 }
};
static const struct qmp_member wrapper_socket[] = { { "data", "ChardevSocket" }, { 0 } };
static const struct qmp_member chardev_socket[] = {
	{ "addr", "SocketAddressLegacy" }, { "*server", "bool" }, { "*wait", "bool" },
	{ "*nodelay", "bool" }, { "*reconnect", "int" }, { "*logfile", "str" },
	{ "*logappend", "bool" }, { 0 }
};
static const char *const address_words[] = { "inet", "unix", "fd", NULL };
static const struct qmp_member address[] = { { "type", "SocketAddressType" }, { 0 } };
static const struct qmp_variant address_variants[] = {
	{ "inet", "InetSocketAddressWrapper" }, { "unix", "UnixSocketAddressWrapper" },
	{ "fd", "StringWrapper" }, { 0 }
};
static const struct qmp_member wrapper_inet[] = { { "data", "InetSocketAddress" }, { 0 } };
static const struct qmp_member inet_address[] = {
	{ "host", "str" }, { "port", "str" }, { "*ipv4", "bool" }, { "*ipv6", "bool" }, { 0 }
};
static const struct qmp_member wrapper_unix[] = { { "data", "UnixSocketAddress" }, { 0 } };
static const struct qmp_member unix_address[] = {
	{ "path", "str" }, { "*abstract", "bool" }, { "*tight", "bool" }, { 0 }
};
static const struct qmp_member wrapper_string[] = { { "data", "String" }, { 0 } };
static const struct qmp_member string_members[] = { { "str", "str" }, { 0 } };
static const struct qmp_member iothread_members[] = {
	{ "id", "str" }, { "thread-id", "int" }, { "poll-max-ns", "int" },
	{ "poll-grow", "int" }, { "poll-shrink", "int" }, { 0 }
};

static void make_kinds(struct qmp *q, json_t *info)
{
	for (int i = 0; char_drivers[i]; i++)
		qmp_schema_word(info, char_drivers[i]->name);
}

/* Those whose options QEMU groups in its own way have a row; the others' are
 * the driver's table. */
static void make_backend(struct qmp *q, json_t *info)
{
	char data[64], name[64];
	json_t *wrapper;

	for (int i = 0; char_drivers[i]; i++) {
		const struct char_driver *d = char_drivers[i];
		const struct prop *const own[] = { d->props, char_props, NULL };

		if (strcmp(d->name, "file") == 0) {
			qmp_schema_variant(q, info, d->name, "ChardevFileWrapper");
			continue;
		}
		if (strcmp(d->name, "socket") == 0) {
			qmp_schema_variant(q, info, d->name, "ChardevSocketWrapper");
			continue;
		}
		snprintf(data, sizeof(data), "Chardev-%s", d->name);
		snprintf(name, sizeof(name), "Chardev-%s-wrapper", d->name);
		qmp_schema_object(q, data, d->props ? own : own + 1);
		qmp_schema_object(q, name, own + 2);
		wrapper = qmp_schema_find(q, name);
		qmp_schema_member(q, wrapper, "data", data);
		qmp_schema_variant(q, info, d->name, name);
	}
}

static const struct qmp_type types[] = {
	{ .name = "ChardevInfo", .members = chardev_info },
	{ .name = "ChardevBackendInfo", .members = backend_info },
	{ .name = "q_obj_chardev-add-arg", .members = add_arg },
	{ .name = "q_obj_chardev-change-arg", .members = add_arg },
	{ .name = "ChardevReturn", .members = chardev_return },
	{ .name = "ChardevBackendKind", .meta = QMP_ENUM, .make = make_kinds },
	{ .name = "ChardevBackend", .members = backend, .tag = "type", .make = make_backend },
	{ .name = "ChardevFileWrapper", .members = wrapper_file },
	{ .name = "ChardevFile", .members = chardev_file },
	{ .name = "ChardevSocketWrapper", .members = wrapper_socket },
	{ .name = "ChardevSocket", .members = chardev_socket },
	{ .name = "SocketAddressType", .meta = QMP_ENUM, .words = address_words },
	{ .name = "SocketAddressLegacy", .members = address, .tag = "type",
	  .variants = address_variants },
	{ .name = "InetSocketAddressWrapper", .members = wrapper_inet },
	{ .name = "InetSocketAddress", .members = inet_address },
	{ .name = "UnixSocketAddressWrapper", .members = wrapper_unix },
	{ .name = "UnixSocketAddress", .members = unix_address },
	{ .name = "StringWrapper", .members = wrapper_string },
	{ .name = "String", .members = string_members },
	{ .name = "IOThreadInfo", .members = iothread_members },
	{ 0 }
};

const struct qmp_table qmp_table_char = { .cmds = cmds, .types = types };
