//! First contact: how long the first packet between two pods takes, its answer included.

use std::{collections::BTreeMap, net::IpAddr, time::Duration};

use anyhow::{Result, bail};
use serde_json::{Value, json};
use signet_tests::{
    contact::{First, PORT, Scan, Targets, first_contact},
    lab::{Family, Lab},
    netns, shop,
};

use crate::{
    interrupt::{check, pause},
    report::median,
};

/// With a channel between each two of them to be made, a lab of so many nodes gives 210 cold contacts.
const NODES: usize = 21;
/// Destinations of the scanner.
const SCANNED: u32 = 10_000;
/// New pairs beside which it scans, or not, in a round.
const PER_ROUND: usize = 24;
/// After a scan, so that nothing of it is left when the next contact is measured.
const REST: Duration = Duration::from_secs(7);

/// What was going on while pairs met.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Circumstance {
    /// The two nodes had never met.
    Cold,
    /// There was a channel between them.
    Warm,
    /// As `Warm`, before and after the next two.
    Alone,
    /// Another pod of the node sent to one address that it may not reach.
    BesideNoise,
    /// Another pod of the node sent as much to 10,000 addresses.
    BesideScan,
}

/// One contact.
#[derive(Clone, Copy, Debug)]
struct Contact {
    circumstance: Circumstance,
    first: First,
    round: usize,
    /// Milliseconds; `None` if the packet or its answer was lost.
    took: Option<f64>,
}

/// All of them.
#[derive(Debug, Default)]
pub(crate) struct Contacts(Vec<Contact>);

impl Contacts {
    /// Measures new pairs of pods of nodes that never met, of nodes that did, and beside a scan.
    pub(crate) fn measure(short: bool) -> Result<Self> {
        let mut contacts = Self::default();
        contacts.cold_and_warm(if short { 4 } else { NODES })?;
        contacts.beside_scan(if short { 1 } else { 5 })?;
        Ok(contacts)
    }

    fn cold_and_warm(&mut self, nodes: usize) -> Result<()> {
        crate::say(&format!("bringing up a lab of {nodes} nodes"));
        let mut objects = shop::namespace("shop", &["web"]) + &shop::allow("db", "web");
        for node in 0..nodes {
            for name in ["a", "b"] {
                objects += &pod(&format!("{name}{node}"), &format!("node{}", node + 1));
            }
        }
        let lab = Lab::up(u8::try_from(nodes)?, &objects)?;
        for node in 0..nodes {
            for name in ["a", "b"] {
                netns::serve_echo(&lab.netns(&format!("shop/{name}{node}"))?, PORT)?;
            }
        }
        pause(Duration::from_secs(2))?;
        for (name, circumstance) in [("a", Circumstance::Cold), ("b", Circumstance::Warm)] {
            let pairs = (0..nodes).flat_map(|from| (from + 1..nodes).map(move |to| (from, to)));
            for (number, (from, to)) in pairs.enumerate() {
                let (from, to) = (format!("shop/{name}{from}"), format!("shop/{name}{to}"));
                self.meet(&lab, &from, &to, circumstance, number, 0)?;
            }
        }
        Ok(())
    }

    fn beside_scan(&mut self, rounds: usize) -> Result<()> {
        const SERVERS: usize = 12;
        let pairs = rounds * 3 * PER_ROUND;
        let clients = pairs.div_ceil(SERVERS);
        crate::say("bringing up a lab with a pod that scans");
        let mut objects = shop::namespace("shop", &["web", "scanner"]) + &shop::allow("db", "web");
        objects +=
            &(shop::pod("shop", "scanner", "scanner", "node1", &[]) + &pod("first", "node1"));
        for n in 0..clients {
            objects += &pod(&format!("c{n}"), "node1");
        }
        for n in 0..SERVERS {
            objects += &pod(&format!("s{n}"), "node2");
        }
        let lab = Lab::up(2, &objects)?;
        for n in 0..SERVERS {
            netns::serve_echo(&lab.netns(&format!("shop/s{n}"))?, PORT)?;
        }
        let IpAddr::V6(near) = lab.address("shop/s0", Family::V6)? else {
            bail!("shop/s0 has no IPv6 address");
        };
        // The channel; not counted.
        first_contact(&lab, "shop/first", "shop/s0", First::Udp, Family::V4)?;
        let mut number = 0;
        for round in 0..rounds {
            for circumstance in [
                Circumstance::Alone,
                Circumstance::BesideNoise,
                Circumstance::BesideScan,
            ] {
                let targets = match circumstance {
                    Circumstance::BesideNoise => Some(Targets::One(near)),
                    Circumstance::BesideScan => Some(Targets::Around(near, SCANNED)),
                    Circumstance::Cold | Circumstance::Warm | Circumstance::Alone => None,
                };
                let scan = targets
                    .map(|targets| Scan::start(&lab, "shop/scanner", targets))
                    .transpose()?;
                let met = (0..PER_ROUND).try_for_each(|_| {
                    let (client, server) = (number / SERVERS, number % SERVERS);
                    number += 1;
                    let (from, to) = (format!("shop/c{client}"), format!("shop/s{server}"));
                    self.meet(&lab, &from, &to, circumstance, number, round)?;
                    pause(Duration::from_millis(25))
                });
                let sent = scan.map(Scan::stop).transpose()?;
                met?;
                if let Some(sent) = sent {
                    crate::say(&format!("round {}: {sent} packets beside", round + 1));
                }
                pause(REST)?;
            }
        }
        Ok(())
    }

    fn meet(
        &mut self,
        lab: &Lab,
        from: &str,
        to: &str,
        circumstance: Circumstance,
        number: usize,
        round: usize,
    ) -> Result<()> {
        check()?;
        let first = First::ALL[number % 3];
        let family = [Family::V4, Family::V6][number / 3 % 2];
        let took = first_contact(lab, from, to, first, family)?;
        self.0.push(Contact {
            circumstance,
            first,
            round,
            took: took.map(|took| took.as_secs_f64() * 1e3),
        });
        Ok(())
    }

    /// Milliseconds of all contacts under some circumstance, sorted.
    pub(crate) fn times(&self, circumstance: Circumstance) -> Vec<f64> {
        self.sorted(|contact| contact.circumstance == circumstance)
    }

    fn sorted(&self, which: impl Fn(&Contact) -> bool) -> Vec<f64> {
        let mut times: Vec<f64> = self
            .0
            .iter()
            .filter(|contact| which(contact))
            .filter_map(|contact| contact.took)
            .collect();
        times.sort_by(f64::total_cmp);
        times
    }

    /// Lines of the table.
    pub(crate) fn cells(&self) -> Vec<Vec<String>> {
        use Circumstance::{Alone, BesideNoise, BesideScan, Cold, Warm};
        let mut lines = Vec::new();
        for (circumstance, name, bar) in [
            (
                Cold,
                "cold: the nodes never met",
                "p50 <= 15, p99 <= 150 ms",
            ),
            (Warm, "warm: there is a channel", "p50 <= 15, p99 <= 60 ms"),
        ] {
            let here = |contact: &Contact| contact.circumstance == circumstance;
            lines.push(self.line(name.to_owned(), bar, here));
            for first in First::ALL {
                let name = format!("– {}", format!("{first:?}").to_uppercase());
                let this = |contact: &Contact| here(contact) && contact.first == first;
                lines.push(self.line(name, "", this));
            }
        }
        for (circumstance, name, bar) in [
            (Alone, "warm, beside nothing", ""),
            (BesideNoise, "– beside as many packets to one address", ""),
            (
                BesideScan,
                "– beside a scan of 10,000 addresses",
                "<= 2 x beside nothing",
            ),
        ] {
            let here = |contact: &Contact| contact.circumstance == circumstance;
            lines.push(self.line(name.to_owned(), bar, here));
        }
        lines
    }

    fn line(&self, name: String, bar: &str, which: impl Fn(&Contact) -> bool) -> Vec<String> {
        let all = self.0.iter().filter(|contact| which(contact)).count();
        let times = self.sorted(which);
        let time = |share| match quantile(&times, share) {
            Some(time) => format!("{time:.1} ms"),
            None => String::new(),
        };
        let counts = [all.to_string(), (all - times.len()).to_string()];
        let mut line = vec![name];
        line.extend(counts);
        line.extend([time(0.5), time(0.99), time(1.0)]);
        line.push(bar.to_owned());
        line
    }

    /// What others pay for a scan.
    pub(crate) fn scan_line(&self) -> String {
        let ratio = |share, over| match self.ratio(share, over) {
            Some(ratio) => format!("{ratio:.2}"),
            None => "?".to_owned(),
        };
        let of = |over| format!("p50 {} x, p90 {} x", ratio(0.5, over), ratio(0.9, over));
        format!(
            "A scan beside, by round: {} of beside nothing; {} of beside as many packets to one address.",
            of(Circumstance::Alone),
            of(Circumstance::BesideNoise),
        )
    }

    /// The median over the rounds of a quantile beside a scan over the same beside something else.
    fn ratio(&self, share: f64, over: Circumstance) -> Option<f64> {
        let mut rounds: BTreeMap<usize, [Vec<f64>; 2]> = BTreeMap::new();
        for contact in &self.0 {
            let Some(took) = contact.took else { continue };
            let times = rounds.entry(contact.round).or_default();
            if contact.circumstance == Circumstance::BesideScan {
                times[0].push(took);
            } else if contact.circumstance == over {
                times[1].push(took);
            }
        }
        let ratios = rounds
            .into_values()
            .filter_map(|[mut beside, mut without]| {
                beside.sort_by(f64::total_cmp);
                without.sort_by(f64::total_cmp);
                Some(quantile(&beside, share)? / quantile(&without, share)?)
            });
        median(&ratios.collect::<Vec<_>>())
    }

    pub(crate) fn json(&self) -> Value {
        let contact = |contact: &Contact| {
            json!({
                "circumstance": format!("{:?}", contact.circumstance),
                "first": format!("{:?}", contact.first),
                "round": contact.round,
                "ms": contact.took,
            })
        };
        self.0.iter().map(contact).collect()
    }
}

/// The least of some sorted figures that so many of them do not exceed.
fn quantile(sorted: &[f64], share: f64) -> Option<f64> {
    let last = sorted.len().checked_sub(1)?;
    sorted.get((last as f64 * share).ceil() as usize).copied()
}

/// A pod that all pods like it may reach.
fn pod(name: &str, node: &str) -> String {
    shop::pod("shop", name, "web", node, &[("app", "db")])
}
