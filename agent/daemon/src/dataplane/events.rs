//! The event ring, watched by the runtime.

use signet_loader::EventReader;
use tokio::io::unix::AsyncFd;

use super::limit::Limiter;
use crate::{executor::Inbox, watched};

/// The only reader of the ring.
pub(crate) struct Events {
    ring: AsyncFd<EventReader>,
}

impl Events {
    /// # Errors
    /// If the runtime cannot watch the ring.
    pub(super) fn new(ring: EventReader) -> Result<Self, String> {
        let ring = watched::ring(ring)
            .map_err(|error| format!("event ring cannot be watched: {error}"))?;
        Ok(Self { ring })
    }

    /// Hands events to the executor for as long as the process runs.
    pub(crate) async fn read_all(mut self, inbox: Inbox) {
        let mut limiter = Limiter::default();
        loop {
            let Ok(mut ready) = self.ring.readable_mut().await else {
                return;
            };
            while let Some(event) = ready.get_inner_mut().next_event() {
                if let Some(event) = limiter.admit(event) {
                    inbox.event(event);
                }
            }
            ready.clear_ready();
        }
    }
}
