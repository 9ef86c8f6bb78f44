/*
 * tests/fuzz/lib_fail.c - an assertion of the device tests' helpers fails in a
 * fuzzer, or in the replay of its corpus, which have a main of their own.
 *
 * In sanitizer builds the helpers call this one (tests/runner/forked), otherwise
 * Criterion's.
 */
#include <stdarg.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>

void forked_test_fail(bool fatal, const char *file, int line, const char *expr,
		      const char *fmt, ...);

void forked_test_fail(bool fatal, const char *file, int line, const char *expr,
		      const char *fmt, ...)
{
	va_list ap;

	fprintf(stderr, "%s:%d: %s ", file, line, expr);
	va_start(ap, fmt);
	vfprintf(stderr, fmt, ap);
	va_end(ap);
	fputc('\n', stderr);
	if (fatal)
		abort();
}
