//! What outlives the process that made it.

use std::net::UdpSocket;
use std::time::Duration;

use aya::programs::{SchedClassifier, TcAttachType};
use signet_abi::{DropReason, Hook};
use signet_loader::{DataPlane, Globals, LoaderError};

use crate::{dropped, enroll, net, open};

#[test]
fn maps_and_links_outlive_their_loader() {
    let Some(net) = net() else { return };
    let mut plane = open(&net, &Globals::default());
    enroll(&net, &mut plane);
    let before = plane.attachments().unwrap();
    let config = plane.maps.config().unwrap();
    assert_ne!(config.hash_seed, 0);
    drop(plane);

    // Nobody is there, and the pod still can't spoof.
    let spoofer = net.within("p", || {
        std::process::Command::new("ip")
            .args(["addr", "add", "10.1.0.66/32", "dev", "eth0"])
            .status()
            .unwrap();
        UdpSocket::bind("10.1.0.66:1").unwrap()
    });
    spoofer.send_to(b"x", "192.0.2.2:9").unwrap();

    let mut plane = open(&net, &Globals::default());
    let spoofed = dropped(&plane, DropReason::SourceSpoofed);
    assert!(spoofed > 0, "its ARP at least");
    assert_eq!(plane.attachments().unwrap(), before);
    assert_eq!(plane.maps.config().unwrap(), config, "the hash key stays");
    assert!(plane.maps.endpoints.get(&1).unwrap().is_some());
    let again = net.ifindex("n", "pod");
    net.within("n", || plane.attach_endpoint(1, again).unwrap());
    assert_eq!(
        plane.attachments().unwrap(),
        before,
        "attaching twice is attaching once"
    );

    plane.detach_endpoint(1).unwrap();
    assert!(plane.attachments().unwrap().is_empty());
    // The kernel lets go of a link a moment after its last pin.
    crate::until(|| {
        let left = net.within("n", || {
            SchedClassifier::query_tcx("pod", TcAttachType::Ingress)
        });
        left.unwrap().1.is_empty()
    });
    let before = dropped(&plane, DropReason::SourceSpoofed);
    spoofer.send_to(b"x", "192.0.2.2:9").unwrap();
    let after = dropped(&plane, DropReason::SourceSpoofed);
    assert_eq!(after, before, "no program, no verdict");
}

#[test]
fn replacing_the_programs_loses_no_packet() {
    let Some(net) = net() else { return };
    let mut plane = open(&net, &Globals::default());
    enroll(&net, &mut plane);
    let node = net.within("n", || UdpSocket::bind("10.1.0.1:7000").unwrap());
    node.set_read_timeout(Some(Duration::from_secs(5))).unwrap();
    let pod = net.within("p", || UdpSocket::bind("10.1.0.2:7000").unwrap());
    let mut plane = Some(plane);
    let mut seen = 0u32;
    for round in 0..20u32 {
        // The old one goes away first, as when an agent is killed.
        plane = None;
        for number in 0..50 {
            pod.send_to(&(round * 50 + number).to_be_bytes(), "10.1.0.1:7000")
                .unwrap();
            if number == 25 && round % 5 == 0 {
                plane = Some(open(&net, &Globals::default()));
            }
        }
        let mut bytes = [0; 4];
        for _ in 0..50 {
            node.recv_from(&mut bytes).unwrap();
            assert_eq!(u32::from_be_bytes(bytes), seen);
            seen += 1;
        }
    }
    assert_eq!(seen, 1000);
    drop(plane);
}

#[test]
fn a_deleted_interface_takes_its_link_along() {
    let Some(net) = net() else { return };
    let mut plane = open(&net, &Globals::default());
    enroll(&net, &mut plane);
    let up = net.ifindex("n", "uplink");
    net.within("n", || plane.attach_guard(up).unwrap());
    assert_eq!(plane.attachments().unwrap().len(), 3);
    drop(plane);
    net.ip("n", "link del pod");
    let plane = open(&net, &Globals::default());
    let left: Vec<_> = plane
        .attachments()
        .unwrap()
        .iter()
        .map(|a| a.hook)
        .collect();
    assert_eq!(left, [Hook::UnderlayGuard]);
    drop(plane);
    DataPlane::remove(&net.bpf_root).unwrap();
    let plane = open(&net, &Globals::default());
    assert!(plane.attachments().unwrap().is_empty());
    assert!(
        plane.maps.endpoints.get(&1).unwrap().is_none(),
        "removed means removed"
    );
}

#[test]
fn a_missing_interface_is_named() {
    let Some(net) = net() else { return };
    let mut plane = open(&net, &Globals::default());
    let error = net.within("n", || plane.attach_guard(4711)).unwrap_err();
    assert!(
        matches!(error, LoaderError::NoInterface { ifindex: 4711 }),
        "{error}"
    );
    assert_eq!(
        error.to_string(),
        "there is no interface number 4711 in this network namespace"
    );
}

#[test]
fn a_full_map_says_so() {
    let Some(net) = net() else { return };
    let mut plane = open(&net, &Globals::default());
    let mut result = Ok(());
    for index in 0..=signet_abi::MAX_ENDPOINTS {
        result = plane.maps.interfaces.upsert(&index, &1);
        if result.is_err() {
            break;
        }
    }
    assert!(
        matches!(result, Err(LoaderError::Full { map: "interfaces" })),
        "{result:?}"
    );
    assert_eq!(
        plane.maps.interfaces.iter().count() as u32,
        signet_abi::MAX_ENDPOINTS
    );
}
