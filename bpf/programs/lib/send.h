/* SPDX-License-Identifier: GPL-2.0-only OR Apache-2.0 */
/* The way of an admitted pair's packet into the tunnel, and of the others to the hold device. */
#pragma once

#include "admit.h"
#include "hold.h"
#include "tag.h"

/* Whether the row has a label for the slot, of the epoch that the slot is in. */
static __always_inline int labelled_in(const struct send_row *row, const struct peer *peer,
				       const struct config *c, __u32 slot)
{
	return row->epoch[slot & 1] && row->epoch[slot & 1] == peer->slot_epoch[slot & 1] &&
	       c->slot_ifindex[slot & 1];
}

/* `holdable`: the packet comes for the first time; held ones never go back, or they would loop. */
static __noinline int send(struct __sk_buff *skb, struct packet *p, const struct config *c,
			   struct endpoint *ep, __u32 holdable)
{
	struct send_key key = { .endpoint = ep->index, .generation = ep->generation };
	struct send_row *row;
	struct peer *peer;
	__u32 missing, slot = 0;
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
		peer = bpf_map_lookup_elem(&peers, &p->peer);
		if (!peer || peer->lease_until <= p->now)
			return drop(p, DROP_LEASE_EXPIRED);
		slot = peer->tx_slot & 1;
		/* A pair that has no label there yet, or could not be given one. */
		if (!labelled_in(row, peer, c, slot))
			slot ^= 1;
		if (row->state != SEND_PAIRED || !labelled_in(row, peer, c, slot)) {
			missing = DROP_EPOCH_MISMATCH;
			row = 0;
		} else if (peer->slot_until[slot] <= p->now) {
			return drop(p, DROP_EPOCH_TOO_OLD);
		}
	}
	if (!(c->flags & CONFIG_HOLD) || !c->hold_ifindex)
		holdable = 0;
	if (!row) {
		if (!holdable)
			return drop(p, missing);
		return hold_afford(p) ? hold(skb, p, ep, &key, missing) :
					drop(p, DROP_HOLD_LIMITED);
	}
	/* Better out of order than lost. */
	if (holdable && hold_draining(p, &key) && hold_afford(p))
		return hold(skb, p, ep, &key, 0);

	reason = admit_labelled(p, ep, 1);
	if (reason)
		return drop(p, reason);
	reason = tag_add(skb, p, TAG(row->epoch[slot & 1], row->label[slot & 1]));
	if (reason)
		return drop(p, reason);
	count_passed(skb, p->hook);
	return hook_redirect(skb, c->slot_ifindex[slot]);
}
