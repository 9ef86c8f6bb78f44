/*
 * vmm/control/commands_ringbuf.c - QMP's view of serial ports from the inside:
 * ringbuf-read and ringbuf-write, and the event of a virtio port.
 * Threads: main loop.
 * Missing: nothing known.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "vmm/base/util.h"
#include "vmm/char/char.h"
#include "vmm/control/qmp.h"
#include "vmm/core/vm.h"

/* One reply: base64 makes a third more of it. */
#define READ_MAX	(1 * MIB)

enum format { UTF8, BASE64 };

static const char *const formats[] = { "utf8", "base64", NULL };

struct ringbuf_args {
	char *device;
	uint64_t size;
	char *data;
	int format;
};

static const struct prop read_args[] = {
	PROP_STR(struct ringbuf_args, device, "device", NULL, "id of the ringbuf chardev",
		 .flags = PROP_REQUIRED),
	PROP_U64(struct ringbuf_args, size, "size", 1, READ_MAX, 0, "bytes to read at most",
		 .flags = PROP_REQUIRED),
	PROP_ENUM(struct ringbuf_args, format, "format", formats, UTF8, "of the reply",
		  .kind = "DataFormat"),
	PROP_END
};

static const struct prop write_args[] = {
	PROP_STR(struct ringbuf_args, device, "device", NULL, "id of the ringbuf chardev",
		 .flags = PROP_REQUIRED),
	PROP_STR(struct ringbuf_args, data, "data", NULL, "what the guest is to receive",
		 .flags = PROP_REQUIRED),
	PROP_ENUM(struct ringbuf_args, format, "format", formats, UTF8, "of data",
		  .kind = "DataFormat"),
	PROP_END
};

static const char digits[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";

/* RFC 4648 s4. @out has room for 4 characters per 3 bytes and the end. */
static void base64(const uint8_t *p, size_t len, char *out)
{
	for (; len; p += MIN(len, (size_t)3), len -= MIN(len, (size_t)3)) {
		uint32_t v = (uint32_t)p[0] << 16 | (len > 1 ? p[1] << 8 : 0) |
			(len > 2 ? p[2] : 0);

		*out++ = digits[v >> 18];
		*out++ = digits[v >> 12 & 63];
		*out++ = len > 1 ? digits[v >> 6 & 63] : '=';
		*out++ = len > 2 ? digits[v & 63] : '=';
	}
	*out = '\0';
}

/* In place; the length, or -EINVAL. */
static ssize_t unbase64(char *s)
{
	size_t len = strlen(s), i, n = 0;
	uint32_t v = 0;
	const char *d;

	if (len % 4)
		return -EINVAL;
	while (len && s[len - 1] == '=' && len % 4 != 2)
		len--;
	for (i = 0; i < len; i++) {
		d = strchr(digits, s[i]);
		if (!d)
			return -EINVAL;
		v = v << 6 | (uint32_t)(d - digits);
		if (i % 4)
			s[n++] = (char)(v >> (6 - 2 * (i % 4)));
	}
	return (ssize_t)n;
}

/* JSON texts are UTF-8: what is not goes as "?", one for each byte. */
static json_t *as_text(char *buf, size_t len)
{
	json_t *s = json_stringn(buf, len);

	if (s)
		return s;
	for (size_t i = 0; i < len; i++)
		if (buf[i] & 0x80)
			buf[i] = '?';
	return json_stringn(buf, len);
}

static struct chardev *device(struct qmp *q, const char *id, struct err *e)
{
	struct chardev *c = char_find(qmp_vm(q)->chars, id);

	if (!c)
		err_set(e, -ENOENT, "Device '%s' not found", id);
	return c;
}

static int cmd_read(struct qmp *q, void *args, json_t **ret, struct err *e)
{
	struct ringbuf_args *a = args;
	struct chardev *c = device(q, a->device, e);
	char *buf, *text;
	ssize_t n;

	if (!c)
		return -ENOENT;
	buf = xcalloc(1, a->size + 1);
	n = char_ringbuf_read(c, buf, a->size, e);
	if (n >= 0 && a->format == BASE64) {
		text = xcalloc(1, (size_t)n / 3 * 4 + 5);
		base64((uint8_t *)buf, (size_t)n, text);
		*ret = json_string(text);
		free(text);
	} else if (n >= 0) {
		*ret = as_text(buf, (size_t)n);
	}
	free(buf);
	return n < 0 ? (int)n : 0;
}

static int cmd_write(struct qmp *q, void *args, json_t **ret, struct err *e)
{
	struct ringbuf_args *a = args;
	struct chardev *c = device(q, a->device, e);
	ssize_t len = (ssize_t)strlen(a->data), n;

	if (!c)
		return -ENOENT;
	if (a->format == BASE64)
		len = unbase64(a->data);
	if (len < 0)
		return err_set(e, -EINVAL, "data is not base64");
	n = char_ringbuf_write(c, a->data, (size_t)len, e);
	if (n >= 0 && n < len)
		return err_set(e, -ENOSPC, "Failed to write to chardev %s: the guest took "
			       "%zd bytes of %zd", a->device, n, len);
	return n < 0 ? (int)n : 0;
}

static const struct qmp_cmd cmds[] = {
	{ .name = "ringbuf-read", .help = "output that a ringbuf chardev has kept",
	  .args = read_args, .args_size = sizeof(struct ringbuf_args), .run = cmd_read,
	  .ret = "str" },
	{ .name = "ringbuf-write", .help = "input for what is on a ringbuf chardev",
	  .args = write_args, .args_size = sizeof(struct ringbuf_args), .run = cmd_write },
	{ 0 }
};

static const struct qmp_event events[] = {
	{ "VSERPORT_CHANGE", "q_obj_VSERPORT_CHANGE-arg",
	  "the guest opened or closed a virtio port" },
	{ 0 }
};

static const struct qmp_member vserport_data[] = {
	{ "id", "str" }, { "open", "bool" }, { 0 }
};

static const struct qmp_type types[] = {
	{ .name = "q_obj_VSERPORT_CHANGE-arg", .members = vserport_data },
	{ .name = "DataFormat", .meta = QMP_ENUM, .words = formats },
	{ 0 }
};

const struct qmp_table qmp_table_ringbuf = { .cmds = cmds, .events = events, .types = types };
