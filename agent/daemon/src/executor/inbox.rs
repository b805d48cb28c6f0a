//! The ways into the executor.

use std::sync::{
    Arc,
    atomic::{AtomicU64, Ordering},
};

use signet_agent_core::io::{Connected, Input, Schedule};
use signet_crypto::bundle::TrustBundle;
use signet_source::Snapshot;
use tokio::sync::mpsc;

use super::ask::Ask;
use crate::{
    channel::ConnectionHandle, discover::Found, fair, hold::Held, identity::StreamStatus,
    tunnel::TunnelNews,
};

/// Messages that may wait. Senders of control messages wait when it is full; packets are dropped.
const CONTROL: usize = 4096;
const HELD: usize = 2048;
/// Of one endpoint: as many as the data path lets it send at once.
const HELD_OF_ONE: usize = 512;
const EVENTS: usize = 8192;

/// One thing that happened.
pub(crate) enum Message {
    Input(Box<Input>),
    Connected(Box<Connected>, ConnectionHandle),
    Bundle(Arc<TrustBundle>),
    Schedule(Schedule),
    Stream(StreamStatus),
    Tunnel(TunnelNews),
    Manifests(Arc<Snapshot>),
    LinkGone(u32),
    Discovered(Result<Vec<Found>, String>),
    Ask(Ask),
}

/// The near end; clones share it.
#[derive(Clone)]
pub(crate) struct Inbox {
    control: mpsc::Sender<Message>,
    held: fair::Sender<Held>,
    events: mpsc::Sender<signet_abi::Event>,
    lost: Arc<Lost>,
}

/// The far end, read by the executor alone.
pub(crate) struct Outbox {
    pub(super) control: mpsc::Receiver<Message>,
    /// By endpoint.
    pub(super) held: fair::Receiver<Held>,
    pub(super) events: mpsc::Receiver<signet_abi::Event>,
    pub(super) lost: Arc<Lost>,
}

/// What did not fit.
#[derive(Default)]
pub(crate) struct Lost {
    pub(crate) held: AtomicU64,
    pub(crate) events: AtomicU64,
}

/// Both ends.
pub(crate) fn inbox() -> (Inbox, Outbox) {
    let (control, control_out) = mpsc::channel(CONTROL);
    let (held, held_out) = fair::queue(HELD, HELD_OF_ONE);
    let (events, events_out) = mpsc::channel(EVENTS);
    let lost = Arc::new(Lost::default());
    let inbox = Inbox {
        control,
        held,
        events,
        lost: Arc::clone(&lost),
    };
    (
        inbox,
        Outbox {
            control: control_out,
            held: held_out,
            events: events_out,
            lost,
        },
    )
}

impl Inbox {
    async fn send(&self, message: Message) {
        // The executor ends last; what comes after has no reader and no meaning.
        let _ = self.control.send(message).await;
    }

    pub(crate) async fn input(&self, input: Input) {
        self.send(Message::Input(Box::new(input))).await;
    }

    pub(crate) async fn connected(&self, connected: Connected, handle: ConnectionHandle) {
        self.send(Message::Connected(Box::new(connected), handle))
            .await;
    }

    pub(crate) async fn bundle(&self, bundle: Arc<TrustBundle>) {
        self.send(Message::Bundle(bundle)).await;
    }

    pub(crate) async fn schedule(&self, schedule: Schedule) {
        self.send(Message::Schedule(schedule)).await;
    }

    pub(crate) async fn stream(&self, status: StreamStatus) {
        self.send(Message::Stream(status)).await;
    }

    pub(crate) async fn tunnel(&self, news: TunnelNews) {
        self.send(Message::Tunnel(news)).await;
    }

    pub(crate) async fn link_gone(&self, ifindex: u32) {
        self.send(Message::LinkGone(ifindex)).await;
    }

    pub(crate) async fn discovered(&self, found: Result<Vec<Found>, String>) {
        self.send(Message::Discovered(found)).await;
    }

    pub(crate) async fn ask(&self, ask: Ask) {
        self.send(Message::Ask(ask)).await;
    }

    /// From the manifests' own thread.
    pub(crate) fn manifests(&self, snapshot: Arc<Snapshot>) {
        let _ = self.control.blocking_send(Message::Manifests(snapshot));
    }

    /// A packet that waits; dropped and counted if too many wait here already.
    pub(crate) fn held(&self, held: Held) {
        if self.held.try_send(held.header.endpoint, held).is_err() {
            self.lost.held.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// An event of the data path; dropped and counted if too many wait here already.
    pub(crate) fn event(&self, event: signet_abi::Event) {
        if self.events.try_send(event).is_err() {
            self.lost.events.fetch_add(1, Ordering::Relaxed);
        }
    }
}
