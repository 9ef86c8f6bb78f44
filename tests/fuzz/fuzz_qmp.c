/*
 * tests/fuzz/fuzz_qmp.c - one QMP request of any shape, executed in process.
 */
#include <stdint.h>
#include <stdlib.h>

#include "vmm/base/log.h"
#include "vmm/control/qmp.h"
#include "vmm/core/vm.h"

static void quiet(enum log_level level, const char *line, void *arg)
{
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len)
{
	static struct vm *vm;
	static struct qmp *q;
	struct loop *loop;
	json_t *req;

	if (!vm) {
		log_set_sink(quiet, NULL);
		if (loop_create(&loop, "main", LOOP_AIO_THREADS, NULL))
			abort();
		vm = vm_create(loop);
		q = qmp_create(vm);
	}
	req = json_loadb((const char *)data, len, JSON_REJECT_DUPLICATES | JSON_DECODE_ANY, NULL);
	if (req)
		json_decref(qmp_execute(q, req));
	json_decref(req);
	return 0;
}
