/*
 * vmm/run/table.h - rows of JSON as an aligned table, or as JSON.
 */
#ifndef VMM_RUN_TABLE_H
#define VMM_RUN_TABLE_H

#include <jansson.h>
#include <stdbool.h>
#include <stdio.h>

enum table_kind {
	TABLE_TEXT,	/* a string, number or boolean as it is */
	TABLE_SIZE,	/* bytes: 1.5G */
	TABLE_SECONDS,	/* 3d04h, 2h05m, 1m07s, 9s */
	TABLE_LIST,	/* an array of strings, with commas */
};

struct table_col {
	const char *key;	/* of the row's object; NULL ends the columns */
	const char *head;
	enum table_kind kind;
};

/*
 * Print @rows, an array of objects, to @f. As a table: a missing member is "-",
 * control characters become '?' because the texts come from other processes.
 * @json: the rows as they are. Any thread.
 */
void table_print(FILE *f, const struct table_col *cols, const json_t *rows, bool json);

/* One cell's text, the caller's to free. */
char *table_cell(enum table_kind kind, const json_t *val);

#endif
