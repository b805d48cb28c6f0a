//! `lab ask`: one question over TCP, UDP or DNS, to see whether there is an answer.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpStream, UdpSocket};
use std::time::Duration;

use anyhow::{Context, Result, anyhow, bail};
use clap::{Args, ValueEnum};

use super::dns;

/// Options of `lab ask`.
#[derive(Args, Debug)]
pub(crate) struct Ask {
    #[arg(value_enum)]
    how: How,
    /// ADDRESS:PORT, with [] around an IPv6 address
    to: SocketAddr,
    /// One line for TCP and UDP, a path for HTTP, a name for DNS
    question: String,
    /// Seconds to wait for an answer
    #[arg(long, default_value_t = 2.0)]
    timeout: f64,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
pub(crate) enum How {
    Tcp,
    /// Asks for a page
    Http,
    Udp,
    Dns,
}

/// Asks and prints the answer; fails if there is none.
pub(crate) fn run(options: &Ask) -> Result<u8> {
    let patience = Duration::from_secs_f64(options.timeout.clamp(0.001, 3600.0));
    println!(
        "{}",
        ask(options.how, options.to, &options.question, patience)?
    );
    Ok(0)
}

/// Asks, from the namespace that the calling thread is in.
pub(crate) fn ask(how: How, to: SocketAddr, question: &str, patience: Duration) -> Result<String> {
    match how {
        How::Tcp => tcp(to, question, patience),
        How::Http => http(to, question, patience),
        How::Udp => {
            let answer = datagram(to, question.as_bytes(), patience)?;
            Ok(String::from_utf8_lossy(&answer).into_owned())
        }
        How::Dns => names(to, question, patience),
    }
}

fn tcp(to: SocketAddr, line: &str, patience: Duration) -> Result<String> {
    let mut stream = connect(to, patience)?;
    stream
        .write_all(format!("{line}\n").as_bytes())
        .context("ask")?;
    let mut answer = String::new();
    BufReader::new(stream)
        .read_line(&mut answer)
        .map_err(|error| anyhow!("no answer from {to}: {error}"))?;
    if answer.is_empty() {
        bail!("{to} hung up without an answer");
    }
    Ok(answer.trim_end().to_owned())
}

fn http(to: SocketAddr, path: &str, patience: Duration) -> Result<String> {
    let mut stream = connect(to, patience)?;
    stream
        .write_all(format!("GET {path} HTTP/1.0\r\nHost: {to}\r\n\r\n").as_bytes())
        .context("ask")?;
    let mut answer = String::new();
    stream
        .read_to_string(&mut answer)
        .map_err(|error| anyhow!("no answer from {to}: {error}"))?;
    let (head, body) = answer
        .split_once("\r\n\r\n")
        .with_context(|| format!("{to} does not speak HTTP"))?;
    let status = head.lines().next().unwrap_or_default();
    if !status.contains(" 200 ") {
        bail!("{to} answered {status}");
    }
    Ok(body.trim_end().to_owned())
}

fn connect(to: SocketAddr, patience: Duration) -> Result<TcpStream> {
    let stream =
        TcpStream::connect_timeout(&to, patience).with_context(|| format!("connect to {to}"))?;
    stream
        .set_read_timeout(Some(patience))
        .context("set a deadline")?;
    Ok(stream)
}

fn datagram(to: SocketAddr, bytes: &[u8], patience: Duration) -> Result<Vec<u8>> {
    let any: SocketAddr = if to.is_ipv4() {
        ([0; 4], 0).into()
    } else {
        ([0u16; 8], 0).into()
    };
    let socket = UdpSocket::bind(any).context("open a UDP socket")?;
    socket
        .connect(to)
        .with_context(|| format!("send to {to}"))?;
    socket
        .set_read_timeout(Some(patience))
        .context("set a deadline")?;
    let mut buffer = vec![0; 65_536];
    // The first datagram may find out that the path is narrower than the link: then once more.
    for _ in 0..3 {
        socket
            .send(bytes)
            .with_context(|| format!("send to {to}"))?;
        match socket.recv(&mut buffer) {
            Ok(length) => {
                buffer.truncate(length);
                return Ok(buffer);
            }
            Err(error) if error.raw_os_error() == Some(nix::libc::EMSGSIZE) => {}
            Err(error) => bail!("no answer from {to}: {error}"),
        }
    }
    bail!("no answer from {to}: packets are too large for the path")
}

/// Asks for the addresses of the family that the question travels over.
fn names(to: SocketAddr, name: &str, patience: Duration) -> Result<String> {
    let id = std::process::id() as u16;
    let query =
        dns::question(id, name, to.is_ipv6()).with_context(|| format!("{name:?} is no name"))?;
    let answer = datagram(to, &query, patience)?;
    let found = dns::addresses(&answer, id).map_err(|error| anyhow!("{name}: {error}"))?;
    Ok(found
        .iter()
        .map(ToString::to_string)
        .collect::<Vec<_>>()
        .join(" "))
}
