//! The audit log: the executor tells, a thread of its own writes.
//!
//! The disk never holds up traffic: what does not fit into the queue, or cannot be written, is
//! counted, and the log says so as soon as it can.

mod files;
mod writer;

use std::{
    path::{Path, PathBuf},
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
        mpsc::{self, Receiver, SyncSender, TrySendError},
    },
    thread,
    time::Duration,
};

use signet_audit::{chain::Moment, limit::Limiter, record::Facts};
use signet_crypto::time::TimeSource;

pub(crate) use files::Setup;
use writer::Writer;

use crate::{clock, health::Health, metrics::Metrics};

/// Records that may wait for the disk.
const QUEUE: usize = 16_384;
/// The last records are worth this much waiting when the agent stops.
const FAREWELL: Duration = Duration::from_secs(2);

/// Folder of the log in the data folder.
pub(crate) fn folder(data: &Path) -> PathBuf {
    data.join("audit")
}

/// Something that happened.
struct Message {
    at: Moment,
    /// In a box, since the queue has all its room from the start.
    facts: Box<Facts>,
}

/// What was not even put into the queue.
#[derive(Default)]
struct Left {
    /// The queue was full.
    behind: AtomicU64,
    /// Refusals beyond the rate.
    suppressed: AtomicU64,
}

/// The near end of the log.
pub(crate) struct Audit {
    queue: SyncSender<Message>,
    left: Arc<Left>,
    limiter: Limiter,
    time: TimeSource,
    done: Receiver<()>,
}

impl Audit {
    /// Starts the thread. That the log cannot be written is no error here: the agent goes on, and
    /// health, metrics and the agent's own log tell.
    ///
    /// # Errors
    /// If the thread cannot be started.
    pub(crate) fn start(
        setup: Setup,
        time: TimeSource,
        metrics: Metrics,
        health: Health,
    ) -> Result<Self, String> {
        let (queue, messages) = mpsc::sync_channel(QUEUE);
        let (finished, done) = mpsc::channel();
        let left = Arc::new(Left::default());
        let mut writer = Writer::new(setup, time.clone(), metrics, health, Arc::clone(&left));
        thread::Builder::new()
            .name("audit".to_owned())
            .spawn(move || {
                writer.run(&messages);
                // Nobody may be waiting any more.
                let _ = finished.send(());
            })
            .map_err(|error| format!("thread of the audit log cannot be started: {error}"))?;
        Ok(Self {
            queue,
            left,
            limiter: Limiter::default(),
            time,
            done,
        })
    }

    /// Records what happened now.
    pub(crate) fn record(&self, facts: Facts) {
        let at = moment(&self.time);
        match self.queue.try_send(Message {
            at,
            facts: Box::new(facts),
        }) {
            Ok(()) => {}
            Err(TrySendError::Full(_) | TrySendError::Disconnected(_)) => {
                self.left.behind.fetch_add(1, Ordering::Relaxed);
            }
        }
    }

    /// Records a refusal, unless those of `who` come too fast.
    pub(crate) fn refusal(&mut self, who: &str, facts: impl FnOnce() -> Facts) {
        if self.limiter.admit(who, clock::boot()) {
            self.record(facts());
        } else {
            let count = self.limiter.take_suppressed();
            self.left.suppressed.fetch_add(count, Ordering::Relaxed);
        }
    }

    /// Writes what is queued, and a checkpoint.
    pub(crate) fn stop(self) {
        let Self { queue, done, .. } = self;
        drop(queue);
        if done.recv_timeout(FAREWELL).is_err() {
            tracing::warn!("audit log was not finished in time; its last second is not signed");
        }
    }
}

/// Now, on both clocks.
fn moment(time: &TimeSource) -> Moment {
    let boot = clock::boot().as_millis();
    Moment {
        wall_ms: time.wall_ms(),
        boot_ms: u64::try_from(boot).unwrap_or(u64::MAX),
    }
}
