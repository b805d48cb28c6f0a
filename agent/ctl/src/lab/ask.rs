//! `lab ask`: one question over TCP, UDP or DNS, to see whether there is an answer.

use std::io::{BufRead, BufReader, Write};
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
    /// One line for TCP and UDP, a name for DNS
    question: String,
    /// Seconds to wait for an answer
    #[arg(long, default_value_t = 2.0)]
    timeout: f64,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum How {
    Tcp,
    Udp,
    Dns,
}

/// Asks and prints the answer; fails if there is none.
pub(crate) fn run(options: &Ask) -> Result<u8> {
    let patience = Duration::from_secs_f64(options.timeout.clamp(0.001, 3600.0));
    let answer = match options.how {
        How::Tcp => tcp(options.to, &options.question, patience)?,
        How::Udp => {
            let answer = datagram(options.to, options.question.as_bytes(), patience)?;
            String::from_utf8_lossy(&answer).into_owned()
        }
        How::Dns => names(options.to, &options.question, patience)?,
    };
    println!("{answer}");
    Ok(0)
}

fn tcp(to: SocketAddr, line: &str, patience: Duration) -> Result<String> {
    let mut stream = TcpStream::connect_timeout(&to, patience).with_context(|| format!("connect to {to}"))?;
    stream.set_read_timeout(Some(patience)).context("set a deadline")?;
    stream.write_all(format!("{line}\n").as_bytes()).context("ask")?;
    let mut answer = String::new();
    BufReader::new(stream).read_line(&mut answer).map_err(|error| anyhow!("no answer from {to}: {error}"))?;
    if answer.is_empty() {
        bail!("{to} hung up without an answer");
    }
    Ok(answer.trim_end().to_owned())
}

fn datagram(to: SocketAddr, bytes: &[u8], patience: Duration) -> Result<Vec<u8>> {
    let any: SocketAddr = if to.is_ipv4() { ([0; 4], 0).into() } else { ([0u16; 8], 0).into() };
    let socket = UdpSocket::bind(any).context("open a UDP socket")?;
    socket.connect(to).with_context(|| format!("send to {to}"))?;
    socket.set_read_timeout(Some(patience)).context("set a deadline")?;
    socket.send(bytes).with_context(|| format!("send to {to}"))?;
    let mut buffer = vec![0; 65_536];
    let length = socket.recv(&mut buffer).map_err(|error| anyhow!("no answer from {to}: {error}"))?;
    buffer.truncate(length);
    Ok(buffer)
}

/// Asks for the addresses of the family that the question travels over.
fn names(to: SocketAddr, name: &str, patience: Duration) -> Result<String> {
    let id = std::process::id() as u16;
    let query = dns::question(id, name, to.is_ipv6()).with_context(|| format!("{name:?} is no name"))?;
    let answer = datagram(to, &query, patience)?;
    let found = dns::addresses(&answer, id).map_err(|error| anyhow!("{name}: {error}"))?;
    Ok(found.iter().map(ToString::to_string).collect::<Vec<_>>().join(" "))
}
