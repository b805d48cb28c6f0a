//! The answer behind `/healthz` and `/readyz`.

use serde::Serialize;

/// One thing a service needs in order to do its work.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Check {
    /// A short noun, such as `identity` or `tunnel`.
    pub name: &'static str,
    /// Whether it is as it should be.
    pub ok: bool,
    /// What is wrong and what to do, or what is right.
    pub detail: String,
}

/// Whether the process lives and whether it can serve.
///
/// Liveness is for restarting (`/healthz`), readiness for waiting (`/readyz`): an agent that
/// has lost its identity service is alive, not ready, and must not be restarted for it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Health {
    /// Checks that must pass for `/readyz`.
    pub ready: Vec<Check>,
    /// Checks that must pass for `/healthz`.
    pub alive: Vec<Check>,
}

impl Health {
    /// True if every readiness and liveness check passes.
    #[must_use]
    pub fn is_ready(&self) -> bool {
        self.is_alive() && self.ready.iter().all(|check| check.ok)
    }

    /// True if every liveness check passes.
    #[must_use]
    pub fn is_alive(&self) -> bool {
        self.alive.iter().all(|check| check.ok)
    }

    /// One line per check, `ok` or `FAIL` first.
    #[must_use]
    pub fn to_text(&self) -> String {
        let mut out = String::new();
        for check in self.alive.iter().chain(&self.ready) {
            let word = if check.ok { "ok" } else { "FAIL" };
            out.push_str(&format!("{word} {}: {}\n", check.name, check.detail));
        }
        if out.is_empty() {
            out.push_str("ok\n");
        }
        out
    }
}
