/* SPDX-License-Identifier: GPL-2.0-only OR Apache-2.0 */
/*
 * TCX ingress of a slot: what came out of WireGuard. The label says who speaks and to whom; every
 * word of it is checked before policy is asked, then the tag goes and the stack delivers.
 */
#include "lib/fragment.h"
#include "lib/mark.h"
#include "lib/parse.h"
#include "lib/send.h"

/* Who speaks: the row of the label, if it is good on this slot, now. */
static __noinline int label_check(struct packet *p, __u32 slot, __u32 *identity)
{
	struct recv_key key = { .label = TAG_LABEL(p->tag) };
	struct recv_row *row = bpf_map_lookup_elem(&recv_rows, &key);
	struct peer *peer;

	if (!row)
		return DROP_UNKNOWN_LABEL;
	p->peer = row->peer;
	p->class = row->class;
	p->remote = row->remote;
	if (row->slot != slot)
		return DROP_SLOT_MISMATCH;
	peer = bpf_map_lookup_elem(&peers, &p->peer);
	if (!peer || peer->lease_until <= p->now)
		return DROP_LEASE_EXPIRED;
	if (peer->slot_epoch[slot & 1] != row->epoch || (row->epoch & 0xff) != TAG_EPOCH(p->tag))
		return DROP_EPOCH_MISMATCH;
	if (peer->slot_until[slot & 1] <= p->now)
		return DROP_EPOCH_TOO_OLD;
	if (row->not_after <= p->now)
		return DROP_LABEL_EXPIRED;
	if (!addr_in(&p->src, row->addrs, row->addr_count))
		return DROP_INNER_SOURCE_MISMATCH;
	*identity = row->identity;
	return 0;
}

HOOK(from_tunnel)
{
	struct packet p = { .hook = HOOK_FROM_TUNNEL, .now = bpf_ktime_get_boot_ns() };
	struct config *c = config_lookup();
	__u32 slot, identity = 0, *index;
	struct endpoint *ep;
	int reason;

	p.ifindex = hook_ifindex(skb);
	p.length = skb->len;
	if (!c || !c->mark_mask)
		return drop(&p, DROP_NOT_CONFIGURED);
	if (p.ifindex == c->slot_ifindex[0])
		slot = 0;
	else if (p.ifindex == c->slot_ifindex[1])
		slot = 1;
	else
		return drop(&p, DROP_UNKNOWN_INTERFACE);
	reason = parse(skb, &p, L3_OFFSET);
	if (reason)
		return drop(&p, reason);
	if (!(p.flags & PACKET_TAGGED))
		return drop(&p, DROP_UNTAGGED);
	reason = label_check(&p, slot, &identity);
	if (reason)
		return drop(&p, reason);

	index = bpf_map_lookup_elem(&local_addresses, &p.dst);
	if (!index)
		return drop_as(&p, DROP_UNKNOWN_DESTINATION, EVENT_STALE);
	ep = endpoint_lookup(*index);
	/* The address has changed hands and the maps are not there yet. */
	if (!ep || !addr_of_endpoint(&p.dst, ep))
		return drop_as(&p, DROP_GENERATION_STALE, EVENT_STALE);
	p.endpoint = ep->index;
	if (ep->identity != identity)
		return drop_as(&p, DROP_DST_IDENTITY_MISMATCH, EVENT_STALE);

	reason = fragment_ports(&p);
	if (reason)
		return drop(&p, reason);
	reason = admit_labelled(&p, ep, 0);
	if (reason)
		return drop(&p, reason);
	reason = tag_strip(skb, &p);
	if (reason)
		return drop(&p, reason);
	mark_set(skb, c, c->mark_verified, ep->index);
	count_passed(skb, HOOK_FROM_TUNNEL);
	return VERDICT_NEXT;
}
