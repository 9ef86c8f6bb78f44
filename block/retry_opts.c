/*
 * block/retry_opts.c - the options of I/O suspension: checked, and made a
 * drive's, at the start or while it runs.
 *
 * Threads: main loop.
 * Missing: nothing known.
 */
#include "block/retry.h"
#include "block/graph.h"

#include <assert.h>
#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>

#include "vmm/base/util.h"

const char *const retry_policy_words[] = {
	[DRIVE_REPORT] = "report", [DRIVE_IGNORE] = "ignore", [DRIVE_STOP] = "stop",
	[DRIVE_ENOSPC] = "enospc", [DRIVE_AUTO] = "auto", [DRIVE_RETRY] = "retry", NULL
};
static_assert(ARRAY_LEN(retry_policy_words) == DRIVE_RETRY + 2, "one word each");
const char *const retry_then_words[] = {
	[DRIVE_REPORT] = "report", [DRIVE_IGNORE] = "ignore", [DRIVE_STOP] = "stop",
	[DRIVE_ENOSPC] = "enospc", NULL
};
static_assert(ARRAY_LEN(retry_then_words) == DRIVE_ENOSPC + 2, "one word each");

/* retry_on=transport: the path to the storage is broken, not the storage. What
 * Linux makes of BLK_STS_TRANSPORT, _TIMEOUT and _OFFLINE, and what network
 * file systems answer. EIO is not among them: a bad sector says the same. */
static const int transport[] = {
	ENOLINK, ETIMEDOUT, ENODEV, ENXIO, ENOTCONN, ECONNRESET, ECONNABORTED, ECONNREFUSED,
	EHOSTDOWN, EHOSTUNREACH, ENETDOWN, ENETUNREACH, ENETRESET, ESHUTDOWN, EPIPE, ESTALE,
	EREMOTEIO, ENOMEDIUM,
};

struct errno_set {
	uint64_t bits[RETRY_ERRNO_WORDS];
};

static void add_errno(struct errno_set *s, int err)
{
	s->bits[err / 64] |= BIT64(err % 64);
}

static int find_errno(const char *name, size_t len)
{
	for (int i = 1; i < RETRY_ERRNO_WORDS * 64; i++) {
		const char *word = strerrorname_np(i);

		if (word && strlen(word) == len && strncmp(word, name, len) == 0)
			return i;
	}
	return 0;
}

/* "all", "transport", or names with '+', ':', ',' or blanks between them. */
static int parse_on(const char *text, struct errno_set *s, const char *what, struct err *e)
{
	size_t len;
	int err;

	memset(s, 0, sizeof(*s));
	if (!text || strcmp(text, "all") == 0) {
		memset(s, 0xff, sizeof(*s));
		return 0;
	}
	for (; *(text += strspn(text, "+:, ")); text += len) {
		len = strcspn(text, "+:, ");
		if (len == 9 && strncmp(text, "transport", 9) == 0) {
			for (size_t i = 0; i < ARRAY_LEN(transport); i++)
				add_errno(s, transport[i]);
			continue;
		}
		err = find_errno(text, len);
		if (!err)
			return err_set(e, -EINVAL, "%s: retry_on: '%.*s' is no error of the host; "
				       "use all, transport, or names such as EIO+ETIMEDOUT", what,
				       (int)MIN(len, (size_t)64), text);
		add_errno(s, err);
	}
	return 0;
}

static bool stated(const json_t *given, const char *name)
{
	return !given || json_object_get(given, name);
}

int retry_check(const struct retry_opts *o, const json_t *given, const char *what,
		struct err *e)
{
	struct errno_set s;
	static const char *const only[] = { "retry_interval", "retry_timeout" };

	if (o->werror == DRIVE_RETRY || o->rerror == DRIVE_RETRY || !given)
		return parse_on(o->on, &s, what, e);
	for (size_t i = 0; i < ARRAY_LEN(only); i++)
		if (json_object_get(given, only[i]))
			return err_set(e, -EINVAL, "%s: %s needs werror=retry or rerror=retry",
				       what, only[i]);
	return parse_on(o->on, &s, what, e);
}

/* ms that do not fit are as good as for ever. */
static uint64_t to_ns(int64_t ms)
{
	return (uint64_t)ms > UINT64_MAX / NS_PER_MS ? UINT64_MAX : (uint64_t)ms * NS_PER_MS;
}

/* A policy that is not retry any more lets go of what it kept. */
static void drop_policies(struct drive *d)
{
	pthread_mutex_lock(&d->lock);
	for (struct block_req *r = d->retry.list.head; r; r = r->susp.next)
		if (r->susp.since_ns && atomic_load(r->op == BLOCK_READ ? &d->rerror : &d->werror)
		    != DRIVE_RETRY)
			r->susp.give_up = true;
	pthread_mutex_unlock(&d->lock);
}

/* On the way down from @n: does it write to @to, itself or as metadata? */
static bool writes_to(const struct block_node *n, const struct block_node *to)
{
	for (; n; n = n->file.node)
		if (n == to || (n->data.node && writes_to(n->data.node, to)))
			return true;
	return false;
}

static void update_durable(struct block_node *n)
{
	bool wanted = false;

	for (const struct drive *d = n->graph->drives; d && !wanted; d = d->next)
		wanted = atomic_load(&d->werror) == DRIVE_RETRY && writes_to(d->node, n);
	atomic_store(&n->durable, wanted && n->cache_direct && !n->cache_no_flush &&
		     !n->write_through);
}

void retry_update_durable(struct drive *d)
{
	for (struct block_node *n = d->node; n; n = n->file.node) {
		if (n->drv->protocol)
			update_durable(n);
		if (n->data.node)
			update_durable(n->data.node);
	}
}

int retry_set(struct drive *d, const struct retry_opts *o, const json_t *given,
	      const char *what, struct err *e)
{
	struct drive_retry *t = &d->retry;
	struct errno_set s;
	int r = parse_on(o->on, &s, what, e);

	if (r)
		return r;
	if (stated(given, "werror"))
		atomic_store(&d->werror, o->werror);
	if (stated(given, "rerror"))
		atomic_store(&d->rerror, o->rerror);
	if (stated(given, "retry_interval"))
		atomic_store(&t->interval_ns, to_ns(o->interval));
	if (stated(given, "retry_timeout"))
		atomic_store(&t->timeout_ns, to_ns(o->timeout));
	if (stated(given, "retry-then"))
		atomic_store(&t->then, o->then);
	if (stated(given, "io_timeout"))
		stall_set(d, to_ns(o->io_timeout));
	if (stated(given, "retry_probe"))
		atomic_store(&t->probe, o->probe);
	for (int i = 0; i < RETRY_ERRNO_WORDS && stated(given, "retry_on"); i++)
		atomic_store(&t->on[i], s.bits[i]);
	retry_update_durable(d);
	drop_policies(d);
	/* The new interval counts at once; so do new time limits. */
	pthread_mutex_lock(&d->lock);
	retry_new_settings(d);
	pthread_mutex_unlock(&d->lock);
	loop_post(d->graph->loop, &t->work);
	return 0;
}
