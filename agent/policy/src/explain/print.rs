//! An explanation as a person reads it.

use std::fmt;

use super::{Cause, Explanation, Outcome, Side};
use crate::facts::Protocol;
use crate::model::{Authentication, Direction, PolicyRef};

impl fmt::Display for Explanation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let authentication = match (self.outcome, self.authentication) {
            (Outcome::Allowed, Authentication::Required) => ", if authenticated",
            (Outcome::Allowed, Authentication::Optional) | (Outcome::Denied, _) => "",
        };
        write!(
            f,
            "{}{authentication}: {} -> {}, ",
            self.outcome, self.from, self.to
        )?;
        flow(f, self.protocol, self.port)?;
        for (direction, side) in [
            (Direction::Egress, &self.egress),
            (Direction::Ingress, &self.ingress),
        ] {
            match side {
                Some(side) => write!(f, "\n  {direction:8} {side}")?,
                None => write!(
                    f,
                    "\n  {direction:8} not a pod of the mesh, nothing decided here"
                )?,
            }
        }
        for difference in &self.dry_run {
            let direction = difference.direction;
            write!(
                f,
                "\n  dry run  {}, {direction}: would be ",
                difference.policy
            )?;
            write!(f, "{}", difference.would)?;
        }
        Ok(())
    }
}

impl fmt::Display for Side {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} at {}: ", self.outcome, self.endpoint)?;
        match &self.cause {
            Cause::Rule {
                rule,
                authentication: Authentication::Required,
                ..
            } => {
                write!(f, "{rule}, authentication required")
            }
            Cause::Rule {
                rule,
                authentication: Authentication::Optional,
                ..
            } => {
                write!(f, "{rule}")
            }
            Cause::AuthenticationRequired { rule, .. } => write!(
                f,
                "{rule} requires authentication, and this peer cannot prove an identity",
            ),
            Cause::OwnNode => f.write_str("a pod's own node may reach it"),
            Cause::Itself => f.write_str("a pod may reach itself"),
            Cause::Isolated => {
                f.write_str("no rule allows it, isolated by ")?;
                list(f, &self.isolated_by)
            }
            Cause::NotIsolated => f.write_str("no policy isolates it"),
            Cause::WorldNeedsRule => f.write_str(
                "strict mode wants a rule with `authentication: Optional` for the world",
            ),
        }
    }
}

impl fmt::Display for Outcome {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Outcome::Allowed => "allowed",
            Outcome::Denied => "denied",
        })
    }
}

fn flow(f: &mut fmt::Formatter<'_>, protocol: u8, port: u16) -> fmt::Result {
    let named = Protocol::ALL
        .into_iter()
        .find(|named| named.number() == protocol);
    match (named, protocol) {
        (Some(named), _) => write!(f, "{named} {port}"),
        (None, 1) => f.write_str("ICMP"),
        (None, 58) => f.write_str("ICMPv6"),
        (None, other) => write!(f, "IP protocol {other}"),
    }
}

fn list(f: &mut fmt::Formatter<'_>, policies: &[PolicyRef]) -> fmt::Result {
    for (at, policy) in policies.iter().enumerate() {
        let separator = if at == 0 { "" } else { ", " };
        write!(f, "{separator}{policy}")?;
    }
    Ok(())
}
