/*
 * tests/dev/lib_hang.h - a system call that does not come back, as of storage that
 * hangs: whoever makes it sleeps in the kernel until it is let go.
 */
#ifndef TESTS_DEV_LIB_HANG_H
#define TESTS_DEV_LIB_HANG_H

#include <stdbool.h>

/* From now on @call (SYS_fsync, …) hangs, on this thread and those it starts. Once in
 * a process, and for good: what is let go goes on, and later ones do not hang. The test
 * ends when the kernel lacks user notifications of seccomp. */
void hang_begin(int call);
/* Does one more hang? */
bool hang_came(void);
/* All that hang, and all that come, make the call. */
void hang_end(void);
/* Wait until no thread is called @thread. */
void hang_await_end(const char *thread);

#endif
