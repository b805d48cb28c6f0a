/* SPDX-License-Identifier: GPL-2.0-only OR Apache-2.0 */
/*
 * TCX egress of a pod's host veth, the last hook before the pod. What the tunnel verified passes;
 * everything else gets its verdict here, where service translation is done: pods of this node,
 * the node itself, and the world.
 */
#include "lib/fragment.h"
#include "lib/mark.h"
#include "lib/neighbour.h"
#include "lib/parse.h"
#include "lib/send.h"

/* From a pod of this node: its index came with the packet. */
static __noinline int from_same_node(struct packet *p, struct endpoint *ep, __u32 index,
				     __u32 reply)
{
	struct endpoint *from = endpoint_lookup(index);
	int reason;

	if (!from)
		return DROP_NO_SOURCE_INDEX;
	p->class = from->class;
	p->remote = from->index;
	/* Judged at the other end's veth; a service may have lent it its address since. */
	if (reply)
		return 0;
	/* By masquerade only to itself; the index tells who it is even then. */
	if (!addr_of_endpoint(&p->src, from) && from->index != ep->index)
		return DROP_SOURCE_TRANSLATED;
	reason = fragment_ports(p);
	if (reason)
		return reason;
	return admit_same_node(p, ep, from);
}

static __noinline int from_world(struct packet *p, struct endpoint *ep)
{
	int reason;

	if (addr_is_pod(&p->src))
		return DROP_CLEAR_POD_ADDRESS;
	reason = fragment_ports(p);
	if (reason)
		return reason;
	return admit_plaintext_in(p, ep);
}

HOOK(to_workload)
{
	struct packet p = { .hook = HOOK_TO_WORKLOAD, .now = bpf_ktime_get_boot_ns() };
	__u32 mark, index = skb->tc_index, in = skb->ingress_ifindex;
	struct config *c = config_lookup();
	struct endpoint *ep;
	int reason;

	p.ifindex = hook_ifindex(skb);
	p.length = skb->len;
	if (!c || !c->mark_mask)
		return drop(&p, DROP_NOT_CONFIGURED);
	ep = endpoint_of_interface(p.ifindex);
	if (!ep)
		return drop(&p, DROP_UNKNOWN_INTERFACE);
	p.endpoint = ep->index;

	/*
	 * Made on this node: by a process, which NetworkPolicy always lets reach its own pods, or
	 * by the kernel, whose "too big" must arrive or connections stall.
	 */
	if (!in && !index)
		goto pass;
	if (skb->protocol == htons(ETH_P_ARP))
		goto pass;

	reason = parse(skb, &p, ETH_HLEN);
	if (reason)
		return drop(&p, reason);
	if (p.flags & PACKET_TAGGED)
		return drop(&p, DROP_FOREIGN_TAG);
	if (p.flags & PACKET_NEIGHBOUR) {
		/* From another pod of the same bridge; its own veth has checked the rest. */
		if (p.icmp_type == ND_SOLICITATION || p.icmp_type == ND_ADVERTISEMENT)
			goto pass;
		return drop(&p, DROP_ROUTER_ADVERTISEMENT);
	}
	if (addr_multicast(&p.dst, p.family))
		return drop(&p, DROP_MULTICAST);
	if (!addr_of_endpoint(&p.dst, ep))
		return drop(&p, DROP_UNKNOWN_DESTINATION);

	mark = mark_of(skb, c);
	if (mark == c->mark_verified) {
		/* The index says for whom the tunnel's verdict was. */
		if (!in || (in != c->slot_ifindex[0] && in != c->slot_ifindex[1]) ||
		    index != ep->index)
			return drop(&p, DROP_NOT_VERIFIED);
		goto pass;
	}
	if (mark == c->mark_pending)
		reason = from_same_node(&p, ep, index, 0);
	else if (mark == mark_reply(c))
		reason = from_same_node(&p, ep, index, 1);
	else
		reason = from_world(&p, ep);
	if (reason)
		return drop(&p, reason);
pass:
	count_passed(skb, HOOK_TO_WORKLOAD);
	return VERDICT_NEXT;
}
