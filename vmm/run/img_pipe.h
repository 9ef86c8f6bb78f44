/*
 * vmm/run/img_pipe.h - copy an image's contents with several pieces in flight.
 */
#ifndef VMM_RUN_IMG_PIPE_H
#define VMM_RUN_IMG_PIPE_H

#include "vmm/run/img.h"

#define IMG_DEPTH_MAX	16u

enum img_part { IMG_SKIP, IMG_ZERO, IMG_DATA };

struct img_pipe {
	struct img *m;
	struct img_file *from, *to;
	/* What the *@n bytes at @at are, or the first of them that are alike, with *@n
	 * shortened. 0 or -errno; may wait on m->l. */
	int (*plan)(struct img_pipe *p, uint64_t at, uint64_t *n, enum img_part *part);
	uint64_t depth;			/* pieces of IMG_CHUNK in memory, IMG_DEPTH_MAX at most */
	bool any_order;			/* of writes; otherwise one at a time, by offset */
	bool compressed;		/* data, to a qcow2 image; not in any order */
	uint64_t sparse;		/* so many zeroes in data are none, whole sectors; 0: all is data */
	bool zeroes;			/* and are written as such, not left out */
	bool salvage;			/* what cannot be read is zero, with a warning */
	const char *doing;		/* "converting", for messages */
};

/* Copy bytes 0 to @end, showing progress. What @from does not have is zero. The target
 * is not flushed. 0 or -errno with a sentence. */
int img_pipe_run(struct img_pipe *p, uint64_t end, struct err *e);

#endif
