//! Time, and connections between agents: in order each, in any order among each other.

use std::{collections::BTreeMap, net::SocketAddr, sync::Arc, time::Duration};

use sha2::{Digest as _, Sha256};
use signet_crypto::{
    random::Random,
    spiffe_id::SpiffeId,
    tls::exporter::{ChannelSecrets, ExportError, Role, SuiteHash},
    x509::{
        profile::Purpose,
        verify::{Expect, Usage, verify},
    },
};

use super::{NodeIx, World};
use crate::{
    Input,
    ids::{ConnId, NodeUid, PodUid},
    io::{ChannelRole, Connected},
};

/// What will happen at some time.
pub(crate) enum What {
    /// An input for the agent that runs as `instance`.
    Input {
        node: NodeIx,
        instance: u64,
        input: Box<Input>,
    },
    /// TCP and TLS would be done.
    Connect {
        from: NodeIx,
        instance: u64,
        to: NodeUid,
        expect: SpiffeId,
    },
    /// A push of the directory; looked up when it arrives.
    Push {
        node: NodeIx,
        instance: u64,
        pod: crate::ids::PodUid,
        generation: u64,
    },
}

#[derive(Default)]
pub(crate) struct Queue {
    events: BTreeMap<(Duration, u64), What>,
    last: u64,
}

impl Queue {
    pub(crate) fn push(&mut self, at: Duration, what: What) {
        self.last += 1;
        self.events.insert((at, self.last), what);
    }

    pub(crate) fn next_at(&self) -> Option<Duration> {
        self.events.keys().next().map(|(at, _)| *at)
    }

    pub(crate) fn pop(&mut self) -> Option<What> {
        self.events.pop_first().map(|(_, what)| what)
    }
}

/// Two ends of one connection.
#[derive(Clone)]
pub struct Link {
    pub client: (NodeIx, ConnId),
    pub server: (NodeIx, ConnId),
    pub seed: Arc<[u8; 32]>,
    open: bool,
    /// When the last frame of each direction arrives.
    busy: [Duration; 2],
}

impl Link {
    pub(crate) fn touches(&self, node: NodeIx) -> bool {
        self.client.0 == node || self.server.0 == node
    }
}

#[derive(Default)]
pub(crate) struct Links {
    all: Vec<Link>,
    last: u64,
}

impl Links {
    fn of(&self, node: NodeIx, conn: ConnId) -> Option<usize> {
        self.all
            .iter()
            .position(|link| link.client == (node, conn) || link.server == (node, conn))
    }
}

/// Exporters of a connection that both ends know by its seed.
pub struct SimSecrets {
    pub seed: Arc<[u8; 32]>,
    pub role: Role,
}

impl ChannelSecrets for SimSecrets {
    fn export(
        &self,
        label: &[u8],
        context: Option<&[u8]>,
        out: &mut [u8],
    ) -> Result<(), ExportError> {
        for (index, chunk) in out.chunks_mut(32).enumerate() {
            let mut hash = Sha256::new();
            hash.update(*self.seed);
            hash.update(u64::try_from(label.len()).unwrap().to_be_bytes());
            hash.update(label);
            hash.update(context.unwrap_or_default());
            hash.update(index.to_be_bytes());
            chunk.copy_from_slice(&hash.finalize()[..chunk.len()]);
        }
        Ok(())
    }

    fn suite_hash(&self) -> Result<SuiteHash, ExportError> {
        Ok(SuiteHash::Sha256)
    }

    fn role(&self) -> Role {
        self.role
    }
}

impl World {
    pub(crate) fn delay(&mut self) -> Duration {
        let (least, most) = self.faults.delay;
        let spread = u64::try_from((most - least).as_nanos()).unwrap() + 1;
        least + Duration::from_nanos(self.draw(spread))
    }

    pub(crate) fn draw(&mut self, bound: u64) -> u64 {
        u64::from_be_bytes(self.random.bytes()) % bound
    }

    pub(crate) fn later(&mut self, node: NodeIx, at: Duration, input: Input) {
        let instance = self.nodes[node].instance;
        self.queue.push(
            at,
            What::Input {
                node,
                instance,
                input: Box::new(input),
            },
        );
    }

    pub(crate) fn happen(&mut self) {
        let Some(what) = self.queue.pop() else { return };
        let (node, instance) = match &what {
            What::Input { node, instance, .. } | What::Push { node, instance, .. } => {
                (*node, *instance)
            }
            What::Connect { from, instance, .. } => (*from, *instance),
        };
        // It was for an agent that is no more.
        if self.nodes[node].instance != instance {
            return;
        }
        match what {
            What::Input { input, .. } => self.input(node, *input),
            What::Push {
                pod, generation, ..
            } => self.pushed(node, &pod, generation),
            What::Connect { .. } if self.nodes[node].agent.is_none() => {}
            What::Connect { to, expect, .. } => self.connect(node, &to, &expect),
        }
    }

    pub(crate) fn dial(&mut self, from: NodeIx, to: &NodeUid, expect: &SpiffeId) {
        // Two and a half round trips for TCP and TLS.
        let at = self.boot + self.delay() * 5;
        let instance = self.nodes[from].instance;
        self.queue.push(
            at,
            What::Connect {
                from,
                instance,
                to: to.clone(),
                expect: expect.clone(),
            },
        );
    }

    /// A TLS connection from one node to another, as its node's certificate allows.
    pub fn connect(&mut self, from: NodeIx, to: &NodeUid, expect: &SpiffeId) {
        let target = self.nodes.iter().position(|node| node.facts.uid == *to);
        let target = target.filter(|to| {
            !self.is_cut(from, *to)
                && !self.faults.deaf
                && self.nodes[*to].agent.is_some()
                && self.nodes[*to].facts.spiffe_id == *expect
        });
        let Some(server) = target else {
            let error = "connection refused".to_owned();
            return self.input(
                from,
                Input::DialFailed {
                    node: to.clone(),
                    error,
                },
            );
        };
        self.links.last += 2;
        let (client_conn, server_conn) = (ConnId(self.links.last), ConnId(self.links.last + 1));
        let seed: Arc<[u8; 32]> = Arc::new(self.random.bytes());
        let link = Link {
            client: (from, client_conn),
            server: (server, server_conn),
            seed: seed.clone(),
            open: true,
            busy: [self.boot; 2],
        };
        let nodes = [from, server].map(|node| PodUid::of_node(&self.nodes[node].facts.uid));
        self.oracle.connected(&link, nodes);
        self.links.all.push(link);
        let ends = [
            (from, server, client_conn, ChannelRole::Client, Role::Client),
            (server, from, server_conn, ChannelRole::Server, Role::Server),
        ];
        for (own, other, conn, role, tls) in ends {
            let svid = self.nodes[other].svid.clone().unwrap();
            let expect = Expect {
                id: Some(self.nodes[other].facts.spiffe_id.clone()),
                purpose: Some(Purpose::NodeAgent),
                node: None,
                usage: Usage::Either,
            };
            // TLS refuses who is out of date, on whose clock ever.
            let wall = self.now(own).wall;
            let Ok(peer) = verify(svid.chain(), &self.bundle, wall, &expect) else {
                self.break_links(|link| link.client.1 == client_conn);
                let error = "the certificate is not valid now".to_owned();
                return self.input(
                    from,
                    Input::DialFailed {
                        node: to.clone(),
                        error,
                    },
                );
            };
            let connected = Connected {
                conn,
                role,
                peer,
                secrets: Box::new(SimSecrets {
                    seed: seed.clone(),
                    role: tls,
                }),
                key_exchange: "X25519MLKEM768".to_owned(),
                cipher: "TLS13_AES_256_GCM_SHA384".to_owned(),
                remote: SocketAddr::new(self.nodes[other].facts.underlay[0], 40000),
            };
            self.input(own, Input::ChannelConnected(Box::new(connected)));
        }
    }

    /// A frame from a node, whoever plays it.
    pub fn send_frame(&mut self, from: NodeIx, conn: ConnId, kind: u8, payload: Vec<u8>) {
        let Some(index) = self.links.of(from, conn) else {
            return;
        };
        let link = self.links.all[index].clone();
        if !link.open {
            return;
        }
        self.frames += 1;
        let by_client = link.client == (from, conn);
        let to = if by_client { link.server } else { link.client };
        if self.draw(1000) < self.faults.break_permille || self.is_cut(from, to.0) {
            let own = link.client.1;
            return self.break_links(|link| link.client.1 == own);
        }
        let wall = self.now(from).wall;
        self.oracle.frame(&link, by_client, kind, &payload, wall);
        let at = self.arrival(index, by_client);
        self.later(
            to.0,
            at,
            Input::Frame {
                conn: to.1,
                kind,
                payload,
            },
        );
    }

    pub(crate) fn close(&mut self, from: NodeIx, conn: ConnId, reason: String) {
        let Some(index) = self.links.of(from, conn) else {
            return;
        };
        let link = self.links.all[index].clone();
        if !link.open {
            return;
        }
        self.links.all[index].open = false;
        let by_client = link.client == (from, conn);
        let to = if by_client { link.server } else { link.client };
        let at = self.arrival(index, by_client);
        self.later(to.0, at, Input::ChannelClosed { conn: to.1, reason });
    }

    /// Connections break: both ends learn it, each in its time.
    pub fn break_links(&mut self, which: impl Fn(&Link) -> bool) {
        for index in 0..self.links.all.len() {
            let link = self.links.all[index].clone();
            if link.open && which(&link) {
                self.links.all[index].open = false;
                for (by_client, to) in [(false, link.client), (true, link.server)] {
                    let at = self.arrival(index, by_client);
                    let reason = "connection reset".to_owned();
                    self.later(to.0, at, Input::ChannelClosed { conn: to.1, reason });
                }
            }
        }
    }

    /// Open connections between two nodes.
    pub fn links_between(&self, a: NodeIx, b: NodeIx) -> Vec<Link> {
        let open = self.links.all.iter().filter(|link| link.open);
        open.filter(|link| link.touches(a) && link.touches(b))
            .cloned()
            .collect()
    }

    /// Nobody reaches the other, packets included, until it is undone.
    pub fn cut(&mut self, a: NodeIx, b: NodeIx, cut: bool) {
        let key = (a.min(b), a.max(b));
        if cut {
            self.cut.insert(key);
        } else {
            self.cut.remove(&key);
        }
    }

    pub(crate) fn is_cut(&self, a: NodeIx, b: NodeIx) -> bool {
        self.cut.contains(&(a.min(b), a.max(b)))
    }

    fn arrival(&mut self, index: usize, by_client: bool) -> Duration {
        let at = self.boot + self.delay();
        let busy = &mut self.links.all[index].busy[usize::from(by_client)];
        *busy = at.max(*busy + Duration::from_nanos(1));
        *busy
    }
}
