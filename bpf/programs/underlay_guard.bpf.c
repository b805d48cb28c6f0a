/* SPDX-License-Identifier: GPL-2.0-only OR Apache-2.0 */
/*
 * TCX egress of an underlay device: the verdict of a pod's way into the world, and the last look
 * at everything that leaves. No packet with a pod's address goes out to another pod in the clear.
 * The node's own traffic is not ours to stop.
 */
#include "lib/flow.h"
#include "lib/fragment.h"
#include "lib/mark.h"
#include "lib/parse.h"
#include "lib/send.h"

static __noinline int addresses_leak(struct packet *p)
{
	return addr_is_pod(&p->src) || addr_is_pod(&p->dst);
}

/* Pod addresses one level down, in IPIP, 6in4 or VXLAN. */
static __noinline int encapsulated_leak(struct __sk_buff *skb, struct packet *p)
{
	__u32 at = p->transport;
	struct packet inner = {};
	__u8 version;

	if (p->flags & PACKET_LATER_FRAGMENT)
		return 0;
	if (p->proto == IPPROTO_UDP) {
		/* IANA's port and Linux's own. */
		if (p->dport != htons(4789) && p->dport != htons(8472))
			return 0;
		at += 8 + 8 + ETH_HLEN;
	} else if (p->proto != IPPROTO_IPIP && p->proto != IPPROTO_IPV6) {
		return 0;
	}
	if (packet_load(skb, p, at, &version, 1))
		return 0;
	if (version >> 4 == 4) {
		__u8 addrs[8];

		if (packet_load(skb, p, at + 12, addrs, sizeof(addrs)))
			return 0;
		addr_from_v4(&inner.src, addrs);
		addr_from_v4(&inner.dst, addrs + 4);
	} else if (version >> 4 == 6) {
		if (packet_load(skb, p, at + 8, &inner.src, 32))
			return 0;
	} else {
		return 0;
	}
	return addresses_leak(&inner);
}

/* A pod's packet: `reply` if its own veth found the flow admitted. */
static __noinline int from_pod(struct __sk_buff *skb, struct packet *p, __u32 index, __u32 reply)
{
	struct endpoint *ep = endpoint_lookup(index);
	int reason;

	if (addr_is_pod(&p->dst))
		return DROP_CLEAR_POD_ADDRESS;
	if (!ep)
		return DROP_NO_SOURCE_INDEX;
	p->endpoint = ep->index;
	/* Masqueraded is fine, and so is its own address; another pod's is not. */
	if (!addr_of_endpoint(&p->src, ep) && addr_is_pod(&p->src))
		return DROP_SOURCE_TRANSLATED;
	if (reply)
		return 0;
	reason = fragment_ports(p);
	if (reason)
		return reason;
	return admit_plaintext_out(p, ep, flow_recall(index, skb->hash));
}

HOOK(underlay_guard)
{
	struct packet p = { .hook = HOOK_UNDERLAY_GUARD, .now = bpf_ktime_get_boot_ns() };
	struct config *c = config_lookup();
	__u32 mark, index = skb->tc_index;
	int reason, pods;

	p.ifindex = hook_ifindex(skb);
	p.length = skb->len;
	/* Without marks nothing of a pod can be told apart, but its addresses can. */
	mark = c ? mark_of(skb, c) : 0;
	pods = mark && (mark == c->mark_pending || mark == mark_reply(c));

	reason = parse(skb, &p, ETH_HLEN);
	if (pods) {
		if (!p.family)
			return drop(&p, DROP_PENDING_ESCAPED);
		if (reason)
			return drop(&p, reason);
		if (p.flags & PACKET_TAGGED)
			return drop(&p, DROP_FOREIGN_TAG);
		if (encapsulated_leak(skb, &p))
			return drop(&p, DROP_CLEAR_POD_ADDRESS);
		reason = from_pod(skb, &p, index, mark == mark_reply(c));
		if (reason)
			return drop(&p, reason);
	} else if (p.family &&
		   (addresses_leak(&p) || (!reason && encapsulated_leak(skb, &p)))) {
		return drop(&p, DROP_CLEAR_POD_ADDRESS);
	}
	count_passed(skb, HOOK_UNDERLAY_GUARD);
	return VERDICT_NEXT;
}
