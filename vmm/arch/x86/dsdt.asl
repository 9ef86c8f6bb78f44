/*
 * vmm/arch/x86/dsdt.asl - what the guest's ACPI interpreter needs to know of
 * the q35-like machine.
 *
 * Values that the machine chooses stand here as recognisable constants, and
 * acpi.c writes the real ones over them: names of four letters that occur once
 * (ST.. is a device's _STA), and address windows by their first address.
 */
DefinitionBlock ("dsdt.aml", "DSDT", 2, "ROOST ", "ROOSTQ35", 1)
{
	Name (\_S5, Package () { 0x07, 0x00, 0x00, 0x00 })

	Scope (\_SB)
	{
		/* Registers of the board that no device driver claims. */
		Device (MBRD)
		{
			Name (_HID, EisaId ("PNP0C02"))
			Name (_UID, "roost")
			Name (_CRS, ResourceTemplate ()
			{
				IO (Decode16, 0x0092, 0x0092, 0x01, 0x01)
				IO (Decode16, 0x00B2, 0x00B2, 0x01, 0x02)
				IO (Decode16, 0x04D0, 0x04D0, 0x01, 0x02)
				IO (Decode16, 0x0600, 0x0600, 0x01, 0x80)
				IO (Decode16, 0x0CC0, 0x0CC0, 0x01, 0x0C)
				Memory32Fixed (ReadWrite, 0xB0000000, 0x10000000)
			})
		}

		Device (PCI0)
		{
			Name (_HID, EisaId ("PNP0A08"))
			Name (_CID, EisaId ("PNP0A03"))
			Name (_UID, 0x00)
			Name (_BBN, 0x00)
			Name (_SEG, 0x00)
			Name (_CRS, ResourceTemplate ()
			{
				WordBusNumber (ResourceProducer, MinFixed, MaxFixed,
					PosDecode, 0x0000, 0x0000, 0x00FF, 0x0000, 0x0100)
				IO (Decode16, 0x0CF8, 0x0CF8, 0x01, 0x08)
				WordIO (ResourceProducer, MinFixed, MaxFixed, PosDecode,
					EntireRange,
					0x0000, 0x0000, 0x0CF7, 0x0000, 0x0CF8)
				/* acpi.c: pio_base */
				WordIO (ResourceProducer, MinFixed, MaxFixed, PosDecode,
					EntireRange,
					0x0000, 0x1000, 0xFFFF, 0x0000, 0xF000)
				/* acpi.c: mmio32_base */
				DWordMemory (ResourceProducer, PosDecode, MinFixed,
					MaxFixed, NonCacheable, ReadWrite,
					0x00000000, 0xC0000000, 0xFEBFFFFF,
					0x00000000, 0x3EC00000)
				/* acpi.c: mmio64_base */
				QWordMemory (ResourceProducer, PosDecode, MinFixed,
					MaxFixed, Cacheable, ReadWrite,
					0x0000000000000000, 0x0000008000000000,
					0x000000BFFFFFFFFF, 0x0000000000000000,
					0x0000004000000000)
			})

			/* Eject requests: pci/eject.c. The objects that are
			 * ejected are in the SSDT. */
			OperationRegion (EJRG, SystemIO, 0x0CC0, 0x0C)
			Field (EJRG, DWordAcc, NoLock, WriteAsZeros)
			{
				EJRQ, 32,
				EJEJ, 32,
				EJRS, 32
			}
			Method (EJDO, 1, Serialized)
			{
				Store (Arg0, EJEJ)
			}
			/* Number, and what _OST says of an eject request. */
			Method (EJST, 3, Serialized)
			{
				If (LEqual (Arg1, 0x03))
				{
					And (Arg2, 0xFFFF, Local0)
					ShiftLeft (Local0, 16, Local0)
					Or (Local0, Arg0, EJRS)
				}
			}

			/* PCI Firmware 3.2 s4.5.1. OSCM: native hot-plug, PME,
			 * AER, PCIe capability structure. */
			Name (OSCM, 0x1D)
			Method (_OSC, 4, NotSerialized)
			{
				CreateDWordField (Arg3, 0x00, CDW1)
				If (LEqual (Arg0, ToUUID ("33DB4D5B-1FF7-401C-9657-7441C03DD766")))
				{
					CreateDWordField (Arg3, 0x08, CDW3)
					And (CDW3, OSCM, Local0)
					If (LNotEqual (Arg1, 0x01))
					{
						Or (CDW1, 0x08, CDW1)
					}
					If (LNotEqual (CDW3, Local0))
					{
						Or (CDW1, 0x10, CDW1)
					}
					Store (Local0, CDW3)
				}
				Else
				{
					Or (CDW1, 0x04, CDW1)
				}
				Return (Arg3)
			}

			/* Slot and pin rotate over IOAPIC inputs 16 to 23. */
			Name (_PRT, Package ()
			{
				Package () { 0x0000FFFF, 0, 0, 16 }, Package () { 0x0000FFFF, 1, 0, 17 },
				Package () { 0x0000FFFF, 2, 0, 18 }, Package () { 0x0000FFFF, 3, 0, 19 },
				Package () { 0x0001FFFF, 0, 0, 17 }, Package () { 0x0001FFFF, 1, 0, 18 },
				Package () { 0x0001FFFF, 2, 0, 19 }, Package () { 0x0001FFFF, 3, 0, 20 },
				Package () { 0x0002FFFF, 0, 0, 18 }, Package () { 0x0002FFFF, 1, 0, 19 },
				Package () { 0x0002FFFF, 2, 0, 20 }, Package () { 0x0002FFFF, 3, 0, 21 },
				Package () { 0x0003FFFF, 0, 0, 19 }, Package () { 0x0003FFFF, 1, 0, 20 },
				Package () { 0x0003FFFF, 2, 0, 21 }, Package () { 0x0003FFFF, 3, 0, 22 },
				Package () { 0x0004FFFF, 0, 0, 20 }, Package () { 0x0004FFFF, 1, 0, 21 },
				Package () { 0x0004FFFF, 2, 0, 22 }, Package () { 0x0004FFFF, 3, 0, 23 },
				Package () { 0x0005FFFF, 0, 0, 21 }, Package () { 0x0005FFFF, 1, 0, 22 },
				Package () { 0x0005FFFF, 2, 0, 23 }, Package () { 0x0005FFFF, 3, 0, 16 },
				Package () { 0x0006FFFF, 0, 0, 22 }, Package () { 0x0006FFFF, 1, 0, 23 },
				Package () { 0x0006FFFF, 2, 0, 16 }, Package () { 0x0006FFFF, 3, 0, 17 },
				Package () { 0x0007FFFF, 0, 0, 23 }, Package () { 0x0007FFFF, 1, 0, 16 },
				Package () { 0x0007FFFF, 2, 0, 17 }, Package () { 0x0007FFFF, 3, 0, 18 },
				Package () { 0x0008FFFF, 0, 0, 16 }, Package () { 0x0008FFFF, 1, 0, 17 },
				Package () { 0x0008FFFF, 2, 0, 18 }, Package () { 0x0008FFFF, 3, 0, 19 },
				Package () { 0x0009FFFF, 0, 0, 17 }, Package () { 0x0009FFFF, 1, 0, 18 },
				Package () { 0x0009FFFF, 2, 0, 19 }, Package () { 0x0009FFFF, 3, 0, 20 },
				Package () { 0x000AFFFF, 0, 0, 18 }, Package () { 0x000AFFFF, 1, 0, 19 },
				Package () { 0x000AFFFF, 2, 0, 20 }, Package () { 0x000AFFFF, 3, 0, 21 },
				Package () { 0x000BFFFF, 0, 0, 19 }, Package () { 0x000BFFFF, 1, 0, 20 },
				Package () { 0x000BFFFF, 2, 0, 21 }, Package () { 0x000BFFFF, 3, 0, 22 },
				Package () { 0x000CFFFF, 0, 0, 20 }, Package () { 0x000CFFFF, 1, 0, 21 },
				Package () { 0x000CFFFF, 2, 0, 22 }, Package () { 0x000CFFFF, 3, 0, 23 },
				Package () { 0x000DFFFF, 0, 0, 21 }, Package () { 0x000DFFFF, 1, 0, 22 },
				Package () { 0x000DFFFF, 2, 0, 23 }, Package () { 0x000DFFFF, 3, 0, 16 },
				Package () { 0x000EFFFF, 0, 0, 22 }, Package () { 0x000EFFFF, 1, 0, 23 },
				Package () { 0x000EFFFF, 2, 0, 16 }, Package () { 0x000EFFFF, 3, 0, 17 },
				Package () { 0x000FFFFF, 0, 0, 23 }, Package () { 0x000FFFFF, 1, 0, 16 },
				Package () { 0x000FFFFF, 2, 0, 17 }, Package () { 0x000FFFFF, 3, 0, 18 },
				Package () { 0x0010FFFF, 0, 0, 16 }, Package () { 0x0010FFFF, 1, 0, 17 },
				Package () { 0x0010FFFF, 2, 0, 18 }, Package () { 0x0010FFFF, 3, 0, 19 },
				Package () { 0x0011FFFF, 0, 0, 17 }, Package () { 0x0011FFFF, 1, 0, 18 },
				Package () { 0x0011FFFF, 2, 0, 19 }, Package () { 0x0011FFFF, 3, 0, 20 },
				Package () { 0x0012FFFF, 0, 0, 18 }, Package () { 0x0012FFFF, 1, 0, 19 },
				Package () { 0x0012FFFF, 2, 0, 20 }, Package () { 0x0012FFFF, 3, 0, 21 },
				Package () { 0x0013FFFF, 0, 0, 19 }, Package () { 0x0013FFFF, 1, 0, 20 },
				Package () { 0x0013FFFF, 2, 0, 21 }, Package () { 0x0013FFFF, 3, 0, 22 },
				Package () { 0x0014FFFF, 0, 0, 20 }, Package () { 0x0014FFFF, 1, 0, 21 },
				Package () { 0x0014FFFF, 2, 0, 22 }, Package () { 0x0014FFFF, 3, 0, 23 },
				Package () { 0x0015FFFF, 0, 0, 21 }, Package () { 0x0015FFFF, 1, 0, 22 },
				Package () { 0x0015FFFF, 2, 0, 23 }, Package () { 0x0015FFFF, 3, 0, 16 },
				Package () { 0x0016FFFF, 0, 0, 22 }, Package () { 0x0016FFFF, 1, 0, 23 },
				Package () { 0x0016FFFF, 2, 0, 16 }, Package () { 0x0016FFFF, 3, 0, 17 },
				Package () { 0x0017FFFF, 0, 0, 23 }, Package () { 0x0017FFFF, 1, 0, 16 },
				Package () { 0x0017FFFF, 2, 0, 17 }, Package () { 0x0017FFFF, 3, 0, 18 },
				Package () { 0x0018FFFF, 0, 0, 16 }, Package () { 0x0018FFFF, 1, 0, 17 },
				Package () { 0x0018FFFF, 2, 0, 18 }, Package () { 0x0018FFFF, 3, 0, 19 },
				Package () { 0x0019FFFF, 0, 0, 17 }, Package () { 0x0019FFFF, 1, 0, 18 },
				Package () { 0x0019FFFF, 2, 0, 19 }, Package () { 0x0019FFFF, 3, 0, 20 },
				Package () { 0x001AFFFF, 0, 0, 18 }, Package () { 0x001AFFFF, 1, 0, 19 },
				Package () { 0x001AFFFF, 2, 0, 20 }, Package () { 0x001AFFFF, 3, 0, 21 },
				Package () { 0x001BFFFF, 0, 0, 19 }, Package () { 0x001BFFFF, 1, 0, 20 },
				Package () { 0x001BFFFF, 2, 0, 21 }, Package () { 0x001BFFFF, 3, 0, 22 },
				Package () { 0x001CFFFF, 0, 0, 20 }, Package () { 0x001CFFFF, 1, 0, 21 },
				Package () { 0x001CFFFF, 2, 0, 22 }, Package () { 0x001CFFFF, 3, 0, 23 },
				Package () { 0x001DFFFF, 0, 0, 21 }, Package () { 0x001DFFFF, 1, 0, 22 },
				Package () { 0x001DFFFF, 2, 0, 23 }, Package () { 0x001DFFFF, 3, 0, 16 },
				Package () { 0x001EFFFF, 0, 0, 22 }, Package () { 0x001EFFFF, 1, 0, 23 },
				Package () { 0x001EFFFF, 2, 0, 16 }, Package () { 0x001EFFFF, 3, 0, 17 },
				Package () { 0x001FFFFF, 0, 0, 23 }, Package () { 0x001FFFFF, 1, 0, 16 },
				Package () { 0x001FFFFF, 2, 0, 17 }, Package () { 0x001FFFFF, 3, 0, 18 }
			})

			Device (LPC)
			{
				Name (_ADR, 0x001F0000)

				Device (RTC)
				{
					Name (_HID, EisaId ("PNP0B00"))
					Name (STRT, 0x0F)
					Method (_STA) { Return (STRT) }
					Name (_CRS, ResourceTemplate ()
					{
						IO (Decode16, 0x0070, 0x0070, 0x01, 0x02)
						IRQNoFlags () { 8 }
					})
				}

				Device (KBD)
				{
					Name (_HID, EisaId ("PNP0303"))
					Name (STKB, 0x0F)
					Method (_STA) { Return (STKB) }
					Name (_CRS, ResourceTemplate ()
					{
						IO (Decode16, 0x0060, 0x0060, 0x01, 0x01)
						IO (Decode16, 0x0064, 0x0064, 0x01, 0x01)
						IRQNoFlags () { 1 }
					})
				}

				Device (MOU)
				{
					Name (_HID, EisaId ("PNP0F13"))
					Name (STMO, 0x0F)
					Method (_STA) { Return (STMO) }
					Name (_CRS, ResourceTemplate ()
					{
						IRQNoFlags () { 12 }
					})
				}

				Device (COM1)
				{
					Name (_HID, EisaId ("PNP0501"))
					Name (_UID, 1)
					Name (STC1, 0x0F)
					Method (_STA) { Return (STC1) }
					Name (_CRS, ResourceTemplate ()
					{
						IO (Decode16, 0x03F8, 0x03F8, 0x00, 0x08)
						IRQNoFlags () { 4 }
					})
				}

				Device (COM2)
				{
					Name (_HID, EisaId ("PNP0501"))
					Name (_UID, 2)
					Name (STC2, 0x0F)
					Method (_STA) { Return (STC2) }
					Name (_CRS, ResourceTemplate ()
					{
						IO (Decode16, 0x02F8, 0x02F8, 0x00, 0x08)
						IRQNoFlags () { 3 }
					})
				}

				Device (COM3)
				{
					Name (_HID, EisaId ("PNP0501"))
					Name (_UID, 3)
					Name (STC3, 0x0F)
					Method (_STA) { Return (STC3) }
					Name (_CRS, ResourceTemplate ()
					{
						IO (Decode16, 0x03E8, 0x03E8, 0x00, 0x08)
						IRQNoFlags () { 4 }
					})
				}

				Device (COM4)
				{
					Name (_HID, EisaId ("PNP0501"))
					Name (_UID, 4)
					Name (STC4, 0x0F)
					Method (_STA) { Return (STC4) }
					Name (_CRS, ResourceTemplate ()
					{
						IO (Decode16, 0x02E8, 0x02E8, 0x00, 0x08)
						IRQNoFlags () { 3 }
					})
				}

				/* The panic port, as Linux and Windows drivers know it. */
				Device (PEVT)
				{
					Name (_HID, "QEMU0001")
					Name (STPV, 0x0F)
					Method (_STA) { Return (STPV) }
					Name (_CRS, ResourceTemplate ()
					{
						IO (Decode16, 0x0505, 0x0505, 0x01, 0x01)
					})
					OperationRegion (PEOR, SystemIO, 0x0505, 0x01)
					Field (PEOR, ByteAcc, NoLock, Preserve)
					{
						PEPT, 8
					}
					Method (RDPT, 0, NotSerialized)
					{
						Return (PEPT)
					}
					Method (WRPT, 1, NotSerialized)
					{
						Store (Arg0, PEPT)
					}
				}
			}
		}
	}
}
