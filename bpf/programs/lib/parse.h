/* SPDX-License-Identifier: GPL-2.0-only OR Apache-2.0 */
/*
 * One pass over the headers. Returns 0 or a drop reason. Everything is read by
 * bpf_skb_load_bytes: packets may be paged, and no pointer has to be proven again. Nothing is
 * written anywhere but to `p`, since nobody has checked the source yet.
 */
#pragma once

#include "addr.h"
#include "packet.h"

/* Longest IPv6 options header that is searched, in bytes; a longer one is refused. */
#define MAX_OPTIONS 64

/*
 * Reads from the packet, never from what lies behind its own length: the stack would cut that off
 * after the verdict, and deliver something else than was judged.
 */
static __always_inline long packet_load(struct __sk_buff *skb, const struct packet *p,
					__u32 offset, void *to, __u32 len)
{
	if (offset + len > p->end)
		return -1;
	return bpf_skb_load_bytes(skb, offset, to, len);
}

static __always_inline int icmp_is_error(__u8 family, __u8 type)
{
	if (family == 4)
		return type == 3 || type == 11 || type == 12;
	return type >= 1 && type <= 4;
}

static __always_inline int icmp_is_echo(__u8 family, __u8 type)
{
	if (family == 4)
		return type == 8 || type == 0;
	return type == 128 || type == 129;
}

/* The inner tuple of an ICMP error; an error without a usable quote is just an ICMP packet. */
static __noinline int parse_quote(struct __sk_buff *skb, struct packet *p)
{
	__u32 offset = p->transport + 8;
	__u16 ports[2] = {};
	__u8 proto;

	if (p->family == 4) {
		struct ipv4 ip;

		if (packet_load(skb, p, offset, &ip, sizeof(ip)))
			return 0;
		if (ip.version_ihl >> 4 != 4 || (ip.version_ihl & 15) < 5 ||
		    (ip.fragment & htons(0x1fff)))
			return 0;
		proto = ip.proto;
		offset += (ip.version_ihl & 15) * 4;
		addr_from_v4(&p->quote_src, ip.src);
		addr_from_v4(&p->quote_dst, ip.dst);
	} else {
		struct ipv6 ip;

		if (packet_load(skb, p, offset, &ip, sizeof(ip)))
			return 0;
		if (*(__u8 *)&ip >> 4 != 6)
			return 0;
		proto = ip.next;
		offset += sizeof(ip);
		__builtin_memcpy(&p->quote_src, ip.src, 16);
		__builtin_memcpy(&p->quote_dst, ip.dst, 16);
	}
	if (proto == IPPROTO_TCP || proto == IPPROTO_UDP || proto == IPPROTO_SCTP) {
		if (packet_load(skb, p, offset, ports, 4))
			return 0;
	} else if (proto == (p->family == 4 ? IPPROTO_ICMP : IPPROTO_ICMPV6)) {
		__u16 echo[3];

		if (packet_load(skb, p, offset, echo, 6))
			return 0;
		if (!icmp_is_echo(p->family, *(__u8 *)echo))
			return 0;
		ports[0] = ports[1] = echo[2];
	}
	p->quote_proto = proto;
	p->quote_sport = ports[0];
	p->quote_dport = ports[1];
	p->flags |= PACKET_ICMP_ERROR;
	return 0;
}

__separate int parse_transport(struct __sk_buff *skb, struct packet *p)
{
	__u16 ports[2];

	if (!p)
		return DROP_MALFORMED;
	if (p->proto == IPPROTO_TCP || p->proto == IPPROTO_UDP || p->proto == IPPROTO_SCTP) {
		if (packet_load(skb, p, p->transport, ports, 4))
			return DROP_MALFORMED;
		p->sport = ports[0];
		p->dport = ports[1];
		if (p->proto == IPPROTO_TCP &&
		    packet_load(skb, p, p->transport + 13, &p->tcp_flags, 1))
			return DROP_MALFORMED;
		return 0;
	}
	if (p->proto == (p->family == 4 ? IPPROTO_ICMP : IPPROTO_ICMPV6)) {
		__u16 icmp[4];

		if (packet_load(skb, p, p->transport, icmp, 8))
			return DROP_MALFORMED;
		p->icmp_type = *(__u8 *)icmp;
		if (icmp_is_echo(p->family, p->icmp_type))
			p->sport = p->dport = icmp[2];
		else if (icmp_is_error(p->family, p->icmp_type))
			return parse_quote(skb, p);
	}
	return 0;
}

/* Where a header's options are: from `at` to `end`, offsets in the frame. */
struct options {
	__u32 at;
	__u32 end;
};

/*
 * Walks options of type, length, value. Returns 0, or why not. The bytes are read one by one from
 * the packet: an index into a copy on the stack would have the verifier follow every possible
 * combination of lengths.
 */
static __noinline int options_check(struct __sk_buff *skb, const struct options *o, __u32 family)
{
	__u32 at = o->at, end = o->end;
	for (__u32 i = 0; i < MAX_OPTIONS; i++) {
		__u8 type, size;

		if (at >= end)
			return at == end ? 0 : DROP_MALFORMED;
		if (bpf_skb_load_bytes(skb, at, &type, 1))
			return DROP_MALFORMED;
		if (family == 4 && type == 0)
			return 0;
		if (type == 0 || (family == 4 && type == 1)) {
			at += 1;
			continue;
		}
		if (type == (family == 4 ? TAG_OPTION_V4 : TAG_OPTION_V6))
			return DROP_FOREIGN_TAG;
		/* Loose and strict source route, with or without the copied flag. */
		if (family == 4 && ((type & 0x7f) == 3 || (type & 0x7f) == 9))
			return DROP_SOURCE_ROUTED;
		if (bpf_skb_load_bytes(skb, at + 1, &size, 1))
			return DROP_MALFORMED;
		/* IPv4 counts the two bytes of type and length, IPv6 does not. */
		if (family == 4 && size < 2)
			return DROP_MALFORMED;
		at += family == 4 ? size : size + 2;
	}
	return DROP_MALFORMED;
}

/* Reads the tag from its option if it is there. */
static __noinline int tag_read(struct __sk_buff *skb, struct packet *p, __u32 at, __u32 head)
{
	__u8 option[8];
	__u64 tag = 0;

	if (bpf_skb_load_bytes(skb, at, option, sizeof(option)))
		return 0;
	if (option[0] != head >> 8 || option[1] != (head & 0xff))
		return 0;
#pragma unroll
	for (int i = 2; i < 8; i++)
		tag = tag << 8 | option[i];
	p->tag = tag;
	p->flags |= PACKET_TAGGED;
	return 1;
}

static __noinline int parse_v4(struct __sk_buff *skb, struct packet *p)
{
	struct ipv4 ip;
	__u32 header, fragment;

	if (bpf_skb_load_bytes(skb, p->l3, &ip, sizeof(ip)))
		return DROP_MALFORMED;
	header = (ip.version_ihl & 15) * 4;
	p->length = ntohs(ip.total_length);
	/* First of all: the guard looks at the addresses even of a malformed packet. */
	addr_from_v4(&p->src, ip.src);
	addr_from_v4(&p->dst, ip.dst);
	if (ip.version_ihl >> 4 != 4 || header < sizeof(ip) || p->length < header ||
	    p->l3 + p->length > skb->len)
		return DROP_MALFORMED;
	p->end = p->l3 + p->length;
	p->proto = ip.proto;
	p->transport = p->l3 + header;

	if (header > sizeof(ip)) {
		struct options o = { .at = p->l3 + sizeof(ip), .end = p->l3 + header };
		int reason;

		if (header >= sizeof(ip) + TAG_LEN_V4 &&
		    tag_read(skb, p, o.at, TAG_OPTION_V4 << 8 | TAG_LEN_V4))
			o.at += TAG_LEN_V4;
		reason = options_check(skb, &o, 4);
		if (reason)
			return reason;
	}

	fragment = ntohs(ip.fragment);
	if (fragment & 0x1fff)
		p->flags |= PACKET_LATER_FRAGMENT;
	else if (fragment & 0x2000)
		p->flags |= PACKET_FIRST_FRAGMENT;
	p->fragment_id = ip.id;
	if (p->flags & PACKET_LATER_FRAGMENT)
		return 0;
	return parse_transport(skb, p);
}

/* The walk of IPv6 extension headers, one step. */
struct walk {
	__u32 offset;
	__u32 fragment_id;
	__u8 next;
	__u8 first; /* nothing walked yet: the place of the tag */
};

static __noinline int parse_v6_options(struct __sk_buff *skb, struct packet *p, struct walk *w)
{
	struct options o = { .at = w->offset + 2 };
	__u8 head[2];

	if (packet_load(skb, p, w->offset, head, 2))
		return DROP_MALFORMED;
	if (head[1] > MAX_OPTIONS / 8 - 1)
		return DROP_MALFORMED;
	o.end = w->offset + (head[1] + 1) * 8;
	if (o.end > p->end)
		return DROP_MALFORMED;
	/* The tag has a header of its own, 16 bytes long: the option and padding. */
	if (w->first && w->next == IPPROTO_DSTOPTS && head[1] == 1 &&
	    tag_read(skb, p, o.at, TAG_OPTION_V6 << 8 | 6))
		o.at += 8;
	w->next = head[0];
	w->offset = o.end;
	return options_check(skb, &o, 6);
}

static __noinline int parse_v6(struct __sk_buff *skb, struct packet *p)
{
	struct walk w = { .first = 1 };
	struct ipv6 ip;
	int reason, terminal = 0;

	if (bpf_skb_load_bytes(skb, p->l3, &ip, sizeof(ip)))
		return DROP_MALFORMED;
	__builtin_memcpy(&p->src, ip.src, 16);
	__builtin_memcpy(&p->dst, ip.dst, 16);
	p->length = sizeof(ip) + ntohs(ip.payload_length);
	if ((((__u8 *)&ip)[0] >> 4) != 6 || ip.payload_length == 0 || p->l3 + p->length > skb->len ||
	    addr_mapped(&p->src) || addr_mapped(&p->dst))
		return DROP_MALFORMED;
	p->end = p->l3 + p->length;
	w.next = ip.next;
	w.offset = p->l3 + sizeof(ip);

	for (__u32 i = 0; i < MAX_EXTENSION_HEADERS + 2; i++) {
		if (w.next == IPPROTO_ROUTING)
			return DROP_SOURCE_ROUTED;
		if (w.next != IPPROTO_HOPOPTS && w.next != IPPROTO_DSTOPTS &&
		    w.next != IPPROTO_FRAGMENT) {
			terminal = 1;
			break;
		}
		/* The tag is not counted, or what was fit to send would not be to receive. */
		if (i >= MAX_EXTENSION_HEADERS + (p->flags & PACKET_TAGGED ? 1 : 0))
			return DROP_MALFORMED;
		if (w.next != IPPROTO_FRAGMENT) {
			reason = parse_v6_options(skb, p, &w);
			if (reason)
				return reason;
		} else {
			__u8 fragment[8];

			/* A fragment of a fragment: nobody sends that in earnest. */
			if (p->flags & PACKET_FIRST_FRAGMENT)
				return DROP_MALFORMED;
			if (packet_load(skb, p, w.offset, fragment, 8))
				return DROP_MALFORMED;
			__builtin_memcpy(&w.fragment_id, &fragment[4], 4);
			w.next = fragment[0];
			w.offset += 8;
			if (fragment[2] || (fragment[3] & 0xf8)) {
				p->flags |= PACKET_LATER_FRAGMENT;
				terminal = 1;
				break;
			}
			if (fragment[3] & 1)
				p->flags |= PACKET_FIRST_FRAGMENT;
		}
		w.first = 0;
	}
	if (!terminal)
		return DROP_MALFORMED;
	p->proto = w.next;
	p->transport = w.offset;
	p->fragment_id = w.fragment_id;
	if (p->flags & PACKET_LATER_FRAGMENT)
		return 0;
	if (parse_transport(skb, p))
		return DROP_MALFORMED;
	if (p->proto == IPPROTO_ICMPV6 && p->icmp_type >= 133 && p->icmp_type <= 137) {
		/*
		 * Not forwarded by anybody (RFC 4861, 6.1), so it must be from the link, and never
		 * fragmented (RFC 6980).
		 */
		if (ip.hop_limit != 255 || (p->flags & PACKET_FIRST_FRAGMENT))
			return DROP_MALFORMED;
		p->flags |= PACKET_NEIGHBOUR;
	}
	return 0;
}

/* Reads the packet whose IP header is at `l3`. */
__separate int parse(struct __sk_buff *skb, struct packet *p, __u32 l3)
{
	__u32 protocol = skb->protocol;

	if (!p)
		return DROP_MALFORMED;
	p->l3 = l3;
	p->length = skb->len;
	if (protocol == htons(ETH_P_IP)) {
		p->family = 4;
		return parse_v4(skb, p);
	}
	if (protocol == htons(ETH_P_IPV6)) {
		p->family = 6;
		return parse_v6(skb, p);
	}
	return DROP_NOT_IP;
}
