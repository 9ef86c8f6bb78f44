/*
 * vmm/run/lib_inspect.c - libroost: guest memory and registers.
 *
 * Spec:    include/roost.h.
 * Threads: memory in the caller's thread, registers on the VM's main loop.
 * Missing: other registers than those of arch_register_name().
 */
#include <errno.h>
#include <inttypes.h>
#include <string.h>

#include "vmm/base/util.h"
#include "vmm/core/arch.h"
#include "vmm/core/vcpu.h"
#include "vmm/run/lib.h"

/* Memory stays mapped as long as the VM lives, and a reference keeps that. */
static int copy(struct roost_vm *vm, uint64_t addr, void *to, const void *from, size_t len,
		struct roost_error *e)
{
	struct lib_vm *v;
	int r;

	if (len && !to && !from)
		return lib_fail(e, -EINVAL, "the buffer is NULL");
	v = lib_get(vm, e);
	if (!v)
		return vm ? -ESTALE : -EINVAL;
	r = to ? gmem_read(v->vm->mem, gpa(addr), to, len) :
		gmem_write(v->vm->mem, gpa(addr), from, len);
	if (r)
		r = lib_fail(e, r, "0x%" PRIx64 "..0x%" PRIx64 " is not all guest memory", addr,
			     addr + len - 1);
	lib_put(v);
	return r;
}

int roost_memory_read(struct roost_vm *vm, uint64_t addr, void *buf, size_t len,
		      struct roost_error *e)
{
	return copy(vm, addr, buf, NULL, len, e);
}

int roost_memory_write(struct roost_vm *vm, uint64_t addr, const void *buf, size_t len,
		       struct roost_error *e)
{
	return copy(vm, addr, NULL, buf, len, e);
}

/* ---- registers ---- */

struct reg_access {
	unsigned int cpu;
	int reg;
	bool write;
	uint64_t value;
};

/*
 * Out of the guest for a moment. A vCPU that parked because it asked for a
 * reset or shutdown has its request pending now that all are parked, and must
 * wait for that to be served.
 */
static int access_register(struct lib_vm *v, void *arg, struct err *e)
{
	struct reg_access *a = arg;
	struct vm *vm = v->vm;
	struct vcpu *c = a->cpu < vm->vcpu_count ? vm->vcpu[a->cpu] : NULL;
	bool runs = atomic_load(&vm->state) == VM_RUNNING && !vm->resetting;
	int r;

	if (!c)
		return err_set(e, -EINVAL, "there is no vCPU %u; the VM has %u", a->cpu,
			       vm->vcpu_count);
	if (runs)
		vcpu_park_all(vm);
	r = a->write ? arch_register_write(c, (unsigned int)a->reg, a->value, e) :
		arch_register_read(c, (unsigned int)a->reg, &a->value, e);
	if (runs && !(atomic_load(&vm->requests) & ~BIT(VM_REQ_POWERDOWN)))
		vcpu_run_all(vm);
	return r;
}

static int find_register(const char *name, struct roost_error *e)
{
	const char *word;

	for (unsigned int i = 0; name && (word = arch_register_name(i)); i++)
		if (strcmp(word, name) == 0)
			return (int)i;
	return lib_fail(e, -EINVAL, "there is no register '%.32s'; roost_register_name() tells "
			"which there are", name ? name : "(NULL)");
}

int roost_register_read(struct roost_vm *vm, unsigned int cpu, const char *name, uint64_t *value,
			struct roost_error *e)
{
	struct reg_access a = { .cpu = cpu };
	int r;

	if (!value)
		return lib_fail(e, -EINVAL, "there is no place for the value");
	a.reg = find_register(name, e);
	if (a.reg < 0)
		return a.reg;
	r = lib_call(vm, access_register, &a, e);
	if (r == 0)
		*value = a.value;
	return r;
}

int roost_register_write(struct roost_vm *vm, unsigned int cpu, const char *name, uint64_t value,
			 struct roost_error *e)
{
	struct reg_access a = { .cpu = cpu, .write = true, .value = value };

	a.reg = find_register(name, e);
	return a.reg < 0 ? a.reg : lib_call(vm, access_register, &a, e);
}

const char *roost_register_name(unsigned int index)
{
	return arch_register_name(index);
}
