/*
 * vmm/control/commands_machine.c - QMP commands about the machine: its kind,
 * CPUs, memory size, accelerator, command line.
 *
 * Spec:    QEMU's qapi/machine.json, machine-target.json, misc.json,
 *          migration.json (capabilities only).
 * Threads: main loop.
 * Missing: CPU and memory hot-plug; system_wakeup (the guest cannot suspend).
 */
#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "vmm/base/json.h"
#include "vmm/control/qmp.h"
#include "vmm/core/arch.h"
#include "vmm/core/gmem.h"
#include "vmm/core/kvm.h"
#include "vmm/core/vcpu.h"
#include "vmm/core/vm.h"

extern const struct qmp_table qmp_table_machine;

static int query_target(struct qmp *q, void *args, json_t **ret, struct err *e)
{
	*ret = json_pack("{s:s}", "arch", arch_target());
	return 0;
}

static int query_kvm(struct qmp *q, void *args, json_t **ret, struct err *e)
{
	*ret = json_pack("{s:b,s:b}", "enabled", qmp_vm(q)->kvm != NULL, "present", 1);
	return 0;
}

static int query_machines(struct qmp *q, void *args, json_t **ret, struct err *e)
{
	const struct vm_machine_type *const *t = qmp_vm(q)->machine_types;
	json_t *o;

	*ret = json_array();
	for (; t && *t; t++) {
		o = json_pack("{s:s,s:I,s:b,s:b,s:b}", "name", (*t)->name,
			      "cpu-max", (json_int_t)(*t)->cpu_max, "hotpluggable-cpus", 0,
			      "numa-mem-supported", 0, "deprecated", 0);
		if ((*t)->alias)
			json_put_str(o, "alias", (*t)->alias);
		if ((*t)->is_default)
			json_object_set_new(o, "is-default", json_true());
		if ((*t)->default_cpu_type)
			json_put_str(o, "default-cpu-type", (*t)->default_cpu_type);
		if ((*t)->default_ram_id)
			json_put_str(o, "default-ram-id", (*t)->default_ram_id);
		json_array_append_new(*ret, o);
	}
	return 0;
}

static int query_current_machine(struct qmp *q, void *args, json_t **ret, struct err *e)
{
	*ret = json_pack("{s:b}", "wakeup-suspend-support", 0);
	return 0;
}

static int query_memory_size(struct qmp *q, void *args, json_t **ret, struct err *e)
{
	*ret = json_pack("{s:I,s:I}", "base-memory",
			 (json_int_t)gmem_ram_bytes(qmp_vm(q)->mem), "plugged-memory",
			 (json_int_t)0);
	return 0;
}

/* ---- CPUs ---- */

static void cpu_type(char *buf, size_t len, const char *model)
{
	snprintf(buf, len, "%s-%s-cpu", model, arch_target());
}

static int query_cpu_definitions(struct qmp *q, void *args, json_t **ret, struct err *e)
{
	const char *const *m = arch_cpu_models();
	json_t *missing = arch_cpu_missing(qmp_vm(q)->kvm), *o;
	char type[80];

	*ret = json_array();
	for (; *m; m++) {
		cpu_type(type, sizeof(type), *m);
		o = json_pack("{s:s,s:s,s:b,s:b,s:b}", "name", *m, "typename", type, "static", 0,
			      "migration-safe", strcmp(*m, "host") && strcmp(*m, "max"),
			      "deprecated", 0);
		if (missing)
			json_object_set(o, "unavailable-features", json_object_get(missing, *m));
		json_array_append_new(*ret, o);
	}
	json_decref(missing);
	return 0;
}

struct expansion_args {
	int type;
	json_t *model;
};

static const char *const expansion_words[] = { "static", "full", NULL };

static const struct prop expansion_args[] = {
	PROP_ENUM(struct expansion_args, type, "type", expansion_words, 0, "how far",
		  .kind = "CpuModelExpansionType", .flags = PROP_REQUIRED),
	PROP_JSON(struct expansion_args, model, "model", "model and changes to it",
		  .kind = "CpuModelInfo", .flags = PROP_REQUIRED),
	PROP_END
};

static int query_cpu_model_expansion(struct qmp *q, void *args, json_t **ret, struct err *e)
{
	struct expansion_args *a = args;
	const json_t *given = json_object_get(a->model, "props");
	const char *name = json_str(a->model, "name", "");
	json_t *props;
	int r;

	if (given && !json_is_object(given))
		return err_set(e, -EINVAL, "Invalid parameter type for 'model.props', "
			       "expected: object");
	r = arch_cpu_expand(qmp_vm(q)->kvm, name, given, &props, e);
	if (r == 0)
		*ret = json_pack("{s:{s:s,s:o}}", "model", "name", name, "props", props);
	return r;
}

/* The thread that runs it. While there is none (not started yet) it is the
 * main thread, because clients take 0 for a broken reply. */
static json_int_t thread_of(const struct vcpu *v)
{
	pid_t tid = atomic_load(&v->tid);

	return tid ? tid : getpid();
}

static int query_cpus_fast(struct qmp *q, void *args, json_t **ret, struct err *e)
{
	struct vm *vm = qmp_vm(q);
	char path[64];

	*ret = json_array();
	for (uint32_t i = 0; i < vm->vcpu_count; i++) {
		snprintf(path, sizeof(path), "/machine/unattached/device[%u]", i);
		json_array_append_new(*ret, json_pack("{s:I,s:s,s:I,s:o,s:s}",
			"cpu-index", (json_int_t)i, "qom-path", path,
			"thread-id", thread_of(vm->vcpu[i]), "props", arch_cpu_place(vm, i),
			"target", arch_target()));
	}
	return 0;
}

static const char *cpu_model(const struct vm *vm, char *buf, size_t len)
{
	const char *text = json_str(vm->desc, "cpu", "host");

	snprintf(buf, len, "%.*s", (int)strcspn(text, ","), text);
	return buf;
}

static int query_hotpluggable_cpus(struct qmp *q, void *args, json_t **ret, struct err *e)
{
	struct vm *vm = qmp_vm(q);
	char path[64], type[80], model[48];

	if (!vm->vcpu_count)
		return err_set(e, -ENOTSUP, "machine does not support hot-plugging CPUs");
	cpu_type(type, sizeof(type), cpu_model(vm, model, sizeof(model)));
	*ret = json_array();
	for (uint32_t i = vm->vcpu_count; i-- > 0;) {
		snprintf(path, sizeof(path), "/machine/unattached/device[%u]", i);
		json_array_append_new(*ret, json_pack("{s:s,s:I,s:o,s:s}", "type", type,
			"vcpus-count", (json_int_t)1, "props", arch_cpu_place(vm, i),
			"qom-path", path));
	}
	return 0;
}

static int inject_nmi(struct qmp *q, void *args, json_t **ret, struct err *e)
{
	return arch_inject_nmi(qmp_vm(q), e);
}

/* ---- command line ---- */

struct option_args {
	char *option;
};

static const struct prop option_args[] = {
	PROP_STR(struct option_args, option, "option", NULL, "one option's group"),
	PROP_END
};

static int query_command_line_options(struct qmp *q, void *args, json_t **ret, struct err *e)
{
	struct option_args *a = args;
	struct vm *vm = qmp_vm(q);
	json_t *all = vm->describe_options ? vm->describe_options() : json_array(), *o;
	size_t i;

	if (!a->option) {
		*ret = all;
		return 0;
	}
	*ret = json_array();
	json_array_foreach(all, i, o)
		if (strcmp(json_str(o, "option", ""), a->option) == 0)
			json_array_append(*ret, o);
	json_decref(all);
	if (json_array_size(*ret))
		return 0;
	return err_set(e, -EINVAL, "invalid option name: %.80s", a->option);
}

/* ---- migration: there is none, but clients look before they leap ---- */

static int query_migrate_capabilities(struct qmp *q, void *args, json_t **ret, struct err *e)
{
	*ret = json_pack("[{s:s,s:b}]", "capability", "events", "state",
			 *qmp_state(q, &qmp_table_machine) != NULL);
	return 0;
}

struct capability_args {
	json_t *list;
};

static const struct prop capability_args[] = {
	PROP_JSON(struct capability_args, list, "capabilities", "capabilities and their state",
		  .kind = "[MigrationCapabilityStatus]", .flags = PROP_REQUIRED),
	PROP_END
};

/* "events" is the only one; it is remembered and shown. */
static int migrate_set_capabilities(struct qmp *q, void *args, json_t **ret, struct err *e)
{
	struct capability_args *a = args;
	json_t *c;
	size_t i;

	json_array_foreach(a->list, i, c)
		*qmp_state(q, &qmp_table_machine) =
			json_is_true(json_object_get(c, "state")) ? q : NULL;
	return 0;
}

static const struct qmp_cmd cmds[] = {
	{ .name = "query-target", .help = "the guest's architecture", .run = query_target,
	  .ret = "TargetInfo", .flags = QMP_OOB },
	{ .name = "query-kvm", .help = "whether KVM is there and in use", .run = query_kvm,
	  .ret = "KvmInfo", .flags = QMP_OOB },
	{ .name = "query-machines", .help = "machine types", .run = query_machines,
	  .ret = "[MachineInfo]" },
	{ .name = "query-current-machine", .help = "what this machine can do",
	  .run = query_current_machine, .ret = "CurrentMachineParams" },
	{ .name = "query-memory-size-summary", .help = "bytes of guest memory",
	  .run = query_memory_size, .ret = "MemoryInfo" },
	{ .name = "query-cpu-definitions", .help = "CPU models and what this host lacks of them",
	  .run = query_cpu_definitions, .ret = "[CpuDefinitionInfo]" },
	{ .name = "query-cpu-model-expansion", .help = "features of a CPU model",
	  .args = expansion_args, .args_size = sizeof(struct expansion_args),
	  .run = query_cpu_model_expansion, .ret = "CpuModelExpansionInfo" },
	{ .name = "query-cpus-fast", .help = "vCPUs, their places and threads",
	  .run = query_cpus_fast, .ret = "[CpuInfoFast]" },
	{ .name = "query-hotpluggable-cpus", .help = "places for vCPUs; all are taken",
	  .run = query_hotpluggable_cpus, .ret = "[HotpluggableCPU]" },
	{ .name = "inject-nmi", .help = "a non-maskable interrupt on every vCPU",
	  .run = inject_nmi },
	{ .name = "query-command-line-options", .help = "options and their parameters",
	  .args = option_args, .args_size = sizeof(struct option_args),
	  .run = query_command_line_options, .ret = "[CommandLineOptionInfo]" },
	{ .name = "query-migrate-capabilities", .help = "migration's switches",
	  .run = query_migrate_capabilities, .ret = "[MigrationCapabilityStatus]" },
	{ .name = "migrate-set-capabilities", .help = "set migration's switches",
	  .args = capability_args, .args_size = sizeof(struct capability_args),
	  .run = migrate_set_capabilities },
	{ 0 }
};

/* ---- types ---- */

/* QEMU's SysEmuTarget has every architecture; these are the ones there are. */
static const char *const target_words[] = { "aarch64", "x86_64", NULL };
static const char *const parameter_words[] = {
	"string", "boolean", "number", "size", NULL
};
static const char *const migration_words[] = { "events", NULL };
static const struct qmp_member target_info[] = { { "arch", "SysEmuTarget" }, { 0 } };
static const struct qmp_member kvm_info[] = {
	{ "enabled", "bool" }, { "present", "bool" }, { 0 }
};
static const struct qmp_member machine_info[] = {
	{ "name", "str" }, { "*alias", "str" }, { "*is-default", "bool" }, { "cpu-max", "int" },
	{ "hotpluggable-cpus", "bool" }, { "numa-mem-supported", "bool" },
	{ "deprecated", "bool" }, { "*default-cpu-type", "str" },
	{ "*default-ram-id", "str" }, { 0 }
};
static const struct qmp_member current_machine[] = {
	{ "wakeup-suspend-support", "bool" }, { 0 }
};
static const struct qmp_member memory_info[] = {
	{ "base-memory", "int" }, { "*plugged-memory", "int" }, { 0 }
};
static const struct qmp_member cpu_definition[] = {
	{ "name", "str" }, { "*migration-safe", "bool" }, { "static", "bool" },
	{ "*unavailable-features", "[str]" }, { "typename", "str" }, { "deprecated", "bool" },
	{ 0 }
};
static const struct qmp_member cpu_model_info[] = {
	{ "name", "str" }, { "*props", "any" }, { 0 }
};
static const struct qmp_member cpu_expansion[] = { { "model", "CpuModelInfo" }, { 0 } };
static const struct qmp_member cpu_place[] = {
	{ "*node-id", "int" }, { "*socket-id", "int" }, { "*die-id", "int" }, { "*core-id", "int" },
	{ "*thread-id", "int" }, { 0 }
};
static const struct qmp_member cpu_fast[] = {
	{ "cpu-index", "int" }, { "qom-path", "str" }, { "thread-id", "int" },
	{ "*props", "CpuInstanceProperties" }, { "target", "SysEmuTarget" }, { 0 }
};
static const struct qmp_member hotpluggable[] = {
	{ "type", "str" }, { "vcpus-count", "int" }, { "props", "CpuInstanceProperties" },
	{ "*qom-path", "str" }, { 0 }
};
static const struct qmp_member parameter_info[] = {
	{ "name", "str" }, { "type", "CommandLineParameterType" }, { "*help", "str" }, { 0 }
};
static const struct qmp_member option_info[] = {
	{ "option", "str" }, { "parameters", "[CommandLineParameterInfo]" }, { 0 }
};
static const struct qmp_member capability_status[] = {
	{ "capability", "MigrationCapability" }, { "state", "bool" }, { 0 }
};

static const struct qmp_type types[] = {
	{ .name = "SysEmuTarget", .meta = QMP_ENUM, .words = target_words },
	{ .name = "TargetInfo", .members = target_info },
	{ .name = "KvmInfo", .members = kvm_info },
	{ .name = "MachineInfo", .members = machine_info },
	{ .name = "CurrentMachineParams", .members = current_machine },
	{ .name = "MemoryInfo", .members = memory_info },
	{ .name = "CpuDefinitionInfo", .members = cpu_definition },
	{ .name = "CpuModelInfo", .members = cpu_model_info },
	{ .name = "CpuModelExpansionInfo", .members = cpu_expansion },
	{ .name = "CpuInstanceProperties", .members = cpu_place },
	{ .name = "CpuInfoFast", .members = cpu_fast },
	{ .name = "HotpluggableCPU", .members = hotpluggable },
	{ .name = "CommandLineParameterType", .meta = QMP_ENUM, .words = parameter_words },
	{ .name = "CommandLineParameterInfo", .members = parameter_info },
	{ .name = "CommandLineOptionInfo", .members = option_info },
	{ .name = "MigrationCapability", .meta = QMP_ENUM, .words = migration_words },
	{ .name = "MigrationCapabilityStatus", .members = capability_status },
	{ 0 }
};

const struct qmp_table qmp_table_machine = { .cmds = cmds, .types = types };
