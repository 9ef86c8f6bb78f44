/*
 * tests/unit/test_char_socket.c - the socket chardev, and writers on threads.
 * Threads: one case writes from threads of its own (TSAN).
 * Missing: nothing known.
 */
#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include "tests/unit/lib_char.h"

TestSuite(charsocket, .init = char_test_begin, .fini = char_test_end);

/* ---- socket ---- */

static int dial(const char *path)
{
	struct sockaddr_un a = { .sun_family = AF_UNIX };
	int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK, 0);

	snprintf(a.sun_path, sizeof(a.sun_path), "%s", path);
	cr_assert_eq(connect(fd, (struct sockaddr *)&a, sizeof(a)), 0);
	return fd;
}

static int serve(const char *path)
{
	struct sockaddr_un a = { .sun_family = AF_UNIX };
	int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK, 0);

	snprintf(a.sun_path, sizeof(a.sun_path), "%s", path);
	cr_assert_eq(bind(fd, (struct sockaddr *)&a, sizeof(a)), 0);
	cr_assert_eq(listen(fd, 1), 0);
	return fd;
}

static struct chardev *add_server(void)
{
	struct chardev *c;

	cr_assert_eq(try_add(&c, "socket,id=a,path=%s,server=on,wait=off", in_dir("s")),
		     0, "%s", e.text);
	return connected(c);
}

Test(charsocket, test_char_socket_server_serves_one_client_after_another)
{
	struct chardev *c = add_server();
	char want[128];
	int i, fd;

	for (i = 0; i < 5; i++) {
		fd = dial(in_dir("s"));
		until(rec.opened == i + 1);
		snprintf(want, sizeof(want), "unix:%s,server=on", in_dir("s"));
		cr_assert_str_eq(char_filename(c), want);
		write_all(c, "hello");
		read_expect(fd, "hello");
		cr_assert_eq(write(fd, "x", 1), 1);
		until(rec.in_len == (size_t)i + 1);
		close(fd);
		until(rec.closed == i + 1);
		cr_assert_eq(strncmp(char_filename(c), "disconnected:unix:", 18), 0);
	}
}

Test(charsocket, test_char_socket_second_client_waits_its_turn)
{
	struct chardev *c = add_server();
	int first = dial(in_dir("s")), second;

	until(rec.opened == 1);
	second = dial(in_dir("s"));
	turns(3);
	cr_assert_eq(rec.opened, 1);
	write_all(c, "1");
	read_expect(first, "1");
	close(first);
	until(rec.opened == 2);
	write_all(c, "2");
	read_expect(second, "2");
	close(second);
}

Test(charsocket, test_char_socket_without_client_drops_output)
{
	struct chardev *c = add_server();
	int fd;

	write_all(c, "nobody hears");
	fd = dial(in_dir("s"));
	until(rec.opened == 1);
	write_all(c, "this");
	read_expect(fd, "this");
	close(fd);
}

Test(charsocket, test_char_socket_back_pressure_and_sudden_end)
{
	struct chardev *c = add_server();
	int fd = dial(in_dir("s"));

	until(rec.opened == 1);
	cr_assert_geq(fill(c), RING);
	close(fd);		/* with unread data: a reset */
	until(rec.closed == 1);
	until(rec.writable == 1);
	fd = dial(in_dir("s"));
	until(rec.opened == 2);
	write_all(c, "fresh");
	read_expect(fd, "fresh");
	close(fd);
}

Test(charsocket, test_char_socket_client_connects_and_reconnects)
{
	int s = serve(in_dir("s")), fd;
	struct chardev *c;

	cr_assert_eq(try_add(&c, "socket,id=a,path=%s,reconnect=1", in_dir("s")), 0);
	connected(c);
	until(rec.opened == 1);
	fd = accept(s, NULL, NULL);
	write_all(c, "one");
	read_expect(fd, "one");
	close(fd);
	until(rec.closed == 1);
	until(rec.opened == 2);
	fd = accept4(s, NULL, NULL, SOCK_NONBLOCK);
	write_all(c, "two");
	read_expect(fd, "two");
	close(fd);
	close(s);
}

Test(charsocket, test_char_socket_client_without_server_is_refused)
{
	cr_assert_eq(try_add(NULL, "socket,id=a,path=%s", in_dir("none")), -ENOENT);
	cr_assert_not_null(strstr(e.text, "cannot connect to"));
}

Test(charsocket, test_char_socket_stale_path_is_taken_over)
{
	close(serve(in_dir("s")));
	cr_assert_eq(access(in_dir("s"), F_OK), 0);
	add_server();
	close(dial(in_dir("s")));
	until(rec.opened == 1);
}

Test(charsocket, test_char_socket_live_path_is_refused)
{
	int s = serve(in_dir("s"));

	cr_assert_eq(try_add(NULL, "socket,id=a,path=%s,server=on,wait=off", in_dir("s")),
		     -EADDRINUSE);
	cr_assert_not_null(strstr(e.text, "another process listens"));
	cr_assert_eq(access(in_dir("s"), F_OK), 0);
	close(s);
}

Test(charsocket, test_char_socket_path_that_is_a_file_is_left_alone)
{
	close(open(in_dir("s"), O_CREAT | O_WRONLY, 0600));
	cr_assert_eq(try_add(NULL, "socket,id=a,path=%s,server=on", in_dir("s")), -EEXIST);
	cr_assert_eq(access(in_dir("s"), F_OK), 0);
}

Test(charsocket, test_char_socket_path_too_long_names_the_limit)
{
	char name[140];

	memset(name, 'n', sizeof(name));
	name[139] = '\0';
	cr_assert_eq(try_add(NULL, "socket,id=a,path=/%s,server=on", name), -ENAMETOOLONG);
	cr_assert_not_null(strstr(e.text, "at most 107"), "%s", e.text);
}

Test(charsocket, test_char_socket_path_is_removed_at_the_end)
{
	add_server();
	char_connect(char_find(set, "a"), NULL, NULL, NULL);
	cr_assert_eq(char_del(set, "a", &e), 0);
	cr_assert_lt(access(in_dir("s"), F_OK), 0);
}

Test(charsocket, test_char_socket_inherited_listener)
{
	int s = serve(in_dir("s")), fd;
	struct chardev *c;

	cr_assert_eq(try_add(&c, "socket,id=a,fd=%d,server=on,wait=off", s), 0, "%s", e.text);
	connected(c);
	fd = dial(in_dir("s"));
	until(rec.opened == 1);
	write_all(c, "hello");
	read_expect(fd, "hello");
	close(fd);
}

Test(charsocket, test_char_socket_inherited_connection)
{
	struct chardev *c;
	int fd[2];

	cr_assert_eq(socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK, 0, fd), 0);
	cr_assert_eq(try_add(&c, "socket,id=a,fd=%d", fd[0]), 0, "%s", e.text);
	connected(c);
	until(rec.opened == 1);		/* was open before the front end came */
	write_all(c, "hello");
	read_expect(fd[1], "hello");
}

Test(charsocket, test_char_socket_bad_descriptors_are_named)
{
	cr_assert_eq(try_add(NULL, "socket,id=a,fd=77,server=on"), -EINVAL);
	cr_assert_not_null(strstr(e.text, "descriptor 77 is not an open stream socket"));
	e = (struct err)ERR_INIT;
	cr_assert_eq(try_add(NULL, "socket,id=a,fd=x"), -EINVAL);
	e = (struct err)ERR_INIT;
	cr_assert_eq(try_add(NULL, "socket,id=a"), -EINVAL);
	cr_assert_not_null(strstr(e.text, "needs one of path=, fd="));
}

static void *dial_later(void *path)
{
	usleep(20000);
	dial(path);
	return NULL;
}

Test(charsocket, test_char_wait_returns_with_the_first_client)
{
	char path[128];
	pthread_t t;

	snprintf(path, sizeof(path), "%s", in_dir("s"));
	cr_assert_eq(try_add(NULL, "socket,id=a,path=%s,server=on", path), 0);
	pthread_create(&t, NULL, dial_later, path);
	cr_assert_eq(char_wait(set, &e), 0);
	cr_assert(char_is_open(char_find(set, "a")));
	pthread_join(t, NULL);
}

Test(charsocket, test_char_wait_ends_when_the_loop_is_told_to)
{
	cr_assert_eq(try_add(NULL, "socket,id=a,path=%s,server=on", in_dir("s")), 0);
	loop_quit(l);
	cr_assert_eq(char_wait(set, &e), -EINTR);
	cr_assert_not_null(strstr(e.text, "no client has connected"));
}

/* ---- writers on other threads ---- */

enum { WRITERS = 3, PER_WRITER = 20000 };

static void *writer(void *arg)
{
	struct chardev *c = arg;
	int i;

	for (i = 0; i < PER_WRITER;)
		if (char_write(c, "y", 1))
			i++;
		else
			usleep(100);
	return NULL;
}

Test(charsocket, test_char_writers_on_threads_lose_nothing)
{
	struct chardev *c = add_server();
	int fd = dial(in_dir("s")), i, got = 0;
	pthread_t t[WRITERS];
	char buf[4096];
	ssize_t r;

	until(rec.opened == 1);
	for (i = 0; i < WRITERS; i++)
		pthread_create(&t[i], NULL, writer, c);
	while (got < WRITERS * PER_WRITER) {
		loop_turn(l, NS_PER_MS);
		r = read(fd, buf, sizeof(buf));
		got += r > 0 ? (int)r : 0;
	}
	for (i = 0; i < WRITERS; i++)
		pthread_join(t[i], NULL);
	cr_assert_eq(got, WRITERS * PER_WRITER);
	close(fd);
}

/* ---- TCP, abstract names ---- */

/* A port of this machine that nobody listens on now. */
static int tcp_listener(uint16_t *port)
{
	struct sockaddr_in a = { .sin_family = AF_INET,
				 .sin_addr.s_addr = htonl(INADDR_LOOPBACK) };
	int fd = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK, 0);
	socklen_t len = sizeof(a);

	cr_assert_eq(bind(fd, (struct sockaddr *)&a, sizeof(a)), 0);
	cr_assert_eq(getsockname(fd, (struct sockaddr *)&a, &len), 0);
	*port = ntohs(a.sin_port);
	return fd;
}

Test(charsocket, test_char_socket_tcp_client_connects_and_reconnects)
{
	uint16_t port;
	int s = tcp_listener(&port), fd;
	struct chardev *c;
	char want[64];

	cr_assert_eq(try_add(&c, "socket,id=a,host=127.0.0.1,port=%u,reconnect=1,nodelay=on",
			     port), 0, "%s", e.text);
	connected(c);
	turns(3);
	cr_assert_eq(rec.opened, 0);	/* refused: nobody listens yet */
	cr_assert_eq(listen(s, 1), 0);
	until(rec.opened == 1);
	snprintf(want, sizeof(want), "tcp:127.0.0.1:%u", port);
	cr_assert_str_eq(char_filename(c), want);
	fd = accept(s, NULL, NULL);
	write_all(c, "one");
	read_expect(fd, "one");
	close(fd);
	until(rec.opened == 2);
	close(s);
}

Test(charsocket, test_char_socket_tcp_server_serves)
{
	struct sockaddr_in a = { .sin_family = AF_INET,
				 .sin_addr.s_addr = htonl(INADDR_LOOPBACK) };
	uint16_t port;
	int fd = tcp_listener(&port);
	struct chardev *c;

	close(fd);
	cr_assert_eq(try_add(&c, "socket,id=a,host=127.0.0.1,port=%u,server=on,wait=off,ipv4=on",
			     port), 0, "%s", e.text);
	connected(c);
	fd = socket(AF_INET, SOCK_STREAM, 0);
	a.sin_port = htons(port);
	cr_assert_eq(connect(fd, (struct sockaddr *)&a, sizeof(a)), 0);
	until(rec.opened == 1);
	cr_assert_eq(write(fd, "in", 2), 2);
	until(rec.in_len == 2);
	close(fd);
}

Test(charsocket, test_char_socket_tcp_mistakes_are_named)
{
	uint16_t port;
	int fd = tcp_listener(&port);
	char text[64];

	cr_assert_eq(try_add(NULL, "socket,id=a,host=127.0.0.1,port=%u", port), -ECONNREFUSED);
	snprintf(text, sizeof(text), "cannot connect to '127.0.0.1:%u'", port);
	cr_assert_not_null(strstr(e.text, text), "%s", e.text);
	e = (struct err)ERR_INIT;
	cr_assert_lt(try_add(NULL, "socket,id=a,host=127.0.0.1"), 0);
	cr_assert_not_null(strstr(e.text, "needs port="), "%s", e.text);
	e = (struct err)ERR_INIT;
	cr_assert_lt(try_add(NULL, "socket,id=a,host=127.0.0.1,port=none-such"), 0);
	cr_assert_not_null(strstr(e.text, "port 'none-such'"), "%s", e.text);
	e = (struct err)ERR_INIT;
	cr_assert_lt(try_add(NULL, "socket,id=a,host=h,port=1,path=/x"), 0);
	cr_assert_not_null(strstr(e.text, "needs one of"), "%s", e.text);
	close(fd);
}

Test(charsocket, test_char_socket_legacy_tcp_form)
{
	uint16_t port;
	int fd = tcp_listener(&port);
	struct chardev *c;
	char spec[64];

	close(fd);
	snprintf(spec, sizeof(spec), "tcp:[127.0.0.1]:%u,server=on,wait=off", port);
	cr_assert_eq(char_add_legacy(set, spec, "s0", &c, &e), 0, "%s", e.text);
	snprintf(spec, sizeof(spec), "disconnected:tcp:127.0.0.1:%u,server=on", port);
	cr_assert_str_eq(char_filename(c), spec);
	cr_assert_lt(char_add_legacy(set, "tcp:nowhere", "s1", &c, &e), 0);
	cr_assert_not_null(strstr(e.text, "needs a port"), "%s", e.text);
}

Test(charsocket, test_char_socket_abstract_name)
{
	struct sockaddr_un a = { .sun_family = AF_UNIX };
	int fd = socket(AF_UNIX, SOCK_STREAM, 0);
	char name[64];
	size_t len;

	len = (size_t)snprintf(name, sizeof(name), "roost-test-%d", getpid());
	cr_assert_eq(try_add(NULL, "socket,id=a,path=%s,abstract=on,server=on,wait=off", name),
		     0, "%s", e.text);
	memcpy(a.sun_path + 1, name, len);
	cr_assert_eq(connect(fd, (struct sockaddr *)&a,
			     (socklen_t)(offsetof(struct sockaddr_un, sun_path) + 1 + len)), 0);
	cr_assert_lt(access(name, F_OK), 0);
	close(fd);
}

static void remove_it(struct loop_work *w)
{
	cr_assert_eq(char_del(set, "a", &e), 0, "%s", e.text);
}

/* QMP is served while the guest waits for its clients. */
Test(charsocket, test_char_socket_removed_while_waited_for_ends_the_wait)
{
	struct loop_work w = { .cb = remove_it };
	struct chardev *c;

	cr_assert_eq(try_add(&c, "socket,id=a,path=%s,server=on", in_dir("s")), 0, "%s", e.text);
	cr_assert_eq(try_add(NULL, "null,id=b"), 0);
	loop_post(l, &w);
	cr_assert_eq(char_wait(set, &e), 0, "%s", e.text);
	cr_assert_null(char_find(set, "a"));
}

Test(charsocket, test_char_socket_replay_reaches_the_next_client)
{
	struct chardev *c;
	int fd;

	cr_assert_eq(try_add(&c, "socket,id=a,path=%s,server=on,wait=off,replay=4k",
			     in_dir("s")), 0, "%s", e.text);
	connected(c);
	write_all(c, "boot");
	fd = dial(in_dir("s"));
	until(rec.opened == 1);
	read_expect(fd, "boot");
	close(fd);
}
