/*
 * tests/dev/test_qmp_commands.c - every QMP command on a VM with real objects:
 * memory, PCI, virtio devices, block nodes, chardevs; no KVM and no vCPU.
 *
 * The walk over the tables speaks through a socket: each command, in each state
 * of the VM, without arguments, with one that is unknown, and with each of its
 * arguments of each wrong type. TSAN: dumps are written by a thread.
 */
#include <criterion/criterion.h>
#include <elf.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include "block/block.h"
#include "tests/dev/lib_pci.h"
#include "vmm/base/fds.h"
#include "vmm/base/json.h"
#include "vmm/base/log.h"
#include "vmm/base/util.h"
#include "vmm/char/char.h"
#include "vmm/control/qmp.h"
#include "vmm/core/object.h"
#include "vmm/run/dev_list.h"
#include "vmm/run/machine.h"
#include "vmm/run/obj_list.h"
#include "vmm/run/options.h"

#define TURNS	3000
#define DISK	(1 * MIB)

struct bench {
	struct rig *r;
	struct vm *vm;
	struct qmp *q;
	struct char_set *chars;
	struct block_graph *blocks;
	char dir[32], disk[64], sock[80];
	int fd;			/* of a client that has negotiated; -1: none */
	char in[256 * 1024];	/* received, not yet looked at */
	size_t len;
};

static void quiet(enum log_level level, const char *line, void *arg)
{
}

static json_t *parse(const char *json)
{
	char *text = xstrdup(json), *c;
	json_error_t je;
	json_t *o;

	for (c = text; *c; c++)
		if (*c == '\'')
			*c = '"';
	o = json_loads(text, JSON_DECODE_ANY, &je);
	cr_assert_not_null(o, "%s: %s", json, je.text);
	free(text);
	return o;
}

static json_t *ask(struct bench *b, const char *json)
{
	json_t *req = parse(json), *reply = qmp_execute(b->q, req);

	json_decref(req);
	return reply;
}

static void expect_ok(struct bench *b, const char *json)
{
	json_t *reply = ask(b, json);

	cr_assert_not_null(json_object_get(reply, "return"), "%s: %s", json,
			   json_str(json_object_get(reply, "error"), "desc", "?"));
	json_decref(reply);
}

static void expect_error(struct bench *b, const char *json, const char *class, const char *text)
{
	json_t *reply = ask(b, json);
	const json_t *e = json_object_get(reply, "error");

	cr_assert_not_null(e, "%s is accepted", json);
	cr_expect_str_eq(json_str(e, "class", ""), class, "%s", json);
	cr_expect_not_null(strstr(json_str(e, "desc", ""), text), "%s: %s", json,
			   json_str(e, "desc", ""));
	json_decref(reply);
}

/* A member of the reply's "return", a new reference. */
static json_t *get(struct bench *b, const char *json)
{
	json_t *reply = ask(b, json), *ret = json_incref(json_object_get(reply, "return"));

	cr_assert_not_null(ret, "%s: %s", json,
			   json_str(json_object_get(reply, "error"), "desc", "?"));
	json_decref(reply);
	return ret;
}

static void make_files(struct bench *b)
{
	int fd;

	snprintf(b->dir, sizeof(b->dir), "/tmp/roost-qmpc-XXXXXX");
	cr_assert_not_null(mkdtemp(b->dir));
	snprintf(b->disk, sizeof(b->disk), "%s/disk", b->dir);
	snprintf(b->sock, sizeof(b->sock), "%s/qmp", b->dir);
	fd = open(b->disk, O_RDWR | O_CREAT | O_CLOEXEC, 0600);
	cr_assert(fd >= 0 && ftruncate(fd, DISK) == 0);
	close(fd);
}

static struct bench *bench_open(void)
{
	struct bench *b = xcalloc(1, sizeof(*b));
	char text[256];

	log_set_sink(quiet, NULL);
	make_files(b);
	b->fd = -1;
	b->r = pci_rig();
	b->vm = b->r->vm;
	b->vm->types = dev_list;
	b->vm->object_types = obj_list;
	b->vm->machine_types = machine_list;
	b->vm->describe_options = options_describe;
	b->chars = b->vm->chars = char_set_create(b->r->loop);
	b->blocks = b->vm->blocks = block_graph_create(b->r->loop);
	char_set_fds(b->chars, b->vm->fds);
	block_graph_set_fds(b->blocks, b->vm->fds);
	b->q = qmp_create(b->vm);
	snprintf(text, sizeof(text), "{'execute':'blockdev-add','arguments':{'driver':'raw',"
		 "'node-name':'n0','file':{'driver':'file','filename':'%s'}}}", b->disk);
	expect_ok(b, text);
	expect_ok(b, "{'execute':'chardev-add','arguments':{'id':'c0','backend':"
		  "{'type':'null','data':{}}}}");
	rig_device(b->r, "{'driver':'virtio-blk-pci','id':'d0','drive':'n0','addr':'3'}");
	rig_device(b->r, "{'driver':'virtio-rng-pci','addr':'4'}");
	return b;
}

static void bench_close(struct bench *b)
{
	char cmd[80];

	fd_close(&b->fd);
	qmp_destroy(b->q);
	char_set_destroy(b->chars);	/* no device here has one */
	b->vm->chars = NULL;
	pci_rig_end(b->r);
	block_graph_destroy(b->blocks);
	snprintf(cmd, sizeof(cmd), "rm -rf %s", b->dir);
	cr_assert_eq(system(cmd), 0);
	free(b);
}

/* ---- over a socket ---- */

static int dial(struct bench *b)
{
	struct sockaddr_un sa = { .sun_family = AF_UNIX };
	int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);

	memcpy(sa.sun_path, b->sock, sizeof(b->sock));
	cr_assert_eq(connect(fd, (struct sockaddr *)&sa, sizeof(sa)), 0);
	return fd;
}

/* The next line from @fd, with the loop turning; NULL: none came. */
static json_t *line_from(struct bench *b, int fd)
{
	char *nl;
	json_t *o;
	ssize_t n;

	for (int i = 0; i < TURNS; i++) {
		b->in[b->len] = '\0';
		nl = strchr(b->in, '\n');
		if (nl) {
			cr_assert(nl > b->in && nl[-1] == '\r', "a line ends in CRLF");
			o = json_loadb(b->in, (size_t)(nl - b->in), 0, NULL);
			b->len -= (size_t)(nl + 1 - b->in);
			memmove(b->in, nl + 1, b->len);
			cr_assert_not_null(o, "a line is JSON");
			return o;
		}
		loop_turn(b->r->loop, b->len ? 0 : NS_PER_MS);
		n = recv(fd, b->in + b->len, sizeof(b->in) - 1 - b->len, MSG_DONTWAIT);
		if (n > 0)
			b->len += (size_t)n;
	}
	return NULL;
}

/* The next reply; events before it are skipped. */
static json_t *reply_from(struct bench *b, int fd)
{
	json_t *o = line_from(b, fd);

	while (o && json_object_get(o, "event")) {
		json_decref(o);
		o = line_from(b, fd);
	}
	return o;
}

static void send_text(int fd, const char *text)
{
	cr_assert_eq(send(fd, text, strlen(text), MSG_NOSIGNAL), (ssize_t)strlen(text));
}

static json_t *talk(struct bench *b, const json_t *req)
{
	char *text = json_dumps(req, 0);
	json_t *reply;

	send_text(b->fd, text);
	reply = reply_from(b, b->fd);
	cr_assert_not_null(reply, "no reply to %s", text);
	free(text);
	return reply;
}

static void negotiate(struct bench *b, int fd)
{
	json_t *o = line_from(b, fd);

	cr_assert_not_null(json_object_get(o, "QMP"));
	json_decref(o);
	send_text(fd, "{\"execute\":\"qmp_capabilities\"}\r\n");
	o = reply_from(b, fd);
	cr_assert_not_null(json_object_get(o, "return"));
	json_decref(o);
}

static void serve(struct bench *b)
{
	struct err e = ERR_INIT;
	struct chardev *c;
	char spec[160];

	snprintf(spec, sizeof(spec), "unix:%s,server=on,wait=off", b->sock);
	cr_assert_eq(char_add_legacy(b->chars, spec, "mon", &c, &e), 0, "%s", e.text);
	cr_assert_eq(qmp_serve(b->q, c, &e), 0, "%s", e.text);
}

static void bench_connect(struct bench *b)
{
	serve(b);
	b->fd = dial(b);
	negotiate(b, b->fd);
}

/* ---- the walk ---- */

static const json_t *schema_of(struct bench *b, const char *name)
{
	json_t *o;
	size_t i;

	json_array_foreach(qmp_schema(b->q), i, o)
		if (strcmp(json_str(o, "name", ""), name) == 0)
			return o;
	return NULL;
}

static void expect_reply_is_error(const json_t *reply, const char *what)
{
	const json_t *e = json_object_get(reply, "error");

	cr_assert_not_null(e, "%s is accepted", what);
	cr_expect(strcmp(json_str(e, "class", ""), "GenericError") == 0 ||
		  strcmp(json_str(e, "class", ""), "CommandNotFound") == 0, "%s", what);
	cr_expect(strlen(json_str(e, "desc", "")) > 5, "%s", what);
}

static void still_alive(struct bench *b, const char *what)
{
	json_t *req = parse("{'execute':'query-status','id':7}"), *reply = talk(b, req);

	cr_assert_not_null(json_object_get(reply, "return"), "after %s", what);
	cr_assert_eq(json_integer_value(json_object_get(reply, "id")), 7);
	json_decref(reply);
	json_decref(req);
}

static void try_args(struct bench *b, const char *cmd, json_t *args, bool must_fail)
{
	json_t *req = json_pack("{s:s,s:o}", "execute", cmd, "arguments", args);
	char *text = json_dumps(req, 0);
	json_t *reply = talk(b, req);

	if (must_fail)
		expect_reply_is_error(reply, text);
	json_decref(reply);
	json_decref(req);
	free(text);
}

static bool open_ended(const char *cmd)
{
	return strcmp(cmd, "device_add") == 0;
}

/* Does a value of this JSON kind fit nowhere in the type? */
static bool misfits(struct bench *b, const char *type, const json_t *val)
{
	struct err e = ERR_INIT;

	return qmp_schema_check(b->q, type, val, "x", &e) != 0;
}

static void try_member(struct bench *b, const char *cmd, const json_t *m)
{
	json_t *kinds = parse("[null, true, 7, -1, 1.5, '', 'x', [], [1], {}, {'a':{'b':1}}]");
	json_t *v;
	size_t i;

	json_array_foreach(kinds, i, v)
		if (misfits(b, json_str(m, "type", ""), v))
			try_args(b, cmd, json_pack("{s:O}", json_str(m, "name", ""), v), true);
	json_decref(kinds);
}

static void walk_command(struct bench *b, const struct qmp_cmd *c)
{
	const json_t *info = schema_of(b, c->name);
	const json_t *args = schema_of(b, json_str(info, "arg-type", "?"));
	bool required = false;
	json_t *m;
	size_t i;

	cr_assert_not_null(args, "%s", c->name);
	if (!open_ended(c->name))
		try_args(b, c->name, json_pack("{s:i}", "no-such-argument", 1), true);
	json_array_foreach(json_object_get(args, "members"), i, m) {
		required |= json_object_get(m, "default") == NULL;
		try_member(b, c->name, m);
	}
	if (required)
		try_args(b, c->name, json_object(), true);
	still_alive(b, c->name);
}

static void walk(struct bench *b)
{
	const struct qmp_table *const *t;
	const struct qmp_cmd *c;

	for (t = qmp_tables; *t; t++)
		for (c = (*t)->cmds; c && c->name; c++)
			walk_command(b, c);
}

Test(qmp_commands, test_qmp_every_command_refuses_malformed_arguments_in_every_state,
     .timeout = 120)
{
	struct bench *b = bench_open();

	bench_connect(b);
	for (int s = 0; s < VM_STATES; s++) {
		atomic_store(&b->vm->state, s);
		walk(b);
	}
	atomic_store(&b->vm->state, VM_PRELAUNCH);
	bench_close(b);
}

/* Commands that end, stop or reset the VM are in tests of their own. */
static bool changes_state(const char *name)
{
	static const char *const list[] = {
		"stop", "cont", "quit", "system_reset", "system_powerdown", "inject-nmi",
		"qmp_capabilities", NULL
	};

	for (int i = 0; list[i]; i++)
		if (strcmp(list[i], name) == 0)
			return true;
	return false;
}

static void check_reply(struct bench *b, const char *cmd, const char *args)
{
	json_t *req = json_pack("{s:s,s:o}", "execute", cmd, "arguments", parse(args));
	json_t *reply = qmp_execute(b->q, req), *ret = json_object_get(reply, "return");
	const char *type = json_str(schema_of(b, cmd), "ret-type", "?");
	struct err e = ERR_INIT;

	if (ret)
		cr_expect_eq(qmp_schema_check(b->q, type, ret, cmd, &e), 0, "%s: %s", cmd, e.text);
	json_decref(reply);
	json_decref(req);
}

Test(qmp_commands, test_qmp_replies_are_what_the_schema_says_in_every_state)
{
	static const char *const calls[][2] = {
		{ "qom-list", "{'path':'/machine/peripheral/d0'}" },
		{ "qom-list", "{'path':'/machine/unattached'}" },
		{ "qom-get", "{'path':'d0','property':'type'}" },
		{ "qom-list-properties", "{'typename':'virtio-blk-pci'}" },
		{ "qom-list-properties", "{'typename':'host-x86_64-cpu'}" },
		{ "device-list-properties", "{'typename':'pcie-root-port'}" },
		{ "query-blockstats", "{'query-nodes':true}" },
		{ "query-named-block-nodes", "{'flat':true}" },
		{ "query-command-line-options", "{'option':'machine'}" },
		{ "human-monitor-command", "{'command-line':'info qtree'}" },
	};
	struct bench *b = bench_open();
	const struct qmp_table *const *t;

	for (int s = 0; s < VM_STATES; s++) {
		atomic_store(&b->vm->state, s);
		for (t = qmp_tables; *t; t++)
			for (const struct qmp_cmd *c = (*t)->cmds; c && c->name; c++)
				if (!changes_state(c->name))
					check_reply(b, c->name, "{}");
		for (size_t i = 0; i < ARRAY_LEN(calls); i++)
			check_reply(b, calls[i][0], calls[i][1]);
	}
	atomic_store(&b->vm->state, VM_PRELAUNCH);
	bench_close(b);
}

/* ---- objects ---- */

Test(qmp_commands, test_qmp_types_that_libvirt_asks_for_have_lists)
{
	struct bench *b = bench_open();
	json_t *list = get(b, "{'execute':'qom-list-types'}"), *t, *req, *reply;
	size_t i;

	expect_ok(b, "{'execute':'qom-list-properties','arguments':"
		  "{'typename':'memory-backend-file'}}");
	expect_ok(b, "{'execute':'qom-list-properties','arguments':{'typename':'none-machine'}}");
	expect_error(b, "{'execute':'device-list-properties','arguments':{'typename':'scsi-gone'}}",
		     "DeviceNotFound", "not found");
	json_array_foreach(list, i, t) {
		req = json_pack("{s:s,s:{s:O}}", "execute", "qom-list-properties", "arguments",
				"typename", json_object_get(t, "name"));
		reply = qmp_execute(b->q, req);
		cr_expect(json_is_array(json_object_get(reply, "return")), "%s",
			  json_str(t, "name", ""));
		json_decref(reply);
		json_decref(req);
	}
	json_decref(list);
	bench_close(b);
}

Test(qmp_commands, test_qmp_paths_lead_to_devices_objects_and_chardevs)
{
	struct bench *b = bench_open();
	json_t *v = get(b, "{'execute':'qom-list','arguments':{'path':'/machine/peripheral'}}");

	cr_expect_str_eq(json_str(json_array_get(v, 1), "name", ""), "d0");
	cr_expect_str_eq(json_str(json_array_get(v, 1), "type", ""), "child<virtio-blk-pci>");
	json_decref(v);
	v = get(b, "{'execute':'qom-get','arguments':{'path':'/machine/peripheral/d0/"
		"virtio-backend','property':'drive'}}");
	cr_expect_str_eq(json_string_value(v), "n0");
	json_decref(v);
	v = get(b, "{'execute':'qom-get','arguments':{'path':'/machine','property':'peripheral'}}");
	cr_expect_str_eq(json_string_value(v), "/machine/peripheral");
	json_decref(v);
	expect_ok(b, "{'execute':'qom-list','arguments':{'path':'/chardevs/c0'}}");
	expect_error(b, "{'execute':'qom-get','arguments':{'path':'/no/such','property':'x'}}",
		     "DeviceNotFound", "/no/such");
	expect_error(b, "{'execute':'qom-get','arguments':{'path':'d0','property':'colour'}}",
		     "GenericError", "virtio-blk-pci.colour");
	expect_error(b, "{'execute':'qom-set','arguments':{'path':'d0','property':'type',"
		     "'value':'x'}}", "GenericError", "cannot be changed");
	bench_close(b);
}

Test(qmp_commands, test_qmp_iothread_comes_changes_and_goes)
{
	struct bench *b = bench_open();
	json_t *v;

	expect_ok(b, "{'execute':'object-add','arguments':{'qom-type':'iothread','id':'io0',"
		  "'poll-max-ns':5}}");
	expect_error(b, "{'execute':'object-add','arguments':{'qom-type':'iothread','id':'io0'}}",
		     "GenericError", "taken");
	expect_error(b, "{'execute':'object-add','arguments':{'qom-type':'iothraed','id':'x'}}",
		     "GenericError", "did you mean 'iothread'");
	expect_ok(b, "{'execute':'qom-set','arguments':{'path':'/objects/io0',"
		  "'property':'poll-max-ns','value':70}}");
	expect_error(b, "{'execute':'qom-set','arguments':{'path':'/objects/io0',"
		     "'property':'poll-max-ns','value':'70'}}", "GenericError", "expected: integer");
	v = get(b, "{'execute':'query-iothreads'}");
	cr_expect_eq(json_integer_value(json_object_get(json_array_get(v, 0), "poll-max-ns")), 70);
	json_decref(v);
	expect_ok(b, "{'execute':'object-del','arguments':{'id':'io0'}}");
	expect_error(b, "{'execute':'object-del','arguments':{'id':'io0'}}", "GenericError",
		     "'io0' not found");
	bench_close(b);
}

Test(qmp_commands, test_qmp_object_in_use_stays)
{
	struct bench *b = bench_open();
	char text[200];

	snprintf(text, sizeof(text), "{'execute':'blockdev-add','arguments':{'driver':'file',"
		 "'node-name':'n1','filename':'%s','read-only':true,'force-share':true}}", b->disk);
	expect_ok(b, text);
	expect_ok(b, "{'execute':'object-add','arguments':{'qom-type':'iothread','id':'io0'}}");
	rig_device(b->r, "{'driver':'virtio-blk-pci','id':'d1','drive':'n1','addr':'5',"
		   "'iothread':'io0','share-rw':true}");
	expect_error(b, "{'execute':'object-del','arguments':{'id':'io0'}}", "GenericError",
		     "in use by device 'd1'");
	expect_error(b, "{'execute':'blockdev-del','arguments':{'node-name':'n1'}}",
		     "GenericError", "in use");
	bench_close(b);
}

/* "limits" of group g0: the member @key. */
static json_int_t limit(struct bench *b, const char *key)
{
	json_t *v = get(b, "{'execute':'qom-get','arguments':{'path':'/objects/g0',"
			"'property':'limits'}}");
	json_int_t n = json_integer_value(json_object_get(v, key));

	json_decref(v);
	return n;
}

#define SET_LIMITS(v)	"{'execute':'qom-set','arguments':{'path':'/objects/g0'," \
	"'property':'limits','value':" v "}}"

Test(qmp_commands, test_qmp_throttle_group_limits_are_got_and_set)
{
	struct bench *b = bench_open();

	expect_ok(b, "{'execute':'object-add','arguments':{'qom-type':'throttle-group',"
		  "'id':'g0','limits':{'iops-total':50,'iops-total-max':70}}}");
	cr_expect_eq(limit(b, "iops-total"), 50);
	cr_expect_eq(limit(b, "iops-total-max"), 70);
	cr_expect_eq(limit(b, "iops-total-max-length"), 1);
	/* What is not named stays, and so does all after a mistake. */
	expect_ok(b, SET_LIMITS("{'iops-total-max-length':3}"));
	cr_expect_eq(limit(b, "iops-total-max"), 70);
	cr_expect_eq(limit(b, "iops-total-max-length"), 3);
	expect_error(b, SET_LIMITS("{'iops-read':9}"), "GenericError",
		     "iops and iops_rd or iops_wr cannot be used at the same time");
	expect_error(b, SET_LIMITS("{'bps-total':9,'bps-total-max':8}"), "GenericError",
		     "bps_max is lower than bps");
	expect_error(b, SET_LIMITS("{'iops':9}"), "GenericError", "iops");
	expect_error(b, SET_LIMITS("7"), "GenericError", "limits");
	cr_expect_eq(limit(b, "iops-read"), 0);
	cr_expect_eq(limit(b, "bps-total"), 0);
	expect_error(b, "{'execute':'qom-set','arguments':{'path':'/objects/g0',"
		     "'property':'x-iops-total','value':7}}", "GenericError", "x-iops-total");
	expect_ok(b, "{'execute':'object-del','arguments':{'id':'g0'}}");
	bench_close(b);
}

Test(qmp_commands, test_qmp_throttle_group_with_members_stays)
{
	struct bench *b = bench_open();

	expect_error(b, "{'execute':'blockdev-add','arguments':{'driver':'throttle',"
		     "'node-name':'t0','throttle-group':'g0','file':'n0'}}", "GenericError",
		     "no throttle group");
	expect_ok(b, "{'execute':'object-add','arguments':{'qom-type':'throttle-group',"
		  "'id':'g0','x-bps-read':4096}}");
	cr_expect_eq(limit(b, "bps-read"), 4096);
	expect_ok(b, "{'execute':'blockdev-add','arguments':{'driver':'throttle',"
		  "'node-name':'t0','throttle-group':'g0','file':{'driver':'null-co'}}}");
	expect_error(b, "{'execute':'object-del','arguments':{'id':'g0'}}", "GenericError",
		     "in use");
	expect_ok(b, "{'execute':'blockdev-del','arguments':{'node-name':'t0'}}");
	/* The disk's limits are the group's, both ways. */
	expect_ok(b, "{'execute':'block_set_io_throttle','arguments':{'id':'d0','group':'g0',"
		  "'bps':0,'bps_rd':0,'bps_wr':8192,'iops':0,'iops_rd':0,'iops_wr':0}}");
	cr_expect_eq(limit(b, "bps-write"), 8192);
	cr_expect_eq(limit(b, "bps-read"), 0);
	expect_error(b, "{'execute':'object-del','arguments':{'id':'g0'}}", "GenericError",
		     "in use");
	expect_ok(b, "{'execute':'block_set_io_throttle','arguments':{'id':'d0',"
		  "'bps':0,'bps_rd':0,'bps_wr':0,'iops':0,'iops_rd':0,'iops_wr':0}}");
	cr_expect_eq(limit(b, "bps-write"), 8192, "the group keeps its limits");
	expect_ok(b, "{'execute':'object-del','arguments':{'id':'g0'}}");
	bench_close(b);
}

/* ---- descriptors ---- */

static void send_fd(int sock, const char *text, int fd)
{
	union {
		struct cmsghdr align;
		char bytes[CMSG_SPACE(sizeof(int))];
	} control = { 0 };
	struct iovec iov = { (void *)(uintptr_t)text, strlen(text) };
	struct msghdr m = { .msg_iov = &iov, .msg_iovlen = 1, .msg_control = &control,
			    .msg_controllen = sizeof(control) };
	struct cmsghdr *h = CMSG_FIRSTHDR(&m);

	h->cmsg_level = SOL_SOCKET;
	h->cmsg_type = SCM_RIGHTS;
	h->cmsg_len = CMSG_LEN(sizeof(int));
	memcpy(CMSG_DATA(h), &fd, sizeof(fd));
	cr_assert_eq(sendmsg(sock, &m, 0), (ssize_t)strlen(text));
}

static json_t *talk_fd(struct bench *b, const char *text, int fd)
{
	json_t *reply;

	send_fd(b->fd, text, fd);
	reply = reply_from(b, b->fd);
	cr_assert_not_null(reply);
	return reply;
}

Test(qmp_commands, test_qmp_descriptor_becomes_a_disk)
{
	struct bench *b = bench_open();
	char path[80];
	int fd;
	json_t *reply;

	bench_connect(b);
	snprintf(path, sizeof(path), "%s/other", b->dir);
	fd = open(path, O_RDWR | O_CREAT | O_CLOEXEC, 0600);
	cr_assert(fd >= 0 && ftruncate(fd, DISK) == 0);
	reply = talk_fd(b, "{\"execute\":\"add-fd\",\"arguments\":{\"opaque\":\"rw\"}}", fd);
	close(fd);
	cr_assert_not_null(json_object_get(reply, "return"));
	json_decref(reply);
	unlink(path);
	expect_ok(b, "{'execute':'blockdev-add','arguments':{'driver':'file','node-name':'p',"
		  "'filename':'/dev/fdset/0'}}");
	cr_expect_eq(block_node_find(b->blocks, "p")->bytes, DISK);
	expect_error(b, "{'execute':'blockdev-add','arguments':{'driver':'file','node-name':'o',"
		     "'filename':'/dev/fdset/0','read-only':true}}", "GenericError",
		     "opened for reading only");
	expect_error(b, "{'execute':'blockdev-add','arguments':{'driver':'file','node-name':'o',"
		     "'filename':'/dev/fdset/9'}}", "GenericError", "no such set");
	expect_ok(b, "{'execute':'remove-fd','arguments':{'fdset-id':0}}");
	expect_error(b, "{'execute':'remove-fd','arguments':{'fdset-id':0}}", "GenericError",
		     "fdset-id:0");
	bench_close(b);
}

Test(qmp_commands, test_qmp_named_descriptor_becomes_a_chardev)
{
	struct bench *b = bench_open();
	int pair[2];
	json_t *reply;

	bench_connect(b);
	cr_assert_eq(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair), 0);
	reply = talk_fd(b, "{\"execute\":\"getfd\",\"arguments\":{\"fdname\":\"s\"}}", pair[0]);
	cr_assert_not_null(json_object_get(reply, "return"));
	json_decref(reply);
	expect_ok(b, "{'execute':'chardev-add','arguments':{'id':'s0','backend':{'type':'socket',"
		  "'data':{'addr':{'type':'fd','data':{'str':'s'}},'server':false}}}}");
	expect_error(b, "{'execute':'chardev-add','arguments':{'id':'s1','backend':"
		     "{'type':'socket','data':{'addr':{'type':'fd','data':{'str':'5'}}}}}}",
		     "GenericError", "getfd");
	expect_error(b, "{'execute':'closefd','arguments':{'fdname':'s'}}", "GenericError",
		     "'s' not found");
	expect_error(b, "{'execute':'getfd','arguments':{'fdname':'t'}}", "GenericError",
		     "SCM_RIGHTS");
	close(pair[0]);
	close(pair[1]);
	bench_close(b);
}

Test(qmp_commands, test_qmp_chardev_change_replaces_the_backend)
{
	struct bench *b = bench_open();
	json_t *o;

	serve(b);
	o = ask(b, "{'execute':'chardev-change','arguments':{'id':'c0','backend':"
		 "{'type':'pty','data':{}}}}");
	cr_expect_eq(strncmp(json_str(json_object_get(o, "return"), "pty", ""), "/dev/pts/", 9),
		     0);
	json_decref(o);
	cr_expect_str_eq(char_backend(char_find(b->chars, "c0")), "pty");
	expect_error(b, "{'execute':'chardev-change','arguments':{'id':'c0','backend':"
		     "{'type':'file','data':{'out':'/nonexistent/x'}}}}", "GenericError",
		     "its directory does not exist");
	expect_error(b, "{'execute':'chardev-change','arguments':{'id':'c0','backend':"
		     "{'type':'file','data':{'path':'/nonexistent/x'}}}}", "GenericError",
		     "'backend.data.out' is missing");
	cr_expect_str_eq(char_backend(char_find(b->chars, "c0")), "pty");
	expect_error(b, "{'execute':'chardev-change','arguments':{'id':'c9','backend':"
		     "{'type':'null','data':{}}}}", "GenericError", "Chardev 'c9' not found");
	expect_error(b, "{'execute':'chardev-change','arguments':{'id':'mon','backend':"
		     "{'type':'null','data':{}}}}", "GenericError", "in use by qmp");
	bench_close(b);
}

/* ---- clients ---- */

Test(qmp_commands, test_qmp_second_client_has_a_session_of_its_own)
{
	struct bench *b = bench_open();
	json_t *o;
	int second;

	bench_connect(b);
	second = dial(b);
	negotiate(b, second);
	vm_event(b->vm, "STOP", NULL);
	o = line_from(b, second);
	cr_expect_str_eq(json_str(o, "event", ""), "STOP");
	json_decref(o);
	o = line_from(b, b->fd);
	cr_expect_str_eq(json_str(o, "event", ""), "STOP");
	json_decref(o);
	close(second);
	for (int i = 0; i < 20; i++)
		loop_turn(b->r->loop, NS_PER_MS);
	still_alive(b, "the second client went");
	cr_expect_null(char_find(b->chars, "mon#1"));
	bench_close(b);
}

Test(qmp_commands, test_qmp_client_that_vanishes_mid_command_leaves_the_server)
{
	struct bench *b = bench_open();

	bench_connect(b);
	send_text(b->fd, "{\"execute\":\"query-st");
	loop_turn(b->r->loop, NS_PER_MS);
	fd_close(&b->fd);
	for (int i = 0; i < 10; i++)
		loop_turn(b->r->loop, NS_PER_MS);
	b->fd = dial(b);
	negotiate(b, b->fd);
	still_alive(b, "a client vanished");
	bench_close(b);
}

/* 0xff starts the parser anew in the middle of anything. */
Test(qmp_commands, test_qmp_resync_byte_ends_an_unfinished_request)
{
	struct bench *b = bench_open();
	json_t *o;

	bench_connect(b);
	send_text(b->fd, "{\"execute\":\"query-st\xff");
	o = reply_from(b, b->fd);
	cr_expect_not_null(strstr(json_str(json_object_get(o, "error"), "desc", ""), "0xff"));
	json_decref(o);
	still_alive(b, "0xff");
	bench_close(b);
}

/* ---- dumps ---- */

static uint8_t *read_file(const char *path, size_t *len)
{
	struct stat st;
	uint8_t *buf;
	int fd = open(path, O_RDONLY | O_CLOEXEC);

	cr_assert(fd >= 0 && fstat(fd, &st) == 0);
	*len = (size_t)st.st_size;
	buf = xcalloc(1, *len);
	cr_assert_eq(read(fd, buf, *len), st.st_size);
	close(fd);
	return buf;
}

Test(qmp_commands, test_qmp_dump_is_an_elf_core_with_the_guests_memory)
{
	struct bench *b = bench_open();
	char text[160], path[64];
	const Elf64_Ehdr *h;
	const Elf64_Phdr *p;
	uint8_t *buf;
	size_t len;

	rig_mem_fill(b->r, 0x5000, 0xa5, 100);
	snprintf(path, sizeof(path), "%s/core", b->dir);
	snprintf(text, sizeof(text), "{'execute':'dump-guest-memory','arguments':"
		 "{'paging':false,'protocol':'file:%s'}}", path);
	expect_ok(b, text);
	buf = read_file(path, &len);
	h = (const Elf64_Ehdr *)buf;
	p = (const Elf64_Phdr *)(buf + h->e_phoff);
	cr_assert_eq(memcmp(h->e_ident, ELFMAG, SELFMAG), 0);
	cr_expect_eq(h->e_type, ET_CORE);
	cr_assert_eq(h->e_phnum, 2);
	cr_expect_eq(p[1].p_paddr, 0);
	cr_assert_eq(p[1].p_filesz, b->r->ram_bytes);
	cr_assert_eq(p[1].p_offset + p[1].p_filesz, len);
	cr_expect_eq(memcmp(buf + p[1].p_offset, b->r->ram, b->r->ram_bytes), 0);
	free(buf);
	bench_close(b);
}

Test(qmp_commands, test_qmp_dump_detached_tells_its_end_and_holds_the_guest)
{
	struct bench *b = bench_open();
	char text[200];
	json_t *v;

	snprintf(text, sizeof(text), "{'execute':'dump-guest-memory','arguments':"
		 "{'paging':false,'protocol':'file:%s/core','detach':true,'begin':4096,"
		 "'length':8192}}", b->dir);
	expect_ok(b, text);
	expect_error(b, text, "GenericError", "There is a dump in process");
	expect_error(b, "{'execute':'cont'}", "GenericError", "There is a dump in process");
	for (int i = 0; i < TURNS && !strstr(b->r->events, "DUMP_COMPLETED"); i++)
		loop_turn(b->r->loop, NS_PER_MS);
	v = json_object_get(b->r->last_data, "result");
	cr_expect_str_eq(json_str(v, "status", ""), "completed");
	cr_expect_eq(json_integer_value(json_object_get(v, "total")), 8192);
	v = get(b, "{'execute':'query-dump'}");
	cr_expect_str_eq(json_str(v, "status", ""), "completed");
	json_decref(v);
	bench_close(b);
}

Test(qmp_commands, test_qmp_dump_that_cannot_be_written_says_why)
{
	struct bench *b = bench_open();

	expect_error(b, "{'execute':'dump-guest-memory','arguments':{'paging':false,"
		     "'protocol':'file:/no/such/dir/core'}}", "GenericError", "No such file");
	expect_error(b, "{'execute':'dump-guest-memory','arguments':{'paging':true,"
		     "'protocol':'file:/tmp/x'}}", "GenericError", "paging");
	expect_error(b, "{'execute':'dump-guest-memory','arguments':{'paging':false,"
		     "'protocol':'ftp:x'}}", "GenericError", "'file:'");
	expect_error(b, "{'execute':'dump-guest-memory','arguments':{'paging':false,"
		     "'protocol':'fd:gone'}}", "GenericError", "'gone' not found");
	expect_error(b, "{'execute':'dump-guest-memory','arguments':{'paging':false,"
		     "'protocol':'file:/tmp/x','begin':0}}", "GenericError", "'length'");
	expect_error(b, "{'execute':'dump-guest-memory','arguments':{'paging':false,"
		     "'protocol':'file:/tmp/x','begin':1099511627776,'length':1}}",
		     "GenericError", "no memory there");
	bench_close(b);
}

/* The second begins where the first is answered: that frees the first. */
Test(qmp_commands, test_qmp_dump_behind_a_dump_of_the_same_client_is_made)
{
	struct bench *b = bench_open();
	char text[400];
	json_t *o;

	bench_connect(b);
	snprintf(text, sizeof(text), "{\"execute\":\"dump-guest-memory\",\"arguments\":"
		 "{\"paging\":false,\"protocol\":\"file:%s/core\"}}\r\n", b->dir);
	send_text(b->fd, text);
	send_text(b->fd, text);
	for (int i = 0; i < 2; i++) {
		o = reply_from(b, b->fd);
		cr_expect_not_null(json_object_get(o, "return"), "dump %d", i);
		json_decref(o);
	}
	still_alive(b, "two dumps");
	bench_close(b);
}

/* Destroying the server while a dump runs leaves nothing behind. */
Test(qmp_commands, test_qmp_dump_ends_with_the_server)
{
	struct bench *b = bench_open();
	char text[160];

	snprintf(text, sizeof(text), "{'execute':'dump-guest-memory','arguments':"
		 "{'paging':false,'protocol':'file:%s/core','detach':true}}", b->dir);
	expect_ok(b, text);
	bench_close(b);
}

/* ---- the human monitor, statistics ---- */

Test(qmp_commands, test_qmp_human_monitor_prints_what_there_is)
{
	static const char *const lines[][2] = {
		{ "info status", "VM status: paused (prelaunch)" }, { "info version", "8.2.0" },
		{ "info pci", "Bus  0" },
		{ "info qtree", "\n  bus: pcie.0\n    type PCIE\n    dev: mch, id \"\"\n" },
		{ "info qtree", "\n    dev: virtio-blk-pci, id \"d0\"\n      " },
		{ "info mtree", "address-space: I/O" }, { "info chardev", "c0: filename=" },
		{ "info block", "n0" }, { "info uuid", "00000000-0000" },
		{ "info bogus", "unknown command: 'info bogus'" },
		{ "savevm", "unknown command: 'savevm'" }, { "info", "info registers" },
	};
	struct bench *b = bench_open();

	for (size_t i = 0; i < ARRAY_LEN(lines); i++) {
		json_t *req = json_pack("{s:s,s:{s:s}}", "execute", "human-monitor-command",
					"arguments", "command-line", lines[i][0]);
		json_t *reply = qmp_execute(b->q, req);

		cr_expect_not_null(strstr(json_str(reply, "return", ""), lines[i][1]), "%s: %s",
				   lines[i][0], json_str(reply, "return", "?"));
		json_decref(reply);
		json_decref(req);
	}
	bench_close(b);
}

Test(qmp_commands, test_qmp_stats_name_every_virtio_queue)
{
	struct bench *b = bench_open();
	json_t *v = get(b, "{'execute':'__org.roost_query-stats'}");
	json_t *d = json_array_get(json_object_get(v, "devices"), 0);

	cr_assert_eq(json_array_size(json_object_get(v, "devices")), 2);
	cr_expect_str_eq(json_str(d, "path", ""), "/machine/peripheral/d0");
	cr_expect_geq(json_array_size(json_object_get(d, "queues")), 1);
	json_decref(v);
	bench_close(b);
}

/* ---- disks ---- */

static void on_read_done(struct block_req *r, int ret)
{
	cr_assert_eq(ret, 0);
	r->done = NULL;
}

static json_int_t sum_of(const json_t *list)
{
	json_int_t sum = 0;
	json_t *v;
	size_t i;

	json_array_foreach((json_t *)(uintptr_t)list, i, v)
		sum += json_integer_value(v);
	return sum;
}

Test(qmp_commands, test_qmp_blockstats_count_a_read_in_its_latency)
{
	static struct block_req req;
	struct bench *b = bench_open();
	struct err e = ERR_INIT;
	struct iovec iov = { xcalloc(1, 4096), 4096 };
	struct drive *d;
	char text[200];
	json_t *v, *s, *h;

	snprintf(text, sizeof(text), "{'execute':'blockdev-add','arguments':{'driver':'file',"
		 "'node-name':'n1','filename':'%s','read-only':true,'force-share':true}}", b->disk);
	expect_ok(b, text);
	cr_assert_eq(drive_open(b->blocks, "n1", "test", DRIVE_OPEN_SHARE, &d, &e), 0, "%s", e.text);
	req = (struct block_req){ .op = BLOCK_READ, .bytes = 4096, .iov = &iov, .iovcnt = 1,
				  .done = on_read_done, .loop = b->r->loop };
	drive_submit(d, &req);
	for (int i = 0; i < TURNS && req.done; i++)
		loop_turn(b->r->loop, NS_PER_MS);
	v = get(b, "{'execute':'query-blockstats'}");
	s = json_object_get(json_array_get(v, json_array_size(v) - 1), "stats");
	h = json_object_get(s, "rd_latency_histogram");
	cr_expect_eq(json_integer_value(json_object_get(s, "rd_operations")), 1);
	cr_expect_eq(sum_of(json_object_get(h, "bins")), 1);
	cr_expect_eq(json_array_size(json_object_get(h, "bins")),
		     json_array_size(json_object_get(h, "boundaries")) + 1);
	json_decref(v);
	drive_close(d);
	free(iov.iov_base);
	bench_close(b);
}
