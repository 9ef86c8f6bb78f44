/*
 * vmm/base/util.h - small things that every file needs.
 */
#ifndef VMM_BASE_UTIL_H
#define VMM_BASE_UTIL_H

#include <endian.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>
#include <sys/types.h>
#include <sys/uio.h>

#define ARRAY_LEN(a)	(sizeof(a) / sizeof((a)[0]))
#define BIT(n)		(1u << (n))
#define BIT64(n)	(1ull << (n))
#define KIB		1024ull
#define MIB		(1024ull * KIB)
#define GIB		(1024ull * MIB)
#define NS_PER_MS	1000000ull
#define NS_PER_SEC	1000000000ull

#define container_of(ptr, type, member) \
	((type *)((char *)(ptr) - offsetof(type, member)))

#define MIN(a, b) ({ __typeof__(a) min_a_ = (a); __typeof__(b) min_b_ = (b); \
	min_a_ < min_b_ ? min_a_ : min_b_; })
#define MAX(a, b) ({ __typeof__(a) max_a_ = (a); __typeof__(b) max_b_ = (b); \
	max_a_ > max_b_ ? max_a_ : max_b_; })

static inline uint64_t align_up(uint64_t v, uint64_t to)
{
	return (v + to - 1) & ~(to - 1);
}

static inline uint64_t align_down(uint64_t v, uint64_t to)
{
	return v & ~(to - 1);
}

static inline bool is_pow2(uint64_t v)
{
	return v && !(v & (v - 1));
}

/* Unaligned little-endian loads and stores; device formats are little-endian. */
#define UTIL_LE(bits)							\
static inline uint##bits##_t get_le##bits(const void *p)		\
{									\
	uint##bits##_t v;						\
									\
	memcpy(&v, p, sizeof(v));					\
	return le##bits##toh(v);					\
}									\
static inline void put_le##bits(void *p, uint##bits##_t v)		\
{									\
	v = htole##bits(v);						\
	memcpy(p, &v, sizeof(v));					\
}
UTIL_LE(16)
UTIL_LE(32)
UTIL_LE(64)
#undef UTIL_LE

/* The low @width bytes (1, 2, 4 or 8) of guest data as an integer, and back. */
uint64_t get_le(const void *p, unsigned int width);
void put_le(void *p, unsigned int width, uint64_t v);

/* CLOCK_MONOTONIC in nanoseconds. Any thread. */
uint64_t clock_ns(void);

/* Out of memory is the end of the process: these never return NULL. Set-up
 * only; sizes never come from a guest, an image or a peer. */
void *xcalloc(size_t n, size_t size);
void *xrealloc(void *p, size_t size);
char *xstrdup(const char *s);
char *xasprintf(const char *fmt, ...) __attribute__((format(printf, 1, 2)));

/* What a terminal would obey becomes "?", in place: control characters of ASCII and
 * those of Unicode (U+0080 to U+009F). Names come from images and peers. */
void util_printable(char *s);

/* close(*fd) when open, then -1. */
void fd_close(int *fd);

/* All of @len bytes, EINTR and short transfers handled; 0 or -errno, and
 * -ENODATA at an early end of file. */
int fd_read_full(int fd, void *buf, size_t len, off_t off);
int fd_write_full(int fd, const void *buf, size_t len, off_t off);

/* Cut @skip bytes off the front of @iov in place; returns the new count. */
int iov_advance(struct iovec *iov, int n, size_t skip);
size_t iov_bytes(const struct iovec *iov, int n);
size_t iov_to_buf(const struct iovec *iov, int n, size_t off, void *buf, size_t len);
size_t iov_from_buf(const struct iovec *iov, int n, size_t off, const void *buf, size_t len);
size_t iov_zero(const struct iovec *iov, int n, size_t off, size_t len);

/* The entry of @words (NULL-terminated) nearest to @word by edit distance, or
 * NULL when nothing is near. For "did you mean" sentences. */
const char *util_nearest(const char *word, const char *const *words);

#endif
