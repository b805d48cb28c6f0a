//! The lab, who talks in it, and who must not.

use std::{
    net::SocketAddr,
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context, Result, ensure};
use signet_fuzz::mutate::Dice;
use signet_tests::{
    lab::{Family, Lab, wait},
    load::{Load, Stream, Tally},
    netns,
    services::{self, Service},
    shop,
    wire::{Eyes, Seen},
};

use crate::deck::{Deed, Loss, NODES};

pub(crate) const CANARY: &[u8] = b"canary-5be10c-in-plain-sight";
pub(crate) const PORT: u16 = 3306;
/// Number of the services, one in each family.
const SERVICE: u8 = 7;
const PAUSE: Duration = Duration::from_millis(20);
/// A busy machine, a debug build, and engines that back off.
const PATIENCE: Duration = Duration::from_secs(60);

/// What no log of a node may have here: everybody is honest.
const BAD: [&str; 2] = ["panicked at", "broke the protocol"];

/// Who talks with whom through all of it: client, server, where they are, over what.
const TALKS: [Talk; 7] = [
    talk("shop/web", "shop/db", ["node1", "node2"], Family::V4),
    talk("shop/web2", "shop/store", ["node1", "node3"], Family::V4),
    talk("shop/api", "shop/db", ["node3", "node2"], Family::V6),
    talk("shop/late", "shop/store", ["node2", "node3"], Family::V6),
    talk("shop/api", "shop/store", ["node3", "node3"], Family::V4),
    Talk {
        by_service: true,
        ..talk("shop/web2", "shop/db", ["node1", "node2"], Family::V4)
    },
    Talk {
        by_service: true,
        ..talk("shop/late", "shop/store", ["node2", "node3"], Family::V6)
    },
];

#[derive(Clone, Copy, Debug)]
pub(crate) struct Talk {
    pub(crate) client: &'static str,
    pub(crate) server: &'static str,
    pub(crate) nodes: [&'static str; 2],
    pub(crate) family: Family,
    /// To the service's address instead of the pod's, translated by the client's node.
    pub(crate) by_service: bool,
}

const fn talk(
    client: &'static str,
    server: &'static str,
    nodes: [&'static str; 2],
    family: Family,
) -> Talk {
    Talk {
        client,
        server,
        nodes,
        family,
        by_service: false,
    }
}

impl Talk {
    /// Whether an event with this leave may cost it packets.
    pub(crate) fn may_lose(&self, loss: Loss) -> bool {
        match loss {
            Loss::None => false,
            Loss::Crossing(node) => self.nodes[0] != self.nodes[1] && self.nodes.contains(&node),
        }
    }
}

/// When packets might be lost, whose, and why.
#[derive(Debug)]
pub(crate) struct Leave {
    pub(crate) loss: Loss,
    pub(crate) from: Instant,
    pub(crate) until: Instant,
    pub(crate) why: String,
}

pub(crate) struct Stage {
    pub(crate) lab: Lab,
    pub(crate) eyes: Eyes,
    /// Objects beyond the first ones.
    pub(crate) extra: String,
    pub(crate) policy: bool,
    loads: Vec<(Talk, Load)>,
    stream: Stream,
    stray: Load,
    leaves: Vec<Leave>,
    happened: usize,
    began: Instant,
}

/// What is left when it is over.
pub(crate) struct Outcome {
    pub(crate) tallies: Vec<(Talk, Tally)>,
    /// Records of the TCP connection that came back.
    pub(crate) stream: Result<u64>,
    pub(crate) stray: Tally,
    pub(crate) leaves: Vec<Leave>,
    pub(crate) seen: Seen,
    pub(crate) happened: usize,
    /// Lines of logs that nobody wants to see.
    pub(crate) panics: Vec<String>,
    /// What each node dropped, by reason.
    pub(crate) drops: Vec<String>,
    /// When the traffic began.
    pub(crate) began: Instant,
}

fn objects() -> String {
    let pod = |name: &str, account: &str, node: &str, app: &str| {
        shop::pod("shop", name, account, node, &[("app", app)])
    };
    [
        shop::namespace("shop", &["web", "db", "idle"]),
        shop::namespace("other", &["stray"]),
        shop::isolate("other"),
        shop::allow("db", "web"),
        pod("web", "web", "node1", "web"),
        pod("web2", "web", "node1", "web"),
        pod("late", "web", "node2", "web"),
        pod("api", "web", "node3", "web"),
        pod("db", "db", "node2", "db"),
        pod("store", "db", "node3", "db"),
        shop::pod("other", "stray", "stray", "node1", &[("app", "stray")]),
    ]
    .concat()
}

impl Stage {
    pub(crate) fn up() -> Result<Self> {
        let lab = Lab::up(3, &objects())?;
        let eyes = Eyes::open(&lab, CANARY)?;
        for server in ["shop/db", "shop/store"] {
            netns::serve_echo(&lab.netns(server)?, PORT)?;
        }
        let mut services = Vec::new();
        for talk in TALKS.iter().filter(|talk| talk.by_service) {
            let backend = lab.socket(talk.server, talk.family, PORT)?;
            services.push(Service::new(SERVICE, PORT, vec![backend]));
        }
        for node in NODES {
            services::install(&lab, node, &services)?;
        }
        for talk in TALKS {
            let (client, to) = place(&lab, &talk)?;
            netns::udp_echo(&client, to, CANARY, PATIENCE, 60)?;
        }
        let mut loads = Vec::new();
        for talk in TALKS {
            let (client, to) = place(&lab, &talk)?;
            loads.push((talk, Load::start(&client, to, CANARY, PAUSE)?));
        }
        let (client, to) = place(&lab, &TALKS[0])?;
        let stream = Stream::start(&client, to, CANARY, PAUSE)?;
        let stray = Load::start(&lab.netns("other/stray")?, to, CANARY, PAUSE * 5)?;
        Ok(Self {
            lab,
            eyes,
            extra: String::new(),
            policy: false,
            loads,
            stream,
            stray,
            leaves: Vec::new(),
            happened: 0,
            began: Instant::now(),
        })
    }

    /// Makes the objects what they should be now.
    pub(crate) fn apply(&self) -> Result<()> {
        let policy = if self.policy {
            shop::allow("extra", "idle")
        } else {
            String::new()
        };
        self.lab
            .apply(&[objects(), policy, self.extra.clone()].concat())?;
        self.eyes.learn(&self.lab)
    }

    /// Does it, and sees to it that everybody who should talks again.
    pub(crate) fn carry_out(&mut self, deed: &Deed) -> Result<()> {
        // What was under way when it happened is lost with it.
        let from = Instant::now() - Duration::from_millis(500);
        let done = self.act(deed).and_then(|()| self.all_talk());
        let loss = deed.may_lose();
        if loss != Loss::None {
            self.leaves.push(Leave {
                loss,
                from,
                until: Instant::now() + Duration::from_millis(500),
                why: deed.to_string(),
            });
        }
        done?;
        self.happened += 1;
        Ok(())
    }

    fn all_talk(&self) -> Result<()> {
        for talk in TALKS {
            let (client, to) = place(&self.lab, &talk)?;
            wait(&format!("{talk:?}"), PATIENCE, || {
                Ok(netns::udp_echo(&client, to, CANARY, Duration::from_millis(300), 1).is_ok())
            })?;
        }
        Ok(())
    }

    pub(crate) fn rest(&self, dice: &mut Dice) {
        thread::sleep(Duration::from_millis(dice.below(1500) as u64));
    }

    pub(crate) fn end(self) -> Result<Outcome> {
        let mut tallies = Vec::new();
        for (talk, load) in self.loads {
            tallies.push((talk, load.stop()?));
        }
        let (stream, stray) = (self.stream.stop(), self.stray.stop()?);
        let (mut panics, mut drops) = (Vec::new(), Vec::new());
        for node in NODES {
            let status = self.lab.ask(node, &["status"])?;
            for drop in status["drops"].as_array().into_iter().flatten() {
                if drop["packets"] != 0 {
                    let name = drop["name"].as_str().unwrap_or_default();
                    drops.push(format!("{node} {} {name}", drop["packets"]));
                }
            }
            for process in ["agent", "tunnel"] {
                let log = self.lab.log(node, process)?;
                let bad = log
                    .lines()
                    .filter(|line| BAD.iter().any(|bad| line.contains(bad)));
                panics.extend(bad.map(|line| format!("{process} of {node}: {line}")));
            }
        }
        Ok(Outcome {
            tallies,
            stream,
            stray,
            leaves: self.leaves,
            seen: self.eyes.close()?,
            happened: self.happened,
            panics,
            drops,
            began: self.began,
        })
    }

    /// The first address of a pod and the echo there.
    pub(crate) fn socket(&self, pod: &str) -> Result<SocketAddr> {
        self.lab.socket(pod, Family::V4, PORT)
    }

    /// Holds that a pod gets no answer.
    pub(crate) fn silent(&self, from: &str, to: SocketAddr, what: &str) -> Result<()> {
        let client = self.lab.netns(from)?;
        let heard = netns::udp_echo(&client, to, CANARY, Duration::from_millis(600), 3);
        ensure!(heard.is_err(), "{what}: {from} is answered by {to}");
        Ok(())
    }

    /// Runs a line of shell on a node.
    pub(crate) fn shell(&self, node: &str, line: &str) -> Result<()> {
        let out = self.lab.exec(node, &["sh", "-c", line])?;
        ensure!(out.status.success(), "{line} on {node}: {out:?}");
        Ok(())
    }

    pub(crate) fn restart(&self, place: &[&str]) -> Result<()> {
        let args = ["lab", "restart", "--name", &self.lab.name];
        self.lab.ctl(&[&args[..], place].concat()).map(drop)
    }
}

fn place(lab: &Lab, talk: &Talk) -> Result<(String, SocketAddr)> {
    let mut to = lab
        .socket(talk.server, talk.family, PORT)
        .context("a server")?;
    if talk.by_service {
        to = Service::new(SERVICE, PORT, vec![to]).address;
    }
    Ok((lab.netns(talk.client)?, to))
}
