//! Numbers for pods: the handle that events carry, and the policy class.
//!
//! Every pod has a class of its own. Entries of the policy map then belong to pairs of pods, come
//! and go with them, and a pod's label change rewrites entries instead of rows.

use std::collections::BTreeMap;

use crate::ids::{ClassId, PodUid, RemoteId};

const FIRST_CLASS: u32 = signet_abi::CLASS_DYNAMIC;

/// Pods by number and back. A number names one pod for one run and the adopted maps before it.
#[derive(Debug, Default)]
pub(crate) struct Handles {
    numbers: BTreeMap<PodUid, u32>,
    pods: BTreeMap<u32, PodUid>,
    last: u32,
}

impl Handles {
    /// Skips numbers that a previous instance may have given.
    pub(crate) fn reserve_class(&mut self, class: ClassId) {
        self.last = self.last.max(class.0.saturating_sub(FIRST_CLASS));
    }

    pub(crate) fn reserve_remote(&mut self, remote: RemoteId) {
        self.last = self.last.max(remote.0);
    }

    /// The class that a previous instance gave this pod stays its class.
    pub(crate) fn adopt(&mut self, pod: &PodUid, class: ClassId) {
        if let Some(number) = class.0.checked_sub(FIRST_CLASS)
            && number != 0
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
        ClassId(FIRST_CLASS.saturating_add(self.number(pod)))
    }

    /// A class for something that is no pod.
    pub(crate) fn fresh_class(&mut self) -> ClassId {
        self.last = self.last.saturating_add(1);
        ClassId(FIRST_CLASS.saturating_add(self.last))
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
        if let Some(number) = self.numbers.remove(pod) {
            self.pods.remove(&number);
        }
    }

    fn number(&mut self, pod: &PodUid) -> u32 {
        if let Some(number) = self.numbers.get(pod) {
            return *number;
        }
        self.last = self.last.saturating_add(1);
        self.numbers.insert(pod.clone(), self.last);
        self.pods.insert(self.last, pod.clone());
        self.last
    }
}
