//! The start: cheap checks first, so that what a person must mend is said at once.

use std::{
    net::SocketAddr,
    path::Path,
    sync::Arc,
    time::{Duration, Instant},
};

use signet_agent_core::{
    Agent,
    io::{Config, Input, Limits, NodeUid, Timers},
};
use signet_audit::{chain::Owner, segment::SEGMENT_BYTES};
use signet_crypto::{random::SystemRandom, tls::SvidStore};
use signet_telemetry::{Catalog, serve};
use tokio::{
    signal::unix::{SignalKind, signal},
    sync::{mpsc, watch},
};

use crate::{
    audit::{self, Audit},
    channel::{self, Channels},
    cli::RunArgs,
    clock,
    dataplane::DataPlane,
    executor::{self, Executor, Facts, Outbox, Parts},
    health::Health,
    hold::HoldDevice,
    host::{self, Host, Netlink},
    identity::{self, Admission, Credentials, IdentityService},
    metrics::Metrics,
    sources::{self, Reader},
    state::{DataDir, EndpointStore, Lock, NoDataDir, StoredSchedule},
    status::{Running, Starting, StatusSocket},
    tunnel,
};

/// Runs the agent until it is told to stop. The lock is to be held until all tasks have ended; there
/// is none if it was told before it had one.
///
/// # Errors
/// One line that says what a person must mend.
pub(crate) async fn run(args: RunArgs) -> Result<Option<Lock>, String> {
    let started = Instant::now();
    let mut stop = Stop::new()?;
    require_root()?;
    let (boot_id, boot_bytes) = clock::boot_id()?;
    let time = clock::time_source();
    let watcher = sources::open(&args.manifests)?;
    let Some(data) = take_over(&args.data_dir, &mut stop).await? else {
        return Ok(None);
    };
    let lock = data.lock();
    let store = EndpointStore::open(&data, &boot_id)?;
    let credentials = Credentials::load(&args, &data)?;
    let mut catalog = Catalog::default();
    let metrics = Metrics::new(&mut catalog);
    let health = Health::new();
    let probes = health.clone();
    let probes = Arc::new(move || probes.for_probes());
    let _metrics_server =
        serve(args.metrics, Arc::new(catalog), probes).map_err(|error| error.to_string())?;
    let listener = channel::bind(SocketAddr::new(args.underlay_ip, args.channel_port)).await?;
    let (running, is_running) = watch::channel(None);
    let socket = StatusSocket::bind(&args.status_socket).await?;
    let starting = Starting {
        node: args.node_name.clone(),
        boot_id: boot_id.clone(),
        mode: args.mode.name(),
        identity: args.identity.to_string(),
        tunnel_socket: args.tunnel_socket.display().to_string(),
        started,
        health: health.clone(),
    };
    let answering = tokio::spawn(socket.serve(starting, is_running));

    let netlink = Netlink::connect()?;
    let (host, devices) =
        Host::set_up(netlink.clone(), &args.underlay_dev, args.underlay_ip).await?;
    health.host(None);
    let mut dataplane = DataPlane::open(&args.bpf_root, &devices)?;
    health.data_path(Ok(dataplane.describe()));

    let admission = tokio::select! {
        admission = identity::admit(&args, &data, &time, credentials) => admission?,
        () = stop.asked() => return Ok(Some(lock)),
    };
    let Admission {
        trust,
        svid,
        node_uid,
    } = admission;
    let node_id = svid.id().clone();
    let bundle = trust.load();
    let svid = SvidStore::new(svid);

    let mut reader = Reader::new(
        bundle.trust_domain().clone(),
        args.node_name.clone(),
        args.kube_apiserver.clone(),
    );
    let snapshot = watcher.snapshot();
    let cluster = reader.first(&snapshot)?;
    require_own_node(&cluster, &args, &node_uid)?;

    let adopted = dataplane.adopted(&store)?;
    let mut agent = Agent::new(Config {
        trust_domain: bundle.trust_domain().clone(),
        node_uid: NodeUid::new(&node_uid),
        node_id: node_id.clone(),
        boot_id: boot_bytes,
        instance: clock::boot_ms(),
        limits: Limits::default(),
        timers: Timers {
            slot_grace: Duration::from_secs(args.slot_grace),
            ..Timers::default()
        },
        outage: args.outage.into(),
    });
    let first = [
        Input::Trust { bundle },
        Input::NodeSvid { svid: svid.load() },
        Input::Cluster(Box::new(cluster.view.clone())),
        Input::Adopted(Box::new(adopted)),
    ];
    let stored = StoredSchedule::load(&data)?.map(Input::Schedule);
    for input in stored.into_iter().chain(first) {
        agent.handle(input, time.now(), &mut SystemRandom);
    }

    let (inbox, outbox) = executor::inbox();
    let service = IdentityService::new(
        args.identity,
        args.node_name.clone(),
        trust.clone(),
        svid.clone(),
        time.clone(),
    )?;
    let channels = Channels::new(trust, svid, time.clone(), inbox.clone());
    let (watch_commands, watch_queue) = mpsc::unbounded_channel();
    let (tunnel_commands, tunnel_queue) = mpsc::unbounded_channel();
    let hold = HoldDevice::new(devices.hold_file, inbox.clone())?;

    tokio::spawn(identity::watch(service.clone(), watch_queue, inbox.clone()));
    tokio::spawn(tunnel::run(
        args.tunnel_socket.clone(),
        tunnel_queue,
        inbox.clone(),
    ));
    tokio::spawn(dataplane.events()?.read_all(inbox.clone()));
    tokio::spawn(channel::listen(listener, channels.clone(), metrics.clone()));
    host::links::watch(inbox.clone())?;
    let told = inbox.clone();
    let _watching = watcher
        .spawn(move |snapshot| told.manifests(snapshot))
        .map_err(|error| format!("manifests cannot be followed: {error}"))?;
    // Whatever tasks send before the executor reads waits in its inbox.
    running.send_replace(Some(Running {
        audit: audit::folder(&args.data_dir),
        inbox: inbox.clone(),
        tunnel: tunnel_commands.clone(),
        netlink,
    }));
    let log = audit::Setup {
        folder: audit::folder(&args.data_dir),
        key: data.file("audit.key"),
        owner: Owner {
            node: node_id.clone(),
            boot_id: boot_id.clone(),
        },
        svid: service.svid.clone(),
        segment: SEGMENT_BYTES,
        keep: args.audit_keep << 20,
    };
    let audit = Audit::start(log, time.clone(), metrics.clone(), health.clone())?;
    let executor = Executor::new(Parts {
        facts: Facts {
            node_name: args.node_name.clone(),
            node_uid,
            node_spiffe_id: node_id.to_string(),
            boot_id,
            mode: args.mode.name(),
            underlay_ip: args.underlay_ip,
            tunnel_socket: args.tunnel_socket.display().to_string(),
            started,
        },
        agent,
        time,
        data,
        store,
        dataplane,
        hold,
        host,
        service,
        watch: watch_commands,
        tunnel: tunnel_commands,
        channels,
        reader,
        snapshot,
        cluster,
        audit,
        metrics,
        health,
        inbox,
    });
    serve_until_stopped(executor, outbox, stop).await;
    answering.abort();
    Ok(Some(lock))
}

async fn serve_until_stopped(executor: Executor, outbox: Outbox, mut stop: Stop) {
    executor
        .run(outbox, async move { stop.asked().await })
        .await;
}

/// The data folder, as soon as no other agent has it: an agent that is being replaced is waited for.
/// What is authenticated flows on meanwhile, and the new one is there the moment the old one ends.
async fn take_over(path: &Path, stop: &mut Stop) -> Result<Option<DataDir>, String> {
    let shown = path.display();
    let started = Instant::now();
    let mut told = false;
    loop {
        match DataDir::open(path) {
            Ok(data) => return Ok(Some(data)),
            Err(NoDataDir::Problem(problem)) => return Err(problem),
            Err(NoDataDir::InUse) if started.elapsed() > HAND_OVER => {
                return Err(format!(
                    "data folder {shown} is in use by another signet-agent: stop that one first"
                ));
            }
            Err(NoDataDir::InUse) => {}
        }
        if !told {
            tracing::info!(
                data_dir = %shown,
                "another agent runs here; this one waits for it to end and takes over"
            );
            told = true;
        }
        tokio::select! {
            () = tokio::time::sleep(LOOK) => {}
            () = stop.asked() => return Ok(None),
        }
    }
}

/// An agent that is being replaced ends within this.
const HAND_OVER: Duration = Duration::from_secs(60);
/// How often it is looked whether it has.
const LOOK: Duration = Duration::from_millis(20);

/// # Errors
/// If this process is not root.
pub(crate) fn require_root() -> Result<(), String> {
    if nix::unistd::geteuid().is_root() {
        Ok(())
    } else {
        Err(
            "signet-agent needs root (CAP_NET_ADMIN, CAP_BPF, CAP_SYS_ADMIN): run it with sudo"
                .into(),
        )
    }
}

/// The manifests must speak of the node that the certificate names, or nothing would be found.
fn require_own_node(
    cluster: &sources::Cluster,
    args: &RunArgs,
    node_uid: &str,
) -> Result<(), String> {
    let own = cluster
        .view
        .nodes
        .iter()
        .find(|node| node.name == args.node_name);
    match own {
        Some(node) if node.uid.as_str() == node_uid => Ok(()),
        Some(node) => Err(format!(
            "Node {} has uid {} in the manifests, but this node was attested as {node_uid}: the Node \
             object was made anew; remove {} and give a new join token",
            args.node_name,
            node.uid,
            args.data_dir.display()
        )),
        None => Err(format!(
            "Node {} is not in the manifests: see --node-name",
            args.node_name
        )),
    }
}

/// SIGTERM and SIGINT.
struct Stop {
    terminate: tokio::signal::unix::Signal,
    interrupt: tokio::signal::unix::Signal,
}

impl Stop {
    fn new() -> Result<Self, String> {
        let listen =
            |kind| signal(kind).map_err(|error| format!("signals cannot be listened to: {error}"));
        Ok(Self {
            terminate: listen(SignalKind::terminate())?,
            interrupt: listen(SignalKind::interrupt())?,
        })
    }

    async fn asked(&mut self) {
        tokio::select! {
            _ = self.terminate.recv() => {}
            _ = self.interrupt.recv() => {}
        }
    }
}
