/*
 * vmm/char/char_legacy.c - the short form of -serial and its like.
 * Threads: main loop.
 * Missing: QEMU's vc, telnet:, udp:, pipe:.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "vmm/base/json.h"
#include "vmm/char/char_priv.h"

/* "stdio" when @spec is "stdio" or starts with "stdio:"; *rest what follows. */
static bool starts(const char *spec, const char *word, const char **rest)
{
	size_t n = strlen(word);

	if (strncmp(spec, word, n) || (spec[n] && spec[n] != ':'))
		return false;
	*rest = spec[n] ? spec + n + 1 : NULL;
	return true;
}

/* "[HOST]:PORT[,k=v...]"; an IPv6 address stands in brackets. */
static json_t *tcp_args(const char *text, const char *spec, struct err *e)
{
	json_t *o = json_from_keyval(text, "host", 0, spec, e);
	const char *host = json_str(o, "host", ""), *colon = strrchr(host, ':');
	bool brackets = *host == '[' && colon > host && colon[-1] == ']';
	char *name;

	if (!o)
		return NULL;
	if (!colon) {
		json_decref(o);
		err_set(e, -EINVAL, "'%s' needs a port: tcp:HOST:PORT", spec);
		return NULL;
	}
	name = brackets ? strndup(host + 1, (size_t)(colon - host) - 2) :
		strndup(host, (size_t)(colon - host));
	json_put_str(o, "backend", "socket");
	json_put_str(o, "port", colon + 1);
	json_put_str(o, "host", name ? name : "");
	free(name);
	return o;
}

/* What -chardev would have been given. NULL with @e set. */
static json_t *legacy_args(const char *spec, struct err *e)
{
	const char *rest;
	json_t *o = NULL;

	if (starts(spec, "unix", &rest) && rest) {
		o = json_from_keyval(rest, "path", 0, spec, e);
		if (o)
			json_put_str(o, "backend", "socket");
		return o;
	}
	if (starts(spec, "tcp", &rest) && rest)
		return tcp_args(rest, spec, e);
	if (starts(spec, "file", &rest) && rest && *rest)	/* commas and all */
		return json_pack("{s:s, s:s}", "backend", "file", "path", rest);
	if ((!strcmp(spec, "stdio") || !strcmp(spec, "null") || !strcmp(spec, "pty")))
		return json_pack("{s:s}", "backend", spec);
	if (starts(spec, "pty", &rest) && rest && *rest) {
		o = json_from_keyval(rest, "path", 0, spec, e);
		if (o)
			json_put_str(o, "backend", "pty");
		return o;
	}
	if (*spec == '/')
		return json_pack("{s:s, s:s}", "backend", "serial", "path", spec);
	err_set(e, -EINVAL, "'%s' is no place for a serial port or monitor; use stdio, "
		"mon:stdio, pty, null, none, file:PATH, unix:PATH,server=on,wait=off, "
		"tcp:HOST:PORT, /dev/TTY or chardev:ID", spec);
	return NULL;
}

static int find(struct char_set *s, const char *id, struct chardev **out, struct err *e)
{
	*out = char_find(s, id);
	return *out ? 0 : err_set(e, -ENOENT, "there is no chardev '%s'", id);
}

int char_add_legacy(struct char_set *s, const char *spec, const char *id,
		    struct chardev **out, struct err *e)
{
	const char *rest;
	bool mon = false;
	json_t *args;
	int r;

	*out = NULL;
	if (!strcmp(spec, "none"))
		return 0;
	if (starts(spec, "chardev", &rest) && rest)
		return find(s, rest, out, e);
	if (starts(spec, "mon", &rest) && rest) {
		mon = true;
		spec = rest;
	}
	args = legacy_args(spec, e);
	if (!args)
		return -EINVAL;
	json_put_str(args, "id", id);
	if (mon)
		json_put_str(args, "mux", "on");
	r = char_add(s, args, out, e);
	json_decref(args);
	return r;
}
