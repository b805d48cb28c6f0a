use std::net::{IpAddr, Ipv4Addr, SocketAddr};

use proptest::prelude::*;
use signet_crypto::secret::Secret;

use super::*;

fn key(byte: u8) -> PublicKey {
    PublicKey([byte; 32])
}

fn set_peer() -> Command {
    Command::SetPeer {
        seq: 7,
        slot: 1,
        own: key(2),
        peer: key(3),
        psk: Psk::new(Secret::new([9; 32])).unwrap(),
        underlay: SocketAddr::from(([192, 0, 2, 1], 51830)),
        allowed_ips: vec![
            "10.0.0.0/24".parse().unwrap(),
            "fd00::1/128".parse().unwrap(),
        ],
        epoch: 5,
        initiate: true,
    }
}

#[test]
fn commands_survive_the_wire() {
    let mut decoder = Decoder::default();
    decoder.push(&encode(&set_peer()).unwrap());
    decoder.push(&encode(&Command::Hello { version: VERSION }).unwrap());
    let first: Command = decoder.next_message().unwrap().unwrap();
    assert_eq!(format!("{first:?}"), format!("{:?}", set_peer()));
    let Command::SetPeer { psk, .. } = first else {
        panic!("another command came out: {first:?}");
    };
    assert_eq!(psk.secret().expose(), &[9; 32]);
    let second: Command = decoder.next_message().unwrap().unwrap();
    assert!(matches!(second, Command::Hello { version: VERSION }));
    assert!(decoder.next_message::<Command>().unwrap().is_none());
}

#[test]
fn every_engine_reason_survives_the_wire() {
    for reason in [
        DropReason::WgReplay,
        DropReason::WgInvalid,
        DropReason::WgUnknownPeer,
        DropReason::WgSourceNotAllowed,
        DropReason::WgNoSession,
        DropReason::WgMalformed,
    ] {
        let event = Event::Dropped {
            slot: 0,
            peer: Some(key(1)),
            reason,
            underlay: Some(SocketAddr::from(([192, 0, 2, 1], 9))),
            inner: Some((
                IpAddr::V4(Ipv4Addr::LOCALHOST),
                IpAddr::V4(Ipv4Addr::BROADCAST),
            )),
            suppressed: 4,
        };
        let mut decoder = Decoder::default();
        decoder.push(&encode(&event).unwrap());
        assert_eq!(decoder.next_message::<Event>().unwrap(), Some(event));
    }
}

#[test]
fn an_all_zero_psk_does_not_decode() {
    let mut frame = encode(&set_peer()).unwrap();
    let psk = frame
        .windows(32)
        .position(|window| window == [9; 32])
        .unwrap();
    frame[psk..psk + 32].fill(0);
    let mut decoder = Decoder::default();
    decoder.push(&frame);
    let error = decoder.next_message::<Command>().unwrap_err();
    assert!(matches!(error, CodecError::Malformed(_)), "{error}");
}

#[test]
fn an_endless_frame_is_refused_before_it_is_collected() {
    let mut decoder = Decoder::default();
    decoder.push(&u32::MAX.to_be_bytes());
    assert!(matches!(
        decoder.next_message::<Event>(),
        Err(CodecError::TooLarge(_))
    ));
}

proptest! {
    #[test]
    fn any_split_of_the_stream_gives_the_same_messages(
        seqs in prop::collection::vec(any::<u64>(), 1..20),
        cuts in prop::collection::vec(1usize..40, 1..200),
    ) {
        let mut stream = Vec::new();
        for seq in &seqs {
            stream.extend_from_slice(&encode(&Event::Done { seq: *seq }).unwrap());
        }
        let mut decoder = Decoder::default();
        let mut seen = Vec::new();
        let mut rest = stream.as_slice();
        for cut in cuts.iter().cycle() {
            if rest.is_empty() {
                break;
            }
            let (head, tail) = rest.split_at((*cut).min(rest.len()));
            rest = tail;
            decoder.push(head);
            while let Some(event) = decoder.next_message::<Event>().unwrap() {
                let Event::Done { seq } = event else { panic!("{event:?}") };
                seen.push(seq);
            }
        }
        prop_assert_eq!(seen, seqs);
    }

    #[test]
    fn junk_never_panics(bytes in prop::collection::vec(any::<u8>(), 0..300)) {
        let mut decoder = Decoder::default();
        decoder.push(&bytes);
        while let Ok(Some(_)) = decoder.next_message::<Command>() {}
    }
}
