/*
 * vmm/run/qmp_line.h - the monitor's language: "device_add driver=virtio-rng-pci"
 * to a QMP request, and what may come next, both by query-qmp-schema.
 *
 * Threads: any one at a time.
 */
#ifndef VMM_RUN_QMP_LINE_H
#define VMM_RUN_QMP_LINE_H

#include <jansson.h>
#include <stddef.h>

#include "vmm/base/err.h"

/* By name, from what query-qmp-schema returned (borrowed; any JSON is safe). A
 * new object for the two functions below. */
json_t *qmp_line_index(const json_t *schema);

/*
 * A request from @line: a command and k=v arguments, or a JSON object as it
 * is. Dots in a name nest objects; quotes keep spaces; a value is made what
 * the schema's type says, or JSON when it begins with { or [. NULL with @e.
 */
json_t *qmp_line_parse(const char *line, const json_t *index, struct err *e);

/* A lineedit_complete; @arg is the index. */
json_t *qmp_line_complete(const char *line, size_t cursor, size_t *start, void *arg);

#endif
