/*
 * vmm/base/thread.c - threads with a name, without signals, with a small stack.
 *
 * Spec:    pthread_attr_setstacksize(3), signal(7).
 * Threads: any.
 * Missing: nothing known.
 */
#include "vmm/base/thread.h"

#include <signal.h>
#include <stdio.h>

/*
 * The default of 8 MiB is address space only, until memory is locked (mlockall()
 * makes all of it resident) or comes in huge pages of 2 MiB. A sanitizer's frames
 * are many times as large.
 */
#ifdef __SANITIZE_ADDRESS__
#define STACK_BYTES	(8u << 20)
#else
#define STACK_BYTES	(512u << 10)
#endif

int thread_start(pthread_t *out, const char *name, void *(*fn)(void *arg), void *arg)
{
	sigset_t all, old;
	pthread_attr_t attr;
	char cut[16];
	int r;

	pthread_attr_init(&attr);
	pthread_attr_setstacksize(&attr, STACK_BYTES);
	sigfillset(&all);
	pthread_sigmask(SIG_SETMASK, &all, &old);
	r = -pthread_create(out, &attr, fn, arg);
	pthread_sigmask(SIG_SETMASK, &old, NULL);
	pthread_attr_destroy(&attr);
	if (r)
		return r;
	snprintf(cut, sizeof(cut), "%s", name);
	pthread_setname_np(*out, cut);
	return 0;
}
