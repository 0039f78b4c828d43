// SPDX-License-Identifier: GPL-2.0
/*
 * The small blocks: fb_dummy passes packets on, fb_counter looks at their sequence,
 * fb_tee copies them, fb_bpf passes on what a program accepts.
 */
#include <linux/bpf.h>
#include <linux/filter.h>
#include <linux/module.h>
#include <linux/slab.h>

#include "lana.h"

static struct lana_block *lana_pass(struct lana_block *block, struct sk_buff *skb,
				    struct lana_run *run)
{
	return lana_at(block, run->to);
}

const struct lana_type lana_dummy = { .name = "fb_dummy", .receive = lana_pass };

/*
 * Numbers that packets carry, big-endian, so many bytes into them: each once, in order?  One
 * that is missing is lost until it comes, late, which is seen of the last 64.
 */
struct lana_sequence {
	spinlock_t lock;	/* of what follows the offset */
	int offset;	/* negative: no look at the packets */
	bool begun;
	u32 first, next;
	u64 seen;	/* bit n: the number n + 1 before the next */
	u64 lost, late, again, short_ones;
};

static int lana_counter_create(struct lana_block *block)
{
	struct lana_sequence *it = lana_state(block);

	spin_lock_init(&it->lock);
	it->offset = -1;
	return 0;
}

static void lana_number(struct lana_sequence *it, u32 number)
{
	s32 ahead = number - it->next;
	unsigned int back = -ahead - 1;	/* of what is not ahead */

	if (!it->begun) {
		it->begun = true;
		it->first = number;
		ahead = 0;
	}
	if (ahead >= 0) {
		it->lost += ahead;
		it->seen = (ahead < 63 ? it->seen << (ahead + 1) : 0) | 1;
		it->next = number + 1;
	} else if (back >= 64 || it->seen & BIT_ULL(back)) {
		it->again++;
	} else {
		it->seen |= BIT_ULL(back);
		it->late++;
		if ((s32)(number - it->first) > 0)
			it->lost--;
	}
}

static struct lana_block *lana_counter_receive(struct lana_block *block, struct sk_buff *skb,
					       struct lana_run *run)
{
	struct lana_sequence *it = lana_state(block);
	int offset = READ_ONCE(it->offset);
	__be32 room, *found;

	if (offset < 0)
		return lana_at(block, run->to);
	found = skb_header_pointer(skb, offset, sizeof(room), &room);
	spin_lock_bh(&it->lock);
	if (found)
		lana_number(it, be32_to_cpup(found));
	else
		it->short_ones++;
	spin_unlock_bh(&it->lock);
	return lana_at(block, run->to);
}

static int lana_counter_set(struct lana_block *block, const struct lana_setting *setting,
			    struct netlink_ext_ack *extack)
{
	struct lana_sequence *it = lana_state(block);
	int offset;

	if (strcmp(setting->key, "sequence"))
		return -ENOENT;
	if (!setting->value || kstrtoint(setting->value, 0, &offset) || offset > 65535) {
		NL_SET_ERR_MSG(extack, "an offset is expected, or -1");
		return -EINVAL;
	}
	spin_lock_bh(&it->lock);
	WRITE_ONCE(it->offset, offset);
	it->begun = false;
	it->seen = 0;
	it->lost = 0;
	it->late = 0;
	it->again = 0;
	it->short_ones = 0;
	spin_unlock_bh(&it->lock);
	return 0;
}

static int lana_counter_show(struct lana_block *block, struct sk_buff *reply)
{
	struct lana_sequence *it = lana_state(block);
	u64 lost, late, again, short_ones;

	if (it->offset < 0)
		return 0;
	spin_lock_bh(&it->lock);
	lost = it->lost;
	late = it->late;
	again = it->again;
	short_ones = it->short_ones;
	spin_unlock_bh(&it->lock);
	return lana_show(reply, "sequence", "%d", it->offset) ?:
	       lana_show(reply, "lost", "%llu", lost) ?:
	       lana_show(reply, "late", "%llu", late) ?:
	       lana_show(reply, "again", "%llu", again) ?:
	       lana_show(reply, "short", "%llu", short_ones);
}

const struct lana_type lana_counter = {
	.name = "fb_counter",
	.size = sizeof(struct lana_sequence),
	.create = lana_counter_create,
	.receive = lana_counter_receive,
	.set = lana_counter_set,
	.show = lana_counter_show,
};

static struct lana_block *lana_tee_receive(struct lana_block *block, struct sk_buff *skb,
					   struct lana_run *run)
{
	struct lana_block *side = lana_at(block, LANA_SIDE);
	struct sk_buff *copy;

	if (side) {
		/* Copies that go up are few by how blocks are bound; this is for the way down. */
		copy = run->copies < LANA_MOST_COPIES ? skb_clone(skb, GFP_ATOMIC) : NULL;
		if (copy) {
			run->copies++;
			LANA_CB(copy)->at = side;
			LANA_CB(copy)->to = LANA_UP;
			__skb_queue_tail(&run->more, copy);
		} else {
			lana_dropped(block);
		}
	}
	return lana_at(block, run->to);
}

const struct lana_type lana_tee = { .name = "fb_tee", .receive = lana_tee_receive };

struct lana_filter {
	struct bpf_prog __rcu *program;
	bool classic;
};

static void lana_bpf_put(struct bpf_prog *program, bool classic)
{
	if (program && classic)
		bpf_prog_destroy(program);
	else if (program)
		bpf_prog_put(program);
}

static void lana_bpf_destroy(struct lana_block *block)
{
	struct lana_filter *it = lana_state(block);

	lana_bpf_put(rcu_dereference_raw(it->program), it->classic);
}

/* Without a program it passes everything on, as a socket without a filter does. */
static struct lana_block *lana_bpf_receive(struct lana_block *block, struct sk_buff *skb,
					   struct lana_run *run)
{
	struct lana_filter *it = lana_state(block);
	struct bpf_prog *program = rcu_dereference(it->program);

	if (program && !bpf_prog_run_save_cb(program, skb))
		return lana_at(block, LANA_SIDE);
	return lana_at(block, run->to);
}

/* Classic BPF comes as it is; what is loaded already by its descriptor in the one who asks. */
static struct bpf_prog *lana_bpf_program(const struct lana_setting *setting, bool *classic)
{
	struct sock_fprog_kern code = {};
	struct bpf_prog *program = NULL;
	int error, fd;

	*classic = setting->data;
	if (setting->data) {
		if (!setting->length || setting->length % sizeof(struct sock_filter))
			return ERR_PTR(-EINVAL);
		code.filter = (struct sock_filter *)setting->data;
		code.len = setting->length / sizeof(struct sock_filter);
		error = bpf_prog_create(&program, &code);
		return error ? ERR_PTR(error) : program;
	}
	error = kstrtoint(setting->value, 10, &fd);
	if (error)
		return ERR_PTR(error);
	return bpf_prog_get_type(fd, BPF_PROG_TYPE_SOCKET_FILTER);
}

static int lana_bpf_set(struct lana_block *block, const struct lana_setting *setting,
			struct netlink_ext_ack *extack)
{
	struct lana_filter *it = lana_state(block);
	struct bpf_prog *program, *old;
	bool classic, was_classic = it->classic;

	if (strcmp(setting->key, "program"))
		return -ENOENT;
	program = lana_bpf_program(setting, &classic);
	if (IS_ERR(program)) {
		NL_SET_ERR_MSG(extack, "a socket filter is expected: a descriptor, or classic BPF");
		return PTR_ERR(program);
	}
	old = rtnl_dereference(it->program);
	rcu_assign_pointer(it->program, program);
	it->classic = classic;
	if (old)
		synchronize_net();
	lana_bpf_put(old, was_classic);
	return 0;
}

static int lana_bpf_show(struct lana_block *block, struct sk_buff *reply)
{
	struct lana_filter *it = lana_state(block);
	struct bpf_prog *program = rtnl_dereference(it->program);

	if (!program)
		return 0;
	return lana_show(reply, "program", "%s of %u instructions",
			 it->classic ? "classic" : "loaded", program->len);
}

const struct lana_type lana_bpf = {
	.name = "fb_bpf",
	.size = sizeof(struct lana_filter),
	.destroy = lana_bpf_destroy,
	.receive = lana_bpf_receive,
	.set = lana_bpf_set,
	.show = lana_bpf_show,
};
