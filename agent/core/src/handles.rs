//! Numbers for pods: the handle that events carry, and the policy class.
//!
//! Every pod has a class of its own. Entries of the policy map then belong to pairs of pods, come
//! and go with them, and a pod's label change rewrites entries instead of rows.
//!
//! A pod's number is made of its UID, so that an agent that comes back gives the same pod the same
//! number, and flows that the kernel remembers under it go on: a reply that is under way while the
//! agent restarts still belongs to its question.

use std::collections::{BTreeMap, BTreeSet};

use signet_crypto::x509::profile::sha256;

use crate::ids::{ClassId, PodUid, RemoteId};

const FIRST_CLASS: u32 = signet_abi::CLASS_DYNAMIC;
/// Classes from here on belong to no pod.
const FIRST_FRESH: u32 = 1 << 31;
/// Numbers of forgotten pods that are not given again. A flow is forgotten in an hour at the most;
/// what is beyond this many by then is the oldest.
const SPENT: usize = 65_536;

/// Pods by number and back. A number names one pod as long as the agent knows it without a break.
#[derive(Debug, Default)]
pub(crate) struct Handles {
    numbers: BTreeMap<PodUid, u32>,
    pods: BTreeMap<u32, PodUid>,
    /// Numbers of pods that were forgotten. One that returns, with other labels perhaps, gets
    /// another number, and what was admitted before is judged again.
    spent: BTreeSet<u32>,
    spent_order: std::collections::VecDeque<u32>,
    last_fresh: u32,
}

impl Handles {
    /// Skips a class that a previous instance gave to something that is no pod.
    pub(crate) fn reserve_class(&mut self, class: ClassId) {
        if let Some(fresh) = class.0.checked_sub(FIRST_FRESH) {
            self.last_fresh = self.last_fresh.max(fresh);
        }
    }

    /// The class that a previous instance gave this pod stays its class.
    pub(crate) fn adopt(&mut self, pod: &PodUid, class: ClassId) {
        if let Some(number) = class.0.checked_sub(FIRST_CLASS)
            && number != 0
            && class.0 < FIRST_FRESH
            && !self.pods.contains_key(&number)
        {
            self.forget(pod);
            self.numbers.insert(pod.clone(), number);
            self.pods.insert(number, pod.clone());
        }
    }

    pub(crate) fn remote(&mut self, pod: &PodUid) -> RemoteId {
        RemoteId(self.number(pod))
    }

    pub(crate) fn class(&mut self, pod: &PodUid) -> ClassId {
        ClassId(FIRST_CLASS + self.number(pod))
    }

    /// A class for something that is no pod.
    pub(crate) fn fresh_class(&mut self) -> ClassId {
        self.last_fresh = self.last_fresh.saturating_add(1);
        ClassId(FIRST_FRESH.saturating_add(self.last_fresh))
    }

    /// The pod with this handle.
    pub(crate) fn pod(&self, remote: RemoteId) -> Option<&PodUid> {
        self.pods.get(&remote.0)
    }

    /// The pod with this class.
    pub(crate) fn pod_of_class(&self, class: ClassId) -> Option<&PodUid> {
        self.pods.get(&class.0.checked_sub(FIRST_CLASS)?)
    }

    pub(crate) fn forget(&mut self, pod: &PodUid) {
        let Some(number) = self.numbers.remove(pod) else {
            return;
        };
        self.pods.remove(&number);
        if self.spent.insert(number) {
            self.spent_order.push_back(number);
        }
        if self.spent_order.len() > SPENT
            && let Some(oldest) = self.spent_order.pop_front()
        {
            self.spent.remove(&oldest);
        }
    }

    fn number(&mut self, pod: &PodUid) -> u32 {
        if let Some(number) = self.numbers.get(pod) {
            return *number;
        }
        let digest = sha256(pod.as_str().as_bytes());
        let mut number = u32::from_be_bytes([digest[0], digest[1], digest[2], digest[3]]);
        loop {
            // 1 to below FIRST_FRESH - FIRST_CLASS, so that a class never reaches the others'.
            number = number % (FIRST_FRESH - FIRST_CLASS - 1) + 1;
            if !self.pods.contains_key(&number) && !self.spent.contains(&number) {
                break;
            }
        }
        self.numbers.insert(pod.clone(), number);
        self.pods.insert(number, pod.clone());
        number
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pod_keeps_its_number_over_a_restart_but_not_over_being_forgotten() {
        let (one, other) = (PodUid::new("one"), PodUid::new("other"));
        let (mut before, mut after) = (Handles::default(), Handles::default());
        let (class, remote) = (before.class(&one), before.remote(&one));
        after.class(&other);
        assert_eq!((after.class(&one), after.remote(&one)), (class, remote));
        assert_ne!(after.class(&other), class);

        after.forget(&one);
        assert_ne!(
            after.remote(&one),
            remote,
            "a pod that returns is judged anew"
        );
        assert_eq!(after.pod(remote), None);
    }

    #[test]
    fn classes_of_pods_and_of_address_blocks_never_meet() {
        let mut handles = Handles::default();
        let fresh = handles.fresh_class();
        handles.reserve_class(ClassId(fresh.0 + 7));
        assert!(handles.fresh_class().0 > fresh.0 + 7);
        for n in 0..2_000 {
            assert!(handles.class(&PodUid::new(n.to_string())).0 < FIRST_FRESH);
        }
    }
}
