/* SPDX-License-Identifier: GPL-2.0-only OR Apache-2.0 */
/* Addresses: comparing, classifying, finding whose they are. */
#pragma once

#include "maps.h"

static __always_inline void addr_from_v4(struct addr *out, const __u8 *v4)
{
	__builtin_memset(out, 0, sizeof(*out));
	out->bytes[10] = 0xff;
	out->bytes[11] = 0xff;
	__builtin_memcpy(&out->bytes[12], v4, 4);
}

/* Without branches: the verifier would follow each of them. */
static __always_inline __u32 addr_difference(const struct addr *a, const struct addr *b)
{
	const __u32 *x = (const __u32 *)a, *y = (const __u32 *)b;

	return (x[0] ^ y[0]) | (x[1] ^ y[1]) | (x[2] ^ y[2]) | (x[3] ^ y[3]);
}

static __always_inline int addr_equal(const struct addr *a, const struct addr *b)
{
	return addr_difference(a, b) == 0;
}

static __noinline int addr_in(const struct addr *addr, const struct addr *list, __u32 count)
{
	for (__u32 i = 0; i < MAX_ADDRESSES; i++) {
		if (i >= count)
			break;
		if (addr_equal(addr, &list[i]))
			return 1;
	}
	return 0;
}

static __always_inline int addr_of_endpoint(const struct addr *addr, const struct endpoint *ep)
{
	return addr_in(addr, ep->addrs, ep->addr_count);
}

static __always_inline int addr_unspecified(const struct addr *addr, __u8 family)
{
	const __u32 *x = (const __u32 *)addr;

	return x[3] == 0 && (family == 4 || (x[0] | x[1] | x[2]) == 0);
}

static __always_inline int addr_multicast(const struct addr *addr, __u8 family)
{
	if (family == 4)
		return addr->bytes[12] >= 224 && (addr->bytes[12] < 240 ||
						  ((const __u32 *)addr)[3] == 0xffffffff);
	return addr->bytes[0] == 0xff;
}

/* Everybody on the link, which no router forwards. */
static __always_inline int addr_broadcast(const struct addr *addr)
{
	return ((const __u32 *)addr)[3] == 0xffffffff;
}

/* An IPv4 address, which in an IPv6 header would be taken for that IPv4 host (RFC 4942, 2.2). */
static __always_inline int addr_mapped(const struct addr *addr)
{
	const __u32 *x = (const __u32 *)addr;

	return (x[0] | x[1]) == 0 && x[2] == htonl(0xffff);
}

static __always_inline int addr_link_local(const struct addr *addr, __u8 family)
{
	if (family == 4)
		return addr->bytes[12] == 169 && addr->bytes[13] == 254 &&
		       /* The usual address of a node-local resolver is the host's. */
		       !(addr->bytes[14] == 20 && addr->bytes[15] == 10);
	return addr->bytes[0] == 0xfe && (addr->bytes[1] & 0xc0) == 0x80;
}

static __always_inline int addr_is_pod(const struct addr *addr)
{
	struct addr_prefix key = { .prefix_len = 128, .addr = *addr };

	return bpf_map_lookup_elem(&pod_ranges, &key) != 0;
}

/* Class of a peer that only has an address to show. */
static __always_inline __u32 addr_class(const struct addr *addr)
{
	struct addr_prefix key = { .prefix_len = 128, .addr = *addr };
	__u32 *class = bpf_map_lookup_elem(&cidr_classes, &key);

	return class ? *class : CLASS_WORLD;
}
