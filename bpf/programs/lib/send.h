/* SPDX-License-Identifier: GPL-2.0-only OR Apache-2.0 */
/* The way of an admitted pair's packet into the tunnel, and of the others to the hold device. */
#pragma once

#include "admit.h"
#include "drop.h"
#include "hook.h"
#include "tag.h"

struct hold_header {
	__u8 dst_prefix[2];
	__u16 endpoint;
	__u8 zero[2];
	__u8 src_prefix[2];
	__u32 generation;
	__u16 type;
} __attribute__((packed));

/* No usable row: let the agent make one while the packet waits. */
static __noinline int hold(struct __sk_buff *skb, struct packet *p, const struct config *c,
			   struct endpoint *ep, __u32 reason)
{
	struct hold_header header = {
		.dst_prefix = { 2, 0 },
		.src_prefix = { 2, 0 },
		.endpoint = htons(ep->index),
		.generation = htonl(ep->generation),
		.type = skb->protocol,
	};

	if (!(c->flags & CONFIG_HOLD) || !c->hold_ifindex)
		return drop(p, reason);
	if (bpf_skb_change_head(skb, sizeof(header), 0) ||
	    bpf_skb_store_bytes(skb, 0, &header, sizeof(header), 0))
		return drop(p, reason);
	event(p, EVENT_MISS, 0);
	return hook_redirect(skb, c->hold_ifindex);
}

/* `holdable`: the packet comes for the first time; held ones never go back, or they would loop. */
static __noinline int send(struct __sk_buff *skb, struct packet *p, const struct config *c,
			   struct endpoint *ep, __u32 holdable)
{
	struct send_key key = { .endpoint = ep->index, .generation = ep->generation };
	struct send_row *row;
	struct peer *peer;
	__u32 missing, slot;
	int reason;

	key.dst = p->dst;
	row = bpf_map_lookup_elem(&send_rows, &key);
	missing = row ? DROP_SEND_ROW_EXPIRED : DROP_NO_SEND_ROW;
	if (row && row->not_after <= p->now)
		row = 0;
	if (row) {
		p->class = row->class;
		p->remote = row->remote;
		p->peer = row->peer;
		if (row->state == SEND_REFUSED) {
			__u32 refused = row->reason;

			return drop(p, refused ? refused : DROP_AUTHENTICATION_FAILED);
		}
		slot = row->slot & 1;
		peer = bpf_map_lookup_elem(&peers, &p->peer);
		if (!peer || peer->lease_until <= p->now)
			return drop(p, DROP_LEASE_EXPIRED);
		/* The slot moved on to another epoch under the row, or is not there. */
		if (row->state != SEND_PAIRED || peer->slot_epoch[slot] != row->epoch ||
		    !c->slot_ifindex[slot]) {
			missing = DROP_EPOCH_MISMATCH;
			row = 0;
		}
	}
	if (!row)
		return holdable ? hold(skb, p, c, ep, missing) : drop(p, missing);

	reason = admit_labelled(p, ep, 1);
	if (reason)
		return drop(p, reason);
	reason = tag_add(skb, p, TAG(row->epoch, row->label));
	if (reason)
		return drop(p, reason);
	count_passed(skb, p->hook);
	return hook_redirect(skb, c->slot_ifindex[slot]);
}
