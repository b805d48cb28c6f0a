//! `signet-tunnel`: the WireGuard engine as a process of its own.
//!
//! It makes the slot devices, gives up every privilege, and from then on does what the agent
//! says over a Unix socket. It outlives the agent: while none is connected, the peers it was
//! given stay served.

mod cli;
mod control;
mod metrics;
mod sandbox;

use std::{io::Write, os::fd::AsFd, process::ExitCode, sync::Arc};

use anyhow::{Context, Result, ensure};
use nix::{
    errno::Errno,
    poll::{PollFd, PollFlags, PollTimeout, poll},
    sys::{
        signal::{SigSet, Signal},
        signalfd::{SfdFlags, SignalFd},
    },
};
use signet_crypto::random::SystemRandom;
use signet_telemetry::{Check, Health};
use signet_wg::{Engine, EventSink, SlotDevices, tun::Tun, udp::Underlay};

use crate::{
    cli::{Cli, Command, RunArgs},
    control::{ControlSocket, Link},
    metrics::Source,
};

/// How soon it is noticed that the engine has ended by itself, in milliseconds.
const LOOK_AGAIN: u16 = 1_000;

fn main() -> ExitCode {
    let cli = Cli::parse_checked();
    let result = match cli.command {
        Some(Command::Metrics) => print_metrics(),
        None => {
            signet_telemetry::init_logging(cli.run.log);
            run(&cli.run)
        }
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            // Standard error may be closed; the exit status still tells.
            let _ = writeln!(std::io::stderr(), "signet-tunnel: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn run(args: &RunArgs) -> Result<()> {
    // Before the first thread, so that all of them leave signals to `wait` below.
    let signals = SigSet::from_iter([Signal::SIGTERM, Signal::SIGINT, Signal::SIGHUP]);
    signals.thread_block().context("blocking signals")?;

    let socket = ControlSocket::bind(&args.control_socket)?;
    let devices = open_devices(args)?;
    // Capabilities are each thread's own: they must go before there are other threads.
    sandbox::drop_privileges().context("giving up privileges")?;

    let link = Arc::new(Link::default());
    let events: EventSink = {
        let link = Arc::clone(&link);
        Arc::new(move |event| link.report(event))
    };
    let engine = Arc::new(Engine::start(devices, &mut SystemRandom, &events)?);
    let source = Source {
        engine: Arc::clone(&engine),
        link: Arc::clone(&link),
    };
    let served = signet_telemetry::serve(
        args.metrics,
        Arc::new(metrics::catalog(Some(source))),
        Arc::new({
            let (engine, link) = (Arc::clone(&engine), Arc::clone(&link));
            move || health(&engine, &link)
        }),
    )?;
    let _socket = socket.serve(Arc::clone(&engine), link)?;
    let signals = SignalFd::with_flags(&signals, SfdFlags::SFD_NONBLOCK | SfdFlags::SFD_CLOEXEC)
        .context("waiting for signals")?;
    // Last, for all threads at once: nothing has to be opened any more.
    sandbox::restrict_system_calls();
    tracing::info!(
        control_socket = %args.control_socket.display(),
        metrics = %served.addr(),
        slots = args.slot_names.join(","),
        "ready"
    );

    wait(&signals, &engine)
}

/// Until a signal asks to stop, or the engine can go on no longer.
fn wait(signals: &SignalFd, engine: &Engine) -> Result<()> {
    loop {
        let mut ready = [PollFd::new(signals.as_fd(), PollFlags::POLLIN)];
        match poll(&mut ready, PollTimeout::from(LOOK_AGAIN)) {
            Ok(_) | Err(Errno::EINTR) => {}
            Err(error) => return Err(error).context("waiting for a signal"),
        }
        if let Some(signal) = signals.read_signal().context("waiting for a signal")? {
            let number = i32::try_from(signal.ssi_signo).unwrap_or_default();
            let signal = Signal::try_from(number).map_or("?", Signal::as_str);
            tracing::info!(signal, "stopping: devices and keys go");
            return Ok(());
        }
        ensure!(
            engine.is_healthy(),
            "a slot device was removed from outside; start signet-tunnel again, which makes it anew"
        );
    }
}

fn open_devices(args: &RunArgs) -> Result<Vec<SlotDevices>> {
    let slots = args.slot_names.iter().zip(&args.slot_ports);
    slots
        .map(|(name, port)| {
            let tun = Tun::create(name)?;
            tracing::info!(
                device = name,
                ifindex = tun.ifindex(),
                port,
                offloads = ?tun.offloads(),
                "slot device is up"
            );
            Ok(SlotDevices {
                tun,
                underlay: Underlay::open(args.bind, *port)?,
            })
        })
        .collect()
}

fn health(engine: &Engine, link: &Link) -> Health {
    let moving = engine.is_healthy();
    let agent = link.is_connected();
    Health {
        alive: vec![Check {
            name: "engine",
            ok: moving,
            detail: if moving {
                "all threads run".into()
            } else {
                "a thread has ended; restart signet-tunnel, the agent makes new slots".into()
            },
        }],
        ready: vec![Check {
            name: "agent",
            ok: agent,
            detail: if agent {
                "connected".into()
            } else {
                "not connected; known peers stay served, new ones need the agent".into()
            },
        }],
    }
}

fn print_metrics() -> Result<()> {
    let list = serde_json::to_string_pretty(metrics::catalog(None).docs())?;
    writeln!(std::io::stdout(), "{list}").context("writing to standard output")
}
