//! The directory and the streams that listen to it, behind one lock, so that everybody hears things in
//! the order in which they happened.

use std::{
    collections::BTreeMap,
    sync::{Mutex, MutexGuard, PoisonError},
};

use signet_identity_api::v1::WatchEvent;
use signet_identity_core::{
    cluster::{Cluster, NodeUid, PodUid},
    directory::{Close, Directory, Output, StreamId},
};
use tokio::sync::mpsc;
use tonic::Status;

use crate::{
    grpc::convert,
    metrics::{Metrics, Reason, gauge},
};

/// Events that may wait for one stream. A node that is further behind starts over.
pub(crate) const QUEUE: usize = 1 << 16;

/// What a stream sends.
pub(crate) type Item = Result<WatchEvent, Status>;

/// The directory, and who listens.
pub(crate) struct Hub {
    inner: Mutex<Inner>,
    metrics: Metrics,
}

struct Inner {
    directory: Directory,
    senders: BTreeMap<StreamId, mpsc::Sender<Item>>,
}

impl Hub {
    pub(crate) fn new(run: u32, metrics: Metrics) -> Self {
        let inner = Inner {
            directory: Directory::new(run),
            senders: BTreeMap::new(),
        };
        Self {
            inner: Mutex::new(inner),
            metrics,
        }
    }

    /// Looks something up.
    pub(crate) fn look<T>(&self, look: impl FnOnce(&Directory) -> T) -> T {
        look(&self.lock().directory)
    }

    /// Takes the cluster as it is now, and tells everybody.
    pub(crate) fn apply(&self, cluster: Cluster) {
        let mut inner = self.lock();
        let before = inner.directory.generation();
        inner.directory.apply(cluster);
        self.metrics
            .changes
            .inc_by(inner.directory.generation() - before);
        self.settle(&mut inner);
    }

    /// Opens the stream of a node; `first` are the first events on it. `None` if there is no such node.
    pub(crate) fn open(
        &self,
        node: &NodeUid,
        first: impl IntoIterator<Item = WatchEvent>,
    ) -> Option<(StreamId, mpsc::Sender<Item>, mpsc::Receiver<Item>)> {
        let mut inner = self.lock();
        let stream = inner.directory.open(node)?;
        let (sender, receiver) = mpsc::channel(QUEUE);
        for event in first {
            // There is room in an empty queue.
            let _ = sender.try_send(Ok(event));
        }
        inner.senders.insert(stream, sender.clone());
        self.settle(&mut inner);
        Some((stream, sender, receiver))
    }

    /// False if the stream has too many subscriptions.
    pub(crate) fn subscribe(&self, stream: StreamId, pod: &PodUid) -> bool {
        let mut inner = self.lock();
        let accepted = inner.directory.subscribe(stream, pod);
        self.metrics.subscriptions.inc();
        self.settle(&mut inner);
        accepted
    }

    pub(crate) fn unsubscribe(&self, stream: StreamId, pod: &PodUid) {
        let mut inner = self.lock();
        inner.directory.unsubscribe(stream, pod);
        self.settle(&mut inner);
    }

    /// Ends a stream, with a last word if its node is to know why. Nothing happens if it has ended.
    pub(crate) fn close(&self, stream: StreamId, reason: &'static str, status: Option<Status>) {
        let mut inner = self.lock();
        self.end(&mut inner, stream, reason, status);
        self.settle(&mut inner);
    }

    fn end(
        &self,
        inner: &mut Inner,
        stream: StreamId,
        reason: &'static str,
        status: Option<Status>,
    ) {
        let Some(sender) = inner.senders.remove(&stream) else {
            return;
        };
        inner.directory.closed(stream);
        self.metrics
            .streams_closed
            .get_or_create(&Reason { reason })
            .inc();
        if let Some(status) = status {
            // If the queue is full, the stream ends without a word, which its node takes the same way.
            let _ = sender.try_send(Err(status));
        }
    }

    /// Does what the directory wants done, which may make it want more.
    fn settle(&self, inner: &mut Inner) {
        while let Some(output) = inner.directory.poll_output() {
            match output {
                Output::Push(stream, event) => {
                    let Some(sender) = inner.senders.get(&stream) else {
                        continue;
                    };
                    self.metrics.events_pushed.inc();
                    match sender.try_send(Ok(convert::event(event))) {
                        Ok(()) => {}
                        Err(mpsc::error::TrySendError::Full(_)) => {
                            let status = Status::resource_exhausted("too slow; watch again");
                            self.end(inner, stream, "slow", Some(status));
                        }
                        Err(mpsc::error::TrySendError::Closed(_)) => {
                            self.end(inner, stream, "left", None);
                        }
                    }
                }
                Output::Close(stream, Close::Replaced) => {
                    let status = Status::aborted("another stream of this node took its place");
                    self.end(inner, stream, "replaced", Some(status));
                }
                Output::Close(stream, Close::NodeGone) => {
                    let status = Status::permission_denied("the Node object is gone");
                    self.end(inner, stream, "node_gone", Some(status));
                }
            }
        }
        self.metrics.streams.set(gauge(inner.directory.streaming()));
        self.metrics.entries.set(gauge(inner.directory.len()));
        self.metrics
            .nodes
            .set(gauge(inner.directory.nodes().count()));
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
