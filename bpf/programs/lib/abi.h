/* SPDX-License-Identifier: GPL-2.0-only OR Apache-2.0 */
/* Generated from bpf/abi. Regenerate: SIGNET_BLESS=1 cargo test -p signet-abi */
#pragma once

#include "kernel.h"

#define MAX_ADDRESSES 4
#define SLOTS 2
#define CLASS_WORLD 0
#define CLASS_HOST 1
#define CLASS_REMOTE_NODE 2
#define CLASS_KUBE_API_SERVER 3
#define CLASS_UNMANAGED 4
#define TAG_OPTION_V4 158
#define TAG_LEN_V4 8
#define TAG_OPTION_V6 94
#define TAG_LEN_V6 16
#define LABEL_BITS 40
#define DROP_REASONS 512
#define MAX_ENDPOINTS 4096
#define MAX_EXTENSION_HEADERS 6
#define CT_TCP_NS 3600000000000ULL
#define CT_UDP_NS 180000000000ULL
#define CT_OTHER_NS 30000000000ULL
#define FRAGMENT_NS 30000000000ULL
#define HOLD_INTERVAL_NS 1000000ULL
#define HOLD_BURST_NS 512000000ULL
#define HOLD_ORDER_NS 4000000000ULL
#define EVENT_INTERVAL_NS 1000000000ULL
#define CONFIG_STRICT 1
#define CONFIG_HOLD 2
#define CONFIG_REPORT 4
#define ENDPOINT_INGRESS_ISOLATED 1
#define ENDPOINT_EGRESS_ISOLATED 2
#define ENDPOINT_AUTHENTICATED 4
#define POD_RANGE_LOCAL 1
#define POD_RANGE_REMOTE 2
#define SEND_PAIRED 1
#define SEND_REFUSED 2
#define CT_LOCAL_INITIATED 1
#define CT_REQUIRED 2
#define POLICY_INGRESS 0
#define POLICY_EGRESS 1
#define POLICY_ALLOW 1
#define POLICY_DENY 2
#define POLICY_AUTH_REQUIRED 1
#define EVENT_DROP 1
#define EVENT_MISS 2
#define EVENT_STALE 3
#define EVENT_NEW_FLOW 4
#define EVENT_TAKEN_UP 5
#define HOOK_FROM_WORKLOAD 0
#define HOOK_TO_TUNNEL 1
#define HOOK_FROM_TUNNEL 2
#define HOOK_TO_WORKLOAD 3
#define HOOK_UNDERLAY_GUARD 4
#define HOOK_FROM_HOLD 5
#define HOOKS 6

enum drop_reason {
	DROP_NO_SOURCE_INDEX = 1,
	DROP_SOURCE_SPOOFED = 2,
	DROP_MAC_SPOOFED = 3,
	DROP_SOURCE_ROUTED = 4,
	DROP_FOREIGN_TAG = 5,
	DROP_UNKNOWN_INTERFACE = 6,
	DROP_MALFORMED = 7,
	DROP_NOT_IP = 8,
	DROP_MULTICAST = 9,
	DROP_ROUTER_ADVERTISEMENT = 10,
	DROP_LINK_LOCAL = 11,
	DROP_SOURCE_TRANSLATED = 12,
	DROP_NO_SEND_ROW = 13,
	DROP_SEND_ROW_EXPIRED = 14,
	DROP_UNKNOWN_DESTINATION = 15,
	DROP_AUTHENTICATION_FAILED = 16,
	DROP_POLICY_EGRESS_DENIED = 17,
	DROP_POLICY_INGRESS_DENIED = 18,
	DROP_DEFAULT_DENY_EGRESS = 19,
	DROP_DEFAULT_DENY_INGRESS = 20,
	DROP_AUTHENTICATION_REQUIRED = 21,
	DROP_UNTAGGED = 22,
	DROP_UNKNOWN_LABEL = 23,
	DROP_LABEL_EXPIRED = 24,
	DROP_EPOCH_MISMATCH = 25,
	DROP_SLOT_MISMATCH = 26,
	DROP_LEASE_EXPIRED = 27,
	DROP_INNER_SOURCE_MISMATCH = 28,
	DROP_DST_IDENTITY_MISMATCH = 29,
	DROP_GENERATION_STALE = 30,
	DROP_NOT_VERIFIED = 31,
	DROP_CLEAR_POD_ADDRESS = 32,
	DROP_PENDING_ESCAPED = 33,
	DROP_FRAGMENT_WITHOUT_PORTS = 34,
	DROP_TAG_FAILED = 35,
	DROP_PACKET_TOO_LARGE = 36,
	DROP_HOST_WITHOUT_LABEL = 37,
	DROP_NOT_CONFIGURED = 38,
	DROP_HOLD_LIMITED = 39,
	DROP_EPOCH_TOO_OLD = 40,
};

struct addr {
	__u8 bytes[16];
};
_Static_assert(sizeof(struct addr) == 16, "addr");
_Static_assert(__builtin_offsetof(struct addr, bytes) == 0, "addr.bytes");

struct addr_prefix {
	__u32 prefix_len;
	struct addr addr;
};
_Static_assert(sizeof(struct addr_prefix) == 20, "addr_prefix");
_Static_assert(__builtin_offsetof(struct addr_prefix, prefix_len) == 0, "addr_prefix.prefix_len");
_Static_assert(__builtin_offsetof(struct addr_prefix, addr) == 4, "addr_prefix.addr");

struct config {
	__u32 slot_ifindex[2];
	__u32 hold_ifindex;
	__u32 signet0_ifindex;
	__u32 flags;
	__u32 mark_mask;
	__u32 mark_pending;
	__u32 mark_verified;
	__u32 hash_seed;
	__u32 host_endpoint;
};
_Static_assert(sizeof(struct config) == 40, "config");
_Static_assert(__builtin_offsetof(struct config, slot_ifindex) == 0, "config.slot_ifindex");
_Static_assert(__builtin_offsetof(struct config, hold_ifindex) == 8, "config.hold_ifindex");
_Static_assert(__builtin_offsetof(struct config, signet0_ifindex) == 12, "config.signet0_ifindex");
_Static_assert(__builtin_offsetof(struct config, flags) == 16, "config.flags");
_Static_assert(__builtin_offsetof(struct config, mark_mask) == 20, "config.mark_mask");
_Static_assert(__builtin_offsetof(struct config, mark_pending) == 24, "config.mark_pending");
_Static_assert(__builtin_offsetof(struct config, mark_verified) == 28, "config.mark_verified");
_Static_assert(__builtin_offsetof(struct config, hash_seed) == 32, "config.hash_seed");
_Static_assert(__builtin_offsetof(struct config, host_endpoint) == 36, "config.host_endpoint");

struct endpoint {
	__u32 generation;
	__u32 ifindex;
	__u32 class;
	__u32 identity;
	__u32 policy_generation;
	__u32 flags;
	__u64 not_after;
	__u32 addr_count;
	__u8 mac[6];
	__u16 index;
	struct addr addrs[4];
	__u32 reserved;
};
_Static_assert(sizeof(struct endpoint) == 112, "endpoint");
_Static_assert(__builtin_offsetof(struct endpoint, generation) == 0, "endpoint.generation");
_Static_assert(__builtin_offsetof(struct endpoint, ifindex) == 4, "endpoint.ifindex");
_Static_assert(__builtin_offsetof(struct endpoint, class) == 8, "endpoint.class");
_Static_assert(__builtin_offsetof(struct endpoint, identity) == 12, "endpoint.identity");
_Static_assert(__builtin_offsetof(struct endpoint, policy_generation) == 16, "endpoint.policy_generation");
_Static_assert(__builtin_offsetof(struct endpoint, flags) == 20, "endpoint.flags");
_Static_assert(__builtin_offsetof(struct endpoint, not_after) == 24, "endpoint.not_after");
_Static_assert(__builtin_offsetof(struct endpoint, addr_count) == 32, "endpoint.addr_count");
_Static_assert(__builtin_offsetof(struct endpoint, mac) == 36, "endpoint.mac");
_Static_assert(__builtin_offsetof(struct endpoint, index) == 42, "endpoint.index");
_Static_assert(__builtin_offsetof(struct endpoint, addrs) == 44, "endpoint.addrs");
_Static_assert(__builtin_offsetof(struct endpoint, reserved) == 108, "endpoint.reserved");

struct send_key {
	__u32 endpoint;
	__u32 generation;
	struct addr dst;
};
_Static_assert(sizeof(struct send_key) == 24, "send_key");
_Static_assert(__builtin_offsetof(struct send_key, endpoint) == 0, "send_key.endpoint");
_Static_assert(__builtin_offsetof(struct send_key, generation) == 4, "send_key.generation");
_Static_assert(__builtin_offsetof(struct send_key, dst) == 8, "send_key.dst");

struct send_row {
	__u64 label[2];
	__u64 epoch[2];
	__u64 not_after;
	__u32 peer;
	__u32 class;
	__u32 remote;
	__u8 reserved;
	__u8 state;
	__u16 reason;
};
_Static_assert(sizeof(struct send_row) == 56, "send_row");
_Static_assert(__builtin_offsetof(struct send_row, label) == 0, "send_row.label");
_Static_assert(__builtin_offsetof(struct send_row, epoch) == 16, "send_row.epoch");
_Static_assert(__builtin_offsetof(struct send_row, not_after) == 32, "send_row.not_after");
_Static_assert(__builtin_offsetof(struct send_row, peer) == 40, "send_row.peer");
_Static_assert(__builtin_offsetof(struct send_row, class) == 44, "send_row.class");
_Static_assert(__builtin_offsetof(struct send_row, remote) == 48, "send_row.remote");
_Static_assert(__builtin_offsetof(struct send_row, reserved) == 52, "send_row.reserved");
_Static_assert(__builtin_offsetof(struct send_row, state) == 53, "send_row.state");
_Static_assert(__builtin_offsetof(struct send_row, reason) == 54, "send_row.reason");

struct recv_key {
	__u64 label;
};
_Static_assert(sizeof(struct recv_key) == 8, "recv_key");
_Static_assert(__builtin_offsetof(struct recv_key, label) == 0, "recv_key.label");

struct recv_row {
	__u64 epoch;
	__u64 not_after;
	__u32 peer;
	__u32 class;
	__u32 remote;
	__u32 identity;
	__u32 addr_count;
	__u32 slot;
	struct addr addrs[4];
};
_Static_assert(sizeof(struct recv_row) == 104, "recv_row");
_Static_assert(__builtin_offsetof(struct recv_row, epoch) == 0, "recv_row.epoch");
_Static_assert(__builtin_offsetof(struct recv_row, not_after) == 8, "recv_row.not_after");
_Static_assert(__builtin_offsetof(struct recv_row, peer) == 16, "recv_row.peer");
_Static_assert(__builtin_offsetof(struct recv_row, class) == 20, "recv_row.class");
_Static_assert(__builtin_offsetof(struct recv_row, remote) == 24, "recv_row.remote");
_Static_assert(__builtin_offsetof(struct recv_row, identity) == 28, "recv_row.identity");
_Static_assert(__builtin_offsetof(struct recv_row, addr_count) == 32, "recv_row.addr_count");
_Static_assert(__builtin_offsetof(struct recv_row, slot) == 36, "recv_row.slot");
_Static_assert(__builtin_offsetof(struct recv_row, addrs) == 40, "recv_row.addrs");

struct peer {
	__u64 lease_until;
	__u64 slot_epoch[2];
	__u64 slot_until[2];
	__u32 tx_slot;
	__u32 reserved;
};
_Static_assert(sizeof(struct peer) == 48, "peer");
_Static_assert(__builtin_offsetof(struct peer, lease_until) == 0, "peer.lease_until");
_Static_assert(__builtin_offsetof(struct peer, slot_epoch) == 8, "peer.slot_epoch");
_Static_assert(__builtin_offsetof(struct peer, slot_until) == 24, "peer.slot_until");
_Static_assert(__builtin_offsetof(struct peer, tx_slot) == 40, "peer.tx_slot");
_Static_assert(__builtin_offsetof(struct peer, reserved) == 44, "peer.reserved");

struct policy_key {
	__u32 prefix_len;
	__u16 endpoint;
	__u8 direction;
	__u8 proto;
	__u32 class;
	__u16 port;
	__u16 reserved;
};
_Static_assert(sizeof(struct policy_key) == 16, "policy_key");
_Static_assert(__builtin_offsetof(struct policy_key, prefix_len) == 0, "policy_key.prefix_len");
_Static_assert(__builtin_offsetof(struct policy_key, endpoint) == 4, "policy_key.endpoint");
_Static_assert(__builtin_offsetof(struct policy_key, direction) == 6, "policy_key.direction");
_Static_assert(__builtin_offsetof(struct policy_key, proto) == 7, "policy_key.proto");
_Static_assert(__builtin_offsetof(struct policy_key, class) == 8, "policy_key.class");
_Static_assert(__builtin_offsetof(struct policy_key, port) == 12, "policy_key.port");
_Static_assert(__builtin_offsetof(struct policy_key, reserved) == 14, "policy_key.reserved");

struct policy_value {
	__u32 rule;
	__u8 action;
	__u8 auth;
	__u16 reserved;
};
_Static_assert(sizeof(struct policy_value) == 8, "policy_value");
_Static_assert(__builtin_offsetof(struct policy_value, rule) == 0, "policy_value.rule");
_Static_assert(__builtin_offsetof(struct policy_value, action) == 4, "policy_value.action");
_Static_assert(__builtin_offsetof(struct policy_value, auth) == 5, "policy_value.auth");
_Static_assert(__builtin_offsetof(struct policy_value, reserved) == 6, "policy_value.reserved");

struct ct_key {
	struct addr local;
	struct addr remote;
	__u16 local_port;
	__u16 remote_port;
	__u8 proto;
	__u8 point;
	__u16 endpoint;
};
_Static_assert(sizeof(struct ct_key) == 40, "ct_key");
_Static_assert(__builtin_offsetof(struct ct_key, local) == 0, "ct_key.local");
_Static_assert(__builtin_offsetof(struct ct_key, remote) == 16, "ct_key.remote");
_Static_assert(__builtin_offsetof(struct ct_key, local_port) == 32, "ct_key.local_port");
_Static_assert(__builtin_offsetof(struct ct_key, remote_port) == 34, "ct_key.remote_port");
_Static_assert(__builtin_offsetof(struct ct_key, proto) == 36, "ct_key.proto");
_Static_assert(__builtin_offsetof(struct ct_key, point) == 37, "ct_key.point");
_Static_assert(__builtin_offsetof(struct ct_key, endpoint) == 38, "ct_key.endpoint");

struct ct_entry {
	__u64 expires;
	__u32 generation;
	__u32 policy_generation;
	__u32 remote;
	__u32 other_policy;
	__u16 other;
	__u16 flags;
	__u32 rule;
};
_Static_assert(sizeof(struct ct_entry) == 32, "ct_entry");
_Static_assert(__builtin_offsetof(struct ct_entry, expires) == 0, "ct_entry.expires");
_Static_assert(__builtin_offsetof(struct ct_entry, generation) == 8, "ct_entry.generation");
_Static_assert(__builtin_offsetof(struct ct_entry, policy_generation) == 12, "ct_entry.policy_generation");
_Static_assert(__builtin_offsetof(struct ct_entry, remote) == 16, "ct_entry.remote");
_Static_assert(__builtin_offsetof(struct ct_entry, other_policy) == 20, "ct_entry.other_policy");
_Static_assert(__builtin_offsetof(struct ct_entry, other) == 24, "ct_entry.other");
_Static_assert(__builtin_offsetof(struct ct_entry, flags) == 26, "ct_entry.flags");
_Static_assert(__builtin_offsetof(struct ct_entry, rule) == 28, "ct_entry.rule");

struct flow_key {
	__u32 endpoint;
	__u32 hash;
};
_Static_assert(sizeof(struct flow_key) == 8, "flow_key");
_Static_assert(__builtin_offsetof(struct flow_key, endpoint) == 0, "flow_key.endpoint");
_Static_assert(__builtin_offsetof(struct flow_key, hash) == 4, "flow_key.hash");

struct frag_key {
	struct addr src;
	struct addr dst;
	__u32 id;
	__u8 proto;
	__u8 reserved[3];
};
_Static_assert(sizeof(struct frag_key) == 40, "frag_key");
_Static_assert(__builtin_offsetof(struct frag_key, src) == 0, "frag_key.src");
_Static_assert(__builtin_offsetof(struct frag_key, dst) == 16, "frag_key.dst");
_Static_assert(__builtin_offsetof(struct frag_key, id) == 32, "frag_key.id");
_Static_assert(__builtin_offsetof(struct frag_key, proto) == 36, "frag_key.proto");
_Static_assert(__builtin_offsetof(struct frag_key, reserved) == 37, "frag_key.reserved");

struct frag_ports {
	__u16 sport;
	__u16 dport;
	__u32 reserved;
	__u64 expires;
};
_Static_assert(sizeof(struct frag_ports) == 16, "frag_ports");
_Static_assert(__builtin_offsetof(struct frag_ports, sport) == 0, "frag_ports.sport");
_Static_assert(__builtin_offsetof(struct frag_ports, dport) == 2, "frag_ports.dport");
_Static_assert(__builtin_offsetof(struct frag_ports, reserved) == 4, "frag_ports.reserved");
_Static_assert(__builtin_offsetof(struct frag_ports, expires) == 8, "frag_ports.expires");

struct hold_budget {
	__u64 used_until;
};
_Static_assert(sizeof(struct hold_budget) == 8, "hold_budget");
_Static_assert(__builtin_offsetof(struct hold_budget, used_until) == 0, "hold_budget.used_until");

struct hold_order {
	__u64 until;
	__u32 sent;
	__u32 released;
};
_Static_assert(sizeof(struct hold_order) == 16, "hold_order");
_Static_assert(__builtin_offsetof(struct hold_order, until) == 0, "hold_order.until");
_Static_assert(__builtin_offsetof(struct hold_order, sent) == 8, "hold_order.sent");
_Static_assert(__builtin_offsetof(struct hold_order, released) == 12, "hold_order.released");

struct event {
	__u64 time;
	__u8 kind;
	__u8 hook;
	__u8 family;
	__u8 proto;
	__u16 reason;
	__u16 endpoint;
	struct addr src;
	struct addr dst;
	__u16 sport;
	__u16 dport;
	__u32 peer;
	__u32 class;
	__u32 remote;
	__u32 ifindex;
	__u32 rule;
	__u32 suppressed;
	__u32 length;
};
_Static_assert(sizeof(struct event) == 80, "event");
_Static_assert(__builtin_offsetof(struct event, time) == 0, "event.time");
_Static_assert(__builtin_offsetof(struct event, kind) == 8, "event.kind");
_Static_assert(__builtin_offsetof(struct event, hook) == 9, "event.hook");
_Static_assert(__builtin_offsetof(struct event, family) == 10, "event.family");
_Static_assert(__builtin_offsetof(struct event, proto) == 11, "event.proto");
_Static_assert(__builtin_offsetof(struct event, reason) == 12, "event.reason");
_Static_assert(__builtin_offsetof(struct event, endpoint) == 14, "event.endpoint");
_Static_assert(__builtin_offsetof(struct event, src) == 16, "event.src");
_Static_assert(__builtin_offsetof(struct event, dst) == 32, "event.dst");
_Static_assert(__builtin_offsetof(struct event, sport) == 48, "event.sport");
_Static_assert(__builtin_offsetof(struct event, dport) == 50, "event.dport");
_Static_assert(__builtin_offsetof(struct event, peer) == 52, "event.peer");
_Static_assert(__builtin_offsetof(struct event, class) == 56, "event.class");
_Static_assert(__builtin_offsetof(struct event, remote) == 60, "event.remote");
_Static_assert(__builtin_offsetof(struct event, ifindex) == 64, "event.ifindex");
_Static_assert(__builtin_offsetof(struct event, rule) == 68, "event.rule");
_Static_assert(__builtin_offsetof(struct event, suppressed) == 72, "event.suppressed");
_Static_assert(__builtin_offsetof(struct event, length) == 76, "event.length");

struct event_limit_key {
	struct addr src;
	struct addr dst;
	__u16 reason;
	__u8 kind;
	__u8 hook;
	__u32 endpoint;
};
_Static_assert(sizeof(struct event_limit_key) == 40, "event_limit_key");
_Static_assert(__builtin_offsetof(struct event_limit_key, src) == 0, "event_limit_key.src");
_Static_assert(__builtin_offsetof(struct event_limit_key, dst) == 16, "event_limit_key.dst");
_Static_assert(__builtin_offsetof(struct event_limit_key, reason) == 32, "event_limit_key.reason");
_Static_assert(__builtin_offsetof(struct event_limit_key, kind) == 34, "event_limit_key.kind");
_Static_assert(__builtin_offsetof(struct event_limit_key, hook) == 35, "event_limit_key.hook");
_Static_assert(__builtin_offsetof(struct event_limit_key, endpoint) == 36, "event_limit_key.endpoint");

struct event_limit {
	__u64 next;
	__u64 suppressed;
};
_Static_assert(sizeof(struct event_limit) == 16, "event_limit");
_Static_assert(__builtin_offsetof(struct event_limit, next) == 0, "event_limit.next");
_Static_assert(__builtin_offsetof(struct event_limit, suppressed) == 8, "event_limit.suppressed");

struct passed_count {
	__u64 packets;
	__u64 bytes;
};
_Static_assert(sizeof(struct passed_count) == 16, "passed_count");
_Static_assert(__builtin_offsetof(struct passed_count, packets) == 0, "passed_count.packets");
_Static_assert(__builtin_offsetof(struct passed_count, bytes) == 8, "passed_count.bytes");

