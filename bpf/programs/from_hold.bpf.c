/* SPDX-License-Identifier: GPL-2.0-only OR Apache-2.0 */
/*
 * TCX ingress of the hold TAP: packets the agent releases. The Ethernet header says whose they
 * are; only the agent can write here. Never back through the stack: its conntrack has translated
 * them already and would do it again.
 */
#include "lib/fragment.h"
#include "lib/parse.h"
#include "lib/send.h"

HOOK(from_hold)
{
	struct packet p = { .hook = HOOK_FROM_HOLD, .now = bpf_ktime_get_boot_ns() };
	struct config *c = config_lookup();
	struct hold_header header;
	struct send_key key = {};
	struct endpoint *ep;
	int reason, verdict;

	p.ifindex = hook_ifindex(skb);
	p.length = skb->len;
	if (!c || !c->mark_mask)
		return drop(&p, DROP_NOT_CONFIGURED);
	if (p.ifindex != c->hold_ifindex)
		return drop(&p, DROP_UNKNOWN_INTERFACE);
	if (bpf_skb_load_bytes(skb, 0, &header, sizeof(header)))
		return drop(&p, DROP_MALFORMED);
	reason = parse(skb, &p, ETH_HLEN);
	if (reason)
		return drop(&p, reason);
	if (p.flags & PACKET_TAGGED)
		return drop(&p, DROP_FOREIGN_TAG);
	ep = endpoint_lookup(ntohs(header.endpoint));
	if (!ep || ep->generation != htonl(header.generation))
		return drop(&p, DROP_GENERATION_STALE);
	p.endpoint = ep->index;
	if (!addr_of_endpoint(&p.src, ep))
		return drop(&p, DROP_SOURCE_SPOOFED);
	reason = fragment_ports(&p);
	if (reason)
		return drop(&p, reason);
	verdict = send(skb, &p, c, ep, 0);
	key.endpoint = ep->index;
	key.generation = ep->generation;
	key.dst = p.dst;
	hold_released(&key, ntohs(header.ticket));
	return verdict;
}
