/* SPDX-License-Identifier: GPL-2.0-only OR Apache-2.0 */
/* Reports to user space, at most one per pair, kind and reason in each interval. */
#pragma once

#include "maps.h"
#include "packet.h"

/* How many were left out, or -1 to leave this one out too. */
static __noinline int event_admit(struct packet *p, __u32 kind, __u32 reason)
{
	struct event_limit_key key = {
		.reason = reason,
		.kind = kind,
		.hook = p->hook,
		.endpoint = p->endpoint,
	};
	struct event_limit *limit, fresh = { .next = p->now + EVENT_INTERVAL_NS };
	int suppressed;

	if (kind == EVENT_NEW_FLOW || kind == EVENT_TAKEN_UP) {
		struct config *c = config_lookup();

		if (c && c->flags & CONFIG_REPORT) {
			key.reason = kind == EVENT_NEW_FLOW ? p->dport : p->sport;
			key.endpoint |= (__u32)p->proto << 16;
		}
	}

	key.src = p->src;
	key.dst = p->dst;
	limit = bpf_map_lookup_elem(&event_limits, &key);
	if (!limit) {
		bpf_map_update_elem(&event_limits, &key, &fresh, BPF_ANY);
		return 0;
	}
	if (p->now < limit->next) {
		__sync_fetch_and_add(&limit->suppressed, 1);
		return -1;
	}
	suppressed = limit->suppressed & 0x7fffffff;
	limit->suppressed = 0;
	limit->next = p->now + EVENT_INTERVAL_NS;
	return suppressed;
}

__separate int event(struct packet *p, __u32 kind, __u32 reason)
{
	struct event *e;
	int suppressed;

	if (!p)
		return 0;
	suppressed = event_admit(p, kind, reason);
	if (suppressed < 0)
		return 0;
	e = bpf_ringbuf_reserve(&events, sizeof(*e), 0);
	if (!e)
		return 0;
	e->time = p->now;
	e->kind = kind;
	e->hook = p->hook;
	e->family = p->family;
	e->proto = p->proto;
	e->reason = reason;
	e->endpoint = p->endpoint;
	e->src = p->src;
	e->dst = p->dst;
	e->sport = ntohs(p->sport);
	e->dport = ntohs(p->dport);
	e->peer = p->peer;
	e->class = p->class;
	e->remote = p->remote;
	e->ifindex = p->ifindex;
	e->rule = p->rule;
	e->suppressed = suppressed;
	e->length = p->length;
	bpf_ringbuf_submit(e, 0);
	return 0;
}
