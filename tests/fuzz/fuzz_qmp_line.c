/*
 * tests/fuzz/fuzz_qmp_line.c - the monitor's language: any line, completed at
 * any place, by any schema. Input: the line, a NUL, what query-qmp-schema said.
 */
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "vmm/run/qmp_line.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	size_t len = strnlen((const char *)data, size), start;
	char *line = calloc(1, len + 1);
	json_t *schema = NULL, *index, *words;
	struct err e = ERR_INIT;

	memcpy(line, data, len);
	if (len + 1 < size)
		schema = json_loadb((const char *)data + len + 1, size - len - 1, JSON_DECODE_ANY,
				    NULL);
	index = qmp_line_index(schema);
	json_decref(qmp_line_parse(line, index, &e));
	for (size_t cursor = 0; cursor <= len; cursor += 1 + len / 16) {
		words = qmp_line_complete(line, cursor, &start, index);
		if (start > cursor)
			abort();
		json_decref(words);
	}
	json_decref(schema);
	json_decref(index);
	free(line);
	return 0;
}
