/*
 * vmm/arch/x86/layout.h - where everything lives on the q35-like machine.
 *
 * The map follows what SeaBIOS, OVMF, Linux and Windows know from QEMU's q35.
 * RAM below 4 GiB ends at 2 GiB whatever its size, so that the low part can be
 * one naturally aligned host mapping and the hole never moves.
 */
#ifndef VMM_ARCH_X86_LAYOUT_H
#define VMM_ARCH_X86_LAYOUT_H

#define X86_RAM_LOW_MAX		0x80000000ull	/* the rest starts at 4 GiB */
#define X86_RAM_HIGH_BASE	0x100000000ull

#define X86_EBDA_BASE		0x0009fc00ull
#define X86_BIOS_LOW_BASE	0x000e0000ull	/* ACPI RSDP and SMBIOS entry live here */
#define X86_BIOS_LOW_END	0x00100000ull
#define X86_TABLES_SIZE		0x00100000ull	/* ACPI tables: top 1 MiB of low RAM */

#define X86_ECAM_BASE		0xb0000000ull	/* 256 buses of 1 MiB */
#define X86_ECAM_SIZE		0x10000000ull
#define X86_MMIO32_BASE		0xc0000000ull
#define X86_MMIO32_END		0xfec00000ull
#define X86_IOAPIC_BASE		0xfec00000ull
#define X86_HPET_BASE		0xfed00000ull	/* not built; hpet=off */
#define X86_LAPIC_BASE		0xfee00000ull
#define X86_IDENTITY_MAP	0xfeffc000ull	/* KVM_SET_IDENTITY_MAP_ADDR, 1 page */
#define X86_TSS_ADDR		0xfeffd000ull	/* KVM_SET_TSS_ADDR, 3 pages */
#define X86_FLASH_END		0x100000000ull

#define X86_PIO_BASE		0x1000u		/* I/O window for BARs */
#define X86_PIO_SIZE		0xf000u

/* ICH9 PM block (ACPI), at the address QEMU's firmware and tables use. */
#define X86_PM_BASE		0x0600u
#define X86_PM_SIZE		0x80u
#define X86_SCI_IRQ		9u

/* Eject requests of PCI slots (pci/eject.c), beside the config ports as QEMU has
 * its own, and the general purpose event that announces them. */
#define X86_EJECT_BASE		0x0cc0u
#define X86_EJECT_GPE		1u

#define X86_IOAPIC_PINS		24u
/* PIRQ A..H are IOAPIC inputs 16..23; root bus slot S pin P (0 = INTA) uses
 * PIRQ (S + P) mod 4 + E..H for slots below 25, as q35 does; in roost all
 * slots use GSI 16 + (S + P) mod 8. */
#define X86_PCI_GSI_BASE	16u

#endif
