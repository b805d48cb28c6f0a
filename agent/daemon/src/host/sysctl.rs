//! `/proc/sys/net` of the process's own network namespace.

use std::{fs, io, path::PathBuf};

/// One setting, its path below `/proc/sys/net` and its value.
pub(crate) type Setting = (String, &'static str);

/// What forwarding between pods and tunnel needs.
pub(crate) fn forwarding() -> Vec<Setting> {
    vec![
        ("ipv4/ip_forward".into(), "1"),
        ("ipv6/conf/all/forwarding".into(), "1"),
        // A flow that moves into the tunnel has windows that conntrack did not see.
        ("netfilter/nf_conntrack_tcp_be_liberal".into(), "1"),
    ]
}

/// For `signet0`: no address of its own making, no source checks (nothing comes in by it).
pub(crate) fn signet0(name: &str) -> Vec<Setting> {
    vec![
        (format!("ipv6/conf/{name}/addr_gen_mode"), "1"),
        (format!("ipv6/conf/{name}/accept_ra"), "0"),
        (format!("ipv4/conf/{name}/rp_filter"), "0"),
        (format!("ipv4/conf/{name}/send_redirects"), "0"),
    ]
}

/// For a slot: should the host check sources, then by the mark, which leads to our table.
pub(crate) fn slot(name: &str) -> Vec<Setting> {
    let mut settings = signet0(name);
    settings.push((format!("ipv4/conf/{name}/src_valid_mark"), "1"));
    settings
}

/// For the hold device: the kernel itself must never speak on it.
pub(crate) fn hold(name: &str) -> Vec<Setting> {
    vec![
        (format!("ipv6/conf/{name}/disable_ipv6"), "1"),
        (format!("ipv4/conf/{name}/rp_filter"), "0"),
    ]
}

/// Writes what differs. A path that this kernel lacks is skipped: without IPv6 or conntrack there
/// is nothing to set.
///
/// # Errors
/// One line that names the setting.
pub(crate) fn apply(settings: &[Setting]) -> Result<(), String> {
    for (key, value) in settings {
        let path = PathBuf::from("/proc/sys/net").join(key);
        match fs::read_to_string(&path) {
            Ok(current) if current.trim() == *value => continue,
            Ok(_) => {}
            Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
            Err(error) => return Err(refused(key, value, &error)),
        }
        fs::write(&path, value).map_err(|error| refused(key, value, &error))?;
        tracing::debug!(key, value, "sysctl set");
    }
    Ok(())
}

fn refused(key: &str, value: &str, error: &io::Error) -> String {
    let name = format!("net.{}", key.replace('/', "."));
    format!(
        "sysctl {name} cannot be set to {value} ({error}): set it by hand, or mount /proc/sys writable"
    )
}
