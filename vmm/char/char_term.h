/*
 * vmm/char/char_term.h - raw mode for the stdio chardev; the rest of
 * char_term.c is in char.h.
 */
#ifndef VMM_CHAR_CHAR_TERM_H
#define VMM_CHAR_CHAR_TERM_H

#include <stdbool.h>

/* Put terminal @fd into raw mode; @signals: Ctrl-C and its like still raise
 * theirs. The descriptor must stay open. 0 or -errno. */
int char_term_enter(int fd, bool signals);
void char_term_leave(void);

#endif
