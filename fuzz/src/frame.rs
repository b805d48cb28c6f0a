//! Frames of the node channel: type and payload, as they come from a peer.

use std::net::{IpAddr, Ipv4Addr};

use signet_agent_core::wire::{MAX_PAYLOAD, Message, address, address_bytes, pb};

/// First byte is the frame's type, the rest its payload.
pub fn run(data: &[u8]) {
    let Some((kind, payload)) = data.split_first() else {
        return;
    };
    let Ok(message) = Message::decode(*kind, payload) else {
        return;
    };
    let (kind_again, encoded) = message.encode();
    assert_eq!(kind_again, *kind, "{} changed its type", message.name());
    // A peer cannot make us say more than it said, so what was read can be written. (Five bytes more:
    // a number of 64 bits, cut to a negative one of 32, is written as one of 64 again.)
    assert!(
        encoded.len() <= payload.len() + 5 && payload.len() <= MAX_PAYLOAD,
        "{} grew from {} to {} bytes",
        message.name(),
        payload.len(),
        encoded.len()
    );
    let again = Message::decode(kind_again, &encoded).expect("what was written is read");
    assert!(
        again == message,
        "{} is not what was written",
        message.name()
    );
    if let Message::ProofReq(request) = &message
        && let Some(read) = address(&request.dst_address)
        && let Some(written) = address(&address_bytes(read))
    {
        assert_eq!(read, written);
    }
}

/// One message of each type.
pub fn seeds() -> Vec<(&'static str, Vec<u8>)> {
    let authenticator = vec![11, 0, 0, 1, 0];
    let messages = [
        ("hello", Message::Hello(hello())),
        (
            "slot-offer",
            Message::SlotOffer(pb::SlotOffer {
                epoch: 7,
                wg_public_key: vec![3; 32],
                port: 51831,
                tag_carriers: 1,
            }),
        ),
        (
            "slot-accept",
            Message::SlotAccept(pb::SlotAccept {
                epoch: 7,
                wg_public_key: vec![4; 32],
                port: 51831,
                tag_carriers: 1,
                confirm: vec![5; 32],
            }),
        ),
        (
            "slot-ready",
            Message::SlotReady(pb::SlotReady {
                epoch: 7,
                confirm: vec![6; 32],
            }),
        ),
        (
            "slot-refuse",
            Message::SlotRefuse(pb::SlotRefuse {
                epoch: 7,
                last_epoch: 8,
                live_epoch: 6,
            }),
        ),
        (
            "label-keep",
            Message::LabelKeep(pb::LabelKeep {
                granted: true,
                names: vec![7; 48],
                last: true,
            }),
        ),
        (
            "slot-retire",
            Message::SlotRetire(pb::SlotRetire { epoch: 6 }),
        ),
        (
            "slot-prepared",
            Message::SlotPrepared(pb::SlotPrepared { epoch: 6 }),
        ),
        ("slot-tx", Message::SlotTx(pb::SlotTx { epoch: 6 })),
        (
            "proof-req",
            Message::ProofReq(pb::ProofReq {
                id: 1,
                src_pod: "pod-1".to_owned(),
                dst_pod: "pod-2".to_owned(),
                dst_address: address_bytes(IpAddr::V4(Ipv4Addr::new(10, 0, 0, 1))),
                proof_n: 1,
                authenticator: authenticator.clone(),
                have_proof: true,
            }),
        ),
        (
            "proof",
            Message::Proof(pb::Proof {
                id: 1,
                refusal: 7,
                pod: "pod-1".to_owned(),
                proof_n: 2,
                authenticator,
            }),
        ),
        (
            "label",
            Message::Label(pb::Label {
                src_pod: "pod-1".to_owned(),
                dst_pod: "pod-2".to_owned(),
                label: 0x12_3456_789a,
                epoch: 7,
                not_after_unix_ms: 1_800_000_000_000,
            }),
        ),
        (
            "label-extend",
            Message::LabelExtend(pb::LabelExtend {
                src_pod: "pod-1".to_owned(),
                dst_pod: "pod-2".to_owned(),
                epoch: 7,
                not_after_unix_ms: u64::MAX,
            }),
        ),
        (
            "label-revoke",
            Message::LabelRevoke(pb::LabelRevoke {
                local_pod: "pod-1".to_owned(),
                remote_pod: "pod-2".to_owned(),
            }),
        ),
        (
            "label-revoked",
            Message::LabelRevoked(pb::LabelRevoked::default()),
        ),
        (
            "stale",
            Message::Stale(pb::Stale {
                address: vec![0xfd; 16],
            }),
        ),
        ("ping", Message::Ping(pb::Ping { nonce: 1 })),
        ("pong", Message::Pong(pb::Pong { nonce: u64::MAX })),
        ("bye", Message::Bye(pb::Bye { reason: 4 })),
    ];
    messages
        .map(|(name, message)| {
            let (kind, payload) = message.encode();
            (name, [vec![kind], payload].concat())
        })
        .to_vec()
}

fn hello() -> pb::Hello {
    pb::Hello {
        proto: 1,
        node_uid: "node-1".to_owned(),
        boot_id: vec![7; 16],
        instance: 2,
        bundle_sequence: 3,
        time_ms: 1_800_000_000_000,
        proof_nonce: vec![9; 32],
        last_epoch: 4,
        live_epoch: 3,
        ..pb::Hello::default()
    }
}
