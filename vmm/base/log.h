/*
 * vmm/base/log.h - messages for people and trace points for developers.
 *
 * Threads: any. Messages go to one sink per process (stderr until a client of
 * the library installs its own). Messages that a guest can cause pass through
 * a struct log_limit, so that a hostile guest fills no disk.
 */
#ifndef VMM_BASE_LOG_H
#define VMM_BASE_LOG_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

enum log_level { LOG_LEVEL_ERR, LOG_LEVEL_WARN, LOG_LEVEL_INFO, LOG_LEVEL_TRACE };

/* One finished line without newline; called from any thread, one at a time. */
typedef void log_sink(enum log_level level, const char *line, void *arg);

void log_set_sink(log_sink *sink, void *arg);	/* NULL: back to stderr */
/* Lines but those of trace points go to @fd as well, with the time, whatever
 * the sink; -1: no longer. The file is emptied when it reaches LOG_COPY_MAX, as
 * it may live in memory. */
void log_set_copy(int fd);
#define LOG_COPY_MAX	(1u << 20)
void log_set_timestamps(bool on);		/* -msg timestamp=on */
void log_set_level(enum log_level level);	/* messages above are dropped */

void log_msg(enum log_level level, const char *fmt, ...)
	__attribute__((format(printf, 2, 3)));

#define log_err(...)	log_msg(LOG_LEVEL_ERR, __VA_ARGS__)
#define log_warn(...)	log_msg(LOG_LEVEL_WARN, __VA_ARGS__)
#define log_info(...)	log_msg(LOG_LEVEL_INFO, __VA_ARGS__)

/* A budget of LOG_LIMIT_BURST messages per second for one source. A zeroed
 * struct is ready for use; lives in the device that a guest drives. */
#define LOG_LIMIT_BURST 5
struct log_limit {
	_Atomic uint64_t window_ns;	/* start of the present second */
	_Atomic uint32_t used;		/* messages in it */
	_Atomic uint32_t dropped;	/* reported with the next message */
};
void log_guest(struct log_limit *lim, const char *who, const char *fmt, ...)
	__attribute__((format(printf, 3, 4)));

/*
 * Trace points: TRACE_DEFINE(blk_request) at file scope, then
 * trace(blk_request, "sector %lu", s). Compiled in, off by default, switched
 * on by name or glob (-d blk_*) and listed by `-d help`. Off costs one load.
 */
struct trace_point {
	const char *name;
	_Atomic bool on;
};

#define TRACE_DEFINE(n)							\
	static struct trace_point trace_##n				\
	__attribute__((section("trace_points"), used, aligned(8))) = { #n, false }

#define trace(n, ...)							\
	do {								\
		if (__builtin_expect(atomic_load_explicit(		\
			    &trace_##n.on, memory_order_relaxed), 0))	\
			log_msg(LOG_LEVEL_TRACE, #n " " __VA_ARGS__);	\
	} while (0)

/* Switch on every point that matches @glob; returns how many did. */
int trace_enable(const char *glob);
/* Call @fn for each trace point in link order. */
void trace_each(void (*fn)(const struct trace_point *p, void *arg), void *arg);

#endif
