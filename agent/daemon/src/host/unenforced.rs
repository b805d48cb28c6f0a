//! The host's `nft` table `signet_pods`: nothing that a pod sends is heard before the programs are on
//! its interface.
//!
//! A CNI chain gives a pod its network before it hands the interface to the agent. In between the
//! other hooks already stop what the pod sends to pods, by the index that is missing; to the node,
//! and masqueraded to the world, it would get through. What an enforced pod sends bears a mark.
//! The table stays when the agent stops, as the programs do.

use std::{
    collections::BTreeSet,
    process::{Command, Stdio},
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use ipnet::IpNet;

use super::nft;

/// Whether it is still there is asked this often.
const LOOK_AGAIN: Duration = Duration::from_secs(20);

/// Removes the table, whether it is there or not.
const REMOVE: &str = "table inet signet_pods\ndelete table inet signet_pods\n";

type Ranges = BTreeSet<IpNet>;

/// Keeps unenforced pods silent.
pub(super) struct Unenforced {
    covered: Arc<Mutex<Ranges>>,
}

impl Unenforced {
    /// Nothing is covered yet. What is, is covered again when somebody removes the table.
    pub(super) fn start() -> Self {
        let covered = Arc::default();
        tokio::spawn(keep(Arc::clone(&covered)));
        Self { covered }
    }

    /// Covers the node's own pod ranges. Ranges that are not known any more stay covered, until
    /// others are.
    pub(super) fn cover(&self, own: &[IpNet]) {
        let wanted: Ranges = own.iter().map(IpNet::trunc).collect();
        let mut covered = self.covered.lock().unwrap_or_else(PoisonError::into_inner);
        if wanted.is_empty() || *covered == wanted {
            return;
        }
        // Done before the first pod can be added: worth the wait for a program, once.
        if let Err(problem) = nft::run(&ruleset(&wanted)) {
            tracing::warn!(
                problem,
                "until a new pod is enforced, what it sends to the node or, masqueraded, to the \
                 world passes"
            );
        }
        *covered = wanted;
    }
}

/// Removes the table.
///
/// # Errors
/// One line that names `nft`.
pub(super) fn remove() -> Result<(), String> {
    nft::run(REMOVE)
}

/// A firewall's reload often begins with `flush ruleset`.
async fn keep(covered: Arc<Mutex<Ranges>>) {
    loop {
        tokio::time::sleep(LOOK_AGAIN).await;
        let ranges = covered
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .clone();
        if ranges.is_empty() {
            continue;
        }
        let again = move || (!is_there()).then(|| nft::run(&ruleset(&ranges)));
        // `nft` is a program to wait for, and others have work to do.
        match tokio::task::spawn_blocking(again).await {
            Ok(Some(Ok(()))) => {
                tracing::warn!("nft table inet signet_pods was removed; it is loaded again");
            }
            Ok(Some(Err(problem))) => tracing::debug!(problem, "nft table is not loaded"),
            Ok(None) | Err(_) => {}
        }
    }
}

fn is_there() -> bool {
    let listed = Command::new("nft")
        .args(["list", "chain", "inet", "signet_pods", "unenforced"])
        .stdin(Stdio::null())
        .output();
    listed.is_ok_and(|output| output.status.success())
}

/// The whole table. Loading it replaces the one before in one transaction.
///
/// Neighbour discovery and leases are checked at the veth and bear no mark; a hop limit of 255
/// shows that no router has passed them on.
fn ruleset(ranges: &Ranges) -> String {
    let mut drops = String::new();
    for (family, v4) in [("ip", true), ("ip6", false)] {
        let of_family = ranges
            .iter()
            .filter(|range| matches!(range, IpNet::V4(_)) == v4)
            .map(ToString::to_string)
            .collect::<Vec<_>>()
            .join(", ");
        if !of_family.is_empty() {
            drops += &format!("    {family} saddr {{ {of_family} }} counter drop\n");
        }
    }
    format!(
        "{REMOVE}table inet signet_pods {{
  chain unenforced {{
    meta mark & {:#06x} != 0 return
    iifname \"lo\" return
    icmpv6 type {{ nd-router-solicit, nd-neighbor-solicit, nd-neighbor-advert }} ip6 hoplimit 255 return
    ip daddr 255.255.255.255 udp sport 68 udp dport 67 return
{drops}  }}
  chain forward {{
    type filter hook forward priority -150; policy accept;
    jump unenforced
  }}
  chain input {{
    type filter hook input priority -150; policy accept;
    jump unenforced
  }}
}}
",
        signet_abi::MARK_MASK
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pods_of_both_families_are_silent_without_a_mark() {
        let ranges = ["10.61.1.0/24", "10.62.0.0/16", "fd61::/64"]
            .map(|range| range.parse().unwrap())
            .into();
        let text = ruleset(&ranges);
        assert!(text.starts_with(REMOVE));
        assert!(text.contains("meta mark & 0x1800 != 0 return"));
        assert!(text.contains("ip saddr { 10.61.1.0/24, 10.62.0.0/16 } counter drop"));
        assert!(text.contains("ip6 saddr { fd61::/64 } counter drop"));
        assert_eq!(text.matches('{').count(), text.matches('}').count());
        let only = ruleset(&["10.61.1.0/24".parse().unwrap()].into());
        assert!(!only.contains("ip6 saddr"));
    }
}
