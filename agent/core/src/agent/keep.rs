//! LABEL_KEEP: after a restart two nodes compare the labels they have of each other, without saying
//! them. What only one side has is of no use to anybody but who should not have it, and goes at once.

use std::net::IpAddr;

use signet_crypto::tls::exporter::{KeepKey, Role};

use crate::{
    agent::Agent,
    effects::Ctx,
    ids::{Epoch, Label, NodeUid},
    io::ChannelRole,
    peer::channel::Channel,
    rows::SendRow,
    wire::{Message, pb},
};

/// Names of one message; a frame has room for four times as many.
const CHUNK: usize = 1024;
/// More labels than a map holds are nobody's.
const MOST: usize = 1 << 18;

impl Agent {
    /// Says what this node has with the peer, of this instance and of the one before.
    pub(super) fn say_kept(&mut self, node: &NodeUid, ctx: &mut Ctx<'_>) {
        let Some(channel) = self.peers.get(node).and_then(|peer| peer.channel.as_ref()) else {
            return;
        };
        let Ok(key) = KeepKey::of(channel.secrets.as_ref()) else {
            return;
        };
        for granted in [false, true] {
            let mut names: Vec<[u8; 16]> = self
                .labels_with(node, granted)
                .into_iter()
                .map(|label| key.name(own(channel), granted, label.value()))
                .collect();
            // In no order that tells which is whose.
            names.sort_unstable();
            let chunks = names.chunks(CHUNK).map(<[_]>::concat);
            let mut chunks: Vec<Vec<u8>> = chunks.collect();
            let rest = chunks.pop().unwrap_or_default();
            for (names, last) in chunks
                .into_iter()
                .map(|names| (names, false))
                .chain([(rest, true)])
            {
                let keep = pb::LabelKeep {
                    granted,
                    names,
                    last,
                };
                ctx.send(channel.conn, &Message::LabelKeep(keep));
            }
        }
    }

    /// The peer says what it has. Rows of the instance before that it knows nothing of go.
    pub(super) fn on_keep(
        &mut self,
        node: &NodeUid,
        keep: &pb::LabelKeep,
        ctx: &mut Ctx<'_>,
    ) -> Result<(), String> {
        let Some(peer) = self.peers.get_mut(node) else {
            return Ok(());
        };
        let held = peer.adopted_addresses();
        let Some(channel) = peer.channel.as_mut() else {
            return Ok(());
        };
        let (names, rest) = keep.names.as_chunks::<16>();
        if !rest.is_empty() {
            return Err("a LABEL_KEEP cut short".to_owned());
        }
        let kept = &mut channel.kept[usize::from(keep.granted)];
        kept.extend(names);
        if kept.len() > MOST {
            return Err("it keeps labels without end".to_owned());
        }
        if !keep.last {
            return Ok(());
        }
        let kept = std::mem::take(kept);
        let key = KeepKey::of(channel.secrets.as_ref()).map_err(|error| error.to_string())?;
        let theirs = own(channel).other();
        let knows = |label: Label| kept.contains(&key.name(theirs, keep.granted, label.value()));
        for (epoch, addresses) in held {
            self.adoption
                .withdraw_unkept(epoch, &addresses, keep.granted, knows, ctx);
        }
        Ok(())
    }

    /// Labels that were given to this node's pods towards the peer's, or (`granted`) the other way.
    fn labels_with(&self, node: &NodeUid, granted: bool) -> Vec<Label> {
        let pairs = self.pairs.iter().filter(|(_, pair)| pair.node == *node);
        let mut labels: Vec<Label> = if granted {
            pairs
                .flat_map(|(_, pair)| pair.grants.iter())
                .map(|grant| grant.label)
                .collect()
        } else {
            pairs
                .flat_map(|(_, pair)| pair.sending.iter().chain(pair.permits.iter()))
                .map(|permit| permit.label)
                .collect()
        };
        let held = self.peers.get(node).map(|peer| peer.adopted_addresses());
        let held = held.unwrap_or_default();
        let is_theirs = |epoch: Epoch, address: &IpAddr| {
            held.iter()
                .any(|(of, addresses)| *of == epoch && addresses.contains(address))
        };
        if granted {
            let rows = self.adoption.recv.iter();
            labels.extend(
                rows.filter(|(_, row)| {
                    row.addresses
                        .iter()
                        .any(|address| is_theirs(row.epoch, address))
                })
                .map(|(label, _)| *label),
            );
        } else {
            for (key, row) in &self.adoption.send {
                match row {
                    SendRow::Paired { tags, .. } => {
                        let tags = tags.iter().flatten();
                        let theirs = tags.filter(|tag| is_theirs(tag.epoch, &key.destination));
                        labels.extend(theirs.map(|tag| tag.label));
                    }
                    SendRow::Refused { .. } => {}
                }
            }
        }
        labels.sort_unstable();
        labels.dedup();
        labels
    }
}

fn own(channel: &Channel) -> Role {
    match channel.role {
        ChannelRole::Client => Role::Client,
        ChannelRole::Server => Role::Server,
    }
}
