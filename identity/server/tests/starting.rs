//! Starting where something is wrong: one line that names it and the fix, and nothing is lost.
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    reason = "a test that cannot go on ends"
)]

mod common;

use std::{fs, net::TcpListener, os::unix::fs::PermissionsExt as _, process::Command};

use common::Place;
use signet_crypto::svid::SvidKey;

#[test]
fn bad_manifests_are_refused_before_anything_is_made() {
    let place = Place::new();
    place.put(
        "bad.yaml",
        "apiVersion: v1\nkind: Pod\nmetadata: {name: x, nmespace: y, uid: u}\n",
    );
    assert_eq!(
        place.refused(&[]),
        "signet-identity: error: bad.yaml: Pod x: metadata.nmespace: unknown field; remove it or correct its spelling"
    );
    assert!(!place.path("data").exists());
    fs::remove_dir_all(place.path("manifests")).unwrap();
    let line = place.refused(&[]);
    assert!(
        line.contains("manifests: cannot be read") && line.contains("check the path"),
        "{line}"
    );
}

#[test]
fn a_port_in_use_is_named_with_the_flag() {
    let place = Place::new();
    let _taken = TcpListener::bind(place.address).unwrap();
    assert_eq!(
        place.refused(&[]),
        format!(
            "signet-identity: error: cannot listen on {}: it is in use; stop the other program, or choose another with --listen",
            place.address
        )
    );
    let place = Place::new();
    let _taken = TcpListener::bind(place.metrics).unwrap();
    let line = place.refused(&[]);
    assert!(
        line.contains(&place.metrics.to_string()) && line.contains("--metrics"),
        "{line}"
    );
}

#[test]
fn a_file_in_the_place_of_the_admin_socket_is_left_alone() {
    let place = Place::new();
    fs::write(place.path("admin.sock"), "somebody's").unwrap();
    let line = place.refused(&[]);
    assert!(
        line.contains("admin.sock is there and is no socket") && line.contains("--admin-socket"),
        "{line}"
    );
    assert_eq!(fs::read(place.path("admin.sock")).unwrap(), b"somebody's");
}

#[test]
fn a_damaged_count_of_changes_is_named_and_an_empty_one_is_none() {
    let place = Place::new();
    drop(place.start(&[]));
    let lock = place.path("data").join("identity.lock");
    fs::write(&lock, "no number").unwrap();
    let line = place.refused(&[]);
    assert!(
        line.contains("identity.lock is damaged") && line.contains("remove"),
        "{line}"
    );
    assert_eq!(fs::read(&lock).unwrap(), b"no number");
    fs::write(&lock, "").unwrap();
    drop(place.start(&[]));
}

#[test]
fn an_address_of_another_machine_is_named() {
    let place = Place::new();
    let mut command = place.command(&[]);
    let output = command
        .args(["--listen", "192.0.2.77:7448"])
        .output()
        .unwrap();
    // A flag twice is a usage error, so that neither is taken silently.
    assert_eq!(output.status.code(), Some(2));
}

#[test]
fn usage_errors_exit_with_2() {
    for args in [
        &["run"][..],
        &["run", "--manifests", "x", "--trust-domain", "Bad Domain"],
        &[
            "run",
            "--manifests",
            "x",
            "--trust-domain",
            "example.org",
            "--svid-ttl",
            "1s",
        ],
        &[
            "run",
            "--manifests",
            "x",
            "--trust-domain",
            "example.org",
            "--log",
            "xml",
        ],
        &["nonsense"],
    ] {
        let output = Command::new(env!("CARGO_BIN_EXE_signet-identity"))
            .args(args)
            .output()
            .unwrap();
        assert_eq!(output.status.code(), Some(2), "{args:?}");
    }
}

#[test]
fn every_metric_is_listed() {
    let output = Command::new(env!("CARGO_BIN_EXE_signet-identity"))
        .arg("metrics")
        .output()
        .unwrap();
    let list: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    let place = Place::new();
    let service = place.start(&[]);
    let scraped = service.get("/metrics");
    for metric in list.as_array().unwrap() {
        let (name, help) = (
            metric["name"].as_str().unwrap(),
            metric["help"].as_str().unwrap(),
        );
        assert!(
            name.starts_with("signet_") && help.ends_with('.'),
            "{metric}"
        );
        let declared = name.trim_end_matches("_total");
        let labelled = !metric["labels"].as_array().unwrap().is_empty();
        // A family without samples is not exposed.
        assert!(
            labelled || scraped.contains(&format!("# HELP {declared} ")),
            "{name}"
        );
    }
    assert!(
        scraped.contains("signet_identity_authority_not_after_timestamp_seconds{role=\"root\"}")
    );
}

#[tokio::test]
async fn a_store_is_private_and_serves_one_process_and_one_trust_domain() {
    let place = Place::new();
    let service = place.start(&[]);
    let mode = |name: &str| {
        fs::metadata(place.path("data").join(name))
            .unwrap()
            .permissions()
            .mode()
            & 0o777
    };
    assert_eq!(
        (
            mode("identity.redb"),
            mode("bundle.pem"),
            mode("identity.lock")
        ),
        (0o600, 0o644, 0o600)
    );
    assert_eq!(
        fs::metadata(place.path("data"))
            .unwrap()
            .permissions()
            .mode()
            & 0o777,
        0o700
    );

    let second = Place::new();
    let data = place.path("data");
    let output = {
        let mut command = Command::new(env!("CARGO_BIN_EXE_signet-identity"));
        command
            .arg("run")
            .arg("--data-dir")
            .arg(&data)
            .arg("--manifests")
            .arg(second.path("manifests"));
        command.args([
            "--trust-domain",
            "example.org",
            "--listen",
            &second.address.to_string(),
        ]);
        command
            .args(["--metrics", &second.metrics.to_string()])
            .arg("--admin-socket")
            .arg(second.path("s"));
        command.output().unwrap()
    };
    let text = String::from_utf8(output.stderr).unwrap();
    assert!(
        text.contains("is in use by another signet-identity"),
        "{text}"
    );
    // And the first goes on.
    service.token("a", 0).await;
    service.kill();

    let line = place.refused(&["--trust-domain", "other.example"]);
    assert!(
        line.contains("is of trust domain example.org, not other.example; correct --trust-domain"),
        "{line}"
    );
    fs::set_permissions(place.store(), fs::Permissions::from_mode(0o640)).unwrap();
    let line = place.refused(&[]);
    assert!(
        line.contains("has mode 0640") && line.contains("chmod 600"),
        "{line}"
    );
    fs::set_permissions(place.store(), fs::Permissions::from_mode(0o600)).unwrap();
    place.start(&[]);
}

#[tokio::test]
async fn an_admin_socket_left_behind_is_replaced_and_one_in_use_is_not() {
    let place = Place::new();
    place.start(&[]).kill();
    assert!(place.path("admin.sock").exists());
    let service = place.start(&[]);
    service.token("a", 0).await;
    let other = Place::new();
    let output = {
        let mut command = Command::new(env!("CARGO_BIN_EXE_signet-identity"));
        command
            .arg("run")
            .arg("--data-dir")
            .arg(other.path("data"))
            .arg("--manifests")
            .arg(other.path("manifests"));
        command.args([
            "--trust-domain",
            "example.org",
            "--listen",
            &other.address.to_string(),
        ]);
        command
            .args(["--metrics", &other.metrics.to_string()])
            .arg("--admin-socket")
            .arg(place.path("admin.sock"));
        command.output().unwrap()
    };
    let text = String::from_utf8(output.stderr).unwrap();
    assert!(
        text.contains("admin.sock is in use") && text.contains("--admin-socket"),
        "{text}"
    );
    service.token("a", 0).await;
}

/// Damages a good store in many ways; each must be found out, said, and leave the file as it was.
#[tokio::test]
async fn a_damaged_store_is_said_in_one_line_and_left_as_it_is() {
    let place = Place::new();
    let service = place.start(&[]);
    let token = service.token("a", 0).await;
    let backup = fs::read(place.store()).unwrap();
    service
        .attest("a", &token, &SvidKey::generate().unwrap())
        .await
        .unwrap();
    assert!(service.terminate());
    let good = fs::read(place.store()).unwrap();
    let used = good.len() - good.iter().rev().take_while(|byte| **byte == 0).count();

    let mut damages: Vec<(String, Vec<u8>)> = vec![
        ("empty".into(), Vec::new()),
        ("text".into(), b"this is not a database\n".repeat(500)),
        ("cut in half".into(), good[..good.len() / 2].to_vec()),
        ("header only".into(), good[..100].to_vec()),
        ("zeros".into(), vec![0; good.len()]),
        ("no magic".into(), [&[0; 16], &good[16..]].concat()),
    ];
    // The certificate of an authority, wherever it lies.
    let uri = b"spiffe://example.org";
    for (at, _) in good
        .windows(uri.len())
        .enumerate()
        .filter(|(_, window)| window == uri)
    {
        let mut bytes = good.clone();
        bytes[at + 9] ^= 0x01;
        damages.push((format!("certificate at {at}"), bytes));
    }
    let mut found = 0;
    for (what, bytes) in damages {
        fs::write(place.store(), &bytes).unwrap();
        let line = place.refused(&[]);
        assert!(
            line.contains("identity.redb is damaged (")
                && line.contains("put a backup in its place"),
            "{what}: {line}"
        );
        assert!(
            fs::read(place.store()).unwrap() == bytes,
            "{what}: the file was changed"
        );
        found += 1;
    }
    assert!(found > 6);

    // A backup from before the token was used is not taken for the present.
    fs::write(place.store(), &backup).unwrap();
    let line = place.refused(&[]);
    assert!(
        line.contains("identity.redb lacks its last ") && line.contains("identity.lock"),
        "{line}"
    );
    assert!(fs::read(place.store()).unwrap() == backup);

    // Anywhere at all: either it is said and the file stays, or it did not matter (a free page) and
    // nothing is lost.
    let bundle = fs::read(place.path("data").join("bundle.pem")).unwrap();
    let noted = fs::read(place.path("data").join("identity.lock")).unwrap();
    let (mut said, mut harmless) = (0, 0);
    for round in 0..60 {
        let at = (used - 8) * round / 60;
        let mut bytes = good.clone();
        let end = (at + 8).min(bytes.len());
        bytes[at..end].iter_mut().for_each(|byte| *byte ^= 0xa5);
        fs::write(place.store(), &bytes).unwrap();
        fs::write(place.path("data").join("identity.lock"), &noted).unwrap();
        match place.try_start(&[]) {
            Ok(service) => {
                let key = SvidKey::generate().unwrap();
                let status = service.attest("a", &token, &key).await.unwrap_err();
                assert!(
                    status.message().contains("was used before"),
                    "at {at}: {status:?}"
                );
                assert_eq!(
                    fs::read(place.path("data").join("bundle.pem")).unwrap(),
                    bundle
                );
                harmless += 1;
            }
            Err(text) => {
                let lines: Vec<_> = text
                    .lines()
                    .filter(|line| line.contains("error:"))
                    .collect();
                assert_eq!(lines.len(), 1, "at {at}: {text}");
                let named = [
                    "identity.redb is damaged (",
                    "identity.redb lacks its last ",
                ];
                assert!(
                    named.iter().any(|words| lines[0].contains(words)),
                    "at {at}: {text}"
                );
                assert!(
                    fs::read(place.store()).unwrap() == bytes,
                    "at {at}: the file was changed"
                );
                said += 1;
            }
        }
    }
    assert!(said > 0, "none of {harmless} damages was found");
    fs::write(place.store(), &good).unwrap();
    fs::write(place.path("data").join("identity.lock"), &noted).unwrap();
    let service = place.start(&[]);
    let status = service
        .attest("a", &token, &SvidKey::generate().unwrap())
        .await
        .unwrap_err();
    assert!(status.message().contains("was used before"), "{status:?}");
}
