/*
 * vmm/control/commands_stats.c - counters of virtio queues, vCPUs and
 * interrupts (roost's own command).
 *
 * Threads: main loop; the counters belong to other threads and are read while
 *          they change.
 */
#include <stdlib.h>

#include "devices/virtio/virtio.h"
#include "vmm/control/qmp.h"
#include "vmm/control/qom.h"
#include "vmm/core/irq.h"
#include "vmm/core/vcpu.h"
#include "vmm/core/vm.h"

static json_t *number(const _Atomic uint64_t *v)
{
	return json_integer((json_int_t)atomic_load_explicit(v, memory_order_relaxed));
}

static json_t *queue_stats(const struct virtio_queue *q)
{
	return json_pack("{s:i,s:o,s:o,s:o}", "index", q->index, "kicks", number(&q->kicks),
			 "requests", number(&q->requests), "interrupts", number(&q->interrupts));
}

static json_t *device_stats(const struct dev *d)
{
	const struct virtio_dev *v = (const struct virtio_dev *)d;
	char *path = qom_dev_path(d);
	json_t *queues = json_array(), *o;

	for (uint16_t i = 0; i < v->queues; i++)
		json_array_append_new(queues, queue_stats(&v->queue[i]));
	o = json_pack("{s:s,s:s,s:o}", "path", path, "driver", d->type->name, "queues", queues);
	free(path);
	return o;
}

static json_t *vcpu_stats(const struct vcpu *c)
{
	const struct vcpu_stats *s = &c->stats;

	return json_pack("{s:i,s:o,s:o,s:o,s:o,s:o}", "cpu-index", (int)c->index,
			 "exits", number(&s->exits), "pio", number(&s->pio),
			 "mmio", number(&s->mmio), "halts", number(&s->hlt),
			 "other", number(&s->other));
}

static int query_stats(struct qmp *q, void *args, json_t **ret, struct err *e)
{
	struct vm *vm = qmp_vm(q);
	struct irq_stats irq = vm->irq ? irq_stats(vm->irq) : (struct irq_stats){ 0 };
	json_t *devices = json_array(), *vcpus = json_array();

	for (struct dev *d = vm->devs; d; d = d->next)
		if (qom_is_class(d, "virtio"))
			json_array_append_new(devices, device_stats(d));
	for (uint32_t i = 0; i < vm->vcpu_count; i++)
		json_array_append_new(vcpus, vcpu_stats(vm->vcpu[i]));
	*ret = json_pack("{s:o,s:o,s:I,s:I}", "devices", devices, "vcpus", vcpus,
			 "wired-interrupts", (json_int_t)irq.lines,
			 "message-interrupts", (json_int_t)irq.msis);
	return 0;
}

static const struct qmp_cmd cmds[] = {
	{ .name = "__org.roost_query-stats", .help = "counters of queues, vCPUs and interrupts",
	  .run = query_stats, .ret = "__org.roost_Stats" },
	{ 0 }
};

static const struct qmp_member queue_members[] = {
	{ "index", "int" }, { "kicks", "int" }, { "requests", "int" }, { "interrupts", "int" },
	{ 0 }
};
static const struct qmp_member device_members[] = {
	{ "path", "str" }, { "driver", "str" }, { "queues", "[__org.roost_QueueStats]" }, { 0 }
};
static const struct qmp_member vcpu_members[] = {
	{ "cpu-index", "int" }, { "exits", "int" }, { "pio", "int" }, { "mmio", "int" },
	{ "halts", "int" }, { "other", "int" }, { 0 }
};
static const struct qmp_member stats_members[] = {
	{ "devices", "[__org.roost_DeviceStats]" }, { "vcpus", "[__org.roost_VcpuStats]" },
	{ "wired-interrupts", "int" }, { "message-interrupts", "int" }, { 0 }
};

static const struct qmp_type types[] = {
	{ .name = "__org.roost_QueueStats", .members = queue_members },
	{ .name = "__org.roost_DeviceStats", .members = device_members },
	{ .name = "__org.roost_VcpuStats", .members = vcpu_members },
	{ .name = "__org.roost_Stats", .members = stats_members },
	{ 0 }
};

const struct qmp_table qmp_table_stats = { .cmds = cmds, .types = types };
