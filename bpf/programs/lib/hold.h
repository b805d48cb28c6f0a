/* SPDX-License-Identifier: GPL-2.0-only OR Apache-2.0 */
/*
 * Packets that wait with the agent. A pair is in one of three states: HOLD, without a usable row,
 * when everything waits; DRAINING, with a row but packets still on their way through the agent,
 * when new ones queue behind those; OPEN.
 *
 * Each packet that goes to the hold device takes a ticket, and the pair is open once the latest
 * ticket is back. Where a packet was lost in between, the next one brings a later ticket back.
 */
#pragma once

#include "drop.h"
#include "hook.h"

struct hold_header {
	__u8 dst_prefix[2];
	__u16 endpoint;
	__u16 ticket;
	__u8 src_prefix[2];
	__u32 generation;
	__u16 type;
} __attribute__((packed));

/*
 * So much per endpoint, or one that knocks everywhere would crowd out what others send. Two
 * processors at once may count one packet for two.
 */
static __noinline int hold_afford(const struct packet *p)
{
	struct hold_budget *budget, fresh = { .used_until = p->now + HOLD_INTERVAL_NS };
	__u32 endpoint = p->endpoint;
	__u64 from = p->now;

	budget = bpf_map_lookup_elem(&hold_budgets, &endpoint);
	if (!budget) {
		bpf_map_update_elem(&hold_budgets, &endpoint, &fresh, BPF_ANY);
		return 1;
	}
	if (budget->used_until > from)
		from = budget->used_until;
	if (from - p->now >= HOLD_BURST_NS)
		return 0;
	budget->used_until = from + HOLD_INTERVAL_NS;
	return 1;
}

static __noinline __u32 hold_ticket(const struct packet *p, const struct send_key *key,
				    __u32 draining)
{
	struct hold_order *order, fresh = { .until = p->now + HOLD_ORDER_NS };

	order = bpf_map_lookup_elem(&hold_orders, key);
	if (!order) {
		bpf_map_update_elem(&hold_orders, key, &fresh, BPF_NOEXIST);
		order = bpf_map_lookup_elem(&hold_orders, key);
		if (!order)
			return 0;
	}
	/* Not so while draining, or a flow that is faster than the agent would drain for ever. */
	if (!draining)
		order->until = fresh.until;
	return __sync_fetch_and_add(&order->sent, 1) + 1;
}

static __noinline int hold_draining(const struct packet *p, const struct send_key *key)
{
	struct hold_order *order = bpf_map_lookup_elem(&hold_orders, key);

	return order && p->now < order->until && (order->sent & 0xffff) != order->released;
}

/* The packet with this ticket has left, or never will. */
static __noinline int hold_released(const struct send_key *key, __u32 ticket)
{
	struct hold_order *order = bpf_map_lookup_elem(&hold_orders, key);

	if (order)
		order->released = ticket;
	return 0;
}

/* `missing`: why there is no row to send by, 0 if there is one and the pair is draining. */
static __noinline int hold(struct __sk_buff *skb, struct packet *p, struct endpoint *ep,
			   const struct send_key *key, __u32 missing)
{
	struct hold_header header = {
		.dst_prefix = { 2, 0 },
		.src_prefix = { 2, 0 },
		.endpoint = htons(ep->index),
		.generation = htonl(ep->generation),
		.type = skb->protocol,
	};
	struct config *c = config_lookup();
	__u32 reason = missing ? missing : DROP_NO_SEND_ROW;

	if (!c)
		return drop(p, reason);
	header.ticket = htons(hold_ticket(p, key, !missing));
	if (bpf_skb_change_head(skb, sizeof(header), 0) ||
	    bpf_skb_store_bytes(skb, 0, &header, sizeof(header), 0))
		return drop(p, reason);
	if (missing)
		event(p, EVENT_MISS, 0);
	return hook_redirect(skb, c->hold_ifindex);
}
