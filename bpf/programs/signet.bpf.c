/* SPDX-License-Identifier: GPL-2.0-only OR Apache-2.0 */
/* All programs in one object, so that they share their maps. */
#include "from_workload.bpf.c"
#include "to_tunnel.bpf.c"
#include "from_tunnel.bpf.c"
#include "to_workload.bpf.c"
#include "underlay_guard.bpf.c"
#include "from_hold.bpf.c"

char _license[] SEC("license") = "GPL";
