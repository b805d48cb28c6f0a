//! When to look again.

use std::{
    io,
    path::Path,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
        mpsc::{self, Receiver, RecvTimeoutError, Sender},
    },
    thread,
    time::{Duration, Instant},
};

use notify::{EventKind, RecommendedWatcher, RecursiveMode, Watcher as _};

use crate::{files::Files, problem::LoadError, snapshot::Snapshot};

/// After a first event, others that belong to it are waited for this long: a writer that does not
/// rename is then mostly done, and many files written at once are one change.
const SETTLE: Duration = Duration::from_millis(50);
/// However busy the directory is, a change waits no longer than this.
const SETTLE_MAX: Duration = Duration::from_millis(500);
/// Without any event, every file's stamp is looked at this often: some file systems tell nothing.
const POLL: Duration = Duration::from_secs(5);
/// The same where nothing is told at all.
const POLL_ALONE: Duration = Duration::from_secs(1);

/// A manifests directory that is followed.
#[derive(Debug)]
pub struct Watcher {
    files: Files,
    snapshot: Arc<Snapshot>,
    events: Receiver<Event>,
    sender: Sender<Event>,
    poll: Duration,
    deaf: Option<String>,
    /// Dropping it ends the events.
    _notifier: Option<RecommendedWatcher>,
}

#[derive(Debug)]
enum Event {
    Changed,
    Stop,
}

impl Watcher {
    /// Loads `dir` strictly and begins to watch it.
    ///
    /// # Errors
    /// Everything that is wrong with the directory. That the kernel cannot watch it is no error: see
    /// [`Watcher::deaf`].
    pub fn open(dir: &Path) -> Result<Self, LoadError> {
        let (sender, events) = mpsc::channel();
        // Watching begins before reading, or a change in between would go unseen.
        let (notifier, deaf) = match notifier(dir, sender.clone()) {
            Ok(notifier) => (Some(notifier), None),
            Err(error) => (None, Some(error.to_string())),
        };
        let (files, snapshot) = Files::open(dir)?;
        Ok(Self {
            files,
            snapshot: Arc::new(snapshot),
            events,
            sender,
            poll: if deaf.is_some() { POLL_ALONE } else { POLL },
            deaf,
            _notifier: notifier,
        })
    }

    /// What is in force now.
    pub fn snapshot(&self) -> Arc<Snapshot> {
        Arc::clone(&self.snapshot)
    }

    /// Why the kernel does not tell of changes (inotify's limits, mostly), if so: the directory is
    /// then looked at every second.
    pub fn deaf(&self) -> Option<&str> {
        self.deaf.as_deref()
    }

    /// Looks at the directory now. Gives the new state if it differs, problems included.
    pub fn poll(&mut self) -> Option<Arc<Snapshot>> {
        self.rescan(true)
    }

    /// Waits for a change for at most `patience`. Gives the new state if it differs.
    pub fn wait(&mut self, patience: Duration) -> Option<Arc<Snapshot>> {
        let until = Instant::now() + patience;
        loop {
            let left = until.saturating_duration_since(Instant::now());
            match self.step(left.min(self.poll)) {
                Step::Changed(snapshot) => return Some(snapshot),
                Step::Stopped => return None,
                Step::Same if Instant::now() >= until => return None,
                Step::Same => {}
            }
        }
    }

    /// Follows the directory on a thread of its own and calls `on_change` there with each new state,
    /// until the returned handle is dropped. The present state is not repeated.
    ///
    /// # Errors
    /// If no thread can be started.
    pub fn spawn(
        mut self,
        mut on_change: impl FnMut(Arc<Snapshot>) + Send + 'static,
    ) -> io::Result<Watching> {
        let stop = self.sender.clone();
        let stopped = Arc::new(AtomicBool::new(false));
        let flag = Arc::clone(&stopped);
        thread::Builder::new()
            .name("manifests".into())
            .spawn(move || {
                while !flag.load(Ordering::Acquire) {
                    match self.step(self.poll) {
                        Step::Changed(snapshot) if !flag.load(Ordering::Acquire) => {
                            on_change(snapshot)
                        }
                        Step::Changed(_) | Step::Same => {}
                        Step::Stopped => return,
                    }
                }
            })?;
        Ok(Watching { stop, stopped })
    }

    fn step(&mut self, patience: Duration) -> Step {
        let told = match self.events.recv_timeout(patience) {
            Ok(Event::Changed) => true,
            Ok(Event::Stop) => return Step::Stopped,
            Err(RecvTimeoutError::Timeout | RecvTimeoutError::Disconnected) => false,
        };
        if told && !self.settle() {
            return Step::Stopped;
        }
        match self.rescan(false) {
            Some(snapshot) => Step::Changed(snapshot),
            None => Step::Same,
        }
    }

    /// Swallows the events that follow the first; false if one says to stop.
    fn settle(&self) -> bool {
        let until = Instant::now() + SETTLE_MAX;
        while Instant::now() < until {
            match self.events.recv_timeout(SETTLE) {
                Ok(Event::Changed) => {}
                Ok(Event::Stop) => return false,
                Err(RecvTimeoutError::Timeout | RecvTimeoutError::Disconnected) => break,
            }
        }
        true
    }

    fn rescan(&mut self, thorough: bool) -> Option<Arc<Snapshot>> {
        let snapshot = self.files.rescan(thorough);
        if snapshot == *self.snapshot {
            return None;
        }
        self.snapshot = Arc::new(snapshot);
        Some(self.snapshot())
    }
}

enum Step {
    Changed(Arc<Snapshot>),
    Same,
    Stopped,
}

/// A directory followed by [`Watcher::spawn`]; dropping it ends that.
#[derive(Debug)]
pub struct Watching {
    stop: Sender<Event>,
    stopped: Arc<AtomicBool>,
}

impl Drop for Watching {
    fn drop(&mut self) {
        self.stopped.store(true, Ordering::Release);
        // The thread may have ended by itself.
        let _ = self.stop.send(Event::Stop);
    }
}

fn notifier(dir: &Path, sender: Sender<Event>) -> notify::Result<RecommendedWatcher> {
    let mut notifier = notify::recommended_watcher(move |event: notify::Result<notify::Event>| {
        // Our own reading must not wake us; an overflow or error may have hidden a change.
        let reading = event.is_ok_and(
            |event| matches!(event.kind, EventKind::Access(kind) if !ends_writing(kind)),
        );
        if !reading {
            // Nobody listens any more: the watcher is being dropped.
            let _ = sender.send(Event::Changed);
        }
    })?;
    notifier.watch(dir, RecursiveMode::Recursive)?;
    Ok(notifier)
}

fn ends_writing(kind: notify::event::AccessKind) -> bool {
    use notify::event::{AccessKind, AccessMode};
    kind == AccessKind::Close(AccessMode::Write)
}
