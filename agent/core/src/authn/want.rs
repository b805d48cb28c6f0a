//! Destinations that local pods want, with the orders in which they are looked for.

use std::{
    collections::{BTreeMap, BTreeSet, VecDeque},
    net::IpAddr,
    time::Duration,
};

use signet_abi::DropReason;

use crate::{
    ids::{EndpointIndex, PodUid},
    rows::SendKey,
};

/// Addresses of one endpoint that the directory is asked for at the same time. The others wait, so that a pod that
/// knocks everywhere does not have the directory, and whoever asks it, to itself.
const ASKED_AT_ONCE: usize = 8;

/// One wanted destination.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Want {
    /// The directory is to be asked, and is if it is its turn.
    Resolving { since: Duration, turn: bool },
    /// Its pair is being opened.
    Pairing(PodUid),
    /// It is refused: by a row, unless a row of a previous instance still lets it pass (`row`).
    Refused {
        until: Duration,
        reason: DropReason,
        row: bool,
    },
}

impl Want {
    pub(crate) fn is_resolving(&self) -> bool {
        matches!(self, Want::Resolving { .. })
    }
}

/// All of them.
#[derive(Debug, Default)]
pub(crate) struct Wants {
    wants: BTreeMap<SendKey, Want>,
    by_destination: BTreeMap<IpAddr, BTreeSet<SendKey>>,
    resolving: BTreeSet<SendKey>,
    refused: BTreeSet<(Duration, SendKey)>,
    turns: BTreeMap<EndpointIndex, Turns>,
    /// Endpoints that may have a next one whose turn it is.
    free: BTreeSet<EndpointIndex>,
}

/// Whose turn it is to ask the directory, among one endpoint's destinations.
#[derive(Debug, Default)]
struct Turns {
    asked: usize,
    /// In the order in which they came; some may be over by now.
    queue: VecDeque<SendKey>,
}

impl Wants {
    pub(crate) fn of(&self, key: &SendKey) -> Option<&Want> {
        self.wants.get(key)
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = (&SendKey, &Want)> {
        self.wants.iter()
    }

    pub(crate) fn of_endpoint(
        &self,
        index: EndpointIndex,
    ) -> impl Iterator<Item = (&SendKey, &Want)> {
        let first = SendKey {
            endpoint: index,
            generation: 0,
            destination: IpAddr::from([0; 4]),
        };
        let from_here = self.wants.range(first..);
        from_here.take_while(move |(key, _)| key.endpoint == index)
    }

    pub(crate) fn to(&self, destination: IpAddr) -> Vec<SendKey> {
        let keys = self.by_destination.get(&destination);
        keys.into_iter().flatten().copied().collect()
    }

    pub(crate) fn resolving(&self) -> impl Iterator<Item = (&SendKey, &Want)> {
        let keys = self.resolving.iter();
        keys.filter_map(|key| self.wants.get_key_value(key))
    }

    pub(crate) fn resolving_to(&self, destination: IpAddr) -> Vec<SendKey> {
        let mut keys = self.to(destination);
        keys.retain(|key| self.resolving.contains(key));
        keys
    }

    pub(crate) fn refused(&self) -> impl Iterator<Item = &SendKey> {
        self.refused.iter().map(|(_, key)| key)
    }

    /// When the next refusal is over.
    pub(crate) fn timeout(&self) -> Option<Duration> {
        self.refused.first().map(|(until, _)| *until)
    }

    /// Refusals that are over at `now`.
    pub(crate) fn over(&self, now: Duration) -> Vec<SendKey> {
        let over = self.refused.iter().take_while(|(until, _)| *until <= now);
        over.map(|(_, key)| *key).collect()
    }

    /// The directory is to be asked for it, now or later.
    pub(crate) fn resolve(&mut self, key: SendKey, since: Duration) {
        self.insert(key, Want::Resolving { since, turn: false });
        let turns = self.turns.entry(key.endpoint).or_default();
        turns.queue.push_back(key);
        self.free.insert(key.endpoint);
    }

    pub(crate) fn insert(&mut self, key: SendKey, want: Want) {
        self.remove(&key);
        match &want {
            Want::Resolving { .. } => {
                self.resolving.insert(key);
            }
            Want::Refused { until, .. } => {
                self.refused.insert((*until, key));
            }
            Want::Pairing(_) => {}
        }
        let alike = self.by_destination.entry(key.destination).or_default();
        alike.insert(key);
        self.wants.insert(key, want);
    }

    pub(crate) fn remove(&mut self, key: &SendKey) -> Option<Want> {
        let want = self.wants.remove(key)?;
        match &want {
            Want::Resolving { turn, .. } => {
                self.resolving.remove(key);
                if let Some(turns) = self.turns.get_mut(&key.endpoint) {
                    turns.asked -= usize::from(*turn);
                }
                self.free.insert(key.endpoint);
            }
            Want::Refused { until, .. } => {
                self.refused.remove(&(*until, *key));
            }
            Want::Pairing(_) => {}
        }
        if let Some(alike) = self.by_destination.get_mut(&key.destination) {
            alike.remove(key);
            if alike.is_empty() {
                self.by_destination.remove(&key.destination);
            }
        }
        Some(want)
    }

    /// Whether the directory may be asked for it now.
    pub(crate) fn has_turn(&self, key: &SendKey) -> bool {
        matches!(
            self.wants.get(key),
            Some(Want::Resolving { turn: true, .. })
        )
    }

    /// Gives somebody a turn to ask the directory. Call until `None` after every change.
    pub(crate) fn next_turn(&mut self) -> Option<SendKey> {
        while let Some(index) = self.free.first().copied() {
            if let Some(key) = self.next_turn_of(index) {
                return Some(key);
            }
            self.free.remove(&index);
        }
        None
    }

    fn next_turn_of(&mut self, index: EndpointIndex) -> Option<SendKey> {
        let turns = self.turns.get_mut(&index)?;
        while turns.asked < ASKED_AT_ONCE {
            let Some(key) = turns.queue.pop_front() else {
                if turns.asked == 0 {
                    self.turns.remove(&index);
                }
                return None;
            };
            if let Some(Want::Resolving { turn, .. }) = self.wants.get_mut(&key)
                && !*turn
            {
                *turn = true;
                turns.asked += 1;
                return Some(key);
            }
        }
        None
    }
}
