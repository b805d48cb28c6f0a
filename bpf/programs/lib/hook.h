/* SPDX-License-Identifier: GPL-2.0-only OR Apache-2.0 */
/*
 * What a hook is told by its surroundings. BPF_PROG_TEST_RUN cannot set tc_index, the hash or
 * the interface, always puts an Ethernet header in front and takes no more than a page; the test
 * build takes the former from skb->cb and has a lower limit of size. Nothing else differs between
 * the two objects.
 */
#pragma once

#include "kernel.h"

#ifdef SIGNET_TEST
enum { CB_INDEX_IN, CB_INDEX_OUT, CB_HASH, CB_REDIRECT, CB_IFINDEX };
/* Devices without a link layer. */
#define L3_OFFSET ETH_HLEN
#define HOOK(name)                                                                                \
	static __always_inline int name##_hook(struct __sk_buff *skb);                            \
	SEC("classifier") int name(struct __sk_buff *skb)                                         \
	{                                                                                         \
		int verdict;                                                                      \
                                                                                                  \
		skb->tc_index = skb->cb[CB_INDEX_IN];                                             \
		bpf_set_hash(skb, skb->cb[CB_HASH]);                                              \
		verdict = name##_hook(skb);                                                       \
		skb->cb[CB_INDEX_OUT] = skb->tc_index;                                            \
		skb->cb[CB_HASH] = skb->hash;                                                     \
		return verdict;                                                                   \
	}                                                                                         \
	static __always_inline int name##_hook(struct __sk_buff *skb)
#define hook_ifindex(skb) ((skb)->cb[CB_IFINDEX])
#define hook_redirect(skb, ifindex) ((skb)->cb[CB_REDIRECT] = (ifindex), bpf_redirect(ifindex, 0))
#define MAX_LENGTH 2000
#define PINNED
#define SCALE(entries) ((entries) / 64)
#else
#define L3_OFFSET 0
#define HOOK(name) SEC("classifier") int name(struct __sk_buff *skb)
#define hook_ifindex(skb) ((skb)->ifindex)
#define hook_redirect(skb, ifindex) bpf_redirect(ifindex, 0)
/* Of the length field of both families. */
#define MAX_LENGTH 65535
#define PINNED __uint(pinning, LIBBPF_PIN_BY_NAME);
#define SCALE(entries) (entries)
#endif
