/* SPDX-License-Identifier: GPL-2.0-only OR Apache-2.0 */
/* The packet's mark and source index: the only things that travel with it through the stack. */
#pragma once

#include "maps.h"

static __always_inline __u32 mark_of(struct __sk_buff *skb, const struct config *c)
{
	return skb->mark & c->mark_mask;
}

static __always_inline __u32 mark_reply(const struct config *c)
{
	return c->mark_pending | c->mark_verified;
}

/*
 * tc_index is what later hooks read. A program behind us that returns OK would replace it by
 * tc_classid, so both are set.
 */
static __always_inline void mark_set(struct __sk_buff *skb, const struct config *c, __u32 mark,
				     __u32 index)
{
	skb->mark = (skb->mark & ~c->mark_mask) | mark;
	skb->tc_index = index;
	skb->tc_classid = index;
}
