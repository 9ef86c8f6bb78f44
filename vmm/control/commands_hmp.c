/*
 * vmm/control/commands_hmp.c - human-monitor-command: what people and scripts
 * read, in the shapes QEMU's monitor prints them.
 *
 * Spec:    QEMU's hmp-commands-info; the command itself in qapi/misc.json.
 * Threads: main loop.
 * Missing: everything that is not one of the "info" words below.
 */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "pci/pci.h"
#include "vmm/base/json.h"
#include "vmm/base/util.h"
#include "vmm/base/version.h"
#include "vmm/control/qmp.h"
#include "vmm/control/qom.h"
#include "vmm/core/arch.h"
#include "vmm/core/bus.h"
#include "vmm/core/dev_bus.h"
#include "vmm/core/gmem.h"
#include "vmm/core/vcpu.h"
#include "vmm/core/vm.h"

struct hmp {
	struct qmp *q;
	struct vm *vm;
	FILE *f;
	uint32_t cpu;
	const char *arg;	/* what follows the word, or "" */
};

/* The reply of a query, or NULL; a new reference. */
static json_t *ask(struct hmp *h, const char *cmd)
{
	json_t *req = json_pack("{s:s}", "execute", cmd);
	json_t *reply = qmp_execute(h->q, req), *ret = json_incref(json_object_get(reply, "return"));

	json_decref(req);
	json_decref(reply);
	return ret;
}

static void info_status(struct hmp *h)
{
	int s = atomic_load(&h->vm->state);

	fprintf(h->f, "VM status: %s%s%s%s\n", s == VM_RUNNING ? "running" : "paused",
		s == VM_RUNNING || s == VM_PAUSED ? "" : " (",
		s == VM_RUNNING || s == VM_PAUSED ? "" : vm_state_name((enum vm_state)s),
		s == VM_RUNNING || s == VM_PAUSED ? "" : ")");
}

static void info_version(struct hmp *h)
{
	fprintf(h->f, "%d.%d.%droost %s\n", QMP_QEMU_MAJOR, QMP_QEMU_MINOR, QMP_QEMU_MICRO,
		ROOST_VERSION);
}

static void info_name(struct hmp *h)
{
	if (h->vm->name)
		fprintf(h->f, "%s\n", h->vm->name);
}

static void info_uuid(struct hmp *h)
{
	json_t *r = ask(h, "query-uuid");

	fprintf(h->f, "%s\n", json_str(r, "UUID", ""));
	json_decref(r);
}

static void info_cpus(struct hmp *h)
{
	for (uint32_t i = 0; i < h->vm->vcpu_count; i++)
		fprintf(h->f, "%c CPU #%u: thread_id=%d\n", i == h->cpu ? '*' : ' ', i,
			(int)atomic_load(&h->vm->vcpu[i]->tid));
}

static void info_registers(struct hmp *h)
{
	bool all = strcmp(h->arg, "-a") == 0, run = atomic_load(&h->vm->state) == VM_RUNNING;
	char *text;

	vcpu_park_all(h->vm);
	for (uint32_t i = 0; i < h->vm->vcpu_count; i++) {
		if (!all && i != h->cpu)
			continue;
		text = arch_vcpu_registers(h->vm->vcpu[i]);
		fprintf(h->f, "\nCPU#%u\n%s", i, text);
		free(text);
	}
	/* A vCPU that asked for the end or a reset has parked to wait for that. */
	if (run && !h->vm->resetting &&
	    !(atomic_load(&h->vm->requests) & ~BIT(VM_REQ_POWERDOWN)))
		vcpu_run_all(h->vm);
}

static void info_chardev(struct hmp *h)
{
	json_t *r = ask(h, "query-chardev"), *c;
	size_t i;

	json_array_foreach(r, i, c)
		fprintf(h->f, "%s: filename=%s\n", json_str(c, "label", ""),
			json_str(c, "filename", ""));
	json_decref(r);
}

static void print_disk(struct hmp *h, const json_t *d)
{
	const json_t *ins = json_object_get(d, "inserted");
	const json_t *cache = json_object_get(ins, "cache");
	const char *name = json_str(d, "device", "");

	fprintf(h->f, "%s%s%s%s", name, *name ? " (" : "", json_str(ins, "node-name", ""),
		*name ? ")" : "");
	fprintf(h->f, ": %s (%s%s)\n", json_str(ins, "file", ""), json_str(ins, "drv", ""),
		json_is_true(json_object_get(ins, "ro")) ? ", read-only" : "");
	if (json_object_get(d, "qdev"))
		fprintf(h->f, "    Attached to:      %s\n", json_str(d, "qdev", ""));
	if (json_object_get(d, "io-status") && strcmp(json_str(d, "io-status", "ok"), "ok"))
		fprintf(h->f, "    I/O status:       %s\n", json_str(d, "io-status", ""));
	fprintf(h->f, "    Cache mode:       %s%s%s\n",
		json_is_true(json_object_get(cache, "writeback")) ? "writeback" : "writethrough",
		json_is_true(json_object_get(cache, "direct")) ? ", direct" : "",
		json_is_true(json_object_get(cache, "no-flush")) ? ", ignore flushes" : "");
}

static void info_block(struct hmp *h)
{
	json_t *r = ask(h, "query-block"), *d;
	size_t i;

	json_array_foreach(r, i, d) {
		if (i)
			fprintf(h->f, "\n");
		print_disk(h, d);
	}
	json_decref(r);
}

static long long num(const json_t *o, const char *key)
{
	return json_integer_value(json_object_get(o, key));
}

static void print_regions(struct hmp *h, const json_t *d)
{
	json_t *r;
	size_t i;

	json_array_foreach(json_object_get(d, "regions"), i, r) {
		bool io = strcmp(json_str(r, "type", ""), "io") == 0;

		fprintf(h->f, "      BAR%lld: %s at 0x%0*llx [0x%0*llx].\n", num(r, "bar"),
			io ? "I/O" : json_is_true(json_object_get(r, "mem_type_64")) ?
			"64 bit memory" : "32 bit memory", io ? 4 : 8, num(r, "address"),
			io ? 4 : 8, num(r, "address") + num(r, "size") - 1);
	}
}

static void print_functions(struct hmp *h, const json_t *devices, int depth)
{
	const json_t *id, *bridge;
	json_t *d;
	size_t i;

	json_array_foreach((json_t *)(uintptr_t)devices, i, d) {
		id = json_object_get(d, "id");
		bridge = json_object_get(d, "pci_bridge");
		fprintf(h->f, "  Bus %2lld, device %3lld, function %lld:\n", num(d, "bus"),
			num(d, "slot"), num(d, "function"));
		fprintf(h->f, "    %s: PCI device %04llx:%04llx\n",
			json_str(json_object_get(d, "class_info"), "desc", "Class"),
			num(id, "vendor"), num(id, "device"));
		if (json_object_get(d, "irq"))
			fprintf(h->f, "      IRQ %lld, pin %c\n", num(d, "irq"),
				(char)('A' + num(d, "irq_pin") - 1));
		print_regions(h, d);
		fprintf(h->f, "      id \"%s\"\n", json_str(d, "qdev_id", ""));
		if (bridge && depth > 0)
			print_functions(h, json_object_get(bridge, "devices"), depth - 1);
	}
}

/* 8 buses behind one another are more than any guest has. */
static void info_pci(struct hmp *h)
{
	json_t *r = ask(h, "query-pci"), *b;
	size_t i;

	json_array_foreach(r, i, b)
		print_functions(h, json_object_get(b, "devices"), 8);
	json_decref(r);
}

static void print_props(struct hmp *h, const struct dev *d, int indent)
{
	const struct prop *tables[DEV_TABLES_MAX];
	json_t *v;
	char *text;

	dev_type_tables(d->type, tables);
	for (int i = 0; tables[i]; i++) {
		for (const struct prop *p = tables[i]; p->type != PROP_T_END; p++) {
			if ((p->flags & PROP_HIDDEN) || strcmp(p->name, "id") == 0)
				continue;
			v = prop_get(p, d);
			text = json_is_null(v) ? xstrdup("\"\"") :
			       json_dumps(v, JSON_ENCODE_ANY | JSON_COMPACT);
			fprintf(h->f, "%*s%s = %s\n", indent, "", p->name, text ? text : "");
			free(text);
			json_decref(v);
		}
	}
}

static void print_bus_head(struct hmp *h, const char *name, const char *type, int indent)
{
	fprintf(h->f, "%*sbus: %s\n%*stype %s\n", indent, "", name, indent + 2, "", type);
}

static void print_pci_bus(struct hmp *h, const struct pci_bus *b, int indent);

/* As deep as the topology, which bus numbers bound. */
static void print_dev(struct hmp *h, const struct dev *d, int indent)
{
	const struct pci_bus *behind = pci_bus_behind(d);

	fprintf(h->f, "%*sdev: %s, id \"%s\"\n", indent, "", d->type->name, d->id ? d->id : "");
	print_props(h, d, indent + 2);
	if (behind)
		print_pci_bus(h, behind, indent + 2);
	for (const struct dev_bus *b = h->vm->buses; b; b = b->next) {
		if (b->owner != d)
			continue;
		print_bus_head(h, b->name, b->type, indent + 2);
		for (const struct dev *c = b->child; c; c = c->sibling)
			print_dev(h, c, indent + 4);
	}
}

static void print_pci_bus(struct hmp *h, const struct pci_bus *b, int indent)
{
	print_bus_head(h, b->name, b->express ? "PCIE" : "PCI", indent);
	for (const struct dev *d = h->vm->devs; d; d = d->next)
		if (pci_bus_of(d) == b)
			print_dev(h, d, indent + 2);
}

static void info_qtree(struct hmp *h)
{
	struct pci_bus *b = NULL;

	print_bus_head(h, "main-system-bus", "System", 0);
	for (const struct dev *d = h->vm->devs; d; d = d->next)
		if (!pci_bus_of(d) && !d->parent)
			print_dev(h, d, 2);
	while (h->vm->pci && (b = pci_root_bus_next(h->vm->pci, b)))
		print_pci_bus(h, b, 2);
}

static void print_window(const struct bus_win *w, void *arg)
{
	struct hmp *h = arg;

	fprintf(h->f, "  %016llx-%016llx (prio %d, i/o): %s%s%s\n", (unsigned long long)w->base,
		(unsigned long long)(w->base + w->size - 1), w->priority,
		w->name ? w->name : "", w->dev ? " of " : "", w->dev ? w->dev->path : "");
}

static void info_mtree(struct hmp *h)
{
	const struct gmem *gm = h->vm->mem;

	fprintf(h->f, "address-space: memory\n");
	for (int i = 0; i < gm->count; i++)
		fprintf(h->f, "  %016llx-%016llx (prio 0, %s): ram\n",
			(unsigned long long)gm->region[i].base,
			(unsigned long long)(gm->region[i].base + gm->region[i].size - 1),
			gm->region[i].readonly ? "rom" : "ram");
	bus_each(h->vm->bus[BUS_MMIO], print_window, h);
	fprintf(h->f, "\naddress-space: I/O\n");
	bus_each(h->vm->bus[BUS_PIO], print_window, h);
}

static const struct {
	const char *word, *help;
	void (*print)(struct hmp *h);
} infos[] = {
	{ "block", "disks", info_block },
	{ "chardev", "chardevs", info_chardev },
	{ "cpus", "vCPUs", info_cpus },
	{ "mtree", "memory and I/O windows", info_mtree },
	{ "name", "the guest's name", info_name },
	{ "pci", "PCI devices", info_pci },
	{ "qtree", "devices and their properties", info_qtree },
	{ "registers", "registers of a vCPU (-a: of all)", info_registers },
	{ "status", "run state", info_status },
	{ "uuid", "the guest's UUID", info_uuid },
	{ "version", "version", info_version },
};

static void list_infos(struct hmp *h)
{
	for (size_t i = 0; i < ARRAY_LEN(infos); i++)
		fprintf(h->f, "info %s -- show %s\n", infos[i].word, infos[i].help);
}

/* "info WORD ARG"; a line that is none of ours is answered as QEMU does. */
static void run_line(struct hmp *h, const char *line)
{
	size_t i, n;

	line += strspn(line, " \t");
	if (strncmp(line, "info", 4) || (line[4] && line[4] != ' ' && line[4] != '\t')) {
		fprintf(h->f, "unknown command: '%.80s'\n", line);
		return;
	}
	line += 4 + strspn(line + 4, " \t");
	n = strcspn(line, " \t");
	h->arg = line + n + strspn(line + n, " \t");
	for (i = 0; i < ARRAY_LEN(infos); i++)
		if (n == strlen(infos[i].word) && strncmp(line, infos[i].word, n) == 0)
			break;
	if (i < ARRAY_LEN(infos))
		infos[i].print(h);
	else if (n)
		fprintf(h->f, "unknown command: 'info %.80s'\n", line);
	else
		list_infos(h);
}

struct hmp_args {
	char *line;
	uint32_t cpu;
};

static const struct prop hmp_args[] = {
	PROP_STR(struct hmp_args, line, "command-line", NULL, "the line", .flags = PROP_REQUIRED),
	PROP_U32(struct hmp_args, cpu, "cpu-index", 0, UINT32_MAX, 0, "the vCPU it is about"),
	PROP_END
};

static int human_monitor_command(struct qmp *q, void *args, json_t **ret, struct err *e)
{
	struct hmp_args *a = args;
	struct hmp h = { .q = q, .vm = qmp_vm(q), .cpu = a->cpu, .arg = "" };
	char *text = NULL;
	size_t len = 0;

	if (a->cpu && a->cpu >= h.vm->vcpu_count)
		return err_set(e, -EINVAL, "Invalid parameter 'cpu-index': there are %u CPUs",
			       h.vm->vcpu_count);
	h.f = open_memstream(&text, &len);
	if (!h.f)
		return -ENOMEM;
	run_line(&h, a->line);
	fclose(h.f);
	*ret = json_stringn(text, len);
	free(text);
	/* The line may have been cut inside a character. */
	return *ret ? 0 : err_set(e, -EINVAL, "unknown command");
}

static const struct qmp_cmd cmds[] = {
	{ .name = "human-monitor-command", .help = "a line of the human monitor (info ...)",
	  .args = hmp_args, .args_size = sizeof(struct hmp_args),
	  .run = human_monitor_command, .ret = "str" },
	{ 0 }
};

const struct qmp_table qmp_table_hmp = { .cmds = cmds };
