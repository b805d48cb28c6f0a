//! The policy map: what is in it, and how it gets from one state to the next.
//!
//! Every packet meets the verdict of the old state or that of the new one, never a third. Entries
//! overlap (a port range inside "any port", a protocol inside "any protocol") and the most
//! specific one decides, so new entries are written from the most specific on, and entries that
//! are no more go from the least specific on, after everything new is in.

use std::collections::{BTreeMap, BTreeSet};

use signet_policy::{Action, Authentication, Direction, PairPolicy};

use crate::{
    effects::Ctx,
    ids::{ClassId, EndpointIndex},
    rows::{MapOp, PolicyKey, PolicyValue},
};

type Entries = BTreeMap<PolicyKey, PolicyValue>;

/// What the kernel's map holds, by endpoint and class.
#[derive(Debug, Default)]
pub(crate) struct PolicyMap {
    applied: BTreeMap<(EndpointIndex, ClassId), Entries>,
}

/// A change of several classes of one endpoint, split so that the endpoint's own row can be
/// written between its halves.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Plan {
    writes: Vec<(PolicyKey, PolicyValue)>,
    removals: Vec<PolicyKey>,
}

impl PolicyMap {
    /// Entries of a previous instance. They stay until their class is removed.
    pub(crate) fn adopt(&mut self, entries: &[(PolicyKey, PolicyValue)]) {
        for (key, value) in entries {
            self.applied
                .entry((key.endpoint, key.class))
                .or_default()
                .insert(*key, *value);
        }
    }

    /// Steps towards `target` for each class of `endpoint` that it names.
    pub(crate) fn plan(
        &mut self,
        endpoint: EndpointIndex,
        target: Vec<(ClassId, PairPolicy)>,
    ) -> Plan {
        let mut plan = Plan::default();
        for (class, policy) in target {
            let new = entries(endpoint, class, &policy);
            let old = self.applied.remove(&(endpoint, class)).unwrap_or_default();
            plan.add(&old, &new);
            if !new.is_empty() {
                self.applied.insert((endpoint, class), new);
            }
        }
        plan
    }

    /// Removes one class everywhere. Only once no row names it.
    pub(crate) fn remove_class(&mut self, class: ClassId, ctx: &mut Ctx<'_>) {
        self.remove_where(|_, of| of == class, ctx);
    }

    pub(crate) fn remove_endpoint(&mut self, endpoint: EndpointIndex, ctx: &mut Ctx<'_>) {
        self.remove_where(|of, _| of == endpoint, ctx);
    }

    /// Removes one class of one endpoint.
    pub(crate) fn remove(&mut self, endpoint: EndpointIndex, class: ClassId, ctx: &mut Ctx<'_>) {
        self.remove_where(|e, c| e == endpoint && c == class, ctx);
    }

    /// An entry that the kernel did not take.
    pub(crate) fn lost(&mut self, key: &PolicyKey) {
        if let Some(entries) = self.applied.get_mut(&(key.endpoint, key.class)) {
            entries.remove(key);
        }
    }

    /// What an entry should say; `None` if it should not be there.
    pub(crate) fn of(&self, key: &PolicyKey) -> Option<PolicyValue> {
        let entries = self.applied.get(&(key.endpoint, key.class))?;
        entries.get(key).copied()
    }

    /// Classes with entries.
    pub(crate) fn classes(&self) -> BTreeSet<ClassId> {
        self.applied.keys().map(|(_, class)| *class).collect()
    }

    /// How many entries there are.
    pub(crate) fn len(&self) -> usize {
        self.applied.values().map(BTreeMap::len).sum()
    }

    fn remove_where(&mut self, gone: impl Fn(EndpointIndex, ClassId) -> bool, ctx: &mut Ctx<'_>) {
        let keys = self
            .applied
            .keys()
            .filter(|(endpoint, class)| gone(*endpoint, *class));
        let keys: Vec<(EndpointIndex, ClassId)> = keys.copied().collect();
        let mut plan = Plan::default();
        for key in keys {
            plan.add(
                &self.applied.remove(&key).unwrap_or_default(),
                &Entries::new(),
            );
        }
        plan.write(ctx);
        plan.remove(ctx);
    }
}

impl Plan {
    /// Nothing to do.
    pub(crate) fn is_empty(&self) -> bool {
        self.writes.is_empty() && self.removals.is_empty()
    }

    /// First half: afterwards everything new holds.
    pub(crate) fn write(&self, ctx: &mut Ctx<'_>) {
        for (key, value) in &self.writes {
            ctx.bpf(MapOp::SetPolicy(*key, *value));
        }
    }

    /// Second half: afterwards nothing old holds.
    pub(crate) fn remove(&self, ctx: &mut Ctx<'_>) {
        for key in &self.removals {
            ctx.bpf(MapOp::RemovePolicy(*key));
        }
    }

    fn add(&mut self, old: &Entries, new: &Entries) {
        let changed = new
            .iter()
            .filter(|(key, value)| old.get(key) != Some(value));
        self.writes
            .extend(changed.map(|(key, value)| (*key, *value)));
        self.removals
            .extend(old.keys().filter(|key| !new.contains_key(key)));
        self.writes
            .sort_by_key(|(key, _)| (std::cmp::Reverse(specificity(key)), *key));
        self.removals.sort_by_key(|key| (specificity(key), *key));
    }
}

/// Which of two entries decides: the greater one.
fn specificity(key: &PolicyKey) -> (bool, u8) {
    (key.protocol != 0, key.port_bits)
}

fn entries(endpoint: EndpointIndex, class: ClassId, policy: &PairPolicy) -> Entries {
    let mut entries = Entries::new();
    for direction in Direction::ALL {
        for prefix in policy.of(direction).to_prefixes() {
            let key = PolicyKey {
                endpoint,
                direction,
                protocol: prefix.protocol,
                class,
                port: prefix.port,
                port_bits: prefix.bits,
            };
            let verdict = prefix.verdict;
            let value = PolicyValue {
                rule: verdict.rule.0,
                allow: verdict.action == Action::Allow,
                authentication_required: verdict.authentication == Authentication::Required,
            };
            entries.insert(key, value);
        }
    }
    entries
}

#[cfg(test)]
mod tests;
