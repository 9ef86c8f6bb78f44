/*
 * vmm/base/log.c - messages for people and trace points for developers.
 *
 * Threads: any. One lock around the sink keeps lines whole; it is the last in
 * the lock order.
 */
#include "vmm/base/log.h"

#include <fnmatch.h>
#include <pthread.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "vmm/base/util.h"

/* The process's one sink: messages may come from code that has no VM. */
static pthread_mutex_t sink_lock = PTHREAD_MUTEX_INITIALIZER;
static log_sink *sink_fn;
static void *sink_arg;
static int copy_fd = -1;		/* log_set_copy() */
static _Atomic bool timestamps;
static _Atomic int max_level = LOG_LEVEL_TRACE;

static const char *const level_word[] = {
	[LOG_LEVEL_ERR] = "", [LOG_LEVEL_WARN] = "warning: ",
	[LOG_LEVEL_INFO] = "", [LOG_LEVEL_TRACE] = "trace: ",
};

void log_set_sink(log_sink *sink, void *arg)
{
	pthread_mutex_lock(&sink_lock);
	sink_fn = sink;
	sink_arg = arg;
	pthread_mutex_unlock(&sink_lock);
}

void log_set_timestamps(bool on)
{
	atomic_store(&timestamps, on);
}

void log_set_level(enum log_level level)
{
	atomic_store(&max_level, level);
}

/* UTC with microseconds, as QEMU's -msg timestamp=on prints it. */
static size_t stamp(char *buf, size_t len)
{
	struct timespec ts;
	struct tm tm;
	size_t n;

	clock_gettime(CLOCK_REALTIME, &ts);
	gmtime_r(&ts.tv_sec, &tm);
	n = strftime(buf, len, "%Y-%m-%dT%H:%M:%S", &tm);
	return n + (size_t)snprintf(buf + n, len - n, ".%06ldZ ", ts.tv_nsec / 1000);
}

/* One write(2) per line, so that lines of several processes do not mix. A
 * full disk or a closed stderr must not stop the VM: the result is ignored. */
static void sink_stderr(enum log_level level, const char *line)
{
	char buf[1200];
	size_t n = 0;
	int r;

	if (atomic_load(&timestamps))
		n = stamp(buf, sizeof(buf));
	r = snprintf(buf + n, sizeof(buf) - n, "roost: %s%s\n", level_word[level], line);
	if (r < 0)
		return;
	n = MIN(n + (size_t)r, sizeof(buf) - 1);
	buf[n - 1] = '\n';
	if (write(STDERR_FILENO, buf, n) < 0)
		return;
}

/* sink_lock is held. */
static void write_copy(enum log_level level, const char *line)
{
	struct stat st;
	char buf[1200];
	size_t n;
	int r;

	if (fstat(copy_fd, &st) == 0 && S_ISREG(st.st_mode) && st.st_size > LOG_COPY_MAX &&
	    ftruncate(copy_fd, 0) < 0)
		return;
	n = stamp(buf, sizeof(buf));
	r = snprintf(buf + n, sizeof(buf) - n, "%s%s\n", level_word[level], line);
	if (r < 0)
		return;
	n = MIN(n + (size_t)r, sizeof(buf) - 1);
	buf[n - 1] = '\n';
	if (write(copy_fd, buf, n) < 0)
		return;		/* a full disk must not stop the VM */
}

void log_set_copy(int fd)
{
	pthread_mutex_lock(&sink_lock);
	copy_fd = fd;
	pthread_mutex_unlock(&sink_lock);
}

void log_msg(enum log_level level, const char *fmt, ...)
{
	char line[1024];
	va_list ap;

	if ((int)level > atomic_load_explicit(&max_level, memory_order_relaxed))
		return;
	va_start(ap, fmt);
	vsnprintf(line, sizeof(line), fmt, ap);
	va_end(ap);
	util_printable(line);

	pthread_mutex_lock(&sink_lock);
	if (sink_fn)
		sink_fn(level, line, sink_arg);
	else
		sink_stderr(level, line);
	if (copy_fd >= 0 && level != LOG_LEVEL_TRACE)
		write_copy(level, line);
	pthread_mutex_unlock(&sink_lock);
}

void log_guest(struct log_limit *lim, const char *who, const char *fmt, ...)
{
	uint64_t now = clock_ns(), start = atomic_load(&lim->window_ns);
	uint32_t dropped;
	char line[768];
	va_list ap;

	if (now - start >= NS_PER_SEC &&
	    atomic_compare_exchange_strong(&lim->window_ns, &start, now))
		atomic_store(&lim->used, 0);
	if (atomic_fetch_add(&lim->used, 1) >= LOG_LIMIT_BURST) {
		atomic_fetch_add(&lim->dropped, 1);
		return;
	}
	va_start(ap, fmt);
	vsnprintf(line, sizeof(line), fmt, ap);
	va_end(ap);
	dropped = atomic_exchange(&lim->dropped, 0);
	if (dropped)
		log_warn("%s: %s (and %u earlier messages dropped)", who, line, dropped);
	else
		log_warn("%s: %s", who, line);
}

/* Bounds of the section that TRACE_DEFINE fills; the linker provides them, and
 * weak references keep a program without trace points linkable. */
extern struct trace_point __start_trace_points[] __attribute__((weak));
extern struct trace_point __stop_trace_points[] __attribute__((weak));

int trace_enable(const char *glob)
{
	int n = 0;

	for (struct trace_point *p = __start_trace_points; p < __stop_trace_points; p++) {
		if (fnmatch(glob, p->name, 0))
			continue;
		atomic_store(&p->on, true);
		n++;
	}
	return n;
}

void trace_each(void (*fn)(const struct trace_point *p, void *arg), void *arg)
{
	for (struct trace_point *p = __start_trace_points; p < __stop_trace_points; p++)
		fn(p, arg);
}
