/*
 * vmm/arch/x86/acpi_numa.c - which vCPUs and memory are near each other.
 *
 * Spec:    ACPI 6.4 s5.2.16 (SRAT), s5.2.17 (SLIT).
 * Threads: main loop.
 * Missing: HMAT.
 */
#include <string.h>

#include "vmm/arch/x86/acpi.h"
#include "vmm/base/util.h"

#define SRAT_HEAD	48
#define SRAT_CPU	24	/* the longer of the two entries */
#define SRAT_MEMORY	40
#define SRAT_ENABLED	BIT(0)
#define SLIT_HEAD	44

static uint8_t *srat_cpu(uint8_t *p, uint32_t apic_id, uint32_t node)
{
	if (apic_id < 255) {
		p[0] = 0;		/* local APIC */
		p[1] = 16;
		p[2] = (uint8_t)node;
		p[3] = (uint8_t)apic_id;
		put_le32(p + 4, SRAT_ENABLED);
		return p + 16;
	}
	p[0] = 2;			/* local x2APIC */
	p[1] = SRAT_CPU;
	put_le32(p + 4, node);
	put_le32(p + 8, apic_id);
	put_le32(p + 12, SRAT_ENABLED);
	return p + SRAT_CPU;
}

static uint8_t *srat_memory(uint8_t *p, const struct acpi_memory *m)
{
	p[0] = 1;
	p[1] = SRAT_MEMORY;
	put_le32(p + 2, m->node);
	put_le64(p + 8, m->base);
	put_le64(p + 16, m->size);
	put_le32(p + 28, SRAT_ENABLED);
	return p + SRAT_MEMORY;
}

uint64_t acpi_srat_new(struct acpi_area *area, const struct acpi_info *a)
{
	size_t room = SRAT_HEAD + (size_t)a->cpus * SRAT_CPU + a->memory_count * SRAT_MEMORY;
	uint64_t at = 0;
	uint8_t *t = acpi_table_new(area, room, &at), *p;

	if (!t)
		return 0;
	put_le32(t + 36, 1);		/* reserved, must be 1 */
	p = t + SRAT_HEAD;
	for (uint32_t i = 0; i < a->cpus; i++)
		p = srat_cpu(p, x86_apic_id(a->topo, i), a->cpu_node[i]);
	for (size_t i = 0; i < a->memory_count; i++)
		p = srat_memory(p, &a->memory[i]);
	acpi_table_finish(t, (size_t)(p - t), "SRAT", 3);
	return at;
}

uint64_t acpi_slit_new(struct acpi_area *area, const struct acpi_info *a)
{
	size_t len = SLIT_HEAD + (size_t)a->nodes * a->nodes;
	uint64_t at = 0;
	uint8_t *t = acpi_table_new(area, len, &at);

	if (!t)
		return 0;
	put_le64(t + 36, a->nodes);
	memcpy(t + SLIT_HEAD, a->distance, (size_t)a->nodes * a->nodes);
	acpi_table_finish(t, len, "SLIT", 1);
	return at;
}
