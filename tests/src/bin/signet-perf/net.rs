//! Two hosts as network namespaces joined by a veth pair; gone when dropped.

use std::process::{Child, Command, Stdio};

use anyhow::{Context, Result, ensure};

/// MTU of every tunnel device: what WireGuard leaves of 1,500 bytes on an IPv6 underlay.
pub(crate) const TUNNEL_MTU: &str = "1420";

/// The network namespaces of the two hosts, near and far.
#[derive(Debug)]
pub(crate) struct Net {
    /// Their names, with this process's id in them.
    pub(crate) hosts: [String; 2],
}

impl Net {
    /// Makes the namespaces `sgp-PIDa` and `sgp-PIDb`, 192.0.2.1 and 192.0.2.2 on one wire.
    pub(crate) fn new() -> Result<Self> {
        let name = |side| format!("sgp-{}{side}", std::process::id());
        let net = Self {
            hosts: [name("a"), name("b")],
        };
        let [near, far] = &net.hosts;
        for host in &net.hosts {
            ip(&format!("netns add {host}"))?;
            ip(&format!("-n {host} link set lo up"))?;
        }
        ip(&format!(
            "-n {near} link add under mtu 1500 type veth peer name under netns {far}"
        ))?;
        for (last, host) in (1..).zip(&net.hosts) {
            ip(&format!("-n {host} addr add 192.0.2.{last}/24 dev under"))?;
            ip(&format!("-n {host} link set under up"))?;
        }
        Ok(net)
    }

    /// Gives a tunnel's device on a host its inner address `address`/24, and brings it up.
    pub(crate) fn address(&self, host: usize, device: &str, address: &str) -> Result<()> {
        let host = &self.hosts[host];
        ip(&format!("-n {host} link set {device} mtu {TUNNEL_MTU} up"))?;
        ip(&format!("-n {host} addr add {address}/24 dev {device}"))
    }

    /// A command on a host; `ip` becomes the program, so that its process id is the program's.
    pub(crate) fn command(&self, host: usize) -> Command {
        let mut command = Command::new("ip");
        command.args(["netns", "exec", &self.hosts[host]]);
        command.stdin(Stdio::null());
        command
    }
}

impl Drop for Net {
    fn drop(&mut self) {
        for host in &self.hosts {
            if let Err(error) = ip(&format!("netns del {host}")) {
                crate::say(&format!("{error:#}"));
            }
        }
    }
}

/// A process that ends with its owner.
#[derive(Debug)]
pub(crate) struct Process(Child);

impl Process {
    /// Starts it; `what` names it in the error.
    pub(crate) fn start(what: &str, command: &mut Command) -> Result<Self> {
        Ok(Self(
            command.spawn().with_context(|| format!("start {what}"))?,
        ))
    }

    pub(crate) fn pid(&self) -> u32 {
        self.0.id()
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        // It may have ended by itself.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn ip(arguments: &str) -> Result<()> {
    let output = Command::new("ip")
        .args(arguments.split(' '))
        .output()
        .context("run ip (Debian package iproute2)")?;
    ensure!(
        output.status.success(),
        "ip {arguments}: {}",
        String::from_utf8_lossy(&output.stderr).trim_end()
    );
    Ok(())
}
