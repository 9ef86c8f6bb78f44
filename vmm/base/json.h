/*
 * vmm/base/json.h - glue over jansson: command-line syntax to JSON.
 */
#ifndef VMM_BASE_JSON_H
#define VMM_BASE_JSON_H

#include <jansson.h>

#include "vmm/base/err.h"

/*
 * "virtio-blk-pci,drive=d0,file.driver=raw" -> {"driver":"virtio-blk-pci",
 * "drive":"d0","file":{"driver":"raw"}}. @implied names the key of a first
 * word without '=' (NULL: none allowed); later words without '=' are
 * booleans ("on"; "noX" is not special). ",," is a literal comma. A text that
 * starts with '{' is parsed as JSON instead. Of a name that comes twice the last
 * value counts. @nest: JSON_NEST, dots make objects (as for -blockdev); JSON_JOIN,
 * values of a name that comes twice are joined by commas (cpus= of -numa).
 * Returns a new object or NULL with @e set.
 */
enum { JSON_FLAT, JSON_NEST, JSON_JOIN };
json_t *json_from_keyval(const char *text, const char *implied, int nest,
			 const char *what, struct err *e);

/* Member lookups that never fail: @def when absent or of another type. */
const char *json_str(const json_t *o, const char *key, const char *def);

/* Shorthand for json_object_set_new(o, key, json_string(v)). */
void json_put_str(json_t *o, const char *key, const char *v);

#endif
