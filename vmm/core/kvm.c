/*
 * vmm/core/kvm.c - /dev/kvm: open it, say what is wrong, memory slots,
 * ioeventfds.
 *
 * Spec:    Linux Documentation/virt/kvm/api.rst.
 * Threads: see kvm.h.
 * Missing: dirty logging.
 */
#include <errno.h>
#include <fcntl.h>
#include <grp.h>
#include <inttypes.h>
#include <linux/kvm.h>
#include <pwd.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/stat.h>
#include <unistd.h>

#include "vmm/base/util.h"
#include "vmm/core/kvm.h"

#define API_VERSION	12	/* the only one since Linux 2.6.22 */
#define SLOT_BITS	64u	/* per word of slot_used */

/* ---- what is wrong ---- */

/* The module that this processor needs, by its flags in /proc/cpuinfo; NULL
 * when it shows neither, or is no x86. */
static const char *module_for_cpu(void)
{
	const char *module = NULL;
	char *line = NULL;
	size_t size = 0;
	FILE *f = fopen("/proc/cpuinfo", "re");

	while (f && !module && getline(&line, &size, f) > 0) {
		if (strncmp(line, "flags", 5) != 0)
			continue;
		if (strstr(line, " vmx"))
			module = "kvm_intel";
		else if (strstr(line, " svm"))
			module = "kvm_amd";
		else
			break;
	}
	free(line);
	if (f)
		fclose(f);
	return module;
}

static int say_absent(const char *path, int r, struct err *e)
{
	const char *module = module_for_cpu();

	if (module)
		return err_set(e, r, "KVM is not available: %s %s; load the module with "
			       "'modprobe %s', and if that fails enable virtualization in the "
			       "firmware's set-up", path, r == -ENOENT ? "does not exist" :
			       "has no driver", module);
	return err_set(e, r, "KVM is not available: %s %s, and this processor shows no "
		       "virtualization (vmx or svm in /proc/cpuinfo); enable it in the firmware's "
		       "set-up, or nested virtualization if this is a guest", path,
		       r == -ENOENT ? "does not exist" : "has no driver");
}

static int say_denied(const char *path, int r, struct err *e)
{
	struct passwd *pw = getpwuid(getuid());
	struct group *gr = NULL;
	struct stat st;

	/* Owned by a group that may write: the usual set-up. */
	if (stat(path, &st) == 0 && (st.st_mode & S_IWGRP) && st.st_gid != 0)
		gr = getgrgid(st.st_gid);
	if (gr)
		return err_set(e, r, "no permission to open %s; it is for the group '%s': join it "
			       "with 'sudo usermod -aG %s %s' and log in again", path,
			       gr->gr_name, gr->gr_name, pw ? pw->pw_name : "$USER");
	return err_set(e, r, "no permission to open %s; run 'sudo chgrp kvm %s && sudo chmod "
		       "660 %s' and join the group kvm with 'sudo usermod -aG kvm %s'", path, path,
		       path, pw ? pw->pw_name : "$USER");
}

static int open_device(const char *path, struct err *e)
{
	int fd = open(path, O_RDWR | O_CLOEXEC);
	int r = fd < 0 ? -errno : 0;

	switch (r) {
	case 0:
		return fd;
	case -ENOENT:
	case -ENODEV:
	case -ENXIO:
		return say_absent(path, r, e);
	case -EACCES:
	case -EPERM:
		return say_denied(path, r, e);
	default:
		return err_sys(e, r, "cannot open %s", path);
	}
}

static int create_vm(struct kvm *k, const char *path, struct err *e)
{
	int r;

	do {		/* a signal may interrupt the start of the kernel's threads */
		k->vm_fd = ioctl(k->sys_fd, KVM_CREATE_VM, 0ul);
	} while (k->vm_fd < 0 && errno == EINTR);
	if (k->vm_fd >= 0)
		return 0;
	r = -errno;
	if (r == -EBUSY)
		return err_set(e, r, "KVM cannot create a VM: another hypervisor (such as "
			       "VirtualBox or VMware) holds the processor's virtualization");
	return err_sys(e, r, "KVM cannot create a VM on %s", path);
}

/* What nothing here works without. */
static int check_needs(const struct kvm *k, struct err *e)
{
	static const struct {
		long cap;
		const char *name;
	} need[] = {
		{ KVM_CAP_USER_MEMORY, "KVM_CAP_USER_MEMORY" },
		{ KVM_CAP_IMMEDIATE_EXIT, "KVM_CAP_IMMEDIATE_EXIT" },
		{ KVM_CAP_IOEVENTFD, "KVM_CAP_IOEVENTFD" },
		{ KVM_CAP_IRQFD, "KVM_CAP_IRQFD" },
		{ KVM_CAP_SIGNAL_MSI, "KVM_CAP_SIGNAL_MSI" },
	};
	size_t i;
	int r = 0;

	for (i = 0; i < ARRAY_LEN(need) && r == 0; i++)
		r = kvm_need(k, need[i].cap, need[i].name, e);
	return r;
}

static int read_limits(struct kvm *k, const char *path, struct err *e)
{
	int r = ioctl(k->sys_fd, KVM_GET_VCPU_MMAP_SIZE, 0ul);

	if (r < 0)
		return err_sys(e, -errno, "%s does not tell the size of a vCPU's run area", path);
	k->run_size = (size_t)r;
	r = kvm_check(k, KVM_CAP_NR_MEMSLOTS);
	k->slots_max = r > 0 ? (uint32_t)r : 32;	/* api.rst: at least 32 */
	k->slots_max = MIN(k->slots_max, (uint32_t)ARRAY_LEN(k->slot_used) * SLOT_BITS);
	r = kvm_check(k, KVM_CAP_MAX_VCPUS);
	if (r <= 0)
		r = kvm_check(k, KVM_CAP_NR_VCPUS);
	k->vcpus_max = r > 0 ? (uint32_t)r : 4;		/* api.rst: assume 4 */
	return 0;
}

static int set_up(struct kvm *k, const char *path, struct err *e)
{
	int r;

	k->sys_fd = open_device(path, e);
	if (k->sys_fd < 0)
		return k->sys_fd;
	r = ioctl(k->sys_fd, KVM_GET_API_VERSION, 0ul);
	if (r < 0)
		return err_set(e, -errno, "%s is not a KVM device", path);
	if (r != API_VERSION)
		return err_set(e, -ENOTSUP, "%s speaks version %d of the KVM interface, roost "
			       "needs version %d", path, r, API_VERSION);
	r = create_vm(k, path, e);
	if (r == 0)
		r = check_needs(k, e);
	return r ? r : read_limits(k, path, e);
}

int kvm_open(struct kvm **out, const char *path, struct err *e)
{
	struct kvm *k = xcalloc(1, sizeof(*k));
	int r;

	k->sys_fd = k->vm_fd = -1;
	r = set_up(k, path ? path : "/dev/kvm", e);
	if (r < 0) {
		kvm_close(k);
		return r;
	}
	*out = k;
	return 0;
}

void kvm_close(struct kvm *k)
{
	if (!k)
		return;
	fd_close(&k->vm_fd);
	fd_close(&k->sys_fd);
	free(k);
}

int kvm_check(const struct kvm *k, long cap)
{
	int r = ioctl(k->vm_fd, KVM_CHECK_EXTENSION, cap);

	return r < 0 ? 0 : r;
}

int kvm_need(const struct kvm *k, long cap, const char *name, struct err *e)
{
	if (kvm_check(k, cap) > 0)
		return 0;
	return err_class(e, ERR_KVM_MISSING_CAP, -ENOTSUP, "the host's KVM lacks %s, which roost "
			 "needs; a newer kernel has it", name);
}

/* ---- memory slots ---- */

static int slot_find_free(const struct kvm *k, uint32_t *slot)
{
	uint32_t i;

	for (i = 0; i < k->slots_max; i++)
		if (!(k->slot_used[i / SLOT_BITS] & BIT64(i % SLOT_BITS))) {
			*slot = i;
			return 0;
		}
	return -ENOSPC;
}

static int slot_set(struct kvm *k, uint32_t slot, uint64_t addr, uint64_t size,
		    void *host, bool readonly)
{
	struct kvm_userspace_memory_region m = {
		.slot = slot,
		.flags = readonly ? KVM_MEM_READONLY : 0,
		.guest_phys_addr = addr,
		.memory_size = size,
		.userspace_addr = (uint64_t)(uintptr_t)host,
	};

	return ioctl(k->vm_fd, KVM_SET_USER_MEMORY_REGION, &m) < 0 ? -errno : 0;
}

int kvm_slot_add(struct kvm *k, uint64_t addr, uint64_t size, void *host,
		 bool readonly, uint32_t *slot, struct err *e)
{
	int r = slot_find_free(k, slot);

	if (r < 0)
		return err_set(e, r, "KVM's %u memory slots are all in use", k->slots_max);
	if (readonly && (r = kvm_need(k, KVM_CAP_READONLY_MEM, "KVM_CAP_READONLY_MEM", e)) < 0)
		return r;
	r = slot_set(k, *slot, addr, size, host, readonly);
	if (r < 0)
		return err_sys(e, r, "KVM does not take guest memory of %" PRIu64 " KiB at 0x%"
			       PRIx64, size / 1024, addr);
	k->slot_used[*slot / SLOT_BITS] |= BIT64(*slot % SLOT_BITS);
	return 0;
}

int kvm_slot_del(struct kvm *k, uint32_t slot)
{
	int r = slot_set(k, slot, 0, 0, NULL, false);

	if (r == 0)
		k->slot_used[slot / SLOT_BITS] &= ~BIT64(slot % SLOT_BITS);
	return r;
}

int kvm_map_memory(struct kvm *k, const struct gmem *gm, struct err *e)
{
	const struct gmem_region *m;
	uint32_t slot;
	int i, r = 0;

	for (i = 0; i < gm->count && r == 0; i++) {
		m = &gm->region[i];
		r = kvm_slot_add(k, m->base, m->size, m->host, m->readonly, &slot, e);
	}
	return r;
}

/* ---- doorbells ---- */

int kvm_ioeventfd(struct kvm *k, enum bus_space space, uint64_t addr,
		  unsigned int len, int fd, bool has_match, uint64_t match, bool on)
{
	struct kvm_ioeventfd io = {
		.datamatch = has_match ? match : 0,
		.addr = addr,
		.len = len,
		.fd = fd,
		.flags = (space == BUS_PIO ? KVM_IOEVENTFD_FLAG_PIO : 0) |
			 (has_match ? KVM_IOEVENTFD_FLAG_DATAMATCH : 0) |
			 (on ? 0 : KVM_IOEVENTFD_FLAG_DEASSIGN),
	};

	return ioctl(k->vm_fd, KVM_IOEVENTFD, &io) < 0 ? -errno : 0;
}
