/* SPDX-License-Identifier: GPL-2.0-only OR Apache-2.0 */
/*
 * The tag, 48 bits: epoch:8 | label:40, as the first IPv4 option (8 bytes) or as a Destination
 * Options header of its own right behind the IPv6 header (16 bytes: the option and PadN).
 * Each function returns 0 or a drop reason.
 */
#pragma once

#include "hook.h"
#include "packet.h"

/*
 * FIXED_GSO: the packet stays one super-packet of the same segment size. NO_CSUM_RESET: an
 * offloaded checksum stays with the transport header it belongs to.
 */
#define TAG_ROOM (BPF_F_ADJ_ROOM_FIXED_GSO | BPF_F_ADJ_ROOM_NO_CSUM_RESET)

static __always_inline __u16 checksum_fold(__u32 sum)
{
	sum = (sum & 0xffff) + (sum >> 16);
	sum = (sum & 0xffff) + (sum >> 16);
	return sum;
}

static __always_inline void tag_write(__u8 *out, __u64 tag)
{
#pragma unroll
	for (int i = 0; i < 6; i++)
		out[i] = tag >> (40 - 8 * i);
}

struct tagged_v4 {
	struct ipv4 ip;
	__u8 option[8];
};

/* The sum of the first `words` 16-bit words, at most four. */
static __always_inline __u32 checksum_words(const void *at, int words)
{
	const __u16 *w = at;
	__u32 sum = 0;

#pragma unroll
	for (int i = 0; i < 4; i++)
		if (i < words)
			sum += w[i];
	return sum;
}

static __noinline int tag_add_v4(struct __sk_buff *skb, struct packet *p, __u64 tag)
{
	struct tagged_v4 h;
	__u32 sum;

	if (p->length + TAG_LEN_V4 > MAX_LENGTH)
		return DROP_PACKET_TOO_LARGE;
	if (bpf_skb_load_bytes(skb, p->l3, &h.ip, sizeof(h.ip)))
		return DROP_TAG_FAILED;
	if ((h.ip.version_ihl & 15) > 13)
		return DROP_TAG_FAILED;
	/* RFC 1624: subtract what changes (as complement), add what it becomes. */
	sum = (__u16)~h.ip.check;
	sum += 2 * 0xffff - checksum_words(&h.ip, 2);
	h.ip.version_ihl += 2;
	h.ip.total_length = htons(p->length + TAG_LEN_V4);
	h.option[0] = TAG_OPTION_V4;
	h.option[1] = TAG_LEN_V4;
	tag_write(&h.option[2], tag);
	sum += checksum_words(&h.ip, 2) + checksum_words(h.option, 4);
	h.ip.check = ~checksum_fold(sum);
	if (bpf_skb_adjust_room(skb, TAG_LEN_V4, BPF_ADJ_ROOM_NET, TAG_ROOM))
		return DROP_TAG_FAILED;
	if (bpf_skb_store_bytes(skb, p->l3, &h, sizeof(h), 0))
		return DROP_TAG_FAILED;
	return 0;
}

static __noinline int tag_strip_v4(struct __sk_buff *skb, struct packet *p)
{
	struct tagged_v4 h;
	__u32 sum;

	if (bpf_skb_load_bytes(skb, p->l3, &h, sizeof(h)))
		return DROP_TAG_FAILED;
	sum = (__u16)~h.ip.check;
	sum += 6 * 0xffff - checksum_words(&h.ip, 2) - checksum_words(h.option, 4);
	h.ip.version_ihl -= 2;
	h.ip.total_length = htons(p->length - TAG_LEN_V4);
	sum += checksum_words(&h.ip, 2);
	h.ip.check = ~checksum_fold(sum);
	if (bpf_skb_store_bytes(skb, p->l3, &h.ip, sizeof(h.ip), 0))
		return DROP_TAG_FAILED;
	if (bpf_skb_adjust_room(skb, -TAG_LEN_V4, BPF_ADJ_ROOM_NET, TAG_ROOM))
		return DROP_TAG_FAILED;
	return 0;
}

struct tagged_v6 {
	struct ipv6 ip;
	__u8 next;
	__u8 length;
	__u8 option[8];
	__u8 pad[6];
};

static __noinline int tag_add_v6(struct __sk_buff *skb, struct packet *p, __u64 tag)
{
	struct tagged_v6 h = { .length = 1, .pad = { 1, 4 } };

	/* The length field counts what is behind the header. */
	if (p->length - sizeof(h.ip) + TAG_LEN_V6 > MAX_LENGTH)
		return DROP_PACKET_TOO_LARGE;
	if (bpf_skb_load_bytes(skb, p->l3, &h.ip, sizeof(h.ip)))
		return DROP_TAG_FAILED;
	h.next = h.ip.next;
	h.ip.next = IPPROTO_DSTOPTS;
	h.ip.payload_length = htons(p->length - sizeof(h.ip) + TAG_LEN_V6);
	h.option[0] = TAG_OPTION_V6;
	h.option[1] = 6;
	tag_write(&h.option[2], tag);
	if (bpf_skb_adjust_room(skb, TAG_LEN_V6, BPF_ADJ_ROOM_NET, TAG_ROOM))
		return DROP_TAG_FAILED;
	if (bpf_skb_store_bytes(skb, p->l3, &h, sizeof(h), 0))
		return DROP_TAG_FAILED;
	return 0;
}

static __noinline int tag_strip_v6(struct __sk_buff *skb, struct packet *p)
{
	struct tagged_v6 h;

	if (bpf_skb_load_bytes(skb, p->l3, &h, sizeof(h)))
		return DROP_TAG_FAILED;
	h.ip.next = h.next;
	h.ip.payload_length = htons(p->length - sizeof(h.ip) - TAG_LEN_V6);
	if (bpf_skb_store_bytes(skb, p->l3, &h.ip, sizeof(h.ip), 0))
		return DROP_TAG_FAILED;
	if (bpf_skb_adjust_room(skb, -TAG_LEN_V6, BPF_ADJ_ROOM_NET, TAG_ROOM))
		return DROP_TAG_FAILED;
	return 0;
}

static __always_inline int tag_add(struct __sk_buff *skb, struct packet *p, __u64 tag)
{
	return p->family == 4 ? tag_add_v4(skb, p, tag) : tag_add_v6(skb, p, tag);
}

static __always_inline int tag_strip(struct __sk_buff *skb, struct packet *p)
{
	return p->family == 4 ? tag_strip_v4(skb, p) : tag_strip_v6(skb, p);
}

#define TAG(epoch, label) (((epoch) & 0xff) << LABEL_BITS | ((label) & ((1ULL << LABEL_BITS) - 1)))
#define TAG_LABEL(tag) ((tag) & ((1ULL << LABEL_BITS) - 1))
#define TAG_EPOCH(tag) ((tag) >> LABEL_BITS)
