//! What the identity service's directory has told: who runs where, under which address.
//!
//! Pulled on a miss, then kept current by subscription. One question at a time per key; questions
//! that could not be asked are repeated.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::IpAddr,
    time::Duration,
};

use crate::{
    effects::Ctx,
    event::Event,
    facts::Entry,
    ids::{NodeUid, PodUid},
    io::{LookupKey, Output},
};

/// What is known about a key.
#[derive(Debug)]
pub(crate) enum Resolution<'a> {
    /// There is such a pod.
    Known(&'a Entry),
    /// The question is under way.
    Pending,
}

/// What an answer or a push changed. `before` is what rows were made from.
#[derive(Debug)]
pub(crate) enum Change {
    /// A pod is known now.
    New(PodUid),
    /// What policy asks about it changed; identity, place and addresses did not.
    Facts(PodUid),
    /// A pod is no more what it was: gone, moved, other addresses or identity.
    Gone(Box<Entry>),
}

#[derive(Debug)]
enum Question {
    Asked { failures: u32 },
    Repeat { at: Duration, failures: u32 },
}

/// The cache.
#[derive(Debug, Default)]
pub(crate) struct Directory {
    entries: BTreeMap<PodUid, Entry>,
    by_address: BTreeMap<IpAddr, PodUid>,
    questions: BTreeMap<LookupKey, Question>,
    /// Those that are to be asked again.
    repeats: BTreeSet<(Duration, LookupKey)>,
    up: bool,
    /// Entries of nodes, as the cluster told them last.
    nodes: usize,
}

impl Directory {
    pub(crate) fn entry(&self, pod: &PodUid) -> Option<&Entry> {
        self.entries.get(pod)
    }

    pub(crate) fn at(&self, address: IpAddr) -> Option<&Entry> {
        self.entries.get(self.by_address.get(&address)?)
    }

    /// How many pods are known.
    pub(crate) fn len(&self) -> usize {
        self.entries.len().saturating_sub(self.nodes)
    }

    pub(crate) fn is_up(&self) -> bool {
        self.up
    }

    /// Looks a key up, and asks if it is not known.
    pub(crate) fn resolve(&mut self, key: LookupKey, ctx: &mut Ctx<'_>) -> Resolution<'_> {
        let known = match &key {
            LookupKey::Address(address) => self.by_address.get(address).cloned(),
            LookupKey::Pod(pod) => self.entries.contains_key(pod).then(|| pod.clone()),
        };
        let known_elsewhere = matches!(&key, LookupKey::Pod(pod) if pod.node().is_some());
        if known.is_none() && !known_elsewhere && !self.questions.contains_key(&key) {
            self.ask(key, ctx);
        }
        match known.and_then(|pod| self.entries.get(&pod)) {
            Some(entry) => Resolution::Known(entry),
            None => Resolution::Pending,
        }
    }

    /// Takes an answer. No entry for a pod that was known means that it is gone.
    pub(crate) fn answer(
        &mut self,
        key: &LookupKey,
        entry: Option<Entry>,
        ctx: &mut Ctx<'_>,
    ) -> Vec<Change> {
        self.settled(key);
        match (entry, key) {
            (Some(entry), LookupKey::Address(_) | LookupKey::Pod(_)) => self.put(entry, ctx),
            (None, LookupKey::Pod(pod)) => self.forget(pod, ctx).into_iter().collect(),
            (None, LookupKey::Address(address)) => {
                let holder = self.by_address.get(address).cloned();
                holder
                    .filter(|pod| pod.node().is_none())
                    .and_then(|pod| self.forget(&pod, ctx))
                    .into_iter()
                    .collect()
            }
        }
    }

    pub(crate) fn failed(
        &mut self,
        key: LookupKey,
        error: String,
        retry: (Duration, Duration),
        ctx: &mut Ctx<'_>,
    ) {
        let failures = match self.questions.get(&key) {
            Some(Question::Repeat { failures, .. } | Question::Asked { failures }) => {
                failures.saturating_add(1)
            }
            None => 1,
        };
        ctx.event(Event::LookupFailed {
            key: key.to_string(),
            error,
        });
        let at = ctx.boot() + ctx.backoff(retry, failures);
        self.settled(&key);
        self.repeats.insert((at, key.clone()));
        self.questions
            .insert(key, Question::Repeat { at, failures });
    }

    /// Takes an entry, from an answer or a push. An older one than is known changes nothing. Nodes
    /// are told by the cluster, and their addresses are no pod's.
    pub(crate) fn put(&mut self, mut entry: Entry, ctx: &mut Ctx<'_>) -> Vec<Change> {
        if entry.uid.node().is_some() {
            return Vec::new();
        }
        let of_node = |address: &IpAddr| {
            let holder = self.by_address.get(address);
            holder.is_some_and(|holder| holder.node().is_some())
        };
        entry.pod.addresses.retain(|address| !of_node(address));
        self.set(entry, ctx)
    }

    /// Takes what the cluster says of the other nodes, all of them, as entries of their own.
    pub(crate) fn set_nodes(&mut self, nodes: Vec<Entry>, ctx: &mut Ctx<'_>) -> Vec<Change> {
        let stay: BTreeSet<&PodUid> = nodes.iter().map(|entry| &entry.uid).collect();
        let known = self.entries.keys().filter(|uid| uid.node().is_some());
        let gone: Vec<PodUid> = known.filter(|uid| !stay.contains(uid)).cloned().collect();
        let mut changes: Vec<Change> = gone
            .iter()
            .filter_map(|node| self.forget(node, ctx))
            .collect();
        self.nodes = nodes.len();
        for entry in nodes {
            changes.extend(self.set(entry, ctx));
        }
        changes
    }

    fn set(&mut self, entry: Entry, ctx: &mut Ctx<'_>) -> Vec<Change> {
        let mut changes = Vec::new();
        let mut known = false;
        if let Some(before) = self.entries.get(&entry.uid) {
            if entry.generation < before.generation {
                return changes;
            }
            if same_subject(before, &entry) {
                known = true;
            } else {
                changes.extend(self.forget(&entry.uid, ctx));
            }
        }
        // An address has one owner. Whoever held it before is no longer what its rows say.
        for address in &entry.pod.addresses {
            if let Some(holder) = self
                .by_address
                .get(address)
                .filter(|pod| **pod != entry.uid)
            {
                let holder = holder.clone();
                changes.extend(self.forget(&holder, ctx));
            }
        }
        let uid = entry.uid.clone();
        for address in &entry.pod.addresses {
            self.by_address.insert(*address, uid.clone());
        }
        let before = self.entries.insert(uid.clone(), entry);
        if !known {
            if uid.node().is_none() {
                ctx.push(Output::Subscribe(uid.clone()));
            }
            changes.push(Change::New(uid));
        } else if before.map(|before| before.pod) != self.entries.get(&uid).map(|e| e.pod.clone()) {
            changes.push(Change::Facts(uid));
        }
        changes
    }

    /// Forgets a pod. The change says what it was.
    pub(crate) fn forget(&mut self, pod: &PodUid, ctx: &mut Ctx<'_>) -> Option<Change> {
        let entry = self.entries.remove(pod)?;
        for address in &entry.pod.addresses {
            if self.by_address.get(address) == Some(pod) {
                self.by_address.remove(address);
            }
        }
        if pod.node().is_none() {
            ctx.push(Output::Unsubscribe(pod.clone()));
        }
        Some(Change::Gone(Box::new(entry)))
    }

    /// Everything on a node that no longer exists.
    pub(crate) fn forget_node(&mut self, node: &NodeUid, ctx: &mut Ctx<'_>) -> Vec<Change> {
        let on_it = self
            .entries
            .values()
            .filter(|entry| entry.node.uid == *node);
        let pods: Vec<PodUid> = on_it.map(|entry| entry.uid.clone()).collect();
        pods.iter()
            .filter_map(|pod| self.forget(pod, ctx))
            .collect()
    }

    /// The stream is up: subscribe again, and ask for what may have changed meanwhile.
    pub(crate) fn stream_up(&mut self, ctx: &mut Ctx<'_>) {
        self.up = true;
        let pods = self.entries.keys().filter(|pod| pod.node().is_none());
        let pods: Vec<PodUid> = pods.cloned().collect();
        for pod in pods {
            ctx.push(Output::Subscribe(pod.clone()));
            let key = LookupKey::Pod(pod);
            if !matches!(self.questions.get(&key), Some(Question::Asked { .. })) {
                self.ask(key, ctx);
            }
        }
        for (_, key) in std::mem::take(&mut self.repeats) {
            if let Some(Question::Repeat { at, .. }) = self.questions.get_mut(&key) {
                *at = ctx.boot();
                self.repeats.insert((ctx.boot(), key));
            }
        }
    }

    pub(crate) fn stream_down(&mut self) {
        self.up = false;
    }

    pub(crate) fn timeout(&self) -> Option<Duration> {
        self.repeats.first().map(|(at, _)| *at)
    }

    pub(crate) fn handle_timeout(&mut self, wanted: &BTreeSet<LookupKey>, ctx: &mut Ctx<'_>) {
        let due = self.repeats.iter().take_while(|(at, _)| *at <= ctx.boot());
        let due: Vec<LookupKey> = due.map(|(_, key)| key.clone()).collect();
        for key in due {
            let failures = match self.settled(&key) {
                Some(Question::Repeat { failures, .. } | Question::Asked { failures }) => failures,
                None => 0,
            };
            let known = matches!(&key, LookupKey::Pod(pod) if self.entries.contains_key(pod));
            if known || wanted.contains(&key) {
                self.questions
                    .insert(key.clone(), Question::Asked { failures });
                ctx.counters.lookups += 1;
                ctx.push(Output::Lookup(key));
            }
        }
    }

    /// Drops entries that nobody uses, once there are more than `idle` of them.
    pub(crate) fn shrink(&mut self, used: &BTreeSet<PodUid>, idle: usize, ctx: &mut Ctx<'_>) {
        if self.len() <= used.len().saturating_add(idle) {
            return;
        }
        let unused = self.entries.keys();
        let unused = unused.filter(|pod| pod.node().is_none() && !used.contains(*pod));
        let unused: Vec<PodUid> = unused.cloned().collect();
        for pod in unused {
            self.forget(&pod, ctx);
        }
    }

    /// Nothing is asked about a key any more.
    fn settled(&mut self, key: &LookupKey) -> Option<Question> {
        let question = self.questions.remove(key)?;
        if let Question::Repeat { at, .. } = &question {
            self.repeats.remove(&(*at, key.clone()));
        }
        Some(question)
    }

    fn ask(&mut self, key: LookupKey, ctx: &mut Ctx<'_>) {
        self.settled(&key);
        self.questions
            .insert(key.clone(), Question::Asked { failures: 0 });
        ctx.counters.lookups += 1;
        ctx.push(Output::Lookup(key));
    }
}

/// Whether rows made from `a` may stay under `b`.
fn same_subject(a: &Entry, b: &Entry) -> bool {
    let addresses = |entry: &Entry| entry.pod.addresses.iter().copied().collect::<BTreeSet<_>>();
    a.spiffe_id == b.spiffe_id
        && a.namespace_uid == b.namespace_uid
        && a.service_account_uid == b.service_account_uid
        && a.node.uid == b.node.uid
        && addresses(a) == addresses(b)
}

impl std::fmt::Display for LookupKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            LookupKey::Address(address) => write!(f, "address {address}"),
            LookupKey::Pod(pod) => write!(f, "pod {pod}"),
        }
    }
}
