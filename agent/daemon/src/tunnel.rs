//! The control connection to `signet-tunnel`.

use std::{path::PathBuf, time::Duration};

use signet_agent_core::io::{self as core, TunnelCommand};
use signet_wg::control::{self, Command, Decoder, Event, PeerStats};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{UnixStream, unix::OwnedWriteHalf},
    sync::{mpsc, oneshot},
};

use crate::executor::Inbox;

/// Numbers of this file's own commands start here; the core's are below.
const OWN_SEQ: u64 = 1 << 63;
/// Delay between tries to connect.
const RETRY: Duration = Duration::from_millis(500);
/// The engine greets at once; this long without, it is no engine.
const GREETING: Duration = Duration::from_secs(5);

/// What goes to the task that owns the connection.
pub(crate) enum ToTunnel {
    Command(TunnelCommand),
    /// Asks for the counters of all peers; no answer while there is no connection.
    Stats(oneshot::Sender<Vec<PeerStats>>),
}

/// News of the connection.
#[derive(Debug)]
pub(crate) enum TunnelNews {
    /// The engine greeted; the event is a `Welcome`.
    Welcome(Event),
    /// Any later event.
    Event(Event),
    /// The connection is lost, or could not be made; why.
    Gone(String),
}

/// Keeps the connection for as long as the process runs.
pub(crate) async fn run(
    path: PathBuf,
    mut commands: mpsc::UnboundedReceiver<ToTunnel>,
    inbox: Inbox,
) {
    let mut said = String::new();
    loop {
        let problem = match UnixStream::connect(&path).await {
            Ok(stream) => {
                said.clear();
                // Commands for the connection before are void: the core starts over at Welcome.
                while commands.try_recv().is_ok() {}
                one_connection(stream, &mut commands, &inbox).await
            }
            Err(error) => format!(
                "control socket {} cannot be opened ({error}): start signet-tunnel, or see \
                 --tunnel-socket",
                path.display()
            ),
        };
        if said != problem {
            tracing::warn!(
                problem,
                "tunnel engine is not connected; its peers go on if it lives"
            );
            said.clone_from(&problem);
        }
        inbox.tunnel(TunnelNews::Gone(problem)).await;
        tokio::time::sleep(RETRY).await;
    }
}

async fn one_connection(
    stream: UnixStream,
    commands: &mut mpsc::UnboundedReceiver<ToTunnel>,
    inbox: &Inbox,
) -> String {
    let (mut reader, mut writer) = stream.into_split();
    let hello = Command::Hello {
        version: control::VERSION,
    };
    if let Err(problem) = send(&mut writer, &hello).await {
        return problem;
    }
    let mut decoder = Decoder::default();
    let mut buffer = vec![0; 64 << 10];
    let mut asked: Vec<(u64, oneshot::Sender<Vec<PeerStats>>)> = Vec::new();
    let mut next_seq = OWN_SEQ;
    let greeting = tokio::time::sleep(GREETING);
    tokio::pin!(greeting);
    let mut greeted = false;
    loop {
        tokio::select! {
            read = reader.read(&mut buffer) => match read {
                Ok(0) => return "the engine closed the control connection".into(),
                Ok(count) => decoder.push(&buffer[..count]),
                Err(error) => return error.to_string(),
            },
            command = commands.recv() => {
                let command = match command {
                    Some(ToTunnel::Command(command)) => wire(command),
                    Some(ToTunnel::Stats(answer)) => {
                        next_seq += 1;
                        asked.retain(|(_, answer)| !answer.is_closed());
                        asked.push((next_seq, answer));
                        Command::Status { seq: next_seq }
                    }
                    None => return "the agent stops".into(),
                };
                if let Err(problem) = send(&mut writer, &command).await {
                    return problem;
                }
                continue;
            }
            () = &mut greeting, if !greeted => {
                return "nobody greets on the control socket: is it signet-tunnel's?".into();
            }
        }
        loop {
            let event = match decoder.next_message::<Event>() {
                Ok(Some(event)) => event,
                Ok(None) => break,
                Err(error) => return error.to_string(),
            };
            match event {
                Event::Welcome { version, .. } if version != control::VERSION => {
                    return format!(
                        "signet-tunnel speaks version {version}, this agent {}: install the same \
                         release of both",
                        control::VERSION
                    );
                }
                Event::Welcome { .. } => {
                    greeted = true;
                    inbox.tunnel(TunnelNews::Welcome(event)).await;
                }
                Event::Failed { seq: 0, error } => return error,
                Event::Status { seq, peers } => {
                    if let Some(at) = asked.iter().position(|(number, _)| *number == seq) {
                        // Who asked may have gone.
                        let _ = asked.swap_remove(at).1.send(peers);
                    }
                }
                Event::Done { .. }
                | Event::Failed { .. }
                | Event::Renewed { .. }
                | Event::Handshake { .. }
                | Event::Dropped { .. } => inbox.tunnel(TunnelNews::Event(event)).await,
            }
        }
    }
}

async fn send(writer: &mut OwnedWriteHalf, command: &Command) -> Result<(), String> {
    let frame = control::encode(command).map_err(|error| error.to_string())?;
    writer
        .write_all(&frame)
        .await
        .map_err(|error| format!("control socket: {error}"))
}

fn wire(command: TunnelCommand) -> Command {
    match command {
        TunnelCommand::SetPeer {
            seq,
            slot,
            own,
            peer,
            psk,
            underlay,
            allowed_ips,
            epoch,
            initiate,
        } => Command::SetPeer {
            seq,
            slot: slot.number(),
            own,
            peer,
            psk,
            underlay,
            allowed_ips,
            epoch: epoch.0,
            initiate,
        },
        TunnelCommand::SetAllowedIps {
            seq,
            slot,
            peer,
            allowed_ips,
        } => Command::SetAllowedIps {
            seq,
            slot: slot.number(),
            peer,
            allowed_ips,
        },
        TunnelCommand::RenewKey { seq, slot } => Command::Renew {
            seq,
            slot: slot.number(),
        },
        TunnelCommand::RemovePeer { seq, slot, peer } => Command::RemovePeer {
            seq,
            slot: slot.number(),
            peer,
        },
    }
}

/// What the core wants to know of an event; `None` if it is only for people.
///
/// # Errors
/// A Welcome that is not of two slots.
pub(crate) fn for_core(event: &Event) -> Result<Option<core::TunnelEvent>, String> {
    let slot = |number: u8| {
        core::Slot::from_number(number).ok_or_else(|| format!("the engine has a slot {number}"))
    };
    Ok(Some(match event {
        Event::Welcome { slots, peers, .. } => {
            let find = |number: u8| {
                slots
                    .iter()
                    .find(|slot| slot.slot == number)
                    .map(|slot| core::EngineSlot {
                        public_key: slot.public_key,
                        port: slot.port,
                    })
                    .ok_or_else(|| format!("the engine has no slot {number}"))
            };
            let peers = peers.iter().map(|peer| {
                Ok(core::EnginePeer {
                    slot: slot(peer.slot)?,
                    own_key: peer.own_key,
                    public_key: peer.public_key,
                    epoch: core::Epoch(peer.epoch),
                    underlay: peer.underlay,
                    allowed_ips: peer.allowed_ips.clone(),
                })
            });
            core::TunnelEvent::Welcome {
                slots: [find(0)?, find(1)?],
                peers: peers.collect::<Result<_, String>>()?,
            }
        }
        Event::Done { seq } => core::TunnelEvent::Done { seq: *seq },
        Event::Renewed {
            seq,
            slot: number,
            public_key,
        } => core::TunnelEvent::KeyRenewed {
            seq: *seq,
            slot: slot(*number)?,
            public_key: *public_key,
        },
        Event::Failed { seq, error } => core::TunnelEvent::Failed {
            seq: *seq,
            error: error.clone(),
        },
        Event::Handshake { slot: number, peer } => core::TunnelEvent::Handshake {
            slot: slot(*number)?,
            peer: *peer,
        },
        Event::Dropped { .. } | Event::Status { .. } => return Ok(None),
    }))
}
