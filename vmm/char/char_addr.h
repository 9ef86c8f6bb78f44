/*
 * vmm/char/char_addr.h - socket addresses: from options to sockets.
 * Threads: main loop; nothing waits but the look-up of a host's name, which
 *          happens once, when a chardev is made.
 */
#ifndef VMM_CHAR_CHAR_ADDR_H
#define VMM_CHAR_CHAR_ADDR_H

#include <netinet/in.h>
#include <stdbool.h>
#include <sys/socket.h>
#include <sys/un.h>

#include "vmm/base/err.h"

struct char_addr {
	union {
		struct sockaddr sa;
		struct sockaddr_un un;
		struct sockaddr_in in;
		struct sockaddr_in6 in6;
	};
	socklen_t len;
	const char *path;	/* of a socket in the file system, borrowed; or NULL */
	char text[160];		/* for messages */
};

/* @id names the chardev in errors. @abstract: the name is no file's; @tight:
 * without the zero bytes that fill the address up. 0 or -errno. */
int char_addr_unix(struct char_addr *a, const char *id, const char *path,
		   bool abstract, bool tight, struct err *e);
/* @family AF_INET, AF_INET6 or AF_UNSPEC. */
int char_addr_inet(struct char_addr *a, const char *id, const char *host, const char *port,
		   bool server, int family, struct err *e);

/* A socket that listens; a stale one in the file system is replaced. @mode: of
 * a socket in the file system, 0: as umask has it. Descriptor or -errno. */
int char_addr_listen(struct char_addr *a, const char *id, int backlog, mode_t mode,
		     struct err *e);
/* A socket that connects: *@pending when that goes on. Descriptor or -errno. */
int char_addr_connect(const struct char_addr *a, bool *pending);

#endif
