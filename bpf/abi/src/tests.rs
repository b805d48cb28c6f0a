extern crate std;

use std::collections::BTreeSet;
use std::net::IpAddr;
use std::path::Path;
use std::{fs, println};

use super::*;

#[test]
fn checked_in_header_is_fresh() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../programs/lib/abi.h");
    let wanted = header();
    if std::env::var_os("SIGNET_BLESS").is_some() {
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(&path, &wanted).unwrap();
        println!("wrote {}", path.display());
        return;
    }
    let found = fs::read_to_string(&path).unwrap_or_default();
    assert!(
        found == wanted,
        "bpf/programs/lib/abi.h is out of date: run `SIGNET_BLESS=1 cargo test -p signet-abi` \
         and rebuild the objects with `make -C bpf/programs`"
    );
}

#[test]
fn addresses_survive_the_round_trip() {
    for text in ["10.1.2.3", "0.0.0.0", "fd00::1", "::1", "::"] {
        let ip: IpAddr = text.parse().unwrap();
        assert_eq!(Addr::from(ip).to_ip(), ip, "{text}");
    }
    assert!(Addr::from("10.0.0.1".parse::<IpAddr>().unwrap()).is_ipv4());
    assert!(!Addr::from("fd00::1".parse::<IpAddr>().unwrap()).is_ipv4());
}

#[test]
fn prefixes_keep_their_family() {
    for (text, len, bits) in [("10.1.0.0", 16, 112), ("0.0.0.0", 0, 96), ("fd00::", 8, 8)] {
        let ip: IpAddr = text.parse().unwrap();
        let prefix = AddrPrefix::new(ip, len);
        assert_eq!(prefix.prefix_len, bits, "{text}/{len}");
        assert_eq!(prefix.to_ip(), (ip, len));
    }
    assert_eq!(
        AddrPrefix::new("::".parse().unwrap(), 0).to_ip(),
        ("::".parse().unwrap(), 0)
    );
}

#[test]
fn policy_keys_are_canonical() {
    let row = PolicyPrefix {
        endpoint: 7,
        direction: Direction::Egress,
        proto: 6,
        class: 20,
        port: 0x1234,
        port_bits: 12,
    };
    let key = PolicyKey::new(row);
    assert_eq!(
        key,
        PolicyKey::new(PolicyPrefix {
            port: 0x1230,
            ..row
        })
    );
    assert_eq!(key.prefix_len, 76);
    assert_eq!(
        key.prefix(),
        Some(PolicyPrefix {
            port: 0x1230,
            ..row
        })
    );
    let any = PolicyKey::new(PolicyPrefix {
        port_bits: 0,
        ..row
    });
    assert_eq!((any.prefix_len, any.port), (PolicyKey::ANY_PORT_BITS, 0));
}

#[test]
fn drop_reasons_are_unique_explained_and_found_by_number() {
    let names: BTreeSet<_> = DropReason::ALL
        .iter()
        .map(|reason| reason.as_str())
        .collect();
    assert_eq!(names.len(), DropReason::ALL.len());
    for reason in DropReason::ALL {
        assert_eq!(DropReason::try_from(reason.number()), Ok(*reason));
        assert!(u32::from(reason.number()) < DROP_REASONS);
        assert!(reason.explain().len() > 20, "{reason}");
        let variant = std::format!("{reason:?}").to_uppercase();
        assert_eq!(
            variant,
            reason.as_str().replace('_', ""),
            "name and variant differ"
        );
    }
    assert_eq!(DropReason::try_from(0), Err(UnknownReason(0)));
    assert!(DropReason::ALL.is_sorted());
}

#[test]
fn address_lists_are_bounded() {
    let mut row = RecvRow::default();
    assert!(row.set_addrs(&[Addr::default(); MAX_ADDRESSES]));
    assert!(!row.set_addrs(&[Addr::default(); MAX_ADDRESSES + 1]));
    assert_eq!(row.addr_count, 4);
}

#[test]
fn hold_headers_survive_the_round_trip() {
    let header = HoldHeader {
        endpoint: 0x0102,
        generation: 0x03040506,
        ticket: 0x0708,
        ethertype: 0x86dd,
    };
    assert_eq!(HoldHeader::parse(&header.to_bytes()), Some(header));
    let mut foreign = header.to_bytes();
    foreign[1] = 1;
    assert_eq!(HoldHeader::parse(&foreign), None);
    assert_eq!(HoldHeader::parse(&foreign[..13]), None);
}
