/*
 * vmm/control/commands_create.c - QMP's blockdev-create: new images, as a job.
 *
 * Spec:    QEMU's qapi/block-core.json (BlockdevCreateOptions).
 * Threads: main loop; the image is written on the job's thread, on a loop of its
 *          own, through the node that the client added for the file.
 * Missing: drivers other than file and qcow2; preallocation; encryption.
 *
 * The job is over when image and folder entry are durable.
 */
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "block/block.h"
#include "block/image.h"
#include "vmm/base/json.h"
#include "vmm/base/util.h"
#include "vmm/control/job.h"
#include "vmm/control/qmp.h"
#include "vmm/core/vm.h"
#include "vmm/loop/loop.h"

extern const struct qmp_table qmp_table_create;

/* ---- file ---- */

struct file_create {
	char *path;
	uint64_t size;
};

int job_sync_folder(const char *path)
{
	const char *slash = strrchr(path, '/');
	char *dir = slash ? xasprintf("%.*s", (int)MAX(slash - path, (ptrdiff_t)1), path) :
		xstrdup(".");
	int fd = open(dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC), r = 0;

	if (fd < 0 || fsync(fd) < 0)
		r = -errno;
	fd_close(&fd);
	free(dir);
	return r;
}

static int run_file(struct job *j, void *arg, struct err *e)
{
	struct file_create *c = arg;
	int fd = open(c->path, O_RDWR | O_CREAT | O_CLOEXEC, 0644), r = 0;

	if (fd < 0)
		return err_sys(e, -errno, "cannot create %s", c->path);
	if (ftruncate(fd, 0) < 0 || ftruncate(fd, (off_t)c->size) < 0 || fsync(fd) < 0)
		r = -errno;
	fd_close(&fd);
	if (r == 0)
		r = job_sync_folder(c->path);
	return r ? err_sys(e, r, "cannot make %s %" PRIu64 " bytes long", c->path, c->size) : 0;
}

static void end_file(void *arg)
{
	struct file_create *c = arg;

	free(c->path);
	free(c);
}

static const struct job_ops file_job = { "create", run_file, end_file };

static int start_file(struct qmp *q, const char *id, const json_t *o, struct err *e)
{
	struct file_create *c = xcalloc(1, sizeof(*c));
	int r;

	c->path = xstrdup(json_str(o, "filename", ""));
	c->size = (uint64_t)json_integer_value(json_object_get(o, "size"));
	r = job_start(q, id, &file_job, c, e);
	if (r)
		end_file(c);
	return r;
}

/* ---- qcow2 ---- */

struct qcow2_create {
	struct block_child file;
	struct image_qcow2_opts opts;
	char *backing_file, *backing_format, *data_file;
	enum loop_aio aio;
};

static int run_qcow2(struct job *j, void *arg, struct err *e)
{
	struct qcow2_create *c = arg;
	struct loop *l;
	int r = loop_create(&l, "create", c->aio, e);

	if (r)
		return r;
	r = image_qcow2_create(c->file.node, l, &c->opts, e);
	loop_destroy(l);
	if (r == 0 && c->file.node->filename) {
		r = job_sync_folder(c->file.node->filename);
		if (r)
			err_sys(e, r, "cannot sync the folder of %s", c->file.node->filename);
	}
	return r;
}

static void end_qcow2(void *arg)
{
	struct qcow2_create *c = arg;

	block_detach(&c->file);
	free(c->backing_file);
	free(c->backing_format);
	free(c->data_file);
	free(c);
}

static const struct job_ops qcow2_job = { "create", run_qcow2, end_qcow2 };

static char *copy(const json_t *o, const char *key)
{
	const char *s = json_str(o, key, NULL);

	return s ? xstrdup(s) : NULL;
}

static int number_of(const json_t *o, const char *key, uint64_t def, uint32_t *log2, struct err *e)
{
	const json_t *v = json_object_get(o, key);
	json_int_t n = v ? json_integer_value(v) : (json_int_t)def;

	if (n <= 0 || !is_pow2((uint64_t)n))
		return err_set(e, -EINVAL, "%s=%lld is not a power of two", key, (long long)n);
	*log2 = (uint32_t)__builtin_ctzll((uint64_t)n);
	return 0;
}

static int read_opts(struct qcow2_create *c, const json_t *o, struct err *e)
{
	struct image_qcow2_opts *i = &c->opts;
	json_int_t size = json_integer_value(json_object_get(o, "size"));
	int r;

	image_qcow2_defaults(i);
	if (size < 0 || size % BLOCK_SECTOR)
		return err_set(e, -EINVAL, "size=%lld is not a multiple of %d", (long long)size,
			       BLOCK_SECTOR);
	i->size = (uint64_t)size;
	i->version = strcmp(json_str(o, "version", "v3"), "v2") ? 3 : 2;
	i->ext_l2 = json_is_true(json_object_get(o, "extended-l2"));
	i->lazy_refcounts = json_is_true(json_object_get(o, "lazy-refcounts"));
	i->zstd = strcmp(json_str(o, "compression-type", "zlib"), "zstd") == 0;
	i->backing_file = c->backing_file = copy(o, "backing-file");
	i->backing_format = c->backing_format = copy(o, "backing-fmt");
	if (strcmp(json_str(o, "preallocation", "off"), "off"))
		return err_set(e, -ENOTSUP, "preallocation=%s is not supported; only off is",
			       json_str(o, "preallocation", ""));
	r = number_of(o, "cluster-size", BIT64(i->cluster_bits), &i->cluster_bits, e);
	if (r == 0)
		r = number_of(o, "refcount-bits", 16, &i->refcount_order, e);
	return r ? r : image_qcow2_check_opts(i, e);
}

static int start_qcow2(struct qmp *q, const char *id, const json_t *o, struct err *e)
{
	struct vm *vm = qmp_vm(q);
	const char *name = json_str(o, "file", NULL);
	struct block_node *n = name ? block_node_find(vm->blocks, name) : NULL;
	struct qcow2_create *c;
	int r;

	if (!n)
		return err_set(e, -ENOENT, "file must be the name of a node; there is none called "
			       "'%.64s'", name ? name : "");
	c = xcalloc(1, sizeof(*c));
	c->aio = vm->aio;
	r = read_opts(c, o, e);
	if (r == 0)
		r = block_attach(&c->file, n, "blockdev-create", BLOCK_PERM_READ |
				 BLOCK_PERM_WRITE | BLOCK_PERM_RESIZE, 0, e);
	if (r == 0)
		r = job_start(q, id, &qcow2_job, c, e);
	if (r)
		end_qcow2(c);
	return r;
}

/* ---- the command ---- */

static int cmd_create(struct qmp *q, void *args, json_t **ret, struct err *e)
{
	const json_t *o = json_object_get(args, "options");
	const char *id = json_str(args, "job-id", "");

	if (strcmp(json_str(o, "driver", ""), "file") == 0)
		return start_file(q, id, o, e);
	return start_qcow2(q, id, o, e);
}

static const struct qmp_cmd cmds[] = {
	{ .name = "blockdev-create", .help = "make an image, as a job",
	  .arg_type = "q_obj_blockdev-create-arg", .run = cmd_create },
	{ 0 }
};

static const char *const driver_words[] = { "file", "qcow2", NULL };
static const char *const version_words[] = { "v2", "v3", NULL };
static const char *const prealloc_words[] = { "off", NULL };
static const char *const compression_words[] = { "zlib", "zstd", NULL };

static const struct qmp_member create_args[] = {
	{ "job-id", "str" }, { "options", "BlockdevCreateOptions" }, { 0 }
};
static const struct qmp_member base[] = { { "driver", "BlockdevCreateDriver" }, { 0 } };
static const struct qmp_variant variants[] = {
	{ "file", "BlockdevCreateOptionsFile" }, { "qcow2", "BlockdevCreateOptionsQcow2" }, { 0 }
};
static const struct qmp_member file_members[] = {
	{ "filename", "str" }, { "size", "int" }, { 0 }
};
static const struct qmp_member qcow2_members[] = {
	{ "file", "BlockdevRef" }, { "size", "int" }, { "*version", "BlockdevQcow2Version" },
	{ "*backing-file", "str" }, { "*backing-fmt", "BlockdevDriver" },
	{ "*cluster-size", "int" }, { "*refcount-bits", "int" }, { "*lazy-refcounts", "bool" },
	{ "*extended-l2", "bool" }, { "*preallocation", "PreallocMode" },
	{ "*compression-type", "Qcow2CompressionType" }, { 0 }
};

static const struct qmp_type types[] = {
	{ .name = "q_obj_blockdev-create-arg", .members = create_args },
	{ .name = "BlockdevCreateOptions", .members = base, .tag = "driver",
	  .variants = variants },
	{ .name = "BlockdevCreateDriver", .meta = QMP_ENUM, .words = driver_words },
	{ .name = "BlockdevCreateOptionsFile", .members = file_members },
	{ .name = "BlockdevCreateOptionsQcow2", .members = qcow2_members },
	{ .name = "BlockdevQcow2Version", .meta = QMP_ENUM, .words = version_words },
	{ .name = "PreallocMode", .meta = QMP_ENUM, .words = prealloc_words },
	{ .name = "Qcow2CompressionType", .meta = QMP_ENUM, .words = compression_words },
	{ 0 }
};

const struct qmp_table qmp_table_create = { .cmds = cmds, .types = types };
