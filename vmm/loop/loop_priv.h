/*
 * vmm/loop/loop_priv.h - what the files of vmm/loop share: the loop itself and
 * the interface of its two engines. Included nowhere else.
 */
#ifndef VMM_LOOP_LOOP_PRIV_H
#define VMM_LOOP_LOOP_PRIV_H

#include <stdatomic.h>

#include "vmm/loop/loop.h"

#define LOOP_NONE	UINT32_MAX	/* no slot */
#define LOOP_POOL_THREADS 4

enum loop_slot_kind {
	SLOT_FREE,
	SLOT_FD,
	SLOT_EVENT,
	SLOT_DEAD,	/* removed; the engine still has to disarm it */
};

/*
 * A source's place in the loop. What the kernel gets as user data is slot and
 * generation, never a pointer, so an event that arrives for a source that was
 * removed or changed meanwhile names a generation that is no more.
 */
struct loop_slot {
	void *src;		/* struct loop_fd or loop_event, see kind */
	uint32_t gen;		/* of the present registration */
	uint32_t next;		/* in the free or the dirty list */
	uint8_t kind;
	bool armed;		/* the engine has registered @gen */
	bool dirty;		/* in the dirty list */
	bool always;		/* epoll: a regular file, always ready */
};

enum loop_io_state {
	IO_IDLE,
	IO_QUEUED,		/* in the loop's queue, not submitted */
	IO_CANCELED,		/* the same, to be completed with -ECANCELED */
	IO_KERNEL,		/* io_uring has it */
	IO_POOL,		/* the thread pool has it */
};

struct loop_io_list {
	struct loop_io *head, *tail;
};

struct loop_engine {
	enum loop_aio aio;
	int (*init)(struct loop *l, struct err *e);
	void (*fini)(struct loop *l);	/* also after a failed init */
	/* The thread that will run the loop is known: this one. */
	int (*start)(struct loop *l);
	/* Hand everything queued to the kernel, wait at most @timeout_ns,
	 * dispatch. Returns callbacks made or -errno. */
	int (*wait)(struct loop *l, uint64_t timeout_ns);
	/* Hand everything queued to the kernel (embedding). */
	void (*flush)(struct loop *l);
	/* Something has arrived that wait() would return at once (spinning). */
	bool (*ready)(struct loop *l);
	/* Slot @i is new, changed or dead. A dead one is given back with
	 * loop_slot_free() once no more is registered. 0 or -errno. */
	int (*update)(struct loop *l, uint32_t i);
	void (*io_submit)(struct loop *l, struct loop_io *io);
	void (*io_cancel)(struct loop *l, struct loop_io *io);
	int (*pollfd)(struct loop *l);
};

extern const struct loop_engine loop_uring_engine;
extern const struct loop_engine loop_epoll_engine;

struct loop_uring;
struct loop_epoll;
struct loop_pool;

struct loop {
	const struct loop_engine *eng;
	union {			/* the engine's own */
		struct loop_uring *uring;
		struct loop_epoll *epoll;
	};
	char *name;
	bool in_turn;
	bool started;

	struct loop_slot *slot;
	uint32_t slot_count;
	uint32_t slot_free;	/* list */

	struct loop_timer *timers;	/* root of the heap */
	uint64_t timer_seq;
	uint32_t timer_count;

	struct loop_work *deferred, **deferred_tail;
	struct loop_signal *signals;	/* raised in this turn */
	uint32_t io_active;	/* submitted, not called back */
	struct loop_io_list done;	/* completed without the kernel's queue */
	struct loop_pool *pool;		/* NULL until needed */

	/* Adaptive spinning, see loop_set_poll(). */
	uint64_t poll_max_ns, poll_grow, poll_shrink, poll_ns;

	struct loop_event wake;
	int wake_fd;
	int embed_fd;		/* epoll for loop_pollfd(), -1: not asked for */
	int embed_timer;	/* timerfd in it */
	bool touched;		/* woken for a change made outside a turn */

	struct loop_stats stats;

	/* Any thread; away from what the loop's thread writes all the time. */
	_Alignas(64) _Atomic(uintptr_t) owner;	/* loop_self(), 0: none yet */
	_Atomic(struct loop_work *) posted;	/* newest first */
	_Atomic unsigned int posting;	/* threads inside loop_post() */
	struct loop_work *running;	/* taken off posted, not called yet */
	_Atomic(struct loop_io *) pool_done;	/* newest first */
	_Atomic bool asleep;	/* a poster must write wake_fd */
	_Atomic bool quit;
};

static inline void loop_lock(pthread_mutex_t *lock)
{
	if (lock)
		pthread_mutex_lock(lock);
}

static inline void loop_unlock(pthread_mutex_t *lock)
{
	if (lock)
		pthread_mutex_unlock(lock);
}

/* loop.c: for the engines. */
void loop_slot_free(struct loop *l, uint32_t i);
/* The slot when it still has generation @gen and is alive, else NULL. */
struct loop_slot *loop_slot_get(struct loop *l, uint32_t i, uint32_t gen);
void loop_dispatch_fd(struct loop *l, struct loop_slot *s, uint32_t revents);
void loop_dispatch_event(struct loop *l, struct loop_slot *s);
void loop_io_list_add(struct loop_io_list *q, struct loop_io *io);
struct loop_io *loop_io_list_take(struct loop_io_list *q);
/* Queue a completion for this turn, or make it now. */
void loop_io_done(struct loop *l, struct loop_io *io, int64_t res);
void loop_io_call(struct loop *l, struct loop_io *io, int64_t res);
/* Announce that the loop is about to sleep; false: it must not. */
bool loop_sleep(struct loop *l);
void loop_awake(struct loop *l);
void loop_wake(struct loop *l);		/* [any] */
/* The loop's thread is gone; the next to turn it becomes its owner. */
void loop_disown(struct loop *l);
/* Something changed outside a turn: make loop_pollfd() readable. */
void loop_touch(struct loop *l);

/* loop_timer.c */
uint64_t loop_timer_next(const struct loop *l);	/* UINT64_MAX: none */
int loop_timer_run(struct loop *l);

/* loop_work.c */
bool loop_work_pending(struct loop *l);
int loop_work_run(struct loop *l);
int loop_defer_run(struct loop *l);

/* loop_pool.c */
void loop_pool_submit(struct loop *l, struct loop_io *io);
void loop_pool_cancel(struct loop *l, struct loop_io *io);
void loop_pool_reap(struct loop *l);	/* finished ones to l->done */
void loop_pool_destroy(struct loop *l);

#endif
