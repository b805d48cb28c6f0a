//! The tunnels that are measured: two processes each, in the same two namespaces, keyed with each other.

use std::{
    fs,
    io::{Read, Write},
    net::SocketAddr,
    os::unix::net::UnixStream,
    path::{Path, PathBuf},
    process::Stdio,
    time::Duration,
};

use anyhow::{Context, Result, bail, ensure};
use signet_crypto::{
    random::SystemRandom,
    secret::Secret,
    wg::{PrivateKey, Psk, PublicKey},
};
use signet_tests::bin;
use signet_wg::control::{Command, Decoder, Event, VERSION, encode};
use tempfile::TempDir;

use crate::{
    interrupt::patiently,
    net::{Net, Process},
};

/// Addresses of the two hosts on the wire.
const UNDERLAY: [&str; 2] = ["192.0.2.1", "192.0.2.2"];
/// UDP port of slot 0; the others have theirs above it, so that all run side by side.
const PORT: u16 = 51830;
/// Where the others put their configuration sockets, for all network namespaces.
const UAPI: &str = "/var/run/wireguard";

/// One implementation: its two processes, and the inner address to send to.
pub(crate) struct Contender {
    /// What it is called in the report.
    pub(crate) name: &'static str,
    /// Inner address of the far end.
    pub(crate) far: String,
    /// The processes of both ends.
    pub(crate) ends: [Process; 2],
    /// What goes after the processes.
    _held: Held,
}

#[expect(
    dead_code,
    reason = "held for what happens when it is dropped, never read"
)]
enum Held {
    /// Connections as an agent has them, and the folder of the sockets.
    Signet([Control; 2], TempDir),
    Other([SocketFile; 2]),
}

/// A socket that its process leaves behind when it is killed.
struct SocketFile(PathBuf);

impl Drop for SocketFile {
    fn drop(&mut self) {
        // It is not there if the process never came so far.
        let _ = fs::remove_file(&self.0);
    }
}

impl Contender {
    /// `signet-tunnel`, driven over its control socket as the agent does.
    pub(crate) fn signet(net: &Net) -> Result<Self> {
        let program = bin::dir()?.join("signet-tunnel");
        let folder = TempDir::new()?;
        let socket = |host: usize| folder.path().join(format!("{host}.sock"));
        let start = |host| {
            let mut command = net.command(host);
            command.arg(&program).arg("--control-socket");
            command.arg(socket(host)).env("SIGNET_LOG", "warn");
            Process::start("signet-tunnel", &mut command)
        };
        let ends = [start(0)?, start(1)?];
        let [mut near, mut far] = [Control::open(&socket(0))?, Control::open(&socket(1))?];
        let psk = Secret::random(&mut SystemRandom);
        near.set_peer(far.key, &psk, 1)?;
        far.set_peer(near.key, &psk, 0)?;
        let controls = [near, far];
        for (host, control) in controls.iter().enumerate() {
            net.address(host, &control.device, &inner(0, host))?;
        }
        Ok(Self {
            name: "signet-tunnel",
            far: inner(0, 1),
            ends,
            _held: Held::Signet(controls, folder),
        })
    }

    /// `boringtun-cli`, all at its own defaults but for the number of threads.
    pub(crate) fn boringtun(net: &Net, program: &Path, threads: u8) -> Result<Self> {
        let threads = threads.to_string();
        let flags = ["--foreground", "--disable-drop-privileges", "--threads"];
        let flags = flags.into_iter().chain([&*threads]).collect::<Vec<_>>();
        Self::other(net, "boringtun-cli", program, &flags, 1)
    }

    /// `wireguard-go`, all at its own defaults.
    pub(crate) fn wireguard_go(net: &Net, program: &Path) -> Result<Self> {
        Self::other(net, "wireguard-go", program, &["--foreground"], 2)
    }

    /// A program that is configured over its socket as `wg` does; the `number`-th contender.
    fn other(
        net: &Net,
        name: &'static str,
        program: &Path,
        flags: &[&str],
        number: u8,
    ) -> Result<Self> {
        let device = |host: usize| {
            let side = ["a", "b"][host];
            format!("sgp{}{number}{side}", std::process::id())
        };
        let socket = |host| PathBuf::from(format!("{UAPI}/{}.sock", device(host)));
        let files = [SocketFile(socket(0)), SocketFile(socket(1))];
        let start = |host| {
            let mut command = net.command(host);
            command.arg(program).args(flags).arg(device(host));
            command.env("LOG_LEVEL", "error").stdout(Stdio::null());
            // wireguard-go says at each start that the kernel could do this; what it has to say else, it logs.
            Process::start(name, command.stderr(Stdio::null()))
        };
        let ends = [start(0)?, start(1)?];
        let keys = [0, 1].map(|_| PrivateKey::generate(&mut SystemRandom));
        let psk = Secret::<32>::random(&mut SystemRandom);
        let port = PORT + 10 * u16::from(number);
        for (host, peer) in [(0, 1), (1, 0)] {
            let request = format!(
                "set=1\nprivate_key={}\nlisten_port={port}\npublic_key={}\npreshared_key={}\n\
                 endpoint={}:{port}\nallowed_ip={}/32\n\n",
                hex(keys[host].secret().expose()),
                hex(keys[peer].public_key()?.as_bytes()),
                hex(psk.expose()),
                UNDERLAY[peer],
                inner(number, peer),
            );
            let answer = patiently(&format!("configuring {name}"), || {
                let mut stream = UnixStream::connect(socket(host))?;
                stream.set_read_timeout(Some(Duration::from_secs(5)))?;
                stream.write_all(request.as_bytes())?;
                let mut answer = [0; 64];
                let length = stream.read(&mut answer)?;
                Ok(String::from_utf8_lossy(&answer[..length]).into_owned())
            })?;
            ensure!(
                answer.starts_with("errno=0"),
                "{name} refused its configuration: {answer}"
            );
            net.address(host, &device(host), &inner(number, host))?;
        }
        Ok(Self {
            name,
            far: inner(number, 1),
            ends,
            _held: Held::Other(files),
        })
    }
}

/// Inner address of a host in a contender's subnet.
fn inner(contender: u8, host: usize) -> String {
    format!("10.{}.0.{}", 77 + contender, host + 1)
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// A connection to one `signet-tunnel`, as its agent has it.
struct Control {
    stream: UnixStream,
    decoder: Decoder,
    key: PublicKey,
    device: String,
}

impl Control {
    fn open(socket: &Path) -> Result<Self> {
        let stream = patiently("connecting to signet-tunnel", || {
            Ok(UnixStream::connect(socket)?)
        })?;
        stream.set_read_timeout(Some(Duration::from_secs(30)))?;
        let mut control = Self {
            stream,
            decoder: Decoder::default(),
            key: PublicKey([0; 32]),
            device: String::new(),
        };
        control.send(&Command::Hello { version: VERSION })?;
        let Event::Welcome { slots, .. } = control.next()? else {
            bail!("signet-tunnel did not answer with Welcome; is it of another version?");
        };
        let slot = slots.into_iter().next().context("a slot")?;
        ensure!(slot.port == PORT, "slot 0 is on port {}", slot.port);
        (control.key, control.device) = (slot.public_key, slot.ifname);
        Ok(control)
    }

    /// Makes the host with that number a peer of slot 0.
    fn set_peer(&mut self, peer: PublicKey, psk: &Secret<32>, host: usize) -> Result<()> {
        self.send(&Command::SetPeer {
            seq: 1,
            slot: 0,
            own: self.key,
            peer,
            psk: Psk::new(Secret::new(*psk.expose()))?,
            underlay: SocketAddr::new(UNDERLAY[host].parse()?, PORT),
            allowed_ips: vec![format!("{}/32", inner(0, host)).parse()?],
            epoch: 1,
            initiate: false,
        })?;
        loop {
            match self.next()? {
                Event::Done { .. } => return Ok(()),
                Event::Failed { error, .. } => bail!("signet-tunnel: {error}"),
                Event::Welcome { .. }
                | Event::Handshake { .. }
                | Event::Renewed { .. }
                | Event::Dropped { .. }
                | Event::Status { .. } => {}
            }
        }
    }

    fn send(&mut self, command: &Command) -> Result<()> {
        Ok(self.stream.write_all(&encode(command)?)?)
    }

    fn next(&mut self) -> Result<Event> {
        loop {
            if let Some(event) = self.decoder.next_message()? {
                return Ok(event);
            }
            let mut buffer = [0; 4096];
            let length = self.stream.read(&mut buffer)?;
            ensure!(length > 0, "signet-tunnel closed its control socket");
            self.decoder.push(&buffer[..length]);
        }
    }
}
