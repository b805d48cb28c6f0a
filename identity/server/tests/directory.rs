//! Who runs where, as nodes hear it.
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    reason = "a test that cannot go on ends"
)]

mod common;

use common::{Place, pod, until};
use signet_identity_api::v1::{self, LookupRequest, lookup_request::Key, watch_event::Event};
use tonic::Code;

#[tokio::test]
async fn lookup_and_watch_see_a_pod_appear_change_and_disappear() {
    let place = Place::new();
    let service = place.start(&[]);
    let node = service.join("a").await;
    let mut watch = node.watch().await;
    let bundle = watch.first().await;
    assert_eq!(
        bundle.pem.as_bytes(),
        std::fs::read(place.path("data").join("bundle.pem")).unwrap()
    );

    watch.subscribe("uid-web").await;
    let Event::Gone(gone) = watch.next().await.unwrap() else {
        panic!("it is not there yet")
    };
    let miss = node.at("10.1.2.5").await.unwrap();
    assert_eq!((miss.entry, gone.pod_uid.as_str()), (None, "uid-web"));

    place.put("web.yaml", &pod("web", "b", "10.1.2.5", "one"));
    let entry = watch.entry().await;
    assert!(entry.generation > gone.generation && entry.generation > miss.generation);
    let expected = v1::Entry {
        pod_uid: "uid-web".into(),
        generation: entry.generation,
        namespace: "shop".into(),
        namespace_uid: "ns-shop".into(),
        name: "web".into(),
        service_account: "web".into(),
        service_account_uid: "sa-web".into(),
        spiffe_id: "spiffe://example.org/ns/shop/sa/web".into(),
        addresses: vec![vec![10, 1, 2, 5]],
        labels: [("app".to_owned(), "one".to_owned())].into(),
        namespace_labels: [
            ("team".to_owned(), "red".to_owned()),
            ("kubernetes.io/metadata.name".to_owned(), "shop".to_owned()),
        ]
        .into(),
        node_uid: "node-b".into(),
        node_name: "b".into(),
        node_spiffe_id: "spiffe://example.org/node/node-b".into(),
        node_underlay_addresses: vec![vec![192, 0, 2, 2]],
        channel_port: 7447,
        named_ports: Some(v1::NamedPorts::default()),
    };
    assert_eq!(entry, expected);
    let Event::PeerStream(peer) = watch.next().await.unwrap() else {
        panic!("node b is new to it")
    };
    assert_eq!((peer.node_uid.as_str(), peer.up), ("node-b", false));
    assert_eq!(
        node.at("10.1.2.5").await.unwrap().entry,
        Some(expected.clone())
    );
    assert_eq!(
        node.at("::ffff:10.1.2.5").await.unwrap().entry,
        Some(expected)
    );

    // Its node's stream comes up.
    let other = service.join("b").await;
    let mut other_watch = other.watch().await;
    other_watch.first().await;
    assert!(matches!(watch.next().await.unwrap(), Event::PeerStream(peer) if peer.up));

    place.put("web.yaml", &pod("web", "b", "10.1.2.5", "two"));
    let changed = watch.entry().await;
    assert_eq!(changed.labels["app"], "two");
    assert!(changed.generation > entry.generation);
    place.put("web.yaml", &pod("web", "b", "10.1.2.6", "two"));
    assert_eq!(watch.entry().await.addresses, [[10, 1, 2, 6]]);
    assert_eq!(node.at("10.1.2.5").await.unwrap().entry, None);

    // It finishes: gone as much as if it was deleted.
    let finished =
        pod("web", "b", "10.1.2.6", "two").replace("{podIPs", "{phase: Succeeded, podIPs");
    place.put("web.yaml", &finished);
    let Event::Gone(gone) = watch.next().await.unwrap() else {
        panic!("it has finished")
    };
    assert!(gone.generation > changed.generation);
    let key = Some(Key::PodUid("uid-web".into()));
    let answer = node
        .client
        .clone()
        .lookup(LookupRequest { key })
        .await
        .unwrap()
        .into_inner();
    assert_eq!(answer.entry, None);

    drop(other_watch);
    place.remove("web.yaml");
    assert_eq!(service.metric("signet_identity_directory_entries"), Some(0));
    assert_eq!(
        service.metric("signet_identity_lookups_total{outcome=\"hit\"}"),
        Some(2)
    );
}

#[tokio::test]
async fn a_second_stream_of_a_node_takes_the_place_of_the_first() {
    let place = Place::new();
    let service = place.start(&[]);
    let node = service.join("a").await;
    let mut first = node.watch().await;
    first.first().await;
    let mut second = node.watch().await;
    second.first().await;
    assert_eq!(first.next().await.unwrap_err().code(), Code::Aborted);
    assert_eq!(service.metric("signet_identity_streams"), Some(1));
    drop(second);
    until("the stream is down", async || {
        service.metric("signet_identity_streams") == Some(0)
    })
    .await;
}

#[tokio::test]
async fn many_subscriptions_at_once_are_all_answered() {
    const PODS: usize = 20_000;
    let place = Place::new();
    let service = place.start(&[]);
    let node = service.join("a").await;
    let mut watch = node.watch().await;
    watch.first().await;
    let ask = async {
        for number in 0..PODS {
            watch
                .requests()
                .send(common::subscription(&format!("uid-{number}")))
                .await
                .unwrap();
        }
    };
    ask.await;
    for number in 0..PODS {
        let Event::Gone(gone) = watch.next().await.unwrap() else {
            panic!("there are no pods")
        };
        assert_eq!(gone.pod_uid, format!("uid-{number}"));
    }
}

#[tokio::test]
async fn broken_yaml_changes_nothing_and_is_said_until_it_is_mended() {
    let place = Place::new();
    place.put("web.yaml", &pod("web", "b", "10.1.2.5", "one"));
    let service = place.start(&[]);
    let node = service.join("a").await;
    let problems = async || {
        let status = service
            .admin()
            .await
            .status(v1::StatusRequest {})
            .await
            .unwrap()
            .into_inner();
        status
            .problems
            .into_iter()
            .map(|p| format!("{}: {}: {}", p.file, p.object, p.message))
            .collect::<Vec<_>>()
    };
    assert!(problems().await.is_empty());
    place.put(
        "web.yaml",
        &pod("web", "b", "10.1.2.5", "one").replace("nodeName", "nodName"),
    );
    until("the problem is said", async || !problems().await.is_empty()).await;
    assert_eq!(
        problems().await,
        ["web.yaml: Pod shop/web: spec.nodName: unknown field; remove it or correct its spelling"]
    );
    assert_eq!(service.metric("signet_identity_manifest_problems"), Some(1));
    assert!(node.at("10.1.2.5").await.unwrap().entry.is_some());
    let log = service.log();
    assert!(
        log.contains("WARN")
            && log.contains("manifest problem; what was good before stays in force"),
        "{log}"
    );
    assert!(service.get("/readyz").starts_with("HTTP/1.1 200"));

    place.put("web.yaml", &pod("web", "b", "10.1.2.5", "two"));
    until("it is mended", async || problems().await.is_empty()).await;
    assert_eq!(
        node.at("10.1.2.5").await.unwrap().entry.unwrap().labels["app"],
        "two"
    );
}
