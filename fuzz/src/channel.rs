//! A whole agent against a node that says what it likes.
//!
//! Node b's agent is gone and the input plays it: it has b's own certificate and, if it wishes,
//! those of the pod that b runs, used rightly and wrongly; and frames of any bytes. Whatever it
//! says, no row is written at a for a pod that was not proven on the channel in use, and what a has
//! with the honest node c goes on.

use std::{sync::Arc, time::Duration};

use aws_lc_rs::digest;
use signet_agent_core::{
    ids::ConnId,
    sim::{NodeIx, Pod, World, network::SimSecrets},
    wire::{Message, address_bytes, pb},
};
use signet_crypto::{
    svid::X509Svid,
    tls::{
        authenticator::{Request, Role, Secrets, create},
        exporter::{SlotContext, confirm},
    },
    wg::PublicKey,
    x509::profile::{Binding, Purpose},
};

use crate::reader::{Reader, part};

const SECOND: Duration = Duration::from_secs(1);
const BOOT: [u8; 16] = [7; 16];
const KEY: PublicKey = PublicKey([3; 32]);
const PORT: u16 = 51831;
const MOST: usize = 24;

/// Steps of the play, a byte each with what they need behind them.
pub fn run(data: &[u8]) {
    let mut play = Play::new();
    let mut reader = Reader(data);
    for _ in 0..MOST {
        if reader.is_empty() {
            break;
        }
        play.step(&mut reader);
        play.nothing_unproven();
    }
    play.others_go_on();
}

struct Play {
    world: World,
    a: NodeIx,
    b: NodeIx,
    /// On a, b and c.
    x: Pod,
    y: Pod,
    z: Pod,
    conn: Option<ConnId>,
    secrets: Option<SimSecrets>,
    /// From a's HELLO.
    nonce: [u8; 32],
    boot: [u8; 16],
    epoch: u64,
    proofs: u64,
    ids: u64,
    /// A good proof of y was sent on some channel, so a row for it may stand.
    proven: bool,
    /// Questions of a, to be answered.
    asked: Vec<pb::ProofReq>,
}

impl Play {
    fn new() -> Self {
        let mut world = World::new(1);
        let (a, b, c) = (world.add_node(), world.add_node(), world.add_node());
        let x = world.add_pod(a, "shop", "frontend");
        let y = world.add_pod(b, "shop", "backend");
        let z = world.add_pod(c, "shop", "cache");
        world.run(SECOND);
        assert!(world.passes(&x.uid, z.address), "the honest pair is open");
        world.kill(b);
        world.oracle.strict = false;
        let mut play = Self {
            world,
            a,
            b,
            x,
            y,
            z,
            conn: None,
            secrets: None,
            nonce: [0; 32],
            boot: [0; 16],
            epoch: 0,
            proofs: 0,
            ids: 0,
            proven: false,
            asked: Vec::new(),
        };
        play.connect();
        play
    }

    fn step(&mut self, reader: &mut Reader<'_>) {
        let what = reader.byte();
        let detail = reader.byte();
        match what % 13 {
            0 => {
                let payload = reader.part().to_vec();
                self.raw(detail, payload);
            }
            1 => self.connect(),
            2 => self.hello(detail),
            3 => self.slot(detail),
            4 => self.ask(detail),
            5 => self.answer(detail),
            6 => self.label(detail, reader.byte()),
            7 => {
                self.world.send(&self.x.uid, self.y.address);
                self.pass(Duration::from_millis(50));
            }
            8 => self.pass(Duration::from_millis(u64::from(detail) * 50)),
            9 => self.revoke(detail),
            10 => {
                let message = pb::SlotRetire {
                    epoch: self.epoch + u64::from(detail & 1),
                };
                self.say(Message::SlotRetire(message));
            }
            11 => self.refresh(detail),
            _ => {
                // Names of labels that a never gave or got, whole or cut, as often as it likes.
                let names = vec![detail; usize::from(detail & 0x3f)];
                self.say(Message::LabelKeep(pb::LabelKeep {
                    granted: detail & 0x40 != 0,
                    names,
                    last: detail & 0x80 != 0,
                }));
            }
        }
        self.hear();
    }

    fn connect(&mut self) {
        let facts = self.world.nodes[self.a].facts.clone();
        self.world.connect(self.b, &facts.uid, &facts.spiffe_id);
        self.pass(Duration::from_millis(100));
        let link = self.world.links_between(self.a, self.b).pop();
        let mine = link.filter(|link| link.client.0 == self.b);
        self.conn = mine.as_ref().map(|link| link.client.1);
        self.secrets = mine.map(|link| SimSecrets {
            seed: link.seed,
            role: Role::Client,
        });
        (self.proofs, self.epoch) = (0, self.epoch + 1);
        self.hear();
    }

    fn hello(&mut self, detail: u8) {
        let b = &self.world.nodes[self.b].facts;
        let hello = pb::Hello {
            proto: 1 + u32::from(detail & 1),
            node_uid: b.uid.as_str().to_owned(),
            boot_id: BOOT.to_vec(),
            instance: 1 + u64::from(detail >> 4),
            proof_nonce: vec![9; if detail & 2 == 0 { 32 } else { 31 }],
            last_epoch: u64::from(detail >> 2 & 3),
            ..pb::Hello::default()
        };
        self.say(Message::Hello(hello));
    }

    fn slot(&mut self, detail: u8) {
        let epoch = self.epoch + u64::from(detail & 3);
        self.world.captured.clear();
        self.say(Message::SlotOffer(pb::SlotOffer {
            epoch,
            wg_public_key: KEY.as_bytes().to_vec(),
            port: u32::from(PORT),
            tag_carriers: 1,
        }));
        let frames = std::mem::take(&mut self.world.captured);
        let accepted = frames.iter().find_map(|(_, _, kind, payload)| {
            let Ok(Message::SlotAccept(accept)) = Message::decode(*kind, payload) else {
                return None;
            };
            Some(accept)
        });
        self.world.captured = frames;
        let (Some(accept), Some(secrets)) = (accepted, &self.secrets) else {
            return;
        };
        let context = SlotContext {
            epoch,
            client_node: self.world.nodes[self.b].facts.spiffe_id.clone(),
            server_node: self.world.nodes[self.a].facts.spiffe_id.clone(),
            client_boot_id: BOOT,
            server_boot_id: self.boot,
            client_wg: KEY,
            server_wg: PublicKey(accept.wg_public_key.try_into().expect("a key")),
            client_port: PORT,
            server_port: u16::try_from(accept.port).expect("a port"),
        };
        let mut mine = confirm(secrets, &context, Role::Client).unwrap();
        mine[31] ^= detail >> 7;
        self.epoch = epoch;
        self.say(Message::SlotReady(pb::SlotReady {
            epoch,
            confirm: mine.to_vec(),
        }));
    }

    /// A certificate: the right one, or one that proves something else.
    fn svid(&mut self, detail: u8) -> (Arc<X509Svid>, bool) {
        let (pod, node, purpose, good) = match detail & 7 {
            1 => (self.y.clone(), self.a, Purpose::AgentPlane, false),
            2 => (self.z.clone(), self.b, Purpose::AgentPlane, false),
            3 => (self.y.clone(), self.b, Purpose::WorkloadApi, false),
            4 => (self.x.clone(), self.b, Purpose::AgentPlane, false),
            _ => (self.y.clone(), self.b, Purpose::AgentPlane, true),
        };
        let entry = &pod.entry;
        let node = &self.world.nodes[node].facts.spiffe_id;
        let binding = Binding::new(
            node,
            entry.namespace_uid.clone(),
            entry.service_account_uid.clone(),
        );
        let binding = (purpose == Purpose::AgentPlane).then_some(binding);
        let id = entry.spiffe_id.clone();
        (self.world.issue(id, purpose, binding), good)
    }

    fn proof(&mut self, detail: u8) -> (u64, Vec<u8>) {
        let (svid, good) = self.svid(detail);
        let Some(secrets) = &self.secrets else {
            return (0, Vec::new());
        };
        // Bit 3: a number used before. Bit 4: made for a's own direction.
        self.proofs += u64::from(detail & 8 == 0);
        let side = if detail & 16 == 0 {
            Role::Client
        } else {
            Role::Server
        };
        let mut text = b"signet proof context".to_vec();
        text.extend(self.nonce);
        text.extend(self.proofs.to_be_bytes());
        let hash = digest::digest(&digest::SHA256, &text);
        let context = hash.as_ref().try_into().expect("32 bytes");
        let keys = Secrets::from_channel(secrets, side).unwrap();
        let made = create(&keys, &Request { context }, &svid).unwrap();
        self.proven |= good && side == Role::Client;
        (self.proofs, made)
    }

    fn ask(&mut self, detail: u8) {
        let (proof_n, authenticator) = if detail & 32 == 0 {
            self.proof(detail)
        } else {
            (0, Vec::new())
        };
        self.ids += 1;
        // As y, as c's pod, or as a's own.
        let source = [&self.y, &self.y, &self.z, &self.x][usize::from(detail >> 6)];
        let request = pb::ProofReq {
            id: self.ids,
            src_pod: source.uid.as_str().to_owned(),
            dst_pod: self.x.uid.as_str().to_owned(),
            dst_address: address_bytes(self.x.address),
            proof_n,
            authenticator,
            have_proof: detail & 7 == 5,
        };
        self.say(Message::ProofReq(request));
    }

    fn answer(&mut self, detail: u8) {
        let Some(question) = self.asked.pop() else {
            return;
        };
        let (proof_n, authenticator) = self.proof(detail);
        let refusal = if detail & 32 == 0 {
            0
        } else {
            i32::from(detail & 15)
        };
        self.say(Message::Proof(pb::Proof {
            id: question.id,
            refusal,
            pod: String::new(),
            proof_n,
            authenticator,
        }));
    }

    fn refresh(&mut self, detail: u8) {
        let (proof_n, authenticator) = self.proof(detail);
        let pod = if detail & 32 == 0 { &self.y } else { &self.z };
        self.say(Message::Proof(pb::Proof {
            id: 0,
            refusal: 0,
            pod: pod.uid.as_str().to_owned(),
            proof_n,
            authenticator,
        }));
    }

    fn label(&mut self, detail: u8, value: u8) {
        let to = if detail & 1 == 0 { &self.y } else { &self.z };
        let label = pb::Label {
            src_pod: self.x.uid.as_str().to_owned(),
            dst_pod: to.uid.as_str().to_owned(),
            label: u64::from(value) << (detail >> 2),
            epoch: self.epoch + u64::from(detail >> 1 & 1),
            not_after_unix_ms: u64::MAX,
        };
        self.say(Message::Label(label));
    }

    fn revoke(&mut self, detail: u8) {
        let pod = if detail & 1 == 0 { &self.y } else { &self.z };
        let (local_pod, remote_pod) = (pod.uid.as_str().to_owned(), self.x.uid.as_str().to_owned());
        let address = address_bytes(pod.address);
        self.say(match detail >> 1 & 3 {
            0 => Message::LabelRevoke(pb::LabelRevoke {
                local_pod,
                remote_pod,
            }),
            1 => Message::Stale(pb::Stale { address }),
            2 => Message::LabelExtend(pb::LabelExtend {
                src_pod: remote_pod,
                dst_pod: local_pod,
                epoch: self.epoch,
                not_after_unix_ms: u64::MAX,
            }),
            _ => Message::LabelRevoked(pb::LabelRevoked {
                local_pod,
                remote_pod,
            }),
        });
    }

    fn say(&mut self, message: Message) {
        let (kind, payload) = message.encode();
        self.raw(kind, payload);
    }

    fn raw(&mut self, kind: u8, payload: Vec<u8>) {
        if let Some(conn) = self.conn {
            self.world.send_frame(self.b, conn, kind, payload);
            self.pass(Duration::from_millis(60));
        }
    }

    fn pass(&mut self, span: Duration) {
        self.world.run(span);
    }

    /// Takes in what a said.
    fn hear(&mut self) {
        for (_, conn, kind, payload) in std::mem::take(&mut self.world.captured) {
            let message = Message::decode(kind, &payload).expect("an agent sends messages");
            if Some(conn) != self.conn {
                continue;
            }
            if let Message::ProofReq(request) = message {
                self.asked.push(request);
            } else if let Message::Hello(hello) = message {
                self.nonce = hello.proof_nonce.try_into().expect("32 bytes");
                self.boot = hello.boot_id.try_into().expect("16 bytes");
            }
        }
    }

    fn nothing_unproven(&self) {
        let maps = &self.world.nodes[self.a].maps;
        let rows = |pod: &Pod| {
            let of = &pod.entry.pod.addresses;
            let recv = maps.recv.values();
            let recv = recv.filter(|row| row.addresses.iter().any(|own| of.contains(own)));
            let send = maps.send.iter().filter(|(key, row)| {
                let paired = matches!(row, signet_agent_core::rows::SendRow::Paired { .. });
                paired && of.contains(&key.destination)
            });
            (recv.count(), send.count())
        };
        if !self.proven {
            assert_eq!(rows(&self.y), (0, 0), "rows for a pod that nobody proved");
        }
        // What is granted to c is c's, whatever b says about c's pod.
        let peers: std::collections::BTreeSet<_> = maps
            .recv
            .values()
            .filter(|row| row.addresses.contains(&self.z.address))
            .map(|row| row.peer)
            .collect();
        assert_eq!(peers.len(), 1, "c's pod is spoken for by {peers:?}");
        let agent = self.world.nodes[self.a].agent.as_ref().expect("a runs");
        assert!(agent.endpoints().len() == 1);
    }

    fn others_go_on(&mut self) {
        let (forth, back) = (
            self.world.send(&self.x.uid, self.z.address),
            self.world.send(&self.z.uid, self.x.address),
        );
        assert!(
            self.world.arrived(forth) && self.world.arrived(back),
            "the honest pair suffers"
        );
    }
}

/// The ways of a good peer, as asker and as asked, and of a few bad ones.
pub fn seeds() -> Vec<(&'static str, Vec<u8>)> {
    let start = [2, 0, 3, 0];
    let with = |rest: &[u8]| [start.as_slice(), rest].concat();
    let ping = Message::Ping(pb::Ping { nonce: 1 }).encode();
    let junk = [vec![0, ping.0], part(&ping.1), vec![0, 99], part(&[1, 2])].concat();
    vec![
        ("asks", with(&[4, 0, 8, 2, 6, 0, 77, 7, 0])),
        ("asked", with(&[7, 0, 5, 0, 6, 0, 9, 8, 4])),
        ("asks-twice", with(&[4, 0, 4, 5, 11, 0, 9, 4])),
        ("wrong-node", with(&[4, 1, 4, 0])),
        ("foreign-pod", with(&[4, 2 | 128, 11, 2 | 32, 6, 1, 9])),
        ("own-pod", with(&[4, 4 | 192])),
        ("reflected", with(&[4, 16, 4, 8])),
        ("unproven", with(&[4, 32, 6, 0, 1, 9, 4])),
        ("replayed", with(&[4, 0, 4, 8])),
        ("again", with(&[4, 0, 1, 0, 2, 0, 3, 0, 4, 0, 10, 0])),
        ("wrong-confirm", vec![2, 0, 3, 128, 4, 0]),
        ("junk", with(&junk)),
        (
            "keeps",
            with(&[4, 0, 12, 0x10, 12, 0xa0, 12, 0xe0, 12, 0x91, 4, 0]),
        ),
        ("revokes", with(&[4, 0, 9, 0, 9, 1, 9, 2, 9, 3])),
    ]
}
