/*
 * vmm/run/lineedit.h - a line from the terminal, with editing, history and
 * completion; or from a pipe, without.
 *
 * Small on purpose: what people press in a monitor. Arrow keys, Home, End,
 * Delete, Ctrl-A E B F P N D H K U W L, Tab.
 *
 * Threads: one at a time.
 */
#ifndef VMM_RUN_LINEEDIT_H
#define VMM_RUN_LINEEDIT_H

#include <jansson.h>
#include <stdbool.h>
#include <stddef.h>

#define LINEEDIT_MAX	(64u << 10)	/* bytes of a line; QMP takes no more */
#define LINEEDIT_HISTORY 500

/*
 * Completions of the last word of @line up to @cursor: an array of strings,
 * each the whole word, owned by the caller. *start: where the word begins.
 */
typedef json_t *lineedit_complete(const char *line, size_t cursor, size_t *start, void *arg);

struct lineedit {
	int in, out;		/* borrowed */
	const char *prompt;
	lineedit_complete *complete;	/* or NULL */
	void *arg;
	/* inside */
	bool raw;		/* `in` is a terminal: edit */
	json_t *history;	/* of strings, oldest first */
	char *line;		/* LINEEDIT_MAX + 1 bytes */
	size_t len, cur;
	size_t at;		/* place in history; its size: the new line */
	char *saved;		/* the new line while at is elsewhere */
	char buf[256];		/* bytes read ahead */
	size_t buf_len, buf_at;
	bool interrupted;	/* the last call was woken: the line goes on */
	int wake;		/* returned when readable meanwhile; -1: none */
};

void lineedit_init(struct lineedit *l, int in, int out, const char *prompt);
void lineedit_fini(struct lineedit *l);

/*
 * The next line, without its newline, valid until the next call. NULL at the
 * end of input (also Ctrl-D on an empty line); *woken is true when l->wake
 * became readable instead: handle that and call again, what was typed stays.
 * The terminal is raw only inside.
 */
const char *lineedit_read(struct lineedit *l, bool *woken);

#endif
