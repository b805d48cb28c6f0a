//! What the compiled policy says about opening a flow.

use signet_abi::{
    Direction, DropReason, Endpoint, PolicyPrefix, PolicyValue, config_flags, endpoint_flags,
    policy_action, policy_auth,
};

use crate::parse::{SCTP, TCP, UDP};
use crate::state::State;
use crate::verdict::Refusal;

/// Who the other side can show itself to be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Shown {
    /// An enrolled pod: by its label, or by its interface on this node.
    Pod,
    /// Nobody: it only has an address.
    Address,
}

/// Admitted, and by what.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Admitted {
    /// The rule, 0 if there was none to ask.
    pub(crate) rule: u32,
    /// Only because both identities are proven.
    pub(crate) required: bool,
}

/// What is asked of an endpoint's policy.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Question {
    pub(crate) direction: Direction,
    /// Class of the other side.
    pub(crate) class: u32,
    pub(crate) proto: u8,
    /// Destination port of the packet that opens the flow.
    pub(crate) port: u16,
    pub(crate) shown: Shown,
}

/// The answer of `endpoint`'s policy.
pub(crate) fn ask(
    state: &State,
    endpoint: &Endpoint,
    question: Question,
) -> Result<Admitted, Refusal> {
    let egress = question.direction == Direction::Egress;
    let Some(row) = row(state, endpoint, question) else {
        return no_row(state, endpoint, question);
    };
    if row.action != policy_action::ALLOW {
        let reason = if egress {
            DropReason::PolicyEgressDenied
        } else {
            DropReason::PolicyIngressDenied
        };
        return Err(Refusal::by_rule(reason, row.rule));
    }
    let required = row.auth == policy_auth::REQUIRED;
    if required && question.shown == Shown::Address {
        // An address proves nothing.
        return Err(Refusal::by_rule(
            DropReason::AuthenticationRequired,
            row.rule,
        ));
    }
    Ok(Admitted {
        rule: row.rule,
        required,
    })
}

/// No row: an endpoint that some policy isolates admits nothing else, and in strict mode nobody
/// admits a stranger that no rule names.
fn no_row(state: &State, endpoint: &Endpoint, question: Question) -> Result<Admitted, Refusal> {
    let (isolated, reason) = match question.direction {
        Direction::Ingress => (
            endpoint_flags::INGRESS_ISOLATED,
            DropReason::DefaultDenyIngress,
        ),
        Direction::Egress => (
            endpoint_flags::EGRESS_ISOLATED,
            DropReason::DefaultDenyEgress,
        ),
    };
    let strict = state.config.flags & config_flags::STRICT != 0;
    if endpoint.flags & isolated != 0 || (strict && question.shown == Shown::Address) {
        return Err(reason.into());
    }
    Ok(Admitted {
        rule: 0,
        required: false,
    })
}

/// The row that decides: one for the very protocol before one for all, and of these the one with
/// the narrowest block of ports.
fn row(state: &State, endpoint: &Endpoint, question: Question) -> Option<PolicyValue> {
    [question.proto, 0].into_iter().find_map(|proto| {
        state
            .policy
            .iter()
            .filter_map(|(key, value)| Some((key.prefix()?, value)))
            .filter(|(prefix, _)| covers(prefix, endpoint, question, proto))
            .max_by_key(|(prefix, _)| prefix.port_bits)
            .map(|(_, value)| *value)
    })
}

fn covers(prefix: &PolicyPrefix, endpoint: &Endpoint, question: Question, proto: u8) -> bool {
    // Protocols without ports are asked for as port 0.
    let port = match question.proto {
        TCP | UDP | SCTP => question.port,
        _ => 0,
    };
    let open = 16 - u32::from(prefix.port_bits);
    prefix.endpoint == endpoint.index
        && prefix.direction == question.direction
        && prefix.proto == proto
        && prefix.class == question.class
        && u32::from(prefix.port) >> open == u32::from(port) >> open
}
