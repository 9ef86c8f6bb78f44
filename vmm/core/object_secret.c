/*
 * vmm/core/object_secret.c - -object secret: a password or key by name.
 *
 * Spec:    QEMU's qapi/crypto.json, SecretProperties.
 * Threads: main loop.
 * Missing: keyid= and iv= (secrets wrapped by another one). Nothing in roost
 *          asks for a secret yet; libvirt makes one for every domain.
 */
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "vmm/base/util.h"
#include "vmm/core/object_types.h"

#define SECRET_MAX	4096	/* bytes; keys and pass phrases are shorter */

enum secret_format { SECRET_RAW, SECRET_BASE64 };
static const char *const format_words[] = { "raw", "base64", NULL };

struct secret {
	char *data, *file;
	int format;
	size_t len;
	uint8_t bytes[SECRET_MAX];
};

static const struct prop props[] = {
	PROP_STR(struct secret, data, "data", NULL, "the secret itself"),
	PROP_STR(struct secret, file, "file", NULL, "file that holds it"),
	PROP_ENUM(struct secret, format, "format", format_words, SECRET_RAW,
		  "how data or file spells it", .kind = "QCryptoSecretFormat"),
	PROP_END
};
static const struct prop *const tables[] = { props, NULL };

/* A file of @id with at most SECRET_MAX bytes; never waits for a FIFO. */
static int load(struct secret *s, const char *id, struct err *e)
{
	int fd = open(s->file, O_RDONLY | O_CLOEXEC | O_NONBLOCK | O_NOCTTY);
	struct stat st;
	ssize_t n;

	if (fd < 0)
		return err_sys(e, -errno, "-object secret '%s': cannot open '%s'", id, s->file);
	if (fstat(fd, &st) < 0 || !S_ISREG(st.st_mode) || st.st_size > SECRET_MAX) {
		close(fd);
		return err_set(e, -EINVAL, "-object secret '%s': '%s' is no file of at most %d "
			       "bytes", id, s->file, SECRET_MAX);
	}
	n = read(fd, s->bytes, sizeof(s->bytes));
	close(fd);
	if (n < 0)
		return err_sys(e, -errno, "-object secret '%s': cannot read '%s'", id, s->file);
	s->len = (size_t)n;
	return 0;
}

static int base64_digit(uint8_t c)
{
	static const char set[] =
		"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
	const char *hit = c ? strchr(set, c) : NULL;

	return hit ? (int)(hit - set) : -1;
}

/* In place; white space is skipped, '=' ends it. */
static int decode(struct secret *s)
{
	size_t in, out = 0;
	uint32_t acc = 0;
	int bits = 0, v;

	for (in = 0; in < s->len && s->bytes[in] != '='; in++) {
		if (s->bytes[in] && strchr(" \t\r\n", s->bytes[in]))
			continue;
		v = base64_digit(s->bytes[in]);
		if (v < 0)
			return -EINVAL;
		acc = acc << 6 | (uint32_t)v;
		bits += 6;
		if (bits < 8)
			continue;
		bits -= 8;
		s->bytes[out++] = (uint8_t)(acc >> bits);
	}
	s->len = out;
	return 0;
}

static int fill(struct secret *s, const char *id, struct err *e)
{
	if (!s->data == !s->file)
		return err_set(e, -EINVAL, "-object secret '%s' needs one of data= and file=", id);
	if (s->file)
		return load(s, id, e);
	s->len = strlen(s->data);
	if (s->len > SECRET_MAX)
		return err_set(e, -EINVAL, "-object secret '%s': data= has %zu bytes; at most %d "
			       "are possible", id, s->len, SECRET_MAX);
	memcpy(s->bytes, s->data, s->len);
	return 0;
}

static void destroy(struct vm_object *o)
{
	struct secret *s = o->obj;

	if (s->data)
		explicit_bzero(s->data, strlen(s->data));
	prop_free(tables, s);
	explicit_bzero(s, sizeof(*s));
	free(s);
}

static int create(struct vm_object *o, const json_t *args, struct err *e)
{
	static const char *const skip[] = { "qom-type", "id", NULL };
	struct secret *s = xcalloc(1, sizeof(*s));
	int r;

	o->obj = s;
	prop_defaults(tables, s);
	r = prop_apply(tables, s, args, skip, "-object secret", e);
	if (r == 0)
		r = fill(s, o->id, e);
	if (r == 0 && s->format == SECRET_BASE64 && decode(s))
		r = err_set(e, -EINVAL, "-object secret '%s': not valid base64", o->id);
	if (r)
		destroy(o);
	return r;
}

const struct vm_object_type secret_object_type = {
	.name = "secret", .help = "a password or key, by name",
	.props = props, .create = create, .destroy = destroy,
};
