/*
 * vmm/char/char_file.c - output to a file, a FIFO or a device node.
 * Threads: loop.
 * Missing: input-path.
 */
#include <errno.h>
#include <fcntl.h>
#include <sys/stat.h>

#include "vmm/base/log.h"
#include "vmm/base/util.h"
#include "vmm/char/char_priv.h"

struct char_file {
	struct chardev c;	/* first */
	char *path;
	bool append;
	int fd;			/* FIFO or device; a regular file is out_aio's */
};

static const struct prop file_props[] = {
	PROP_STR(struct char_file, path, "path", NULL, "file to write to",
		 .flags = PROP_REQUIRED),
	PROP_BOOL(struct char_file, append, "append", false,
		  "add to the file instead of emptying it first"),
	PROP_END
};

static int open_error(struct char_file *f, int error, struct err *e)
{
	if (error == ENXIO)
		return err_set(e, -error, "chardev '%s': nobody reads the FIFO '%s'; start "
			       "the reader first", f->c.id, f->path);
	if (error == ENOENT)
		return err_set(e, -error, "chardev '%s': cannot create '%s': its directory "
			       "does not exist", f->c.id, f->path);
	return err_sys(e, -error, "chardev '%s': cannot open '%s' for writing",
		       f->c.id, f->path);
}

static int file_open(struct chardev *c, struct err *e)
{
	struct char_file *f = (struct char_file *)c;
	int fd, flags = O_WRONLY | O_CREAT | O_CLOEXEC | O_NOCTTY | O_NONBLOCK;
	struct stat st;
	int r;

	f->fd = -1;
	fd = open(f->path, flags | (f->append ? O_APPEND : O_TRUNC), 0666);
	if (fd < 0 || fstat(fd, &st) < 0) {
		r = errno;
		fd_close(&fd);
		return open_error(f, r, e);
	}
	char_set_filename(c, "file");
	if (S_ISREG(st.st_mode)) {
		char_aio_init(c, &c->out_aio, &c->out, fd);
		c->open = true;
		return 0;
	}
	f->fd = fd;
	r = char_watch(c, -1, fd);
	if (r < 0)
		return open_error(f, -r, e);
	char_set_open(c, true, false);
	return 0;
}

static void file_close(struct chardev *c)
{
	struct char_file *f = (struct char_file *)c;

	char_unwatch(c);
	fd_close(&f->fd);
}

static void file_hangup(struct chardev *c, bool output, int error)
{
	log_warn("chardev '%s': nobody reads it any more; output is lost", c->id);
	char_unwatch(c);
	char_set_open(c, false, true);
}

const struct char_driver char_file_driver = {
	.name = "file", .help = "writes output to a file",
	.size = sizeof(struct char_file), .props = file_props,
	.open = file_open, .close = file_close,
	.write = char_fd_write, .hangup = file_hangup,
};
