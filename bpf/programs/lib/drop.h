/* SPDX-License-Identifier: GPL-2.0-only OR Apache-2.0 */
/* The two ways out of a program, both counted. */
#pragma once

#include "event.h"

__separate int drop_as(struct packet *p, __u32 reason, __u32 kind)
{
	__u64 *count;

	if (!p)
		return VERDICT_DROP;
	count = bpf_map_lookup_elem(&drops, &reason);
	if (count)
		*count += 1;
	event(p, kind, reason);
	return VERDICT_DROP;
}

static __always_inline int drop(struct packet *p, __u32 reason)
{
	return drop_as(p, reason, EVENT_DROP);
}

static __always_inline void count_passed(struct __sk_buff *skb, __u32 hook)
{
	struct passed_count *count = bpf_map_lookup_elem(&passed, &hook);

	if (count) {
		count->packets += 1;
		count->bytes += skb->len;
	}
}
