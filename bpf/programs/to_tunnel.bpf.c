/* SPDX-License-Identifier: GPL-2.0-only OR Apache-2.0 */
/*
 * TCX egress of signet0, where the stack routes what is for remote pods. The destination is final
 * here: find the pair's row, judge, tag, and send it out of the peer's slot.
 */
#include "lib/fragment.h"
#include "lib/mark.h"
#include "lib/parse.h"
#include "lib/send.h"

HOOK(to_tunnel)
{
	struct packet p = { .hook = HOOK_TO_TUNNEL, .now = bpf_ktime_get_boot_ns() };
	struct config *c = config_lookup();
	__u32 mark, index, in = skb->ingress_ifindex;
	struct endpoint *ep;
	int reason;

	p.ifindex = hook_ifindex(skb);
	p.length = skb->len;
	if (!c || !c->mark_mask)
		return drop(&p, DROP_NOT_CONFIGURED);
	if (p.ifindex != c->signet0_ifindex)
		return drop(&p, DROP_UNKNOWN_INTERFACE);
	reason = parse(skb, &p, L3_OFFSET);
	if (reason)
		return drop(&p, reason);
	if (p.flags & PACKET_TAGGED)
		return drop(&p, DROP_FOREIGN_TAG);
	/* The device's own chatter (MLD, router solicitations) ends here. */
	if (addr_multicast(&p.dst, p.family))
		return drop(&p, DROP_MULTICAST);
	if (addr_link_local(&p.src, p.family) || addr_link_local(&p.dst, p.family))
		return drop(&p, DROP_LINK_LOCAL);

	index = skb->tc_index;
	mark = mark_of(skb, c);
	if (index) {
		/* Only what from_workload let through has both. */
		ep = mark == c->mark_pending ? endpoint_lookup(index) : 0;
		if (!ep)
			return drop(&p, DROP_NO_SOURCE_INDEX);
		reason = DROP_SOURCE_TRANSLATED;
	} else {
		/*
		 * The node's own, or forwarded under its address; not a pod's that has lost its
		 * index, whatever its source is by now.
		 */
		if (mark || bpf_map_lookup_elem(&interfaces, &in))
			return drop(&p, DROP_NO_SOURCE_INDEX);
		reason = in ? DROP_NO_SOURCE_INDEX : DROP_HOST_WITHOUT_LABEL;
		ep = endpoint_lookup(c->host_endpoint);
		if (!ep)
			return drop(&p, reason);
	}
	p.endpoint = ep->index;
	if (!addr_of_endpoint(&p.src, ep))
		return drop(&p, reason);
	reason = fragment_ports(&p);
	if (reason)
		return drop(&p, reason);
	return send(skb, &p, c, ep, 1);
}
