/* SPDX-License-Identifier: GPL-2.0-only OR Apache-2.0 */
/*
 * Address resolution between a pod and its gateway: ARP (RFC 826) and neighbour discovery
 * (RFC 4861). A pod may only ever speak for itself.
 */
#pragma once

#include "parse.h"

/* Most options of a discovery message that are read. */
#define MAX_ND_OPTIONS 4

#define ND_ROUTER_SOLICITATION 133
#define ND_ROUTER_ADVERTISEMENT 134
#define ND_SOLICITATION 135
#define ND_ADVERTISEMENT 136
#define ND_REDIRECT 137

static __always_inline int mac_equal(const __u8 *a, const __u8 *b)
{
	return a[0] == b[0] && a[1] == b[1] && a[2] == b[2] && a[3] == b[3] && a[4] == b[4] &&
	       a[5] == b[5];
}

static __noinline int arp_check(struct __sk_buff *skb, struct packet *p, struct endpoint *ep)
{
	struct arp arp;

	if (bpf_skb_load_bytes(skb, ETH_HLEN, &arp, sizeof(arp)))
		return DROP_MALFORMED;
	if (arp.hardware != htons(1) || arp.protocol != htons(ETH_P_IP) ||
	    arp.hardware_len != 6 || arp.protocol_len != 4 ||
	    (arp.operation != htons(1) && arp.operation != htons(2)))
		return DROP_MALFORMED;
	addr_from_v4(&p->src, arp.sender_ip);
	addr_from_v4(&p->dst, arp.target_ip);
	if (!mac_equal(arp.sender_mac, ep->mac))
		return DROP_MAC_SPOOFED;
	/* 0.0.0.0 probes for duplicates (RFC 5227). */
	if (!addr_unspecified(&p->src, 4) && !addr_of_endpoint(&p->src, ep))
		return DROP_SOURCE_SPOOFED;
	return 0;
}

struct nd_message {
	__u8 type;
	__u8 code;
	__u16 check;
	__u32 flags;
	struct addr target;
};

/* Each link-layer address the message tells, wherever it stands, must be the pod's. */
static __noinline int nd_options_check(struct __sk_buff *skb, struct packet *p,
				       struct endpoint *ep)
{
	__u32 at = p->transport + sizeof(struct nd_message);

	for (__u32 i = 0; i < MAX_ND_OPTIONS; i++) {
		/* Type, length in units of eight bytes, and the address. */
		__u8 option[8];

		if (at == p->end)
			return 0;
		if (packet_load(skb, p, at, option, sizeof(option)))
			return DROP_MALFORMED;
		if (!option[1] || at + option[1] * 8 > p->end)
			return DROP_MALFORMED;
		if ((option[0] == 1 || option[0] == 2) && !mac_equal(&option[2], ep->mac))
			return DROP_MAC_SPOOFED;
		at += option[1] * 8;
	}
	return at == p->end ? 0 : DROP_MALFORMED;
}

static __noinline int nd_check(struct __sk_buff *skb, struct packet *p, struct endpoint *ep)
{
	struct nd_message m = {};

	if (p->icmp_type == ND_ROUTER_ADVERTISEMENT || p->icmp_type == ND_REDIRECT)
		return DROP_ROUTER_ADVERTISEMENT;
	if (p->icmp_type == ND_ROUTER_SOLICITATION)
		return DROP_MULTICAST;
	if (packet_load(skb, p, p->transport, &m, sizeof(m)))
		return DROP_MALFORMED;
	if (!addr_link_local(&p->src, 6) && !addr_of_endpoint(&p->src, ep) &&
	    !(p->icmp_type == ND_SOLICITATION && addr_unspecified(&p->src, 6)))
		return DROP_SOURCE_SPOOFED;
	/* A link-local target is the pod's own when it speaks from it. */
	if (p->icmp_type == ND_ADVERTISEMENT && !addr_of_endpoint(&m.target, ep) &&
	    !(addr_link_local(&m.target, 6) && addr_equal(&m.target, &p->src)))
		return DROP_SOURCE_SPOOFED;
	return nd_options_check(skb, p, ep);
}
