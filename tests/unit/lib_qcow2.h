/*
 * tests/unit/lib_qcow2.h - images for the tests of the qcow2 driver, with
 * qemu-img and qemu-io as makers and judges.
 */
#ifndef TESTS_UNIT_LIB_QCOW2_H
#define TESTS_UNIT_LIB_QCOW2_H

#include "lib_block.h"

/* Run a shell command in t->dir; the test fails when it fails. */
void qt_sh(struct bt *t, const char *fmt, ...) __attribute__((format(printf, 2, 3)));
/* The same, returning its exit status. */
int qt_status(struct bt *t, const char *fmt, ...) __attribute__((format(printf, 2, 3)));
/* Open <dir>/@name as drive d0, writing when @more does not say readonly. */
void qt_open(struct bt *t, const char *name, const char *more);
/* Close drive, nodes and all, so that programs see a finished image. */
void qt_close(struct bt *t);
/* The whole disk, read in pieces of random length with several in flight,
 * equals the bytes of raw file <dir>/@raw, behind whose end are zeroes. */
void qt_equals(struct bt *t, const char *raw);
/* qemu-img check finds nothing: no corruption, no leak. */
void qt_check(struct bt *t, const char *name);
/* A number below @n from a generator with a fixed seed. */
uint32_t qt_rnd(uint32_t n);
void qt_seed(uint32_t seed);

#endif
