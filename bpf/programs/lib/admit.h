/* SPDX-License-Identifier: GPL-2.0-only OR Apache-2.0 */
/*
 * The verdicts: conntrack, else policy, else policy for the flow as its opener would have been
 * judged: for a TCP segment in mid-connection, and for whatever answers a flow of which we still
 * know who opened it, though policy has changed since. Each returns 0 or a drop reason.
 */
#pragma once

#include "conntrack.h"
#include "policy.h"

static __always_inline int authenticated(const struct endpoint *ep, __u64 now)
{
	return (ep->flags & ENDPOINT_AUTHENTICATED) && ep->not_after > now;
}

/* A labelled pair: p->class and p->remote come from its row. */
static __noinline int admit_labelled(struct packet *p, struct endpoint *ep, __u32 outbound)
{
	struct admission a = { .remote = p->remote };
	struct ct_key key = {};
	struct ct_entry *entry;
	__u32 rule, turn;
	int result;

	ct_key_of(p, &key, ep->index, POINT_TUNNEL, outbound);
	entry = ct_find(p, &key, ep, outbound);
	if (entry && entry->policy_generation == ep->policy_generation &&
	    entry->remote == p->remote) {
		ct_touch(entry, &key, p->now);
		p->rule = entry->rule;
		return 0;
	}
	a.flags = outbound ? CT_LOCAL_INITIATED : 0;
	/*
	 * An answer is judged as its opener would be, first of all: else it would be taken for a
	 * flow of its own where its own direction is open too, and be none once that is closed.
	 */
	turn = entry && entry->remote == p->remote && ct_answers(p, entry, outbound);
	if (turn && policy_admits(policy_lookup(p, ep, outbound ? POLICY_INGRESS : POLICY_EGRESS,
						p->class, p->sport))) {
		a.flags ^= CT_LOCAL_INITIATED;
		ct_store(p, &key, ep, &a);
		return 0;
	}
	turn = ct_midstream(p);
	result = policy_lookup(p, ep, outbound ? POLICY_EGRESS : POLICY_INGRESS, p->class,
			       p->dport);
	if (!policy_admits(result) && turn) {
		rule = p->rule;
		a.flags ^= CT_LOCAL_INITIATED;
		if (policy_admits(policy_lookup(p, ep, outbound ? POLICY_INGRESS : POLICY_EGRESS,
						p->class, p->sport)))
			result = 0;
		else
			p->rule = rule;
	}
	if (!policy_admits(result))
		return result;
	ct_store(p, &key, ep, &a);
	return 0;
}

/* Both ends of a pair on this node, `opener` being who sent the first packet to `port`. */
static __noinline int policy_pair(struct packet *p, struct endpoint *opener,
				  struct endpoint *server, __u32 port)
{
	int egress, ingress;

	egress = policy_lookup(p, opener, POLICY_EGRESS, server->class, port);
	if (!policy_admits(egress))
		return egress;
	ingress = policy_lookup(p, server, POLICY_INGRESS, opener->class, port);
	if (!policy_admits(ingress))
		return ingress;
	if (egress != POLICY_REQUIRED && ingress != POLICY_REQUIRED)
		return 0;
	if (!authenticated(opener, p->now) || !authenticated(server, p->now))
		return DROP_AUTHENTICATION_REQUIRED;
	return POLICY_REQUIRED;
}

static __always_inline int ct_pair_current(const struct ct_entry *entry, const struct endpoint *ep,
					   const struct endpoint *other)
{
	return entry->other == other->index && entry->remote == other->generation &&
	       entry->policy_generation == ep->policy_generation &&
	       entry->other_policy == other->policy_generation;
}

/* From `from` to `ep`, both on this node; judged where it arrives. */
static __noinline int admit_same_node(struct packet *p, struct endpoint *ep,
				      struct endpoint *from)
{
	struct admission a = {
		.remote = from->generation,
		.other_policy = from->policy_generation,
		.other = from->index,
	};
	struct ct_key key = {};
	struct ct_entry *entry;
	__u32 rule, turn;
	int result;

	/* A pod may reach itself, by its service too. */
	if (ep->index == from->index)
		return 0;
	ct_key_of(p, &key, ep->index, POINT_VETH, 0);
	entry = ct_find(p, &key, ep, 0);
	if (entry && ct_pair_current(entry, ep, from)) {
		if ((entry->flags & CT_REQUIRED) &&
		    (!authenticated(ep, p->now) || !authenticated(from, p->now)))
			return DROP_AUTHENTICATION_REQUIRED;
		ct_touch(entry, &key, p->now);
		p->rule = entry->rule;
		return 0;
	}
	turn = ct_midstream(p) || (entry && entry->other == from->index &&
				   entry->remote == from->generation && ct_answers(p, entry, 0));
	result = policy_pair(p, from, ep, p->dport);
	if (!policy_admits(result) && turn) {
		int reversed;

		rule = p->rule;
		reversed = policy_pair(p, ep, from, p->sport);
		if (policy_admits(reversed)) {
			result = reversed;
			a.flags = CT_LOCAL_INITIATED;
		} else {
			p->rule = rule;
		}
	}
	if (!policy_admits(result))
		return result;
	if (result == POLICY_REQUIRED)
		a.flags |= CT_REQUIRED;
	ct_store(p, &key, ep, &a);
	return 0;
}

/* From an address to `ep`. */
static __noinline int admit_plaintext_in(struct packet *p, struct endpoint *ep)
{
	struct admission a = {};
	struct ct_key key = {};
	struct ct_entry *entry;
	__u32 rule, turn, class = addr_class(&p->src), reply_class = class;
	int result;

	p->class = class;
	ct_key_of(p, &key, ep->index, POINT_VETH, 0);
	entry = ct_find(p, &key, ep, 0);
	if (entry && entry->other)
		entry = 0;
	if (entry) {
		int local = entry->flags & CT_LOCAL_INITIATED;

		/*
		 * The address a pod sees may be a service's; the class it was admitted under
		 * is that of the translated one.
		 */
		if (local)
			reply_class = entry->remote;
		if (entry->policy_generation == ep->policy_generation &&
		    (local || entry->remote == class)) {
			ct_touch(entry, &key, p->now);
			p->rule = entry->rule;
			p->class = reply_class;
			return 0;
		}
	}
	turn = ct_midstream(p) || (entry && ct_answers(p, entry, 0));
	result = policy_lookup(p, ep, POLICY_INGRESS | POLICY_PLAINTEXT, class, p->dport);
	a.remote = class;
	if (!policy_admits(result) && turn) {
		rule = p->rule;
		if (policy_admits(policy_lookup(p, ep, POLICY_EGRESS | POLICY_PLAINTEXT,
						reply_class, p->sport))) {
			result = 0;
			a.remote = reply_class;
			a.flags = CT_LOCAL_INITIATED;
		} else {
			p->rule = rule;
		}
	}
	if (!policy_admits(result))
		return result;
	ct_store(p, &key, ep, &a);
	return 0;
}

/*
 * From `ep` to an address, after translation. `seen` is the flow as the pod's own veth saw it;
 * storing it lets the replies in there.
 */
static __noinline int admit_plaintext_out(struct packet *p, struct endpoint *ep,
					  struct ct_key *seen)
{
	struct admission a = { .flags = CT_LOCAL_INITIATED };
	struct ct_entry *entry;
	struct ct_key key = {};
	__u32 rule;
	int result;

	p->class = addr_class(&p->dst);
	a.remote = p->class;
	result = policy_lookup(p, ep, POLICY_EGRESS | POLICY_PLAINTEXT, p->class, p->dport);
	if (!policy_admits(result) && ct_midstream(p)) {
		rule = p->rule;
		if (policy_admits(policy_lookup(p, ep, POLICY_INGRESS | POLICY_PLAINTEXT,
						p->class, p->sport))) {
			result = 0;
			a.flags = 0;
		} else {
			p->rule = rule;
		}
	}
	if (!policy_admits(result))
		return result;
	if (!seen || seen->proto != p->proto)
		return 0;
	key = *seen;
	entry = ct_find(p, &key, ep, 1);
	if (entry && entry->policy_generation == ep->policy_generation && !entry->other &&
	    entry->remote == p->class)
		ct_touch(entry, &key, p->now);
	else
		ct_store(p, &key, ep, &a);
	return 0;
}

/*
 * Whether this packet of `ep` answers a flow that was admitted at its veth. After a policy change
 * the flow is judged again as its opener would be.
 */
static __noinline int reply_admitted(struct packet *p, struct endpoint *ep,
				     const struct ct_key *key)
{
	struct ct_entry *entry = ct_find(p, key, ep, 1);
	struct endpoint *other = 0;

	if (!entry || (entry->flags & CT_LOCAL_INITIATED))
		return 0;
	if (entry->other) {
		other = endpoint_lookup(entry->other);
		if (!other || other->generation != entry->remote)
			return 0;
		if ((entry->flags & CT_REQUIRED) &&
		    (!authenticated(ep, p->now) || !authenticated(other, p->now)))
			return 0;
		if (!ct_pair_current(entry, ep, other)) {
			int result;

			if (!ct_midstream(p) && !ct_answers(p, entry, 1))
				return 0;
			result = policy_pair(p, other, ep, p->sport);
			if (!policy_admits(result))
				return 0;
			if (result == POLICY_REQUIRED)
				entry->flags |= CT_REQUIRED;
			entry->other_policy = other->policy_generation;
		}
	} else if (entry->policy_generation != ep->policy_generation) {
		if ((!ct_midstream(p) && !ct_answers(p, entry, 1)) ||
		    !policy_admits(policy_lookup(p, ep, POLICY_INGRESS | POLICY_PLAINTEXT,
						 entry->remote, p->sport)))
			return 0;
	}
	entry->policy_generation = ep->policy_generation;
	ct_touch(entry, key, p->now);
	return 1;
}
