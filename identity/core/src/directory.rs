//! Which pod runs where, and who must hear of it.
//!
//! [`Directory::apply`] takes the cluster as it is now and finds out what changed. Nodes open a stream
//! and subscribe to pods; what they must hear waits in [`Directory::poll_output`] after every call that
//! changes anything.
//!
//! One generation counts every change of the directory. The numbers go on over restarts of the
//! service, because its upper bits count those (see [`Directory::new`]).

mod streams;

use std::{
    collections::{BTreeMap, VecDeque},
    net::IpAddr,
    sync::Arc,
};

use self::streams::Streams;
use crate::cluster::{Cluster, Node, NodeUid, Pod, PodUid};

/// Bits of the generation that count changes within one run of the service.
const RUN_BITS: u32 = 40;

/// A pod as the service attests it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    /// Of the last change of this entry.
    pub generation: u64,
    /// The pod.
    pub pod: Arc<Pod>,
    /// Its node.
    pub node: Arc<Node>,
}

/// One Watch stream. Later ones have higher numbers.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct StreamId(pub u64);

/// Something a stream must hear.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Event {
    /// A subscribed pod is there, or changed.
    Entry(Arc<Entry>),
    /// A subscribed pod is not there, or not any more.
    Gone {
        /// Which.
        pod: PodUid,
        /// Of its going, or of now if it was not there.
        generation: u64,
    },
    /// A node is not there any more.
    NodeGone(NodeUid),
    /// The stream of a node with subscribed pods is up or down.
    PeerStream {
        /// Whose.
        node: NodeUid,
        /// Which.
        up: bool,
    },
}

/// Why a stream must end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Close {
    /// The node opened another.
    Replaced,
    /// The node is not there any more.
    NodeGone,
}

/// What is to be done after a call.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Output {
    /// Send this.
    Push(StreamId, Event),
    /// End this stream.
    Close(StreamId, Close),
}

/// All live pods, and all streams.
#[derive(Debug)]
pub struct Directory {
    generation: u64,
    nodes: BTreeMap<NodeUid, Arc<Node>>,
    node_names: BTreeMap<String, NodeUid>,
    entries: BTreeMap<PodUid, Arc<Entry>>,
    addresses: BTreeMap<IpAddr, PodUid>,
    /// For a node's going up and down.
    pods_of: BTreeMap<NodeUid, Vec<PodUid>>,
    streams: Streams,
    outputs: VecDeque<Output>,
}

impl Directory {
    /// An empty directory for the `run`-th start of the service (from 1): its generations are higher
    /// than those of every earlier run.
    #[must_use]
    pub fn new(run: u32) -> Self {
        Self {
            generation: u64::from(run) << RUN_BITS,
            nodes: BTreeMap::new(),
            node_names: BTreeMap::new(),
            entries: BTreeMap::new(),
            addresses: BTreeMap::new(),
            pods_of: BTreeMap::new(),
            streams: Streams::default(),
            outputs: VecDeque::new(),
        }
    }

    /// Of the last change.
    pub fn generation(&self) -> u64 {
        self.generation
    }

    /// Every node.
    pub fn nodes(&self) -> impl Iterator<Item = &Arc<Node>> {
        self.nodes.values()
    }

    /// The node with that UID.
    pub fn node(&self, uid: &NodeUid) -> Option<&Arc<Node>> {
        self.nodes.get(uid)
    }

    /// The node with that name.
    pub fn node_named(&self, name: &str) -> Option<&Arc<Node>> {
        self.nodes.get(self.node_names.get(name)?)
    }

    /// How many live pods run on a node.
    pub fn pods_on(&self, node: &NodeUid) -> usize {
        self.pods_of.get(node).map_or(0, Vec::len)
    }

    /// How many live pods there are.
    pub fn len(&self) -> usize {
        self.entries.len()
    }

    /// Whether there is no live pod.
    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    /// The live pod with that UID.
    pub fn entry(&self, pod: &PodUid) -> Option<Arc<Entry>> {
        self.entries.get(pod).cloned()
    }

    /// The live pod with that address.
    pub fn at(&self, address: IpAddr) -> Option<Arc<Entry>> {
        self.entry(self.addresses.get(&address.to_canonical())?)
    }

    /// Whether the node's stream is up.
    pub fn is_streaming(&self, node: &NodeUid) -> bool {
        self.streams.of_node(node).is_some()
    }

    /// How many streams are up.
    pub fn streaming(&self) -> usize {
        self.streams.len()
    }

    /// What waits to be done. Call until `None` after every call that takes `&mut self`.
    pub fn poll_output(&mut self) -> Option<Output> {
        self.outputs.pop_front()
    }

    /// Takes the cluster as it is now. What went is gone before anything new is there, so that an
    /// address never has two pods.
    pub fn apply(&mut self, cluster: Cluster) {
        let Cluster { nodes, mut pods } = cluster;
        pods.retain(|_, pod| nodes.contains_key(&pod.node));
        self.remove_pods(&pods);
        self.replace_nodes(nodes);
        self.put_pods(pods);
        self.index();
    }

    /// Opens the stream of a node, in place of its earlier one.
    ///
    /// # Errors
    /// `None` if there is no such node.
    pub fn open(&mut self, node: &NodeUid) -> Option<StreamId> {
        let known = self.nodes.get(node)?.uid.clone();
        let was_up = self.is_streaming(node);
        let (stream, replaced) = self.streams.open(known);
        if let Some(replaced) = replaced {
            self.outputs
                .push_back(Output::Close(replaced, Close::Replaced));
        }
        if !was_up {
            self.tell_peers(node, true);
        }
        Some(stream)
    }

    /// A stream ended, whoever ended it. Unknown ones are ignored.
    pub fn closed(&mut self, stream: StreamId) {
        if let Some(node) = self.streams.close(stream) {
            self.tell_peers(&node, false);
        }
    }

    /// The stream wants to hear of a pod, and hears at once how it is. False if it has too many
    /// subscriptions.
    pub fn subscribe(&mut self, stream: StreamId, pod: &PodUid) -> bool {
        let entry = self.entries.get(pod).cloned();
        let Some(new_peer) =
            self.streams
                .subscribe(stream, pod, entry.as_ref().map(|entry| &entry.node.uid))
        else {
            return self.streams.node_of(stream).is_none();
        };
        let generation = self.generation;
        self.outputs.push_back(Output::Push(
            stream,
            match &entry {
                Some(entry) => Event::Entry(Arc::clone(entry)),
                None => Event::Gone {
                    pod: pod.clone(),
                    generation,
                },
            },
        ));
        if let Some(entry) = entry.filter(|_| new_peer) {
            self.push_peer(stream, &entry.node.uid);
        }
        true
    }

    /// The stream wants to hear no more of a pod.
    pub fn unsubscribe(&mut self, stream: StreamId, pod: &PodUid) {
        let node = self.entries.get(pod).map(|entry| entry.node.uid.clone());
        self.streams.unsubscribe(stream, pod, node.as_ref());
    }

    fn remove_pods(&mut self, now: &BTreeMap<PodUid, Pod>) {
        // A pod that is on another node than before is another pod: the old one goes first.
        let stays = |pod: &PodUid, entry: &Arc<Entry>| {
            now.get(pod).is_some_and(|pod| pod.node == entry.node.uid)
        };
        let gone: Vec<_> = self
            .entries
            .iter()
            .filter(|(uid, entry)| !stays(uid, entry))
            .map(|(uid, entry)| (uid.clone(), entry.node.uid.clone()))
            .collect();
        for (pod, node) in gone {
            self.entries.remove(&pod);
            self.generation += 1;
            let event = Event::Gone {
                pod: pod.clone(),
                generation: self.generation,
            };
            for stream in self.streams.pod_left(&pod, &node) {
                self.outputs.push_back(Output::Push(stream, event.clone()));
            }
        }
    }

    fn replace_nodes(&mut self, now: BTreeMap<NodeUid, Node>) {
        let gone: Vec<_> = self
            .nodes
            .keys()
            .filter(|uid| !now.contains_key(*uid))
            .cloned()
            .collect();
        for uid in gone {
            self.nodes.remove(&uid);
            self.generation += 1;
            if let Some(stream) = self.streams.of_node(&uid) {
                self.streams.close(stream);
                self.outputs
                    .push_back(Output::Close(stream, Close::NodeGone));
            }
            for stream in self.streams.all() {
                let event = Event::NodeGone(uid.clone());
                self.outputs.push_back(Output::Push(stream, event));
            }
        }
        for (uid, node) in now {
            // Kept as it is if it did not change, so that its pods' entries share it.
            if self.nodes.get(&uid).is_none_or(|held| **held != node) {
                self.nodes.insert(uid, Arc::new(node));
            }
        }
        self.node_names = self
            .nodes
            .values()
            .map(|node| (node.name.clone(), node.uid.clone()))
            .collect();
    }

    fn put_pods(&mut self, now: BTreeMap<PodUid, Pod>) {
        for (uid, pod) in now {
            let Some(node) = self.nodes.get(&pod.node).cloned() else {
                continue;
            };
            let before = self.entries.get(&uid);
            if before.is_some_and(|entry| *entry.pod == pod && *entry.node == *node) {
                continue;
            }
            let is_new = before.is_none();
            self.generation += 1;
            let entry = Arc::new(Entry {
                generation: self.generation,
                pod: Arc::new(pod),
                node,
            });
            self.entries.insert(uid.clone(), Arc::clone(&entry));
            let node = &entry.node.uid;
            for (stream, new_peer) in self.streams.pod_changed(&uid, is_new.then_some(node)) {
                self.outputs
                    .push_back(Output::Push(stream, Event::Entry(Arc::clone(&entry))));
                if new_peer {
                    self.push_peer(stream, node);
                }
            }
        }
    }

    fn index(&mut self) {
        self.addresses.clear();
        self.pods_of.clear();
        for (uid, entry) in &self.entries {
            let addresses = entry.pod.addresses.iter();
            self.addresses
                .extend(addresses.map(|ip| (ip.to_canonical(), uid.clone())));
            self.pods_of
                .entry(entry.node.uid.clone())
                .or_default()
                .push(uid.clone());
        }
    }

    fn tell_peers(&mut self, node: &NodeUid, up: bool) {
        for stream in self.streams.with_peer(node) {
            let event = Event::PeerStream {
                node: node.clone(),
                up,
            };
            self.outputs.push_back(Output::Push(stream, event));
        }
    }

    fn push_peer(&mut self, stream: StreamId, node: &NodeUid) {
        let up = self.is_streaming(node);
        let event = Event::PeerStream {
            node: node.clone(),
            up,
        };
        self.outputs.push_back(Output::Push(stream, event));
    }
}
