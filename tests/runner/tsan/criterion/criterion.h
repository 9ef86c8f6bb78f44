/*
 * tests/runner/tsan/criterion/criterion.h - the Criterion macros that our tests
 * use, for the ThreadSanitizer build.
 * Threads: none of its own.
 * Missing: parameterised tests, theories, the criterion/new headers.
 *
 * Criterion starts each test in a process whose memory it maps by hand; under
 * ThreadSanitizer that mapping fails. Here each test is a plain fork. A test
 * that uses a macro which is missing fails to compile, never silently.
 */
#ifndef TSAN_CRITERION_H
#define TSAN_CRITERION_H

#include <signal.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <math.h>

struct tsan_test {
	const char *suite, *name, *description;
	void (*fn)(void);
	void (*init)(void);
	void (*fini)(void);
	int signal, exit_code;
	double timeout;			/* seconds; 0: the default */
	bool disabled;
	bool is_suite;			/* only carries defaults */
	struct tsan_test *next;
};

void tsan_test_add(struct tsan_test *t);
void tsan_test_fail(bool fatal, const char *file, int line, const char *expr,
		    const char *fmt, ...) __attribute__((format(printf, 5, 6)));
void tsan_test_skip(const char *fmt, ...)
	__attribute__((format(printf, 1, 2), noreturn));

#define Test(suite_, name_, ...)						\
	static void suite_##_##name_##_impl(void);			\
	static struct tsan_test suite_##_##name_##_test = {		\
		.suite = #suite_, .name = #name_,				\
		.fn = suite_##_##name_##_impl, __VA_ARGS__ };		\
	__attribute__((constructor))					\
	static void suite_##_##name_##_add(void)			\
	{								\
		tsan_test_add(&suite_##_##name_##_test);		\
	}								\
	static void suite_##_##name_##_impl(void)

#define TestSuite(suite_, ...)						\
	static struct tsan_test suite_##_suite = {			\
		.suite = #suite_, .is_suite = true, __VA_ARGS__ };	\
	__attribute__((constructor)) static void suite_##_add(void)	\
	{								\
		tsan_test_add(&suite_##_suite);				\
	}								\
	struct tsan_test

#define TSAN_CHECK(fatal, cond, ...) do {				\
	if (!(cond))							\
		tsan_test_fail(fatal, __FILE__, __LINE__, #cond, " " __VA_ARGS__); \
} while (0)
#define TSAN_STR(fatal, a, op, b, ...)					\
	TSAN_CHECK(fatal, strcmp(a, b) op 0, __VA_ARGS__)
#define TSAN_MEM(fatal, a, op, b, n, ...)				\
	TSAN_CHECK(fatal, memcmp(a, b, n) op 0, __VA_ARGS__)

#define cr_assert(c, ...)		TSAN_CHECK(true, c, __VA_ARGS__)
#define cr_assert_not(c, ...)		TSAN_CHECK(true, !(c), __VA_ARGS__)
#define cr_assert_eq(a, b, ...)		TSAN_CHECK(true, (a) == (b), __VA_ARGS__)
#define cr_assert_neq(a, b, ...)	TSAN_CHECK(true, (a) != (b), __VA_ARGS__)
#define cr_assert_lt(a, b, ...)		TSAN_CHECK(true, (a) < (b), __VA_ARGS__)
#define cr_assert_leq(a, b, ...)	TSAN_CHECK(true, (a) <= (b), __VA_ARGS__)
#define cr_assert_gt(a, b, ...)		TSAN_CHECK(true, (a) > (b), __VA_ARGS__)
#define cr_assert_geq(a, b, ...)	TSAN_CHECK(true, (a) >= (b), __VA_ARGS__)
#define cr_assert_null(a, ...)		TSAN_CHECK(true, (a) == NULL, __VA_ARGS__)
#define cr_assert_not_null(a, ...)	TSAN_CHECK(true, (a) != NULL, __VA_ARGS__)
#define cr_assert_str_eq(a, b, ...)	TSAN_STR(true, a, ==, b, __VA_ARGS__)
#define cr_assert_str_neq(a, b, ...)	TSAN_STR(true, a, !=, b, __VA_ARGS__)
#define cr_assert_str_empty(a, ...)	TSAN_CHECK(true, !*(a), __VA_ARGS__)
#define cr_assert_str_not_empty(a, ...)	TSAN_CHECK(true, *(a), __VA_ARGS__)
#define cr_assert_arr_eq(a, b, n, ...)	TSAN_MEM(true, a, ==, b, n, __VA_ARGS__)
#define cr_assert_arr_neq(a, b, n, ...)	TSAN_MEM(true, a, !=, b, n, __VA_ARGS__)
#define cr_assert_float_eq(a, b, eps, ...)				\
	TSAN_CHECK(true, fabs((a) - (b)) <= (eps), __VA_ARGS__)
#define cr_assert_fail(...)		TSAN_CHECK(true, false, __VA_ARGS__)
#define cr_fatal(...)			TSAN_CHECK(true, false, __VA_ARGS__)

#define cr_expect(c, ...)		TSAN_CHECK(false, c, __VA_ARGS__)
#define cr_expect_not(c, ...)		TSAN_CHECK(false, !(c), __VA_ARGS__)
#define cr_expect_eq(a, b, ...)		TSAN_CHECK(false, (a) == (b), __VA_ARGS__)
#define cr_expect_neq(a, b, ...)	TSAN_CHECK(false, (a) != (b), __VA_ARGS__)
#define cr_expect_lt(a, b, ...)		TSAN_CHECK(false, (a) < (b), __VA_ARGS__)
#define cr_expect_leq(a, b, ...)	TSAN_CHECK(false, (a) <= (b), __VA_ARGS__)
#define cr_expect_gt(a, b, ...)		TSAN_CHECK(false, (a) > (b), __VA_ARGS__)
#define cr_expect_geq(a, b, ...)	TSAN_CHECK(false, (a) >= (b), __VA_ARGS__)
#define cr_expect_null(a, ...)		TSAN_CHECK(false, (a) == NULL, __VA_ARGS__)
#define cr_expect_not_null(a, ...)	TSAN_CHECK(false, (a) != NULL, __VA_ARGS__)
#define cr_expect_str_eq(a, b, ...)	TSAN_STR(false, a, ==, b, __VA_ARGS__)
#define cr_expect_str_neq(a, b, ...)	TSAN_STR(false, a, !=, b, __VA_ARGS__)
#define cr_expect_arr_eq(a, b, n, ...)	TSAN_MEM(false, a, ==, b, n, __VA_ARGS__)
#define cr_expect_fail(...)		TSAN_CHECK(false, false, __VA_ARGS__)
#define cr_fail(...)			TSAN_CHECK(false, false, __VA_ARGS__)

#define cr_skip_test(...)		tsan_test_skip("" __VA_ARGS__)
#define cr_skip(...)			tsan_test_skip("" __VA_ARGS__)
#define cr_log_info(...)		(fprintf(stderr, __VA_ARGS__), fputc('\n', stderr))
#define cr_log_warn(...)		cr_log_info(__VA_ARGS__)
#define cr_log_error(...)		cr_log_info(__VA_ARGS__)

#endif
