//! The socket between agent and engine.

use std::net::{IpAddr, Ipv6Addr, SocketAddr};

use signet_abi::DropReason;
use signet_crypto::{
    secret::Secret,
    wg::{Psk, PublicKey},
};
use signet_wg::control::{
    Command, Decoder, Event, MAX_FRAME, PeerInfo, PeerStats, SlotInfo, VERSION, encode,
};

use crate::reader::Reader;

/// First byte: which way, and where the stream is cut.
pub fn run(data: &[u8]) {
    let mut reader = Reader(data);
    let first = reader.byte();
    let stream = reader.0;
    let cut = usize::from(first >> 1) * stream.len() / 128;
    if first & 1 == 0 {
        let whole = commands(&[stream]);
        assert_eq!(whole, commands(&[&stream[..cut], &stream[cut..]]));
    } else {
        let whole = events(&[stream]);
        assert_eq!(whole, events(&[&stream[..cut], &stream[cut..]]));
    }
}

/// What the stream says, each command as text with its PSK, and how it ends.
fn commands(pieces: &[&[u8]]) -> (Vec<String>, bool) {
    let mut decoder = Decoder::default();
    let mut seen = Vec::new();
    for piece in pieces {
        decoder.push(piece);
        loop {
            match decoder.next_message::<Command>() {
                Ok(Some(command)) => {
                    let text = spelled(&command);
                    let again: Command = read_back(&encode(&command).unwrap());
                    assert_eq!(spelled(&again), text);
                    seen.push(text);
                }
                Ok(None) => break,
                Err(_) => return (seen, true),
            }
        }
    }
    (seen, false)
}

fn spelled(command: &Command) -> String {
    match command {
        Command::SetPeer { psk, .. } => {
            let psk = psk.secret().expose();
            assert_ne!(psk, &[0; 32], "no key is taken for one");
            assert!(
                !format!("{command:?}").contains(&format!("{psk:?}")),
                "a PSK is printed"
            );
            format!("{command:?} {psk:?}")
        }
        Command::Hello { .. }
        | Command::SetAllowedIps { .. }
        | Command::RemovePeer { .. }
        | Command::Renew { .. }
        | Command::Status { .. } => format!("{command:?}"),
    }
}

fn events(pieces: &[&[u8]]) -> (Vec<Event>, bool) {
    let mut decoder = Decoder::default();
    let mut seen = Vec::new();
    for piece in pieces {
        decoder.push(piece);
        loop {
            match decoder.next_message::<Event>() {
                Ok(Some(event)) => {
                    assert_eq!(read_back::<Event>(&encode(&event).unwrap()), event);
                    seen.push(event);
                }
                Ok(None) => break,
                Err(_) => return (seen, true),
            }
        }
    }
    (seen, false)
}

fn read_back<T: serde::de::DeserializeOwned>(frame: &[u8]) -> T {
    assert!(frame.len() <= MAX_FRAME + 4);
    let mut decoder = Decoder::default();
    decoder.push(frame);
    let message = decoder
        .next_message()
        .expect("what was written is read")
        .expect("and is whole");
    assert!(decoder.next_message::<Event>().unwrap().is_none());
    message
}

/// Every message once, some behind each other.
pub fn seeds() -> Vec<(&'static str, Vec<u8>)> {
    let peer = PublicKey([3; 32]);
    let underlay = SocketAddr::from(([192, 0, 2, 1], 51830));
    let allowed_ips = vec![
        "10.0.0.0/24".parse().unwrap(),
        "fd00::1/128".parse().unwrap(),
    ];
    let command =
        |command: &Command| [vec![0x80], encode(command).unwrap().as_slice().to_vec()].concat();
    let event = |event: &Event| [vec![0x41], encode(event).unwrap().as_slice().to_vec()].concat();
    let hello = command(&Command::Hello { version: VERSION });
    let set_peer = command(&Command::SetPeer {
        seq: 7,
        slot: 1,
        own: peer,
        peer,
        psk: Psk::new(Secret::new([9; 32])).unwrap(),
        underlay,
        allowed_ips: allowed_ips.clone(),
        epoch: 5,
        initiate: true,
    });
    let set_allowed_ips = command(&Command::SetAllowedIps {
        seq: 300,
        slot: 0,
        peer,
        allowed_ips: allowed_ips.clone(),
    });
    let remove_peer = command(&Command::RemovePeer {
        seq: 8,
        slot: 0,
        peer,
    });
    let session = [hello.as_slice(), &set_peer[1..], &remove_peer[1..]].concat();
    let welcome = Event::Welcome {
        version: VERSION,
        slots: vec![SlotInfo {
            slot: 0,
            public_key: peer,
            port: 51830,
            ifname: "sgslot0".to_owned(),
            ifindex: 9,
        }],
        peers: vec![PeerInfo {
            slot: 0,
            own_key: peer,
            public_key: peer,
            epoch: 4,
            underlay,
            allowed_ips: allowed_ips.clone(),
        }],
    };
    let dropped = Event::Dropped {
        slot: 1,
        peer: Some(peer),
        reason: DropReason::WgReplay,
        underlay: Some(underlay),
        inner: Some((
            IpAddr::V6(Ipv6Addr::LOCALHOST),
            IpAddr::V6(Ipv6Addr::LOCALHOST),
        )),
        suppressed: 4,
    };
    let status = Event::Status {
        seq: 9,
        peers: vec![PeerStats {
            slot: 1,
            public_key: peer,
            epoch: 5,
            last_handshake_secs: Some(2),
            tx_bytes: 1,
            rx_bytes: 2,
            tx_packets: 3,
            rx_packets: 4,
            underlay,
            allowed_ips,
        }],
    };
    let failed = Event::Failed {
        seq: 1,
        error: "no".to_owned(),
    };
    vec![
        ("hello", hello),
        ("set-peer", set_peer),
        ("set-allowed-ips", set_allowed_ips),
        ("remove-peer", remove_peer),
        ("status", command(&Command::Status { seq: 9 })),
        ("session", session),
        ("welcome", event(&welcome)),
        ("done", event(&Event::Done { seq: 7 })),
        ("failed", event(&failed)),
        ("handshake", event(&Event::Handshake { slot: 1, peer })),
        ("dropped", event(&dropped)),
        ("stats", event(&status)),
    ]
}
