//! A metric registry that remembers what it was told about each metric.

use prometheus_client::{encoding::text, registry::Metric, registry::Registry};
use serde::Serialize;

/// What a metric counts, in Prometheus' words.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Kind {
    /// Only grows; exposed with the suffix `_total`.
    Counter,
    /// Goes up and down.
    Gauge,
    /// Counts observations in buckets; exposed as `_bucket`, `_sum` and `_count`.
    Histogram,
}

/// One row of `docs/metrics.md`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct MetricDoc {
    /// The name as scraped, suffix included for counters.
    pub name: String,
    /// Counter, gauge or histogram.
    pub kind: Kind,
    /// The sentence behind `# HELP`.
    pub help: &'static str,
    /// Label names, in the order in which they are exposed.
    pub labels: &'static [&'static str],
}

/// A [`Registry`] that also answers "which metrics does this service have", samples or not.
///
/// Register everything before serving: the catalogue is then shared read-only.
#[derive(Debug, Default)]
pub struct Catalog {
    registry: Registry,
    docs: Vec<MetricDoc>,
}

impl Catalog {
    /// Registers `metric` and gives it back for use; metrics are cheap handles.
    ///
    /// `name` carries the unit and, for counters, no `_total`: the encoder appends it.
    pub fn register<M: Metric + Clone>(
        &mut self,
        kind: Kind,
        name: &'static str,
        help: &'static str,
        labels: &'static [&'static str],
        metric: M,
    ) -> M {
        // The encoder ends the sentence itself.
        let sentence = help.trim_end_matches('.');
        self.registry.register(name, sentence, metric.clone());
        let suffix = match kind {
            Kind::Counter => "_total",
            Kind::Gauge | Kind::Histogram => "",
        };
        self.docs.push(MetricDoc {
            name: format!("{name}{suffix}"),
            kind,
            help,
            labels,
        });
        metric
    }

    /// Every registered metric, in the order of registration.
    #[must_use]
    pub fn docs(&self) -> &[MetricDoc] {
        &self.docs
    }

    /// The OpenMetrics text of one scrape.
    ///
    /// # Errors
    /// Only if formatting fails, which a `String` never does.
    pub fn encode(&self) -> Result<String, std::fmt::Error> {
        let mut out = String::new();
        text::encode(&mut out, &self.registry)?;
        Ok(out)
    }
}
