//! Which node listens for which pods.

use std::collections::{BTreeMap, BTreeSet};

use super::StreamId;
use crate::cluster::{NodeUid, PodUid};

/// Subscriptions of one stream. A node talks with far fewer pods than this.
pub(super) const MAX_SUBSCRIPTIONS: usize = 100_000;

/// All streams, with their subscriptions.
#[derive(Debug, Default)]
pub(super) struct Streams {
    last: u64,
    streams: BTreeMap<StreamId, Stream>,
    by_node: BTreeMap<NodeUid, StreamId>,
    by_pod: BTreeMap<PodUid, BTreeSet<StreamId>>,
    /// Streams with at least one subscribed pod on that node.
    by_peer: BTreeMap<NodeUid, BTreeSet<StreamId>>,
}

#[derive(Debug)]
struct Stream {
    node: NodeUid,
    pods: BTreeSet<PodUid>,
    /// How many of those pods run on each node.
    peers: BTreeMap<NodeUid, usize>,
}

impl Streams {
    pub(super) fn len(&self) -> usize {
        self.streams.len()
    }

    pub(super) fn all(&self) -> Vec<StreamId> {
        self.streams.keys().copied().collect()
    }

    pub(super) fn of_node(&self, node: &NodeUid) -> Option<StreamId> {
        self.by_node.get(node).copied()
    }

    pub(super) fn node_of(&self, stream: StreamId) -> Option<&NodeUid> {
        self.streams.get(&stream).map(|stream| &stream.node)
    }

    pub(super) fn with_peer(&self, node: &NodeUid) -> Vec<StreamId> {
        self.by_peer
            .get(node)
            .into_iter()
            .flatten()
            .copied()
            .collect()
    }

    /// The new stream, and the one it replaces.
    pub(super) fn open(&mut self, node: NodeUid) -> (StreamId, Option<StreamId>) {
        let replaced = self
            .of_node(&node)
            .filter(|stream| self.close(*stream).is_some());
        self.last += 1;
        let id = StreamId(self.last);
        self.by_node.insert(node.clone(), id);
        let stream = Stream {
            node,
            pods: BTreeSet::new(),
            peers: BTreeMap::new(),
        };
        self.streams.insert(id, stream);
        (id, replaced)
    }

    /// Whose stream it was, if it was there.
    pub(super) fn close(&mut self, id: StreamId) -> Option<NodeUid> {
        let stream = self.streams.remove(&id)?;
        self.by_node.remove(&stream.node);
        for pod in &stream.pods {
            remove(&mut self.by_pod, pod, id);
        }
        for peer in stream.peers.keys() {
            remove(&mut self.by_peer, peer, id);
        }
        Some(stream.node)
    }

    /// Whether the pod's node (if it has one) is new to the stream; `None` if the stream is not there
    /// or has too many subscriptions.
    pub(super) fn subscribe(
        &mut self,
        id: StreamId,
        pod: &PodUid,
        node: Option<&NodeUid>,
    ) -> Option<bool> {
        let stream = self.streams.get_mut(&id)?;
        if stream.pods.contains(pod) {
            return Some(false);
        }
        if stream.pods.len() >= MAX_SUBSCRIPTIONS {
            return None;
        }
        stream.pods.insert(pod.clone());
        self.by_pod.entry(pod.clone()).or_default().insert(id);
        Some(node.is_some_and(|node| self.add_peer(id, node)))
    }

    pub(super) fn unsubscribe(&mut self, id: StreamId, pod: &PodUid, node: Option<&NodeUid>) {
        let Some(stream) = self.streams.get_mut(&id) else {
            return;
        };
        if !stream.pods.remove(pod) {
            return;
        }
        remove(&mut self.by_pod, pod, id);
        if let Some(node) = node {
            self.drop_peer(id, node);
        }
    }

    /// A pod is there (on `appeared_on`, if it was not before) or changed: who hears of it, and
    /// whether its node is new to them.
    pub(super) fn pod_changed(
        &mut self,
        pod: &PodUid,
        appeared_on: Option<&NodeUid>,
    ) -> Vec<(StreamId, bool)> {
        let listeners = self.listeners(pod);
        listeners
            .into_iter()
            .map(|id| (id, appeared_on.is_some_and(|node| self.add_peer(id, node))))
            .collect()
    }

    /// A pod left its node: who hears of it.
    pub(super) fn pod_left(&mut self, pod: &PodUid, node: &NodeUid) -> Vec<StreamId> {
        let listeners = self.listeners(pod);
        for id in &listeners {
            self.drop_peer(*id, node);
        }
        listeners
    }

    fn listeners(&self, pod: &PodUid) -> Vec<StreamId> {
        self.by_pod
            .get(pod)
            .into_iter()
            .flatten()
            .copied()
            .collect()
    }

    fn add_peer(&mut self, id: StreamId, node: &NodeUid) -> bool {
        let Some(stream) = self.streams.get_mut(&id) else {
            return false;
        };
        let count = stream.peers.entry(node.clone()).or_default();
        *count += 1;
        let first = *count == 1;
        if first {
            self.by_peer.entry(node.clone()).or_default().insert(id);
        }
        first
    }

    fn drop_peer(&mut self, id: StreamId, node: &NodeUid) {
        let Some(stream) = self.streams.get_mut(&id) else {
            return;
        };
        let Some(count) = stream.peers.get_mut(node) else {
            return;
        };
        *count -= 1;
        if *count == 0 {
            stream.peers.remove(node);
            remove(&mut self.by_peer, node, id);
        }
    }
}

/// Takes `id` out of the set at `key`, and the set out when it is empty.
fn remove<K: Ord>(map: &mut BTreeMap<K, BTreeSet<StreamId>>, key: &K, id: StreamId) {
    if let Some(set) = map.get_mut(key) {
        set.remove(&id);
        if set.is_empty() {
            map.remove(key);
        }
    }
}
