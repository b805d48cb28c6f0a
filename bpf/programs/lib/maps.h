/* SPDX-License-Identifier: GPL-2.0-only OR Apache-2.0 */
/*
 * Every map. Rows an operator's intent lives in are plain hashes or tries, which refuse when
 * full; only what can be made again (conntrack, fragments, flows, who waits, limits) is LRU.
 */
#pragma once

#include "abi.h"
#include "hook.h"

#define MAP(name_, type_, key_, value_, entries_, flags_)                                        \
	struct {                                                                                  \
		__uint(type, type_);                                                              \
		__uint(max_entries, entries_);                                                    \
		__uint(map_flags, flags_);                                                        \
		__type(key, key_);                                                                \
		__type(value, value_);                                                            \
		PINNED                                                                            \
	} name_ SEC(".maps")

MAP(config, BPF_MAP_TYPE_ARRAY, __u32, struct config, 1, 0);
MAP(endpoints, BPF_MAP_TYPE_HASH, __u32, struct endpoint, MAX_ENDPOINTS, BPF_F_NO_PREALLOC);
MAP(interfaces, BPF_MAP_TYPE_HASH, __u32, __u32, MAX_ENDPOINTS, BPF_F_NO_PREALLOC);
MAP(local_addresses, BPF_MAP_TYPE_HASH, struct addr, __u32, MAX_ENDPOINTS * MAX_ADDRESSES,
    BPF_F_NO_PREALLOC);
MAP(pod_ranges, BPF_MAP_TYPE_LPM_TRIE, struct addr_prefix, __u32, 65536, BPF_F_NO_PREALLOC);
MAP(cidr_classes, BPF_MAP_TYPE_LPM_TRIE, struct addr_prefix, __u32, 65536, BPF_F_NO_PREALLOC);
MAP(send_rows, BPF_MAP_TYPE_HASH, struct send_key, struct send_row, 262144, BPF_F_NO_PREALLOC);
MAP(recv_rows, BPF_MAP_TYPE_HASH, struct recv_key, struct recv_row, 262144, BPF_F_NO_PREALLOC);
MAP(peers, BPF_MAP_TYPE_HASH, __u32, struct peer, 16384, BPF_F_NO_PREALLOC);
MAP(policy, BPF_MAP_TYPE_LPM_TRIE, struct policy_key, struct policy_value, 524288,
    BPF_F_NO_PREALLOC);
MAP(conntrack, BPF_MAP_TYPE_LRU_HASH, struct ct_key, struct ct_entry, SCALE(131072), 0);
MAP(flows, BPF_MAP_TYPE_LRU_HASH, struct flow_key, struct ct_key, SCALE(65536), 0);
MAP(fragments, BPF_MAP_TYPE_LRU_HASH, struct frag_key, struct frag_ports, SCALE(16384), 0);
MAP(hold_budgets, BPF_MAP_TYPE_LRU_HASH, __u32, struct hold_budget, MAX_ENDPOINTS, 0);
MAP(hold_orders, BPF_MAP_TYPE_LRU_HASH, struct send_key, struct hold_order, SCALE(16384), 0);
MAP(event_limits, BPF_MAP_TYPE_LRU_HASH, struct event_limit_key, struct event_limit, SCALE(16384),
    0);
MAP(drops, BPF_MAP_TYPE_PERCPU_ARRAY, __u32, __u64, DROP_REASONS, 0);
MAP(passed, BPF_MAP_TYPE_PERCPU_ARRAY, __u32, struct passed_count, HOOKS, 0);

struct {
	__uint(type, BPF_MAP_TYPE_RINGBUF);
	__uint(max_entries, 1 << 20);
	PINNED
} events SEC(".maps");

static __always_inline struct config *config_lookup(void)
{
	__u32 zero = 0;

	return bpf_map_lookup_elem(&config, &zero);
}

static __always_inline struct endpoint *endpoint_lookup(__u32 index)
{
	return index ? bpf_map_lookup_elem(&endpoints, &index) : 0;
}

static __always_inline struct endpoint *endpoint_of_interface(__u32 ifindex)
{
	__u32 *index = bpf_map_lookup_elem(&interfaces, &ifindex);

	return index ? endpoint_lookup(*index) : 0;
}
