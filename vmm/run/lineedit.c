/*
 * vmm/run/lineedit.c - a line from the terminal, with editing, history and
 * completion; or from a pipe, without.
 * Threads: one at a time.
 * Missing: lines wider than the terminal scroll instead of wrapping; a cursor
 *          column counts characters, so wide ones (CJK) are off by one each.
 */
#include "vmm/run/lineedit.h"

#include <errno.h>
#include <poll.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <termios.h>
#include <unistd.h>

#include "vmm/base/util.h"

#define CTL(c)		((c) & 0x1f)
#define WIDTH_DEFAULT	80

enum key {
	KEY_NONE = 0x110000,	/* above every character */
	KEY_UP, KEY_DOWN, KEY_LEFT, KEY_RIGHT, KEY_HOME, KEY_END, KEY_DELETE,
	KEY_EOF, KEY_WOKEN,
};

void lineedit_init(struct lineedit *l, int in, int out, const char *prompt)
{
	*l = (struct lineedit){ .in = in, .out = out, .prompt = prompt, .wake = -1 };
	l->raw = isatty(in) && isatty(out);
	l->line = xcalloc(1, LINEEDIT_MAX + 1);
	l->history = json_array();
}

void lineedit_fini(struct lineedit *l)
{
	free(l->line);
	free(l->saved);
	json_decref(l->history);
}

/* ---- input ---- */

static int next_byte(struct lineedit *l, int timeout_ms)
{
	struct pollfd p[2] = { { .fd = l->in, .events = POLLIN },
			       { .fd = l->wake, .events = POLLIN } };
	ssize_t n;

	if (l->buf_at < l->buf_len)
		return (unsigned char)l->buf[l->buf_at++];
	n = poll(p, l->wake >= 0 ? 2 : 1, timeout_ms);
	if (n == 0)
		return KEY_NONE;
	if (n > 0 && !p[0].revents && p[1].revents)
		return KEY_WOKEN;
	n = read(l->in, l->buf, sizeof(l->buf));
	if (n <= 0)
		return n < 0 && errno == EINTR ? KEY_NONE : KEY_EOF;
	l->buf_len = (size_t)n;
	l->buf_at = 1;
	return (unsigned char)l->buf[0];
}

/* A control key in the middle of a sequence is a key of its own. */
static int broken_off(struct lineedit *l, int c)
{
	if (c < 0x20)
		l->buf_at--;
	return KEY_NONE;
}

/* "\e[A", "\eOA", "\e[3~": what follows Escape, within a moment. */
static int escape_key(struct lineedit *l)
{
	int c = next_byte(l, 50), digit = 0;

	if (c != '[' && c != 'O')
		return broken_off(l, c);
	c = next_byte(l, 50);
	while ((c >= '0' && c <= '9') || c == ';') {
		digit = c == ';' ? digit : c;
		c = next_byte(l, 50);
	}
	switch (c) {
	case 'A': return KEY_UP;
	case 'B': return KEY_DOWN;
	case 'C': return KEY_RIGHT;
	case 'D': return KEY_LEFT;
	case 'H': return KEY_HOME;
	case 'F': return KEY_END;
	case '~':
		return digit == '3' ? KEY_DELETE : digit == '1' || digit == '7' ? KEY_HOME :
		       digit == '4' || digit == '8' ? KEY_END : KEY_NONE;
	default: return broken_off(l, c);
	}
}

/* ---- the screen ---- */

static void put(struct lineedit *l, const char *s, size_t len)
{
	while (len) {
		ssize_t n = write(l->out, s, len);

		if (n < 0 && errno != EINTR)
			return;
		if (n > 0) {
			s += n;
			len -= (size_t)n;
		}
	}
}

static bool is_tail(char c)	/* of a UTF-8 character */
{
	return ((unsigned char)c & 0xc0) == 0x80;
}

static size_t chars(const char *s, size_t len)
{
	size_t n = 0;

	for (size_t i = 0; i < len; i++)
		n += !is_tail(s[i]);
	return n;
}

static size_t columns(const struct lineedit *l)
{
	struct winsize w;

	if (ioctl(l->out, TIOCGWINSZ, &w) < 0 || w.ws_col < 20)
		return WIDTH_DEFAULT;
	return w.ws_col;
}

/* Prompt and as much of the line as fits, the cursor in it. */
static void redraw(struct lineedit *l)
{
	size_t room = columns(l) - chars(l->prompt, strlen(l->prompt)) % columns(l) - 1;
	size_t from = 0, to;
	char move[40];

	while (chars(l->line + from, l->cur - from) > room)
		do
			from++;
		while (is_tail(l->line[from]));
	for (to = l->len; chars(l->line + from, to - from) > room; )
		do
			to--;
		while (is_tail(l->line[to]));
	put(l, "\r", 1);
	put(l, l->prompt, strlen(l->prompt));
	put(l, l->line + from, to - from);
	snprintf(move, sizeof(move), "\033[K\r\033[%zuC", chars(l->prompt, strlen(l->prompt)) +
		 chars(l->line + from, l->cur - from));
	put(l, move, strlen(move));
}

/* ---- editing ---- */

static size_t prev(const struct lineedit *l, size_t i)
{
	if (i)
		do
			i--;
		while (i && is_tail(l->line[i]));
	return i;
}

static size_t next(const struct lineedit *l, size_t i)
{
	if (i < l->len)
		do
			i++;
		while (i < l->len && is_tail(l->line[i]));
	return i;
}

static void erase(struct lineedit *l, size_t from, size_t to)
{
	memmove(l->line + from, l->line + to, l->len - to + 1);
	l->len -= to - from;
	l->cur = from;
}

static void insert(struct lineedit *l, const char *s, size_t n)
{
	if (l->len + n > LINEEDIT_MAX)
		return;
	memmove(l->line + l->cur + n, l->line + l->cur, l->len - l->cur + 1);
	memcpy(l->line + l->cur, s, n);
	l->len += n;
	l->cur += n;
}

static void set_line(struct lineedit *l, const char *s)
{
	l->len = MIN(strlen(s), (size_t)LINEEDIT_MAX);
	memcpy(l->line, s, l->len);
	l->line[l->len] = '\0';
	l->cur = l->len;
}

static void erase_word(struct lineedit *l)
{
	size_t from = l->cur;

	while (from && l->line[from - 1] == ' ')
		from--;
	while (from && l->line[from - 1] != ' ')
		from--;
	erase(l, from, l->cur);
}

/* ---- history ---- */

static void history_add(struct lineedit *l)
{
	const char *last = json_string_value(json_array_get(l->history,
							    json_array_size(l->history) - 1));

	if (l->len && (!last || strcmp(last, l->line)))
		json_array_append_new(l->history, json_string(l->line));
	if (json_array_size(l->history) > LINEEDIT_HISTORY)
		json_array_remove(l->history, 0);
}

static void history_go(struct lineedit *l, int step)
{
	size_t n = json_array_size(l->history);

	if ((step < 0 && l->at == 0) || (step > 0 && l->at >= n))
		return;
	if (l->at == n) {
		free(l->saved);
		l->saved = xstrdup(l->line);
	}
	l->at += (size_t)step;
	set_line(l, l->at == n ? l->saved : json_string_value(json_array_get(l->history, l->at)));
}

/* ---- completion ---- */

/* Bytes that all strings of @words have in common at the front. */
static size_t common(const json_t *words)
{
	const char *first = json_string_value(json_array_get(words, 0)), *s;
	size_t n = strlen(first), i, k;
	json_t *w;

	json_array_foreach(words, i, w) {
		s = json_string_value(w);
		for (k = 0; k < n && s[k] == first[k]; k++)
			;
		n = k;
	}
	while (n && is_tail(first[n]))
		n--;
	return n;
}

static void list_words(struct lineedit *l, const json_t *words)
{
	size_t widest = 0, used = 0, i, w;
	const char *s;
	json_t *word;

	json_array_foreach(words, i, word)
		widest = MAX(widest, strlen(json_string_value(word)) + 2);
	put(l, "\r\n", 2);
	json_array_foreach(words, i, word) {
		s = json_string_value(word);
		if (used && used + widest > columns(l)) {
			put(l, "\r\n", 2);
			used = 0;
		}
		put(l, s, strlen(s));
		for (w = strlen(s); w < widest; w++)
			put(l, " ", 1);
		used += widest;
	}
	put(l, "\r\n", 2);
}

static void complete(struct lineedit *l)
{
	size_t start = l->cur, n;
	json_t *words = l->complete ? l->complete(l->line, l->cur, &start, l->arg) : NULL;
	const char *first = json_string_value(json_array_get(words, 0));
	char last;

	if (first && start <= l->cur) {
		n = common(words);
		if (json_array_size(words) > 1 && n <= l->cur - start)
			list_words(l, words);
		else
			erase(l, start, l->cur);
		if (l->cur == start)
			insert(l, first, n);
		last = l->cur ? l->line[l->cur - 1] : ' ';
		if (json_array_size(words) == 1 && last != '=')
			insert(l, " ", 1);
	}
	json_decref(words);
}

/* ---- a line ---- */

/* One key; true: the line is finished (or *eof). */
static bool handle(struct lineedit *l, int c, bool *eof)
{
	char byte = (char)c;

	switch (c) {
	case '\r': case '\n': return true;
	case KEY_EOF: *eof = true; return true;
	case CTL('D'):
		if (l->len == 0) {
			*eof = true;
			return true;
		}
		/* fall through */
	case KEY_DELETE: erase(l, l->cur, next(l, l->cur)); break;
	case CTL('C'): set_line(l, ""); put(l, "^C\r\n", 4); break;
	case CTL('H'): case 0x7f: erase(l, prev(l, l->cur), l->cur); break;
	case CTL('A'): case KEY_HOME: l->cur = 0; break;
	case CTL('E'): case KEY_END: l->cur = l->len; break;
	case CTL('B'): case KEY_LEFT: l->cur = prev(l, l->cur); break;
	case CTL('F'): case KEY_RIGHT: l->cur = next(l, l->cur); break;
	case CTL('P'): case KEY_UP: history_go(l, -1); break;
	case CTL('N'): case KEY_DOWN: history_go(l, 1); break;
	case CTL('K'): l->line[l->len = l->cur] = '\0'; break;
	case CTL('U'): erase(l, 0, l->cur); break;
	case CTL('W'): erase_word(l); break;
	case CTL('L'): put(l, "\033[H\033[2J", 7); break;
	case '\t': complete(l); break;
	default:
		if (c >= 0x20 && c < 0x100)
			insert(l, &byte, 1);
	}
	return false;
}

static const char *edit_line(struct lineedit *l, bool *woken)
{
	bool eof = false, done = false;
	int c;

	redraw(l);
	while (!done) {
		c = next_byte(l, -1);
		if (c == KEY_WOKEN) {
			*woken = true;
			put(l, "\r\033[K", 4);
			return NULL;
		}
		if (c == 0x1b)
			c = escape_key(l);
		done = handle(l, c, &eof);
		/* A paste is drawn once, at its end. */
		if (l->buf_at >= l->buf_len && !done)
			redraw(l);
	}
	l->cur = l->len;
	redraw(l);
	put(l, "\r\n", 2);
	if (!eof)
		history_add(l);
	return eof ? NULL : l->line;
}

static const char *plain_line(struct lineedit *l, bool *woken)
{
	int c;

	for (;;) {
		c = next_byte(l, -1);
		if (c == KEY_WOKEN) {
			*woken = true;
			return NULL;
		}
		if (c == '\n' || (c == KEY_EOF && l->len))
			return l->line;
		if (c == KEY_EOF)
			return NULL;
		if (c < 0x100 && c != '\r') {
			l->cur = l->len;
			insert(l, &(char){ (char)c }, 1);
		}
	}
}

const char *lineedit_read(struct lineedit *l, bool *woken)
{
	struct termios old, raw;
	const char *line;

	if (!l->interrupted) {
		set_line(l, "");
		l->at = json_array_size(l->history);
	}
	*woken = false;
	if (!l->raw || tcgetattr(l->in, &old) < 0) {
		line = plain_line(l, woken);
	} else {
		raw = old;
		cfmakeraw(&raw);
		raw.c_oflag = old.c_oflag;
		tcsetattr(l->in, TCSADRAIN, &raw);
		line = edit_line(l, woken);
		tcsetattr(l->in, TCSADRAIN, &old);
	}
	l->interrupted = *woken;
	return line;
}
