/* SPDX-License-Identifier: GPL-2.0-only OR Apache-2.0 */
/*
 * Ports of fragmented datagrams: the first fragment tells, the later ones ask. Called only after
 * the source is checked, or one pod could plant ports for another's fragments.
 */
#pragma once

#include "maps.h"
#include "packet.h"

__separate int fragment_ports(struct packet *p)
{
	struct frag_key key = {};

	if (!p)
		return DROP_MALFORMED;
	key.id = p->fragment_id;
	key.proto = p->proto;
	key.src = p->src;
	key.dst = p->dst;
	if (p->flags & PACKET_LATER_FRAGMENT) {
		struct frag_ports *known = bpf_map_lookup_elem(&fragments, &key);

		if (!known || known->expires <= p->now)
			return DROP_FRAGMENT_WITHOUT_PORTS;
		p->sport = known->sport;
		p->dport = known->dport;
		return 0;
	}
	if (p->flags & PACKET_FIRST_FRAGMENT) {
		struct frag_ports ports = {
			.sport = p->sport,
			.dport = p->dport,
			.expires = p->now + FRAGMENT_NS,
		};

		bpf_map_update_elem(&fragments, &key, &ports, BPF_ANY);
	}
	return 0;
}
