/*
 * vmm/char/char_term.c - the terminal of the process: raw mode and back.
 * Threads: enter on the main loop, the rest anywhere, signal handlers too.
 * Missing: nothing known.
 *
 * The terminal is the process's, not a VM's, and a signal handler can be given
 * no context: that is why this state is static.
 */
#include <errno.h>
#include <stdatomic.h>
#include <termios.h>
#include <unistd.h>

#include "vmm/char/char.h"
#include "vmm/char/char_term.h"

static struct termios term_saved, term_raw;
static int term_fd = -1;
static _Atomic int term_state;	/* enum */

enum { TERM_NONE, TERM_RAW, TERM_RESTORED };

int char_term_enter(int fd, bool signals)
{
	if (tcgetattr(fd, &term_saved) < 0)
		return -errno;
	term_raw = term_saved;
	term_raw.c_iflag &= ~(tcflag_t)(IGNBRK | BRKINT | PARMRK | ISTRIP | INLCR |
					IGNCR | ICRNL | IXON);
	term_raw.c_lflag &= ~(tcflag_t)(ECHO | ECHONL | ICANON | IEXTEN);
	if (!signals)
		term_raw.c_lflag &= ~(tcflag_t)ISIG;
	term_raw.c_cflag &= ~(tcflag_t)(CSIZE | PARENB);
	term_raw.c_cflag |= CS8;
	term_raw.c_cc[VMIN] = 1;
	term_raw.c_cc[VTIME] = 0;
	term_fd = fd;
	atomic_store(&term_state, TERM_RESTORED);
	char_resume_terminal();
	return 0;
}

void char_term_leave(void)
{
	char_restore_terminal();
	atomic_store(&term_state, TERM_NONE);
}

void char_restore_terminal(void)
{
	int was = TERM_RAW, saved = errno;

	if (atomic_compare_exchange_strong(&term_state, &was, TERM_RESTORED))
		tcsetattr(term_fd, TCSANOW, &term_saved);
	errno = saved;
}

/* A process in the background would be stopped for touching the terminal. */
void char_resume_terminal(void)
{
	int saved = errno;
	pid_t foreground = tcgetpgrp(term_fd);	/* -1: not the one we have */

	if (atomic_load(&term_state) != TERM_NONE &&
	    (foreground < 0 || foreground == getpgrp())) {
		/* Also when it is raw for all we know: a shell that stopped us
		 * has put its own settings back. */
		atomic_store(&term_state, TERM_RAW);
		tcsetattr(term_fd, TCSANOW, &term_raw);
	}
	errno = saved;
}
