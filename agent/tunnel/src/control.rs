//! The control socket: one agent at a time.
//!
//! Each connection has a thread that reads commands and one that writes what is to be said.
//! A connection counts from its Hello on; then it takes the place of the one before. What the
//! data path reports is queued and lost rather than waited for.

use std::{
    fs::{self, File, TryLockError},
    io::{self, Read, Write},
    net::Shutdown,
    os::unix::{
        fs::FileTypeExt as _,
        net::{UnixListener, UnixStream},
    },
    path::{Path, PathBuf},
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU64, Ordering},
        mpsc::{Receiver, SyncSender, TrySendError, sync_channel},
    },
    thread,
    time::Duration,
};

use anyhow::{Context, Result, anyhow, bail, ensure};
use nix::sys::stat::{Mode, umask};
use signet_wg::{
    Engine,
    control::{Command, Decoder, Event, encode},
};
use zeroize::Zeroizing;

/// Messages that wait for a slow agent.
const QUEUE: usize = 1024;
/// A connection that says nothing in this time is closed.
const HELLO_DEADLINE: Duration = Duration::from_secs(5);
/// An agent that reads nothing for this long is given up.
const WRITE_DEADLINE: Duration = Duration::from_secs(10);
const READ_SIZE: usize = 16 << 10;

/// The socket in the file system, bound and locked, not served yet.
pub(crate) struct ControlSocket {
    listener: UnixListener,
    file: SocketFile,
}

/// The socket's name in the file system, taken away on drop.
pub(crate) struct SocketFile {
    path: PathBuf,
    /// Held as long as the process lives; the kernel frees it however that ends.
    _lock: File,
}

/// Who is connected now.
#[derive(Default)]
pub(crate) struct Link {
    current: Mutex<Option<Connection>>,
    turn: Mutex<()>,
    numbers: AtomicU64,
    lost: AtomicU64,
}

struct Connection {
    number: u64,
    stream: UnixStream,
    queue: SyncSender<Event>,
}

impl ControlSocket {
    /// Makes the socket, mode 0600, in place of one a dead process left.
    pub(crate) fn bind(path: &Path) -> Result<Self> {
        let shown = path.display();
        if let Ok(found) = fs::symlink_metadata(path) {
            ensure!(
                found.file_type().is_socket(),
                "{shown} is there and is no socket; choose another with --control-socket"
            );
        }
        let lock = lock(path)?;
        match fs::remove_file(path) {
            Ok(()) => {}
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => {
                return Err(anyhow!(
                    "control socket {shown} cannot be replaced: {error}"
                ));
            }
        }
        let before = umask(Mode::from_bits_truncate(0o177));
        let listener = UnixListener::bind(path);
        umask(before);
        let listener = listener.map_err(|error| {
            if error.kind() == io::ErrorKind::InvalidInput {
                anyhow!("control socket path {shown} is longer than 107 bytes; choose another")
            } else {
                anyhow!("control socket {shown} cannot be made: {error}")
            }
        })?;
        Ok(Self {
            listener,
            file: SocketFile {
                path: path.into(),
                _lock: lock,
            },
        })
    }

    /// Accepts agents from now on.
    pub(crate) fn serve(self, engine: Arc<Engine>, link: Arc<Link>) -> Result<SocketFile> {
        let Self { listener, file } = self;
        thread::Builder::new()
            .name("control".into())
            .spawn(move || accept(&listener, &engine, &link))
            .context("starting the control thread")?;
        Ok(file)
    }
}

impl Drop for SocketFile {
    fn drop(&mut self) {
        if let Err(error) = fs::remove_file(&self.path) {
            tracing::warn!(path = %self.path.display(), %error, "control socket stays behind");
        }
    }
}

impl Link {
    /// Tells the agent, if one is connected and keeps up. Never blocks on it.
    pub(crate) fn report(&self, event: Event) {
        if let Some(connection) = &*self.current()
            && let Err(TrySendError::Full(_)) = connection.queue.try_send(event)
        {
            self.lost.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// Whether an agent is connected.
    pub(crate) fn is_connected(&self) -> bool {
        self.current().is_some()
    }

    /// Events an agent was too slow for.
    pub(crate) fn lost(&self) -> u64 {
        self.lost.load(Ordering::Relaxed)
    }

    fn current(&self) -> MutexGuard<'_, Option<Connection>> {
        self.current.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Puts the connection in the place of the one before, which is closed; its number.
    fn replace(&self, stream: UnixStream, queue: SyncSender<Event>) -> u64 {
        let number = self.numbers.fetch_add(1, Ordering::Relaxed);
        let connection = Connection {
            number,
            stream,
            queue,
        };
        if let Some(before) = self.current().replace(connection) {
            tracing::info!("another agent has connected; the one before is let go");
            // It may be gone already.
            let _ = before.stream.shutdown(Shutdown::Both);
        }
        number
    }

    /// Held while a command is done or an agent takes over, so that a new agent is told the
    /// state that stays.
    fn turn(&self) -> MutexGuard<'_, ()> {
        self.turn.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Where to answer that connection; `None` if another took its place.
    fn queue_of(&self, number: u64) -> Option<SyncSender<Event>> {
        let current = self.current();
        let current = current
            .as_ref()
            .filter(|current| current.number == number)?;
        Some(current.queue.clone())
    }

    fn leave(&self, number: u64) {
        let mut current = self.current();
        if current
            .as_ref()
            .is_some_and(|current| current.number == number)
        {
            *current = None;
            tracing::warn!("the agent is gone; known peers stay served");
        }
    }
}

fn lock(path: &Path) -> Result<File> {
    let shown = path.display();
    let mut name = path.as_os_str().to_owned();
    name.push(".lock");
    let file = File::create(&name).with_context(|| {
        format!("control socket {shown} cannot be made; does its folder exist, are you root?")
    })?;
    match file.try_lock() {
        Ok(()) => Ok(file),
        Err(TryLockError::WouldBlock) => bail!(
            "another signet-tunnel serves {shown}; stop it or choose another --control-socket"
        ),
        Err(TryLockError::Error(error)) => Err(anyhow!("{shown}.lock cannot be locked: {error}")),
    }
}

fn accept(listener: &UnixListener, engine: &Arc<Engine>, link: &Arc<Link>) {
    for stream in listener.incoming() {
        let stream = match stream {
            Ok(stream) => stream,
            Err(error) => {
                tracing::warn!(%error, "accepting a control connection failed");
                thread::sleep(Duration::from_millis(100));
                continue;
            }
        };
        let (engine, link) = (Arc::clone(engine), Arc::clone(link));
        let spawned = thread::Builder::new()
            .name("agent-read".into())
            .spawn(move || converse(stream, &engine, &link));
        if let Err(error) = spawned {
            tracing::warn!(%error, "a control connection was closed: no thread for it");
        }
    }
}

/// One connection, from its Hello to its end.
fn converse(stream: UnixStream, engine: &Engine, link: &Link) {
    let mut reader = Reader {
        stream: &stream,
        decoder: Decoder::default(),
    };
    let hello = match reader.hello() {
        Ok(hello) => hello,
        Err(error) => {
            tracing::debug!(%error, "a control connection ended before its Hello");
            return;
        }
    };
    let number = match take_over(&stream, hello, engine, link) {
        Ok(number) => number,
        Err(error) => {
            tracing::warn!(error = format!("{error:#}"), "an agent was refused");
            return;
        }
    };
    tracing::info!("an agent has connected");
    if let Err(error) = obey(&mut reader, number, engine, link) {
        tracing::warn!(
            error = format!("{error:#}"),
            "the agent's connection is unusable"
        );
    }
    // The writer may be waiting for the other side.
    let _ = stream.shutdown(Shutdown::Both);
    link.leave(number);
}

/// Makes this connection the agent's; its number. Welcome is sent only after that, and before
/// any event.
fn take_over(stream: &UnixStream, hello: Command, engine: &Engine, link: &Link) -> Result<u64> {
    let turn = link.turn();
    let welcome = engine.handle(hello);
    if let Event::Failed { error, .. } = &welcome {
        say(stream, &welcome)?;
        bail!("{error}");
    }
    let (queue, messages) = sync_channel(QUEUE);
    queue.send(welcome)?;
    let writer = stream.try_clone()?;
    let number = link.replace(stream.try_clone()?, queue);
    drop(turn);
    let spawned = thread::Builder::new()
        .name("agent-write".into())
        .spawn(move || write(&writer, messages));
    if let Err(error) = spawned {
        link.leave(number);
        return Err(error.into());
    }
    Ok(number)
}

/// Does what the agent says until it goes or another takes its place.
fn obey(reader: &mut Reader<'_>, number: u64, engine: &Engine, link: &Link) -> Result<()> {
    while let Some(command) = reader.command()? {
        let turn = link.turn();
        // What a replaced agent still had in its pipe is void.
        let Some(queue) = link.queue_of(number) else {
            break;
        };
        let answer = engine.handle(command);
        drop(turn);
        if let Event::Failed { error, .. } = &answer {
            tracing::warn!(%error, "a command of the agent failed");
        }
        queue.send(answer)?;
    }
    Ok(())
}

struct Reader<'a> {
    stream: &'a UnixStream,
    decoder: Decoder,
}

impl Reader<'_> {
    /// The first message, which has to come soon and has to be Hello.
    fn hello(&mut self) -> Result<Command> {
        self.stream.set_read_timeout(Some(HELLO_DEADLINE))?;
        self.stream.set_write_timeout(Some(WRITE_DEADLINE))?;
        let first = self.command()?.context("closed")?;
        self.stream.set_read_timeout(None)?;
        match first {
            hello @ Command::Hello { .. } => Ok(hello),
            Command::SetPeer { .. }
            | Command::SetAllowedIps { .. }
            | Command::RemovePeer { .. }
            | Command::Renew { .. }
            | Command::Status { .. } => bail!("the first message is not Hello"),
        }
    }

    /// The next command; `None` when the other side has closed.
    fn command(&mut self) -> Result<Option<Command>> {
        // Wiped at the end: it may have held a PSK.
        let mut buffer = Zeroizing::new([0; READ_SIZE]);
        loop {
            if let Some(command) = self.decoder.next_message()? {
                return Ok(Some(command));
            }
            let length = match self.stream.read(&mut *buffer) {
                Ok(0) => return Ok(None),
                Ok(length) => length,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                Err(error) => return Err(error.into()),
            };
            self.decoder.push(&buffer[..length]);
        }
    }
}

fn write(stream: &UnixStream, messages: Receiver<Event>) {
    for message in messages {
        if say(stream, &message).is_err() {
            // The reader sees the end and cleans up.
            let _ = stream.shutdown(Shutdown::Both);
            return;
        }
    }
}

fn say(mut stream: &UnixStream, message: &Event) -> io::Result<()> {
    let frame = encode(message).map_err(io::Error::other)?;
    stream.write_all(&frame)
}
