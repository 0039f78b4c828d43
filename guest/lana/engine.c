// SPDX-License-Identifier: GPL-2.0
/*
 * Threads that run packets, in place of the softirq that they came in: a queue and a
 * thread on each CPU.  They differ in who says when a thread runs:
 *
 * thread-fifo        the scheduler: as soon as a packet waits, before all that is normal
 * thread-normal      the scheduler: in turn with all others
 * thread-controlled  the engine: once a batch waits or its time is over; the thread then
 *                    runs the batch without being preempted, and gives way
 *
 * No thread disables softirqs between packets, so none of them does softirq's work.
 */
#include <linux/cpu.h>
#include <linux/hrtimer.h>
#include <linux/kthread.h>
#include <linux/module.h>
#include <linux/sched.h>
#include <linux/slab.h>

#include "lana.h"

static unsigned int batch = 32;
module_param(batch, uint, 0644);
MODULE_PARM_DESC(batch, "packets that wake a thread-controlled");

static unsigned int patience = 100;
module_param(patience, uint, 0644);
MODULE_PARM_DESC(patience, "microseconds that a packet waits for others with thread-controlled");

static unsigned int backlog = 1000;
module_param(backlog, uint, 0644);
MODULE_PARM_DESC(backlog, "packets that may wait for a thread");

struct lana_worker {
	struct sk_buff_head queue;
	struct task_struct *task;	/* NULL on a CPU that came later */
	struct hrtimer timer;
	struct lana_engine *engine;
	unsigned long wakes, overruns;	/* on this CPU, with softirqs disabled */
	u64 idle;	/* when it last had nothing to do, ns of CLOCK_MONOTONIC */
};

struct lana_engine {
	const char *how;
	bool fifo, controlled;
	struct lana_worker __percpu *workers;
};

static struct sk_buff *lana_next_packet(struct lana_worker *worker)
{
	return skb_dequeue(&worker->queue);
}

static void lana_run_waiting(struct sk_buff *skb)
{
	lana_run(LANA_CB(skb)->at, skb, LANA_CB(skb)->to);
}

static void lana_run_some(struct lana_worker *worker)
{
	struct sk_buff *skb;
	unsigned int left;

	if (!worker->engine->controlled) {
		skb = lana_next_packet(worker);
		if (skb)
			lana_run_waiting(skb);
		cond_resched();
		return;
	}
	preempt_disable();
	for (left = max(READ_ONCE(batch), 1U); left; left--) {
		skb = lana_next_packet(worker);
		if (!skb)
			break;
		lana_run_waiting(skb);
	}
	preempt_enable();
	cond_resched();
}

static int lana_work(void *data)
{
	struct lana_worker *worker = data;

	for (;;) {
		set_current_state(TASK_INTERRUPTIBLE);
		if (!skb_queue_empty_lockless(&worker->queue)) {
			__set_current_state(TASK_RUNNING);
			lana_run_some(worker);
			continue;
		}
		if (kthread_should_stop())
			break;
		WRITE_ONCE(worker->idle, ktime_get_ns());
		schedule();
	}
	__set_current_state(TASK_RUNNING);
	return 0;
}

static enum hrtimer_restart lana_late(struct hrtimer *timer)
{
	struct lana_worker *worker = container_of(timer, struct lana_worker, timer);

	wake_up_process(worker->task);
	return HRTIMER_NORESTART;
}

/*
 * Has a packet wait for the thread of this CPU; false where there is none.  Takes the
 * packet if it returns true.  With softirqs disabled.
 */
bool lana_engine_queue(struct lana_engine *engine, struct lana_block *block, struct sk_buff *skb)
{
	struct lana_worker *worker = this_cpu_ptr(engine->workers);
	unsigned int waiting;

	if (!worker->task)
		return false;
	waiting = skb_queue_len_lockless(&worker->queue) + 1;
	if (waiting > READ_ONCE(backlog)) {
		worker->overruns++;
		kfree_skb(skb);
		return true;
	}
	LANA_CB(skb)->at = block;
	LANA_CB(skb)->to = LANA_UP;
	skb_queue_tail(&worker->queue, skb);
	if (!engine->controlled || waiting >= READ_ONCE(batch))
		worker->wakes += wake_up_process(worker->task);
	else if (waiting == 1)
		hrtimer_start(&worker->timer, ns_to_ktime(NSEC_PER_USEC * READ_ONCE(patience)),
			      HRTIMER_MODE_REL_PINNED);
	return true;
}

static int lana_worker_start(struct lana_worker *worker, unsigned int cpu)
{
	struct task_struct *task;

	task = kthread_create_on_node(lana_work, worker, cpu_to_node(cpu), "lana/%u", cpu);
	if (IS_ERR(task))
		return PTR_ERR(task);
	kthread_bind(task, cpu);
	if (worker->engine->fifo)
		sched_set_fifo(task);
	get_task_struct(task);
	worker->task = task;
	wake_up_process(task);
	return 0;
}

/* Starts threads; with nothing but softirq asked for there are none. */
struct lana_engine *lana_engine_start(const char *how)
{
	static const char *const ways[] = { "thread-fifo", "thread-normal", "thread-controlled" };
	int way = match_string(ways, ARRAY_SIZE(ways), how), error = 0;
	struct lana_engine *engine;
	unsigned int cpu;

	if (!strcmp(how, "softirq"))
		return NULL;
	if (way < 0)
		return ERR_PTR(-EINVAL);
	engine = kzalloc(sizeof(*engine), GFP_KERNEL);
	if (!engine)
		return ERR_PTR(-ENOMEM);
	engine->how = ways[way];
	engine->fifo = way == 0;
	engine->controlled = way == 2;
	engine->workers = alloc_percpu(struct lana_worker);
	if (!engine->workers) {
		kfree(engine);
		return ERR_PTR(-ENOMEM);
	}
	for_each_possible_cpu(cpu) {
		struct lana_worker *worker = per_cpu_ptr(engine->workers, cpu);

		worker->engine = engine;
		skb_queue_head_init(&worker->queue);
		hrtimer_init(&worker->timer, CLOCK_MONOTONIC, HRTIMER_MODE_REL_PINNED);
		worker->timer.function = lana_late;
	}
	cpus_read_lock();
	for_each_online_cpu(cpu) {
		error = lana_worker_start(per_cpu_ptr(engine->workers, cpu), cpu);
		if (error)
			break;
	}
	cpus_read_unlock();
	if (error) {
		lana_engine_stop(engine);
		return ERR_PTR(error);
	}
	return engine;
}

/* Ends threads that get no packets any more, after those that they have. */
void lana_engine_stop(struct lana_engine *engine)
{
	unsigned int cpu;

	for_each_possible_cpu(cpu) {
		struct lana_worker *worker = per_cpu_ptr(engine->workers, cpu);

		hrtimer_cancel(&worker->timer);
		if (!worker->task)
			continue;
		kthread_stop(worker->task);
		put_task_struct(worker->task);
	}
	free_percpu(engine->workers);
	kfree(engine);
}

int lana_engine_show(struct lana_engine *engine, struct sk_buff *reply)
{
	unsigned long waiting = 0, wakes = 0, overruns = 0;
	unsigned int cpu;
	u64 idle = 0;

	for_each_possible_cpu(cpu) {
		struct lana_worker *worker = per_cpu_ptr(engine->workers, cpu);

		waiting += skb_queue_len_lockless(&worker->queue);
		wakes += READ_ONCE(worker->wakes);
		overruns += READ_ONCE(worker->overruns);
		idle = max(idle, READ_ONCE(worker->idle));
	}
	return lana_show(reply, "engine", "%s", engine->how) ?:
	       lana_show(reply, "waiting", "%lu", waiting) ?:
	       lana_show(reply, "wakes", "%lu", wakes) ?:
	       lana_show(reply, "overruns", "%lu", overruns) ?:
	       lana_show(reply, "idle", "%llu", idle);
}
