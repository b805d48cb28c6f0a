/* SPDX-License-Identifier: GPL-2.0-only OR Apache-2.0 */
/* The way of an admitted pair's packet into the tunnel, and of the others to the hold device. */
#pragma once

#include "admit.h"
#include "hold.h"
#include "tag.h"

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
	reason = tag_add(skb, p, TAG(row->epoch, row->label));
	if (reason)
		return drop(p, reason);
	count_passed(skb, p->hook);
	return hook_redirect(skb, c->slot_ifindex[slot]);
}
