/*
 * vmm/base/err.c - one finished sentence about what went wrong.
 * Threads: any; a struct err belongs to its caller.
 */
#include "vmm/base/err.h"

#include <assert.h>
#include <stdio.h>
#include <string.h>

#include "vmm/base/util.h"

static const char *const class_names[] = {
	[ERR_GENERIC] = "GenericError",
	[ERR_COMMAND_NOT_FOUND] = "CommandNotFound",
	[ERR_DEVICE_NOT_FOUND] = "DeviceNotFound",
	[ERR_DEVICE_NOT_ACTIVE] = "DeviceNotActive",
	[ERR_KVM_MISSING_CAP] = "KVMMissingCap",
};
static_assert(sizeof(class_names) / sizeof(class_names[0]) == ERR_CLASS_MAX,
	      "one word per error class");

static void err_fill(struct err *e, enum err_class class, const char *fmt,
		     va_list ap)
{
	if (!e || err_is_set(e))
		return;
	vsnprintf(e->text, sizeof(e->text), fmt, ap);
	e->class = class;
}

int err_set(struct err *e, int ret, const char *fmt, ...)
{
	va_list ap;

	va_start(ap, fmt);
	err_fill(e, ERR_GENERIC, fmt, ap);
	va_end(ap);
	return ret;
}

int err_class(struct err *e, enum err_class class, int ret, const char *fmt, ...)
{
	va_list ap;

	va_start(ap, fmt);
	err_fill(e, class, fmt, ap);
	va_end(ap);
	return ret;
}

int err_sys(struct err *e, int ret, const char *fmt, ...)
{
	bool first = e && !err_is_set(e);
	va_list ap;
	size_t len;

	va_start(ap, fmt);
	err_fill(e, ERR_GENERIC, fmt, ap);
	va_end(ap);
	if (first) {
		len = strlen(e->text);
		snprintf(e->text + len, sizeof(e->text) - len, ": %s",
			 strerror(ret < 0 ? -ret : ret));
	}
	return ret;
}

/* Put as much of @s at @at as fits; where it ends. */
static size_t append(struct err *e, size_t at, const char *s)
{
	while (*s && at < sizeof(e->text) - 1)
		e->text[at++] = *s++;
	e->text[at] = '\0';
	return at;
}

void err_prefix(struct err *e, const char *fmt, ...)
{
	char old[sizeof(e->text)];
	va_list ap;
	size_t at;
	int len;

	if (!err_is_set(e))
		return;
	memcpy(old, e->text, sizeof(old));
	va_start(ap, fmt);
	len = vsnprintf(e->text, sizeof(e->text), fmt, ap);
	va_end(ap);
	at = MIN((size_t)MAX(len, 0), sizeof(e->text) - 1);
	append(e, append(e, at, ": "), old);
}

const char *err_class_name(enum err_class class)
{
	assert(class < ERR_CLASS_MAX);
	return class_names[class];
}
