//! The status socket: one JSON request line in, JSON lines out.

mod requests;

use std::{
    fs,
    os::unix::fs::PermissionsExt as _,
    path::{Path, PathBuf},
    sync::Arc,
    time::{Duration, Instant},
};

use serde::Serialize;
use signet_agent_core::status::{Failure, Request};
use tokio::{
    io::{AsyncBufReadExt as _, AsyncReadExt as _, AsyncWriteExt as _, BufReader},
    net::{
        UnixListener, UnixStream,
        unix::{OwnedReadHalf, OwnedWriteHalf},
    },
    sync::{Semaphore, mpsc, watch},
    time::timeout,
};

use crate::{executor::Inbox, health::Health, host::Netlink, tunnel::ToTunnel};

/// The longest request line.
const MAX_REQUEST: u64 = 64 << 10;
/// A client says what it wants within this.
const PATIENCE: Duration = Duration::from_secs(5);
/// Clients at the same time.
const CLIENTS: usize = 64;

/// What answers need once the agent runs.
#[derive(Clone)]
pub(crate) struct Running {
    /// Folder of the audit log.
    pub(crate) audit: PathBuf,
    pub(crate) inbox: Inbox,
    pub(crate) tunnel: mpsc::UnboundedSender<ToTunnel>,
    pub(crate) netlink: Netlink,
}

/// What can be said before that.
#[derive(Clone)]
pub(crate) struct Starting {
    pub(crate) node: String,
    pub(crate) boot_id: String,
    pub(crate) mode: &'static str,
    pub(crate) identity: String,
    pub(crate) tunnel_socket: String,
    pub(crate) started: Instant,
    pub(crate) health: Health,
}

/// The listening socket; the file goes when this is dropped.
pub(crate) struct StatusSocket {
    listener: UnixListener,
    path: PathBuf,
}

impl StatusSocket {
    /// Binds with mode 0600; a socket that a dead agent left behind is replaced.
    ///
    /// # Errors
    /// One line that names the socket.
    pub(crate) async fn bind(path: &Path) -> Result<Self, String> {
        let shown = path.display();
        if UnixStream::connect(path).await.is_ok() {
            return Err(format!(
                "status socket {shown} is in use by another signet-agent: stop it, or choose \
                 another with --status-socket"
            ));
        }
        match fs::symlink_metadata(path) {
            Ok(found) if std::os::unix::fs::FileTypeExt::is_socket(&found.file_type()) => {
                fs::remove_file(path).map_err(|error| {
                    format!("old status socket {shown} cannot be removed: {error}")
                })?;
            }
            Ok(_) => {
                return Err(format!(
                    "{shown} is there and is no socket: see --status-socket"
                ));
            }
            Err(_) => {}
        }
        if let Some(folder) = path.parent() {
            fs::create_dir_all(folder)
                .map_err(|error| format!("folder of {shown} cannot be made: {error}"))?;
        }
        // Nobody else may connect in the moment before the mode is set.
        let before = nix::sys::stat::umask(nix::sys::stat::Mode::from_bits_truncate(0o177));
        let bound = UnixListener::bind(path);
        nix::sys::stat::umask(before);
        let listener = bound.map_err(|error| {
            format!(
                "status socket {shown} cannot be made ({error}): run as root, or see \
                 --status-socket"
            )
        })?;
        fs::set_permissions(path, fs::Permissions::from_mode(0o600))
            .map_err(|error| format!("mode of {shown} cannot be set: {error}"))?;
        Ok(Self {
            listener,
            path: path.to_owned(),
        })
    }

    /// Answers for as long as the process runs.
    pub(crate) async fn serve(self, starting: Starting, running: watch::Receiver<Option<Running>>) {
        let clients = Arc::new(Semaphore::new(CLIENTS));
        loop {
            let stream = match self.listener.accept().await {
                Ok((stream, _)) => stream,
                Err(error) => {
                    tracing::warn!(%error, "status connection cannot be accepted");
                    tokio::time::sleep(Duration::from_millis(100)).await;
                    continue;
                }
            };
            let Ok(turn) = Arc::clone(&clients).try_acquire_owned() else {
                tracing::warn!("status connection refused: {CLIENTS} are open");
                continue;
            };
            let (starting, running) = (starting.clone(), running.clone());
            tokio::spawn(async move {
                let (reader, writer) = stream.into_split();
                let mut client = Client {
                    reader: BufReader::new(reader),
                    writer,
                };
                // A client that has gone needs no answer.
                let _ = client.serve(&starting, &running).await;
                drop(turn);
            });
        }
    }
}

impl Drop for StatusSocket {
    fn drop(&mut self) {
        // It may have been removed already.
        let _ = fs::remove_file(&self.path);
    }
}

/// One connection.
struct Client {
    reader: BufReader<OwnedReadHalf>,
    writer: OwnedWriteHalf,
}

impl Client {
    async fn serve(
        &mut self,
        starting: &Starting,
        running: &watch::Receiver<Option<Running>>,
    ) -> std::io::Result<()> {
        let request = match timeout(PATIENCE, self.request()).await {
            Ok(Ok(request)) => request,
            Ok(Err(error)) => return self.fail(error).await,
            Err(_) => return self.fail("no request came".into()).await,
        };
        let ready = running.borrow().clone();
        match ready {
            Some(ready) => self.answer(request, &ready).await,
            None => self.answer_early(&request, starting).await,
        }
    }

    async fn request(&mut self) -> Result<Request, String> {
        let mut line = Vec::new();
        let mut limited = (&mut self.reader).take(MAX_REQUEST);
        limited
            .read_until(b'\n', &mut line)
            .await
            .map_err(|error| error.to_string())?;
        if line.last() != Some(&b'\n') && line.len() as u64 >= MAX_REQUEST {
            return Err(format!("request exceeds {MAX_REQUEST} bytes"));
        }
        parse(&line)
    }

    async fn line(&mut self, answer: &impl Serialize) -> std::io::Result<()> {
        let mut bytes = serde_json::to_vec(answer)?;
        bytes.push(b'\n');
        self.writer.write_all(&bytes).await
    }

    async fn fail(&mut self, error: String) -> std::io::Result<()> {
        self.line(&Failure { error }).await
    }

    /// True once the client has closed its side.
    async fn gone(&mut self) {
        let mut rest = [0; 64];
        while !matches!(self.reader.read(&mut rest).await, Ok(0) | Err(_)) {}
    }
}

fn parse(line: &[u8]) -> Result<Request, String> {
    serde_json::from_slice(line).map_err(|error| {
        format!("request is not understood ({error}): use a signetctl of the agent's release")
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn requests_are_read_strictly() {
        let status = parse(b"{\"cmd\":\"status\"}\n").unwrap();
        assert_eq!(status, Request::Status);
        let observe =
            parse(b"{\"cmd\":\"observe\",\"follow\":true,\"verdict\":\"dropped\"}\n").unwrap();
        assert!(matches!(observe, Request::Observe(filter) if filter.follow));
        for bad in [
            &b""[..],
            b"{}",
            b"{\"cmd\":\"stauts\"}",
            b"[]",
            b"{\"cmd\":\"endpoint_add\"}",
        ] {
            assert!(parse(bad).unwrap_err().contains("not understood"));
        }
    }

    #[tokio::test]
    async fn the_socket_is_private_replaced_after_a_crash_and_taken_once() {
        let root = tempfile::tempdir().unwrap();
        let path = root.path().join("run/agent.sock");
        let first = StatusSocket::bind(&path).await.unwrap();
        assert_eq!(
            fs::metadata(&path).unwrap().permissions().mode() & 0o777,
            0o600
        );
        let error = StatusSocket::bind(&path).await.err().unwrap();
        assert!(error.contains("--status-socket"), "{error}");

        // As after kill -9: the file is there, nobody listens.
        drop(first);
        drop(std::os::unix::net::UnixListener::bind(&path).unwrap());
        StatusSocket::bind(&path).await.unwrap();

        fs::write(root.path().join("file"), "x").unwrap();
        let error = StatusSocket::bind(&root.path().join("file"))
            .await
            .err()
            .unwrap();
        assert!(error.contains("no socket"), "{error}");
    }
}
