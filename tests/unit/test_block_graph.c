/*
 * tests/unit/test_block_graph.c - nodes and drives: options, names, owners,
 * and the sentence each mistake gets.
 */
#include <criterion/criterion.h>
#include <errno.h>
#include <fcntl.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "lib_block.h"
#include "vmm/base/json.h"
#include "vmm/base/util.h"

static struct bt t;

static void setup(void)
{
	bt_start(&t, LOOP_AIO_AUTO);
}

static void teardown(void)
{
	bt_stop(&t);
}

TestSuite(block_graph, .init = setup, .fini = teardown);

#define IS(part) cr_assert(strstr(bt_error(), part), "'%s' is not in: %s", part, bt_error())

static void refuse_drive(const char *text, int ret, const char *part)
{
	int r = bt_drive(&t, text);

	cr_expect_eq(r, ret, "%s: %d, not %d: %s", text, r, ret, bt_error());
	cr_expect(strstr(bt_error(), part), "%s: '%s' is not in: %s", text, part, bt_error());
	cr_expect_null(drive_find(t.g, "d0"));
	cr_expect_null(block_node_find(t.g, "#block000"));
}

static void refuse_blockdev(const char *text, int ret, const char *part)
{
	int r = bt_blockdev(&t, text);

	cr_expect_eq(r, ret, "%s: %d, not %d: %s", text, r, ret, bt_error());
	cr_expect(strstr(bt_error(), part), "%s: '%s' is not in: %s", text, part, bt_error());
}

static int open_drive(const char *name, const char *owner, uint32_t flags, struct drive **d,
		      struct err *e)
{
	*e = (struct err)ERR_INIT;
	return drive_open(t.g, name, owner, flags, d, e);
}

Test(block_graph, test_drive_bad_options_are_refused_with_a_sentence)
{
	bt_file(&t, "a.raw", 4096);
	refuse_drive("format=raw,id=d0", -EINVAL, "disk 'd0': file= is missing");
	refuse_drive("file=%s/none.raw,format=raw,id=d0", -ENOENT, "No such file or directory");
	refuse_drive("file=%s/none.raw,format=raw,id=d0", -ENOENT, "truncate -s 10G");
	refuse_drive("file=%s,format=raw,id=d0", -EISDIR, "is a directory, not a disk");
	refuse_drive("file=/proc/version,format=raw,id=d0,readonly=on,cache=none", -EINVAL,
		     "no O_DIRECT; use cache=writeback");
	refuse_drive("file=/dev/null,format=raw,id=d0", -EINVAL, "neither a regular file nor");
	refuse_drive("file=%s/a.raw,format=vmdk,id=d0", -ENOTSUP, "vmdk is not supported");
	refuse_drive("file=%s/a.raw,format=qcow2,id=d0", -EINVAL, "no qcow2 image");
	refuse_drive("file=%s/a.raw,format=raw,if=ide,id=d0", -ENOTSUP, "if=virtio");
	refuse_drive("file=%s/a.raw,format=raw,if=usb,id=d0", -EINVAL, "none|virtio|pflash");
	refuse_drive("file=%s/a.raw,format=raw,media=cdrom,id=d0", -ENOTSUP, "media=cdrom");
	refuse_drive("file=%s/a.raw,format=raw,cahce=none,id=d0", -EINVAL, "'cache'");
	refuse_drive("file=%s/a.raw,format=raw,cache=fast,id=d0", -EINVAL, "writeback|none");
	refuse_drive("file=%s/a.raw,format=raw,werror=again,id=d0", -EINVAL, "report|ignore");
	refuse_drive("file=%s/a.raw,format=raw,retry_interval=5,id=d0", -EINVAL,
		     "needs werror=retry");
	refuse_drive("file=%s/a.raw,format=raw,retry_timeout=5,id=d0", -EINVAL,
		     "needs werror=retry");
	refuse_drive("file=%s/a.raw,format=raw,werror=retry,retry_interval=-1,id=d0", -EINVAL,
		     "0..9223372036854775807");
	refuse_drive("file=%s/a.raw,format=raw,werror=retry,retry_on=EWHAT,id=d0", -EINVAL,
		     "'EWHAT' is no error of the host");
	refuse_drive("file=%s/a.raw,format=raw,id=0d", -EINVAL, "no usable name");
	refuse_drive("file=%s/a.raw,format=raw,id=d0,detect-zeroes=unmap", -EINVAL,
		     "discard=unmap");
	refuse_drive("file=nbd://host/disk,format=raw,id=d0", -ENOTSUP, "protocol");
	refuse_drive("file=%s/a.raw,format=raw,id=d0,offset=100", -EINVAL, "multiples of 512");
	refuse_drive("file=%s/a.raw,format=raw,id=d0,offset=1M", -EINVAL, "beyond the 4096 bytes");
}

Test(block_graph, test_blockdev_bad_options_are_refused_with_a_sentence)
{
	bt_file(&t, "a.raw", 4096);
	refuse_blockdev("file,filename=%s/a.raw", -EINVAL, "node-name= is missing");
	refuse_blockdev("node-name=n", -EINVAL, "blockdev 'n': driver= is missing");
	refuse_blockdev("raww,node-name=n", -EINVAL, "did you mean 'raw'");
	refuse_blockdev("vmdk,node-name=n", -ENOTSUP, "not supported in this build");
	refuse_blockdev("qcow2,node-name=n", -EINVAL, "needs file=");
	refuse_blockdev("file,node-name=n", -EINVAL, "filename");
	refuse_blockdev("file,node-name=n,filename=%s/a.raw,lokcing=off", -EINVAL, "'locking'");
	refuse_blockdev("raw,node-name=n", -EINVAL, "needs file=");
	refuse_blockdev("raw,node-name=n,file=gone", -ENOENT, "no node of that name");
	refuse_blockdev("file,node-name=n,file=%s/a.raw,filename=x", -EINVAL, "'filename'");
	refuse_blockdev("host_device,node-name=n,filename=%s/a.raw", -EINVAL, "driver=file");
	refuse_blockdev("file,node-name=-n,filename=%s/a.raw", -EINVAL, "no usable name");
	refuse_blockdev("file,node-name=n2345678901234567890123456789012,filename=%s/a.raw",
			-EINVAL, "longer than 31");
	refuse_blockdev("file,node-name=n,filename=%s/a.raw,force-share=on", -EINVAL,
			"read-only=on");
	refuse_blockdev("file,node-name=n,filename=%s/a.raw,detect-zeroes=unmap", -EINVAL,
			"discard=unmap");
	refuse_blockdev("raw,node-name=n,file=n", -ENOENT, "no node of that name");
	refuse_blockdev("raw,node-name=n,file.driver=raw,file.file=n", -ENOENT, "no node of that");
	refuse_blockdev("raw,node-name=n,file.driver=file,file.node-name=n,file.filename=%s/a.raw",
			-EEXIST, "called 'n' exists already");
	cr_assert_null(block_node_find(t.g, "n"));
}

Test(block_graph, test_blockdev_nested_and_referenced_children_open)
{
	bt_file(&t, "a.raw", 8192);
	bt_file(&t, "b.raw", 8192);
	cr_assert_eq(bt_blockdev(&t, "raw,node-name=a,file.driver=file,file.filename=%s/a.raw"), 0,
		     "%s", bt_error());
	cr_assert_eq(bt_blockdev(&t, "file,node-name=p,filename=%s/b.raw"), 0, "%s", bt_error());
	cr_assert_eq(bt_blockdev(&t, "raw,node-name=b,file=p,offset=4096"), 0, "%s", bt_error());
	cr_assert_eq(block_node_find(t.g, "a")->bytes, 8192);
	cr_assert_eq(block_node_find(t.g, "b")->bytes, 4096);
	cr_assert_eq(block_node_find(t.g, "b")->file.node, block_node_find(t.g, "p"));
	cr_assert_eq(block_node_find(t.g, "a")->file.node->name[0], '#');
}

Test(block_graph, test_blockdev_json_as_libvirt_sends_it_is_accepted)
{
	const char *file = bt_file(&t, "a.raw", 8192);
	struct err e = ERR_INIT;
	json_t *a = json_pack("{s:s,s:s,s:s,s:s,s:b,s:s,s:{s:b,s:b}}", "driver", "file", "filename",
			      file, "aio", "native", "node-name", "libvirt-1-storage",
			      "auto-read-only", 1, "discard", "unmap", "cache", "direct", 1,
			      "no-flush", 0);
	json_t *b = json_pack("{s:s,s:b,s:s,s:s}", "node-name", "libvirt-1-format", "read-only", 0,
			      "driver", "raw", "file", "libvirt-1-storage");

	cr_assert_eq(block_node_open(t.g, a, NULL, &e), 0, "%s", e.text);
	cr_assert_eq(block_node_open(t.g, b, NULL, &e), 0, "%s", e.text);
	cr_assert(block_node_find(t.g, "libvirt-1-storage")->cache_direct);
	cr_assert(!block_node_find(t.g, "libvirt-1-storage")->cache_no_flush);
	json_decref(a);
	json_decref(b);
}

Test(block_graph, test_blockdev_del_refuses_used_and_unknown_nodes)
{
	struct err e = ERR_INIT, e2 = ERR_INIT;

	bt_file(&t, "a.raw", 8192);
	cr_assert_eq(bt_blockdev(&t, "file,node-name=store,filename=%s/a.raw"), 0);
	cr_assert_eq(bt_blockdev(&t, "raw,node-name=disk,file=store"), 0);
	cr_assert_eq(block_node_del(t.g, "store", &e), -EBUSY);
	cr_assert(strstr(e.text, "in use by node 'disk'"), "%s", e.text);
	cr_assert_eq(block_node_del(t.g, "stor", &e2), -ENOENT);
	cr_assert(strstr(e2.text, "did you mean 'store'"), "%s", e2.text);
	cr_assert_eq(block_node_del(t.g, "disk", &e), 0);
	cr_assert_eq(block_node_del(t.g, "store", &e), 0);
	cr_assert_null(block_node_find(t.g, "store"));
}

Test(block_graph, test_blockdev_del_takes_inline_children_along)
{
	struct err e = ERR_INIT;
	int nodes = 0;

	bt_file(&t, "a.raw", 8192);
	cr_assert_eq(bt_blockdev(&t, "raw,node-name=a,file.driver=file,file.filename=%s/a.raw"), 0);
	cr_assert_eq(block_node_del(t.g, "a", &e), 0, "%s", e.text);
	for (struct block_node *n = block_node_find(t.g, "#block000"); n; n = n->next)
		nodes++;
	cr_assert_eq(nodes, 0);
}

Test(block_graph, test_names_are_unique_among_nodes_and_drives)
{
	bt_file(&t, "a.raw", 8192);
	bt_file(&t, "b.raw", 8192);
	cr_assert_eq(bt_drive(&t, "file=%s/a.raw,format=raw,if=none,id=x"), 0, "%s", bt_error());
	cr_assert_eq(bt_drive(&t, "file=%s/b.raw,format=raw,if=none,id=x"), -EEXIST);
	IS("a drive called 'x' exists already");
	cr_assert_eq(bt_blockdev(&t, "file,node-name=x,filename=%s/b.raw"), -EEXIST);
	cr_assert_eq(bt_blockdev(&t, "file,node-name=y,filename=%s/b.raw"), 0, "%s", bt_error());
	cr_assert_eq(bt_blockdev(&t, "file,node-name=y,filename=%s/b.raw"), -EEXIST);
	IS("a node called 'y' exists already");
}

Test(block_graph, test_drive_without_id_gets_the_next_name)
{
	bt_file(&t, "a.raw", 8192);
	bt_file(&t, "b.raw", 8192);
	bt_file(&t, "c.raw", 8192);
	cr_assert_eq(bt_drive(&t, "file=%s/a.raw,format=raw,index=1"), 0, "%s", bt_error());
	cr_assert_eq(bt_drive(&t, "file=%s/b.raw,format=raw"), 0, "%s", bt_error());
	cr_assert_eq(drive_find(t.g, "virtio1")->index, 1);
	cr_assert_eq(drive_find(t.g, "virtio0")->iface, DRIVE_IF_VIRTIO);
	cr_assert_eq(bt_drive(&t, "file=%s/c.raw,format=raw,index=1"), -EEXIST);
	IS("taken by drive 'virtio1'");
}

Test(block_graph, test_drive_cache_words_mean_what_qemu_says)
{
	static const struct {
		const char *opts;
		bool wc, direct, no_flush;
	} rows[] = {
		{ "cache=none", 1, 1, 0 }, { "cache=writeback", 1, 0, 0 }, { "if=none", 1, 0, 0 },
		{ "cache=writethrough", 0, 0, 0 }, { "cache=directsync", 0, 1, 0 },
		{ "cache=unsafe", 1, 0, 1 }, { "cache=none,cache.direct=off", 1, 0, 0 },
		{ "cache.writeback=off,cache.no-flush=on", 0, 0, 1 },
	};
	char text[128];

	for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
		const struct block_node *file;
		struct drive *d;

		snprintf(text, sizeof(text), "file=%%s/f%zu,format=raw,id=d%zu,%s", i, i,
			 rows[i].opts);
		bt_file(&t, (char[]){ 'f', (char)('0' + i), 0 }, 4096);
		cr_assert_eq(bt_drive(&t, text), 0, "%s", bt_error());
		snprintf(text, sizeof(text), "d%zu", i);
		d = drive_find(t.g, text);
		cr_expect_eq(d->write_cache, rows[i].wc, "%s", rows[i].opts);
		file = d->node->file.node;
		cr_expect_eq(file->cache_direct, rows[i].direct, "%s", rows[i].opts);
		cr_expect_eq(file->cache_no_flush, rows[i].no_flush, "%s", rows[i].opts);
	}
}

Test(block_graph, test_drive_without_format_refuses_foreign_signatures)
{
	int fd;

	bt_file(&t, "q.img", 65536);
	fd = open(bt_path(&t, "q.img"), O_RDWR | O_CLOEXEC);
	cr_assert_eq(pwrite(fd, "QFI\xfb", 4, 0), 4);
	close(fd);
	refuse_drive("file=%s/q.img,id=d0", -EINVAL, "looks like a qcow2 image");
	IS("format=raw");
	cr_assert_eq(bt_drive(&t, "file=%s/q.img,id=d0,format=raw"), 0, "%s", bt_error());
}

Test(block_graph, test_drive_open_two_devices_on_one_drive_is_refused)
{
	struct drive *a, *b;
	struct err e;

	bt_file(&t, "a.raw", 8192);
	cr_assert_eq(bt_drive(&t, "file=%s/a.raw,format=raw,if=none,id=d0"), 0);
	cr_assert_eq(open_drive("d0", "disk0", DRIVE_OPEN_WRITE, &a, &e), 0, "%s", e.text);
	cr_assert_eq(open_drive("d0", "disk1", DRIVE_OPEN_WRITE, &b, &e), -EBUSY);
	cr_assert_str_eq(e.text, "disk 'd0': it is already used by device 'disk0'; give each "
			 "device its own disk");
	drive_close(a);
	cr_assert_eq(open_drive("d0", "disk1", DRIVE_OPEN_WRITE, &b, &e), 0, "%s", e.text);
	drive_close(b);
}

Test(block_graph, test_drive_open_node_is_shared_only_when_both_share)
{
	struct drive *a, *b;
	struct err e;

	bt_file(&t, "a.raw", 8192);
	cr_assert_eq(bt_blockdev(&t, "raw,node-name=n,file.driver=file,file.filename=%s/a.raw"), 0);
	cr_assert_eq(open_drive("n", "disk0", DRIVE_OPEN_WRITE, &a, &e), 0, "%s", e.text);
	cr_assert_eq(open_drive("n", "disk1", DRIVE_OPEN_WRITE | DRIVE_OPEN_SHARE, &b, &e), -EBUSY);
	cr_assert(strstr(e.text, "in use by device 'disk0'"), "%s", e.text);
	cr_assert_eq(block_node_del(t.g, "n", &e), -EBUSY);
	drive_close(a);
	cr_assert_eq(open_drive("n", "disk0", DRIVE_OPEN_WRITE | DRIVE_OPEN_SHARE, &a, &e), 0);
	cr_assert_eq(open_drive("n", "disk1", DRIVE_OPEN_WRITE | DRIVE_OPEN_SHARE, &b, &e), 0, "%s",
		     e.text);
	drive_close(a);
	drive_close(b);
	cr_assert_eq(block_node_del(t.g, "n", &e), 0, "%s", e.text);
}

Test(block_graph, test_drive_open_unknown_name_suggests_the_nearest)
{
	struct drive *d;
	struct err e;

	bt_file(&t, "a.raw", 8192);
	cr_assert_eq(bt_drive(&t, "file=%s/a.raw,format=raw,if=none,id=root"), 0);
	cr_assert_eq(open_drive("rot", "x", 0, &d, &e), -ENOENT);
	cr_assert(strstr(e.text, "did you mean 'root'"), "%s", e.text);
}

Test(block_graph, test_drive_open_bad_sizes_are_refused_with_the_remedy)
{
	struct drive *d;
	struct err e;

	bt_file(&t, "empty.raw", 0);
	bt_file(&t, "odd.raw", 1000);
	cr_assert_eq(bt_blockdev(&t, "file,filename=%s/empty.raw,node-name=a"), 0);
	cr_assert_eq(bt_blockdev(&t, "file,filename=%s/odd.raw,node-name=b"), 0);
	cr_assert_eq(open_drive("a", "x", 0, &d, &e), -EINVAL);
	cr_assert(strstr(e.text, "is empty; make it as large"), "%s", e.text);
	cr_assert_eq(open_drive("b", "x", 0, &d, &e), -EINVAL);
	cr_assert(strstr(e.text, "is 1000 bytes long"), "%s", e.text);
	cr_assert(strstr(e.text, "truncate -s %512 "), "%s", e.text);
	refuse_drive("file=%s/empty.raw,format=raw,id=d0", -EINVAL, "is empty");
	refuse_drive("file=%s/odd.raw,format=raw,id=d0", -EINVAL, "truncate -s %512");
}

Test(block_graph, test_drive_open_write_on_readonly_is_refused)
{
	struct drive *d;
	struct err e;

	bt_file(&t, "a.raw", 8192);
	cr_assert_eq(bt_drive(&t, "file=%s/a.raw,format=raw,if=none,id=d0,readonly=on"), 0);
	cr_assert_eq(open_drive("d0", "x", DRIVE_OPEN_WRITE, &d, &e), -EROFS);
	cr_assert(strstr(e.text, "is read-only"), "%s", e.text);
	cr_assert_eq(open_drive("d0", "x", DRIVE_OPEN_MAY_WRITE, &d, &e), 0, "%s", e.text);
	cr_assert(d->read_only);
	drive_close(d);
}

/* root may write anything: the check runs as nobody, where we are root. */
static int open_as_nobody(const char *opts)
{
	struct err e = ERR_INIT;
	json_t *args = json_from_keyval(opts, "driver", 1, "x", &e);
	pid_t pid = fork();
	int st;

	if (pid == 0) {
		if (setegid(65534) || seteuid(65534))
			_exit(99);
		_exit(-block_node_open(t.g, args, NULL, &e));
	}
	waitpid(pid, &st, 0);
	json_decref(args);
	return WEXITSTATUS(st);
}

Test(block_graph, test_blockdev_without_permission_names_the_remedy)
{
	char opts[256];
	int r;

	chmod(bt_file(&t, "a.raw", 8192), 0444);
	chmod(t.dir, 0755);
	snprintf(opts, sizeof(opts), "file,node-name=n,filename=%s/a.raw", t.dir);
	r = open_as_nobody(opts);
	cr_assert(r == EACCES || r == 99, "%d", r);
	snprintf(opts, sizeof(opts), "file,node-name=n,auto-read-only=on,filename=%s/a.raw", t.dir);
	r = open_as_nobody(opts);
	cr_assert(r == 0 || r == 99, "%d", r);
}

/* ---- null-co ---- */

Test(block_graph, test_null_co_drops_writes_and_reads_zeroes)
{
	uint8_t buf[512];

	cr_assert_eq(bt_blockdev(&t, "null-co,node-name=n0,size=1M,read-zeroes=on,"
				 "latency-ns=2000000"), 0, "%s", bt_error());
	cr_assert_eq(drive_open(t.g, "n0", "dev0", DRIVE_OPEN_MAY_WRITE, &t.d, NULL), 0);
	cr_assert_eq(t.d->node->bytes, MIB);
	memset(buf, 0x77, sizeof(buf));
	cr_assert_eq(bt_io(&t, BLOCK_WRITE, 512, buf, sizeof(buf), 0), 0);
	uint64_t start = clock_ns();
	cr_assert_eq(bt_io(&t, BLOCK_READ, 512, buf, sizeof(buf), 0), 0);
	cr_assert_geq(clock_ns() - start, 2 * NS_PER_MS);
	for (size_t i = 0; i < sizeof(buf); i++)
		cr_assert_eq(buf[i], 0);
	cr_assert_eq(bt_io(&t, BLOCK_FLUSH, 0, NULL, 0, 0), 0);
}
