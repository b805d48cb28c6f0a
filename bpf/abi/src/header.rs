//! Writes the C twin of this crate.

use alloc::format;
use alloc::string::String;

use crate::layout::{Layout, render};
use crate::*;

/// The text of `bpf/programs/lib/abi.h`. After a change here, write it with
/// `SIGNET_BLESS=1 cargo test -p signet-abi`.
pub fn header() -> String {
    let mut out = String::from(
        "/* SPDX-License-Identifier: GPL-2.0-only OR Apache-2.0 */\n\
         /* Generated from bpf/abi. Regenerate: SIGNET_BLESS=1 cargo test -p signet-abi */\n\
         #pragma once\n\n\
         #include \"kernel.h\"\n\n",
    );
    constants(&mut out);
    reasons(&mut out);
    structures(&mut out);
    out
}

fn constants(out: &mut String) {
    let mut define = |name: &str, value: u64, suffix: &str| {
        out.push_str(&format!("#define {name} {value}{suffix}\n"));
    };
    define("MAX_ADDRESSES", MAX_ADDRESSES as u64, "");
    define("SLOTS", SLOTS as u64, "");
    define("CLASS_WORLD", CLASS_WORLD.into(), "");
    define("CLASS_HOST", CLASS_HOST.into(), "");
    define("CLASS_REMOTE_NODE", CLASS_REMOTE_NODE.into(), "");
    define("CLASS_KUBE_API_SERVER", CLASS_KUBE_API_SERVER.into(), "");
    define("CLASS_UNMANAGED", CLASS_UNMANAGED.into(), "");
    define("TAG_OPTION_V4", TAG_OPTION_V4.into(), "");
    define("TAG_LEN_V4", TAG_LEN_V4.into(), "");
    define("TAG_OPTION_V6", TAG_OPTION_V6.into(), "");
    define("TAG_LEN_V6", TAG_LEN_V6.into(), "");
    define("LABEL_BITS", LABEL_BITS.into(), "");
    define("DROP_REASONS", DROP_REASONS.into(), "");
    define("MAX_ENDPOINTS", MAX_ENDPOINTS.into(), "");
    define("MAX_EXTENSION_HEADERS", MAX_EXTENSION_HEADERS.into(), "");
    define("CT_TCP_NS", CT_TCP_NS, "ULL");
    define("CT_UDP_NS", CT_UDP_NS, "ULL");
    define("CT_OTHER_NS", CT_OTHER_NS, "ULL");
    define("FRAGMENT_NS", FRAGMENT_NS, "ULL");
    define("HOLD_INTERVAL_NS", HOLD_INTERVAL_NS, "ULL");
    define("HOLD_BURST_NS", HOLD_BURST_NS, "ULL");
    define("HOLD_ORDER_NS", HOLD_ORDER_NS, "ULL");
    define("EVENT_INTERVAL_NS", EVENT_INTERVAL_NS, "ULL");
    define("CONFIG_STRICT", config_flags::STRICT.into(), "");
    define("CONFIG_HOLD", config_flags::HOLD.into(), "");
    define("CONFIG_REPORT", config_flags::REPORT.into(), "");
    define(
        "ENDPOINT_INGRESS_ISOLATED",
        endpoint_flags::INGRESS_ISOLATED.into(),
        "",
    );
    define(
        "ENDPOINT_EGRESS_ISOLATED",
        endpoint_flags::EGRESS_ISOLATED.into(),
        "",
    );
    define(
        "ENDPOINT_AUTHENTICATED",
        endpoint_flags::AUTHENTICATED.into(),
        "",
    );
    define("POD_RANGE_LOCAL", pod_range_flags::LOCAL.into(), "");
    define("POD_RANGE_REMOTE", pod_range_flags::REMOTE.into(), "");
    define("SEND_PAIRED", send_state::PAIRED.into(), "");
    define("SEND_REFUSED", send_state::REFUSED.into(), "");
    define("CT_LOCAL_INITIATED", ct_flags::LOCAL_INITIATED.into(), "");
    define("CT_REQUIRED", ct_flags::REQUIRED.into(), "");
    define("POLICY_INGRESS", Direction::Ingress as u64, "");
    define("POLICY_EGRESS", Direction::Egress as u64, "");
    define("POLICY_ALLOW", policy_action::ALLOW.into(), "");
    define("POLICY_DENY", policy_action::DENY.into(), "");
    define("POLICY_AUTH_REQUIRED", policy_auth::REQUIRED.into(), "");
    for kind in EventKind::ALL {
        define(
            &enum_name(EventKind::C_PREFIX, kind.as_str()),
            *kind as u64,
            "",
        );
    }
    for hook in Hook::ALL {
        define(&enum_name(Hook::C_PREFIX, hook.as_str()), *hook as u64, "");
    }
    define("HOOKS", Hook::ALL.len() as u64, "");
    out.push('\n');
}

fn enum_name(prefix: &str, name: &str) -> String {
    format!("{prefix}_{}", name.to_uppercase())
}

fn reasons(out: &mut String) {
    out.push_str("enum drop_reason {\n");
    for reason in DropReason::ALL.iter().filter(|reason| reason.is_kernel()) {
        out.push_str(&format!(
            "\tDROP_{} = {},\n",
            reason.as_str(),
            reason.number()
        ));
    }
    out.push_str("};\n\n");
}

fn structures(out: &mut String) {
    fn add<T: Layout>(out: &mut String) {
        out.push_str(&render::<T>());
        out.push('\n');
    }
    add::<Addr>(out);
    add::<AddrPrefix>(out);
    add::<Config>(out);
    add::<Endpoint>(out);
    add::<SendKey>(out);
    add::<SendRow>(out);
    add::<RecvKey>(out);
    add::<RecvRow>(out);
    add::<Peer>(out);
    add::<PolicyKey>(out);
    add::<PolicyValue>(out);
    add::<CtKey>(out);
    add::<CtEntry>(out);
    add::<FlowKey>(out);
    add::<FragKey>(out);
    add::<FragPorts>(out);
    add::<HoldBudget>(out);
    add::<HoldOrder>(out);
    add::<Event>(out);
    add::<EventLimitKey>(out);
    add::<EventLimit>(out);
    add::<Passed>(out);
}
