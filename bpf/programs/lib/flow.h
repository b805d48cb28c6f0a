/* SPDX-License-Identifier: GPL-2.0-only OR Apache-2.0 */
/*
 * Ties a pod's packet on the underlay, after service translation and masquerading, to the flow
 * its own veth saw. skb->hash is the one field that survives the way between and is wide enough;
 * it is keyed, so that no pod can make two flows meet on purpose, and a meeting by chance only
 * mixes two flows of the same pod. Where something on the way loses the hash, replies from
 * outside are refused, never admitted.
 */
#pragma once

#include "maps.h"

static __always_inline __u32 flow_hash(const struct ct_key *key, __u32 seed)
{
	const __u32 *word = (const __u32 *)key;
	__u32 hash = seed;

#pragma unroll
	for (__u32 i = 0; i < sizeof(*key) / 4; i++) {
		hash = (hash ^ word[i]) * 0x9e3779b1;
		hash ^= hash >> 15;
		hash = hash << 13 | hash >> 19;
	}
	hash *= 0x85ebca6b;
	hash ^= hash >> 13;
	/* 0 means none. */
	return hash ? hash : 1;
}

static __noinline int flow_remember(struct __sk_buff *skb, const struct ct_key *key, __u32 seed)
{
	struct flow_key flow = { .endpoint = key->endpoint, .hash = flow_hash(key, seed) };
	const __u64 *want = (const __u64 *)key, *have = bpf_map_lookup_elem(&flows, &flow);

	if (!have || have[0] != want[0] || have[1] != want[1] || have[2] != want[2] ||
	    have[3] != want[3] || have[4] != want[4])
		bpf_map_update_elem(&flows, &flow, key, BPF_ANY);
	bpf_set_hash(skb, flow.hash);
	return 0;
}

static __always_inline struct ct_key *flow_recall(__u32 endpoint, __u32 hash)
{
	struct flow_key flow = { .endpoint = endpoint, .hash = hash };

	return bpf_map_lookup_elem(&flows, &flow);
}
