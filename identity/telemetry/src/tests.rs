use std::{
    io::{Read, Write},
    net::{SocketAddr, TcpStream},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
};

use prometheus_client::metrics::{counter::Counter, family::Family, gauge::Gauge};

use crate::{Catalog, Check, Health, Kind, serve};

fn get(addr: SocketAddr, path: &str) -> String {
    let mut stream = TcpStream::connect(addr).unwrap();
    write!(
        stream,
        "GET {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n"
    )
    .unwrap();
    let mut text = String::new();
    stream.read_to_string(&mut text).unwrap();
    text
}

#[test]
fn serves_metrics_and_tells_alive_from_ready() {
    let mut catalog = Catalog::default();
    let seen: Counter = catalog.register(
        Kind::Counter,
        "signet_test_seen",
        "Seen.",
        &[],
        Counter::default(),
    );
    seen.inc_by(7);
    let ready = Arc::new(AtomicBool::new(false));
    let flag = Arc::clone(&ready);
    let health = move || Health {
        alive: vec![],
        ready: vec![Check {
            name: "identity",
            ok: flag.load(Ordering::SeqCst),
            detail: "stream down; is the service running?".into(),
        }],
    };
    let server = serve(
        "127.0.0.1:0".parse().unwrap(),
        Arc::new(catalog),
        Arc::new(health),
    )
    .unwrap();

    assert!(get(server.addr(), "/metrics").contains("signet_test_seen_total 7"));
    assert!(get(server.addr(), "/healthz").starts_with("HTTP/1.1 200"));
    let not_ready = get(server.addr(), "/readyz");
    assert!(not_ready.starts_with("HTTP/1.1 503") && not_ready.contains("FAIL identity"));
    ready.store(true, Ordering::SeqCst);
    assert!(get(server.addr(), "/readyz").starts_with("HTTP/1.1 200"));
    assert!(get(server.addr(), "/secret").starts_with("HTTP/1.1 404"));
}

#[test]
fn address_in_use_is_named_with_the_flag() {
    let first = serve(
        "127.0.0.1:0".parse().unwrap(),
        Arc::default(),
        Arc::new(Health::default),
    )
    .unwrap();
    let Err(error) = serve(first.addr(), Arc::default(), Arc::new(Health::default)) else {
        panic!("a second server took the same address")
    };
    let text = error.to_string();
    assert!(
        text.contains(&first.addr().to_string()) && text.contains("--metrics"),
        "{text}"
    );
}

#[test]
fn catalogue_lists_a_metric_before_its_first_sample() {
    let mut catalog = Catalog::default();
    let family = Family::<Vec<(String, String)>, Gauge>::default();
    catalog.register(
        Kind::Gauge,
        "signet_test_peers",
        "Peers by state.",
        &["state"],
        family,
    );
    let doc = &catalog.docs()[0];
    assert_eq!(
        (doc.name.as_str(), doc.labels),
        ("signet_test_peers", &["state"][..])
    );
}
