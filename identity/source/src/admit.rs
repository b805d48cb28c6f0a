//! Objects held against each other: who is refused when two cannot both be right.
//!
//! Who was there before wins. Objects are taken in the order unchanged, changed, new (and by kind
//! before that, so that a pod finds its node); each must agree with those already taken. One that
//! does not is left at its previous state if that still agrees, or left out.

mod ledger;

use std::{collections::BTreeMap, net::IpAddr, sync::Arc};

use self::ledger::{Ledger, holds_addresses};
use crate::{
    object::{Kind, Node, Object, ObjectKey, Pod},
    problem::Problem,
    snapshot::Snapshot,
};

/// An object as some file has it.
#[derive(Clone, Debug)]
pub(crate) struct Candidate {
    pub(crate) file: Arc<str>,
    pub(crate) key: ObjectKey,
    pub(crate) object: Object,
}

/// Ranks below are of unchanged objects.
const CHANGED: u8 = 2;

/// What is in force, and from which file.
#[derive(Clone, Debug, Default)]
pub(crate) struct Accepted(BTreeMap<ObjectKey, (Arc<str>, Object)>);

impl Accepted {
    pub(crate) fn snapshot(&self, problems: Vec<Problem>) -> Snapshot {
        let mut snapshot = Snapshot {
            problems,
            ..Snapshot::default()
        };
        for (key, (_, object)) in &self.0 {
            snapshot.insert(key.clone(), object.clone());
        }
        snapshot
    }

    /// How much a candidate resembles what is in force; the smaller goes first.
    fn rank(&self, candidate: &Candidate) -> u8 {
        match self.0.get(&candidate.key) {
            Some((file, object)) => {
                CHANGED * u8::from(*object != candidate.object) + u8::from(*file != candidate.file)
            }
            None => 2 * CHANGED,
        }
    }
}

/// Takes what can be taken of `candidates`, given what was in force before.
pub(crate) fn admit(candidates: Vec<Candidate>, previous: &Accepted) -> (Accepted, Vec<Problem>) {
    let mut ranked: Vec<_> = candidates
        .into_iter()
        .map(|candidate| (previous.rank(&candidate), candidate))
        .collect();
    // Stable: within a file, the order in which it has them.
    ranked.sort_by(|(a_rank, a), (b_rank, b)| {
        (a.key.kind, a_rank, &a.file).cmp(&(b.key.kind, b_rank, &b.file))
    });
    let staying = ranked
        .iter()
        .filter(|(rank, _)| *rank < CHANGED)
        .filter_map(|(_, candidate)| match &candidate.object {
            Object::Pod(pod) => Some(Arc::clone(pod)),
            Object::Node(_)
            | Object::Namespace(_)
            | Object::ServiceAccount(_)
            | Object::NetworkPolicy(_)
            | Object::AuthenticatedPolicy(_) => None,
        })
        .collect();
    let mut admission = Admission {
        staying,
        ledger: Ledger::default(),
        accepted: Accepted::default(),
        problems: Vec::new(),
        previous,
    };
    for kind in ranked.chunk_by(|(_, a), (_, b)| a.key.kind == b.key.kind) {
        let refused: Vec<_> = kind
            .iter()
            .filter(|(_, candidate)| !admission.take(candidate))
            .collect();
        for (_, candidate) in refused {
            admission.fall_back(candidate);
        }
    }
    let Admission {
        accepted,
        mut problems,
        ..
    } = admission;
    problems.sort();
    (accepted, problems)
}

struct Admission<'a> {
    ledger: Ledger,
    accepted: Accepted,
    problems: Vec<Problem>,
    previous: &'a Accepted,
    /// Pods that no file changes.
    staying: Vec<Arc<Pod>>,
}

impl Admission<'_> {
    fn take(&mut self, candidate: &Candidate) -> bool {
        let Candidate { file, key, object } = candidate;
        let verdict = match self.accepted.0.get(key) {
            Some((other, _)) if other == file => {
                Err("defined twice in this file; remove one".into())
            }
            Some((other, _)) => Err(format!("defined in {other} too; remove one of them")),
            None => self
                .fits_before(object)
                .and_then(|()| self.ledger.check(&self.accepted, object)),
        };
        match verdict {
            Ok(()) => {
                self.insert(file, key, object);
                true
            }
            Err(message) => {
                self.problems.push(Problem::new(&**file, key, message));
                false
            }
        }
    }

    /// Silently: that the new state is refused has been said.
    fn fall_back(&mut self, refused: &Candidate) {
        if self.accepted.0.contains_key(&refused.key) {
            return;
        }
        let Some((file, object)) = self.previous.0.get(&refused.key) else {
            return;
        };
        if *object != refused.object && self.ledger.check(&self.accepted, object).is_ok() {
            self.insert(file, &refused.key, object);
        }
    }

    fn insert(&mut self, file: &Arc<str>, key: &ObjectKey, object: &Object) {
        self.ledger.enter(key, object);
        self.accepted
            .0
            .insert(key.clone(), (Arc::clone(file), object.clone()));
    }

    fn fits_before(&self, object: &Object) -> Result<(), String> {
        match object {
            Object::Pod(pod) => self.stays_itself(pod),
            Object::Node(node) => self.keeps_its_pods(node),
            Object::Namespace(_)
            | Object::ServiceAccount(_)
            | Object::NetworkPolicy(_)
            | Object::AuthenticatedPolicy(_) => Ok(()),
        }
    }

    /// A pod never moves and never becomes another: what was proven for its UID would be wrong.
    fn stays_itself(&self, pod: &Pod) -> Result<(), String> {
        let key = ObjectKey {
            kind: Kind::Pod,
            namespace: pod.namespace.clone(),
            name: pod.name.clone(),
        };
        let Some((_, Object::Pod(before))) = self.previous.0.get(&key) else {
            return Ok(());
        };
        if before.uid != pod.uid {
            return Ok(());
        }
        let field = if before.node.is_some() && before.node != pod.node {
            "spec.nodeName"
        } else if before.service_account != pod.service_account {
            "spec.serviceAccountName"
        } else {
            return Ok(());
        };
        Err(format!(
            "{field} changed, but a pod keeps it for life; give it a new metadata.uid too"
        ))
    }

    /// A slip in a range must not cost a node its pods.
    fn keeps_its_pods(&self, node: &Node) -> Result<(), String> {
        let of_node = |pod: &&Arc<Pod>| pod.node.as_ref() == Some(&node.name);
        for pod in self
            .staying
            .iter()
            .filter(of_node)
            .filter(|pod| holds_addresses(pod))
        {
            let outside = |ip: &&IpAddr| !node.pod_cidrs.iter().any(|range| range.contains(*ip));
            if let Some(ip) = pod.addresses.iter().find(outside) {
                let Pod {
                    namespace, name, ..
                } = &**pod;
                return Err(format!(
                    "podCIDRs leave out {ip} of Pod {namespace}/{name}; remove the pod first"
                ));
            }
        }
        Ok(())
    }
}
