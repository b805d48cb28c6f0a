//! The host's `nft` table `signet`: MSS clamp, and pods' addresses kept from masquerading.

use std::{
    io::Write,
    process::{Command, Stdio},
    time::Duration,
};

/// Whether it is still there is asked this often.
const LOOK_AGAIN: Duration = Duration::from_secs(20);

/// Removes our table, whether it is there or not.
const REMOVE: &str = "table inet signet\ndelete table inet signet\n";

/// The whole table. Loading it replaces the one before in one transaction.
///
/// Priority 99 is before a CNI's masquerading at 100 (an accept in an earlier chain would not keep
/// it off, a translation to the packet's own address does); −150 is before filters.
pub(crate) fn ruleset() -> String {
    let pending = format!(
        "meta mark & {:#06x} == {:#06x}",
        signet_abi::MARK_MASK,
        signet_abi::MARK_PENDING
    );
    format!(
        "{REMOVE}table inet signet {{
  chain keep_source {{
    type nat hook postrouting priority 99; policy accept;
    oifname \"signet0\" {pending} meta nfproto ipv4 snat ip to ip saddr
    oifname \"signet0\" {pending} meta nfproto ipv6 snat ip6 to ip6 saddr
  }}
  chain clamp_mss {{
    type filter hook forward priority -150; policy accept;
    oifname \"signet0\" tcp flags & (syn|rst) == syn tcp option maxseg size set rt mtu
  }}
}}
"
    )
}

/// Loads the table.
///
/// # Errors
/// One line that names `nft`: it is missing, or it refused.
pub(crate) fn apply() -> Result<(), String> {
    run(&ruleset())
}

/// Loads the table again when it is gone: a firewall's reload often begins with `flush ruleset`.
pub(crate) async fn keep() {
    loop {
        tokio::time::sleep(LOOK_AGAIN).await;
        // `nft` is a program to wait for, and the executor must not.
        let result = tokio::task::spawn_blocking(|| (!is_there()).then(apply)).await;
        match result {
            Ok(Some(Ok(()))) => {
                tracing::warn!(
                    "nft table inet signet was removed from outside; it is loaded again"
                );
            }
            Ok(Some(Err(problem))) => tracing::debug!(problem, "nft table is not loaded"),
            Ok(None) | Err(_) => {}
        }
    }
}

/// Whether the table is loaded with both its chains.
fn is_there() -> bool {
    let listed = Command::new("nft")
        .args(["list", "table", "inet", "signet"])
        .stdin(Stdio::null())
        .output();
    listed.is_ok_and(|output| {
        let text = String::from_utf8_lossy(&output.stdout);
        output.status.success() && text.contains("keep_source") && text.contains("clamp_mss")
    })
}

/// Removes the table.
///
/// # Errors
/// As [`apply`].
pub(crate) fn remove() -> Result<(), String> {
    run(REMOVE)
}

/// Has a script done, in one transaction.
///
/// # Errors
/// One line that names `nft`: it is missing, or it refused.
pub(super) fn run(script: &str) -> Result<(), String> {
    let mut child = Command::new("nft")
        .args(["-f", "-"])
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()
        .map_err(|error| format!("nft cannot be run ({error}): install nftables"))?;
    if let Some(mut stdin) = child.stdin.take() {
        // A refusal closes the pipe early; nft's own words are then the better message.
        let _ = stdin.write_all(script.as_bytes());
    }
    let output = child
        .wait_with_output()
        .map_err(|error| format!("nft did not end well: {error}"))?;
    if output.status.success() {
        return Ok(());
    }
    let text = String::from_utf8_lossy(&output.stderr);
    let first = text.lines().next().unwrap_or("no message");
    Err(format!("nft refused a table: {first}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn table_is_replaced_whole_and_uses_our_marks() {
        let text = ruleset();
        assert!(
            text.starts_with("table inet signet\ndelete table inet signet\ntable inet signet {")
        );
        assert_eq!(text.matches("meta mark & 0x1800 == 0x0800").count(), 2);
        assert_eq!(text.matches('{').count(), text.matches('}').count());
    }
}
