//! The thread that writes: batches in time, checkpoints in time, and what to do when it cannot.

use std::{
    sync::{
        Arc,
        atomic::Ordering,
        mpsc::{Receiver, RecvTimeoutError},
    },
    time::{Duration, Instant},
};

use signet_audit::record::{Event, Facts};
use signet_crypto::time::TimeSource;

use super::{
    Left, Message,
    files::{Log, Setup, Why},
    moment,
};
use crate::{
    health::Health,
    metrics::{Metrics, clamp},
};

/// A batch is signed this long after its first record, so that it is on the disk within a second.
const BATCH: Duration = Duration::from_millis(500);
/// Lines in a batch at most.
const LINES: u64 = 1024;
/// From one checkpoint to the next, if anything happens.
const CHECKPOINT: Duration = Duration::from_secs(60);
/// Suppressed refusals are told this often.
const TELL: Duration = Duration::from_secs(10);
/// A log that cannot be written is tried again this often.
const RETRY: Duration = Duration::from_secs(5);

pub(super) struct Writer {
    setup: Setup,
    time: TimeSource,
    metrics: Metrics,
    health: Health,
    left: Arc<Left>,
    state: State,
    sign_at: Option<Instant>,
    mark_at: Instant,
    tell_at: Instant,
}

enum State {
    Open(Box<Log>),
    Closed {
        why: Why,
        retry_at: Instant,
        /// Somebody was told.
        told: bool,
    },
}

impl Writer {
    pub(super) fn new(
        setup: Setup,
        time: TimeSource,
        metrics: Metrics,
        health: Health,
        left: Arc<Left>,
    ) -> Self {
        let now = Instant::now();
        Self {
            setup,
            time,
            metrics,
            health,
            left,
            state: State::Closed {
                why: Why {
                    start: true,
                    lost: 0,
                },
                retry_at: now,
                told: false,
            },
            sign_at: None,
            mark_at: now + CHECKPOINT,
            tell_at: now + TELL,
        }
    }

    /// Writes until nobody can send any more.
    pub(super) fn run(&mut self, messages: &Receiver<Message>) {
        loop {
            self.work();
            let wait = self.due().saturating_duration_since(Instant::now());
            match messages.recv_timeout(wait) {
                Ok(message) => {
                    self.take(message);
                    while self.has_room()
                        && let Ok(message) = messages.try_recv()
                    {
                        self.take(message);
                    }
                    self.flush();
                }
                Err(RecvTimeoutError::Timeout) => {}
                Err(RecvTimeoutError::Disconnected) => break,
            }
        }
        self.record(Facts::new(Event::Stopped));
        self.checkpoint();
    }

    /// What is due now.
    fn work(&mut self) {
        let now = Instant::now();
        if let State::Closed { retry_at, .. } = &self.state
            && *retry_at <= now
        {
            self.open();
        }
        let behind = self.left.behind.swap(0, Ordering::Relaxed);
        if behind > 0 {
            self.metrics.audit_lost.inc_by(behind);
            let reason = "the disk was too slow";
            self.record(Facts::counted(Event::Lost, behind, reason));
        }
        if self.tell_at <= now {
            self.tell_at = now + TELL;
            let count = self.left.suppressed.swap(0, Ordering::Relaxed);
            if count > 0 {
                self.metrics.audit_suppressed.inc_by(count);
                let reason = "refusals came faster than they are recorded";
                self.record(Facts::counted(Event::Suppressed, count, reason));
            }
        }
        if self.mark_at <= now {
            self.checkpoint();
        } else if self.sign_at.is_some_and(|at| at <= now) || !self.has_room() {
            self.sign();
        }
    }

    fn due(&self) -> Instant {
        let first = self.mark_at.min(self.tell_at);
        match &self.state {
            State::Open(_) => self.sign_at.map_or(first, |at| at.min(first)),
            State::Closed { retry_at, .. } => *retry_at,
        }
    }

    fn has_room(&self) -> bool {
        match &self.state {
            State::Open(log) => log.unsigned() < LINES,
            State::Closed { .. } => true,
        }
    }

    fn take(&mut self, message: Message) {
        if let State::Open(log) = &mut self.state {
            let room = log.make_room(&self.setup, message.at);
            self.settle(room);
        }
        match &mut self.state {
            State::Open(log) => {
                log.record(message.at, *message.facts);
                self.sign_at.get_or_insert_with(|| Instant::now() + BATCH);
            }
            State::Closed { why, .. } => {
                self.metrics.audit_lost.inc();
                why.lost = why.lost.saturating_add(1);
            }
        }
    }

    fn record(&mut self, facts: Facts) {
        let at = moment(&self.time);
        self.take(Message {
            at,
            facts: Box::new(facts),
        });
    }

    fn flush(&mut self) {
        if let State::Open(log) = &mut self.state {
            let result = log.flush();
            self.settle(result);
        }
    }

    fn sign(&mut self) {
        self.sign_at = None;
        let now = moment(&self.time);
        if let State::Open(log) = &mut self.state
            && log.wants_signature()
        {
            let result = log.sign(now);
            if result.is_ok() {
                self.metrics.audit_batches.inc();
            }
            self.settle(result);
        }
    }

    fn checkpoint(&mut self) {
        self.mark_at = Instant::now() + CHECKPOINT;
        let now = moment(&self.time);
        let State::Open(log) = &mut self.state else {
            return;
        };
        match log.checkpoint(&self.setup, now) {
            Ok(Some(line)) => {
                self.sign_at = None;
                self.metrics.audit_checkpoints.inc();
                self.metrics
                    .audit_checkpoint_at
                    .set(clamp(now.wall_ms / 1000));
                // Whoever keeps the agent's log elsewhere keeps this too.
                let line = String::from_utf8_lossy(&line);
                tracing::info!(target: "audit", line = line.trim_end(), "checkpoint");
                self.settle(Ok(()));
            }
            Ok(None) => self.sign(),
            Err(problem) => self.settle(Err(problem)),
        }
    }

    fn open(&mut self) {
        let State::Closed { why, told, .. } = self.state else {
            return;
        };
        match Log::open(&self.setup, why, moment(&self.time)) {
            Ok(log) => {
                if told {
                    tracing::info!(lost = why.lost, "audit log can be written again");
                }
                let at = log.position();
                tracing::info!(target: "audit", line = at.seq, hash = %at.hash, "log is open");
                self.state = State::Open(Box::new(log));
                self.sign_at = None;
                self.settle(Ok(()));
            }
            Err(problem) => self.close(why, told, &problem),
        }
    }

    /// Tells how the last operation went, and closes the log if it failed.
    fn settle(&mut self, result: Result<(), String>) {
        let State::Open(log) = &mut self.state else {
            return;
        };
        self.metrics.audit_records.inc_by(log.take_signed());
        match result {
            Ok(()) => {
                let (bytes, segments) = log.size();
                self.metrics.audit_up.set(1);
                self.metrics.audit_bytes.set(clamp(bytes));
                self.metrics.audit_segments.set(clamp(segments));
                let folder = self.setup.folder.display();
                self.health.audit(Ok(format!("log in {folder} is written")));
            }
            Err(problem) => {
                let lost = log.unsigned();
                self.metrics.audit_lost.inc_by(lost);
                self.close(Why { start: false, lost }, false, &problem);
            }
        }
    }

    fn close(&mut self, why: Why, told: bool, problem: &str) {
        if !told {
            tracing::error!(
                problem,
                "audit log cannot be written; traffic goes on, records are lost until it can"
            );
        }
        self.metrics.audit_failures.inc();
        self.metrics.audit_up.set(0);
        self.health.audit(Err(problem.to_owned()));
        self.sign_at = None;
        self.state = State::Closed {
            why,
            retry_at: Instant::now() + RETRY,
            told: true,
        };
    }
}

#[cfg(test)]
mod tests;
