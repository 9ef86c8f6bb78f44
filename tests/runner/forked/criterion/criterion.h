/*
 * tests/runner/forked/criterion/criterion.h - the Criterion macros that our tests
 * use, for the builds with a sanitizer.
 * Threads: none of its own.
 * Missing: theories, the criterion/new headers.
 *
 * Criterion forks while threads of its own run, into memory that it maps by hand:
 * ThreadSanitizer's mapping fails there, AddressSanitizer's allocator may stay
 * locked. Here each test is a plain fork of a process without threads. A test
 * that uses a macro which is missing fails to compile, never silently.
 */
#ifndef FORKED_CRITERION_H
#define FORKED_CRITERION_H

#include <signal.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <math.h>

struct criterion_test_params {
	size_t size, length;
	void *array;
};

struct forked_test {
	const char *suite, *name, *description;
	void (*fn)(void);
	void (*each)(void *param);	/* instead of @fn: for each of @params() */
	struct criterion_test_params (*params)(void);
	void (*init)(void);
	void (*fini)(void);
	int signal, exit_code;
	double timeout;			/* seconds; 0: the default */
	bool disabled;
	bool is_suite;			/* only carries defaults */
	struct forked_test *next;
};

void forked_test_add(struct forked_test *t);
void forked_test_fail(bool fatal, const char *file, int line, const char *expr,
		    const char *fmt, ...) __attribute__((format(printf, 5, 6)));
void forked_test_skip(const char *fmt, ...)
	__attribute__((format(printf, 1, 2), noreturn));

#define Test(suite_, name_, ...)						\
	static void suite_##_##name_##_impl(void);			\
	static struct forked_test suite_##_##name_##_test = {		\
		.suite = #suite_, .name = #name_,				\
		.fn = suite_##_##name_##_impl, __VA_ARGS__ };		\
	__attribute__((constructor))					\
	static void suite_##_##name_##_add(void)			\
	{								\
		forked_test_add(&suite_##_##name_##_test);		\
	}								\
	static void suite_##_##name_##_impl(void)

#define ParameterizedTestParameters(suite_, name_)			\
	static struct criterion_test_params suite_##_##name_##_params(void)
#define cr_make_param_array(type, array_, n)				\
	((struct criterion_test_params){ sizeof(type), n, array_ })
#define ParameterizedTest(param, suite_, name_, ...)			\
	static void suite_##_##name_##_impl(param);			\
	static void suite_##_##name_##_each(void *p)			\
	{								\
		suite_##_##name_##_impl(p);				\
	}								\
	static struct forked_test suite_##_##name_##_test = {		\
		.suite = #suite_, .name = #name_,			\
		.each = suite_##_##name_##_each,			\
		.params = suite_##_##name_##_params, __VA_ARGS__ };	\
	__attribute__((constructor))					\
	static void suite_##_##name_##_add(void)			\
	{								\
		forked_test_add(&suite_##_##name_##_test);		\
	}								\
	static void suite_##_##name_##_impl(param)

#define TestSuite(suite_, ...)						\
	static struct forked_test suite_##_suite = {			\
		.suite = #suite_, .is_suite = true, __VA_ARGS__ };	\
	__attribute__((constructor)) static void suite_##_suite_add(void)	\
	{								\
		forked_test_add(&suite_##_suite);				\
	}								\
	struct forked_test

#define FORKED_CHECK(fatal, cond, ...) do {				\
	if (!(cond))							\
		forked_test_fail(fatal, __FILE__, __LINE__, #cond, " " __VA_ARGS__); \
} while (0)
#define FORKED_STR(fatal, a, op, b, ...)					\
	FORKED_CHECK(fatal, strcmp(a, b) op 0, __VA_ARGS__)
#define FORKED_MEM(fatal, a, op, b, n, ...)				\
	FORKED_CHECK(fatal, memcmp(a, b, n) op 0, __VA_ARGS__)

#define cr_assert(c, ...)		FORKED_CHECK(true, c, __VA_ARGS__)
#define cr_assert_not(c, ...)		FORKED_CHECK(true, !(c), __VA_ARGS__)
#define cr_assert_eq(a, b, ...)		FORKED_CHECK(true, (a) == (b), __VA_ARGS__)
#define cr_assert_neq(a, b, ...)	FORKED_CHECK(true, (a) != (b), __VA_ARGS__)
#define cr_assert_lt(a, b, ...)		FORKED_CHECK(true, (a) < (b), __VA_ARGS__)
#define cr_assert_leq(a, b, ...)	FORKED_CHECK(true, (a) <= (b), __VA_ARGS__)
#define cr_assert_gt(a, b, ...)		FORKED_CHECK(true, (a) > (b), __VA_ARGS__)
#define cr_assert_geq(a, b, ...)	FORKED_CHECK(true, (a) >= (b), __VA_ARGS__)
#define cr_assert_null(a, ...)		FORKED_CHECK(true, (a) == NULL, __VA_ARGS__)
#define cr_assert_not_null(a, ...)	FORKED_CHECK(true, (a) != NULL, __VA_ARGS__)
#define cr_assert_str_eq(a, b, ...)	FORKED_STR(true, a, ==, b, __VA_ARGS__)
#define cr_assert_str_neq(a, b, ...)	FORKED_STR(true, a, !=, b, __VA_ARGS__)
#define cr_assert_str_empty(a, ...)	FORKED_CHECK(true, !*(a), __VA_ARGS__)
#define cr_assert_str_not_empty(a, ...)	FORKED_CHECK(true, *(a), __VA_ARGS__)
#define cr_assert_arr_eq(a, b, n, ...)	FORKED_MEM(true, a, ==, b, n, __VA_ARGS__)
#define cr_assert_arr_neq(a, b, n, ...)	FORKED_MEM(true, a, !=, b, n, __VA_ARGS__)
#define cr_assert_float_eq(a, b, eps, ...)				\
	FORKED_CHECK(true, fabs((a) - (b)) <= (eps), __VA_ARGS__)
#define cr_assert_fail(...)		FORKED_CHECK(true, false, __VA_ARGS__)
#define cr_fatal(...)			FORKED_CHECK(true, false, __VA_ARGS__)

#define cr_expect(c, ...)		FORKED_CHECK(false, c, __VA_ARGS__)
#define cr_expect_not(c, ...)		FORKED_CHECK(false, !(c), __VA_ARGS__)
#define cr_expect_eq(a, b, ...)		FORKED_CHECK(false, (a) == (b), __VA_ARGS__)
#define cr_expect_neq(a, b, ...)	FORKED_CHECK(false, (a) != (b), __VA_ARGS__)
#define cr_expect_lt(a, b, ...)		FORKED_CHECK(false, (a) < (b), __VA_ARGS__)
#define cr_expect_leq(a, b, ...)	FORKED_CHECK(false, (a) <= (b), __VA_ARGS__)
#define cr_expect_gt(a, b, ...)		FORKED_CHECK(false, (a) > (b), __VA_ARGS__)
#define cr_expect_geq(a, b, ...)	FORKED_CHECK(false, (a) >= (b), __VA_ARGS__)
#define cr_expect_null(a, ...)		FORKED_CHECK(false, (a) == NULL, __VA_ARGS__)
#define cr_expect_not_null(a, ...)	FORKED_CHECK(false, (a) != NULL, __VA_ARGS__)
#define cr_expect_str_eq(a, b, ...)	FORKED_STR(false, a, ==, b, __VA_ARGS__)
#define cr_expect_str_neq(a, b, ...)	FORKED_STR(false, a, !=, b, __VA_ARGS__)
#define cr_expect_arr_eq(a, b, n, ...)	FORKED_MEM(false, a, ==, b, n, __VA_ARGS__)
#define cr_expect_arr_neq(a, b, n, ...)	FORKED_MEM(false, a, !=, b, n, __VA_ARGS__)
#define cr_expect_fail(...)		FORKED_CHECK(false, false, __VA_ARGS__)
#define cr_fail(...)			FORKED_CHECK(false, false, __VA_ARGS__)

#define cr_skip_test(...)		forked_test_skip("" __VA_ARGS__)
#define cr_skip(...)			forked_test_skip("" __VA_ARGS__)
#define cr_log_info(...)		(fprintf(stderr, __VA_ARGS__), fputc('\n', stderr))
#define cr_log_warn(...)		cr_log_info(__VA_ARGS__)
#define cr_log_error(...)		cr_log_info(__VA_ARGS__)

#endif
