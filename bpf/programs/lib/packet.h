/* SPDX-License-Identifier: GPL-2.0-only OR Apache-2.0 */
/* What a program knows of its packet; lives on the stack, handed down by pointer. */
#pragma once

#include "abi.h"

/* packet.flags */
#define PACKET_TAGGED 1		/* our tag, in first position */
#define PACKET_LATER_FRAGMENT 2 /* carries no transport header */
#define PACKET_FIRST_FRAGMENT 4
#define PACKET_ICMP_ERROR 8 /* quote_* are filled in */
#define PACKET_NEIGHBOUR 16 /* ICMPv6 133..137 with hop limit 255 */

struct packet {
	struct addr src;
	struct addr dst;
	__u16 sport; /* network order; the echo identifier for ICMP echo */
	__u16 dport;
	__u8 family; /* 4 or 6, 0 for anything else */
	__u8 proto;
	__u8 flags;
	__u8 hook;
	__u8 icmp_type;
	__u8 tcp_flags;
	__u16 transport; /* offset of the transport header in the frame */
	__u32 length;	 /* of the IP packet, as its own header says */

	/* The packet an ICMP error is about, as it was when it went the other way. */
	struct addr quote_src;
	struct addr quote_dst;
	__u16 quote_sport;
	__u16 quote_dport;
	__u8 quote_proto;
	__u8 l3; /* offset of the IP header */

	/* For the event. */
	__u16 endpoint;
	__u32 peer;
	__u32 class;
	__u32 remote;
	__u32 rule;
	__u32 ifindex;

	__u32 fragment_id;
	__u32 end; /* of the IP packet in the frame; what lies behind is not its own */
	__u64 tag;
	__u64 now;
};

#define TCP_FIN 0x01
#define TCP_SYN 0x02
#define TCP_RST 0x04
#define TCP_ACK 0x10
