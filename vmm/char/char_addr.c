/*
 * vmm/char/char_addr.c - socket addresses: from options to sockets.
 * Threads: see char_addr.h.
 * Missing: to= (a range of ports), vsock.
 */
#include "vmm/char/char_addr.h"

#include <errno.h>
#include <netdb.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "vmm/base/util.h"

int char_addr_unix(struct char_addr *a, const char *id, const char *path,
		   bool abstract, bool tight, struct err *e)
{
	size_t len = strlen(path), head = offsetof(struct sockaddr_un, sun_path) + abstract;

	memset(a, 0, sizeof(*a));
	if (len + abstract >= sizeof(a->un.sun_path) + (abstract && tight))
		return err_set(e, -ENAMETOOLONG, "chardev '%s': socket path '%s' has %zu "
			       "characters; at most %zu are possible", id, path, len,
			       sizeof(a->un.sun_path) - 1);
	a->un.sun_family = AF_UNIX;
	memcpy(a->un.sun_path + abstract, path, len);
	a->len = abstract && tight ? (socklen_t)(head + len) : sizeof(a->un);
	a->path = abstract ? NULL : path;
	snprintf(a->text, sizeof(a->text), "%s%s", abstract ? "@" : "", path);
	return 0;
}

int char_addr_inet(struct char_addr *a, const char *id, const char *host, const char *port,
		   bool server, int family, struct err *e)
{
	struct addrinfo hints = { .ai_family = family, .ai_socktype = SOCK_STREAM,
				  .ai_flags = server ? AI_PASSIVE : 0 };
	struct addrinfo *list = NULL;
	int r;

	memset(a, 0, sizeof(*a));
	snprintf(a->text, sizeof(a->text), "%s:%s", host, port);
	r = getaddrinfo(*host ? host : NULL, port, &hints, &list);
	if (r)
		return err_set(e, -EADDRNOTAVAIL, "chardev '%s': no address for host '%s', "
			       "port '%s': %s", id, host, port, gai_strerror(r));
	memcpy(&a->sa, list->ai_addr, MIN((size_t)list->ai_addrlen, sizeof(a->in6)));
	a->len = list->ai_addrlen;
	freeaddrinfo(list);
	return 0;
}

static int stream_socket(const struct char_addr *a)
{
	int fd = socket(a->sa.sa_family, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);

	return fd < 0 ? -errno : fd;
}

/* Something is at the path. A socket that nobody listens on is what a killed
 * process left: it goes. Anything else stays. */
static int clear_path(struct char_addr *a, const char *id, struct err *e)
{
	struct stat st;
	int fd, r;

	if (!a->path || lstat(a->path, &st) < 0)
		return 0;
	if (!S_ISSOCK(st.st_mode))
		return err_set(e, -EEXIST, "chardev '%s': '%s' exists and is no socket; "
			       "remove it or choose another path", id, a->path);
	fd = stream_socket(a);
	if (fd < 0)
		return err_sys(e, fd, "chardev '%s': socket", id);
	r = connect(fd, &a->sa, a->len) < 0 ? errno : 0;
	close(fd);
	if (r != ECONNREFUSED)
		return err_set(e, -EADDRINUSE, "chardev '%s': another process listens on "
			       "'%s'; choose another path", id, a->path);
	unlink(a->path);
	return 0;
}

int char_addr_listen(struct char_addr *a, const char *id, int backlog, mode_t mode,
		     struct err *e)
{
	int fd, one = 1, r = clear_path(a, id, e);

	if (r < 0)
		return r;
	fd = stream_socket(a);
	if (fd < 0)
		return err_sys(e, fd, "chardev '%s': socket", id);
	if (a->sa.sa_family != AF_UNIX)
		setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &one, sizeof(one));
	else if (mode)		/* before bind(): the file is never open to more */
		fchmod(fd, mode);
	if (bind(fd, &a->sa, a->len) < 0 || listen(fd, backlog) < 0) {
		r = -errno;
		close(fd);
		return err_sys(e, r, "chardev '%s': cannot listen on '%s'", id, a->text);
	}
	return fd;
}

int char_addr_connect(const struct char_addr *a, bool *pending)
{
	int fd = stream_socket(a), r;

	*pending = false;
	if (fd < 0)
		return fd;
	if (connect(fd, &a->sa, a->len) == 0)
		return fd;
	/* A unix socket connects at once or not at all (EAGAIN: backlog full). */
	*pending = errno == EINPROGRESS;
	if (*pending)
		return fd;
	r = -errno;
	close(fd);
	return r;
}
