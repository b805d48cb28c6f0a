//! The host's own network: devices, routes, rules, settings. Everything is in the network namespace
//! of the process, made only where it is missing, and taken away by `signet-agent cleanup`.

mod device;
pub(crate) mod links;
mod netlink;
mod nft;
mod plan;
mod sysctl;

use std::{fs::File, net::IpAddr};

pub(crate) use netlink::{Link, Netlink};
pub(crate) use plan::HostFacts;
use plan::{HOLD, Plan, RULES, SIGNET0, TABLES};

/// The devices that are ours, once they are there.
pub(crate) struct Devices {
    /// The stable TUN.
    pub(crate) signet0: Link,
    /// The hold TAP.
    pub(crate) hold: Link,
    /// Its open end.
    pub(crate) hold_file: File,
    /// The device that carries the underlay.
    pub(crate) underlay: Link,
}

/// The host's network as far as it is ours.
pub(crate) struct Host {
    netlink: Netlink,
    signet0: Link,
    applied: Option<HostFacts>,
}

impl Host {
    /// Makes the devices, rules and settings that depend on no other node.
    ///
    /// # Errors
    /// One line that names what could not be set and what to do.
    pub(crate) async fn set_up(
        netlink: Netlink,
        underlay_device: &str,
        underlay_address: IpAddr,
    ) -> Result<(Self, Devices), String> {
        let underlay = netlink.link(underlay_device).await?.ok_or_else(|| {
            format!(
                "underlay device {underlay_device} does not exist: see `ip link` and --underlay-dev"
            )
        })?;
        if !netlink
            .addresses(&underlay)
            .await?
            .contains(&underlay_address)
        {
            return Err(format!(
                "underlay address {underlay_address} is not on {underlay_device}: see `ip addr` and \
                 --underlay-ip"
            ));
        }
        let mtu = plan::tunnel_mtu(underlay.mtu, underlay_address)?;

        device::persistent_tun(SIGNET0)?;
        let hold_file = device::hold_tap(HOLD)?;
        sysctl::apply(&sysctl::forwarding())?;
        sysctl::apply(&sysctl::signet0(SIGNET0))?;
        sysctl::apply(&sysctl::hold(HOLD))?;
        let signet0 = made(&netlink, SIGNET0).await?;
        netlink.set_up(&signet0, Some(mtu)).await?;
        let hold = made(&netlink, HOLD).await?;
        netlink.set_up(&hold, None).await?;

        let host = Self {
            netlink,
            signet0: signet0.clone(),
            applied: None,
        };
        host.bring_rules_in_line().await?;
        if let Err(problem) = nft::apply() {
            tracing::warn!(
                problem,
                "without the nft table a CNI's masquerading may hide pods, and TCP relies on \
                 path MTU discovery"
            );
        }
        tracing::info!(
            device = SIGNET0,
            mtu,
            underlay = underlay.name,
            "host network is set up"
        );
        Ok((
            host,
            Devices {
                signet0,
                hold,
                hold_file,
                underlay,
            },
        ))
    }

    /// As [`Netlink::pod_link`].
    ///
    /// # Errors
    /// As there.
    pub(crate) async fn pod_link(&self, name: &str) -> Result<(Link, [u8; 6]), String> {
        self.netlink.pod_link(name).await
    }

    /// Brings addresses and routes in line with `facts`; without a change since the last success
    /// it does nothing.
    ///
    /// # Errors
    /// One line; what was done before stays, and the next call tries the rest again.
    pub(crate) async fn reconcile(&mut self, facts: HostFacts) -> Result<(), String> {
        if self.applied.as_ref() == Some(&facts) {
            return Ok(());
        }
        let plan = Plan::new(&facts);
        let present = self.netlink.addresses(&self.signet0).await?;
        for address in &plan.addresses {
            if !present.contains(address) {
                self.netlink.add_address(&self.signet0, *address).await?;
            }
        }
        for address in present {
            if !plan.addresses.contains(&address) {
                self.netlink.delete_address(&self.signet0, address).await?;
            }
        }
        for table in TABLES {
            let present = self.netlink.routes(table).await?;
            // New ones first: a moved prefix has no moment without a route.
            for route in plan.routes.iter().filter(|route| route.table == table) {
                if !present
                    .iter()
                    .any(|message| netlink::is_same(message, route, self.signet0.index))
                {
                    self.netlink
                        .replace_route(route, self.signet0.index)
                        .await?;
                }
            }
            for message in present {
                let prefix = netlink::prefix_of(&message);
                let wanted = plan
                    .routes
                    .iter()
                    .any(|route| route.table == table && Some(route.prefix) == prefix);
                if !wanted {
                    self.netlink.delete_route(message).await?;
                }
            }
        }
        self.applied = Some(facts);
        Ok(())
    }

    /// The settings of the engine's slot devices, which come and go with `signet-tunnel`.
    ///
    /// # Errors
    /// One line that names the setting.
    pub(crate) fn set_up_slots(&mut self, names: &[String]) -> Result<(), String> {
        // Their routes went with them.
        self.applied = None;
        for name in names {
            sysctl::apply(&sysctl::slot(name))?;
        }
        Ok(())
    }

    async fn bring_rules_in_line(&self) -> Result<(), String> {
        let present = self.netlink.rules().await?;
        for v4 in [true, false] {
            for rule in RULES {
                if !present
                    .iter()
                    .any(|(_, there, family)| *there == rule && *family == v4)
                {
                    self.netlink.add_rule(rule, v4).await?;
                }
            }
        }
        for (message, rule, _) in present {
            if !RULES.contains(&rule) {
                self.netlink.delete_rule(message).await?;
            }
        }
        Ok(())
    }
}

/// Takes away everything that [`Host`] makes. Sysctls stay: others rely on them by now.
///
/// # Errors
/// One line for the first thing that could not be removed.
pub(crate) async fn clean_up(netlink: &Netlink) -> Result<Vec<String>, String> {
    let mut removed = Vec::new();
    for (message, rule, _) in netlink.rules().await? {
        netlink.delete_rule(message).await?;
        removed.push(format!("rule {}", rule.priority));
    }
    for table in TABLES {
        for message in netlink.routes(table).await? {
            let name =
                netlink::prefix_of(&message).map_or("route".into(), |p| format!("route {p}"));
            netlink.delete_route(message).await?;
            removed.push(format!("{name} of table {table}"));
        }
    }
    for name in [SIGNET0, HOLD] {
        if let Some(link) = netlink.link(name).await? {
            netlink.delete_link(&link).await?;
            removed.push(format!("device {name}"));
        }
    }
    match nft::remove() {
        Ok(()) => removed.push("nft table inet signet".into()),
        Err(problem) => tracing::warn!(problem, "nft table may be left behind"),
    }
    Ok(removed)
}

async fn made(netlink: &Netlink, name: &str) -> Result<Link, String> {
    netlink.link(name).await?.ok_or_else(|| {
        format!("device {name} vanished right after it was made: does something remove it?")
    })
}
