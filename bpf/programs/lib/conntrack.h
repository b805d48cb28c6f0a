/* SPDX-License-Identifier: GPL-2.0-only OR Apache-2.0 */
/*
 * Flows that were admitted, so that their replies are. An entry counts only while the endpoint,
 * the other side and the policy are still those it was admitted under.
 */
#pragma once

#include "addr.h"
#include "event.h"

#define POINT_TUNNEL 0
#define POINT_VETH 1

/*
 * The flow of this packet, seen from the endpoint. An ICMP error belongs to the flow it quotes,
 * provided it goes back to where the quoted packet came from.
 */
__separate int ct_key_of(struct packet *p, struct ct_key *key, __u32 endpoint, __u32 point,
			 __u32 outbound)
{
	int error;

	if (!p || !key)
		return 0;
	error = (p->flags & PACKET_ICMP_ERROR) && addr_equal(&p->quote_src, &p->dst) &&
		(!outbound || addr_equal(&p->quote_dst, &p->src));
	key->point = point;
	key->endpoint = endpoint;
	if (error) {
		key->proto = p->quote_proto;
		if (outbound) {
			key->local = p->quote_dst;
			key->remote = p->quote_src;
			key->local_port = p->quote_dport;
			key->remote_port = p->quote_sport;
		} else {
			key->local = p->quote_src;
			key->remote = p->quote_dst;
			key->local_port = p->quote_sport;
			key->remote_port = p->quote_dport;
		}
		return 0;
	}
	key->proto = p->proto;
	if (outbound) {
		key->local = p->src;
		key->remote = p->dst;
		key->local_port = p->sport;
		key->remote_port = p->dport;
	} else {
		key->local = p->dst;
		key->remote = p->src;
		key->local_port = p->dport;
		key->remote_port = p->sport;
	}
	return 0;
}

/* Opens a TCP connection: only policy in its own direction can admit it. */
static __always_inline int ct_opening(const struct packet *p)
{
	return p->proto == IPPROTO_TCP && !(p->flags & PACKET_LATER_FRAGMENT) &&
	       (p->tcp_flags & (TCP_SYN | TCP_ACK)) == TCP_SYN;
}

/*
 * A TCP segment that may belong to a connection we have no entry of. Not so the second of a
 * handshake: whoever asked for it will ask again.
 */
static __always_inline int ct_midstream(const struct packet *p)
{
	return p->proto == IPPROTO_TCP && !(p->tcp_flags & TCP_SYN);
}

/*
 * Goes against the way its flow was opened. An error does not answer, it tells; and what it quotes
 * is not what policy would be asked about.
 */
static __always_inline int ct_answers(const struct packet *p, const struct ct_entry *entry,
				      __u32 outbound)
{
	return !(p->flags & PACKET_ICMP_ERROR) && !ct_opening(p) &&
	       !(entry->flags & CT_LOCAL_INITIATED) == !!outbound;
}

static __always_inline __u64 ct_lifetime(const struct ct_key *key)
{
	if (key->proto == IPPROTO_TCP)
		return CT_TCP_NS;
	return key->proto == IPPROTO_UDP ? CT_UDP_NS : CT_OTHER_NS;
}

static __always_inline void ct_touch(struct ct_entry *entry, const struct ct_key *key, __u64 now)
{
	__u64 expires = now + ct_lifetime(key);

	/* Once a second is enough, and spares the cache line. */
	if (expires > entry->expires + 1000000000ULL)
		entry->expires = expires;
}

/* The unexpired entry of this incarnation of the endpoint. */
static __always_inline struct ct_entry *ct_find(const struct packet *p, const struct ct_key *key,
						const struct endpoint *ep, __u32 outbound)
{
	struct ct_entry *entry = bpf_map_lookup_elem(&conntrack, key);

	if (!entry || entry->expires <= p->now || entry->generation != ep->generation)
		return 0;
	if (ct_opening(p) && !(entry->flags & CT_LOCAL_INITIATED) != !outbound)
		return 0;
	return entry;
}

struct admission {
	__u32 remote;
	__u32 other_policy;
	__u16 other;
	__u16 flags;
};

static __noinline int ct_store(struct packet *p, const struct ct_key *key, struct endpoint *ep,
			       const struct admission *a)
{
	struct ct_entry entry = {
		.generation = ep->generation,
		.policy_generation = ep->policy_generation,
		.remote = a->remote,
		.other_policy = a->other_policy,
		.other = a->other,
		.flags = a->flags,
		.rule = p->rule,
	};
	int outbound, opened;

	/* An error opens nothing. */
	if (p->flags & PACKET_ICMP_ERROR)
		return 0;
	entry.expires = p->now + ct_lifetime(key);
	bpf_map_update_elem(&conntrack, key, &entry, BPF_ANY);
	/* Did the side open it that this packet comes from? */
	outbound = p->hook == HOOK_TO_TUNNEL || p->hook == HOOK_FROM_HOLD ||
		   p->hook == HOOK_UNDERLAY_GUARD;
	opened = (a->flags & CT_LOCAL_INITIATED) != 0;
	event(p, opened == outbound ? EVENT_NEW_FLOW : EVENT_TAKEN_UP, 0);
	return 0;
}
