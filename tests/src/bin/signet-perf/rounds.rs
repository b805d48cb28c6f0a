//! Paired rounds: every measure through one tunnel and at once through the other, again and again.

use anyhow::{Context, Result};

use crate::{
    aead, interrupt,
    load::{self, RoundTrip, Tcp, Udp},
    net::Net,
    report::Row,
    tunnels::Contender,
    usage,
};

/// What one round found of one tunnel.
#[derive(Debug)]
struct Round {
    one: Tcp,
    four: Tcp,
    udp: Udp,
    round_trip: RoundTrip,
}

const NEXT_TO_OTHERS: &str = "<= 0.33 x boringtun-cli, <= 0.59 x wireguard-go";

/// Runs them; a row for each figure.
pub(crate) fn run(net: &Net, tunnels: &[Contender], rounds: u32, bytes: u64) -> Result<Vec<Row>> {
    let _server = load::serve(net)?;
    for tunnel in tunnels {
        // Handshake, buffers and the TCP stack's memory of the path; not counted.
        load::tcp(net, tunnel, 1, bytes.min(100_000_000))?;
    }
    let (mut found, mut floor) = (Vec::new(), Vec::new());
    for number in 1..=rounds {
        interrupt::check()?;
        let round = round(net, tunnels, bytes)?;
        floor.push(aead::seconds_per_gb()?);
        let costs: Vec<_> = tunnels
            .iter()
            .zip(&round)
            .map(|(tunnel, round)| format!("{} {:.2}", tunnel.name, round.one.cpu_per_gb))
            .collect();
        crate::say(&format!(
            "round {number} of {rounds}: CPU s/GB, TCP 1 stream: {}",
            costs.join(", ")
        ));
        found.push(round);
    }
    let mut rows = figures(&found, &floor);
    rows.extend(memory(tunnels)?);
    Ok(rows)
}

/// One round of every tunnel, measure by measure.
fn round(net: &Net, tunnels: &[Contender], bytes: u64) -> Result<Vec<Round>> {
    let one = each(tunnels, |tunnel| load::tcp(net, tunnel, 1, bytes))?;
    let four = each(tunnels, |tunnel| load::tcp(net, tunnel, 4, bytes))?;
    // As long as a fast transfer of that many bytes takes.
    let seconds = (bytes / 300_000_000).clamp(1, 5);
    let udp = each(tunnels, |tunnel| load::udp(net, tunnel, seconds))?;
    let round_trip = each(tunnels, |tunnel| load::ping(net, tunnel, 500))?;
    let rounds = one.into_iter().zip(four).zip(udp).zip(round_trip);
    Ok(rounds
        .map(|(((one, four), udp), round_trip)| Round {
            one,
            four,
            udp,
            round_trip,
        })
        .collect())
}

fn each<T>(
    tunnels: &[Contender],
    mut measure: impl FnMut(&Contender) -> Result<T>,
) -> Result<Vec<T>> {
    tunnels
        .iter()
        .map(|tunnel| measure(tunnel).with_context(|| format!("measuring {}", tunnel.name)))
        .collect()
}

fn figures(found: &[Vec<Round>], floor: &[f64]) -> Vec<Row> {
    let contenders = found.first().map_or(0, Vec::len);
    let by_contender = |figure: fn(&Round) -> f64| -> Vec<Vec<f64>> {
        let of = |number: usize| found.iter().map(|round| figure(&round[number])).collect();
        (0..contenders).map(of).collect()
    };
    let row = |name, unit, bar, figure| Row::of(name, unit, bar, by_contender(figure));
    let one = by_contender(|round| round.one.cpu_per_gb);
    let over = one.iter().flatten().zip(floor).map(|(ours, f)| ours / f);
    let over = over.take(found.len()).collect();
    vec![
        Row::of("TCP, 1 stream", "CPU s/GB", NEXT_TO_OTHERS, one),
        row("TCP, 4 streams", "CPU s/GB", NEXT_TO_OTHERS, |round| {
            round.four.cpu_per_gb
        }),
        Row::alone("seal + open alone", "CPU s/GB", "", floor.to_vec()),
        Row::alone("TCP, 1 stream, over that", "x", "<= 1.8", over),
        row(
            "UDP, 64 bytes",
            "CPU us/packet",
            "<= 0.5 x boringtun-cli",
            |round| round.udp.cpu_per_packet,
        ),
        row("UDP, 64 bytes: lost", "%", "", |round| round.udp.lost),
        row("round trip, p50", "us", "<= 1.2 x the best", |round| {
            round.round_trip.p50
        }),
        row("round trip, p99", "us", "<= 1.2 x the best", |round| {
            round.round_trip.p99
        }),
        row("TCP, 1 stream", "Gbit/s", "", |round| round.one.gbit),
        row("TCP, 4 streams", "Gbit/s", "", |round| round.four.gbit),
    ]
}

/// Memory of the bigger end of each, after all that traffic.
fn memory(tunnels: &[Contender]) -> Result<[Row; 2]> {
    let (mut now, mut peak) = (Vec::new(), Vec::new());
    for tunnel in tunnels {
        let [near, far] = &tunnel.ends;
        let (near, far) = (usage::memory(near.pid())?, usage::memory(far.pid())?);
        now.push(vec![near.now.max(far.now) as f64 / 1e6]);
        peak.push(vec![near.peak.max(far.peak) as f64 / 1e6]);
    }
    Ok([
        Row::of("tunnel's memory after the load", "MB", "", now),
        Row::of("tunnel's memory, peak", "MB", "<= 10", peak),
    ])
}
