//! The Watch stream: pushes about pods, nodes, the bundle and the time.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use signet_agent_core::io::{DirectoryInput, Input, NodeUid, PodUid};
use signet_crypto::bundle::TrustBundle;
use signet_identity_api::v1::{WatchEvent, WatchRequest, watch_event, watch_request::Change};
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;

use super::{Backoff, IdentityService, convert, reason};
use crate::executor::Inbox;

/// The service speaks at least every 30 s; this long without a word, the stream is dead.
const SILENCE: Duration = Duration::from_secs(75);

/// What the agent wants to hear about.
#[derive(Debug)]
pub(crate) enum WatchCommand {
    Subscribe(PodUid),
    Unsubscribe(PodUid),
}

/// News about the stream itself, for status and health.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum StreamStatus {
    Up,
    Down(String),
}

/// Keeps a stream open for as long as the process runs.
pub(crate) async fn watch(
    service: IdentityService,
    mut commands: mpsc::UnboundedReceiver<WatchCommand>,
    inbox: Inbox,
) {
    let mut backoff = Backoff::new();
    loop {
        let was_up = AtomicBool::new(false);
        let problem = one_stream(&service, &mut commands, &inbox, &was_up).await;
        if was_up.load(Ordering::Relaxed) {
            backoff = Backoff::new();
            inbox.input(Input::Directory(DirectoryInput::Down)).await;
        }
        let delay = backoff.delay();
        tracing::warn!(
            service = %service.address,
            problem,
            retry_in_ms = delay.as_millis(),
            "stream from the identity service is down; what is authenticated goes on until its \
             certificates run out"
        );
        inbox.stream(StreamStatus::Down(problem)).await;
        tokio::time::sleep(delay).await;
    }
}

/// One stream from opening to end; gives back why it ended.
async fn one_stream(
    service: &IdentityService,
    commands: &mut mpsc::UnboundedReceiver<WatchCommand>,
    inbox: &Inbox,
    up: &AtomicBool,
) -> String {
    let (requests, outgoing) = mpsc::channel(1024);
    let mut client = service.client.clone();
    let mut events = match client.watch(ReceiverStream::new(outgoing)).await {
        Ok(response) => response.into_inner(),
        Err(status) => return reason(&status),
    };
    // What was asked for before is asked again after `Up`.
    while commands.try_recv().is_ok() {}
    loop {
        let event = tokio::select! {
            event = tokio::time::timeout(SILENCE, events.message()) => match event {
                Ok(Ok(Some(event))) => event,
                Ok(Ok(None)) => return "the service ended the stream".into(),
                Ok(Err(status)) => return reason(&status),
                Err(_) => return format!("the service was silent for {} s", SILENCE.as_secs()),
            },
            command = commands.recv() => {
                let Some(command) = command else { return "the agent stops".into() };
                if requests.send(request(&command)).await.is_err() {
                    return "the service no longer reads".into();
                }
                continue;
            }
        };
        if !up.swap(true, Ordering::Relaxed) {
            tracing::info!(service = %service.address, "stream from the identity service is up");
            inbox.stream(StreamStatus::Up).await;
            // The bundle comes first, so that whatever follows is judged by it.
            take(event, service, inbox).await;
            inbox.input(Input::Directory(DirectoryInput::Up)).await;
        } else {
            take(event, service, inbox).await;
        }
    }
}

fn request(command: &WatchCommand) -> WatchRequest {
    let change = match command {
        WatchCommand::Subscribe(uid) => Change::Subscribe(uid.as_str().to_owned()),
        WatchCommand::Unsubscribe(uid) => Change::Unsubscribe(uid.as_str().to_owned()),
    };
    WatchRequest {
        change: Some(change),
    }
}

async fn take(event: WatchEvent, service: &IdentityService, inbox: &Inbox) {
    let Some(event) = event.event else { return };
    let input = match event {
        watch_event::Event::Entry(entry) => match convert::entry(entry, &service.trust) {
            Ok(entry) => DirectoryInput::Entry(Box::new(entry)),
            Err(problem) => {
                tracing::warn!(problem, "pushed entry is ignored");
                return;
            }
        },
        watch_event::Event::Gone(gone) => DirectoryInput::Gone {
            pod: PodUid::new(gone.pod_uid),
            generation: gone.generation,
        },
        watch_event::Event::Bundle(bundle) => {
            take_bundle(service, inbox, &bundle.pem, bundle.sequence).await;
            return;
        }
        watch_event::Event::NodeGone(gone) => DirectoryInput::NodeGone {
            node: NodeUid::new(gone.node_uid),
        },
        watch_event::Event::Time(time) => {
            service.time.anchor(time.ms);
            return;
        }
        watch_event::Event::Epochs(epochs) => {
            match convert::schedule(&epochs) {
                Some(schedule) => inbox.schedule(schedule).await,
                None => tracing::warn!(?epochs, "pushed epochs make no sense and are ignored"),
            }
            return;
        }
        watch_event::Event::PeerStream(peer) => DirectoryInput::PeerStream {
            node: NodeUid::new(peer.node_uid),
            up: peer.up,
        },
    };
    inbox.input(Input::Directory(input)).await;
}

async fn take_bundle(service: &IdentityService, inbox: &Inbox, pem: &str, sequence: u64) {
    let held = service.trust.load();
    if sequence == held.sequence() {
        return;
    }
    let bundle = TrustBundle::from_pem(held.trust_domain().clone(), sequence, pem.as_bytes())
        .map_err(|error| error.to_string())
        .and_then(|bundle| {
            service
                .trust
                .swap(bundle)
                .map_err(|error| error.to_string())
        });
    match bundle {
        Ok(()) => {
            let bundle = service.trust.load();
            tracing::info!(sequence, "trust bundle has changed");
            inbox.bundle(Arc::clone(&bundle)).await;
            inbox.input(Input::Trust { bundle }).await;
        }
        Err(problem) => {
            tracing::warn!(problem, "pushed trust bundle is refused; the old one stays")
        }
    }
}
