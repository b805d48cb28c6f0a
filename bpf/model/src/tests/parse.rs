//! The parser against packets written out by hand.

use signet_abi::DropReason;

use crate::parse::{ETHERTYPE_IPV4, ETHERTYPE_IPV6, Fragment, Packet, Parsed, parse};

fn hex(text: &str) -> Vec<u8> {
    let digits: Vec<u8> = text
        .chars()
        .filter(|c| !c.is_whitespace())
        .map(|c| c.to_digit(16).unwrap() as u8)
        .collect();
    digits
        .chunks(2)
        .map(|pair| pair[0] << 4 | pair[1])
        .collect()
}

fn read(text: &str) -> Parsed {
    let bytes = hex(text);
    let protocol = match bytes[0] >> 4 {
        4 => ETHERTYPE_IPV4,
        6 => ETHERTYPE_IPV6,
        other => panic!("version {other}"),
    };
    parse(protocol, &bytes)
}

fn fit(text: &str) -> Packet {
    read(text).packet.unwrap()
}

fn unfit(text: &str) -> DropReason {
    read(text).packet.unwrap_err()
}

/// 10.0.0.1 -> 10.0.0.2, total length and protocol and the bytes between to be given.
fn v4(ihl: u8, total: u16, fragment: u16, proto: u8, rest: &str) -> String {
    format!(
        "4{ihl:x}00 {total:04x} abcd {fragment:04x} 40{proto:02x} 0000 0a000001 0a000002 {rest}"
    )
}

/// 2001:db8::1 -> 2001:db8::2.
fn v6(payload: u16, next: u8, hop: u8, rest: &str) -> String {
    let head = format!("60000000 {payload:04x} {next:02x}{hop:02x}");
    format!("{head} 20010db8 00000000 00000000 00000001 20010db8 00000000 00000000 00000002 {rest}")
}

const UDP: &str = "3039 0035 0008 0000";
const SYN: &str = "3039 0050 00000000 00000000 5002 0000 0000 0000";

#[test]
fn ports_and_flags() {
    let udp = fit(&v4(5, 28, 0, 17, UDP));
    assert_eq!((udp.sport, udp.dport, udp.length), (12345, 53, 28));
    assert_eq!(udp.src.to_string(), "10.0.0.1");
    let syn = fit(&v4(5, 40, 0, 6, SYN));
    assert!(syn.is_opening() && !syn.is_midstream());
    let syn6 = fit(&v6(20, 6, 64, SYN));
    assert!(syn6.is_opening());
    assert_eq!(syn6.transport, 40);
}

#[test]
fn what_the_ip_header_does_not_count_is_not_there() {
    // The ports lie behind the packet's own end.
    assert_eq!(unfit(&v4(5, 22, 0, 17, UDP)), DropReason::Malformed);
    // TCP flags in the padding: the stack would cut them off.
    assert_eq!(unfit(&v4(5, 28, 0x2000, 6, SYN)), DropReason::Malformed);
    assert_eq!(unfit(&v6(13, 6, 64, SYN)), DropReason::Malformed);
    // An options header that ends in the padding.
    let padded = v6(8, 60, 64, "3b01 0104 0000 0000 0104 0000 0000 0000");
    assert_eq!(unfit(&padded), DropReason::Malformed);
    // Padding as such is fine.
    let padded = fit(&v4(5, 28, 0, 17, &format!("{UDP} 000000000000")));
    assert_eq!(padded.length, 28);
}

#[test]
fn headers_that_contradict_themselves() {
    for text in [
        v4(4, 28, 0, 17, UDP),
        v4(5, 19, 0, 17, UDP),
        v4(5, 29, 0, 17, UDP),
        v4(15, 28, 0, 17, UDP),
        v6(0, 17, 64, UDP),
        v6(9, 17, 64, UDP),
        "45".to_string(),
    ] {
        assert_eq!(unfit(&text), DropReason::Malformed, "{text}");
    }
    let mapped = "60000000 0008 1140 00000000 00000000 0000ffff 0a000001 \
                  20010db8 00000000 00000000 00000002";
    assert_eq!(unfit(&format!("{mapped} {UDP}")), DropReason::Malformed);
}

#[test]
fn addresses_are_known_even_of_a_broken_packet() {
    let broken = read(&v4(5, 400, 0, 17, ""));
    assert_eq!(broken.packet, Err(DropReason::Malformed));
    let (src, dst) = broken.addresses.unwrap();
    assert_eq!(
        (src.to_string(), dst.to_string()),
        ("10.0.0.1".into(), "10.0.0.2".into())
    );
    assert_eq!(read("4500 0014").addresses, None);
}

#[test]
fn options_of_ipv4() {
    // NOP, NOP, router alert (RFC 2113), then the end and rubbish nobody reads.
    let fine = fit(&v4(
        8,
        40,
        0,
        17,
        &format!("0101 9404 0000 00ff ffff ffff {UDP}"),
    ));
    assert_eq!((fine.transport, fine.tag), (32, None));
    for (options, reason) in [
        ("8303 0000", DropReason::SourceRouted),
        ("0389 0300", DropReason::SourceRouted),
        ("9401 0000", DropReason::Malformed),
        ("9405 0000", DropReason::Malformed),
        ("0101 0194", DropReason::Malformed),
        ("019e 0800", DropReason::ForeignTag),
        ("9e08 0000", DropReason::ForeignTag),
    ] {
        let text = v4(6, 32, 0, 17, &format!("{options} {UDP}"));
        assert_eq!(unfit(&text), reason, "{options}");
    }
}

#[test]
fn the_tag_counts_in_first_place_only() {
    let tagged = fit(&v4(7, 36, 0, 17, &format!("9e08 05 0102030405 {UDP}")));
    let tag = tagged.tag.unwrap();
    assert_eq!((tag.epoch, tag.label), (5, 0x01_0203_0405));
    let twice = format!("9e08 05 0102030405 9e08 05 0102030405 {UDP}");
    assert_eq!(unfit(&v4(9, 44, 0, 17, &twice)), DropReason::ForeignTag);

    let header = |next: u8| format!("{next:02x}01 5e06 05 0102030405 0104 0000 0000");
    let tagged = fit(&v6(24, 60, 64, &format!("{} {UDP}", header(17))));
    assert_eq!(tagged.tag, Some(tag));
    assert_eq!((tagged.proto, tagged.transport), (17, 56));
    let twice = format!("{} {} {UDP}", header(60), header(17));
    assert_eq!(unfit(&v6(40, 60, 64, &twice)), DropReason::ForeignTag);
    let behind = format!("3c00 0104 0000 0000 {} {UDP}", header(17));
    assert_eq!(unfit(&v6(32, 0, 64, &behind)), DropReason::ForeignTag);
}

#[test]
fn extension_headers() {
    let pad = |next: u8| format!("{next:02x}00 0104 0000 0000");
    let chain = |count: usize| {
        let mut rest = String::new();
        for at in 1..=count {
            rest += &pad(if at == count { 17 } else { 60 });
        }
        v6(8 * count as u16 + 8, 60, 64, &format!("{rest} {UDP}"))
    };
    assert_eq!(fit(&chain(6)).transport, 40 + 48);
    assert_eq!(unfit(&chain(7)), DropReason::Malformed);
    let routing = format!("1100 0000 0000 0000 {UDP}");
    assert_eq!(unfit(&v6(16, 43, 64, &routing)), DropReason::SourceRouted);
    // One byte left over, with no room for a length.
    assert_eq!(
        unfit(&v6(16, 60, 64, &format!("1100 0103 000000 01 {UDP}"))),
        DropReason::Malformed
    );
    // 72 bytes of options.
    let long = format!("1108 01 44 {} {UDP}", "00".repeat(68));
    assert_eq!(unfit(&v6(80, 60, 64, &long)), DropReason::Malformed);
}

#[test]
fn fragments() {
    assert!(matches!(
        fit(&v4(5, 28, 0x2000, 17, UDP)).fragment,
        Fragment::First { .. }
    ));
    let later = fit(&v4(5, 24, 0x0001, 17, "ffff ffff"));
    assert!(later.is_later_fragment());
    assert_eq!((later.sport, later.dport), (0, 0));

    let header = |next: u8, word: u16| format!("{next:02x}00 {word:04x} 0000 abcd");
    let first = fit(&v6(16, 44, 64, &format!("{} {UDP}", header(17, 1))));
    assert!(matches!(first.fragment, Fragment::First { .. }));
    let atomic = fit(&v6(16, 44, 64, &format!("{} {UDP}", header(17, 0))));
    assert_eq!(atomic.fragment, Fragment::Whole);
    let later = fit(&v6(16, 44, 64, &format!("{} {UDP}", header(17, 8))));
    assert!(later.is_later_fragment());
    let nested = format!("{} {} {UDP}", header(44, 1), header(17, 8));
    assert_eq!(unfit(&v6(24, 44, 64, &nested)), DropReason::Malformed);
}

#[test]
fn errors_are_tied_to_what_they_quote() {
    let quoted = v4(5, 28, 0, 17, UDP);
    let error = fit(&v4(5, 56, 0, 1, &format!("0301 0000 0000 0000 {quoted}")));
    let quote = error.quote.unwrap();
    assert_eq!((quote.proto, quote.sport, quote.dport), (17, 12345, 53));
    // Cut before the ports, or a later fragment: an ICMP packet like any other.
    let cut = v4(5, 48, 0, 1, &format!("0301 0000 0000 0000 {quoted}"));
    assert_eq!(fit(&cut).quote, None);
    let later = v4(5, 28, 1, 17, UDP);
    assert_eq!(
        fit(&v4(5, 56, 0, 1, &format!("0301 0000 0000 0000 {later}"))).quote,
        None
    );

    let echo = v6(8, 58, 64, "8000 0000 1234 0001");
    let error = fit(&v6(56, 58, 64, &format!("0200 0000 0000 0500 {echo}")));
    assert_eq!(error.quote.unwrap().sport, 0x1234);
}

#[test]
fn discovery_is_from_this_link_or_rubbish() {
    let solicitation = format!("8700 0000 0000 0000 {}", "fe".repeat(16));
    assert!(fit(&v6(24, 58, 255, &solicitation)).neighbour);
    let fragment = format!("3a00 0001 0000 abcd {solicitation}");
    assert_eq!(unfit(&v6(32, 44, 255, &fragment)), DropReason::Malformed);
    assert_eq!(
        unfit(&v6(24, 58, 254, &solicitation)),
        DropReason::Malformed
    );
}
