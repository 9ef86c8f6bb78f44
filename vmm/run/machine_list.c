/*
 * vmm/run/machine_list.c - the machines there are, and the one that is none.
 *
 * Threads: main loop.
 */
#include <errno.h>
#include <stddef.h>
#include <string.h>

#include "vmm/base/json.h"
#include "vmm/base/log.h"
#include "vmm/core/kvm.h"
#include "vmm/core/vm.h"
#include "vmm/run/machine.h"

static const struct vm_machine_type none_type = {
	.name = "none", .help = "empty machine", .cpu_max = 1, .default_ram_id = "ram",
};

const struct vm_machine_type *const machine_list[] = {
	&machine_q35_type, &none_type, NULL
};

int machine_check_type(const char *type, struct err *e)
{
	for (int i = 0; machine_list[i]; i++)
		if (strcmp(machine_list[i]->name, type) == 0 ||
		    (machine_list[i]->alias && strcmp(machine_list[i]->alias, type) == 0))
			return 0;
	return err_set(e, -EINVAL, "-machine %s: no such machine; roost has %s", type,
		       machine_list[0]->alias);
}

int machine_check_accel(const char *accel, struct err *e)
{
	size_t n = strcspn(accel, ":");

	if (n == 3 && strncmp(accel, "kvm", n) == 0)
		return 0;
	return err_set(e, -EINVAL, "accel=%s: roost runs on KVM only; use accel=kvm", accel);
}

bool machine_is_none(const json_t *desc)
{
	return strcmp(json_str(json_object_get(desc, "machine"), "type", ""), "none") == 0;
}

static int none_boot(struct vm *vm, struct err *e)
{
	return err_set(e, -EINVAL, "-machine none has no CPU to start; use -machine q35");
}

static const struct vm_machine_ops none_ops = { .name = "none", .boot = none_boot };

int machine_none_create(struct vm *vm, struct err *e)
{
	const json_t *m = json_object_get(vm->desc, "machine");
	struct err why = ERR_INIT;
	int r;

	vm->machine = &none_ops;
	r = machine_check_accel(json_str(m, "accel", "kvm"), e);
	if (r == 0 && kvm_open(&vm->kvm, "/dev/kvm", &why) < 0)
		log_info("%s; nothing can run here", why.text);
	return r;
}
