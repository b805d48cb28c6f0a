//! What the service counts.

use prometheus_client::{
    encoding::EncodeLabelSet,
    metrics::{counter::Counter, family::Family, gauge::Gauge},
};
use signet_telemetry::{Catalog, Kind};

/// One label, by the metric's own name for it.
macro_rules! label {
    ($name:ident, $field:ident) => {
        #[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
        pub(crate) struct $name {
            pub(crate) $field: &'static str,
        }
    };
}

label!(Purpose, purpose);
label!(Reason, reason);
label!(What, event);
label!(Outcome, outcome);
label!(Role, role);

/// Handles to every metric of the service.
#[derive(Clone, Debug)]
pub(crate) struct Metrics {
    pub(crate) svids_issued: Family<Purpose, Counter>,
    pub(crate) svids_refused: Family<Reason, Counter>,
    pub(crate) nodes_refused: Family<Reason, Counter>,
    pub(crate) tokens: Family<What, Counter>,
    pub(crate) tokens_refused: Family<Reason, Counter>,
    pub(crate) connections: Family<Outcome, Counter>,
    pub(crate) connections_open: Gauge,
    pub(crate) nodes: Gauge,
    pub(crate) nodes_joined: Gauge,
    pub(crate) streams: Gauge,
    pub(crate) streams_closed: Family<Reason, Counter>,
    pub(crate) subscriptions: Counter,
    pub(crate) events_pushed: Counter,
    pub(crate) entries: Gauge,
    pub(crate) changes: Counter,
    pub(crate) lookups: Family<Outcome, Counter>,
    pub(crate) authority_not_after: Family<Role, Gauge>,
    pub(crate) own_not_after: Gauge,
    pub(crate) manifest_problems: Gauge,
    pub(crate) clock_difference: Gauge,
}

impl Metrics {
    /// All metrics, and the catalogue to serve them from.
    pub(crate) fn register() -> (Self, Catalog) {
        let mut catalog = Catalog::default();
        let c = &mut catalog;
        let metrics = Self {
            svids_issued: c.register(
                Kind::Counter,
                "signet_identity_svids_issued",
                "SVIDs signed: node agent, agent plane, identity service.",
                &["purpose"],
                Family::default(),
            ),
            svids_refused: c.register(
                Kind::Counter,
                "signet_identity_svids_refused",
                "Workload SVIDs refused: other_node is a node that asked for a pod it does not run.",
                &["reason"],
                Family::default(),
            ),
            nodes_refused: c.register(
                Kind::Counter,
                "signet_identity_nodes_refused",
                "Calls of nodes refused, other than for a join token or a pod.",
                &["reason"],
                Family::default(),
            ),
            tokens: c.register(
                Kind::Counter,
                "signet_identity_join_tokens",
                "Join tokens created and consumed.",
                &["event"],
                Family::default(),
            ),
            tokens_refused: c.register(
                Kind::Counter,
                "signet_identity_join_tokens_refused",
                "Join tokens refused: malformed, unknown, other_node, used, expired.",
                &["reason"],
                Family::default(),
            ),
            connections: c.register(
                Kind::Counter,
                "signet_identity_connections",
                "TCP connections by outcome: accepted, handshake_failed, handshake_timeout, too_many.",
                &["outcome"],
                Family::default(),
            ),
            connections_open: c.register(
                Kind::Gauge,
                "signet_identity_connections_open",
                "TLS connections that are open.",
                &[],
                Gauge::default(),
            ),
            nodes: c.register(
                Kind::Gauge,
                "signet_identity_nodes",
                "Node objects.",
                &[],
                Gauge::default(),
            ),
            nodes_joined: c.register(
                Kind::Gauge,
                "signet_identity_nodes_joined",
                "Node objects whose agent has joined.",
                &[],
                Gauge::default(),
            ),
            streams: c.register(
                Kind::Gauge,
                "signet_identity_streams",
                "Nodes whose Watch stream is up.",
                &[],
                Gauge::default(),
            ),
            streams_closed: c.register(
                Kind::Counter,
                "signet_identity_streams_closed",
                "Watch streams that ended: left, replaced, node_gone, expired, slow, limit.",
                &["reason"],
                Family::default(),
            ),
            subscriptions: c.register(
                Kind::Counter,
                "signet_identity_subscriptions",
                "Subscriptions to pods on Watch streams.",
                &[],
                Counter::default(),
            ),
            events_pushed: c.register(
                Kind::Counter,
                "signet_identity_events_pushed",
                "Events of the directory sent on Watch streams.",
                &[],
                Counter::default(),
            ),
            entries: c.register(
                Kind::Gauge,
                "signet_identity_directory_entries",
                "Live pods in the directory.",
                &[],
                Gauge::default(),
            ),
            changes: c.register(
                Kind::Counter,
                "signet_identity_directory_changes",
                "Pods and nodes that came, changed or went.",
                &[],
                Counter::default(),
            ),
            lookups: c.register(
                Kind::Counter,
                "signet_identity_lookups",
                "Lookups in the directory: hit or miss.",
                &["outcome"],
                Family::default(),
            ),
            authority_not_after: c.register(
                Kind::Gauge,
                "signet_identity_authority_not_after_timestamp_seconds",
                "End of validity of the active authority of each role.",
                &["role"],
                Family::default(),
            ),
            own_not_after: c.register(
                Kind::Gauge,
                "signet_identity_svid_not_after_timestamp_seconds",
                "End of validity of the service's own SVID.",
                &[],
                Gauge::default(),
            ),
            manifest_problems: c.register(
                Kind::Gauge,
                "signet_identity_manifest_problems",
                "Problems in the manifests; what they said before stays in force.",
                &[],
                Gauge::default(),
            ),
            clock_difference: c.register(
                Kind::Gauge,
                "signet_identity_clock_difference_milliseconds",
                "The machine's wall clock less the service's, after a jump that it does not follow.",
                &[],
                Gauge::default(),
            ),
        };
        (metrics, catalog)
    }
}

/// A count as a gauge takes it.
pub(crate) fn gauge(count: usize) -> i64 {
    i64::try_from(count).unwrap_or(i64::MAX)
}
