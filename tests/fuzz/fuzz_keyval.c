/*
 * tests/fuzz/fuzz_keyval.c - option syntax and property tables on any bytes.
 */
#include <stdbool.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "vmm/base/json.h"
#include "vmm/base/prop.h"
#include "vmm/base/util.h"

struct obj {
	bool on;
	int word;
	uint32_t u32;
	uint64_t size;
	int64_t i64;
	char *text;
	json_t *any;
};

static const char *const words[] = { "red", "green", NULL };
static const struct prop props[] = {
	PROP_BOOL(struct obj, on, "on", 1, "a switch"),
	PROP_ENUM(struct obj, word, "word", words, 1, "a colour"),
	PROP_U32(struct obj, u32, "u32", 1, 200, 7, "a number"),
	PROP_SIZE(struct obj, size, "size", 512, 1ull << 40, 4096, "a size"),
	PROP_I64(struct obj, i64, "i64", INT64_MIN, INT64_MAX, -1, "a signed number"),
	PROP_STR(struct obj, text, "text", "hello", "a text"),
	PROP_JSON(struct obj, any, "any", "anything"),
	PROP_END
};
static const struct prop *const tables[] = { props, NULL };

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len)
{
	struct err e = ERR_INIT;
	struct obj o = { 0 };
	json_t *args;
	char *text;

	if (len < 1)
		return 0;
	text = calloc(1, len);
	memcpy(text, data + 1, len - 1);
	args = json_from_keyval(text, data[0] & 1 ? "text" : NULL, data[0] & 2, "obj", &e);
	prop_defaults(tables, &o);
	if (args)
		prop_apply(tables, &o, args, NULL, "obj", &e);
	for (const struct prop *p = props; p->type != PROP_T_END; p++)
		json_decref(prop_get(p, &o));
	prop_free(tables, &o);
	json_decref(args);
	free(text);
	return 0;
}
