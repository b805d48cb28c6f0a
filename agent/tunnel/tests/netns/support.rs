//! Two hosts as network namespaces, a real `signet-tunnel` in each, and the test as their agent.

use std::{
    fs::File,
    io::{self, Read, Write},
    net::{IpAddr, SocketAddr, TcpStream},
    os::unix::net::UnixStream,
    path::PathBuf,
    process::{Child, Command, Output, Stdio},
    sync::atomic::{AtomicU32, Ordering},
    thread,
    time::{Duration, Instant},
};

use signet_abi::DropReason;
use signet_crypto::{
    secret::Secret,
    wg::{Psk, PublicKey},
};
use signet_wg::control::{self, Decoder, Event, PeerInfo, SlotInfo, VERSION, encode};

/// How long anything that should happen may take on a busy machine.
pub(crate) const PATIENCE: Duration = Duration::from_secs(30);
pub(crate) const PORT: u16 = 51830;
pub(crate) const DEVICE: &str = "sgslot0";

/// True if the test can run; else says loudly that it did not.
pub(crate) fn is_possible(test: &str, programs: &[&str]) -> bool {
    if !nix::unistd::geteuid().is_root() {
        eprintln!("SKIPPED: {test}: needs root for network namespaces");
        return false;
    }
    for program in programs {
        let found = Command::new("sh")
            .args(["-c", &format!("command -v {program}")])
            .output();
        if !found.is_ok_and(|output| output.status.success()) {
            eprintln!("SKIPPED: {test}: {program} is not installed (see `make setup`)");
            return false;
        }
    }
    true
}

/// Two namespaces joined by a veth; gone when dropped, also by a panic.
pub(crate) struct Net {
    pub(crate) a: String,
    pub(crate) b: String,
}

impl Net {
    pub(crate) fn new() -> Self {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let number = COUNT.fetch_add(1, Ordering::Relaxed);
        let name = |side| format!("sgt-{}-{number}{side}", std::process::id());
        let net = Self {
            a: name("a"),
            b: name("b"),
        };
        let Self { a, b } = &net;
        for netns in [a, b] {
            run(&["ip", "netns", "add", netns]);
            run(&["ip", "-n", netns, "link", "set", "lo", "up"]);
        }
        let veth = ["type", "veth", "peer", "name", "under", "netns", b];
        run(&[
            &["ip", "-n", a, "link", "add", "under", "mtu", "1500"],
            &veth[..],
        ]
        .concat());
        for (netns, last) in [(a, 1), (b, 2)] {
            let (v4, v6) = (format!("192.0.2.{last}/24"), format!("fd99::{last}/64"));
            run(&["ip", "-n", netns, "addr", "add", &v4, "dev", "under"]);
            run(&[
                "ip", "-n", netns, "addr", "add", &v6, "dev", "under", "nodad",
            ]);
            run(&["ip", "-n", netns, "link", "set", "under", "up"]);
        }
        net
    }
}

impl Drop for Net {
    fn drop(&mut self) {
        for netns in [&self.a, &self.b] {
            let _ = Command::new("ip").args(["netns", "del", netns]).status();
        }
    }
}

/// One `signet-tunnel` and the test's connection to it.
pub(crate) struct Tunnel {
    pub(crate) netns: String,
    pub(crate) child: Child,
    pub(crate) slots: Vec<SlotInfo>,
    pub(crate) peers: Vec<PeerInfo>,
    pub(crate) events: Vec<Event>,
    agent: UnixStream,
    decoder: Decoder,
    folder: tempfile::TempDir,
    seq: u64,
}

impl Tunnel {
    pub(crate) fn start(netns: &str) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let child = command(netns, env!("CARGO_BIN_EXE_signet-tunnel"))
            .arg("--control-socket")
            .arg(folder.path().join("tunnel.sock"))
            .stdin(Stdio::null())
            .spawn()
            .unwrap();
        let socket = folder.path().join("tunnel.sock");
        let agent = wait_for("the control socket", || UnixStream::connect(&socket).ok());
        let mut tunnel = Self {
            netns: netns.into(),
            child,
            slots: Vec::new(),
            peers: Vec::new(),
            events: Vec::new(),
            agent,
            decoder: Decoder::default(),
            folder,
            seq: 0,
        };
        tunnel.hello();
        tunnel
    }

    pub(crate) fn socket(&self) -> PathBuf {
        self.folder.path().join("tunnel.sock")
    }

    /// Ends the connection and makes a new one, as a restarted agent does.
    pub(crate) fn reconnect(&mut self) {
        self.agent.shutdown(std::net::Shutdown::Both).unwrap();
        self.agent = UnixStream::connect(self.socket()).unwrap();
        self.decoder = Decoder::default();
        self.hello();
    }

    fn hello(&mut self) {
        self.send(&control::Command::Hello { version: VERSION });
        let Event::Welcome {
            version,
            slots,
            peers,
        } = self.next()
        else {
            panic!("the first message is not Welcome");
        };
        assert_eq!((version, slots.len()), (VERSION, 2));
        (self.slots, self.peers) = (slots, peers);
    }

    pub(crate) fn key(&self) -> PublicKey {
        self.slots[0].public_key
    }

    /// Sends a command made with the next sequence number; its answer.
    pub(crate) fn ask(&mut self, make: impl FnOnce(u64) -> control::Command) -> Event {
        self.seq += 1;
        let seq = self.seq;
        self.send(&make(seq));
        loop {
            let event = self.next();
            match &event {
                Event::Done { seq: done } | Event::Failed { seq: done, .. } => {
                    assert_eq!(*done, seq);
                    return event;
                }
                Event::Status { .. } | Event::Renewed { .. } => return event,
                Event::Welcome { .. } | Event::Handshake { .. } | Event::Dropped { .. } => {
                    self.events.push(event);
                }
            }
        }
    }

    pub(crate) fn set_peer(
        &mut self,
        peer: PublicKey,
        psk: u8,
        underlay: SocketAddr,
        allowed: &[&str],
    ) {
        let own = self.slots[0].public_key;
        let done = self.ask(|seq| control::Command::SetPeer {
            seq,
            slot: 0,
            own,
            peer,
            psk: Psk::new(Secret::new([psk; 32])).unwrap(),
            underlay,
            allowed_ips: allowed.iter().map(|net| net.parse().unwrap()).collect(),
            epoch: 1,
            initiate: false,
        });
        assert!(matches!(done, Event::Done { .. }), "{done:?}");
    }

    /// Waits until the engine has reported a drop for `reason`.
    pub(crate) fn wait_for_drop(&mut self, reason: DropReason) -> Event {
        let is_it =
            |event: &Event| matches!(event, Event::Dropped { reason: r, .. } if *r == reason);
        loop {
            if let Some(at) = self.events.iter().position(is_it) {
                return self.events.remove(at);
            }
            let event = self.next();
            self.events.push(event);
        }
    }

    /// What `/metrics` says of one sample, 0 if it is not there.
    pub(crate) fn metric(&self, sample: &str) -> u64 {
        let page = within(&self.netns, || {
            let mut stream = TcpStream::connect("127.0.0.1:9448").unwrap();
            stream.set_read_timeout(Some(PATIENCE)).unwrap();
            stream.write_all(b"GET /metrics HTTP/1.0\r\n\r\n").unwrap();
            let mut page = String::new();
            stream.read_to_string(&mut page).unwrap();
            page
        });
        let line = page
            .lines()
            .find_map(|line| line.strip_prefix(sample)?.strip_prefix(' '));
        line.map_or(0, |value| value.parse().unwrap())
    }

    pub(crate) fn dropped(&self, reason: DropReason) -> u64 {
        let name = "signet_tunnel_dropped_packets_total";
        self.metric(&format!(
            "{name}{{slot=\"0\",reason=\"{}\"}}",
            reason.as_str()
        ))
    }

    fn send(&mut self, command: &control::Command) {
        self.agent.write_all(&encode(command).unwrap()).unwrap();
    }

    fn next(&mut self) -> Event {
        self.agent.set_read_timeout(Some(PATIENCE)).unwrap();
        loop {
            if let Some(event) = self.decoder.next_message().unwrap() {
                return event;
            }
            let mut buffer = [0; 4096];
            let length = uninterrupted(|| self.agent.read(&mut buffer));
            let length = length.expect("a message from the engine in time");
            assert!(length > 0, "the engine closed the connection");
            self.decoder.push(&buffer[..length]);
        }
    }
}

impl Drop for Tunnel {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Two tunnels that know each other, with addresses 10.77.0.1, fd77::1 and .2, ::2 inside.
pub(crate) fn joined(net: &Net, psk_a: u8, psk_b: u8) -> (Tunnel, Tunnel) {
    let (mut a, mut b) = (Tunnel::start(&net.a), Tunnel::start(&net.b));
    a.set_peer(
        b.key(),
        psk_a,
        address("192.0.2.2"),
        &["10.77.0.2/32", "fd77::2/128"],
    );
    b.set_peer(
        a.key(),
        psk_b,
        address("192.0.2.1"),
        &["10.77.0.1/32", "fd77::1/128"],
    );
    inner_addresses(&net.a, DEVICE, 1);
    inner_addresses(&net.b, DEVICE, 2);
    (a, b)
}

pub(crate) fn inner_addresses(netns: &str, device: &str, last: u8) {
    let (v4, v6) = (format!("10.77.0.{last}/24"), format!("fd77::{last}/64"));
    run(&[
        "ip", "-n", netns, "link", "set", device, "mtu", "1400", "up",
    ]);
    run(&["ip", "-n", netns, "addr", "add", &v4, "dev", device]);
    run(&[
        "ip", "-n", netns, "addr", "add", &v6, "dev", device, "nodad",
    ]);
}

pub(crate) fn address(ip: &str) -> SocketAddr {
    SocketAddr::new(ip.parse::<IpAddr>().unwrap(), PORT)
}

/// A command in a namespace, ended after a minute at the latest.
pub(crate) fn command(netns: &str, program: &str) -> Command {
    let mut command = Command::new("ip");
    command.args(["netns", "exec", netns]);
    // The tunnel itself is ended by its owner and must be the child, not a grandchild.
    if !program.contains('/') {
        command.args(["timeout", "60"]);
    }
    command.arg(program);
    command
}

/// Runs a shell line in a namespace.
pub(crate) fn sh(netns: &str, line: &str) -> Output {
    command(netns, "sh").args(["-c", line]).output().unwrap()
}

/// Runs a shell line that must succeed; its standard output.
pub(crate) fn sh_ok(netns: &str, line: &str) -> String {
    let output = sh(netns, line);
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    let error = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{line}: {text}{error}");
    text
}

pub(crate) fn run(arguments: &[&str]) {
    let output = Command::new(arguments[0])
        .args(&arguments[1..])
        .output()
        .unwrap();
    let error = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{}: {error}", arguments.join(" "));
}

/// Runs `work` on a thread that is in the namespace; sockets it makes stay there.
pub(crate) fn within<T: Send>(netns: &str, work: impl FnOnce() -> T + Send) -> T {
    let file = File::open(format!("/run/netns/{netns}")).unwrap();
    thread::scope(|scope| {
        let thread = scope.spawn(|| {
            nix::sched::setns(file, nix::sched::CloneFlags::CLONE_NEWNET).unwrap();
            work()
        });
        thread.join().unwrap()
    })
}

/// Tries until it works.
pub(crate) fn wait_for<T>(what: &str, mut attempt: impl FnMut() -> Option<T>) -> T {
    let start = Instant::now();
    loop {
        if let Some(result) = attempt() {
            return result;
        }
        assert!(start.elapsed() < PATIENCE, "waited in vain for {what}");
        thread::sleep(Duration::from_millis(20));
    }
}

/// Repeats a read that a signal cut short: one with a deadline is not restarted by the kernel.
pub(crate) fn uninterrupted<T>(mut read: impl FnMut() -> io::Result<T>) -> io::Result<T> {
    loop {
        match read() {
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            result => return result,
        }
    }
}
