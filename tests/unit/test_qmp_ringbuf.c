/*
 * tests/unit/test_qmp_ringbuf.c - ringbuf-read and ringbuf-write.
 */
#include <stdlib.h>

#include "tests/unit/lib_char.h"
#include "vmm/base/json.h"
#include "vmm/control/qmp.h"
#include "vmm/core/vm.h"

static struct vm *vm;
static struct qmp *qmp;
static struct chardev *ring;

static void begin(void)
{
	char_test_begin();
	vm = vm_create(l);
	vm->chars = set;
	qmp = qmp_create(vm);
	cr_assert_eq(try_add(&ring, "ringbuf,id=r,size=64"), 0);
	connected(ring);
}

static void end(void)
{
	qmp_destroy(qmp);
	vm->chars = NULL;
	vm_destroy(vm);
	char_test_end();
}

TestSuite(qmpringbuf, .init = begin, .fini = end);

/* "return" as a text, or the error's sentence; the caller's to free. */
static char *run(const char *command, const char *arguments)
{
	json_t *args = json_loads(arguments, 0, NULL), *reply, *ret;
	json_t *request = json_pack("{s:s, s:o}", "execute", command, "arguments", args);
	char *text;

	reply = qmp_execute(qmp, request);
	json_decref(request);
	ret = json_object_get(reply, "return");
	text = xstrdup(json_is_string(ret) ? json_string_value(ret) : ret ? "{}" :
		       json_str(json_object_get(reply, "error"), "desc", "?"));
	json_decref(reply);
	return text;
}

static void expect(const char *command, const char *arguments, const char *want)
{
	char *got = run(command, arguments);

	cr_expect_str_eq(got, want, "%s %s: %s", command, arguments, got);
	free(got);
}

Test(qmpringbuf, test_ringbuf_read_gives_text_once)
{
	write_all(ring, "boot: ok");
	expect("ringbuf-read", "{\"device\": \"r\", \"size\": 4}", "boot");
	expect("ringbuf-read", "{\"device\": \"r\", \"size\": 100}", ": ok");
	expect("ringbuf-read", "{\"device\": \"r\", \"size\": 100}", "");
	cr_assert_eq(char_write(ring, "a\xff" "b", 3), 3);
	expect("ringbuf-read", "{\"device\": \"r\", \"size\": 100}", "a?b");
}

Test(qmpringbuf, test_ringbuf_base64_is_the_standards)
{
	/* RFC 4648 s10 */
	static const char *const pairs[][2] = {
		{ "", "" }, { "f", "Zg==" }, { "fo", "Zm8=" }, { "foo", "Zm9v" },
		{ "foob", "Zm9vYg==" }, { "fooba", "Zm9vYmE=" }, { "foobar", "Zm9vYmFy" },
	};
	char args[128];
	size_t i;

	for (i = 0; i < ARRAY_LEN(pairs); i++) {
		write_all(ring, pairs[i][0]);
		expect("ringbuf-read", "{\"device\": \"r\", \"size\": 64, \"format\": \"base64\"}",
		       pairs[i][1]);
		snprintf(args, sizeof(args), "{\"device\": \"r\", \"data\": \"%s\", "
			 "\"format\": \"base64\"}", pairs[i][1]);
		rec.in_len = 0;
		expect("ringbuf-write", args, "{}");
		cr_expect_eq(rec.in_len, strlen(pairs[i][0]));
		cr_expect_arr_eq(rec.in, pairs[i][0], rec.in_len);
	}
}

Test(qmpringbuf, test_ringbuf_mistakes_are_named)
{
	cr_assert_eq(try_add(NULL, "null,id=n"), 0);
	expect("ringbuf-read", "{\"device\": \"x\", \"size\": 4}", "Device 'x' not found");
	expect("ringbuf-read", "{\"device\": \"n\", \"size\": 4}",
	       "chardev 'n' is a null; only a ringbuf can be read and written this way");
	expect("ringbuf-write", "{\"device\": \"r\", \"data\": \"Zg=\", \"format\": \"base64\"}",
	       "data is not base64");
	expect("ringbuf-write", "{\"device\": \"r\", \"data\": \"Z*==\", \"format\": \"base64\"}",
	       "data is not base64");
	free(run("ringbuf-read", "{\"device\": \"r\", \"size\": -1}"));
}
