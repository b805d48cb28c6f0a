//! A peer played by hand: it has its node's certificate and says whatever a test wants.

use std::sync::Arc;

use signet_crypto::{
    svid::X509Svid,
    tls::exporter::{Role, SlotContext, confirm},
    wg::PublicKey,
    x509::profile::{Binding, Purpose},
};

use super::*;
use crate::{
    authn::proof::Proofs,
    ids::ConnId,
    sim::network::SimSecrets,
    wire::{Message, address_bytes, pb},
};

pub(super) struct Puppet {
    pub(super) two: Two,
    conn: ConnId,
    proofs: Proofs,
    secrets: SimSecrets,
    last_id: u64,
    pub(super) closed: bool,
}

/// The boot that the puppet says it is of.
const BOOT: [u8; 16] = [7; 16];
/// Its WireGuard key.
const KEY: PublicKey = PublicKey([3; 32]);

impl Puppet {
    /// Node b's agent is gone; a test talks to a in its name, as TLS client, with a slot agreed.
    pub(super) fn new(seed: u64) -> Self {
        let mut puppet = Self::greeted(Two::new(seed));
        let Some(Message::SlotAccept(accept)) = puppet.offer(KEY) else {
            panic!("no SLOT_ACCEPT")
        };
        let nodes = &puppet.two.world.nodes;
        let context = SlotContext {
            epoch: 1,
            client_node: nodes[puppet.two.b].facts.spiffe_id.clone(),
            server_node: nodes[puppet.two.a].facts.spiffe_id.clone(),
            client_boot_id: BOOT,
            server_boot_id: nodes[puppet.two.a].boot_id,
            client_wg: KEY,
            server_wg: PublicKey(accept.wg_public_key.try_into().unwrap()),
            client_port: 51831,
            server_port: u16::try_from(accept.port).unwrap(),
        };
        let expected = confirm(&puppet.secrets, &context, Role::Server).unwrap();
        assert_eq!(accept.confirm, expected);
        let confirm = confirm(&puppet.secrets, &context, Role::Client).unwrap();
        puppet.say(Message::SlotReady(pb::SlotReady {
            epoch: 1,
            confirm: confirm.to_vec(),
        }));
        assert!(puppet.hear().is_none());
        puppet
    }

    /// The same, with nothing said but HELLO.
    pub(super) fn greeted(mut two: Two) -> Self {
        two.world.kill(two.b);
        two.world.oracle.strict = false;
        let (a, b) = (two.a, two.b);
        let (uid, id) = (
            two.world.nodes[a].facts.uid.clone(),
            two.world.nodes[a].facts.spiffe_id.clone(),
        );
        two.world.run(Duration::from_millis(100));
        two.world.captured.clear();
        two.world.connect(b, &uid, &id);
        let link = two.world.links_between(a, b).pop().unwrap();
        let secrets = SimSecrets {
            seed: link.seed.clone(),
            role: Role::Client,
        };
        two.world.run(Duration::from_millis(100));
        let Some(Message::Hello(hello)) = take(&mut two.world, b) else {
            panic!("no HELLO")
        };
        let nonce: [u8; 32] = hello.proof_nonce.try_into().unwrap();
        let proofs = Proofs::new(&secrets, [9; 32], nonce).unwrap();
        let mut puppet = Self {
            two,
            conn: link.client.1,
            proofs,
            secrets,
            last_id: 0,
            closed: false,
        };
        puppet.say(Message::Hello(pb::Hello {
            proto: 1,
            node_uid: puppet.two.world.nodes[b].facts.uid.as_str().to_owned(),
            boot_id: BOOT.to_vec(),
            instance: 1,
            proof_nonce: vec![9; 32],
            ..pb::Hello::default()
        }));
        puppet
    }

    /// Offers the first epoch under a WireGuard key, and gives back the answer.
    pub(super) fn offer(&mut self, key: PublicKey) -> Option<Message> {
        self.say(Message::SlotOffer(Self::offered(key)));
        self.hear()
    }

    pub(super) fn offered(key: PublicKey) -> pb::SlotOffer {
        pb::SlotOffer {
            epoch: 1,
            wg_public_key: key.as_bytes().to_vec(),
            port: 51831,
            tag_carriers: 1,
        }
    }

    /// Hands a message to a at once: nothing else happens before it.
    pub(super) fn hand(&mut self, message: &Message) {
        let link = self.two.world.links_between(self.two.a, self.two.b).pop();
        let (kind, payload) = message.encode();
        let conn = link.unwrap().server.1;
        let input = crate::Input::Frame {
            conn,
            kind,
            payload,
        };
        self.two.world.input(self.two.a, input);
    }

    /// What a has counted.
    pub(super) fn counters(&self) -> crate::Counters {
        self.two.agent(self.two.a).counters()
    }

    pub(super) fn say(&mut self, message: Message) {
        let (kind, payload) = message.encode();
        self.raw(kind, payload);
    }

    pub(super) fn raw(&mut self, kind: u8, payload: Vec<u8>) {
        let link = self.two.world.links_between(self.two.a, self.two.b).pop();
        let Some(link) = link else {
            self.closed = true;
            return;
        };
        self.two
            .world
            .send_frame(self.two.b, link.client.1, kind, payload);
        self.two.world.run(Duration::from_millis(100));
        self.closed = self
            .two
            .world
            .links_between(self.two.a, self.two.b)
            .is_empty();
    }

    /// The next message of a, if there is one.
    pub(super) fn hear(&mut self) -> Option<Message> {
        self.two.world.run(Duration::from_millis(100));
        self.heard()
    }

    /// The next message of a that is here already.
    pub(super) fn heard(&mut self) -> Option<Message> {
        take(&mut self.two.world, self.two.b)
    }

    /// An agent-plane certificate of y, bound to `node`.
    pub(super) fn svid(&mut self, of: &Pod, node: NodeIx) -> Arc<X509Svid> {
        let id = of.entry.spiffe_id.clone();
        let node = self.two.world.nodes[node].facts.spiffe_id.clone();
        let entry = &of.entry;
        let binding = Binding::new(
            &node,
            entry.namespace_uid.clone(),
            entry.service_account_uid.clone(),
        );
        self.two.world.issue(id, Purpose::AgentPlane, Some(binding))
    }

    /// A question for x in the name of `source`; `svid` proves it, if there is one.
    pub(super) fn request(&mut self, source: &Pod, svid: Option<&X509Svid>) -> pb::ProofReq {
        self.last_id += 1;
        let made = svid.map(|svid| self.proofs.prove(svid).unwrap());
        let (proof_n, authenticator) = made
            .map(|made| (made.n, made.authenticator))
            .unwrap_or_default();
        let x = &self.two.x;
        pb::ProofReq {
            id: self.last_id,
            src_pod: source.uid.as_str().to_owned(),
            dst_pod: x.uid.as_str().to_owned(),
            dst_address: address_bytes(x.address),
            proof_n,
            authenticator,
            have_proof: false,
        }
    }

    /// Asks, and says how it was answered; `None` is a grant.
    pub(super) fn ask(&mut self, request: pb::ProofReq) -> Option<pb::Refusal> {
        let id = request.id;
        self.say(Message::ProofReq(request));
        let proof = match self.hear() {
            Some(Message::Proof(proof)) => proof,
            other => panic!("no PROOF but {:?}", other.map(|message| message.name())),
        };
        assert_eq!(proof.id, id);
        if proof.refusal() != pb::Refusal::None {
            assert!(proof.authenticator.is_empty(), "a refusal proves nothing");
            assert!(self.hear().is_none(), "and grants nothing");
            return Some(proof.refusal());
        }
        let Some(Message::Label(_)) = self.hear() else {
            panic!("no LABEL")
        };
        None
    }

    pub(super) fn conn(&self) -> ConnId {
        self.conn
    }
}

fn take(world: &mut World, node: NodeIx) -> Option<Message> {
    while !world.captured.is_empty() {
        let (to, _, kind, payload) = world.captured.remove(0);
        let message = Message::decode(kind, &payload).unwrap();
        let own = matches!(&message, Message::Proof(proof) if proof.id == 0);
        let aside = matches!(
            message,
            Message::Ping(_) | Message::SlotPrepared(_) | Message::SlotTx(_)
        );
        if to == node && !own && !aside {
            return Some(message);
        }
    }
    None
}
