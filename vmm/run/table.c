/*
 * vmm/run/table.c - rows of JSON as an aligned table, or as JSON.
 */
#include "vmm/run/table.h"

#include <stdlib.h>
#include <string.h>

#include "vmm/base/util.h"

#define COLS_MAX 12

static char *size_text(json_int_t bytes)
{
	static const char units[] = " KMGTPE";
	double v = (double)bytes;
	int u = 0;

	while (v >= 1024 && units[u + 1]) {
		v /= 1024;
		u++;
	}
	if (u == 0)
		return xasprintf("%lld", (long long)bytes);
	return xasprintf(v == (double)(long long)v ? "%.0f%c" : "%.1f%c", v, units[u]);
}

static char *seconds_text(json_int_t s)
{
	if (s >= 86400)
		return xasprintf("%lldd%02lldh", (long long)s / 86400, (long long)s / 3600 % 24);
	if (s >= 3600)
		return xasprintf("%lldh%02lldm", (long long)s / 3600, (long long)s / 60 % 60);
	if (s >= 60)
		return xasprintf("%lldm%02llds", (long long)s / 60, (long long)s % 60);
	return xasprintf("%llds", (long long)s);
}

static char *list_text(const json_t *list)
{
	char *s = xstrdup(""), *longer;
	const json_t *item;
	size_t i;

	json_array_foreach(list, i, item) {
		longer = xasprintf("%s%s%s", s, i ? "," : "",
				   json_is_string(item) ? json_string_value(item) : "?");
		free(s);
		s = longer;
	}
	return s;
}

static char *plain_text(const json_t *val)
{
	char *s;

	if (json_is_string(val))
		return xstrdup(json_string_value(val));
	if (json_is_boolean(val))
		return xstrdup(json_is_true(val) ? "yes" : "no");
	s = json_dumps(val, JSON_ENCODE_ANY | JSON_COMPACT);
	return s ? s : xstrdup("?");
}

char *table_cell(enum table_kind kind, const json_t *val)
{
	char *s;

	if (!val || json_is_null(val) || (json_is_array(val) && !json_array_size(val)))
		return xstrdup("-");
	if (kind == TABLE_SIZE && json_is_integer(val))
		s = size_text(json_integer_value(val));
	else if (kind == TABLE_SECONDS && json_is_integer(val))
		s = seconds_text(json_integer_value(val));
	else if (kind == TABLE_LIST && json_is_array(val))
		s = list_text(val);
	else
		s = plain_text(val);
	util_printable(s);
	return s;
}

/* Characters, not bytes: continuation bytes of UTF-8 take no column. */
static size_t width(const char *s)
{
	size_t n = 0;

	for (; *s; s++)
		n += ((unsigned char)*s & 0xc0) != 0x80;
	return n;
}

static void print_cell(FILE *f, const char *s, size_t col_width, bool last)
{
	fputs(s, f);
	for (size_t n = width(s); !last && n < col_width + 2; n++)
		fputc(' ', f);
}

static void print_text(FILE *f, const struct table_col *cols, const json_t *rows)
{
	size_t widths[COLS_MAX] = { 0 }, n = 0, i;
	const json_t *row;
	char *cell;

	for (; cols[n].key && n < COLS_MAX; n++)
		widths[n] = width(cols[n].head);
	json_array_foreach(rows, i, row) {
		for (size_t c = 0; c < n; c++) {
			cell = table_cell(cols[c].kind, json_object_get(row, cols[c].key));
			widths[c] = MAX(widths[c], width(cell));
			free(cell);
		}
	}
	for (size_t c = 0; c < n; c++)
		print_cell(f, cols[c].head, widths[c], c + 1 == n);
	fputc('\n', f);
	json_array_foreach(rows, i, row) {
		for (size_t c = 0; c < n; c++) {
			cell = table_cell(cols[c].kind, json_object_get(row, cols[c].key));
			print_cell(f, cell, widths[c], c + 1 == n);
			free(cell);
		}
		fputc('\n', f);
	}
}

void table_print(FILE *f, const struct table_col *cols, const json_t *rows, bool json)
{
	if (!json) {
		print_text(f, cols, rows);
		return;
	}
	json_dumpf(rows, f, JSON_INDENT(2));
	fputc('\n', f);
}
