//! Coming in, and staying in.
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    reason = "a test that cannot go on ends"
)]

mod common;

use std::time::Duration;

use common::{Place, certificates, clock, pod};
use signet_crypto::{
    spiffe_id::SpiffeId,
    svid::{SvidKey, X509Svid},
    x509::{
        profile::{Binding, Purpose},
        verify::{Expect, Usage, verify},
    },
};
use signet_identity_api::v1::{self, RenewNodeRequest, watch_event};
use tonic::Code;

#[tokio::test]
async fn a_node_joins_and_gets_svids_for_its_own_pods_only() {
    let place = Place::new();
    place.put(
        "pods.yaml",
        &(pod("web", "a", "10.1.1.5", "web") + "---" + &pod("db", "b", "10.1.2.5", "db")),
    );
    let service = place.start(&[]);
    let node = service.join("a").await;
    let node_id = SpiffeId::node(&common::td(), "node-a").unwrap();
    assert_eq!(*node.svid.load().id(), node_id);

    let key = SvidKey::generate().unwrap();
    let id = SpiffeId::workload(&common::td(), "shop", "web").unwrap();
    let issued = node.issue("uid-web", key.csr(&id).unwrap()).await.unwrap();
    let svid = X509Svid::new(certificates(issued.chain), key).unwrap();
    let trust = service.trust().load();
    let now = clock().now().wall;
    let expect = Expect::workload_on(id.clone(), node_id.clone());
    let seen = verify(svid.chain(), &trust, now, &expect).unwrap();
    assert_eq!(
        seen.binding,
        Some(Binding::new(&node_id, "ns-shop", "sa-web"))
    );
    assert_eq!(
        (seen.purpose, issued.spiffe_id),
        (Purpose::AgentPlane, id.to_string())
    );
    assert_eq!(seen.not_after.as_secs() * 1000, issued.not_after_ms);
    let hour = seen.not_after.as_secs() - now.as_secs();
    assert!((3500..=3601).contains(&hour), "{hour}");

    // A pod of another node, one that is not there, and another identity for its own pod.
    let key = SvidKey::generate().unwrap();
    let other = SpiffeId::workload(&common::td(), "shop", "admin").unwrap();
    for (asked, csr, code) in [
        (
            "uid-db",
            key.anonymous_csr().unwrap(),
            Code::PermissionDenied,
        ),
        (
            "uid-none",
            key.anonymous_csr().unwrap(),
            Code::PermissionDenied,
        ),
        ("uid-web", key.csr(&other).unwrap(), Code::PermissionDenied),
        ("uid-web", vec![0x30, 0x00], Code::PermissionDenied),
    ] {
        let status = node.issue(asked, csr).await.unwrap_err();
        assert_eq!(status.code(), code, "{status:?}");
        assert!(!status.message().contains("10.1.2"), "{status:?}");
    }
    let log = service.log();
    let refusal = log
        .lines()
        .find(|line| line.contains("WARN") && line.contains("uid-db"))
        .unwrap();
    for part in [
        "workload SVID refused",
        "node=a",
        "node_uid=node-a",
        "pod=uid-db",
        "runs_on=\"b\"",
    ] {
        assert!(refusal.contains(part), "{part} in {refusal}");
    }
    let refused = |reason: &str| {
        service.metric(&format!(
            "signet_identity_svids_refused_total{{reason=\"{reason}\"}}"
        ))
    };
    assert_eq!(
        (
            refused("other_node"),
            refused("unknown_pod"),
            refused("other_id")
        ),
        (Some(1), Some(1), Some(1))
    );
    assert_eq!(
        service.metric("signet_identity_svids_issued_total{purpose=\"agent_plane\"}"),
        Some(1)
    );
}

#[tokio::test]
async fn without_its_svid_a_node_can_do_nothing_but_attest() {
    let place = Place::new();
    let service = place.start(&[]);
    let mut client = service.client(None).await;
    let csr = SvidKey::generate().unwrap().anonymous_csr().unwrap();
    let codes = [
        client
            .renew_node(RenewNodeRequest { csr: csr.clone() })
            .await
            .map(drop),
        client
            .issue_workload(v1::IssueWorkloadRequest {
                pod_uid: "uid".into(),
                csr,
            })
            .await
            .map(drop),
        client
            .lookup(v1::LookupRequest { key: None })
            .await
            .map(drop),
        client.watch(tokio_stream::empty()).await.map(drop),
    ];
    for answer in codes {
        assert_eq!(answer.unwrap_err().code(), Code::Unauthenticated);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_join_token_works_once_in_a_thousand_parallel_tries() {
    let place = Place::new();
    let service = place.start(&[]);
    let token = service.token("a", 0).await;
    let key = SvidKey::generate().unwrap();
    let csr = key.anonymous_csr().unwrap();
    let mut tries = tokio::task::JoinSet::new();
    for _ in 0..10 {
        // Ten connections with a hundred calls each.
        let client = service.client(None).await;
        for _ in 0..100 {
            let (mut client, csr, join_token) = (client.clone(), csr.clone(), token.clone());
            tries.spawn(async move {
                client
                    .attest(v1::AttestRequest {
                        join_token,
                        node_name: "a".into(),
                        csr,
                    })
                    .await
            });
        }
    }
    let (mut won, mut used) = (0, 0);
    while let Some(answer) = tries.join_next().await {
        match answer.unwrap() {
            Ok(_) => won += 1,
            Err(status) => {
                assert_eq!(status.code(), Code::PermissionDenied, "{status:?}");
                assert!(status.message().contains("was used before"), "{status:?}");
                used += 1;
            }
        }
    }
    assert_eq!((won, used), (1, 999));
    assert_eq!(
        service.metric("signet_identity_join_tokens_total{event=\"consumed\"}"),
        Some(1)
    );
    assert_eq!(
        service.metric("signet_identity_join_tokens_refused_total{reason=\"used\"}"),
        Some(999)
    );
}

#[tokio::test]
async fn bad_tokens_are_told_what_is_wrong_and_what_to_do() {
    let place = Place::new();
    let service = place.start(&[]);
    let key = SvidKey::generate().unwrap();
    let for_a = service.token("a", 0).await;
    let brief = service.token("a", 1).await;
    let said = async |node: &str, token: &str| {
        let status = service.attest(node, token, &key).await.unwrap_err();
        assert_eq!(status.code(), Code::PermissionDenied);
        status.message().to_owned()
    };
    let make_b = "make one with `signetctl token create --node b`";
    assert_eq!(
        said("b", &for_a).await,
        format!("join token is not for node b; {make_b}")
    );
    assert!(
        said("a", "nonsense")
            .await
            .starts_with("join token is malformed; pass the whole line")
    );
    let last = if for_a.ends_with('0') { "1" } else { "0" };
    let guess = format!("{}{last}", &for_a[..for_a.len() - 1]);
    assert!(
        said("a", &guess)
            .await
            .starts_with("join token is not known here; make one with")
    );
    assert_eq!(
        said("c", &for_a).await,
        "node c is not in the manifests; add its Node object"
    );
    assert!(
        said("a", "")
            .await
            .starts_with("node a has not joined yet; make a token")
    );
    let request = v1::CreateTokenRequest {
        node: "c".into(),
        ttl_s: 0,
    };
    let status = service
        .admin()
        .await
        .create_token(request)
        .await
        .unwrap_err();
    assert_eq!(
        status.message(),
        "node c is not in the manifests; add its Node object"
    );
    tokio::time::sleep(Duration::from_millis(2100)).await;
    let late = said("a", &brief).await;
    assert!(
        late.starts_with("join token of node a expired ") && late.contains("make another"),
        "{late}"
    );

    // None of this has spent the good one.
    service.attest("a", &for_a, &key).await.unwrap();
    assert!(
        said("a", &for_a)
            .await
            .starts_with("join token of node a was used before; make another")
    );
    let log = service.log();
    assert!(
        !log.contains(&for_a) && !log.contains(&guess),
        "tokens are not for logs"
    );
}

#[tokio::test]
async fn a_restart_keeps_the_authority_the_tokens_and_the_nodes() {
    let place = Place::new();
    place.put("web.yaml", &pod("web", "a", "10.1.1.5", "web"));
    let service = place.start(&[]);
    let bundle = std::fs::read(place.path("data").join("bundle.pem")).unwrap();
    let token = service.token("a", 0).await;
    let waiting = service.token("b", 0).await;
    let key = SvidKey::generate().unwrap();
    let answer = service.attest("a", &token, &key).await.unwrap();
    let before = service
        .node(answer.chain.clone(), key.clone())
        .await
        .at("10.1.1.5")
        .await
        .unwrap();
    service.kill();

    let service = place.start(&[]);
    assert_eq!(
        std::fs::read(place.path("data").join("bundle.pem")).unwrap(),
        bundle
    );
    let status = service.attest("a", &token, &key).await.unwrap_err();
    assert!(status.message().contains("was used before"), "{status:?}");
    service
        .attest("b", &waiting, &SvidKey::generate().unwrap())
        .await
        .unwrap();
    // The SVID from before is good, and the directory has not gone back.
    let node = service.node(answer.chain, key.clone()).await;
    let after = node.at("10.1.1.5").await.unwrap();
    assert!(after.entry.unwrap().generation > before.entry.unwrap().generation);
    // The key alone brings the node back; another does not, nor for another node.
    service.attest("a", "", &key).await.unwrap();
    for (name, other) in [("a", SvidKey::generate().unwrap()), ("b", key)] {
        let status = service.attest(name, "", &other).await.unwrap_err();
        assert!(
            status.message().contains("joined with another key"),
            "{status:?}"
        );
    }
    assert!(
        service.terminate(),
        "a service that is told to stop has not failed"
    );
}

#[tokio::test]
async fn a_renewal_carries_the_connection_past_its_first_svid() {
    let place = Place::new();
    place.put("web.yaml", &pod("web", "a", "10.1.1.5", "web"));
    let service = place.start(&["--svid-ttl", "10s"]);
    let node = service.join("a").await;
    let idle = service
        .node(
            node.svid
                .load()
                .chain()
                .iter()
                .map(|c| c.to_vec())
                .collect(),
            node.svid.load().key().clone(),
        )
        .await;
    let mut forgotten = idle.watch().await;
    forgotten.first().await;
    let first_end = node.svid.load().not_after();
    // New keys each time, as a careful agent would.
    let mut renewed = 0;
    while clock().now().wall.as_secs() <= first_end.as_secs() + 1 {
        let key = SvidKey::generate().unwrap();
        let request = RenewNodeRequest {
            csr: key.anonymous_csr().unwrap(),
        };
        let answer = node
            .client
            .clone()
            .renew_node(request)
            .await
            .unwrap()
            .into_inner();
        let svid = X509Svid::new(certificates(answer.chain), key).unwrap();
        verify(
            svid.chain(),
            &service.trust().load(),
            clock().now().wall,
            &Expect {
                purpose: Some(Purpose::NodeAgent),
                ..Expect::any(Usage::Client)
            },
        )
        .unwrap();
        node.svid.swap(svid).unwrap();
        renewed += 1;
        tokio::time::sleep(Duration::from_secs(2)).await;
    }
    assert!(renewed > 2);
    // So has the service's own SVID been renewed, or this would not connect.
    service.client(None).await;
    assert!(node.at("10.1.1.5").await.unwrap().entry.is_some());
    // The connection that was not renewed has ended with its SVID.
    let status = loop {
        match forgotten.next().await {
            Ok(_) => {}
            Err(status) => break status,
        }
    };
    assert!(
        [Code::Unauthenticated, Code::Aborted, Code::PermissionDenied].contains(&status.code()),
        "{status:?}"
    );
    assert!(idle.at("10.1.1.5").await.is_err());
}

#[tokio::test]
async fn a_node_that_is_deleted_is_out_at_once() {
    let place = Place::new();
    place.put("web.yaml", &pod("web", "b", "10.1.2.5", "web"));
    let service = place.start(&[]);
    let (a, b) = (service.join("a").await, service.join("b").await);
    let (mut watch_a, mut watch_b) = (a.watch().await, b.watch().await);
    watch_a.first().await;
    watch_b.first().await;
    watch_a.subscribe("uid-web").await;
    assert_eq!(watch_a.entry().await.node_name, "b");
    assert!(matches!(
        watch_a.next().await.unwrap(),
        watch_event::Event::PeerStream(v1::PeerStream { up: true, .. })
    ));
    let admin = service.admin().await;
    let nodes = admin
        .clone()
        .list_nodes(v1::ListNodesRequest {})
        .await
        .unwrap()
        .into_inner()
        .nodes;
    let shown: Vec<_> = nodes
        .iter()
        .map(|n| (n.name.as_str(), n.attested, n.stream_up, n.pods))
        .collect();
    assert_eq!(shown, [("a", true, true, 0), ("b", true, true, 1)]);

    let rest: Vec<_> = common::BASE
        .split("---")
        .filter(|part| !part.contains("node-b"))
        .collect();
    place.put("base.yaml", &rest.join("---"));
    assert!(
        matches!(watch_a.next().await.unwrap(), watch_event::Event::Gone(gone) if gone.pod_uid == "uid-web")
    );
    assert!(
        matches!(watch_a.next().await.unwrap(), watch_event::Event::NodeGone(gone) if gone.node_uid == "node-b")
    );
    let status = watch_b.next().await.unwrap_err();
    assert_eq!(status.code(), Code::PermissionDenied, "{status:?}");
    let csr = SvidKey::generate().unwrap().anonymous_csr().unwrap();
    for status in [
        b.at("10.1.2.5").await.unwrap_err(),
        b.issue("uid-web", csr.clone()).await.unwrap_err(),
        b.client
            .clone()
            .renew_node(RenewNodeRequest { csr })
            .await
            .unwrap_err(),
        b.client
            .clone()
            .watch(tokio_stream::empty())
            .await
            .unwrap_err(),
        service
            .attest("b", "", b.svid.load().key())
            .await
            .unwrap_err(),
    ] {
        assert_eq!(status.code(), Code::PermissionDenied, "{status:?}");
    }
    // Nobody new comes in with its SVID either.
    let again = service.client(Some(&b.svid)).await;
    let status = again
        .clone()
        .lookup(v1::LookupRequest { key: None })
        .await
        .unwrap_err();
    assert!(
        status.message().contains("not in the manifests any more"),
        "{status:?}"
    );
}

#[tokio::test]
async fn joining_anew_shuts_the_old_key_out() {
    let place = Place::new();
    let service = place.start(&[]);
    let lost = service.join("a").await;
    let found = service.join("a").await;
    assert!(found.at("10.1.1.5").await.is_ok());
    let status = lost.at("10.1.1.5").await.unwrap_err();
    assert!(
        status.message().contains("joined with another key"),
        "{status:?}"
    );
}
