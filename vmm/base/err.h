/*
 * vmm/base/err.h - one finished sentence about what went wrong.
 *
 * A struct err lives on the caller's stack and is filled by set-up code that
 * fails. The text names the object, the value and the remedy, and is printed
 * once, by whoever handles the failure. Functions that take one return 0 or a
 * negative errno; the text is empty as long as nothing failed.
 */
#ifndef VMM_BASE_ERR_H
#define VMM_BASE_ERR_H

#include <stdarg.h>
#include <stdbool.h>

/* QMP error classes; clients branch on these words (qapi error.json). */
enum err_class {
	ERR_GENERIC,		/* "GenericError" */
	ERR_COMMAND_NOT_FOUND,	/* "CommandNotFound" */
	ERR_DEVICE_NOT_FOUND,	/* "DeviceNotFound" */
	ERR_DEVICE_NOT_ACTIVE,	/* "DeviceNotActive" */
	ERR_KVM_MISSING_CAP,	/* "KVMMissingCap" */
	ERR_CLASS_MAX
};

struct err {
	char text[512];		/* always terminated; "" means no error */
	enum err_class class;
};

#define ERR_INIT { .text = "", .class = ERR_GENERIC }

/* Fill @e (may be NULL) with a sentence; returns @ret so that callers can
 * write `return err_set(e, -EINVAL, "...")`. The first error wins: a second
 * call on a filled @e keeps the text and still returns @ret. */
int err_set(struct err *e, int ret, const char *fmt, ...)
	__attribute__((format(printf, 3, 4)));

/* The same, with ": strerror(-ret)" appended. */
int err_sys(struct err *e, int ret, const char *fmt, ...)
	__attribute__((format(printf, 3, 4)));

/* The same with an error class other than ERR_GENERIC. */
int err_class(struct err *e, enum err_class class, int ret, const char *fmt, ...)
	__attribute__((format(printf, 4, 5)));

/* Put "prefix: " in front of an error that a callee set. */
void err_prefix(struct err *e, const char *fmt, ...)
	__attribute__((format(printf, 2, 3)));

/* The word QMP uses for @class. */
const char *err_class_name(enum err_class class);

static inline bool err_is_set(const struct err *e)
{
	return e && e->text[0] != '\0';
}

#endif
