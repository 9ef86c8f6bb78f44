/*
 * block/aside.h - work that waits for storage, on a thread beside the main loop.
 *
 * Storage may hang in the kernel, and whoever waits for it with it. At the end of the
 * VM such a thread is waited for no longer than anything else (block_graph_end_ns()),
 * and then left behind: with the graph, and all that it works on.
 */
#ifndef BLOCK_ASIDE_H
#define BLOCK_ASIDE_H

#include <stdbool.h>

struct aside;
struct block_graph;
struct loop_work;

/*
 * Call run(@arg) on a thread called @name (15 bytes at most), with all signals blocked,
 * and when that is over over(@arg) on the main loop, unless aside_end() comes first.
 * *@out is gone when over() is called. -errno without a sentence when there is no
 * thread. Main loop.
 */
int aside_start(struct aside **out, struct block_graph *g, const char *name,
		void (*run)(void *arg), void (*over)(void *arg), void *arg);

/* At the end of the VM, after run() was asked to return: over() does not follow. False:
 * it hangs. Then it goes on with @arg for ever, and nothing that it can reach may go.
 * Main loop. */
bool aside_end(struct aside *a);

/* On the thread: loop_post() to the main loop, if that is still there. */
void aside_post(struct aside *a, struct loop_work *w);

#endif
