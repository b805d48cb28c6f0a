//! Services as kube-proxy's nftables mode makes them, and a CNI's masquerading, for the namespace of a node.

use std::{
    fs,
    net::{IpAddr, SocketAddr},
};

use anyhow::{Context, Result, ensure};

use crate::lab::{Family, Lab};

/// Bit of the mark by which kube-proxy asks itself to masquerade.
const MASQUERADE: u32 = 0x4000;

/// A service, for TCP and UDP alike.
#[derive(Clone, Debug)]
pub struct Service {
    /// Its cluster IP and port.
    pub address: SocketAddr,
    /// Its port on every address of each node.
    pub node_port: Option<u16>,
    /// Pods behind it, of the same family.
    pub backends: Vec<SocketAddr>,
}

impl Service {
    /// A service of `backends`: number `n` of those of its family.
    #[must_use]
    pub fn new(n: u8, port: u16, backends: Vec<SocketAddr>) -> Self {
        let v4 = backends.iter().all(SocketAddr::is_ipv4);
        let address = if v4 {
            IpAddr::from([10, 96, 0, n])
        } else {
            IpAddr::from([0xfd96, 0, 0, 0, 0, 0, 0, u16::from(n)])
        };
        Self {
            address: SocketAddr::new(address, port),
            node_port: None,
            backends,
        }
    }

    /// As it is, with a port on every node.
    #[must_use]
    pub fn on_node_port(self, port: u16) -> Self {
        Self {
            node_port: Some(port),
            ..self
        }
    }
}

/// Replaces a node's services by these, and has its pods masqueraded wherever they leave its own range, as the bridge
/// plug-in does with `ipMasq`.
///
/// # Errors
/// If nft refuses the rules.
pub fn install(lab: &Lab, node: &str, services: &[Service]) -> Result<()> {
    let ranges = lab.node(node)?["pod_cidrs"].take();
    let ranges: Vec<&str> = ranges
        .as_array()
        .into_iter()
        .flatten()
        .filter_map(|v| v.as_str())
        .collect();
    let mut rules = String::new();
    for family in [Family::V4, Family::V6] {
        let of_family = |text: &&&str| text.contains(':') == (family == Family::V6);
        let range = ranges.iter().find(of_family).context("a range of pods")?;
        let services: Vec<_> = services
            .iter()
            .filter(|service| service.address.is_ipv4() == (family == Family::V4))
            .collect();
        rules += &kube_proxy(family, &services);
        rules += &cni(family, range);
    }
    let file = tempfile::NamedTempFile::new()?;
    fs::write(file.path(), &rules)?;
    nft(lab, node, &["-f", &file.path().to_string_lossy()]).map(drop)
}

/// Runs nft on a node.
///
/// # Errors
/// If it fails.
pub fn nft(lab: &Lab, node: &str, arguments: &[&str]) -> Result<String> {
    let out = lab.exec(node, &[&["nft"], arguments].concat())?;
    ensure!(
        out.status.success(),
        "nft {arguments:?} on {node}: {}",
        String::from_utf8_lossy(&out.stderr)
    );
    Ok(String::from_utf8_lossy(&out.stdout).into_owned())
}

fn name(family: Family) -> &'static str {
    match family {
        Family::V4 => "ip",
        Family::V6 => "ip6",
    }
}

/// A table, without what was in it before.
fn table(family: Family, table: &str, chains: &str) -> String {
    let ip = name(family);
    format!("table {ip} {table}\ndelete table {ip} {table}\ntable {ip} {table} {{\n{chains}}}\n")
}

fn kube_proxy(family: Family, services: &[&Service]) -> String {
    let ip = name(family);
    let mut chains = format!(
        " chain nat-prerouting {{ type nat hook prerouting priority dstnat; jump services; }}\n \
           chain nat-output {{ type nat hook output priority -100; jump services; }}\n \
           chain nat-postrouting {{\n  type nat hook postrouting priority srcnat;\n  \
             meta mark & {MASQUERADE:#x} == 0 return\n  meta mark set meta mark xor {MASQUERADE:#x}\n  \
             masquerade fully-random\n }}\n \
           chain filter-forward {{ type filter hook forward priority filter; ct state invalid drop; }}\n"
    );
    let (mut by_address, mut by_node_port) = (Vec::new(), Vec::new());
    for (n, service) in services.iter().enumerate() {
        let (to, port) = (service.address.ip(), service.address.port());
        for protocol in ["tcp", "udp"] {
            by_address.push(format!("{to} . {protocol} . {port} : goto service-{n}"));
            if let Some(port) = service.node_port {
                by_node_port.push(format!("{protocol} . {port} : goto external-{n}"));
            }
        }
        let mut choice = Vec::new();
        for (m, backend) in service.backends.iter().enumerate() {
            choice.push(format!("{m} : goto endpoint-{n}-{m}"));
            chains += &format!(
                " chain endpoint-{n}-{m} {{\n  \
                   {ip} saddr {} meta mark set meta mark or {MASQUERADE:#x}\n  \
                   meta l4proto tcp dnat to {backend}\n  meta l4proto udp dnat to {backend}\n }}\n",
                backend.ip()
            );
        }
        chains += &format!(
            " chain service-{n} {{ numgen random mod {} vmap {{ {} }}; }}\n \
              chain external-{n} {{ meta mark set meta mark or {MASQUERADE:#x}; goto service-{n}; }}\n",
            choice.len(),
            choice.join(", ")
        );
    }
    chains += " chain services {\n";
    if !by_address.is_empty() {
        chains += &format!(
            "  {ip} daddr . meta l4proto . th dport vmap {{ {} }}\n",
            by_address.join(", ")
        );
    }
    if !by_node_port.is_empty() {
        chains += &format!(
            "  fib daddr type local meta l4proto . th dport vmap {{ {} }}\n",
            by_node_port.join(", ")
        );
    }
    chains += " }\n";
    table(family, "kube-proxy", &chains)
}

fn cni(family: Family, range: &str) -> String {
    let ip = name(family);
    let chain = format!(
        " chain postrouting {{ type nat hook postrouting priority srcnat; \
         {ip} saddr {range} {ip} daddr != {range} masquerade; }}\n"
    );
    table(family, "cni", &chain)
}
