//! What `/healthz`, `/readyz` and the checks of `status` say.

use std::sync::{Arc, Mutex, PoisonError};

use signet_agent_core::status::{HealthCheck, IdentityStatus, TunnelStatus};
use signet_telemetry as telemetry;

/// The checks, by name. Clones share them.
#[derive(Clone)]
pub(crate) struct Health {
    checks: Arc<Mutex<Vec<Entry>>>,
}

struct Entry {
    name: &'static str,
    ok: bool,
    detail: String,
    hint: &'static str,
}

const IDENTITY: &str = "identity";
const TUNNEL: &str = "tunnel";
const DATA_PATH: &str = "data path";
const HOST: &str = "host network";
const AUDIT: &str = "audit";

impl Health {
    pub(crate) fn new() -> Self {
        let entry = |name, detail: &str, hint| Entry {
            name,
            ok: false,
            detail: detail.into(),
            hint,
        };
        let checks = vec![
            entry(
                DATA_PATH,
                "programs are not loaded yet",
                "see the agent's log for the first error; restarting the agent puts programs back",
            ),
            entry(
                HOST,
                "not set up yet",
                "see the agent's log; devices, routes and rules must be the agent's to change",
            ),
            entry(
                IDENTITY,
                "node is not attested yet",
                "check that signet-identity runs, --identity, --trust-bundle and this machine's clock",
            ),
            entry(
                TUNNEL,
                "not connected yet",
                "start signet-tunnel with the --control-socket that is --tunnel-socket here",
            ),
            entry(
                AUDIT,
                "log is not open yet",
                "make room on the disk of --data-dir, or mend what the agent's log says; it is tried again every few seconds",
            ),
        ];
        Self {
            checks: Arc::new(Mutex::new(checks)),
        }
    }

    /// Whether that is news.
    pub(crate) fn data_path(&self, state: Result<String, String>) -> bool {
        let ok = state.is_ok();
        let (Ok(detail) | Err(detail)) = state;
        self.set(DATA_PATH, ok, detail)
    }

    /// Whether that is news.
    pub(crate) fn host(&self, problem: Option<String>) -> bool {
        let ok = problem.is_none();
        self.set(
            HOST,
            ok,
            problem.unwrap_or_else(|| "devices, routes and rules are in place".into()),
        )
    }

    pub(crate) fn audit(&self, state: Result<String, String>) {
        let ok = state.is_ok();
        let (Ok(detail) | Err(detail)) = state;
        self.set(AUDIT, ok, detail);
    }

    pub(crate) fn identity(&self, status: &IdentityStatus) {
        let detail = match &status.problem {
            None => format!("stream from {} is up", status.address),
            Some(problem) => format!("stream from {} is down: {problem}", status.address),
        };
        self.set(IDENTITY, status.connected, detail);
    }

    pub(crate) fn tunnel(&self, status: &TunnelStatus) {
        let detail = match &status.problem {
            None => format!("connected by {}", status.socket),
            Some(problem) => problem.clone(),
        };
        self.set(TUNNEL, status.connected, detail);
    }

    fn set(&self, name: &str, ok: bool, detail: String) -> bool {
        let mut checks = self.checks.lock().unwrap_or_else(PoisonError::into_inner);
        let Some(entry) = checks.iter_mut().find(|entry| entry.name == name) else {
            return false;
        };
        let news = entry.ok != ok || entry.detail != detail;
        entry.ok = ok;
        entry.detail = detail;
        news
    }

    /// For the status socket.
    pub(crate) fn checks(&self) -> Vec<HealthCheck> {
        let checks = self.checks.lock().unwrap_or_else(PoisonError::into_inner);
        let check = |entry: &Entry| HealthCheck {
            name: entry.name.to_owned(),
            ok: entry.ok,
            detail: entry.detail.clone(),
            hint: (!entry.ok).then(|| entry.hint.to_owned()),
        };
        checks.iter().map(check).collect()
    }

    /// For the metrics server. The process is alive as long as it answers: restarting it would
    /// mend none of these.
    pub(crate) fn for_probes(&self) -> telemetry::Health {
        let checks = self.checks.lock().unwrap_or_else(PoisonError::into_inner);
        let check = |entry: &Entry| telemetry::Check {
            name: entry.name,
            ok: entry.ok,
            detail: if entry.ok {
                entry.detail.clone()
            } else {
                format!("{}; {}", entry.detail, entry.hint)
            },
        };
        telemetry::Health {
            ready: checks.iter().map(check).collect(),
            alive: Vec::new(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ready_once_everything_is_and_a_hint_only_while_not() {
        let health = Health::new();
        assert!(!health.for_probes().is_ready() && health.for_probes().is_alive());
        assert!(health.checks().iter().all(|check| check.hint.is_some()));
        health.data_path(Ok("6 programs".into()));
        health.host(None);
        health.audit(Ok("written".into()));
        health.identity(&IdentityStatus {
            connected: true,
            ..IdentityStatus::default()
        });
        health.tunnel(&TunnelStatus {
            connected: true,
            ..TunnelStatus::default()
        });
        assert!(health.for_probes().is_ready());
        assert!(health.checks().iter().all(|check| check.hint.is_none()));

        let down = IdentityStatus {
            problem: Some("refused".into()),
            ..IdentityStatus::default()
        };
        health.identity(&down);
        let text = health.for_probes().to_text();
        assert!(
            text.contains("FAIL identity") && text.contains("--trust-bundle"),
            "{text}"
        );
    }
}
