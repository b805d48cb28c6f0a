//! Keys of a peer: agreed in a channel, told to the engine, used, retired.

use std::net::SocketAddr;

use signet_crypto::{
    tls::exporter::{Role, SlotContext, confirm, confirm_matches, psk},
    wg::PublicKey,
};

use crate::{
    agent::Agent,
    authn::pair::Pair,
    effects::Ctx,
    event::Event,
    ids::{ConnId, Epoch, NodeUid, Slot},
    io::{ChannelRole, TunnelEvent},
    peer::{
        channel::{Channel, Negotiation},
        slot::{Command, Keys, Own, Waiting, next_epoch},
    },
    wire::{Message, pb},
};

/// Offers of one channel that may be refused before it is given up.
const MAX_OFFERS: u32 = 4;

/// What the other side said of its slot.
struct Remote {
    epoch: Epoch,
    public_key: PublicKey,
    port: u16,
}

impl Agent {
    pub(super) fn on_tunnel(&mut self, event: TunnelEvent, ctx: &mut Ctx<'_>) {
        match event {
            TunnelEvent::Welcome { slots, peers } => self.on_welcome(slots, peers, ctx),
            TunnelEvent::Done { seq } => {
                if let Some(waiting) = self.engine.answered(seq) {
                    self.on_engine_done(waiting, ctx);
                }
            }
            TunnelEvent::Failed { seq, error } => {
                let Some(waiting) = self.engine.answered(seq) else {
                    return;
                };
                ctx.event(Event::TunnelFailed { error });
                match waiting.what {
                    // Both sides start over: a channel makes keys once.
                    Command::Set(_) | Command::Allow(_) => {
                        self.drop_channel(&waiting.node, pb::ByeReason::Engine, ctx);
                    }
                    Command::Remove => {}
                }
            }
            TunnelEvent::KeyRenewed {
                seq: _,
                slot,
                public_key,
            } => self.engine.key_renewed(slot, public_key),
            TunnelEvent::Handshake { slot, peer } => self.on_handshake(slot, peer, ctx),
            TunnelEvent::Gone => self.engine.gone(),
        }
    }

    /// The client begins with an offer, the server waits for it.
    pub(super) fn begin_slot(&mut self, node: &NodeUid, ctx: &mut Ctx<'_>) {
        let live = self.live_epoch(node);
        let deadline = ctx.boot() + self.config.timers.handshake;
        let Some(slots) = self.engine.slots else {
            return;
        };
        let Some(peer) = self.peers.get_mut(node) else {
            return;
        };
        let highest = peer.highest;
        let Some(channel) = peer.channel.as_mut() else {
            return;
        };
        if channel.role == ChannelRole::Server {
            return;
        }
        let tries = match channel.negotiation {
            Negotiation::Offered { tries, .. } => tries + 1,
            Negotiation::Awaiting { .. }
            | Negotiation::Keying { .. }
            | Negotiation::Accepted { .. }
            | Negotiation::Ready { .. } => 1,
        };
        let epoch = next_epoch(
            highest.max(channel.their_last),
            live.max(channel.their_live),
        );
        let (own, port) = slots[epoch.slot().index()];
        channel.negotiation = Negotiation::Offered {
            epoch,
            own: (own, port),
            tries,
            deadline,
        };
        let offer = pb::SlotOffer {
            epoch: epoch.0,
            wg_public_key: own.as_bytes().to_vec(),
            port: u32::from(port),
            tag_carriers: 1,
        };
        ctx.send(channel.conn, &Message::SlotOffer(offer));
    }

    pub(super) fn on_slot_offer(
        &mut self,
        node: &NodeUid,
        offer: &pb::SlotOffer,
        ctx: &mut Ctx<'_>,
    ) -> Result<(), String> {
        let remote = remote(offer.epoch, &offer.wg_public_key, offer.port)?;
        let live = self.live_epoch(node);
        let highest = self.epoch_floor(node);
        let Some(channel) = self.peers.get(node).and_then(|peer| peer.channel.as_ref()) else {
            return Ok(());
        };
        let waits = matches!(channel.negotiation, Negotiation::Awaiting { .. });
        if channel.role != ChannelRole::Server || !waits {
            return Err("an unexpected SLOT_OFFER".to_owned());
        }
        let conn = channel.conn;
        // The newer of what both use stays; rows of an older epoch yield, or two nodes that moved
        // on with different epochs would have no slot left to meet in.
        let newest = live.max(channel.their_live);
        let taken = newest.0 != 0 && remote.epoch.slot() == newest.slot();
        if remote.epoch <= highest || taken || !self.engine.is_up() {
            let refuse = pb::SlotRefuse {
                epoch: remote.epoch.0,
                last_epoch: highest.0,
                live_epoch: live.0,
            };
            ctx.send(conn, &Message::SlotRefuse(refuse));
            return Ok(());
        }
        let Some(slots) = self.engine.slots else {
            return Ok(());
        };
        let own = slots[remote.epoch.slot().index()];
        self.set_keys(node, own, &remote, ctx)
    }

    pub(super) fn on_slot_refuse(
        &mut self,
        node: &NodeUid,
        refuse: &pb::SlotRefuse,
        ctx: &mut Ctx<'_>,
    ) -> Result<(), String> {
        let Some(peer) = self.peers.get_mut(node) else {
            return Ok(());
        };
        let Some(channel) = peer.channel.as_mut() else {
            return Ok(());
        };
        match channel.negotiation {
            Negotiation::Offered { epoch, tries, .. } if epoch.0 == refuse.epoch => {
                if tries >= MAX_OFFERS {
                    return Err(format!("{tries} SLOT_OFFERs in a row were refused"));
                }
            }
            Negotiation::Offered { .. }
            | Negotiation::Awaiting { .. }
            | Negotiation::Keying { .. }
            | Negotiation::Accepted { .. }
            | Negotiation::Ready { .. } => return Err("an unexpected SLOT_REFUSE".to_owned()),
        }
        channel.their_last = Epoch(refuse.last_epoch);
        channel.their_live = Epoch(refuse.live_epoch);
        self.begin_slot(node, ctx);
        Ok(())
    }

    pub(super) fn on_slot_accept(
        &mut self,
        node: &NodeUid,
        accept: &pb::SlotAccept,
        ctx: &mut Ctx<'_>,
    ) -> Result<(), String> {
        let remote = remote(accept.epoch, &accept.wg_public_key, accept.port)?;
        let Some(channel) = self.peers.get(node).and_then(|peer| peer.channel.as_ref()) else {
            return Ok(());
        };
        let own = match &channel.negotiation {
            Negotiation::Offered { epoch, own, .. } if *epoch == remote.epoch => *own,
            Negotiation::Offered { .. }
            | Negotiation::Awaiting { .. }
            | Negotiation::Keying { .. }
            | Negotiation::Accepted { .. }
            | Negotiation::Ready { .. } => return Err("an unexpected SLOT_ACCEPT".to_owned()),
        };
        let context = self.context(channel, own, &remote);
        check(channel, &context, Role::Server, &accept.confirm)?;
        self.set_keys(node, own, &remote, ctx)
    }

    /// Empties the slot and gives the new keys to the engine.
    fn set_keys(
        &mut self,
        node: &NodeUid,
        own: Own,
        remote: &Remote,
        ctx: &mut Ctx<'_>,
    ) -> Result<(), String> {
        self.claim_key(node, remote, ctx)?;
        self.vacate(node, remote.epoch.slot(), ctx);
        let deadline = ctx.boot() + self.config.timers.handshake;
        let Some(peer) = self.peers.get(node) else {
            return Ok(());
        };
        let Some(channel) = peer.channel.as_ref() else {
            return Ok(());
        };
        if !self.engine.is_up() {
            return Err("the engine is gone".to_owned());
        }
        let context = self.context(channel, own, remote);
        let psk = psk(channel.secrets.as_ref(), &context).map_err(|error| error.to_string())?;
        let (conn, initiate) = (channel.conn, channel.role == ChannelRole::Client);
        let underlay = SocketAddr::new(peer.underlay(channel.remote.ip()), remote.port);
        let keys = Keys::new(remote.epoch, own.0, remote.public_key, underlay);
        self.engine.set_peer(node, &keys, psk, initiate, conn, ctx);
        let Some(peer) = self.peers.get_mut(node) else {
            return Ok(());
        };
        peer.highest = peer.highest.max(remote.epoch);
        peer.slots[remote.epoch.slot().index()] = Some(keys);
        if let Some(channel) = peer.channel.as_mut() {
            channel.negotiation = Negotiation::Keying {
                context: Box::new(context),
                deadline,
            };
        }
        Ok(())
    }

    /// The engine knows peers by their key: who names another's would take its tunnel away. Whose a
    /// key is, a WireGuard handshake shows; until then who came last has it, so that nobody keeps
    /// its owner out.
    fn claim_key(
        &mut self,
        node: &NodeUid,
        remote: &Remote,
        ctx: &mut Ctx<'_>,
    ) -> Result<(), String> {
        let slot = remote.epoch.slot();
        let holder = self.peers.iter().find_map(|(other, peer)| {
            let keys = peer.slots[slot.index()].as_ref()?;
            (other != node && keys.public_key == remote.public_key)
                .then(|| (other.clone(), keys.proven || keys.adopted))
        });
        match holder {
            Some((other, true)) => Err(format!("its WireGuard key is that of node {other}")),
            Some((other, false)) => {
                self.drop_channel(&other, pb::ByeReason::Engine, ctx);
                self.vacate(&other, slot, ctx);
                Ok(())
            }
            None => Ok(()),
        }
    }

    fn on_handshake(&mut self, slot: Slot, key: PublicKey, ctx: &mut Ctx<'_>) {
        let mut proven = Vec::new();
        for (node, peer) in &mut self.peers {
            let keys = peer.slots[slot.index()].as_mut();
            if let Some(keys) = keys.filter(|keys| keys.public_key == key) {
                keys.proven = true;
                proven.push(node.clone());
            }
        }
        for node in proven {
            self.review_switch(&node, ctx);
        }
    }

    fn on_engine_done(&mut self, waiting: Waiting, ctx: &mut Ctx<'_>) {
        let Waiting {
            node,
            slot,
            epoch,
            what,
        } = waiting;
        match what {
            Command::Set(conn) => self.on_keyed(&node, conn, epoch, ctx),
            Command::Allow(addresses) => {
                let Some(peer) = self.peers.get_mut(&node) else {
                    return;
                };
                let keys = peer.slots[slot.index()].as_mut();
                let Some(keys) = keys.filter(|keys| keys.epoch == epoch) else {
                    return;
                };
                // Only those that waited for this: there may be thousands of others.
                let confirms = |pair: &Pair| {
                    pair.node == node
                        && pair.grants.of(epoch).is_none()
                        && pair
                            .addresses
                            .iter()
                            .all(|address| addresses.contains(address))
                };
                let ready = self.pairs.keys_where(|_, pair| confirms(pair));
                keys.set_confirmed(addresses);
                for key in ready {
                    self.step(&key, ctx);
                }
            }
            Command::Remove => {}
        }
    }

    /// The own engine has the peer: tell the other side.
    fn on_keyed(&mut self, node: &NodeUid, conn: ConnId, epoch: Epoch, ctx: &mut Ctx<'_>) {
        let deadline = ctx.boot() + self.config.timers.handshake;
        let Some(peer) = self.peers.get_mut(node) else {
            return;
        };
        let own = peer.wanted_row();
        let Some(channel) = peer.channel.as_mut().filter(|channel| channel.conn == conn) else {
            return;
        };
        let context = match &channel.negotiation {
            Negotiation::Keying { context, .. } if context.epoch == epoch.0 => context.clone(),
            Negotiation::Keying { .. }
            | Negotiation::Awaiting { .. }
            | Negotiation::Offered { .. }
            | Negotiation::Accepted { .. }
            | Negotiation::Ready { .. } => return,
        };
        let (role, own_key, port) = match channel.role {
            ChannelRole::Client => (Role::Client, context.client_wg, context.client_port),
            ChannelRole::Server => (Role::Server, context.server_wg, context.server_port),
        };
        let confirm = match confirm(channel.secrets.as_ref(), &context, role) {
            Ok(confirm) => confirm.to_vec(),
            Err(error) => return self.violation(conn, node, error.to_string(), ctx),
        };
        debug_assert!(
            own.slot_epoch.contains(&epoch),
            "keys of {epoch} are in no slot"
        );
        match channel.role {
            ChannelRole::Server => {
                let accept = pb::SlotAccept {
                    epoch: epoch.0,
                    wg_public_key: own_key.as_bytes().to_vec(),
                    port: u32::from(port),
                    tag_carriers: 1,
                    confirm,
                };
                channel.negotiation = Negotiation::Accepted { context, deadline };
                ctx.send(conn, &Message::SlotAccept(accept));
            }
            ChannelRole::Client => {
                ctx.send(
                    conn,
                    &Message::SlotReady(pb::SlotReady {
                        epoch: epoch.0,
                        confirm,
                    }),
                );
                self.slot_ready(node, epoch, ctx);
            }
        }
    }

    pub(super) fn on_slot_ready(
        &mut self,
        node: &NodeUid,
        ready: &pb::SlotReady,
        ctx: &mut Ctx<'_>,
    ) -> Result<(), String> {
        let Some(channel) = self.peers.get(node).and_then(|peer| peer.channel.as_ref()) else {
            return Ok(());
        };
        let epoch = match &channel.negotiation {
            Negotiation::Accepted { context, .. } if context.epoch == ready.epoch => {
                check(channel, context, Role::Client, &ready.confirm)?;
                Epoch(context.epoch)
            }
            Negotiation::Accepted { .. }
            | Negotiation::Awaiting { .. }
            | Negotiation::Offered { .. }
            | Negotiation::Keying { .. }
            | Negotiation::Ready { .. } => return Err("an unexpected SLOT_READY".to_owned()),
        };
        self.slot_ready(node, epoch, ctx);
        Ok(())
    }

    /// Packets can go in this epoch: pairs move over.
    fn slot_ready(&mut self, node: &NodeUid, epoch: Epoch, ctx: &mut Ctx<'_>) {
        let force = ctx.boot() + self.config.timers.adoption;
        self.date_keys(node, epoch, ctx);
        let Some(peer) = self.peers.get_mut(node) else {
            return;
        };
        let other = peer.slots[epoch.slot().other().index()].as_mut();
        if let Some(other) = other.filter(|other| other.adopted) {
            other.retire = Some(other.retire.map_or(force, |at| at.min(force)));
        }
        let Some(channel) = peer.channel.as_mut() else {
            return;
        };
        channel.negotiation = Negotiation::Ready { epoch };
        peer.flaps = 0;
        // The client proves its pairs again at once, the server what is left a little later: both
        // at once would do everything twice.
        let client = channel.role == ChannelRole::Client;
        channel.reprove_at = (!client).then(|| ctx.boot() + REPROVE_AFTER);
        ctx.counters.slots_ready += 1;
        ctx.event(Event::SlotReady {
            node: node.clone(),
            epoch,
        });
        self.review_switch(node, ctx);
        self.write_peer(node, ctx);
        if client {
            self.reprove(node, ctx);
        }
        self.step_node(node, ctx);
        self.review_switch(node, ctx);
    }

    /// Wants every pair with rows of another epoch in the channel's.
    pub(super) fn reprove(&mut self, node: &NodeUid, ctx: &mut Ctx<'_>) {
        let Some(epoch) = self.peers.get(node).and_then(|peer| peer.epoch()) else {
            return;
        };
        for key in self.pairs.of_node(node) {
            if let Some(pair) = self.pairs.of_mut(&key)
                && pair.is_behind(epoch)
            {
                pair.wanted.get_or_insert(ctx.now.boot);
            }
        }
    }

    /// What both ends of a slot agree on, in TLS role order.
    fn context(&self, channel: &Channel, own: Own, remote: &Remote) -> SlotContext {
        let (own_key, own_port) = own;
        let own = (
            self.config.node_id.clone(),
            self.config.boot_id,
            own_key,
            own_port,
        );
        let peer = (
            channel.peer_id.clone(),
            channel.boot_id,
            remote.public_key,
            remote.port,
        );
        let (client, server) = match channel.role {
            ChannelRole::Client => (own, peer),
            ChannelRole::Server => (peer, own),
        };
        SlotContext {
            epoch: remote.epoch.0,
            client_node: client.0,
            server_node: server.0,
            client_boot_id: client.1,
            server_boot_id: server.1,
            client_wg: client.2,
            server_wg: server.2,
            client_port: client.3,
            server_port: server.3,
        }
    }
}

/// How long the TLS server waits with proving pairs again.
const REPROVE_AFTER: std::time::Duration = std::time::Duration::from_secs(1);

fn remote(epoch: u64, public_key: &[u8], port: u32) -> Result<Remote, String> {
    let public_key = public_key
        .try_into()
        .map_err(|_| "a WireGuard key of a wrong length")?;
    let port = u16::try_from(port)
        .ok()
        .filter(|port| *port != 0)
        .ok_or("a port out of range")?;
    if epoch == 0 {
        return Err("an epoch of 0".to_owned());
    }
    Ok(Remote {
        epoch: Epoch(epoch),
        public_key: PublicKey(public_key),
        port,
    })
}

fn check(
    channel: &Channel,
    context: &SlotContext,
    role: Role,
    presented: &[u8],
) -> Result<(), String> {
    match confirm_matches(channel.secrets.as_ref(), context, role, presented) {
        Ok(true) => Ok(()),
        Ok(false) => Err("it has derived other keys for the slot".to_owned()),
        Err(error) => Err(error.to_string()),
    }
}
