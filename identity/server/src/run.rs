//! Putting the service together, and taking it apart.

use std::{
    fs::{self, DirBuilder},
    io,
    net::SocketAddr,
    os::unix::{
        fs::{DirBuilderExt as _, FileTypeExt as _, PermissionsExt as _},
        net::UnixStream as StdUnixStream,
    },
    path::Path,
    sync::Arc,
    time::Duration,
};

use anyhow::{Context as _, Result, anyhow, ensure};
use nix::sys::stat::{Mode, umask};
use signet_crypto::tls::SvidStore;
use signet_identity_api::{
    MAX_MESSAGE,
    v1::{admin_server::AdminServer, node_server::NodeServer},
};
use signet_source::{LoadError, Watcher};
use signet_telemetry::{Check, Health};
use tokio::{
    net::{TcpListener, UnixListener},
    runtime::Runtime,
    signal::unix::{SignalKind, signal},
};
use tokio_stream::wrappers::{ReceiverStream, UnixListenerStream};
use tonic::transport::Server;

use crate::{
    bundle_file,
    cli::RunArgs,
    clock,
    grpc::{admin::AdminService, node::NodeService},
    listen, manifests,
    metrics::Metrics,
    service::Service,
    store, upkeep,
};

/// Calls of one connection at work at once; its Watch stream is one of them.
const CALLS: u32 = 256;
/// What is under way gets this long when the service stops.
const FAREWELL: Duration = Duration::from_millis(500);

/// Runs the service until it is told to stop.
///
/// # Errors
/// One problem per line in [`problem_lines`], each with what to do.
pub(crate) fn run(args: &RunArgs) -> Result<()> {
    signet_telemetry::init_logging(args.log);
    // Nothing that is made here is for others, unless it says so.
    umask(Mode::from_bits_truncate(0o077));
    let runtime = Runtime::new().context("cannot start the runtime")?;
    let result = runtime.block_on(serve(args));
    runtime.shutdown_timeout(FAREWELL);
    result
}

/// What went wrong, a line each.
pub(crate) fn problem_lines(error: &anyhow::Error) -> Vec<String> {
    match error.downcast_ref::<LoadError>() {
        Some(load) => load.problems.iter().map(ToString::to_string).collect(),
        None => vec![format!("{error:#}").replace('\n', " ")],
    }
}

async fn serve(args: &RunArgs) -> Result<()> {
    // What can be wrong outside comes first, so that a slip leaves no trace in the store.
    let watcher = Watcher::open(&args.manifests)?;
    let listener = listen_tcp(args.listen).await?;
    let time = clock::time_source();
    let opened = store::open(&args.data_dir, &args.trust_domain, time.now().wall)?;
    if opened.fresh {
        tracing::info!(trust_domain = %args.trust_domain, "new trust domain: root authority made");
    }
    let admin = listen_unix(&args.admin_socket)?;
    let (metrics, catalog) = Metrics::register();
    let service = Arc::new(Service::new(
        opened,
        time,
        args.svid_ttl,
        args.epochs(),
        metrics,
    )?);
    let svid = SvidStore::new(service.own_svid()?);

    let bundle = args.data_dir.join("bundle.pem");
    bundle_file::write(&bundle, &service.trust.load())
        .with_context(|| format!("{} cannot be written", bundle.display()))?;
    manifests::apply(&service, &watcher.snapshot());
    let deaf = watcher.deaf().map(str::to_owned);
    if let Some(reason) = &deaf {
        tracing::warn!(
            reason,
            "manifests are looked at every second only; raise inotify's limits"
        );
    }
    let follower = Arc::clone(&service);
    let _watching = watcher
        .spawn(move |snapshot| manifests::apply(&follower, &snapshot))
        .context("cannot start a thread for the manifests")?;
    let health = health(Arc::clone(&service), deaf);
    let _metrics = signet_telemetry::serve(args.metrics, Arc::new(catalog), health)?;

    let incoming = listen::accept(listener, Arc::clone(&service), &svid)?;
    tokio::spawn(upkeep::run(Arc::clone(&service), svid));
    let nodes = Server::builder()
        .concurrency_limit_per_connection(CALLS as usize)
        .max_concurrent_streams(CALLS)
        .http2_keepalive_interval(Some(Duration::from_secs(20)))
        .http2_keepalive_timeout(Some(Duration::from_secs(10)))
        .serve_with_incoming(
            NodeServer::new(NodeService::new(Arc::clone(&service)))
                .max_decoding_message_size(MAX_MESSAGE)
                .max_encoding_message_size(MAX_MESSAGE),
            ReceiverStream::new(incoming),
        );
    let admins = Server::builder().serve_with_incoming(
        AdminServer::new(AdminService(Arc::clone(&service))),
        UnixListenerStream::new(admin),
    );
    tracing::info!(
        listen = %args.listen,
        admin_socket = %args.admin_socket.display(),
        trust_domain = %args.trust_domain,
        bundle = %bundle.display(),
        "identity service is ready"
    );
    let (mut term, mut int) = (
        signal(SignalKind::terminate())?,
        signal(SignalKind::interrupt())?,
    );
    tokio::select! {
        ended = nodes => ended.context("serving nodes has failed")?,
        ended = admins => ended.context("serving administrators has failed")?,
        _ = term.recv() => {}
        _ = int.recv() => {}
    }
    tracing::info!("stopping");
    // Whoever finds the socket without a listener is told to start the service.
    let _ = fs::remove_file(&args.admin_socket);
    Ok(())
}

#[allow(
    clippy::wildcard_enum_match_arm,
    reason = "the standard library's kinds have no end"
)]
async fn listen_tcp(address: SocketAddr) -> Result<TcpListener> {
    TcpListener::bind(address).await.map_err(|error| {
        let fix = match error.kind() {
            io::ErrorKind::AddrInUse => {
                "it is in use; stop the other program, or choose another with --listen".to_owned()
            }
            io::ErrorKind::AddrNotAvailable => {
                "it is not an address of this machine; choose another with --listen".to_owned()
            }
            io::ErrorKind::PermissionDenied => {
                "permission denied; choose a port from 1024 with --listen, or run as root"
                    .to_owned()
            }
            _ => error.to_string(),
        };
        anyhow!("cannot listen on {address}: {fix}")
    })
}

fn listen_unix(path: &Path) -> Result<UnixListener> {
    let shown = path.display();
    let hint = "check --admin-socket and its permissions";
    if let Some(dir) = path.parent().filter(|dir| !dir.as_os_str().is_empty()) {
        DirBuilder::new()
            .recursive(true)
            .mode(0o755)
            .create(dir)
            .map_err(|error| anyhow!("{} cannot be made: {error}; {hint}", dir.display()))?;
    }
    match StdUnixStream::connect(path) {
        Ok(_) => {
            return Err(anyhow!(
                "admin socket {shown} is in use; stop the other signet-identity, or choose another \
                 with --admin-socket"
            ));
        }
        // Left behind by a process that was killed. A file refuses connections too.
        Err(error) if error.kind() == io::ErrorKind::ConnectionRefused => {
            let found = fs::symlink_metadata(path).map(|it| it.file_type().is_socket());
            ensure!(
                found.is_ok_and(|is_socket| is_socket),
                "{shown} is there and is no socket; choose another with --admin-socket"
            );
            fs::remove_file(path)
                .map_err(|error| anyhow!("admin socket {shown}: {error}; {hint}"))?;
        }
        // Whatever else is wrong, binding says it.
        Err(_) => {}
    }
    let bound = UnixListener::bind(path).and_then(|listener| {
        // The umask has kept others out from the first moment.
        fs::set_permissions(path, fs::Permissions::from_mode(0o600))?;
        Ok(listener)
    });
    bound.map_err(|error| anyhow!("admin socket {shown}: {error}; {hint}"))
}

fn health(service: Arc<Service>, deaf: Option<String>) -> Arc<dyn Fn() -> Health + Send + Sync> {
    Arc::new(move || {
        let now = service.time.now().wall;
        let authority = service
            .authorities()
            .records()
            .iter()
            .take(2)
            .all(|it| it.not_after > now);
        let problems = service.problems().len();
        let check = |name, ok, good: String, bad: &str| Check {
            name,
            ok,
            detail: if ok { good } else { bad.to_owned() },
        };
        Health {
            alive: vec![],
            ready: vec![
                check(
                    "authority",
                    authority,
                    "root and issuing authority are valid".into(),
                    "an authority has expired; see the log for why it was not replaced",
                ),
                // Problems are not unreadiness: what was good before is served.
                check(
                    "manifests",
                    true,
                    match (&deaf, problems) {
                        (None, 0) => "followed, without problems".into(),
                        (Some(reason), 0) => format!("looked at every second ({reason})"),
                        (_, problems) => format!("{problems} problems; see signetctl status"),
                    },
                    "",
                ),
            ],
        }
    })
}
