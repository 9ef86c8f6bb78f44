/*
 * vmm/arch/x86/acpi_ssdt.c - objects for the devices in hot-plug slots, so that
 * the guest can be asked to let go of them; host bridges besides PCI0.
 *
 * Spec:    ACPI 6.4 s20.2 (AML encoding), s6.3 (device removal), s6.4.3.5 (address
 *          space descriptors); PCI Firmware 3.2 s4.2 (several host bridges).
 * Threads: main loop.
 * Missing: nothing known.
 *
 * For a slot behind the root port at 00:02.1 this writes
 *
 *	Scope (\_SB.PCI0) {
 *		Device (S11_) {			// slot and function: 02.1
 *			Name (_ADR, 0x00020001)
 *			Device (S00_) {
 *				Name (_ADR, Zero)
 *				Method (_EJ0, 1) { \_SB.PCI0.EJDO (1) }
 *				Method (_OST, 3) { \_SB.PCI0.EJST (1, Arg0, Arg1) }
 *			}
 *		}
 *	}
 *	Scope (\_SB) {
 *		Device (PC20) {			// an expander's bus, 20
 *			Name (_HID, EisaId ("PNP0A08")), _CID, _UID, _BBN, _PXM
 *			Name (_CRS, ResourceTemplate () { … })
 *			Method (_OSC, 4) { Return (\_SB.PCI0._OSC (Arg0, …, Arg3)) }
 *			Method (_PRT, 0) { Return (\_SB.PCI0._PRT) }
 *			…				// its slots, as above
 *		}
 *	}
 *	Scope (\_GPE) {
 *		Method (_E01, 0) {
 *			Store (\_SB.PCI0.EJRQ, Local0)
 *			While (Local0) {
 *				If (LEqual (Local0, 1)) { Notify (\_SB.PCI0.S11_.S00_, 3) }
 *				Store (\_SB.PCI0.EJRQ, Local0)
 *			}
 *		}
 *	}
 */
#include <assert.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "vmm/arch/x86/acpi.h"
#include "vmm/arch/x86/layout.h"
#include "vmm/base/util.h"

#define DEPTH_MAX	32	/* of bridges; a bus number each, and one segment */

enum aml {
	AML_ZERO = 0x00, AML_NAME = 0x08, AML_BYTE = 0x0a, AML_WORD = 0x0b,
	AML_DWORD = 0x0c, AML_SCOPE = 0x10, AML_BUFFER = 0x11, AML_METHOD = 0x14,
	AML_MULTI_NAME = 0x2f,
	AML_EXT = 0x5b, AML_EXT_DEVICE = 0x82, AML_ROOT = 0x5c, AML_LOCAL0 = 0x60,
	AML_ARG0 = 0x68, AML_STORE = 0x70, AML_NOTIFY = 0x86, AML_LEQUAL = 0x93,
	AML_IF = 0xa0, AML_WHILE = 0xa2, AML_RETURN = 0xa4,
};
#define NOTIFY_EJECT	3

struct code {
	uint8_t *p;
	size_t len, room;
};

static void put(struct code *c, const void *bytes, size_t n)
{
	if (c->len + n > c->room) {	/* bounded by the ports of the machine */
		c->room = 2 * (c->room + n);
		c->p = xrealloc(c->p, c->room);
	}
	memcpy(c->p + c->len, bytes, n);
	c->len += n;
}

static void put_op(struct code *c, enum aml op)
{
	uint8_t b = (uint8_t)op;

	put(c, &b, 1);
}

static void put_int(struct code *c, uint32_t val)
{
	uint8_t b[5] = { AML_DWORD };

	put_le32(b + 1, val);
	if (val > 0xffff) {
		put(c, b, 5);
		return;
	}
	b[0] = val > 0xff ? AML_WORD : AML_BYTE;
	put(c, b, val > 0xff ? 3 : 2);
}

/* A package's length is known at its end: three bytes of it are kept, which is
 * 20 bits (s20.2.4). */
static size_t begin(struct code *c)
{
	static const uint8_t none[3];
	size_t at = c->len;

	put(c, none, sizeof(none));
	return at;
}

static void end(struct code *c, size_t at)
{
	size_t n = c->len - at;		/* with these bytes themselves */

	assert(n < BIT(20));
	c->p[at] = (uint8_t)(0x80 | (n & 0xf));
	put_le16(c->p + at + 1, (uint16_t)(n >> 4));
}

/* "_SB_PCI0…": segments of four letters, from the root. */
static void put_path(struct code *c, const char *segments)
{
	uint8_t count = (uint8_t)(strlen(segments) / 4);

	put_op(c, AML_ROOT);
	if (count > 1) {
		put_op(c, AML_MULTI_NAME);
		put(c, &count, 1);
	}
	put(c, segments, 4u * count);
}

/* Name (@name, @val) */
static void put_name(struct code *c, const char *name, uint32_t val)
{
	put_op(c, AML_NAME);
	put(c, name, 4);
	put_int(c, val);
}

static void put_adr(struct code *c, uint8_t slot, uint8_t function)
{
	put_name(c, "_ADR", (uint32_t)slot << 16 | function);
}

static size_t device_begin(struct code *c, const char *name)
{
	size_t at;

	put_op(c, AML_EXT);
	put_op(c, AML_EXT_DEVICE);
	at = begin(c);
	put(c, name, 4);
	return at;
}

static size_t method_begin(struct code *c, const char *name, uint8_t args)
{
	size_t at;

	put_op(c, AML_METHOD);
	at = begin(c);
	put(c, name, 4);
	put(c, &args, 1);
	return at;
}

/* What sits in the slot. Function 0 stands for all of them. */
static void put_occupant(struct code *c, uint16_t number)
{
	size_t dev = device_begin(c, "S00_"), m;

	put_adr(c, 0, 0);
	m = method_begin(c, "_EJ0", 1);
	put_path(c, "_SB_PCI0EJDO");
	put_int(c, number);
	end(c, m);
	m = method_begin(c, "_OST", 3);
	put_path(c, "_SB_PCI0EJST");
	put_int(c, number);
	put_op(c, AML_ARG0);
	put_op(c, AML_ARG0 + 1);
	end(c, m);
	end(c, dev);
}

static void bridge_name(const struct acpi_bridge *b, char *name)
{
	snprintf(name, 5, "S%02hhX_", (unsigned char)(b->slot << 3 | b->function));
}

/* The number of bridge @i's slot, if it holds what can leave: a bridge cannot, and
 * would have the name of the object that is ejected. */
static uint16_t slot_of(const struct acpi_info *a, size_t i)
{
	bool holds_bridge = i + 1 < a->bridge_count &&
			    a->bridges[i + 1].depth > a->bridges[i].depth;

	return holds_bridge ? 0 : a->bridges[i].number;
}

/* The bridges from *i on that are @depth deep below @root, and what is below each. */
static void put_bridges(struct code *c, const struct acpi_info *a, size_t *i, uint8_t root,
			uint8_t depth)
{
	while (*i < a->bridge_count && a->bridges[*i].root == root &&
	       a->bridges[*i].depth >= depth) {
		const struct acpi_bridge *b = &a->bridges[*i];
		uint16_t number = slot_of(a, (*i)++);
		char name[5];
		size_t dev;

		bridge_name(b, name);
		dev = device_begin(c, name);
		put_adr(c, b->slot, b->function);
		if (number)
			put_occupant(c, number);
		put_bridges(c, a, i, root, (uint8_t)(depth + 1));
		end(c, dev);
	}
}

/* ---- host bridges ---- */

enum addr_space { ADDR_MEMORY, ADDR_IO, ADDR_BUS };

#define MIN_AND_MAX_FIXED	0x0c
#define MEM_READ_WRITE		0x01
#define IO_ENTIRE_RANGE		0x03
#define END_TAG			0x79

static void host_name(uint8_t root, char *name)
{
	snprintf(name, 5, root ? "PC%02hhX" : "PCI0", root);
}

/* An address space descriptor of a producer, in numbers of @width bytes. */
static void put_window(struct code *c, enum addr_space type, unsigned int width,
		       uint64_t base, uint64_t size)
{
	uint8_t b[6 + 5 * 8] = { width == 2 ? 0x88 : width == 4 ? 0x87 : 0x8a,
				 (uint8_t)(3 + 5 * width), 0, (uint8_t)type,
				 MIN_AND_MAX_FIXED, type == ADDR_MEMORY ? MEM_READ_WRITE :
				 type == ADDR_IO ? IO_ENTIRE_RANGE : 0 };

	if (!size)
		return;
	put_le(b + 6 + width, width, base);
	put_le(b + 6 + 2 * width, width, base + size - 1);
	put_le(b + 6 + 4 * width, width, size);
	put(c, b, 6 + 5 * width);
}

static void put_crs(struct code *c, const struct acpi_host *h)
{
	static const uint8_t last[2] = { END_TAG };	/* a checksum of 0: not used */
	struct code r = { NULL };
	size_t at;

	put_window(&r, ADDR_BUS, 2, h->first_bus, h->last_bus - h->first_bus + 1u);
	put_window(&r, ADDR_IO, 2, h->pio_base, h->pio_size);
	put_window(&r, ADDR_MEMORY, 4, h->mmio32_base, h->mmio32_size);
	put_window(&r, ADDR_MEMORY, 8, h->mmio64_base, h->mmio64_size);
	put(&r, last, sizeof(last));
	put_op(c, AML_NAME);
	put(c, "_CRS", 4);
	put_op(c, AML_BUFFER);
	at = begin(c);
	put_int(c, (uint32_t)r.len);
	put(c, r.p, r.len);
	end(c, at);
	free(r.p);
}

/* Return (\_SB.PCI0.@name), with @args arguments handed on. */
static void put_as_pci0(struct code *c, const char *name, uint8_t args)
{
	size_t m = method_begin(c, name, args);
	char path[13];

	snprintf(path, sizeof(path), "_SB_PCI0%s", name);
	put_op(c, AML_RETURN);
	put_path(c, path);
	for (uint8_t i = 0; i < args; i++)
		put_op(c, AML_ARG0 + i);
	end(c, m);
}

static void put_host(struct code *c, const struct acpi_info *a, const struct acpi_host *h,
		     size_t *bridge)
{
	char name[5];
	size_t dev;

	host_name(h->first_bus, name);
	dev = device_begin(c, name);
	put_name(c, "_HID", 0x080ad041);	/* PNP0A08: PCIe */
	put_name(c, "_CID", 0x030ad041);	/* PNP0A03: PCI */
	put_name(c, "_UID", h->first_bus);
	put_name(c, "_BBN", h->first_bus);
	put_name(c, "_SEG", 0);
	if (h->node != ACPI_NODE_NONE)
		put_name(c, "_PXM", h->node);
	put_crs(c, h);
	put_as_pci0(c, "_OSC", 4);
	put_as_pci0(c, "_PRT", 0);
	put_bridges(c, a, bridge, h->first_bus, 0);
	end(c, dev);
}

static void put_hosts(struct code *c, const struct acpi_info *a, size_t *bridge)
{
	size_t scope;

	if (a->host_count < 2)
		return;
	put_op(c, AML_SCOPE);
	scope = begin(c);
	put_path(c, "_SB_");
	for (size_t i = 1; i < a->host_count; i++)
		put_host(c, a, &a->hosts[i], bridge);
	end(c, scope);
}

/* ---- the event ---- */

/* If (LEqual (Local0, number)) { Notify (path, 3) } */
static void put_notify(struct code *c, const char *bridges, uint8_t root, uint16_t number)
{
	char path[4 * (DEPTH_MAX + 3) + 1], host[5];
	size_t at;

	host_name(root, host);
	snprintf(path, sizeof(path), "_SB_%s%sS00_", host, bridges);
	put_op(c, AML_IF);
	at = begin(c);
	put_op(c, AML_LEQUAL);
	put_op(c, AML_LOCAL0);
	put_int(c, number);
	put_op(c, AML_NOTIFY);
	put_path(c, path);
	put_int(c, NOTIFY_EJECT);
	end(c, at);
}

static void put_read_request(struct code *c)
{
	put_op(c, AML_STORE);
	put_path(c, "_SB_PCI0EJRQ");
	put_op(c, AML_LOCAL0);
}

static void put_event(struct code *c, const struct acpi_info *a)
{
	size_t scope, method, loop;
	char path[4 * DEPTH_MAX + 1] = "";

	put_op(c, AML_SCOPE);
	scope = begin(c);
	put_path(c, "_GPE");
	method = method_begin(c, "_E01", 0);
	static_assert(X86_EJECT_GPE == 1, "the method's name says which event");
	put_read_request(c);
	put_op(c, AML_WHILE);
	loop = begin(c);
	put_op(c, AML_LOCAL0);
	for (size_t i = 0; i < a->bridge_count; i++) {
		bridge_name(&a->bridges[i], path + 4 * a->bridges[i].depth);
		if (slot_of(a, i))
			put_notify(c, path, a->bridges[i].root, slot_of(a, i));
	}
	put_read_request(c);
	end(c, loop);
	end(c, method);
	end(c, scope);
}

static bool any_slot(const struct acpi_info *a)
{
	bool any = false;

	for (size_t i = 0; i < a->bridge_count; i++)
		any |= slot_of(a, i) != 0;
	return any;
}

static bool too_deep(const struct acpi_info *a)
{
	for (size_t i = 0; i < a->bridge_count; i++)
		if (a->bridges[i].depth >= DEPTH_MAX)
			return true;	/* no guest gets that far down */
	return false;
}

uint64_t acpi_ssdt_new(struct acpi_area *area, const struct acpi_info *a)
{
	struct code c = { NULL };
	size_t scope, i = 0;
	uint64_t at = 0;
	uint8_t *t;

	if (too_deep(a) || (!any_slot(a) && a->host_count < 2))
		return 0;
	put_op(&c, AML_SCOPE);
	scope = begin(&c);
	put_path(&c, "_SB_PCI0");
	put_bridges(&c, a, &i, 0, 0);
	end(&c, scope);
	put_hosts(&c, a, &i);
	if (any_slot(a))
		put_event(&c, a);
	t = acpi_table_new(area, ACPI_HEADER_BYTES + c.len, &at);
	if (t) {
		memcpy(t + ACPI_HEADER_BYTES, c.p, c.len);
		acpi_table_finish(t, ACPI_HEADER_BYTES + c.len, "SSDT", 2);
	}
	free(c.p);
	return t ? at : 0;
}
