/*
 * vmm/run/runtime.c - a running VM's folder, where the native verbs find it.
 *
 * Threads: any one.
 *
 * Creating, emptying and removing a folder happen under one lock of the base
 * folder, held for moments only, so that two processes never take the same
 * name and nobody removes what another has just made.
 */
#include "vmm/run/runtime.h"

#include <ctype.h>
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include "vmm/base/prop.h"
#include "vmm/base/util.h"

#define LOCK_WAIT_MS	2000		/* others hold it for moments */
#define ENTRIES_MAX	4096		/* folders that a listing looks at */
#define SUFFIX_MAX	1000		/* web-2 .. web-1000 */
#define CONFIG_MAX	(1u << 20)	/* bytes of config.json that are read */

static const char *const files[] = {
	RUNTIME_QMP, RUNTIME_CONSOLE, RUNTIME_PID, RUNTIME_LOG, RUNTIME_CONFIG,
};

int runtime_check_name(const char *name, struct err *e)
{
	size_t len = strlen(name);
	bool good = len > 0 && len <= RUNTIME_NAME_MAX && isalnum((unsigned char)name[0]);

	for (const char *p = name; good && *p; p++)
		good = isalnum((unsigned char)*p) || strchr("._+-", *p);
	if (good)
		return 0;
	return err_set(e, -EINVAL, "name '%.60s': must be 1 to %d letters, digits and . _ + -, "
		       "beginning with a letter or digit", name, RUNTIME_NAME_MAX);
}

/* ---- the base folder ---- */

/* A folder that is ours alone. */
static int check_private(int fd, const char *path, struct err *e)
{
	struct stat st;

	if (fstat(fd, &st) < 0)
		return err_sys(e, -errno, "%s", path);
	if (st.st_uid != geteuid())
		return err_set(e, -EPERM, "%s belongs to user %u, not to you: it is not used; "
			       "remove it, or set XDG_RUNTIME_DIR", path, st.st_uid);
	if (st.st_mode & 077)
		return err_set(e, -EPERM, "%s can be opened by others (mode %03o): it is not "
			       "used; chmod 700 it after a look inside", path,
			       st.st_mode & 0777);
	return 0;
}

/* XDG_RUNTIME_DIR kept by su or sudo belongs to somebody else: not for us. */
static const char *xdg_dir(void)
{
	const char *dir = getenv("XDG_RUNTIME_DIR");
	struct stat st;

	if (!dir || dir[0] != '/' || stat(dir, &st) < 0 || !S_ISDIR(st.st_mode))
		return NULL;
	return st.st_uid == geteuid() ? dir : NULL;
}

static char *base_path(void)
{
	const char *xdg = xdg_dir();

	if (xdg)
		return xasprintf("%s/roost", xdg);
	if (geteuid() == 0)
		return xstrdup("/run/roost");
	return xasprintf("/tmp/roost-%u", geteuid());
}

/* Open the base, made when @create. -ENOENT without a sentence when it is not
 * there: no VM runs. */
static int open_base(char **path, bool create, struct err *e)
{
	int fd, r;

	*path = base_path();
	if (create && mkdir(*path, 0700) < 0 && errno != EEXIST) {
		r = err_sys(e, -errno, "cannot make %s", *path);
		goto fail;
	}
	fd = open(*path, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
	if (fd < 0) {
		r = errno == ENOENT ? -ENOENT : err_sys(e, -errno, "cannot open %s", *path);
		goto fail;
	}
	r = check_private(fd, *path, e);
	if (r == 0)
		return fd;
	close(fd);
fail:
	free(*path);
	*path = NULL;
	return r;
}

/* The lock that orders creation and removal; a descriptor to close. */
static int lock_base(int base, const char *path, struct err *e)
{
	int fd = openat(base, ".lock", O_RDWR | O_CREAT | O_NOFOLLOW | O_NONBLOCK | O_CLOEXEC,
			0600);
	uint64_t deadline = clock_ns() + LOCK_WAIT_MS * NS_PER_MS;

	if (fd < 0)
		return err_sys(e, -errno, "%s/.lock", path);
	while (flock(fd, LOCK_EX | LOCK_NB) < 0) {
		if (clock_ns() >= deadline) {
			close(fd);
			return err_set(e, -ETIMEDOUT, "another process holds %s/.lock; try "
				       "again, or remove it", path);
		}
		usleep(10000);
	}
	return fd;
}

/* ---- one folder ---- */

int runtime_open(const struct runtime *rt, const char *file, int flags)
{
	/* NONBLOCK: a fifo in the file's place must not hold us up. */
	int fd = openat(rt->dirfd, file, flags | O_NOFOLLOW | O_NONBLOCK | O_CLOEXEC, 0600);
	struct stat st;

	if (fd < 0)
		return -errno;
	if (fstat(fd, &st) == 0 && S_ISREG(st.st_mode))
		return fd;
	close(fd);
	return -EPERM;
}

static bool lock_held(int fd)
{
	struct flock l = { .l_type = F_WRLCK, .l_whence = SEEK_SET };

	return fcntl(fd, F_OFD_GETLK, &l) == 0 && l.l_type != F_UNLCK;
}

bool runtime_alive(const struct runtime *rt)
{
	int fd = runtime_open(rt, RUNTIME_PID, O_RDWR);
	bool held;

	if (fd < 0)
		return false;
	held = lock_held(fd);
	close(fd);
	return held;
}

static pid_t read_pid(const struct runtime *rt)
{
	char text[24] = "";
	int fd = runtime_open(rt, RUNTIME_PID, O_RDONLY);
	ssize_t n;
	uint64_t v;

	if (fd < 0)
		return 0;
	n = read(fd, text, sizeof(text) - 1);
	close(fd);
	if (n <= 0)
		return 0;
	text[strcspn(text, "\n")] = '\0';
	return parse_u64(text, &v) == 0 && v <= INT32_MAX ? (pid_t)v : 0;
}

static int open_dir(struct runtime *rt, int base, const char *path, const char *name,
		    struct err *e)
{
	int r;

	snprintf(rt->name, sizeof(rt->name), "%s", name);
	rt->dir = xasprintf("%s/%s", path, name);
	rt->dirfd = openat(base, name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
	if (rt->dirfd < 0)
		r = err_sys(e, -errno, "cannot open %s", rt->dir);
	else
		r = check_private(rt->dirfd, rt->dir, e);
	if (r == 0)
		rt->pid = read_pid(rt);
	return r;
}

static void empty_dir(const struct runtime *rt)
{
	for (size_t i = 0; i < ARRAY_LEN(files); i++)
		unlinkat(rt->dirfd, files[i], 0);
}

void runtime_close(struct runtime *rt)
{
	fd_close(&rt->lock);
	fd_close(&rt->dirfd);
	free(rt->dir);
	*rt = (struct runtime)RUNTIME_INIT;
}

/* ---- for the VM ---- */

static int take_lock(struct runtime *rt, struct err *e)
{
	struct flock l = { .l_type = F_WRLCK, .l_whence = SEEK_SET };
	int fd = runtime_open(rt, RUNTIME_PID, O_RDWR | O_CREAT);

	if (fd < 0)
		return err_sys(e, fd, "%s/" RUNTIME_PID, rt->dir);
	if (fcntl(fd, F_OFD_SETLK, &l) == 0) {
		rt->lock = fd;
		return 0;
	}
	close(fd);
	return -EEXIST;		/* the caller has the words */
}

/* @base is locked. -EEXIST without a sentence when the name is taken. */
static int create_dir(struct runtime *rt, int base, const char *path, const char *name,
		      struct err *e)
{
	int r;

	if (mkdirat(base, name, 0700) < 0 && errno != EEXIST)
		return err_sys(e, -errno, "cannot make %s/%s", path, name);
	r = open_dir(rt, base, path, name, e);
	if (r == 0 && runtime_alive(rt))
		r = -EEXIST;
	if (r == 0) {
		empty_dir(rt);	/* a dead VM's */
		r = take_lock(rt, e);
	}
	if (r)
		return r;
	if (strlen(rt->dir) + 1 + strlen(RUNTIME_CONSOLE) <
	    sizeof(((struct sockaddr_un *)0)->sun_path))
		return 0;
	return err_set(e, -ENAMETOOLONG, "%s is too long for a socket's path; give a shorter "
		       "-name or XDG_RUNTIME_DIR", rt->dir);
}

static int create_generated(struct runtime *rt, int base, const char *path, const char *stem,
			    struct err *e)
{
	char name[RUNTIME_NAME_MAX + 1];
	int r = -EEXIST;

	for (int i = 1; r == -EEXIST && i <= SUFFIX_MAX; i++) {
		runtime_close(rt);
		if (i == 1)
			snprintf(name, sizeof(name), "%s", stem);
		else
			snprintf(name, sizeof(name), "%.*s-%d", RUNTIME_NAME_MAX - 5, stem, i);
		r = create_dir(rt, base, path, name, e);
	}
	return r;
}

int runtime_create(struct runtime *rt, const char *name, bool generated, struct err *e)
{
	char *path;
	int base, lock, r = runtime_check_name(name, e);

	if (r)
		return r;
	base = open_base(&path, true, e);
	if (base < 0)
		return base;
	r = lock = lock_base(base, path, e);
	if (lock >= 0) {
		if (generated)
			r = create_generated(rt, base, path, name, e);
		else
			r = create_dir(rt, base, path, name, e);
		close(lock);
	}
	if (r == -EEXIST && !err_is_set(e))
		err_set(e, r, "-name %s: a VM of that name runs already (process %d); choose "
			"another name, or end it with roost kill %s", name, rt->pid, name);
	if (r)
		runtime_close(rt);
	close(base);
	free(path);
	return r;
}

int runtime_write(struct runtime *rt, const char *file, const void *buf, size_t len,
		  struct err *e)
{
	int fd = runtime_open(rt, file, O_WRONLY | O_CREAT | O_TRUNC), r;

	if (fd < 0)
		return err_sys(e, fd, "cannot make %s/%s", rt->dir, file);
	r = fd_write_full(fd, buf, len, 0);
	close(fd);
	return r ? err_sys(e, r, "cannot write %s/%s", rt->dir, file) : 0;
}

int runtime_set_pid(struct runtime *rt, struct err *e)
{
	char text[24];
	int r;

	rt->pid = getpid();
	snprintf(text, sizeof(text), "%d\n", rt->pid);
	/* Through the locked descriptor: OFD locks are not lost by a close of
	 * another one, but the file must stay the one that is locked. */
	r = fd_write_full(rt->lock, text, strlen(text), 0);
	return r ? err_sys(e, r, "cannot write %s/" RUNTIME_PID, rt->dir) : 0;
}

/* Remove @rt's folder if nobody lives in it, or if we do. */
static void remove_dir(struct runtime *rt)
{
	char *path;
	int base = open_base(&path, false, NULL), lock;

	if (base < 0)
		return;
	lock = lock_base(base, path, NULL);
	if (lock >= 0 && (rt->lock >= 0 || !runtime_alive(rt))) {
		empty_dir(rt);
		unlinkat(base, rt->name, AT_REMOVEDIR);
	}
	if (lock >= 0)
		close(lock);
	close(base);
	free(path);
}

void runtime_remove(struct runtime *rt)
{
	if (rt->dirfd >= 0)
		remove_dir(rt);
	runtime_close(rt);
}

/* ---- for verbs ---- */

static int by_name(const void *a, const void *b)
{
	return strcmp(((const struct runtime *)a)->name, ((const struct runtime *)b)->name);
}

/* One entry of the base: keep a living VM, remove a dead one's folder. What is
 * not to be trusted is left alone. */
static void look_at(int base, const char *path, const char *name, struct runtime **list,
		    size_t *count)
{
	struct runtime rt = RUNTIME_INIT;

	if (runtime_check_name(name, NULL) || open_dir(&rt, base, path, name, NULL)) {
		runtime_close(&rt);
		return;
	}
	if (!runtime_alive(&rt)) {
		remove_dir(&rt);
		runtime_close(&rt);
		return;
	}
	*list = xrealloc(*list, (*count + 1) * sizeof(rt));
	(*list)[(*count)++] = rt;
}

int runtime_list(struct runtime **list, size_t *count, struct err *e)
{
	struct dirent *d;
	char *path;
	DIR *dir;
	int base = open_base(&path, false, e), r = 0;

	*list = NULL;
	*count = 0;
	if (base < 0)
		return base == -ENOENT ? 0 : base;
	dir = fdopendir(dup(base));
	if (!dir)
		r = err_sys(e, -errno, "cannot read %s", path);
	for (int i = 0; dir && i < ENTRIES_MAX && (d = readdir(dir)); i++)
		look_at(base, path, d->d_name, list, count);
	if (dir)
		closedir(dir);
	if (*count)
		qsort(*list, *count, sizeof(**list), by_name);
	close(base);
	free(path);
	return r;
}

void runtime_list_free(struct runtime *list, size_t count)
{
	for (size_t i = 0; i < count; i++)
		runtime_close(&list[i]);
	free(list);
}

static int no_such(const char *name, struct err *e)
{
	struct runtime *list;
	const char **names, *near = NULL;
	size_t count;

	if (runtime_list(&list, &count, NULL) == 0 && count) {
		names = xcalloc(count + 1, sizeof(*names));
		for (size_t i = 0; i < count; i++)
			names[i] = list[i].name;
		near = util_nearest(name, names);
		free(names);
	}
	if (near)
		err_set(e, -ENOENT, "no VM '%s' is running; did you mean %s?", name, near);
	else
		err_set(e, -ENOENT, "no VM '%s' is running; roost ps lists %s", name,
			count ? "those that are" : "what is");
	runtime_list_free(list, count);
	return -ENOENT;
}

int runtime_find(struct runtime *rt, const char *name, struct err *e)
{
	char *path;
	struct stat st;
	int base, r = runtime_check_name(name, e);

	if (r)
		return r;
	base = open_base(&path, false, e);
	if (base == -ENOENT)
		return no_such(name, e);
	if (base < 0)
		return base;
	r = fstatat(base, name, &st, AT_SYMLINK_NOFOLLOW) < 0 ? -ENOENT : 0;
	if (r == 0)
		r = open_dir(rt, base, path, name, e);
	if (r == 0 && !runtime_alive(rt)) {
		remove_dir(rt);
		r = -ENOENT;
	}
	if (r)
		runtime_close(rt);
	if (r == -ENOENT)
		no_such(name, e);
	close(base);
	free(path);
	return r;
}

char *runtime_path(const struct runtime *rt, const char *file)
{
	return xasprintf("%s/%s", rt->dir, file);
}

json_t *runtime_config(const struct runtime *rt)
{
	int fd = runtime_open(rt, RUNTIME_CONFIG, O_RDONLY);
	struct stat st;
	json_t *o = NULL;
	char *text;

	if (fd < 0)
		return NULL;
	if (fstat(fd, &st) == 0 && st.st_size <= CONFIG_MAX) {
		text = xcalloc(1, (size_t)st.st_size + 1);
		if (fd_read_full(fd, text, (size_t)st.st_size, 0) == 0)
			o = json_loadb(text, (size_t)st.st_size, 0, NULL);
		free(text);
	}
	close(fd);
	if (json_is_object(o))
		return o;
	json_decref(o);
	return NULL;
}

int runtime_connect(const struct runtime *rt, struct qmpc **c, struct err *e)
{
	char *path = runtime_path(rt, RUNTIME_QMP);
	int r = qmpc_open(c, rt->name, path, QMPC_TIMEOUT_MS, e);

	free(path);
	return r;
}
