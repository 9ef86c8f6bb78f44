/*
 * vmm/base/thread.h - how roost starts threads.
 */
#ifndef VMM_BASE_THREAD_H
#define VMM_BASE_THREAD_H

#include <pthread.h>

/*
 * Call fn(@arg) on a thread called @name (what is beyond 15 bytes is cut), with all
 * signals blocked: they are for the main thread. The caller joins it. 0 or -errno,
 * without a sentence. Any thread.
 *
 * Its stack is small: what is deep or recursive (JSON) belongs to the main loop.
 */
int thread_start(pthread_t *out, const char *name, void *(*fn)(void *arg), void *arg);

#endif
