//! The host's own network: devices, routes, rules, settings. Everything is in the network namespace
//! of the process, made only where it is missing, and taken away by `signet-agent cleanup`.

mod device;
pub(crate) mod links;
mod netlink;
mod nft;
mod plan;
mod sysctl;
mod unenforced;
mod veths;

use std::{
    fs::File,
    net::IpAddr,
    time::{Duration, Instant},
};

pub(crate) use netlink::{Link, Netlink};
pub(crate) use plan::HostFacts;
use plan::{HOLD, Plan, RULES, SIGNET0, TABLES};
pub(crate) use veths::Veth;

/// The kernel is compared with the plan this often even if the plan is the same: a person, a CNI
/// or a network manager may have changed what is ours.
const LOOK_AGAIN: Duration = Duration::from_secs(5);

/// Devices that had to be made or found anew; the data path belongs on them.
#[derive(Default)]
pub(crate) struct Renewed {
    /// Index of `signet0`.
    pub(crate) signet0: Option<u32>,
    /// Index and open end of the hold TAP.
    pub(crate) hold: Option<(u32, File)>,
    /// Index of the underlay's device.
    pub(crate) underlay: Option<u32>,
}

impl Renewed {
    pub(crate) fn is_something(&self) -> bool {
        !self.names().is_empty()
    }

    /// For people.
    pub(crate) fn names(&self) -> Vec<&'static str> {
        [
            (self.signet0.is_some(), SIGNET0),
            (self.hold.is_some(), HOLD),
            (self.underlay.is_some(), "the underlay's device"),
        ]
        .into_iter()
        .filter_map(|(renewed, name)| renewed.then_some(name))
        .collect()
    }
}

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
    hold: Link,
    underlay: Link,
    underlay_address: IpAddr,
    applied: Option<HostFacts>,
    looked: Instant,
    unenforced: unenforced::Unenforced,
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
        let underlay = underlay(&netlink, underlay_device, underlay_address).await?;
        let mtu = plan::tunnel_mtu(underlay.mtu, underlay_address)?;
        sysctl::apply(&sysctl::forwarding())?;
        let signet0 = make_signet0(&netlink, mtu).await?;
        let (hold, hold_file) = make_hold(&netlink).await?;

        let host = Self {
            netlink,
            signet0: signet0.clone(),
            hold: hold.clone(),
            underlay: underlay.clone(),
            underlay_address,
            applied: None,
            looked: Instant::now(),
            unenforced: unenforced::Unenforced::start(),
        };
        host.bring_rules_in_line().await?;
        if let Err(problem) = nft::apply() {
            tracing::warn!(
                problem,
                "without the nft table a CNI's masquerading may hide pods, and TCP relies on \
                 path MTU discovery"
            );
        }
        tokio::spawn(nft::keep());
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

    pub(crate) fn netlink(&self) -> &Netlink {
        &self.netlink
    }

    /// As [`Netlink::pod_link`].
    ///
    /// # Errors
    /// As there.
    pub(crate) async fn pod_link(&self, name: &str) -> Result<(Link, [u8; 6]), String> {
        self.netlink.pod_link(name).await
    }

    /// Whether nothing works without that device.
    pub(crate) fn needs(&self, ifindex: u32) -> bool {
        [&self.signet0, &self.hold, &self.underlay]
            .iter()
            .any(|link| link.index == ifindex)
    }

    /// Looks at the kernel with the next [`Host::renew`] and [`Host::reconcile`], not only after
    /// [`LOOK_AGAIN`].
    pub(crate) fn look_soon(&mut self) {
        self.applied = None;
    }

    /// Finds devices that vanished, and makes ours anew. Routes come back with the next
    /// [`Host::reconcile`], after the data path is where it belongs.
    ///
    /// # Errors
    /// One line that names the device.
    pub(crate) async fn renew(&mut self) -> Result<Renewed, String> {
        let mut renewed = Renewed::default();
        if self.applied.is_some() && self.looked.elapsed() < LOOK_AGAIN {
            return Ok(renewed);
        }
        let now = underlay(&self.netlink, &self.underlay.name, self.underlay_address).await?;
        let mtu = plan::tunnel_mtu(now.mtu, self.underlay_address)?;
        if now.index != self.underlay.index {
            renewed.underlay = Some(now.index);
        }
        self.underlay = now;
        if is_gone(&self.netlink, &self.signet0).await? {
            self.signet0 = make_signet0(&self.netlink, mtu).await?;
            renewed.signet0 = Some(self.signet0.index);
            self.applied = None;
        } else {
            self.netlink.set_up(&self.signet0, Some(mtu)).await?;
        }
        if is_gone(&self.netlink, &self.hold).await? {
            let (hold, file) = make_hold(&self.netlink).await?;
            renewed.hold = Some((hold.index, file));
            self.hold = hold;
        } else {
            self.netlink.set_up(&self.hold, None).await?;
        }
        Ok(renewed)
    }

    /// Brings addresses, routes and rules in line with `facts`; without a change since the last
    /// success it only looks now and then. Says what somebody else had changed.
    ///
    /// # Errors
    /// One line; what was done before stays, and the next call tries the rest again.
    pub(crate) async fn reconcile(&mut self, facts: HostFacts) -> Result<Vec<String>, String> {
        self.unenforced.cover(&facts.own_pod_cidrs);
        let expected = self.applied.as_ref() == Some(&facts);
        if expected && self.looked.elapsed() < LOOK_AGAIN {
            return Ok(Vec::new());
        }
        self.looked = Instant::now();
        // What fails half-way is tried again at once.
        self.applied = None;
        sysctl::apply(&sysctl::forwarding())?;
        // No route leads to a device that is down.
        self.netlink.set_slots_up(&facts.slots).await?;
        let mut changed = self.bring_rules_in_line().await?;
        changed.extend(self.bring_routes_in_line(&facts).await?);
        if !expected {
            changed.clear();
        }
        self.applied = Some(facts);
        Ok(changed)
    }

    async fn bring_routes_in_line(&self, facts: &HostFacts) -> Result<Vec<String>, String> {
        let mut changed = Vec::new();
        let plan = Plan::new(facts);
        let present = self.netlink.addresses(&self.signet0).await?;
        for address in &plan.addresses {
            if !present.contains(address) {
                self.netlink.add_address(&self.signet0, *address).await?;
                changed.push(format!("address {address}"));
            }
        }
        for address in present {
            if !plan.addresses.contains(&address) {
                self.netlink.delete_address(&self.signet0, address).await?;
                changed.push(format!("address {address}"));
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
                    changed.push(format!("route {} of table {table}", route.prefix));
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
                    changed.push(format!("a foreign route of table {table}"));
                }
            }
        }
        Ok(changed)
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

    async fn bring_rules_in_line(&self) -> Result<Vec<String>, String> {
        let mut changed = Vec::new();
        let present = self.netlink.rules().await?;
        for v4 in [true, false] {
            for rule in RULES {
                if !present
                    .iter()
                    .any(|(_, there, family)| *there == rule && *family == v4)
                {
                    self.netlink.add_rule(rule, v4).await?;
                    changed.push(format!("rule {}", rule.priority));
                }
            }
        }
        for (message, rule, _) in present {
            if !RULES.contains(&rule) {
                self.netlink.delete_rule(message).await?;
                changed.push(format!("a foreign rule {}", rule.priority));
            }
        }
        Ok(changed)
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
    match unenforced::remove() {
        Ok(()) => removed.push("nft table inet signet_pods".into()),
        Err(problem) => tracing::warn!(problem, "nft table may be left behind"),
    }
    Ok(removed)
}

/// The device of the underlay, if it is there and has its address.
async fn underlay(netlink: &Netlink, device: &str, address: IpAddr) -> Result<Link, String> {
    let link = netlink.link(device).await?.ok_or_else(|| {
        format!("underlay device {device} does not exist: see `ip link` and --underlay-dev")
    })?;
    if netlink.addresses(&link).await?.contains(&address) {
        Ok(link)
    } else {
        Err(format!(
            "underlay address {address} is not on {device}: see `ip addr` and --underlay-ip"
        ))
    }
}

async fn make_signet0(netlink: &Netlink, mtu: u32) -> Result<Link, String> {
    device::persistent_tun(SIGNET0)?;
    sysctl::apply(&sysctl::signet0(SIGNET0))?;
    let signet0 = made(netlink, SIGNET0).await?;
    netlink.set_up(&signet0, Some(mtu)).await?;
    Ok(signet0)
}

async fn make_hold(netlink: &Netlink) -> Result<(Link, File), String> {
    let file = device::hold_tap(HOLD)?;
    sysctl::apply(&sysctl::hold(HOLD))?;
    let hold = made(netlink, HOLD).await?;
    netlink.set_up(&hold, None).await?;
    Ok((hold, file))
}

/// Whether the device is another one by now, or none.
async fn is_gone(netlink: &Netlink, link: &Link) -> Result<bool, String> {
    let now = netlink.link(&link.name).await?;
    Ok(now.is_none_or(|now| now.index != link.index))
}

async fn made(netlink: &Netlink, name: &str) -> Result<Link, String> {
    netlink.link(name).await?.ok_or_else(|| {
        format!("device {name} vanished right after it was made: does something remove it?")
    })
}
