//! Two nodes meet: TLS is done, both say HELLO, and one channel of possibly several is kept.

use crate::{
    agent::{Agent, Deferred},
    effects::Ctx,
    event::{Event, PairEnd},
    ids::{NodeUid, Slot},
    io::{ChannelRole, Connected},
    peer::{
        Dial,
        channel::{Channel, Greeting, KEEPS, peer_of},
        glare::{Contender, Outcome, decide},
    },
    wire::{Message, PROTO, pb},
};

impl Agent {
    /// TLS is done.
    pub(super) fn on_connected(&mut self, connected: Connected, ctx: &mut Ctx<'_>) {
        if !self.started {
            let frames = Vec::new();
            self.deferred.push(Deferred { connected, frames });
            return;
        }
        let conn = connected.conn;
        let node = match peer_of(&connected, &self.config) {
            Ok(node) => node,
            Err(error) => {
                let peer = connected.peer.id.to_string();
                return self.violation_of(conn, peer, error.to_string(), ctx);
            }
        };
        let role = connected.role;
        let live = self.live_epoch(&node);
        let deadline = ctx.boot() + self.config.timers.handshake;
        let mut nonce = [0; 32];
        ctx.random.fill(&mut nonce);
        let trust = self.trust.as_ref().map_or(0, |bundle| bundle.sequence());
        let (boot_id, instance) = (self.config.boot_id.to_vec(), self.config.instance);
        let node_uid = self.config.node_uid.as_str().to_owned();
        let peer = self.ensure_peer(&node, ctx);
        if role == ChannelRole::Client {
            peer.dial = Dial::Idle;
        }
        let hello = pb::Hello {
            proto: PROTO,
            node_uid,
            boot_id,
            instance,
            bundle_sequence: trust,
            crl_number: 0,
            time_ms: ctx.now.wall.as_secs().saturating_mul(1000),
            features: KEEPS,
            proof_nonce: nonce.to_vec(),
            last_epoch: peer.highest.0,
            live_epoch: live.0,
            follows: peer.dialled.0,
        };
        let follows = peer.dialled;
        peer.greetings.insert(
            conn,
            Greeting {
                connected,
                nonce,
                follows,
                deadline,
            },
        );
        self.conns.insert(conn, node);
        ctx.send(conn, &Message::Hello(hello));
    }

    /// Both sides said HELLO: this channel, or the one in use?
    pub(super) fn on_hello(
        &mut self,
        node: &NodeUid,
        greeting: Greeting,
        hello: &pb::Hello,
        ctx: &mut Ctx<'_>,
    ) {
        let conn = greeting.connected.conn;
        let channel = match greeting.open(hello, node, &self.config, ctx.now) {
            Ok(channel) => channel,
            Err(error) => return self.violation(conn, node, error.to_string(), ctx),
        };
        let Some(peer) = self.peers.get(node) else {
            return;
        };
        if let Some((boot, instance)) = peer.boot {
            let older = boot == channel.boot_id && channel.instance < instance;
            if older {
                return self.close_conn(conn, pb::ByeReason::Replaced, ctx);
            }
        }
        let new = contender(&channel);
        match peer
            .channel
            .as_ref()
            .map(|current| decide(contender(current), new))
        {
            Some(Outcome::KeepCurrent) => {
                return self.close_conn(conn, pb::ByeReason::Glare, ctx);
            }
            Some(Outcome::Replace) => {
                let newer = peer
                    .channel
                    .as_ref()
                    .is_some_and(|c| c.instance < channel.instance);
                let renews = peer
                    .channel
                    .as_ref()
                    .is_some_and(|c| c.follows < channel.follows);
                let reason = if newer {
                    pb::ByeReason::Replaced
                } else if renews {
                    pb::ByeReason::Renewed
                } else {
                    pb::ByeReason::Glare
                };
                self.drop_channel(node, reason, ctx);
            }
            Some(Outcome::Rebooted) => self.drop_channel(node, pb::ByeReason::Replaced, ctx),
            None => {}
        }
        let rebooted = self
            .peers
            .get(node)
            .and_then(|peer| peer.boot)
            .is_some_and(|b| b.0 != channel.boot_id);
        if rebooted {
            self.on_peer_booted(node, ctx);
        }
        self.open_channel(node, channel, ctx);
    }

    pub(super) fn open_channel(&mut self, node: &NodeUid, channel: Channel, ctx: &mut Ctx<'_>) {
        let conn = channel.conn;
        let (theirs, client) = (channel.their_live, channel.role == ChannelRole::Client);
        let own = self.live_epoch(node);
        let Some(peer) = self.peers.get_mut(node) else {
            return;
        };
        peer.boot = Some((channel.boot_id, channel.instance));
        peer.highest = peer.highest.max(channel.their_last);
        peer.dial = match peer.dial {
            Dial::Waiting { .. } | Dial::Idle => Dial::Idle,
            Dial::Dialling { .. } => Dial::Dialling { failures: 0 },
        };
        peer.problem = None;
        peer.their_tx = theirs;
        let (expires, keeps) = (channel.peer_expires, channel.keeps);
        peer.channel = Some(channel);
        ctx.counters.channels_opened += 1;
        ctx.event(Event::ChannelOpen {
            node: node.clone(),
            conn,
        });
        // The handshake proved the node's certificate.
        self.on_node_proven(node, expires, ctx);
        self.prove_renewed(node, ctx);
        if keeps {
            self.say_kept(node, ctx);
        }
        self.settle(node, theirs, ctx);
        // A node that is half-way through a switch first leaves the slot that is to be filled.
        let apart = own.0 != 0 && theirs.0 != 0 && own != theirs;
        if apart && client {
            let at = ctx.boot() + MOVE_OUT;
            if let Some(channel) = self.channel_mut(node) {
                channel.offer_at = Some(at);
            }
        } else {
            self.begin_slot(node, ctx);
        }
        self.step_node(node, ctx);
    }

    /// All that was agreed with the boot before died with it.
    pub(super) fn on_peer_booted(&mut self, node: &NodeUid, ctx: &mut Ctx<'_>) {
        for key in self.pairs.of_node(node) {
            if self
                .pairs
                .of(&key)
                .is_some_and(crate::authn::pair::Pair::has_rows)
            {
                self.close_pair(&key, PairEnd::PeerBooted, false, ctx);
            }
        }
        for slot in Slot::ALL {
            self.vacate(node, slot, ctx);
        }
    }
}

/// How long packets that have left a node may be under way to the other.
const MOVE_OUT: std::time::Duration = std::time::Duration::from_secs(1);

fn contender(channel: &Channel) -> Contender<'_> {
    Contender {
        boot_id: &channel.boot_id,
        instance: channel.instance,
        follows: channel.follows,
        client: &channel.client,
    }
}
