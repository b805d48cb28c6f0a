/* SPDX-License-Identifier: GPL-2.0-only OR Apache-2.0 */
/*
 * TCX ingress of a pod's host veth. Who sends is decided here, by the interface: everything
 * behind goes by the index set on the packet. What the destination will be is not known yet, so
 * nothing but the source is judged, and the stack goes on with the packet.
 */
#include "lib/flow.h"
#include "lib/fragment.h"
#include "lib/mark.h"
#include "lib/neighbour.h"
#include "lib/parse.h"
#include "lib/send.h"

/*
 * A request for a lease, broadcast: the stack never forwards those. To any other destination it
 * would be a way out that no verdict waits on; a renewal goes the way of all packets.
 */
static __always_inline int dhcp_request(const struct packet *p)
{
	return p->family == 4 && p->proto == IPPROTO_UDP && p->sport == htons(68) &&
	       p->dport == htons(67) && !(p->flags & PACKET_LATER_FRAGMENT) &&
	       addr_broadcast(&p->dst);
}

/* 1 = passes without an index, 0 = goes on, else minus the reason. */
static __noinline int source_check(struct __sk_buff *skb, struct packet *p, struct endpoint *ep)
{
	int reason;

	if (p->flags & PACKET_NEIGHBOUR) {
		reason = nd_check(skb, p, ep);
		return reason ? -reason : 1;
	}
	if (dhcp_request(p) &&
	    (addr_unspecified(&p->src, 4) || addr_of_endpoint(&p->src, ep)))
		return 1;
	if (addr_multicast(&p->dst, p->family))
		return -DROP_MULTICAST;
	if (addr_link_local(&p->src, p->family) || addr_link_local(&p->dst, p->family))
		return -DROP_LINK_LOCAL;
	if (!addr_of_endpoint(&p->src, ep))
		return -DROP_SOURCE_SPOOFED;
	return 0;
}

HOOK(from_workload)
{
	struct packet p = { .hook = HOOK_FROM_WORKLOAD, .now = bpf_ktime_get_boot_ns() };
	struct config *c = config_lookup();
	struct endpoint *ep;
	struct ct_key key = {};
	__u8 mac[6];
	int reason;

	p.ifindex = hook_ifindex(skb);
	p.length = skb->len;
	if (!c || !c->mark_mask)
		return drop(&p, DROP_NOT_CONFIGURED);
	ep = endpoint_of_interface(p.ifindex);
	if (!ep)
		return drop(&p, DROP_UNKNOWN_INTERFACE);
	p.endpoint = ep->index;

	if (bpf_skb_load_bytes(skb, 6, mac, sizeof(mac)))
		return drop(&p, DROP_MALFORMED);
	if (!mac_equal(mac, ep->mac))
		return drop(&p, DROP_MAC_SPOOFED);
	/* A VLAN header may sit beside the data, where nobody would look for it. */
	if (skb->vlan_present)
		return drop(&p, DROP_NOT_IP);
	if (skb->protocol == htons(ETH_P_ARP)) {
		reason = arp_check(skb, &p, ep);
		if (reason)
			return drop(&p, reason);
		count_passed(skb, HOOK_FROM_WORKLOAD);
		return VERDICT_NEXT;
	}

	reason = parse(skb, &p, ETH_HLEN);
	if (reason)
		return drop(&p, reason);
	if (p.flags & PACKET_TAGGED)
		return drop(&p, DROP_FOREIGN_TAG);
	reason = source_check(skb, &p, ep);
	if (reason < 0)
		return drop(&p, -reason);
	if (reason == 0) {
		reason = fragment_ports(&p);
		if (reason)
			return drop(&p, reason);
		ct_key_of(&p, &key, ep->index, POINT_VETH, 1);
		if (reply_admitted(&p, ep, &key)) {
			mark_set(skb, c, mark_reply(c), ep->index);
		} else {
			mark_set(skb, c, c->mark_pending, ep->index);
			if (!addr_is_pod(&p.dst))
				flow_remember(skb, &key, c->hash_seed);
		}
	}
	count_passed(skb, HOOK_FROM_WORKLOAD);
	return VERDICT_NEXT;
}
