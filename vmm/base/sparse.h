/*
 * vmm/base/sparse.h - memory of which most is never touched.
 *
 * Where the host makes transparent huge pages of all memory (Debian does), the first
 * byte touched in such a range costs 2 MiB. These ranges take a page at a time.
 */
#ifndef VMM_BASE_SPARSE_H
#define VMM_BASE_SPARSE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* @bytes of zeroes that are memory once they are touched; NULL: no address space left.
 * sparse_unmap() with the same @bytes; it takes NULL. Any thread. */
void *sparse_map(uint64_t bytes);
void sparse_unmap(void *p, uint64_t bytes);
/* @old bytes at *@p become @new ones, at another place perhaps; what is in them stays.
 * True where *@p is NULL; false, and nothing has changed, without address space. */
bool sparse_resize(void **p, uint64_t old, uint64_t new);

/* The same for whole pages of what malloc(3) has given. No error: it is advice. */
void sparse_keep(void *p, size_t bytes);

#endif
