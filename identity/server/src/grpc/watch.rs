//! One Watch stream.

use std::{sync::Arc, time::Duration};

use signet_identity_api::v1::{Time, WatchRequest, watch_event, watch_request::Change};
use signet_identity_core::{
    cluster::{Node, PodUid},
    directory::StreamId,
};
use tokio::{
    sync::mpsc,
    time::{MissedTickBehavior, interval, sleep},
};
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Status, Streaming};

use super::{
    caller::{Peer, caller},
    convert::{self, watch_event},
};
use crate::{
    hub::{Item, QUEUE},
    service::Service,
};

/// How often a stream hears the time.
const TICK: Duration = Duration::from_secs(30);

/// Opens the stream of `node` and serves it until either side ends it.
pub(super) fn start(
    service: Arc<Service>,
    peer: Peer,
    node: &Node,
    requests: Streaming<WatchRequest>,
) -> Result<ReceiverStream<Item>, Status> {
    let first = watch_event::Event::Bundle(convert::bundle(&service.trust.load()));
    let epochs = watch_event::Event::Epochs(service.epochs);
    let opened = service
        .hub
        .open(&node.uid, [watch_event(first), watch_event(epochs)]);
    let (stream, sender, receiver) =
        opened.ok_or_else(|| Status::permission_denied("the Node object is gone"))?;
    tracing::info!(node = %node.name, from = %peer.address, "watching");
    let name = node.name.clone();
    tokio::spawn(async move {
        let (reason, status) = serve(&service, &peer, stream, &sender, requests).await;
        service.hub.close(stream, reason, status);
        tracing::info!(node = name, reason, "stopped watching");
    });
    Ok(ReceiverStream::new(receiver))
}

async fn serve(
    service: &Service,
    peer: &Peer,
    stream: StreamId,
    sender: &mpsc::Sender<Item>,
    mut requests: Streaming<WatchRequest>,
) -> (&'static str, Option<Status>) {
    // The first tick is at once.
    let mut tick = interval(TICK);
    tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        // Its end of validity moves with every renewal over this connection.
        let left = peer.left(service.time.now().wall).min(TICK);
        tokio::select! {
            request = requests.message() => {
                let Ok(Some(request)) = request else { return ("left", None) };
                if !change(service, stream, request) {
                    let status = Status::resource_exhausted("too many subscriptions");
                    return ("limit", Some(status));
                }
                // Who asks faster than it listens waits, so that answers alone never fill the queue.
                if sender.capacity() < QUEUE / 2 && sender.reserve_many(QUEUE / 2).await.is_err() {
                    return ("left", None);
                }
            }
            () = sender.closed() => return ("left", None),
            _ = tick.tick() => {
                let time = Time { ms: service.time.wall_ms() };
                // A full queue has worse to tell than the time.
                let _ = sender.try_send(Ok(watch_event(watch_event::Event::Time(time))));
            }
            () = sleep(left.max(Duration::from_millis(100))) => {
                if let Err(status) = caller(service, peer) {
                    return ("expired", Some(status));
                }
            }
        }
    }
}

fn change(service: &Service, stream: StreamId, request: WatchRequest) -> bool {
    match request.change {
        Some(Change::Subscribe(pod)) => service.hub.subscribe(stream, &PodUid::from(pod.as_str())),
        Some(Change::Unsubscribe(pod)) => {
            service.hub.unsubscribe(stream, &PodUid::from(pod.as_str()));
            true
        }
        // From a newer agent: nothing that this version knows how to do.
        None => true,
    }
}
