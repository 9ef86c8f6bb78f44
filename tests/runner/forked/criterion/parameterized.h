/*
 * tests/runner/forked/criterion/parameterized.h - see criterion.h.
 */
#include <criterion/criterion.h>
