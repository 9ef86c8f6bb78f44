/*
 * roost.h - libroost, the virtual machine monitor as a library.
 *
 * A program describes a machine in the words of QEMU's command line, starts it,
 * talks to its serial ports, looks into its memory, breaks its hardware, and
 * throws it away. Several machines live in one process beside each other.
 *
 *	struct roost_error e;
 *	struct roost_vm *vm;
 *
 *	if (roost_vm_create("-m 256 -kernel bzImage -append console=ttyS0", &vm, &e) ||
 *	    roost_vm_start(vm, &e) ||
 *	    roost_serial_expect(vm, 0, "login:", 0, 60000, NULL, &e))
 *		puts(e.text);
 *	roost_vm_destroy(vm);
 *
 * THREADS. Each VM has a main-loop thread, threads for its vCPUs and I/O
 * threads, all owned by the library and with every signal blocked. Functions
 * may be called from any thread, also for one VM from several at once. Calls
 * that change a VM are posted to its main-loop thread and waited for; those
 * that wait (with a timeout) wait in the caller's thread and hold up nobody.
 * Callbacks run on the VM's main-loop thread: while one runs, that VM's timers,
 * slow devices and control stand still (its vCPUs and disks go on), so they
 * should be short. A callback may call any function but those marked
 * [not in a callback], which return -EDEADLK there.
 *
 * HANDLES. A struct roost_vm * is a name, not an address: after
 * roost_vm_destroy() every call with it, from any thread, returns -ESTALE.
 * NULL is -EINVAL. Handles are never used twice in a process.
 *
 * ERRORS. Functions that return int return 0 or more on success and a negative
 * errno number on failure, and then fill *e (e may be NULL) with a finished
 * sentence that names the object, the value and the remedy. Codes that have one
 * meaning everywhere: -EINVAL a bad argument or option, -ESTALE no such VM,
 * -EDEADLK not from a callback, -ETIMEDOUT the time is over, -ESHUTDOWN the VM
 * has ended (or is being destroyed) and what was waited for cannot happen.
 * On success *e is not touched. Out of memory during set-up ends the process.
 *
 * TEXT that is returned through a char ** is the caller's: roost_free() it.
 * Strings that are passed in are copied. Everything is UTF-8, JSON included.
 *
 * TIMEOUTS are in milliseconds: 0 does not wait, negative waits for ever.
 *
 * THE PROCESS. The library calls no exit(), installs no signal handler,
 * changes no disposition, and writes nothing to stdout or stderr. It uses
 * SIGRTMIN as a thread-directed signal that is blocked in its threads: send
 * that signal to no process that has VMs. Descriptors are close-on-exec. Do not
 * fork() and go on using a VM in the child.
 *
 * VERSIONS. Functions are never changed or removed under one soname; new ones
 * get a higher version node. Structs that the caller allocates do not grow.
 */
#ifndef ROOST_H
#define ROOST_H

#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

#if defined(__GNUC__)
#define ROOST_API __attribute__((visibility("default")))
#else
#define ROOST_API
#endif

/* One virtual machine. */
struct roost_vm;

struct roost_error {
	int code;		/* what the function returned: a negative errno */
	char text[512];		/* a finished sentence, always terminated */
};

/* ---- the library ---- */

/* "0.1.0"; static. */
ROOST_API const char *roost_version(void);

/* Free what a function returned through a char **. NULL is allowed. */
ROOST_API void roost_free(void *p);

enum roost_log_level { ROOST_LOG_ERROR, ROOST_LOG_WARNING, ROOST_LOG_INFO, ROOST_LOG_TRACE };

/*
 * Hand messages of all VMs to @fn, one finished line at a time without newline,
 * from any thread, never two at once. @fn must not call the library. NULL, the
 * state at the start, drops them. Process-wide.
 */
ROOST_API void roost_set_log(void (*fn)(enum roost_log_level level, const char *line, void *arg),
			     void *arg);

/* ---- life ---- */

/*
 * Make a VM, not started. @options is a command line as for the roost program,
 * in one string: words are separated by blanks, '…' and "…" and \ quote as in
 * a shell; no variables, no globs. roost_vm_create_argv() takes the words (argv[0]
 * is the first option, not a program name), roost_vm_create_json() what
 * `roost … -dump-config` prints.
 *
 * Unlike the program, a VM without -serial has one serial port that is
 * connected to nothing but roost_serial_*(); -nodefaults leaves that out too.
 * Options about the program (-daemonize, -pidfile, -D, -msg, help) are refused.
 * Servers with wait=on do not wait.
 *
 * 0 and *vm, to be given to roost_vm_destroy(); or an error and *vm is NULL.
 */
ROOST_API int roost_vm_create(const char *options, struct roost_vm **vm, struct roost_error *e);
ROOST_API int roost_vm_create_argv(int argc, const char *const *argv, struct roost_vm **vm,
				   struct roost_error *e);
ROOST_API int roost_vm_create_json(const char *json, struct roost_vm **vm, struct roost_error *e);

/*
 * End the VM at once and free it: memory, threads, descriptors. Calls that wait
 * in other threads return -ESHUTDOWN first. NULL does nothing and is 0; a
 * handle that was destroyed before is -ESTALE. [not in a callback]
 */
ROOST_API int roost_vm_destroy(struct roost_vm *vm);

/* ---- run state ---- */

/* Let the guest run: the first time, after a pause or after a reset. No-op when
 * it runs. -EINVAL in states that only a reset leaves. */
ROOST_API int roost_vm_start(struct roost_vm *vm, struct roost_error *e);
/* Stop the vCPUs where they are; they have left the guest on return. */
ROOST_API int roost_vm_pause(struct roost_vm *vm, struct roost_error *e);
/* The same as roost_vm_start(). */
ROOST_API int roost_vm_resume(struct roost_vm *vm, struct roost_error *e);
/*
 * Press the reset button and wait until the machine is as after power-on, I/O
 * in flight included (10 s at most). A running guest boots again; one that does
 * not run, or has ended, waits for roost_vm_start(). From a callback it does not
 * wait.
 */
ROOST_API int roost_vm_reset(struct roost_vm *vm, struct roost_error *e);
/* Press the power button: the guest decides what follows. */
ROOST_API int roost_vm_powerdown(struct roost_vm *vm, struct roost_error *e);
/*
 * Back to the beginning, for the next test: pause, reset, forget what was
 * written to disks that keep their writes in memory (snapshot=on), and drop
 * serial output that was not read. Guest memory is not cleared, as on a real
 * reset. roost_vm_start() follows. [not in a callback]
 */
ROOST_API int roost_vm_rewind(struct roost_vm *vm, struct roost_error *e);

/* QMP's word ("prelaunch", "running", "paused", "shutdown", "io-error",
 * "internal-error", "guest-panicked", …); static. "" for no such VM. */
ROOST_API const char *roost_vm_state(struct roost_vm *vm);

struct roost_exit {
	int status;		/* 0, 1 after a host error, or what the guest
				 * wrote to isa-debug-exit, as a process status */
	char reason[60];	/* QMP's ShutdownCause, "guest-shutdown", … */
};

/* Wait until the VM has ended: powered off, panicked, quit. @out may be NULL.
 * A VM that has ended may be looked at, reset and started again.
 * [not in a callback] */
ROOST_API int roost_vm_wait(struct roost_vm *vm, int timeout_ms, struct roost_exit *out,
			    struct roost_error *e);

/* ---- parts ---- */

/*
 * Add a part of a running or stopped VM. @kind is an option's name without the
 * dash: "device" (hot-plug once the guest runs), "drive", "blockdev",
 * "chardev", "object" (iothread, fault, …), "netdev"; @options as after that
 * option, as text or as JSON.
 */
ROOST_API int roost_add(struct roost_vm *vm, const char *kind, const char *options,
			struct roost_error *e);
/* Remove the part of that kind called @id. A running guest must let go of a
 * device first: event DEVICE_DELETED says when it has. */
ROOST_API int roost_remove(struct roost_vm *vm, const char *kind, const char *id,
			   struct roost_error *e);

/* ---- control ---- */

/*
 * Execute one QMP request, {"execute": …, "arguments": {…}}, without a socket.
 * *reply is what a client would get, {"return": …} or {"error": …}; 0 also then.
 * Waits for commands that take time, without bound; from a callback such a
 * command goes on and -EDEADLK is returned.
 */
ROOST_API int roost_qmp(struct roost_vm *vm, const char *request, char **reply,
			struct roost_error *e);
/* The same in two parts: command and arguments (JSON object or NULL). *ret (may
 * be NULL) is what stands behind "return"; an error of the command is this
 * function's. */
ROOST_API int roost_qmp_command(struct roost_vm *vm, const char *command, const char *arguments,
				char **ret, struct roost_error *e);

/* ---- events ---- */

/*
 * Call @fn with every event from now on: @name as "RESET", @json the whole
 * message as QMP sends it, both valid during the call. Returns a number > 0 for
 * roost_event_unsubscribe(), after which @fn is not running and never called
 * again (called from @fn itself: never again).
 */
ROOST_API int roost_event_subscribe(struct roost_vm *vm,
				    void (*fn)(struct roost_vm *vm, const char *name,
					       const char *json, void *arg),
				    void *arg, struct roost_error *e);
ROOST_API int roost_event_unsubscribe(struct roost_vm *vm, int subscription,
				      struct roost_error *e);

/*
 * The next event called @name (NULL: of any name) after *cursor, which starts
 * at 0 for the VM's first event and moves behind the one returned; each reader
 * has a cursor of its own. *json (may be NULL) is the message. The last 256
 * events are kept; a reader that is later than that first gets one event
 * __org.roost_EVENTS_LOST with {"count": N}. [not in a callback, unless
 * @timeout_ms is 0]
 */
ROOST_API int roost_event_wait(struct roost_vm *vm, const char *name, uint64_t *cursor,
			       int timeout_ms, char **json, struct roost_error *e);
/*
 * A descriptor that is readable when events have come (eventfd(2): read() eight
 * bytes to clear it, then call roost_event_wait() with timeout 0 until it says
 * -ETIMEDOUT). It is the VM's, the same at every call; do not close it. For one
 * reader.
 */
ROOST_API int roost_event_fd(struct roost_vm *vm, struct roost_error *e);

/* ---- serial ports ---- */

/*
 * Port 0 is COM1. Whatever else a port is connected to (-serial pty, file:…),
 * the library has a copy of what the guest writes, the newest 1 MiB that was
 * not read, and may type to it. All readers of a port share one position.
 */

/* 1..@len bytes as soon as there are any. */
ROOST_API int roost_serial_read(struct roost_vm *vm, unsigned int port, void *buf, size_t len,
				int timeout_ms, struct roost_error *e);
/* Type @len bytes (at most 64 KiB); 0 once all wait in line for the guest, which
 * takes them as its driver reads. -ETIMEDOUT: nothing was typed. */
ROOST_API int roost_serial_write(struct roost_vm *vm, unsigned int port, const void *buf,
				 size_t len, int timeout_ms, struct roost_error *e);

enum roost_expect_flags {
	ROOST_EXPECT_REGEX = 1,		/* POSIX extended regular expression */
};

/*
 * Read until @pattern appears. On success the output up to its end is taken,
 * and *text (may be NULL) is that output. On failure nothing is taken, *text is
 * all output that was not read yet and *e quotes its last line. -ETIMEDOUT;
 * -ESHUTDOWN when the VM ended and its output has no match.
 */
ROOST_API int roost_serial_expect(struct roost_vm *vm, unsigned int port, const char *pattern,
				  int flags, int timeout_ms, char **text, struct roost_error *e);

/* ---- memory and registers ---- */

/* Copy from or to guest memory. All of [@addr, @addr + @len) must be RAM, else
 * -EFAULT and nothing is copied. The guest may write at the same time. */
ROOST_API int roost_memory_read(struct roost_vm *vm, uint64_t addr, void *buf, size_t len,
				struct roost_error *e);
ROOST_API int roost_memory_write(struct roost_vm *vm, uint64_t addr, const void *buf, size_t len,
				 struct roost_error *e);

/*
 * One register of vCPU @cpu by name, "rip", "rax", "cr3", "cs.base", …; see
 * roost_register_name(). A running guest is stopped for the moment (microseconds,
 * no event).
 */
ROOST_API int roost_register_read(struct roost_vm *vm, unsigned int cpu, const char *name,
				  uint64_t *value, struct roost_error *e);
ROOST_API int roost_register_write(struct roost_vm *vm, unsigned int cpu, const char *name,
				   uint64_t value, struct roost_error *e);
/* Name of register @index, NULL after the last one; static. */
ROOST_API const char *roost_register_name(unsigned int index);

/* ---- disks ---- */

/* Forget what was written to a disk that keeps its writes in memory (-drive
 * …,snapshot=on or -blockdev driver=memcow). @drive is a drive's id, a node-name
 * or the device's id. -EBUSY while the guest runs. */
ROOST_API int roost_disk_reset(struct roost_vm *vm, const char *drive, struct roost_error *e);

/* ---- faults ---- */

/*
 * Break something until roost_fault_remove(): @options is what follows
 * `-object fault,`, or a JSON object:
 *
 *	id=f1,drive=disk0,op=write,errno=EIO,sector=2048,sectors=8,after=3,count=1
 *	id=f2,drive=disk0,latency=500,probability=10000,seed=7
 *	id=f3,chardev=serial0,stall=out
 *	id=f4,clock=-86400
 *
 * Other targets will be named in the same way (device=, netdev=). The options are
 * described in docs/fault-injection.md.
 */
ROOST_API int roost_fault_add(struct roost_vm *vm, const char *options, struct roost_error *e);
ROOST_API int roost_fault_remove(struct roost_vm *vm, const char *id, struct roost_error *e);
/* [{"id": …, "drive": …, "matched": N, "hits": N, "held": N}, …] */
ROOST_API int roost_fault_list(struct roost_vm *vm, char **json, struct roost_error *e);

#ifdef __cplusplus
}
#endif

#endif
