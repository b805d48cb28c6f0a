//! Everything the tunnel counts. `docs/metrics.md` is made from this list.

use std::{fmt, sync::Arc};

use prometheus_client::{
    encoding::{EncodeMetric, MetricEncoder, NoLabelSet},
    metrics::MetricType,
};
use signet_telemetry::{Catalog, Kind};
use signet_wg::{
    Engine,
    counters::{REASONS, SlotCounters},
};

use crate::control::Link;

/// What is asked at each scrape.
#[derive(Clone)]
pub(crate) struct Source {
    pub(crate) engine: Arc<Engine>,
    pub(crate) link: Arc<Link>,
}

/// A metric whose values are read from the engine when it is scraped, so that the data path
/// has nothing to do with metrics.
#[derive(Clone)]
struct Reading {
    kind: Kind,
    source: Option<Source>,
    read: fn(&Source) -> Vec<Sample>,
}

type Labels = Vec<(&'static str, String)>;
type Sample = (Labels, u64);

/// All metrics; without a source they have no samples.
pub(crate) fn catalog(source: Option<Source>) -> Catalog {
    let mut catalog = Catalog::default();
    let mut add = |kind, name, help, labels, read| {
        let source = source.clone();
        catalog.register(kind, name, help, labels, Reading { kind, source, read });
    };
    let slot: &'static [&'static str] = &["slot"];

    add(
        Kind::Gauge,
        "signet_tunnel_agent_connected",
        "1 while an agent is connected to the control socket",
        &[],
        |source| vec![(Vec::new(), u64::from(source.link.is_connected()))],
    );
    add(
        Kind::Gauge,
        "signet_tunnel_peers",
        "Peers the agent has set",
        slot,
        |source| {
            let slots = source.engine.slots();
            slots
                .map(|(number, _, peers)| (of_slot(number), peers as u64))
                .collect()
        },
    );
    add(
        Kind::Counter,
        "signet_tunnel_handshakes",
        "WireGuard sessions established or renewed",
        slot,
        |source| by_slot(source, |counters| counters.handshakes.value()),
    );
    add(
        Kind::Counter,
        "signet_tunnel_transmitted_bytes",
        "Inner bytes sealed and handed to the underlay",
        slot,
        |source| by_slot(source, |counters| counters.traffic.tx_bytes.value()),
    );
    add(
        Kind::Counter,
        "signet_tunnel_transmitted_packets",
        "Inner packets sealed and handed to the underlay; each segment of a super-packet counts",
        slot,
        |source| by_slot(source, |counters| counters.traffic.tx_packets.value()),
    );
    add(
        Kind::Counter,
        "signet_tunnel_received_bytes",
        "Inner bytes opened, accepted and handed to the slot device",
        slot,
        |source| by_slot(source, |counters| counters.traffic.rx_bytes.value()),
    );
    add(
        Kind::Counter,
        "signet_tunnel_received_packets",
        "Inner packets opened, accepted and handed to the slot device",
        slot,
        |source| by_slot(source, |counters| counters.traffic.rx_packets.value()),
    );
    add(
        Kind::Counter,
        "signet_tunnel_dropped_packets",
        "Packets dropped by the engine; the reasons are explained in drop-reasons.md",
        &["slot", "reason"],
        dropped,
    );
    add(
        Kind::Counter,
        "signet_tunnel_device_refused_packets",
        "Frames the slot device refused, for example while it was down",
        slot,
        |source| by_slot(source, |counters| counters.tun_refused.value()),
    );
    add(
        Kind::Counter,
        "signet_tunnel_underlay_refused_packets",
        "Datagrams the underlay refused, for example without a route to the peer",
        slot,
        |source| by_slot(source, |counters| counters.underlay_refused.value()),
    );
    add(
        Kind::Counter,
        "signet_tunnel_lost_events",
        "Events the agent was not told because it was too slow; the drops in them are counted",
        &[],
        |source| vec![(Vec::new(), source.link.lost())],
    );
    catalog
}

fn of_slot(number: u8) -> Labels {
    vec![("slot", number.to_string())]
}

fn by_slot(source: &Source, read: fn(&SlotCounters) -> u64) -> Vec<Sample> {
    let slots = source.engine.slots();
    slots
        .map(|(number, counters, _)| (of_slot(number), read(counters)))
        .collect()
}

fn dropped(source: &Source) -> Vec<Sample> {
    let slots = source.engine.slots();
    slots
        .flat_map(|(number, counters, _)| {
            REASONS.map(|reason| {
                let mut labels = of_slot(number);
                labels.push(("reason", reason.as_str().into()));
                (labels, counters.dropped(reason))
            })
        })
        .collect()
}

impl Reading {
    fn value(&self, encoder: &mut MetricEncoder<'_>, value: u64) -> Result<(), fmt::Error> {
        match self.kind {
            Kind::Counter => encoder.encode_counter::<NoLabelSet, _, u64>(&value, None),
            Kind::Gauge | Kind::Histogram => {
                encoder.encode_gauge(&i64::try_from(value).unwrap_or(i64::MAX))
            }
        }
    }
}

impl EncodeMetric for Reading {
    fn encode(&self, mut encoder: MetricEncoder<'_>) -> Result<(), fmt::Error> {
        let samples = self.source.as_ref().map_or_else(Vec::new, self.read);
        for (labels, value) in samples {
            if labels.is_empty() {
                self.value(&mut encoder, value)?;
            } else {
                self.value(&mut encoder.encode_family(&labels)?, value)?;
            }
        }
        Ok(())
    }

    fn metric_type(&self) -> MetricType {
        match self.kind {
            Kind::Counter => MetricType::Counter,
            Kind::Gauge | Kind::Histogram => MetricType::Gauge,
        }
    }
}

impl fmt::Debug for Reading {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Reading")
            .field("kind", &self.kind)
            .finish_non_exhaustive()
    }
}
