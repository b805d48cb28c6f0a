/* SPDX-License-Identifier: GPL-2.0-only OR Apache-2.0 */
/* One lookup of the compiled policy. */
#pragma once

#include "maps.h"
#include "packet.h"

/* `how`: the direction, and whether the other side has only an address to show. */
#define POLICY_PLAINTEXT 2

/* Result: 0 or POLICY_REQUIRED admits, anything else is the drop reason. */
#define POLICY_REQUIRED 0x10000
#define policy_admits(result) ((result) == 0 || (result) == POLICY_REQUIRED)

__separate int policy_lookup(struct packet *p, struct endpoint *ep, __u32 how, __u32 class,
			     __u32 port)
{
	int egress = (how & 1) == POLICY_EGRESS;
	struct policy_key key = {
		.prefix_len = (sizeof(key) - sizeof(key.prefix_len) - sizeof(key.reserved)) * 8,
		.direction = how & 1,
		.class = class,
	};
	struct policy_value *value;
	struct config *c;

	if (!p || !ep)
		return DROP_DEFAULT_DENY_INGRESS;
	key.endpoint = ep->index;
	key.proto = p->proto;
	if (p->proto == IPPROTO_TCP || p->proto == IPPROTO_UDP || p->proto == IPPROTO_SCTP)
		key.port = port;
	value = bpf_map_lookup_elem(&policy, &key);
	if (!value) {
		key.proto = 0;
		value = bpf_map_lookup_elem(&policy, &key);
	}
	if (!value) {
		__u32 isolated = egress ? ENDPOINT_EGRESS_ISOLATED : ENDPOINT_INGRESS_ISOLATED;

		p->rule = 0;
		c = config_lookup();
		if (ep->flags & isolated ||
		    ((how & POLICY_PLAINTEXT) && (!c || c->flags & CONFIG_STRICT)))
			return egress ? DROP_DEFAULT_DENY_EGRESS : DROP_DEFAULT_DENY_INGRESS;
		return 0;
	}
	p->rule = value->rule;
	if (value->action != POLICY_ALLOW)
		return egress ? DROP_POLICY_EGRESS_DENIED : DROP_POLICY_INGRESS_DENIED;
	if (value->auth == POLICY_AUTH_REQUIRED)
		return how & POLICY_PLAINTEXT ? DROP_AUTHENTICATION_REQUIRED : POLICY_REQUIRED;
	return 0;
}
