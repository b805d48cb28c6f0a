//! Labels: drawn at random by the receiver, unique among those alive.

use std::collections::{BTreeMap, btree_map::Entry};

use crate::{
    effects::Ctx,
    ids::{Label, PodUid},
};

/// A local and a remote pod.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct PairKey {
    pub(crate) local: PodUid,
    pub(crate) remote: PodUid,
}

/// Every label with a receive row, a previous instance's included.
#[derive(Debug, Default)]
pub(crate) struct Labels {
    owners: BTreeMap<Label, Option<PairKey>>,
}

impl Labels {
    /// A label that nobody has.
    pub(crate) fn draw(&mut self, owner: &PairKey, ctx: &mut Ctx<'_>) -> Label {
        loop {
            let mut bytes = [0; 8];
            ctx.random.fill(&mut bytes[3..]);
            let Some(label) = Label::new(u64::from_be_bytes(bytes)) else {
                continue;
            };
            if let Entry::Vacant(free) = self.owners.entry(label) {
                free.insert(Some(owner.clone()));
                return label;
            }
        }
    }

    /// A label of a previous instance.
    pub(crate) fn reserve(&mut self, label: Label) {
        self.owners.entry(label).or_insert(None);
    }

    /// Whose it is; `None` for those of a previous instance, too.
    pub(crate) fn owner(&self, label: Label) -> Option<&PairKey> {
        self.owners.get(&label)?.as_ref()
    }

    pub(crate) fn free(&mut self, label: Label) {
        self.owners.remove(&label);
    }
}
