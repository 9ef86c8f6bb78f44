/*
 * block/locking.c - byte-range locks that keep two programs off one image.
 *
 * Spec:    the bytes and their meaning are QEMU's (block/file-posix.c): byte
 *          100 + n is read-locked by who uses permission n, byte 200 + n by
 *          who does not let others use it. Read locks never collide: the
 *          answer comes from testing the opposite byte after locking, so that
 *          of two programs that start together at least one sees the other.
 *          libvirt has byte 0.
 * Threads: main loop.
 * Missing: nothing known.
 *
 * Open-file-description locks (fcntl(2)) belong to the descriptor, not to the
 * process: closing another descriptor of the file does not drop them, and two
 * nodes on one file in this process refuse each other as well.
 */
#include "block/locking.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "block/block.h"
#include "vmm/base/log.h"
#include "vmm/base/util.h"

#define PERM_BASE	100
#define SHARED_BASE	200

/* Bytes that a look for the holder of a lock may cost: a machine with more
 * open files gets the message without a name. */
#define HOLDER_FDS_MAX	100000

static int lock_byte(int fd, off_t byte, short type)
{
	struct flock fl = { .l_type = type, .l_whence = SEEK_SET, .l_start = byte, .l_len = 1 };
	int r;

	do
		r = fcntl(fd, F_OFD_SETLK, &fl);
	while (r < 0 && errno == EINTR);
	return r < 0 ? -errno : 0;
}

/* Does another descriptor hold @byte? 0: no, -EAGAIN: yes. */
static int test_byte(int fd, off_t byte)
{
	struct flock fl = { .l_type = F_WRLCK, .l_whence = SEEK_SET, .l_start = byte, .l_len = 1 };

	if (fcntl(fd, F_OFD_GETLK, &fl) < 0)
		return -errno;
	return fl.l_type == F_UNLCK ? 0 : -EAGAIN;
}

/* Does descriptor @dfd (a name in /proc/PID/fdinfo) hold a lock of the file? */
static bool fd_has_lock(const char *pid, const char *dfd, const struct stat *st)
{
	char path[64], line[256];
	struct stat other;
	bool hit = false;
	FILE *f;

	snprintf(path, sizeof(path), "/proc/%.16s/fd/%.16s", pid, dfd);
	if (stat(path, &other) < 0 || other.st_ino != st->st_ino || other.st_dev != st->st_dev)
		return false;
	snprintf(path, sizeof(path), "/proc/%.16s/fdinfo/%.16s", pid, dfd);
	f = fopen(path, "re");
	while (f && !hit && fgets(line, sizeof(line), f))
		hit = strncmp(line, "lock:", 5) == 0;
	if (f)
		fclose(f);
	return hit;
}

static bool pid_has_lock(const char *pid, int own_fd, const struct stat *st, int *budget)
{
	bool self = atoi(pid) == getpid(), hit = false;
	char path[32];
	struct dirent *de;
	DIR *d;

	snprintf(path, sizeof(path), "/proc/%.16s/fd", pid);
	d = opendir(path);
	while (d && !hit && (de = readdir(d)) && --*budget > 0)
		if (de->d_name[0] != '.' && !(self && atoi(de->d_name) == own_fd))
			hit = fd_has_lock(pid, de->d_name, st);
	if (d)
		closedir(d);
	return hit;
}

/* "name, pid 123" of the process in the way, as far as we may see it. The
 * kernel keeps no pid for these locks; /proc/PID/fdinfo lists them. */
static void describe_holder(int fd, char *buf, size_t len)
{
	int budget = HOLDER_FDS_MAX;
	char path[64], comm[32] = "";
	struct dirent *de;
	struct stat st;
	DIR *d;
	int cfd;

	snprintf(buf, len, "which one is not visible from here");
	if (fstat(fd, &st) < 0 || !(d = opendir("/proc")))
		return;
	while ((de = readdir(d)) && budget > 0) {
		if (de->d_name[0] < '1' || de->d_name[0] > '9' ||
		    !pid_has_lock(de->d_name, fd, &st, &budget))
			continue;
		snprintf(path, sizeof(path), "/proc/%.16s/comm", de->d_name);
		cfd = open(path, O_RDONLY | O_CLOEXEC);
		if (cfd >= 0 && read(cfd, comm, sizeof(comm) - 1) > 0)
			comm[strcspn(comm, "\n")] = '\0';
		fd_close(&cfd);
		snprintf(buf, len, "%s%spid %.16s%s", comm, *comm ? ", " : "", de->d_name,
			 atoi(de->d_name) == getpid() ? ", this very process" : "");
		break;
	}
	closedir(d);
}

static int in_use(int fd, const char *name, struct err *e)
{
	char holder[96];

	describe_holder(fd, holder, sizeof(holder));
	if (strstr(holder, "this very process"))
		return err_set(e, -EBUSY, "%s is opened twice by this process; name one node for "
			       "it and give that to both users", name);
	return err_set(e, -EBUSY, "%s is in use by another process (%s); close it, or use "
		       "readonly=on on both sides", name, holder);
}

/* Lock the bytes of @bits above @base that are not in @have yet. */
static int lock_new(int fd, off_t base, uint32_t bits, uint32_t have)
{
	int r = 0;

	for (unsigned int i = 0; r == 0 && BIT(i) <= BLOCK_PERM_ALL; i++)
		if (bits & ~have & BIT(i))
			r = lock_byte(fd, base + i, F_RDLCK);
	return r;
}

static int unlock_bits(int fd, off_t base, uint32_t bits)
{
	int r = 0;

	for (unsigned int i = 0; r == 0 && BIT(i) <= BLOCK_PERM_ALL; i++)
		if (bits & BIT(i))
			r = lock_byte(fd, base + i, F_UNLCK);
	return r;
}

static int test_bits(int fd, off_t base, uint32_t bits)
{
	int r = 0;

	for (unsigned int i = 0; r == 0 && BIT(i) <= BLOCK_PERM_ALL; i++)
		if (bits & BIT(i))
			r = test_byte(fd, base + i);
	return r;
}

int file_lock_set(struct file_lock *l, int fd, const char *name, uint32_t perm,
		  uint32_t shared, bool required, struct err *e)
{
	uint32_t unshared = BLOCK_PERM_ALL & ~shared;
	int r;

	/* Nothing new: others were asked about that before. A chain of many files changes
	 * its permissions often. */
	if (l->off || (perm == l->perm && unshared == l->unshared))
		return 0;
	r = lock_new(fd, PERM_BASE, perm, l->perm);
	if (r == 0)
		r = lock_new(fd, SHARED_BASE, unshared, l->unshared);
	if (r == 0)
		r = test_bits(fd, SHARED_BASE, perm);
	if (r == 0)
		r = test_bits(fd, PERM_BASE, unshared);
	if (r == 0) {
		unlock_bits(fd, PERM_BASE, l->perm & ~perm);
		unlock_bits(fd, SHARED_BASE, l->unshared & ~unshared);
		l->perm = perm;
		l->unshared = unshared;
		return 0;
	}
	if (r == -EAGAIN || r == -EACCES)
		r = in_use(fd, name, e);
	unlock_bits(fd, PERM_BASE, perm & ~l->perm);
	unlock_bits(fd, SHARED_BASE, unshared & ~l->unshared);
	if (r == -EBUSY)
		return r;
	if (required)
		return err_sys(e, r, "%s cannot be locked; use locking=off if nothing else "
			       "writes to it", name);
	log_warn("%s cannot be locked (%s): nothing keeps other programs off it", name,
		 strerror(-r));
	l->off = true;
	return 0;
}

int file_lock_move(const struct file_lock *l, int fd, int other)
{
	int r;

	if (l->off)
		return 0;
	/* Nothing to test: @fd has asked already, and keeps others away. */
	r = lock_new(other, PERM_BASE, l->perm, 0);
	if (r == 0)
		r = lock_new(other, SHARED_BASE, l->unshared, 0);
	if (r)
		return r;
	/* Not left to closing: what is in flight keeps the old descriptor's file. */
	unlock_bits(fd, PERM_BASE, l->perm);
	unlock_bits(fd, SHARED_BASE, l->unshared);
	return 0;
}
