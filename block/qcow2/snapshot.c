/*
 * block/qcow2/snapshot.c - the table of internal snapshots.
 *
 * Spec:    docs/interop/qcow2.txt, "s Snapshots".
 * Threads: as q2_sync_io().
 * Missing: making, deleting and going back to them; they are listed, preserved and
 *          read.
 */
#include "block/qcow2/qcow2.h"

#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#define ENTRY_FIXED	40

void q2_snapshots_free(struct q2_snapshot *s, uint32_t n)
{
	for (uint32_t i = 0; s && i < n; i++) {
		free(s[i].id);
		free(s[i].name);
	}
	free(s);
}

/* What the image calls it, fit for a terminal. */
static char *take_text(const uint8_t *p, uint32_t len)
{
	char *s = xcalloc(1, len + 1);

	for (uint32_t i = 0; i < len && p[i]; i++)
		s[i] = p[i] < ' ' || p[i] == 0x7f ? '?' : (char)p[i];
	return s;
}

static int check(const struct q2 *q, const struct q2_snapshot *s, struct err *e)
{
	uint64_t end = align_up(atomic_load(&q->file_len), q->cs);

	if (s->l1_size > L1_BYTES_MAX / 8 || (s->l1_offset & (q->cs - 1)) ||
	    s->l1_size * 8ull > end || s->l1_offset > end - s->l1_size * 8ull)
		return err_set(e, -EINVAL, "the L1 table of snapshot '%.64s' (%" PRIu32
			       " entries at %#" PRIx64 ") is out of place", s->name, s->l1_size,
			       s->l1_offset);
	return 0;
}

/* Reading zeroes behind the end would make entries of nothing. */
static int read_part(struct q2 *q, struct loop *l, uint64_t at, void *buf, size_t len,
		     struct err *e)
{
	uint64_t end = atomic_load(&q->file_len);
	int r;

	if (at > end || len > end - at)
		return err_set(e, -EINVAL, "the snapshot table at %#" PRIx64 " goes beyond the end of "
			       "the file; save the disk with 'roost img convert'",
			       q->h.snapshots_offset);
	r = len ? q2_sync_io(q, l, BLOCK_READ, at, buf, len) : 0;
	return r ? err_sys(e, r, "cannot read the snapshot table") : 0;
}

/* One entry at *@at of the file. */
static int read_entry(struct q2 *q, struct loop *l, uint64_t *at, struct q2_snapshot *s,
		      struct err *e)
{
	uint8_t b[ENTRY_FIXED], extra[SNAPSHOT_EXTRA_MAX], *text;
	uint32_t id, name, more;
	int r = read_part(q, l, *at, b, sizeof(b), e);

	if (r)
		return r;
	id = get_be16(b + 12);
	name = get_be16(b + 14);
	more = get_be32(b + 36);
	if (more > sizeof(extra))
		return err_set(e, -EFBIG, "a snapshot has %" PRIu32 " bytes of extra data; at most "
			       "%u are allowed", more, SNAPSHOT_EXTRA_MAX);
	*s = (struct q2_snapshot){
		.l1_offset = get_be64(b), .l1_size = get_be32(b + 8), .date_s = get_be32(b + 16),
		.date_ns = get_be32(b + 20), .vm_ns = get_be64(b + 24),
		.vm_bytes = get_be32(b + 32), .size = q->h.size,
	};
	r = read_part(q, l, *at + ENTRY_FIXED, extra, more, e);
	if (r)
		return r;
	if (more >= 8)
		s->vm_bytes = get_be64(extra);
	if (more >= 16)
		s->size = get_be64(extra + 8);
	text = xcalloc(1, id + name + 1);
	r = read_part(q, l, *at + ENTRY_FIXED + more, text, id + name, e);
	s->id = take_text(text, id);
	s->name = take_text(text + id, name);
	free(text);
	*at = align_up(*at + ENTRY_FIXED + more + id + name, 8);
	return r ? r : check(q, s, e);
}

int q2_snapshots_read(struct q2 *q, struct loop *l, struct q2_snapshot **out, uint64_t *bytes,
		      struct err *e)
{
	struct q2_snapshot *s = xcalloc(q->h.nb_snapshots + 1, sizeof(*s));
	uint64_t at = q->h.snapshots_offset;
	int r = 0;

	for (uint32_t i = 0; i < q->h.nb_snapshots && r == 0; i++) {
		r = read_entry(q, l, &at, &s[i], e);
		if (r == 0 && at - q->h.snapshots_offset > SNAPSHOT_TABLE_MAX)
			r = err_set(e, -EFBIG, "the snapshot table is larger than %" PRIu64
				    " bytes", (uint64_t)SNAPSHOT_TABLE_MAX);
	}
	if (r) {
		q2_snapshots_free(s, q->h.nb_snapshots);
		return r;
	}
	*bytes = at - q->h.snapshots_offset;
	*out = s;
	return 0;
}

/* An id comes first: a name may look like the id of another one. */
static const struct q2_snapshot *find(const struct q2_snapshot *s, uint32_t n, const char *word)
{
	for (uint32_t i = 0; i < n; i++)
		if (strcmp(s[i].id, word) == 0)
			return &s[i];
	for (uint32_t i = 0; i < n; i++)
		if (strcmp(s[i].name, word) == 0)
			return &s[i];
	return NULL;
}

int q2_snapshot_show(struct q2 *q, struct loop *l, struct err *e)
{
	uint64_t file_bytes = q->n.file.node->bytes, bytes;
	struct q2_snapshot *all;
	const struct q2_snapshot *s;
	int r;

	atomic_store(&q->file_len, file_bytes);
	r = q2_snapshots_read(q, l, &all, &bytes, e);
	if (r)
		return r;
	s = find(all, q->h.nb_snapshots, q->snapshot);
	if (s) {
		q->h.size = s->size;
		q->h.l1_size = s->l1_size;
		q->h.l1_offset = s->l1_offset;
		r = q2_header_check_l1(&q->h, file_bytes, e);
		if (r)
			err_prefix(e, "snapshot '%.64s'", q->snapshot);
	} else {
		r = err_set(e, -ENOENT, "there is no snapshot '%.64s'; 'roost img info' lists those "
			    "there are", q->snapshot);
	}
	q2_snapshots_free(all, q->h.nb_snapshots);
	q->n.read_only = true;
	return r;
}
