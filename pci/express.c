/*
 * pci/express.c - the PCI Express capability by port type, and the extended
 * capabilities of ports: advanced error reporting, access control.
 *
 * Spec:    PCIe Base 5.0 s7.5.3 (PCI Express), s7.8.4 (AER), s7.7.11 (ACS).
 * Threads: built on the main loop; link_written runs under the device lock.
 *          The slot's registers are in slot.c.
 * Missing: function level reset and secondary bus reset (neither is offered);
 *          errors are never raised; no ECRC, no ASPM, no 10-bit tags.
 *
 * There is no wire, so a link always runs at its highest speed and width, and
 * both of its ends say the same: an endpoint takes over its port's link. While
 * the link is down the specification leaves speed and width undefined.
 */
#include "pci/internal.h"
#include "vmm/base/util.h"

#define EXPRESS_SIZE	0x3c	/* version 2, all registers */
#define LNKCAP_ASPMOC	BIT(22)	/* ASPM optionality compliance */

static uint8_t port_type_of(const struct pci_dev *p)
{
	return (pci_get16(p, p->express_cap + PCI_EXP_FLAGS) & PCI_EXP_FLAGS_TYPE) >> 4;
}

/* Root and downstream ports have a link below them. */
static bool is_downstream(const struct pci_dev *p)
{
	uint8_t t;

	if (!p->express_cap)
		return false;
	t = port_type_of(p);
	return t == PCI_EXP_TYPE_ROOT_PORT || t == PCI_EXP_TYPE_DOWNSTREAM;
}

static bool has_link(uint8_t port_type)
{
	return port_type != PCI_EXP_TYPE_RC_END && port_type != PCI_EXP_TYPE_RC_EC;
}

static void add_device_regs(struct pci_dev *p, uint16_t cap, bool downstream)
{
	uint32_t cap2 = PCI_EXP_DEVCAP2_COMP_TMOUT_DIS;
	uint16_t ctl2 = PCI_EXP_DEVCTL2_COMP_TMOUT_DIS;

	/* Payloads of 128 bytes, which makes the size field read-only. */
	pci_set32(p, cap + PCI_EXP_DEVCAP, PCI_EXP_DEVCAP_RBER);
	pci_set16(p, cap + PCI_EXP_DEVCTL, PCI_EXP_DEVCTL_READRQ_512B |
		  PCI_EXP_DEVCTL_NOSNOOP_EN | PCI_EXP_DEVCTL_RELAX_EN);
	put_le16(p->wmask + cap + PCI_EXP_DEVCTL,
		 PCI_EXP_DEVCTL_CERE | PCI_EXP_DEVCTL_NFERE | PCI_EXP_DEVCTL_FERE |
		 PCI_EXP_DEVCTL_URRE | PCI_EXP_DEVCTL_RELAX_EN |
		 PCI_EXP_DEVCTL_NOSNOOP_EN | PCI_EXP_DEVCTL_READRQ);
	put_le16(p->w1cmask + cap + PCI_EXP_DEVSTA,
		 PCI_EXP_DEVSTA_CED | PCI_EXP_DEVSTA_NFED | PCI_EXP_DEVSTA_FED |
		 PCI_EXP_DEVSTA_URD);
	if (downstream) {	/* s6.13: functions above 7 may live below */
		cap2 |= PCI_EXP_DEVCAP2_ARI;
		ctl2 |= PCI_EXP_DEVCTL2_ARI;
	}
	pci_set32(p, cap + PCI_EXP_DEVCAP2, cap2);
	put_le16(p->wmask + cap + PCI_EXP_DEVCTL2, ctl2);
}

void pci_express_link(struct pci_dev *p, uint8_t speed, uint8_t width)
{
	uint16_t cap = p->express_cap;
	uint16_t sta = (uint16_t)(speed | width << PCI_EXP_LNKSTA_NLW_SHIFT |
				  PCI_EXP_LNKSTA_SLC);
	uint32_t c = pci_get32(p, cap + PCI_EXP_LNKCAP);

	c &= ~(uint32_t)(PCI_EXP_LNKCAP_SLS | PCI_EXP_LNKCAP_MLW | PCI_EXP_LNKCAP_LBNC);
	c |= speed | (uint32_t)width << 4;
	/* Required of ports with a choice of speeds or widths (s7.5.3.6). */
	if (is_downstream(p) && (speed > 1 || width > 1)) {
		c |= PCI_EXP_LNKCAP_LBNC;
		put_le16(p->w1cmask + cap + PCI_EXP_LNKSTA,
			 PCI_EXP_LNKSTA_LBMS | PCI_EXP_LNKSTA_LABS);
	}
	pci_set32(p, cap + PCI_EXP_LNKCAP, c);
	pci_set16(p, cap + PCI_EXP_LNKSTA, sta);
	/* Speeds 1..n as bits 1..n; the target is the highest. */
	pci_set32(p, cap + PCI_EXP_LNKCAP2, (BIT(speed) - 1) << 1);
	pci_set16(p, cap + PCI_EXP_LNKCTL2, speed);
	p->wmask[cap + PCI_EXP_LNKCTL2] = PCI_EXP_LNKCTL2_TLS;
}

bool pci_express_is_port(const struct pci_dev *p)
{
	return is_downstream(p);
}

/* Are requests carried down? True for everything that is not a port. */
bool pci_express_link_up(const struct pci_dev *p)
{
	return !is_downstream(p) || pci_slot_link_up(p);
}

static void link_written(struct pci_dev *p, uint16_t off, unsigned int len)
{
	bool present = pci_get16(p, p->express_cap + PCI_EXP_SLTSTA) & PCI_EXP_SLTSTA_PDS;
	bool was_up = pci_express_link_up(p);

	if (!p->child)
		return;
	pci_slot_presence(p, present, true);
	if (pci_express_link_up(p) != was_up)
		p->child_stale = true;
}

static void add_link_regs(struct pci_dev *p, uint16_t cap, bool downstream, uint8_t port)
{
	uint16_t ctl = PCI_EXP_LNKCTL_CCC | PCI_EXP_LNKCTL_ES;
	uint32_t lnkcap = LNKCAP_ASPMOC | (uint32_t)port << 24;

	if (downstream) {
		lnkcap |= PCI_EXP_LNKCAP_DLLLARC;
		ctl |= PCI_EXP_LNKCTL_LD | PCI_EXP_LNKCTL_LBMIE | PCI_EXP_LNKCTL_LABIE;
		pci_hook_add(p, cap + PCI_EXP_LNKCTL, 2, link_written);
	}
	pci_set32(p, cap + PCI_EXP_LNKCAP, lnkcap);
	put_le16(p->wmask + cap + PCI_EXP_LNKCTL, ctl);
	pci_express_link(p, 1, 1);
}

/* s7.5.3.12-14. PME and errors are reported to the root port's own driver. */
static void add_root_regs(struct pci_dev *p, uint16_t cap)
{
	put_le16(p->wmask + cap + PCI_EXP_RTCTL,
		 PCI_EXP_RTCTL_SECEE | PCI_EXP_RTCTL_SENFEE | PCI_EXP_RTCTL_SEFEE |
		 PCI_EXP_RTCTL_PMEIE);
	put_le32(p->w1cmask + cap + PCI_EXP_RTSTA, PCI_EXP_RTSTA_PME);
}

uint16_t pci_express_add(struct pci_dev *p, uint8_t port_type, uint8_t port)
{
	uint16_t cap = pci_cap_add(p, PCI_CAP_ID_EXP, EXPRESS_SIZE);
	bool downstream;

	p->express = true;
	p->express_cap = cap;
	pci_set16(p, cap + PCI_EXP_FLAGS, (uint16_t)(2 | port_type << 4));
	downstream = is_downstream(p);
	add_device_regs(p, cap, downstream);
	if (has_link(port_type))
		add_link_regs(p, cap, downstream, port);
	if (port_type == PCI_EXP_TYPE_ROOT_PORT)
		add_root_regs(p, cap);
	return cap;
}

void pci_express_follow_port(struct pci_dev *p)
{
	const struct pci_dev *port = p->bus->bridge;
	uint32_t link;

	if (!port)
		return;
	link = pci_get32(port, port->express_cap + PCI_EXP_LNKCAP);
	pci_express_link(p, link & PCI_EXP_LNKCAP_SLS, (link & PCI_EXP_LNKCAP_MLW) >> 4);
}

uint16_t pci_express_endpoint_add(struct pci_dev *p)
{
	uint16_t cap;

	if (!p->bus->express)
		return 0;
	if (!p->bus->bridge)
		return pci_express_add(p, PCI_EXP_TYPE_RC_END, 0);
	cap = pci_express_add(p, PCI_EXP_TYPE_ENDPOINT, 0);
	pci_express_follow_port(p);
	return cap;
}

void pci_express_common_clock(struct pci_dev *p)
{
	uint16_t cap = p->express_cap;

	if (cap && (pci_get16(p, cap + PCI_EXP_LNKSTA) & PCI_EXP_LNKSTA_SLC))
		pci_flip8(p, cap + PCI_EXP_LNKCTL, PCI_EXP_LNKCTL_CCC, true);
}

/* ---- extended capabilities ---- */

#define AER_SIZE	0x48
#define AER_UNCOR	(PCI_ERR_UNC_DLP | PCI_ERR_UNC_POISON_TLP | PCI_ERR_UNC_FCP | \
			 PCI_ERR_UNC_COMP_TIME | PCI_ERR_UNC_COMP_ABORT | \
			 PCI_ERR_UNC_UNX_COMP | PCI_ERR_UNC_RX_OVER | \
			 PCI_ERR_UNC_MALF_TLP | PCI_ERR_UNC_UNSUP | PCI_ERR_UNC_ACSV)
/* s7.8.4.4: which are fatal until software says otherwise */
#define AER_FATAL	(PCI_ERR_UNC_DLP | PCI_ERR_UNC_SURPDN | PCI_ERR_UNC_FCP | \
			 PCI_ERR_UNC_RX_OVER | PCI_ERR_UNC_MALF_TLP)
#define AER_COR		(PCI_ERR_COR_RCVR | PCI_ERR_COR_BAD_TLP | PCI_ERR_COR_BAD_DLLP | \
			 PCI_ERR_COR_REP_ROLL | PCI_ERR_COR_REP_TIMER | PCI_ERR_COR_ADV_NFAT)
#define AER_ROOT_STATUS	0x7fu	/* PCI_ERR_ROOT_COR_RCV .. FATAL_RCV */

void pci_aer_add(struct pci_dev *p)
{
	uint16_t o = pci_ecap_add(p, PCI_EXT_CAP_ID_ERR, 2, AER_SIZE);

	put_le32(p->w1cmask + o + PCI_ERR_UNCOR_STATUS, AER_UNCOR);
	put_le32(p->wmask + o + PCI_ERR_UNCOR_MASK, AER_UNCOR);
	pci_set32(p, o + PCI_ERR_UNCOR_SEVER, AER_FATAL);
	put_le32(p->wmask + o + PCI_ERR_UNCOR_SEVER, AER_UNCOR);
	put_le32(p->w1cmask + o + PCI_ERR_COR_STATUS, AER_COR);
	pci_set32(p, o + PCI_ERR_COR_MASK, PCI_ERR_COR_ADV_NFAT);
	put_le32(p->wmask + o + PCI_ERR_COR_MASK, AER_COR);
	if (port_type_of(p) != PCI_EXP_TYPE_ROOT_PORT)
		return;
	put_le32(p->wmask + o + PCI_ERR_ROOT_COMMAND,
		 PCI_ERR_ROOT_CMD_COR_EN | PCI_ERR_ROOT_CMD_NONFATAL_EN |
		 PCI_ERR_ROOT_CMD_FATAL_EN);
	put_le32(p->w1cmask + o + PCI_ERR_ROOT_STATUS, AER_ROOT_STATUS);
}

/* s6.12.1.1: a port must have all of these. They hold without doing anything,
 * because a device's DMA reaches RAM only, never another device. */
void pci_acs_add(struct pci_dev *p)
{
	uint16_t o = pci_ecap_add(p, PCI_EXT_CAP_ID_ACS, 1, 8);
	uint16_t bits = PCI_ACS_SV | PCI_ACS_TB | PCI_ACS_RR | PCI_ACS_CR |
			PCI_ACS_UF | PCI_ACS_DT;

	pci_set16(p, o + PCI_ACS_CAP, bits);
	put_le16(p->wmask + o + PCI_ACS_CTRL, bits);
}
