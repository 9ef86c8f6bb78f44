/*
 * vmm/control/commands_dump.c - QMP commands that write guest memory to an ELF
 * core file.
 *
 * Spec:    QEMU's qapi/dump.json; System V ABI (ELF-64, PT_NOTE, PT_LOAD), as
 *          crash(8) and gdb read it.
 * Threads: commands on the main loop; the file is opened and written by a
 *          thread of its own, because memory is large and storage is slow. The
 *          guest is stopped meanwhile.
 * Missing: paging=true (virtual addresses), kdump formats, vmcoreinfo.
 */
#include <elf.h>
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "block/aside.h"
#include "vmm/base/fds.h"
#include "vmm/base/json.h"
#include "vmm/base/util.h"
#include "vmm/control/commands_dump.h"
#include "vmm/control/qmp.h"
#include "vmm/core/arch.h"
#include "vmm/core/gmem.h"
#include "vmm/core/vcpu.h"
#include "vmm/core/vm.h"

#define CHUNK	(1 * MIB)	/* between looks at progress and cancellation */
#define ALIGN	4096u		/* of the memory in the file */

extern const struct qmp_table qmp_table_dump;

enum dump_status { DUMP_NONE, DUMP_ACTIVE, DUMP_COMPLETED, DUMP_FAILED };
static const char *const status_words[] = { "none", "active", "completed", "failed", NULL };

struct piece {
	uint64_t gpa, bytes, offset;	/* offset: in the file */
	const uint8_t *host;
};

struct dump {
	struct qmp *q;
	struct qmp_call *call;		/* NULL: detached */
	bool resume;			/* the guest ran when it began */
	/* set before the thread starts */
	char *path;			/* NULL: fd was given */
	int fd;
	bool sparse;			/* zeroes need not be written */
	struct piece piece[GMEM_REGIONS_MAX];
	int pieces;
	uint8_t *head;			/* ELF header, program headers, notes */
	size_t head_bytes;
	uint64_t total;			/* bytes of memory */
	/* thread */
	_Atomic uint64_t written;
	_Atomic bool cancel;
	int result;
	struct aside *aside;		/* main loop; NULL: no thread */
	_Atomic int status;		/* enum dump_status */
};

static struct dump **slot(struct qmp *q)
{
	return (struct dump **)qmp_state(q, &qmp_table_dump);
}

bool dump_in_progress(struct qmp *q)
{
	struct dump *d = *slot(q);

	return d && atomic_load(&d->status) == DUMP_ACTIVE;
}

/* ---- the file ---- */

/* The part of each region within [begin, begin + length). */
static void choose_pieces(struct dump *d, uint64_t begin, uint64_t length)
{
	const struct gmem *gm = qmp_vm(d->q)->mem;
	uint64_t end = length > UINT64_MAX - begin ? UINT64_MAX : begin + length, lo, hi;

	for (int i = 0; i < gm->count; i++) {
		const struct gmem_region *r = &gm->region[i];

		lo = MAX(r->base, begin);
		hi = MIN(r->base + r->size, end);
		if (lo >= hi)
			continue;
		d->piece[d->pieces++] = (struct piece){ .gpa = lo, .bytes = hi - lo,
							.host = r->host + (lo - r->base) };
		d->total += hi - lo;
	}
}

static size_t notes_bytes(const struct vm *vm)
{
	size_t n = 0;

	for (uint32_t i = 0; i < vm->vcpu_count; i++)
		n += arch_elf_notes(vm->vcpu[i], NULL);
	return n;
}

static void fill_headers(struct dump *d, size_t notes)
{
	size_t heads = sizeof(Elf64_Ehdr) + (size_t)(d->pieces + 1) * sizeof(Elf64_Phdr);
	uint64_t offset = align_up(heads + notes, ALIGN);
	Elf64_Phdr *p = (Elf64_Phdr *)(d->head + sizeof(Elf64_Ehdr));
	Elf64_Ehdr h = {
		.e_ident = { ELFMAG0, ELFMAG1, ELFMAG2, ELFMAG3, ELFCLASS64, ELFDATA2LSB,
			     EV_CURRENT },
		.e_type = ET_CORE, .e_machine = arch_elf_machine(), .e_version = EV_CURRENT,
		.e_phoff = sizeof(h), .e_ehsize = sizeof(h), .e_phentsize = sizeof(*p),
		.e_phnum = (Elf64_Half)(d->pieces + 1),
	};

	memcpy(d->head, &h, sizeof(h));
	p[0] = (Elf64_Phdr){ .p_type = PT_NOTE, .p_offset = heads, .p_filesz = notes,
			     .p_memsz = notes };
	for (int i = 0; i < d->pieces; i++) {
		struct piece *c = &d->piece[i];

		c->offset = offset;
		p[i + 1] = (Elf64_Phdr){ .p_type = PT_LOAD, .p_flags = PF_R | PF_W | PF_X,
					 .p_offset = offset, .p_vaddr = c->gpa, .p_paddr = c->gpa,
					 .p_filesz = c->bytes, .p_memsz = c->bytes };
		offset += c->bytes;
	}
}

static void make_head(struct dump *d)
{
	struct vm *vm = qmp_vm(d->q);
	size_t notes = notes_bytes(vm), at;

	at = sizeof(Elf64_Ehdr) + (size_t)(d->pieces + 1) * sizeof(Elf64_Phdr);
	d->head_bytes = align_up(at + notes, ALIGN);
	d->head = xcalloc(1, d->head_bytes);
	fill_headers(d, notes);
	for (uint32_t i = 0; i < vm->vcpu_count; i++)
		at += arch_elf_notes(vm->vcpu[i], d->head + at);
}

/* ---- the thread ---- */

static int write_all(struct dump *d, const uint8_t *p, size_t len)
{
	struct pollfd pfd = { .fd = d->fd, .events = POLLOUT };
	ssize_t n;

	while (len) {
		n = write(d->fd, p, len);
		if (n < 0 && errno == EAGAIN) {
			poll(&pfd, 1, 100);	/* ms; then look for a cancellation */
			n = 0;
		}
		if (n < 0 && errno != EINTR)
			return -errno;
		if (atomic_load(&d->cancel))
			return -ECANCELED;
		p += MAX(n, (ssize_t)0);
		len -= (size_t)MAX(n, (ssize_t)0);
	}
	return 0;
}

static bool all_zero(const uint8_t *p, size_t len)
{
	return p[0] == 0 && memcmp(p, p + 1, len - 1) == 0;
}

static int write_chunk(struct dump *d, const uint8_t *p, size_t len)
{
	if (!d->sparse || !all_zero(p, len))
		return write_all(d, p, len);
	return lseek(d->fd, (off_t)len, SEEK_CUR) < 0 ? -errno : 0;
}

static int write_piece(struct dump *d, const struct piece *c)
{
	uint64_t at;
	size_t n;
	int r = 0;

	for (at = 0; at < c->bytes && r == 0; at += n) {
		n = (size_t)MIN(c->bytes - at, CHUNK);
		r = atomic_load(&d->cancel) ? -ECANCELED : write_chunk(d, c->host + at, n);
		atomic_fetch_add(&d->written, n);
	}
	return r;
}

static int open_file(struct dump *d)
{
	struct stat st;

	if (d->path)
		d->fd = open(d->path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC | O_NOCTTY |
			     O_NONBLOCK, 0600);
	if (d->fd < 0 || fstat(d->fd, &st) < 0)
		return -errno;
	d->sparse = d->path && S_ISREG(st.st_mode);
	return 0;
}

static int write_dump(struct dump *d)
{
	int r = open_file(d);

	if (r == 0)
		r = write_all(d, d->head, d->head_bytes);
	for (int i = 0; i < d->pieces && r == 0; i++)
		r = write_piece(d, &d->piece[i]);
	if (r == 0 && d->sparse &&
	    ftruncate(d->fd, (off_t)(d->head_bytes + d->total)) < 0)
		r = -errno;
	return r;
}

static void dump_thread(void *arg)
{
	struct dump *d = arg;

	d->result = write_dump(d);
	if (d->fd >= 0 && close(d->fd) < 0 && d->result == 0)
		d->result = -errno;
	d->fd = -1;
}

/* ---- begin and end ---- */

static json_t *query_result(const struct dump *d)
{
	return json_pack("{s:s,s:I,s:I}", "status",
			 status_words[d ? atomic_load(&d->status) : DUMP_NONE], "completed",
			 (json_int_t)(d ? atomic_load(&d->written) : 0), "total",
			 (json_int_t)(d ? d->total : 0));
}

static void dump_free(struct dump *d)
{
	if (!d)
		return;
	fd_close(&d->fd);
	free(d->head);
	free(d->path);
	free(d);
}

static void on_done(void *arg)
{
	struct dump *d = arg;
	struct vm *vm = qmp_vm(d->q);
	struct qmp_call *call = d->call;
	struct err e = ERR_INIT;
	json_t *data;

	d->aside = NULL;
	atomic_store(&d->status, d->result ? DUMP_FAILED : DUMP_COMPLETED);
	if (d->result)
		err_sys(&e, d->result, "dump: failed to save memory%s%s", d->path ? " to " : "",
			d->path ? d->path : "");
	data = json_pack("{s:o}", "result", query_result(d));
	if (d->result)
		json_put_str(data, "error", e.text);
	d->call = NULL;
	vm_event(vm, "DUMP_COMPLETED", data);
	if (d->resume && atomic_load(&vm->state) == VM_PAUSED)
		vm_start(vm, NULL);
	/* Last: the client's next command may be a dump, which frees this one. */
	if (call)
		qmp_complete(call, NULL, &e);
}

struct dump_args {
	bool paging, detach;
	char *protocol;
	uint64_t begin, length;
	int format;
};

static const char *const format_words[] = { "elf", NULL };

/* No such address: begin and length were not given. */
#define NOT_GIVEN	INT64_MAX

static const struct prop dump_args[] = {
	PROP_BOOL(struct dump_args, paging, "paging", 0,
		  "virtual addresses; must be false", .flags = PROP_REQUIRED),
	PROP_STR(struct dump_args, protocol, "protocol", NULL,
		 "file:PATH, or fd:NAME of a descriptor sent with getfd",
		 .flags = PROP_REQUIRED),
	PROP_BOOL(struct dump_args, detach, "detach", 0,
		  "answer at once; DUMP_COMPLETED tells the end"),
	PROP_U64(struct dump_args, begin, "begin", 0, NOT_GIVEN, NOT_GIVEN,
		 "first guest physical address"),
	PROP_U64(struct dump_args, length, "length", 0, NOT_GIVEN, NOT_GIVEN, "bytes"),
	PROP_ENUM(struct dump_args, format, "format", format_words, 0, "of the file",
		  .kind = "DumpGuestMemoryFormat"),
	PROP_END
};

static int check_args(struct qmp *q, const struct dump_args *a, struct err *e)
{
	if (dump_in_progress(q))
		return err_set(e, -EBUSY, "There is a dump in process, please wait.");
	if (a->paging)
		return err_set(e, -EINVAL, "paging=true is not supported; a dump has physical "
			       "addresses");
	if (a->begin != NOT_GIVEN && a->length == NOT_GIVEN)
		return err_set(e, -EINVAL, "Parameter 'length' is missing");
	if (a->begin == NOT_GIVEN && a->length != NOT_GIVEN)
		return err_set(e, -EINVAL, "Parameter 'begin' is missing");
	return 0;
}

/* Where to write to; a descriptor is the dump's from now on. */
static int choose_target(struct dump *d, const char *protocol, struct err *e)
{
	if (strncmp(protocol, "file:", 5) == 0) {
		d->path = xstrdup(protocol + 5);
		return 0;
	}
	if (strncmp(protocol, "fd:", 3))
		return err_set(e, -EINVAL, "Parameter 'protocol': '%.80s' must begin with 'file:' "
			       "or 'fd:'", protocol);
	d->fd = fds_take(qmp_vm(d->q)->fds, protocol + 3);
	if (d->fd < 0)
		return err_set(e, -ENOENT, "File descriptor named '%.80s' not found",
			       protocol + 3);
	fcntl(d->fd, F_SETFL, fcntl(d->fd, F_GETFL) | O_NONBLOCK);
	return 0;
}

static int prepare(struct dump *d, const struct dump_args *a, struct err *e)
{
	bool whole = a->begin == NOT_GIVEN;
	int r;

	choose_pieces(d, whole ? 0 : a->begin, whole ? UINT64_MAX : a->length);
	if (!d->pieces)
		return err_set(e, -EINVAL, "Invalid parameter 'begin': no memory there");
	r = choose_target(d, a->protocol, e);
	if (r)
		return r;
	d->resume = atomic_load(&qmp_vm(d->q)->state) == VM_RUNNING;
	vm_stop(qmp_vm(d->q), VM_PAUSED);
	make_head(d);
	return 0;
}

static int start(struct dump *d, bool detach, struct err *e)
{
	int r = aside_start(&d->aside, qmp_vm(d->q)->blocks, "dump", dump_thread, on_done, d);

	if (r)
		return err_sys(e, r, "no thread for the dump");
	atomic_store(&d->status, DUMP_ACTIVE);
	if (!detach)
		d->call = qmp_defer(d->q);
	return 0;
}

static int dump_guest_memory(struct qmp *q, void *args, json_t **ret, struct err *e)
{
	struct dump_args *a = args;
	struct dump *d;
	int r = check_args(q, a, e);

	if (r)
		return r;
	d = xcalloc(1, sizeof(*d));
	*d = (struct dump){ .q = q, .fd = -1 };
	r = prepare(d, a, e);
	if (r == 0)
		r = start(d, a->detach, e);
	if (r) {
		dump_free(d);
		return r;
	}
	dump_free(*slot(q));
	*slot(q) = d;
	return 0;
}

static int query_dump(struct qmp *q, void *args, json_t **ret, struct err *e)
{
	*ret = query_result(*slot(q));
	return 0;
}

static int query_capability(struct qmp *q, void *args, json_t **ret, struct err *e)
{
	*ret = json_pack("{s:[s]}", "formats", "elf");
	return 0;
}

static void fini(struct qmp *q)
{
	struct dump *d = *slot(q);

	if (!d)
		return;
	atomic_store(&d->cancel, true);
	if (d->call)
		qmp_complete(d->call, NULL, NULL);
	/* One whose file hangs looks at guest memory no more. */
	if (!d->aside || aside_end(d->aside))
		dump_free(d);
}

static const struct qmp_cmd cmds[] = {
	{ .name = "dump-guest-memory", .help = "write guest memory to an ELF core file",
	  .args = dump_args, .args_size = sizeof(struct dump_args), .run = dump_guest_memory },
	{ .name = "query-dump", .help = "how far the last dump is", .run = query_dump,
	  .ret = "DumpQueryResult" },
	{ .name = "query-dump-guest-memory-capability", .help = "formats of dumps",
	  .run = query_capability, .ret = "DumpGuestMemoryCapability" },
	{ 0 }
};

static const struct qmp_event events[] = {
	{ "DUMP_COMPLETED", "q_obj_DUMP_COMPLETED-arg", "a dump has ended" },
	{ 0 }
};

static const struct qmp_member result_members[] = {
	{ "status", "DumpStatus" }, { "completed", "int" }, { "total", "int" }, { 0 }
};
static const struct qmp_member capability[] = {
	{ "formats", "[DumpGuestMemoryFormat]" }, { 0 }
};
static const struct qmp_member completed[] = {
	{ "result", "DumpQueryResult" }, { "*error", "str" }, { 0 }
};

static const struct qmp_type types[] = {
	{ .name = "DumpStatus", .meta = QMP_ENUM, .words = status_words },
	{ .name = "DumpGuestMemoryFormat", .meta = QMP_ENUM, .words = format_words },
	{ .name = "DumpQueryResult", .members = result_members },
	{ .name = "DumpGuestMemoryCapability", .members = capability },
	{ .name = "q_obj_DUMP_COMPLETED-arg", .members = completed },
	{ 0 }
};

const struct qmp_table qmp_table_dump = {
	.cmds = cmds, .events = events, .types = types, .fini = fini,
};
