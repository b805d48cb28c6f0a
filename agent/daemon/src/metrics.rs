//! Everything the agent counts. `docs/metrics.md` is made from this list.

use std::{sync::atomic::AtomicU64, time::Duration};

use prometheus_client::metrics::{
    counter::Counter, family::Family, gauge::Gauge, histogram::Histogram,
};
use signet_abi::DropReason;
use signet_agent_core::Counters;
use signet_telemetry::{Catalog, Kind};

/// One label, by its name.
type Label = [(&'static str, &'static str); 1];
type CounterFamily = Family<Label, Counter>;
type Gauges = Family<Label, Gauge>;

/// First contact takes a few round trips; the upper buckets end where packets are given up.
const CONTACT_BUCKETS: [f64; 12] = [
    0.002, 0.005, 0.01, 0.02, 0.035, 0.05, 0.075, 0.1, 0.15, 0.3, 1.0, 3.0,
];

/// Handles of every metric; clones share them.
#[derive(Clone)]
pub(crate) struct Metrics {
    pub(crate) endpoints: Gauge,
    pub(crate) svids: Gauge,
    svid_not_after: Gauges,
    svid_failures: CounterFamily,
    pub(crate) bundle_sequence: Gauge,
    pub(crate) identity_up: Gauge,
    pub(crate) identity_down: Counter,
    lookups: Counter,
    pub(crate) lookup_failures: Counter,
    pub(crate) tunnel_up: Gauge,
    pub(crate) tunnel_down: Counter,
    pub(crate) tunnel_failures: Counter,
    pub(crate) manifest_problems: Gauge,
    pub(crate) policies: Gauge,
    pub(crate) policy_entries: Gauge,
    pub(crate) map_failures: Counter,
    pub(crate) map_unwritten: Gauge,
    pub(crate) events_lost: Counter,
    pub(crate) peers: Gauge,
    pub(crate) channels: Gauge,
    channels_opened: Counter,
    channel_refused: CounterFamily,
    dial_failures: Counter,
    violations: Counter,
    pairs: Gauges,
    pairs_opened: Counter,
    pairs_refused: Counter,
    proofs: CounterFamily,
    requests_refused: Counter,
    labels: Gauges,
    label_changes: CounterFamily,
    epoch_switches: Counter,
    epoch_failures: Counter,
    pub(crate) epoch: Gauge,
    pub(crate) oldest_epoch: Gauge,
    pub(crate) epoch_overdue: Gauge,
    pub(crate) hold_packets: Gauge,
    held: Counter,
    pub(crate) held_bytes: Counter,
    released: Counter,
    hold_dropped: CounterFamily,
    drops: CounterFamily,
    would_drop: CounterFamily,
    passed_packets: CounterFamily,
    passed_bytes: CounterFamily,
    pub(crate) first_contact: Histogram,
    pub(crate) audit_up: Gauge,
    pub(crate) audit_records: Counter,
    pub(crate) audit_lost: Counter,
    pub(crate) audit_suppressed: Counter,
    pub(crate) audit_batches: Counter,
    pub(crate) audit_checkpoints: Counter,
    pub(crate) audit_checkpoint_at: Gauge,
    pub(crate) audit_failures: Counter,
    pub(crate) audit_bytes: Gauge,
    pub(crate) audit_segments: Gauge,
}

impl Metrics {
    /// Registers everything.
    pub(crate) fn new(catalog: &mut Catalog) -> Self {
        let mut make = Maker { catalog };
        Self {
            endpoints: make.gauge("signet_agent_endpoints", "Local pods under enforcement."),
            svids: make.gauge("signet_agent_svids", "Workload SVIDs held."),
            svid_not_after: make.gauges(
                "signet_agent_svid_not_after_timestamp_seconds",
                "End of the SVID that runs out first, of the node and of the workloads.",
                &["kind"],
            ),
            svid_failures: make.counters(
                "signet_agent_svid_failures",
                "Certificates that could not be had or renewed.",
                &["kind"],
            ),
            bundle_sequence: make.gauge(
                "signet_agent_bundle_sequence",
                "Sequence of the trust bundle in force.",
            ),
            identity_up: make.gauge(
                "signet_agent_identity_stream_up",
                "1 while the stream from the identity service is up.",
            ),
            identity_down: make.counter(
                "signet_agent_identity_stream_failures",
                "Times the stream from the identity service ended or could not be opened.",
            ),
            lookups: make.counter("signet_agent_lookups", "Questions to the directory."),
            lookup_failures: make.counter(
                "signet_agent_lookup_failures",
                "Questions to the directory that could not be asked.",
            ),
            tunnel_up: make.gauge(
                "signet_agent_tunnel_up",
                "1 while the control connection to signet-tunnel is up.",
            ),
            tunnel_down: make.counter(
                "signet_agent_tunnel_disconnects",
                "Times the control connection to signet-tunnel was lost.",
            ),
            tunnel_failures: make.counter(
                "signet_agent_tunnel_command_failures",
                "Commands that signet-tunnel refused.",
            ),
            manifest_problems: make.gauge(
                "signet_agent_manifest_problems",
                "Manifests and policies that are wrong; their last good state is in force.",
            ),
            policies: make.gauge("signet_agent_policies", "Policies in force."),
            policy_entries: make.gauge(
                "signet_agent_policy_map_entries",
                "Entries of the policy map.",
            ),
            map_failures: make.counter(
                "signet_agent_map_failures",
                "Map operations that the kernel refused.",
            ),
            map_unwritten: make.gauge(
                "signet_agent_map_unwritten_rows",
                "Rows that the kernel would not take, most often because a map is full; nothing passes by them, and they are tried again.",
            ),
            events_lost: make.counter(
                "signet_agent_events_lost",
                "Flow events that a reader was too slow for.",
            ),
            peers: make.gauge("signet_agent_peers", "Remote nodes with state here."),
            channels: make.gauge("signet_channel_open", "Node channels open now."),
            channels_opened: make.counter("signet_channel_opened", "Node channels opened."),
            channel_refused: make.counters(
                "signet_channel_refused",
                "Incoming connections refused before they were a channel.",
                &["reason"],
            ),
            dial_failures: make.counter(
                "signet_channel_dial_failures",
                "Dials to other nodes that failed.",
            ),
            violations: make.counter(
                "signet_channel_violations",
                "Channels closed because the peer broke the protocol.",
            ),
            pairs: make.gauges(
                "signet_pair_count",
                "Pairs of a local and a remote pod.",
                &["state"],
            ),
            pairs_opened: make.counter(
                "signet_pair_opened",
                "Pairs authenticated in both directions.",
            ),
            pairs_refused: make.counter(
                "signet_pair_refused",
                "Destinations refused to a local pod for a while.",
            ),
            proofs: make.counters(
                "signet_proof_results",
                "Workload proofs made for peers, and those of peers believed and not believed.",
                &["result"],
            ),
            requests_refused: make.counter(
                "signet_proof_requests_refused",
                "Proof requests of peers refused.",
            ),
            labels: make.gauges(
                "signet_label_count",
                "Labels in force: granted to peers, and held from peers.",
                &["side"],
            ),
            label_changes: make.counters(
                "signet_label_changes",
                "Labels granted to peers, received from peers, and taken back.",
                &["change"],
            ),
            epoch_switches: make.counter(
                "signet_epoch_switches",
                "Times that packets to a peer moved to the next epoch's keys.",
            ),
            epoch_failures: make.counter(
                "signet_epoch_failures",
                "Switches to the next epoch's keys that did not come about and are tried again.",
            ),
            epoch: make.gauge(
                "signet_epoch_current_number",
                "The cluster's epoch, from the anchored time and what the identity service says.",
            ),
            oldest_epoch: make.gauge(
                "signet_epoch_oldest_number",
                "The cluster's epoch in which the oldest keys that packets leave under were made.",
            ),
            epoch_overdue: make.gauge(
                "signet_epoch_overdue_peers",
                "Peers whose keys are two epochs old: nothing passes to or from them. Alert on it.",
            ),
            hold_packets: make.gauge("signet_hold_packets", "Packets waiting for their pair."),
            held: make.counter("signet_hold_held_packets", "Packets that had to wait."),
            held_bytes: make.counter("signet_hold_held_bytes", "Their bytes."),
            released: make.counter(
                "signet_hold_released_packets",
                "Packets released from waiting.",
            ),
            hold_dropped: make.counters(
                "signet_hold_dropped_packets",
                "Packets dropped while they waited.",
                &["reason"],
            ),
            would_drop: make.counters(
                "signet_policy_would_drop_flows",
                "Flows that passed and would not if the dry runs were enforced, by the reason they would get.",
                &["reason"],
            ),
            drops: make.counters(
                "signet_drop_packets",
                "Packets dropped by reason: by the data path since its maps were made, by the engine and the hold queue since the agent started.",
                &["reason"],
            ),
            passed_packets: make.counters(
                "signet_pass_packets",
                "Packets passed by the data path since its maps were made.",
                &["hook"],
            ),
            passed_bytes: make.counters("signet_pass_bytes", "Their bytes.", &["hook"]),
            first_contact: make.histogram(
                "signet_contact_first_seconds",
                "From a pair's first packet to the pair being open.",
            ),
            audit_up: make.gauge(
                "signet_audit_up",
                "1 while the audit log can be written.",
            ),
            audit_records: make.counter(
                "signet_audit_records",
                "Audit records written and signed.",
            ),
            audit_lost: make.counter(
                "signet_audit_lost_records",
                "Audit records that could not be written.",
            ),
            audit_suppressed: make.counter(
                "signet_audit_suppressed_records",
                "Refusals that came faster than they are recorded.",
            ),
            audit_batches: make.counter(
                "signet_audit_batches",
                "Batch signatures in the audit log, checkpoints not among them.",
            ),
            audit_checkpoints: make.counter(
                "signet_audit_checkpoints",
                "Checkpoints of the audit log.",
            ),
            audit_checkpoint_at: make.gauge(
                "signet_audit_checkpoint_timestamp_seconds",
                "Time of the last checkpoint of the audit log.",
            ),
            audit_failures: make.counter(
                "signet_audit_write_failures",
                "Times the audit log could not be opened or written.",
            ),
            audit_bytes: make.gauge("signet_audit_size_bytes", "Size of the audit log."),
            audit_segments: make.gauge("signet_audit_segments", "Segments of the audit log."),
        }
    }

    pub(crate) fn channel_refused(&self, reason: &'static str) {
        self.channel_refused
            .get_or_create(&[("reason", reason)])
            .inc();
    }

    pub(crate) fn svid_failed(&self, kind: &'static str) {
        self.svid_failures.get_or_create(&[("kind", kind)]).inc();
    }

    pub(crate) fn svid_ends(&self, kind: &'static str, unix: u64) {
        let value = i64::try_from(unix).unwrap_or(i64::MAX);
        self.svid_not_after
            .get_or_create(&[("kind", kind)])
            .set(value);
    }

    pub(crate) fn pairs(&self, state: &'static str, count: u64) {
        self.pairs
            .get_or_create(&[("state", state)])
            .set(clamp(count));
    }

    /// Takes over what the core counts.
    pub(crate) fn core(&self, counters: &Counters) {
        for (counter, total) in [
            (&self.lookups, counters.lookups),
            (&self.channels_opened, counters.channels_opened),
            (&self.dial_failures, counters.dials_failed),
            (&self.violations, counters.channel_violations),
            (&self.pairs_opened, counters.pairs_opened),
            (&self.pairs_refused, counters.pairs_refused),
            (&self.requests_refused, counters.requests_refused),
            (&self.epoch_switches, counters.epoch_switches),
            (&self.epoch_failures, counters.epoch_failures),
            (&self.held, counters.held),
            (&self.released, counters.released),
        ] {
            store(counter, total);
        }
        for (result, total) in [
            ("made", counters.proofs_made),
            ("accepted", counters.proofs_accepted),
            ("rejected", counters.proofs_rejected),
        ] {
            store(&self.proofs.get_or_create(&[("result", result)]), total);
        }
        for (change, total) in [
            ("granted", counters.labels_granted),
            ("received", counters.labels_received),
            ("revoked", counters.labels_revoked),
        ] {
            store(
                &self.label_changes.get_or_create(&[("change", change)]),
                total,
            );
        }
    }

    pub(crate) fn labels(&self, side: &'static str, count: usize) {
        self.labels
            .get_or_create(&[("side", side)])
            .set(clamp(count as u64));
    }

    pub(crate) fn hold_dropped(&self, reason: DropReason, packets: u64) {
        self.hold_dropped
            .get_or_create(&[("reason", reason.as_str())])
            .inc_by(packets);
    }

    /// Takes over a total that the data path counts.
    pub(crate) fn dropped(&self, reason: DropReason, total: u64) {
        store(
            &self.drops.get_or_create(&[("reason", reason.as_str())]),
            total,
        );
    }

    /// Flows that dry runs would stop.
    pub(crate) fn would_drop(&self, reason: DropReason, flows: u64) {
        self.would_drop
            .get_or_create(&[("reason", reason.as_str())])
            .inc_by(flows);
    }

    /// Takes over totals that the data path counts.
    pub(crate) fn passed(&self, hook: &'static str, packets: u64, bytes: u64) {
        store(
            &self.passed_packets.get_or_create(&[("hook", hook)]),
            packets,
        );
        store(&self.passed_bytes.get_or_create(&[("hook", hook)]), bytes);
    }

    pub(crate) fn contact(&self, took: Duration) {
        self.first_contact.observe(took.as_secs_f64());
    }
}

/// A gauge's value of a count.
pub(crate) fn clamp(count: u64) -> i64 {
    i64::try_from(count).unwrap_or(i64::MAX)
}

fn store(counter: &Counter<u64, AtomicU64>, total: u64) {
    counter
        .inner()
        .store(total, std::sync::atomic::Ordering::Relaxed);
}

struct Maker<'a> {
    catalog: &'a mut Catalog,
}

impl Maker<'_> {
    fn counter(&mut self, name: &'static str, help: &'static str) -> Counter {
        self.catalog
            .register(Kind::Counter, name, help, &[], Counter::default())
    }

    fn gauge(&mut self, name: &'static str, help: &'static str) -> Gauge {
        self.catalog
            .register(Kind::Gauge, name, help, &[], Gauge::default())
    }

    fn counters(
        &mut self,
        name: &'static str,
        help: &'static str,
        labels: &'static [&'static str],
    ) -> CounterFamily {
        self.catalog
            .register(Kind::Counter, name, help, labels, CounterFamily::default())
    }

    fn gauges(
        &mut self,
        name: &'static str,
        help: &'static str,
        labels: &'static [&'static str],
    ) -> Gauges {
        self.catalog
            .register(Kind::Gauge, name, help, labels, Gauges::default())
    }

    fn histogram(&mut self, name: &'static str, help: &'static str) -> Histogram {
        self.catalog.register(
            Kind::Histogram,
            name,
            help,
            &[],
            Histogram::new(CONTACT_BUCKETS),
        )
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn names_are_ours_unique_and_explained() {
        let mut catalog = Catalog::default();
        let metrics = Metrics::new(&mut catalog);
        let mut seen = BTreeSet::new();
        for doc in catalog.docs() {
            assert!(doc.name.starts_with("signet_"), "{}", doc.name);
            assert!(seen.insert(doc.name.clone()), "{} twice", doc.name);
            assert!(doc.help.ends_with('.'), "{}", doc.name);
        }
        metrics.dropped(DropReason::UnknownLabel, 7);
        metrics.dropped(DropReason::UnknownLabel, 9);
        let text = catalog.encode().unwrap();
        assert!(
            text.contains("signet_drop_packets_total{reason=\"UNKNOWN_LABEL\"} 9"),
            "{text}"
        );
    }
}
