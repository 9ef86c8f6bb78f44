/*
 * tests/dev/test_qmp_transaction.c - QMP's transaction on two disks: overlays that
 * were prepared, overlays that it makes, and a member that fails at each place.
 */
#include <criterion/criterion.h>
#include <dirent.h>
#include <fcntl.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

#include "block/block.h"
#include "block/graph.h"
#include "tests/dev/lib_virtio.h"
#include "vmm/base/fds.h"
#include "vmm/base/json.h"
#include "vmm/base/util.h"
#include "vmm/control/qmp.h"

#define DISK	(1ull * MIB)

/* Members; "@" stands for the folder. */
#define SYNC(disk, file) "{'type': 'blockdev-snapshot-sync', 'data': {'device': '" disk "', " \
			 "'snapshot-file': '@/" file "', 'snapshot-node-name': '" file "'}}"
#define EXISTING(disk, file) "{'type': 'blockdev-snapshot-sync', 'data': {'device': '" disk \
			     "', 'snapshot-file': '@/" file "', 'mode': 'existing'}}"
#define PREPARED(disk, node) "{'type': 'blockdev-snapshot', 'data': {'node': '" disk "', " \
			     "'overlay': '" node "'}}"
#define ABORT	"{'type': 'abort', 'data': {}}"

static struct rig *rig;
static struct qmp *q;
static char dir[32];
static const char *top[2];	/* names of the disks' first nodes */

static char *text_of(const char *fmt)
{
	char *out = xcalloc(1, 4096);
	size_t at = 0;

	for (; *fmt && at < 4000; fmt++)
		if (*fmt == '@')
			at += (size_t)snprintf(out + at, 96, "%s", dir);
		else
			out[at++] = *fmt == '\'' ? '"' : *fmt;
	return out;
}

static json_t *run(const char *cmd, const char *args)
{
	char *text = text_of(args);
	json_t *req = json_pack("{s:s,s:o}", "execute", cmd, "arguments",
				json_loads(text, 0, NULL)), *reply;

	cr_assert_not_null(req, "%s", text);
	reply = qmp_execute(q, req);
	json_decref(req);
	free(text);
	return reply;
}

static void ok(const char *cmd, const char *args)
{
	json_t *reply = run(cmd, args);

	cr_assert_not_null(json_object_get(reply, "return"), "%s %s: %s", cmd, args,
			   json_str(json_object_get(reply, "error"), "desc", ""));
	json_decref(reply);
}

static void sh(const char *command)
{
	char *text = text_of(command);

	for (char *p = text; *p; p++)
		*p = *p == '"' ? '\'' : *p;
	cr_assert_eq(system(text), 0, "%s", text);
	free(text);
}

static struct drive *disk(int i)
{
	return drive_find(rig->vm->blocks, i ? "d1" : "d0");
}

static int files(void)
{
	DIR *d = opendir(dir);
	int n = 0;

	for (struct dirent *f; (f = readdir(d));)
		n += *f->d_name != '.';
	closedir(d);
	return n;
}

static int nodes(void)
{
	int n = 0;

	for (struct block_node *b = rig->vm->blocks->nodes; b; b = b->next)
		n++;
	return n;
}

/* It fails with a sentence, and all is as it was. */
static void fails(const char *actions, const char *with)
{
	int had_files = files(), had_nodes = nodes();
	json_t *reply = run("transaction", actions);
	const char *desc = json_str(json_object_get(reply, "error"), "desc", "(it worked)");

	cr_expect(strstr(desc, with), "%s: %s", actions, desc);
	cr_expect_str_eq(disk(0)->node->name, top[0], "%s", actions);
	cr_expect_str_eq(disk(1)->node->name, top[1], "%s", actions);
	cr_expect_eq(files(), had_files, "%s: a file was left or lost", actions);
	cr_expect_eq(nodes(), had_nodes, "%s: a node was left or lost", actions);
	json_decref(reply);
}

static void write_to(int i, uint8_t byte)
{
	uint8_t buf[BLOCK_SECTOR];
	struct iovec iov = { buf, sizeof(buf) };
	struct block_child c = { 0 };
	struct err e = ERR_INIT;

	cr_assert_eq(block_attach(&c, disk(i)->node, "test", BLOCK_PERM_WRITE, BLOCK_PERM_ALL,
				  &e), 0, "%s", e.text);
	memset(buf, byte, sizeof(buf));
	cr_assert_eq(block_io_wait(disk(i)->node, rig->loop, BLOCK_WRITE, 0, 0, &iov, 1,
				   sizeof(buf)), 0);
	block_detach(&c);
}

static uint8_t first_byte(const char *file)
{
	char *name = text_of(file);
	int fd = open(name, O_RDONLY | O_CLOEXEC);
	uint8_t byte = 0;

	cr_assert_eq(pread(fd, &byte, 1, 0), 1, "%s", name);
	close(fd);
	free(name);
	return byte;
}

static void setup(void)
{
	struct err e = ERR_INIT;

	snprintf(dir, sizeof(dir), "/var/tmp/roost-tran-XXXXXX");
	cr_assert_not_null(mkdtemp(dir));
	rig = vdrv_rig(NULL);
	q = qmp_create(rig->vm);
	for (int i = 0; i < 2; i++) {
		char id[] = { 'd', (char)('0' + i), 0 }, path[64];
		json_t *args;
		int fd;

		snprintf(path, sizeof(path), "%s/%s.raw", dir, id);
		fd = open(path, O_RDWR | O_CREAT | O_CLOEXEC, 0600);
		cr_assert_eq(ftruncate(fd, DISK), 0);
		close(fd);
		args = json_pack("{s:s,s:s,s:s,s:s}", "id", id, "if", "none", "format", "raw",
				 "file", path);
		cr_assert_eq(block_drive_add(rig->vm->blocks, args, &e), 0, "%s", e.text);
		json_decref(args);
		top[i] = disk(i)->node->name;
	}
}

static void teardown(void)
{
	qmp_destroy(q);
	rig_destroy(rig);
	sh("rm -r @");
}

TestSuite(qmp_transaction, .init = setup, .fini = teardown, .timeout = 60);

static void add_prepared(void)
{
	sh("qemu-img create -q -f qcow2 -b @/d1.raw -F raw @/ov");
	ok("blockdev-add", "{'driver': 'qcow2', 'node-name': 'ov', 'backing': null, 'file': "
	   "{'driver': 'file', 'filename': '@/ov'}}");
}

Test(qmp_transaction, test_two_overlays_are_made_and_written_to)
{
	ok("transaction", "{'actions': [" SYNC("d0", "a") ", " SYNC("d1", "b") "]}");
	cr_assert_str_eq(disk(0)->node->name, "a");
	cr_assert_str_eq(disk(1)->node->name, "b");
	write_to(0, 0x11);
	write_to(1, 0x22);
	cr_expect_eq(first_byte("@/d0.raw"), 0, "the base was written to");
	cr_expect_eq(first_byte("@/d1.raw"), 0, "the base was written to");
	for (int i = 0; i < 2; i++)
		sh(i ? "qemu-img info -U @/b | grep -q 'backing file: @/d1.raw'" :
		       "qemu-img info -U @/a | grep -q 'backing file: @/d0.raw'");
}

Test(qmp_transaction, test_prepared_and_made_overlays_go_together)
{
	add_prepared();
	ok("transaction", "{'actions': [" SYNC("d0", "a") ", " PREPARED("d1", "ov") "]}");
	cr_assert_str_eq(disk(0)->node->name, "a");
	cr_assert_str_eq(disk(1)->node->name, "ov");
	/* Names are found for those without one, different ones. */
	ok("transaction", "{'actions': [{'type': 'blockdev-snapshot-sync', 'data': {'device': "
	   "'d0', 'snapshot-file': '@/a2'}}, {'type': 'blockdev-snapshot-sync', 'data': "
	   "{'device': 'd1', 'snapshot-file': '@/b2'}}]}");
	cr_assert_str_eq(disk(0)->node->name, "snapshot0");
	cr_assert_str_eq(disk(1)->node->name, "snapshot1");
}

Test(qmp_transaction, test_abort_undoes_what_was_made)
{
	add_prepared();
	fails("{'actions': [" ABORT "]}", "aborted");
	fails("{'actions': [" SYNC("d0", "a") ", " SYNC("d1", "b") ", " ABORT "]}", "aborted");
	fails("{'actions': [" ABORT ", " SYNC("d0", "a") "]}", "aborted");
	fails("{'actions': [" SYNC("d0", "a") ", " ABORT ", " PREPARED("d1", "ov") "]}", "aborted");
	/* Nothing in the way of the next. */
	ok("transaction", "{'actions': [" SYNC("d0", "a") ", " PREPARED("d1", "ov") "]}");
	cr_assert_str_eq(disk(0)->node->name, "a");
}

Test(qmp_transaction, test_failure_of_any_member_leaves_all_disks)
{
	add_prepared();
	sh("echo data >@/full; : >@/empty; mkfifo @/fifo");
	fails("{'actions': [" SYNC("d0", "a") ", " SYNC("d1", "no/b") "]}", "cannot create");
	fails("{'actions': [" SYNC("d0", "no/a") ", " SYNC("d1", "b") "]}", "cannot create");
	fails("{'actions': [" SYNC("d0", "a") ", " SYNC("d1", "full") "]}", "is not empty");
	fails("{'actions': [" SYNC("d0", "full") ", " PREPARED("d1", "ov") "]}", "is not empty");
	fails("{'actions': [" SYNC("d0", "a") ", " EXISTING("d1", "none") "]}", "/none");
	fails("{'actions': [" SYNC("d0", "a") ", " EXISTING("d1", "full") "]}", "no qcow2 image");
	/* Opening it would wait for somebody who writes to it. */
	fails("{'actions': [" SYNC("d0", "a") ", " EXISTING("d1", "fifo") "]}",
	      "neither a regular file");
	fails("{'actions': [" SYNC("d0", "a") ", " PREPARED("d1", "none") "]}", "'none'");
	fails("{'actions': [" PREPARED("none", "ov") ", " SYNC("d0", "a") "]}", "device='none'");
	fails("{'actions': [" SYNC("d0", "a") ", " SYNC("none", "b") "]}", "device='none'");
	fails("{'actions': [" SYNC("d0", "a") ", " SYNC("d1", "ov") "]}", "exists already");
	fails("{'actions': [" SYNC("d0", "a") ", " SYNC("d1", "a") "]}", "named twice");
	fails("{'actions': [" SYNC("d0", "a") ", " SYNC("d0", "b") "]}", "named twice");
	fails("{'actions': [" SYNC("d0", "empty") ", " ABORT "]}", "aborted");
	sh("test -f @/empty && ! test -s @/empty");	/* as it was prepared */
	fails("{'actions': [" SYNC("d0", "empty") ", " SYNC("d1", "no/b") "]}",
	      "cannot create");
	sh("test -f @/empty && ! test -s @/empty");
	cr_expect_eq(first_byte("@/full"), 'd');
	ok("transaction", "{'actions': [" SYNC("d0", "empty") "]}");
	cr_expect_str_eq(disk(0)->node->name, "empty");
}

Test(qmp_transaction, test_one_file_by_two_names_is_refused)
{
	fails("{'actions': [" SYNC("d0", "a") ", {'type': 'blockdev-snapshot-sync', 'data': "
	      "{'device': 'd1', 'snapshot-file': '@/./a'}}]}", "opened twice");
}

/* The file of a client that let roost open nothing itself. */
Test(qmp_transaction, test_existing_overlay_by_a_passed_descriptor)
{
	struct fds *fds = rig->vm->fds;
	struct err e = ERR_INIT;
	char *path = text_of("@/ov");
	int64_t id = 7;

	sh("qemu-img create -q -f qcow2 -b @/d1.raw -F raw @/ov");
	block_graph_set_fds(rig->vm->blocks, fds);
	cr_assert_eq(fds_set_add(fds, &id, open(path, O_RDWR | O_CLOEXEC), NULL, &e), 0, "%s",
		     e.text);
	free(path);
	fails("{'actions': [{'type': 'blockdev-snapshot-sync', 'data': {'device': 'd1', "
	      "'snapshot-file': '/dev/fdset/9', 'mode': 'existing'}}]}", "/dev/fdset/9");
	ok("blockdev-snapshot-sync", "{'device': 'd1', 'snapshot-file': '/dev/fdset/7', "
	   "'snapshot-node-name': 'ov', 'mode': 'existing'}");
	cr_expect_str_eq(disk(1)->node->name, "ov");
}

Test(qmp_transaction, test_other_members_are_refused_with_those_there_are)
{
	fails("{'actions': [{'type': 'drive-backup', 'data': {}}]}",
	      "'drive-backup'; it takes abort, blockdev-snapshot or blockdev-snapshot-sync");
	fails("{'actions': [{'type': 'blockdev-snapshot-sync', 'data': {}}]}", "snapshot-file");
	fails("{'actions': [{'type': 'abort'}]}", "data");
	ok("transaction", "{'actions': []}");
}

Test(qmp_transaction, test_schema_lists_the_members)
{
	static const char *const words[] = {
		"abort", "blockdev-snapshot", "blockdev-snapshot-sync"
	};
	json_t *info, *w;
	size_t i;

	cr_assert_not_null(qmp_schema(q));
	info = qmp_schema_find(q, "TransactionActionKind");

	json_array_foreach(json_object_get(info, "values"), i, w)
		cr_expect_str_eq(json_string_value(w), words[i]);
	cr_expect_eq(i, ARRAY_LEN(words));
	info = qmp_schema_find(q, "TransactionAction");
	json_array_foreach(json_object_get(info, "variants"), i, w)
		cr_expect_str_eq(json_str(w, "case", ""), words[i]);
	cr_expect_eq(i, ARRAY_LEN(words));
}

Test(qmp_transaction, test_quit_in_the_midst_is_survived)
{
	char *text = text_of("{'execute': 'transaction', 'arguments': {'actions': ["
			     SYNC("d0", "a") ", " SYNC("d1", "b") "]}}");
	json_t *req = json_loads(text, 0, NULL);

	qmp_execute_async(q, req, NULL, NULL);
	json_decref(req);
	free(text);
}
