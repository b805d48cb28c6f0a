//! The directory against the dumbest listener: whoever applies what it is pushed must know the truth.
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    reason = "a test that cannot go on ends"
)]

mod common;

use std::collections::{BTreeMap, BTreeSet};

use common::{cluster, node, node_uid, pod, uid};
use proptest::{prelude::*, sample::Index};
use signet_identity_core::{
    cluster::{Cluster, Pod},
    directory::{Close, Directory, Event, Output, StreamId},
};

fn drain(directory: &mut Directory) -> Vec<Output> {
    std::iter::from_fn(|| directory.poll_output()).collect()
}

#[test]
fn lookups_see_pods_appear_change_and_disappear() {
    let mut directory = Directory::new(1);
    let first = directory.generation();
    directory.apply(cluster([node("a")], [pod("p1", "a", "10.1.1.1", "web")]));
    let entry = directory.at("::ffff:10.1.1.1".parse().unwrap()).unwrap();
    assert_eq!(
        (entry.pod.uid.clone(), entry.node.uid.clone()),
        (uid("p1"), node_uid("a"))
    );
    assert!(entry.generation > first);

    directory.apply(cluster([node("a")], [pod("p1", "a", "10.1.1.2", "web")]));
    assert!(directory.at("10.1.1.1".parse().unwrap()).is_none());
    let moved = directory.at("10.1.1.2".parse().unwrap()).unwrap();
    assert!(moved.generation > entry.generation);

    let unchanged = directory.generation();
    directory.apply(cluster([node("a")], [pod("p1", "a", "10.1.1.2", "web")]));
    assert_eq!(directory.generation(), unchanged);

    // The address goes to another pod at once.
    directory.apply(cluster([node("a")], [pod("p2", "a", "10.1.1.2", "db")]));
    assert_eq!(
        directory.at("10.1.1.2".parse().unwrap()).unwrap().pod.uid,
        uid("p2")
    );
    assert!(directory.entry(&uid("p1")).is_none());
    assert_eq!((directory.len(), directory.pods_on(&node_uid("a"))), (1, 1));

    // Without its node, a pod is nowhere.
    directory.apply(cluster([], [pod("p2", "a", "10.1.1.2", "db")]));
    assert!(directory.is_empty());
}

#[test]
fn generations_go_on_over_restarts() {
    let mut before = Directory::new(1);
    for round in 0..1000 {
        before.apply(cluster(
            [node("a")],
            (round % 2 == 0).then(|| pod("p", "a", "10.1.1.1", "web")),
        ));
    }
    assert!(Directory::new(2).generation() > before.generation());
}

#[test]
fn a_node_that_goes_loses_its_stream_and_everybody_hears() {
    let mut directory = Directory::new(1);
    let both = || [node("a"), node("b")];
    directory.apply(cluster(both(), [pod("p1", "a", "10.1.1.1", "web")]));
    let a = directory.open(&node_uid("a")).unwrap();
    let b = directory.open(&node_uid("b")).unwrap();
    assert!(directory.open(&node_uid("c")).is_none());
    assert!(directory.subscribe(b, &uid("p1")));
    drain(&mut directory);
    directory.apply(cluster([node("b")], []));
    let generation = directory.generation() - 1;
    assert_eq!(
        drain(&mut directory),
        [
            Output::Push(
                b,
                Event::Gone {
                    pod: uid("p1"),
                    generation
                }
            ),
            Output::Close(a, Close::NodeGone),
            Output::Push(b, Event::NodeGone(node_uid("a"))),
        ]
    );
    assert!(directory.open(&node_uid("a")).is_none());
    // Its reader notices later that the stream has ended.
    directory.closed(a);
    assert!(drain(&mut directory).is_empty());
}

#[test]
fn a_second_stream_of_a_node_replaces_the_first_without_a_flicker() {
    let mut directory = Directory::new(1);
    directory.apply(cluster(
        [node("a"), node("b")],
        [pod("p1", "a", "10.1.1.1", "web")],
    ));
    let b = directory.open(&node_uid("b")).unwrap();
    directory.subscribe(b, &uid("p1"));
    drain(&mut directory);
    let peer = |up| {
        Output::Push(
            b,
            Event::PeerStream {
                node: node_uid("a"),
                up,
            },
        )
    };

    let first = directory.open(&node_uid("a")).unwrap();
    assert_eq!(drain(&mut directory), [peer(true)]);
    let second = directory.open(&node_uid("a")).unwrap();
    assert_eq!(
        drain(&mut directory),
        [Output::Close(first, Close::Replaced)]
    );
    directory.closed(first);
    assert!(drain(&mut directory).is_empty() && directory.is_streaming(&node_uid("a")));
    directory.closed(second);
    assert_eq!(drain(&mut directory), [peer(false)]);
}

/// What a listener knows by what it was told.
#[derive(Default)]
struct Listener {
    subscribed: BTreeSet<usize>,
    pods: BTreeMap<String, Option<Pod>>,
    generations: BTreeMap<String, u64>,
    peers: BTreeMap<String, bool>,
}

impl Listener {
    fn hear(&mut self, event: Event) {
        match event {
            Event::Entry(entry) => {
                let uid = entry.pod.uid.to_string();
                self.note(&uid, entry.generation);
                self.pods.insert(uid, Some((*entry.pod).clone()));
            }
            Event::Gone { pod, generation } => {
                self.note(&pod.to_string(), generation);
                self.pods.insert(pod.to_string(), None);
            }
            Event::NodeGone(node) => drop(self.peers.remove(&node.to_string())),
            Event::PeerStream { node, up } => drop(self.peers.insert(node.to_string(), up)),
        }
    }

    fn note(&mut self, pod: &str, generation: u64) {
        let before = self.generations.insert(pod.to_owned(), generation);
        assert!(
            before.is_none_or(|before| before <= generation),
            "{pod} went back in time"
        );
    }
}

#[derive(Clone, Debug)]
enum Step {
    /// Which nodes are there, and for each pod: node, address and whether its labels changed.
    Apply(Vec<bool>, Vec<Option<(usize, u8, bool)>>),
    Open(usize),
    Close(Index),
    Subscribe(Index, usize),
    Unsubscribe(Index, usize),
}

const NODES: usize = 4;
const PODS: usize = 5;

fn step() -> impl Strategy<Value = Step> {
    let pod = prop::option::of((0..NODES, 0..4u8, any::<bool>()));
    prop_oneof![
        3 => (prop::collection::vec(prop::bool::weighted(0.8), NODES), prop::collection::vec(pod, PODS))
            .prop_map(|(nodes, pods)| Step::Apply(nodes, pods)),
        2 => (0..NODES).prop_map(Step::Open),
        1 => any::<Index>().prop_map(Step::Close),
        5 => (any::<Index>(), 0..PODS).prop_map(|(stream, pod)| Step::Subscribe(stream, pod)),
        2 => (any::<Index>(), 0..PODS).prop_map(|(stream, pod)| Step::Unsubscribe(stream, pod)),
    ]
}

fn build(nodes: &[bool], pods: &[Option<(usize, u8, bool)>]) -> Cluster {
    let nodes = nodes.iter().enumerate().filter(|(_, there)| **there);
    let pods = pods.iter().enumerate().filter_map(|(number, pod_)| {
        let (on, address, changed) = (*pod_)?;
        // Addresses are unique: their third byte is the pod's number.
        let address = format!("10.1.{number}.{address}");
        let mut pod = pod(&format!("p{number}"), &format!("n{on}"), &address, "web");
        if changed {
            pod.labels.insert("changed".into(), "yes".into());
        }
        Some(pod)
    });
    cluster(nodes.map(|(number, _)| node(&format!("n{number}"))), pods)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(400))]
    #[test]
    fn whoever_applies_what_it_hears_knows_the_truth(steps in prop::collection::vec(step(), 1..60)) {
        let mut directory = Directory::new(1);
        let mut listeners: BTreeMap<StreamId, Listener> = BTreeMap::new();
        let mut generation = directory.generation();
        for step in steps {
            let pick = |index: Index| {
                let ids: Vec<_> = listeners.keys().copied().collect();
                (!ids.is_empty()).then(|| *index.get(&ids))
            };
            match step {
                Step::Apply(nodes, pods) => directory.apply(build(&nodes, &pods)),
                Step::Open(number) => {
                    if let Some(stream) = directory.open(&node_uid(&format!("n{number}"))) {
                        listeners.insert(stream, Listener::default());
                    }
                }
                Step::Close(index) => if let Some(stream) = pick(index) {
                    listeners.remove(&stream);
                    directory.closed(stream);
                },
                Step::Subscribe(index, number) => if let Some(stream) = pick(index) {
                    listeners.get_mut(&stream).unwrap().subscribed.insert(number);
                    let accepted = directory.subscribe(stream, &uid(&format!("p{number}")));
                    prop_assert!(accepted);
                },
                Step::Unsubscribe(index, number) => if let Some(stream) = pick(index) {
                    let listener = listeners.get_mut(&stream).unwrap();
                    listener.subscribed.remove(&number);
                    listener.pods.remove(&format!("p{number}"));
                    directory.unsubscribe(stream, &uid(&format!("p{number}")));
                },
            }
            while let Some(output) = directory.poll_output() {
                match output {
                    Output::Push(stream, event) => {
                        let listener = listeners.get_mut(&stream);
                        prop_assert!(listener.is_some(), "pushed to a stream that has ended");
                        listener.unwrap().hear(event);
                    }
                    Output::Close(stream, _) => drop(listeners.remove(&stream)),
                }
            }
            prop_assert!(directory.generation() >= generation);
            generation = directory.generation();
            prop_assert_eq!(directory.streaming(), listeners.len());
            for listener in listeners.values() {
                for number in &listener.subscribed {
                    let name = format!("p{number}");
                    let entry = directory.entry(&uid(&name));
                    let known = &listener.pods[&name];
                    prop_assert_eq!(known.as_ref(), entry.as_ref().map(|entry| &*entry.pod));
                    if let Some(entry) = entry {
                        let up = directory.is_streaming(&entry.node.uid);
                        prop_assert_eq!(listener.peers.get(&entry.node.uid.to_string()), Some(&up));
                    }
                }
                let stray = listener.pods.keys().find(|pod| {
                    !listener.subscribed.iter().any(|number| **pod == format!("p{number}"))
                });
                prop_assert_eq!(stray, None, "heard of a pod without asking");
            }
        }
    }
}
