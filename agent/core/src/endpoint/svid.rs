//! One certificate that the agent keeps alive: asked for, held, renewed at half life.
//!
//! The one before stays in use while a renewal fails. Used for each endpoint's agent-plane SVID
//! and for the node's own.

use std::{sync::Arc, time::Duration};

use signet_crypto::svid::X509Svid;

use crate::effects::Ctx;

/// A certificate with its end on the boot clock, fixed when it arrived.
#[derive(Clone, Debug)]
pub(crate) struct Held {
    pub(crate) svid: Arc<X509Svid>,
    pub(crate) expires: Duration,
    /// When it came.
    pub(crate) since: Duration,
}

/// What happens next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Next {
    /// Nobody asked yet.
    Idle,
    /// The answer is awaited.
    Asked,
    /// Ask then.
    At(Duration),
}

/// Keeps one certificate alive.
#[derive(Clone, Debug)]
pub(crate) struct Certificate {
    held: Option<Held>,
    next: Next,
    failures: u32,
}

impl Certificate {
    pub(crate) fn new() -> Self {
        Self {
            held: None,
            next: Next::Idle,
            failures: 0,
        }
    }

    /// What somebody else keeps alive: never asked for here.
    pub(crate) fn lent(by: &Certificate) -> Self {
        Self {
            held: by.held.clone(),
            next: Next::Asked,
            failures: by.failures,
        }
    }

    /// The certificate, unless there is none or it has run out.
    pub(crate) fn held(&self, now: Duration) -> Option<&Held> {
        self.held.as_ref().filter(|held| held.expires > now)
    }

    /// Failures since the last success.
    pub(crate) fn failures(&self) -> u32 {
        self.failures
    }

    /// True once, when nobody asked yet: the caller then asks.
    pub(crate) fn begin(&mut self) -> bool {
        let idle = self.next == Next::Idle;
        if idle {
            self.next = Next::Asked;
        }
        idle
    }

    pub(crate) fn issued(&mut self, svid: Arc<X509Svid>, ctx: &mut Ctx<'_>) {
        let expires = ctx.now.deadline(svid.not_after());
        let lifetime = svid
            .not_after()
            .as_secs()
            .saturating_sub(svid.not_before().as_secs());
        // 50 % +- 10 % of the lifetime before its end.
        let left = lifetime
            .saturating_mul(1000)
            .saturating_mul(400 + ctx.below(201))
            / 1000;
        let renew = expires.saturating_sub(Duration::from_millis(left));
        self.next = Next::At(renew.max(ctx.boot() + Duration::from_secs(1)));
        self.held = Some(Held {
            svid,
            expires,
            since: ctx.boot(),
        });
        self.failures = 0;
    }

    pub(crate) fn failed(&mut self, retry: (Duration, Duration), ctx: &mut Ctx<'_>) {
        self.failures = self.failures.saturating_add(1);
        self.next = Next::At(ctx.boot() + ctx.backoff(retry, self.failures));
    }

    pub(crate) fn timeout(&self) -> Option<Duration> {
        match self.next {
            Next::Idle | Next::Asked => None,
            Next::At(at) => Some(at),
        }
    }

    /// True when it is to be asked for now; counts as asked then.
    pub(crate) fn due(&mut self, now: Duration) -> bool {
        let due = matches!(self.next, Next::At(at) if at <= now);
        if due {
            self.next = Next::Asked;
        }
        due
    }

    /// The identity service is back: whoever waits after a failure asks at once.
    pub(crate) fn hurry(&mut self, now: Duration) {
        if self.failures > 0
            && let Next::At(at) = &mut self.next
        {
            *at = now;
        }
    }
}
