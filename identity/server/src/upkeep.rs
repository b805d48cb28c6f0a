//! What has to be done from time to time: certificates, clock, memory.

use std::{sync::Arc, time::Duration};

use signet_crypto::{svid::X509Svid, time::UnixTime, tls::SvidStore};
use tokio::time::{MissedTickBehavior, interval};

use crate::{clock, service::Service};

/// The longest time between two looks.
const LONGEST: Duration = Duration::from_secs(30);
/// How often old join tokens are swept out.
const SWEEP: Duration = Duration::from_secs(3600);

/// Runs until the runtime ends.
pub(crate) async fn run(service: Arc<Service>, svid: SvidStore) {
    let period = (service.ttl / 10).clamp(Duration::from_secs(1), LONGEST);
    let mut tick = interval(period);
    tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut upkeep = Upkeep {
        service,
        svid,
        unsaved: false,
        jumped: false,
        swept: None,
    };
    loop {
        tick.tick().await;
        let worked = tokio::task::spawn_blocking(move || {
            upkeep.look();
            upkeep
        });
        match worked.await {
            Ok(back) => upkeep = back,
            Err(error) => {
                tracing::error!(%error, "upkeep has failed; restart the service");
                return;
            }
        }
    }
}

struct Upkeep {
    service: Arc<Service>,
    svid: SvidStore,
    /// Authorities that changed and could not be stored.
    unsaved: bool,
    /// Whether the jump of the machine's clock has been said.
    jumped: bool,
    swept: Option<UnixTime>,
}

impl Upkeep {
    fn look(&mut self) {
        self.follow_clock();
        let now = self.service.time.now().wall;
        self.maintain_authorities(now);
        if is_past_half(&self.svid.load(), now) {
            let renewed = self.service.own_svid();
            match renewed.map(|svid| self.svid.swap(svid)) {
                Ok(Ok(())) => tracing::info!("own SVID renewed"),
                Ok(Err(error)) => tracing::error!(%error, "own SVID not renewed"),
                Err(error) => tracing::error!(%error, "own SVID not renewed"),
            }
        }
        self.service.ledger().expire(now);
        let due = self
            .swept
            .is_none_or(|swept| now.as_secs() >= swept.as_secs() + SWEEP.as_secs());
        if due {
            self.swept = Some(now);
            if let Err(error) = self.service.store.sweep(now) {
                tracing::error!(%error, "old join tokens not removed");
            }
        }
    }

    fn follow_clock(&mut self) {
        let difference = clock::follow(&self.service.time).err();
        self.service
            .metrics
            .clock_difference
            .set(difference.unwrap_or_default());
        if let Some(difference_ms) = difference.filter(|_| !self.jumped) {
            tracing::warn!(
                difference_ms,
                "the machine's clock jumped; the service keeps its own time, since every certificate \
                 hangs on it: restart it if the new time is right"
            );
        }
        self.jumped = difference.is_some();
    }

    fn maintain_authorities(&mut self, now: UnixTime) {
        let changed = {
            let mut authorities = self.service.authorities_mut();
            match authorities.maintain(now) {
                Ok(changed) => changed,
                Err(error) => {
                    tracing::error!(%error, "issuing authority not replaced");
                    false
                }
            }
        };
        if !changed && !self.unsaved {
            return;
        }
        match self
            .service
            .store
            .save_authorities(&self.service.authorities())
        {
            Ok(()) => {
                self.unsaved = false;
                tracing::info!("issuing authorities changed");
            }
            Err(error) => {
                self.unsaved = true;
                tracing::error!(%error, "authorities not stored; trying again");
            }
        }
        self.service.show_authorities();
    }
}

fn is_past_half(svid: &X509Svid, now: UnixTime) -> bool {
    let (from, to) = (svid.not_before().as_secs(), svid.not_after().as_secs());
    now.as_secs() >= from + to.saturating_sub(from) / 2
}
