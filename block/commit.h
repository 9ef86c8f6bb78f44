/*
 * block/commit.h - write what lies above a backing file into that file, so that the
 * files above are not needed any more, while the guest runs.
 *
 *	commit_start()	checks; the base becomes writable	main loop
 *	commit_run()	copies					a thread of the caller's
 *	commit_end()	lets go of the files above		main loop
 *	commit_destroy()					main loop
 *
 * Threads: as said.
 */
#ifndef BLOCK_COMMIT_H
#define BLOCK_COMMIT_H

#include "block/block.h"

struct commit;

struct commit_opts {
	const char *disk;		/* a drive, its top node or its device */
	/* Nodes of its chain. What lies above @base, up to @top and with it, goes into
	 * @base. NULL: the disk's top; the last one of the chain. */
	const char *top, *base;
	/* What the image above @top shall call @base; NULL: its absolute path. */
	const char *backing_name;
};

/* What to do when the copying is as far as the guest (active layer). */
enum commit_wish { COMMIT_GO_ON, COMMIT_COMPLETE, COMMIT_STOP };

/* How commit_run() asks its caller; on its thread, may wait. */
struct commit_watch {
	/* After @bytes of work, with @done of @all. Not 0: stop, with that. */
	int (*pace)(void *arg, uint64_t bytes, uint64_t done, uint64_t all);
	/* An enum commit_wish, after a tenth of a second if that is GO_ON; or -errno. */
	int (*ready)(void *arg, uint64_t done, uint64_t all);
	/* Reading or writing failed with @err. 0: try again; else: stop, with that. */
	int (*failed)(void *arg, bool write, int err);
	/* Shall it stop at once? */
	bool (*stopped)(void *arg);
	/* loop_post() to the main loop, as long as that is there. */
	void (*post)(void *arg, struct loop_work *w);
	void *arg;
};

typedef void commit_done(void *arg, int ret, const struct err *e);

/* Refused at once with a sentence, or @begun follows, never from inside: 0, or -errno
 * with a sentence; then only commit_destroy() is left. */
int commit_start(struct block_graph *g, const struct commit_opts *o, commit_done *begun,
		 void *arg, struct commit **out, struct err *e);
/* The work, with a loop of the thread's own. Ended at any moment, also by a crash, the
 * chain reads as before. */
int commit_run(struct commit *c, struct loop *l, const struct commit_watch *w, struct err *e);
/* What commit_run() returned: on success the disk goes on without the files above; else
 * all becomes as it was. @done gets @ret, or what failed now; perhaps before this returns. */
void commit_end(struct commit *c, int ret, const struct err *e, commit_done *done, void *arg);
/* At any time that commit_run() does not run. */
void commit_destroy(struct commit *c);

#endif
