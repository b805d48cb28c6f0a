//! `lab serve`: small servers for pods. They speak over real sockets, on IPv4 and IPv6 at once.

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader, Write};
use std::net::{IpAddr, Ipv6Addr, SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::sync::{Arc, Mutex, PoisonError};

use anyhow::{Context, Result, bail};
use clap::{Args, Subcommand};

use super::dns;

/// Options of `lab serve`.
#[derive(Args, Debug)]
pub(crate) struct Serve {
    #[command(subcommand)]
    what: What,
}

#[derive(Subcommand, Debug)]
enum What {
    /// A table of keys and values over TCP: `PUT key value`, `GET key`, `COUNT`, one line each
    Tcp {
        #[arg(long)]
        port: u16,
        /// Entries to begin with
        #[arg(long = "row", value_name = "KEY=VALUE", value_parser = pair)]
        rows: Vec<(String, String)>,
    },
    /// Answers every datagram with its own bytes
    Udp {
        #[arg(long)]
        port: u16,
    },
    /// A DNS server with the given names, authoritative for nothing else
    Dns {
        #[arg(long, default_value_t = 53)]
        port: u16,
        /// Addresses of names; a name may have several
        #[arg(long = "record", value_name = "NAME=ADDRESS", value_parser = pair)]
        records: Vec<(String, String)>,
    },
}

/// Serves until killed.
pub(crate) fn run(options: Serve) -> Result<u8> {
    match options.what {
        What::Tcp { port, rows } => tcp(port, rows.into_iter().collect()),
        What::Udp { port } => udp(port, |bytes| Some(bytes.to_vec())),
        What::Dns { port, records } => {
            let zone = zone(&records)?;
            udp(port, move |query| dns::answer(query, &zone))
        }
    }
}

type Rows = Arc<Mutex<BTreeMap<String, String>>>;

fn tcp(port: u16, rows: BTreeMap<String, String>) -> Result<u8> {
    let rows: Rows = Arc::new(Mutex::new(rows));
    let listener =
        TcpListener::bind(any(port)).with_context(|| format!("listen on TCP port {port}"))?;
    println!("listening on TCP port {port}");
    for stream in listener.incoming() {
        let Ok(stream) = stream else { continue };
        let rows = rows.clone();
        std::thread::spawn(move || {
            let _ = converse(&stream, &rows);
        });
    }
    Ok(0)
}

fn converse(stream: &TcpStream, rows: &Rows) -> std::io::Result<()> {
    let mut out = stream.try_clone()?;
    for line in BufReader::new(stream).lines() {
        let answer = reply(&line?, rows);
        out.write_all(format!("{answer}\n").as_bytes())?;
    }
    Ok(())
}

fn reply(line: &str, rows: &Rows) -> String {
    let mut rows = rows.lock().unwrap_or_else(PoisonError::into_inner);
    let mut words = line.splitn(3, ' ');
    match (words.next(), words.next(), words.next()) {
        (Some("GET"), Some(key), None) => match rows.get(key) {
            Some(value) => format!("OK {value}"),
            None => format!("ERR no row {key}"),
        },
        (Some("PUT"), Some(key), Some(value)) => {
            rows.insert(key.to_owned(), value.to_owned());
            "OK".to_owned()
        }
        (Some("COUNT"), None, None) => format!("OK {}", rows.len()),
        _ => "ERR use GET key, PUT key value or COUNT".to_owned(),
    }
}

fn udp(port: u16, answer: impl Fn(&[u8]) -> Option<Vec<u8>>) -> Result<u8> {
    let socket =
        UdpSocket::bind(any(port)).with_context(|| format!("listen on UDP port {port}"))?;
    println!("listening on UDP port {port}");
    let mut buffer = vec![0; 65_536];
    loop {
        // ICMP errors of earlier answers come back here; they are the client's affair.
        let Ok((length, from)) = socket.recv_from(&mut buffer) else {
            continue;
        };
        if let Some(answer) = answer(&buffer[..length]) {
            let _ = socket.send_to(&answer, from);
        }
    }
}

/// The IPv6 wildcard takes IPv4 as well.
fn any(port: u16) -> SocketAddr {
    SocketAddr::new(Ipv6Addr::UNSPECIFIED.into(), port)
}

fn zone(records: &[(String, String)]) -> Result<BTreeMap<String, Vec<IpAddr>>> {
    let mut zone: BTreeMap<String, Vec<IpAddr>> = BTreeMap::new();
    for (name, address) in records {
        let Ok(address) = address.parse() else {
            bail!("--record {name}={address}: {address:?} is no address");
        };
        zone.entry(name.trim_end_matches('.').to_ascii_lowercase())
            .or_default()
            .push(address);
    }
    Ok(zone)
}

fn pair(text: &str) -> Result<(String, String), String> {
    match text.split_once('=') {
        Some((key, value)) if !key.is_empty() => Ok((key.to_owned(), value.to_owned())),
        Some(_) | None => Err("use KEY=VALUE".to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_table_keeps_what_it_is_told() {
        let rows: Rows = Arc::default();
        assert_eq!(reply("PUT a b c", &rows), "OK");
        assert_eq!(reply("GET a", &rows), "OK b c");
        assert_eq!(reply("GET x", &rows), "ERR no row x");
        assert_eq!(reply("COUNT", &rows), "OK 1");
        for nonsense in ["", "GET", "PUT a", "COUNT 1", "DROP TABLE"] {
            assert!(reply(nonsense, &rows).starts_with("ERR use"), "{nonsense}");
        }
    }

    #[test]
    fn bad_records_are_refused() {
        let record = |address: &str| vec![("a.b.".to_owned(), address.to_owned())];
        assert_eq!(zone(&record("::1")).unwrap()["a.b"].len(), 1);
        assert!(zone(&record("nine")).is_err());
        assert!(pair("=x").is_err());
    }
}
