/*
 * vmm/base/util.c - small things that every file needs.
 * Threads: any; nothing here keeps state.
 */
#include "vmm/base/util.h"

#include <assert.h>
#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>
#include <unistd.h>

#include "vmm/base/log.h"

void util_printable(char *s)
{
	for (unsigned char *p = (unsigned char *)s; *p; p++) {
		if (*p < ' ' || *p == 0x7f)
			*p = '?';
		else if (*p == 0xc2 && p[1] >= 0x80 && p[1] < 0xa0)
			p[0] = p[1] = '?';
	}
}

uint64_t get_le(const void *p, unsigned int width)
{
	uint64_t v = 0;

	assert(width <= sizeof(v));
	memcpy(&v, p, width);
	return le64toh(v);
}

void put_le(void *p, unsigned int width, uint64_t v)
{
	assert(width <= sizeof(v));
	v = htole64(v);
	memcpy(p, &v, width);
}

uint64_t clock_ns(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_MONOTONIC, &ts);
	return (uint64_t)ts.tv_sec * NS_PER_SEC + (uint64_t)ts.tv_nsec;
}

static void *checked(void *p)
{
	if (!p) {
		log_err("out of memory");
		abort();
	}
	return p;
}

void *xcalloc(size_t n, size_t size)
{
	return checked(calloc(n ? n : 1, size ? size : 1));
}

void *xrealloc(void *p, size_t size)
{
	return checked(realloc(p, size ? size : 1));
}

char *xstrdup(const char *s)
{
	return checked(strdup(s));
}

char *xasprintf(const char *fmt, ...)
{
	char *s = NULL;
	va_list ap;
	int n;

	va_start(ap, fmt);
	n = vasprintf(&s, fmt, ap);
	va_end(ap);
	return checked(n < 0 ? NULL : s);
}

void fd_close(int *fd)
{
	if (*fd >= 0)
		close(*fd);
	*fd = -1;
}

int fd_read_full(int fd, void *buf, size_t len, off_t off)
{
	uint8_t *p = buf;
	ssize_t n;

	while (len > 0) {
		n = pread(fd, p, len, off);
		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0)
			return -errno;
		if (n == 0)
			return -ENODATA;
		p += n;
		off += n;
		len -= (size_t)n;
	}
	return 0;
}

int fd_write_full(int fd, const void *buf, size_t len, off_t off)
{
	const uint8_t *p = buf;
	ssize_t n;

	while (len > 0) {
		n = pwrite(fd, p, len, off);
		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0)
			return -errno;
		p += n;
		off += n;
		len -= (size_t)n;
	}
	return 0;
}

int iov_advance(struct iovec *iov, int n, size_t skip)
{
	int first = 0;

	while (first < n && skip >= iov[first].iov_len)
		skip -= iov[first++].iov_len;
	if (first == n)
		return 0;
	memmove(iov, iov + first, (size_t)(n - first) * sizeof(*iov));
	iov[0].iov_base = (char *)iov[0].iov_base + skip;
	iov[0].iov_len -= skip;
	return n - first;
}

size_t iov_bytes(const struct iovec *iov, int n)
{
	size_t sum = 0;

	for (int i = 0; i < n; i++)
		sum += iov[i].iov_len;
	return sum;
}

enum iov_way { IOV_OUT, IOV_IN, IOV_ZERO };

/* Walk [off, off+len) of @iov and move bytes the given way. */
static size_t iov_walk(const struct iovec *iov, int n, size_t off, uint8_t *buf,
		       size_t len, enum iov_way way)
{
	size_t done = 0, part;
	uint8_t *p;

	for (int i = 0; i < n && done < len; i++) {
		if (off >= iov[i].iov_len) {
			off -= iov[i].iov_len;
			continue;
		}
		p = (uint8_t *)iov[i].iov_base + off;
		part = MIN(iov[i].iov_len - off, len - done);
		off = 0;
		if (way == IOV_OUT)
			memcpy(buf + done, p, part);
		else if (way == IOV_IN)
			memcpy(p, buf + done, part);
		else
			memset(p, 0, part);
		done += part;
	}
	return done;
}

size_t iov_to_buf(const struct iovec *iov, int n, size_t off, void *buf, size_t len)
{
	return iov_walk(iov, n, off, buf, len, IOV_OUT);
}

size_t iov_from_buf(const struct iovec *iov, int n, size_t off, const void *buf, size_t len)
{
	/* IOV_IN only reads the buffer. */
	return iov_walk(iov, n, off, (uint8_t *)(uintptr_t)buf, len, IOV_IN);
}

size_t iov_zero(const struct iovec *iov, int n, size_t off, size_t len)
{
	return iov_walk(iov, n, off, NULL, len, IOV_ZERO);
}

#define NEAR_MAX 64	/* longer words are no typing mistakes */

/* Levenshtein distance by rows; both words shorter than NEAR_MAX. */
static unsigned int edit_distance(const char *a, const char *b)
{
	unsigned int row[NEAR_MAX], up_left, up, best;
	size_t na = strlen(a), nb = strlen(b);

	for (size_t j = 0; j <= nb; j++)
		row[j] = (unsigned int)j;
	for (size_t i = 1; i <= na; i++) {
		up_left = row[0];
		row[0] = (unsigned int)i;
		for (size_t j = 1; j <= nb; j++) {
			up = row[j];
			best = up_left + (a[i - 1] != b[j - 1]);
			best = MIN(best, up + 1);
			row[j] = MIN(best, row[j - 1] + 1);
			up_left = up;
		}
	}
	return row[nb];
}

const char *util_nearest(const char *word, const char *const *words)
{
	const char *best = NULL;
	unsigned int d, best_d;
	size_t len = strlen(word);

	if (len >= NEAR_MAX)
		return NULL;
	best_d = (unsigned int)len / 3 + 2;	/* a third of the word may be wrong */
	for (; *words; words++) {
		if (strlen(*words) >= NEAR_MAX)
			continue;
		d = edit_distance(word, *words);
		if (strncmp(*words, word, len) == 0 && len >= 3)
			d = 1;			/* a cut-off word */
		if (d < best_d) {
			best_d = d;
			best = *words;
		}
	}
	return best;
}
