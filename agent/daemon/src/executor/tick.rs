//! Once a second: counters out of the kernel and the core, into the metrics.

use signet_abi::DropReason;

use super::Executor;
use crate::metrics::clamp;

impl Executor {
    /// `held_lost` packets did not even reach the core.
    pub(super) async fn tick(&mut self, held_lost: u64) {
        if held_lost > 0 {
            self.metrics
                .hold_dropped(DropReason::HoldOverflow, held_lost);
            self.count_drops(DropReason::HoldOverflow, held_lost);
        }
        self.metrics.core(&self.agent.counters());
        match self.dataplane.counts() {
            Ok(counts) => {
                for (reason, packets) in counts.drops {
                    let others = self.other_drops.get(&reason).copied().unwrap_or_default();
                    self.metrics.dropped(reason, packets + others);
                }
                for (hook, packets, bytes) in counts.passed {
                    self.metrics.passed(hook.as_str(), packets, bytes);
                }
            }
            Err(problem) => tracing::warn!(problem, "counters of the data path cannot be read"),
        }
        let problems = self.cluster.manifest_problems.len() + self.cluster.policy_problems.len();
        self.metrics.manifest_problems.set(clamp(problems as u64));
        let policies = self.cluster.authenticated_policies + self.cluster.network_policies;
        self.metrics.policies.set(clamp(policies));
        let sequence = self.identity_status.bundle_sequence;
        self.metrics.bundle_sequence.set(clamp(sequence));
        self.measure_core();
        // Both look at the kernel, and do nothing unless somebody else has changed what is ours.
        self.reconcile_host().await;
        self.put_programs_back();
        self.discover_again();
    }
}
