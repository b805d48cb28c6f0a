//! The pin: who may say what from a pod's veth.

use signet_abi::{DropReason, Hook};
use signet_loader::prog_test::Packet;
use signet_loader::prog_test::frame::{Fragment, Frame, Transport, tag_extension, tag_option};

use crate::fixture::{Expect, Fixture};
use crate::world::*;

const UDP: Transport = Transport::Udp {
    sport: 4000,
    dport: 53,
};

fn from_a(src: &str, dst: &str, transport: Transport) -> Frame {
    Frame {
        src_mac: A_MAC,
        ..Frame::new(ip(src), ip(dst), transport)
    }
}

fn passes(what: &'static str, frame: Frame) -> Fixture {
    case(what, frame.build(), Expect::Next(PENDING, A))
}

fn drops(what: &'static str, frame: Frame, reason: DropReason) -> Fixture {
    case(what, frame.build(), Expect::Drop(reason))
}

fn case(what: &'static str, data: Vec<u8>, expect: Expect) -> Fixture {
    Fixture::new(what, Hook::FromWorkload, Packet::new(A_IF, data), expect)
}

pub(crate) fn fixtures() -> Vec<Fixture> {
    let mut all = ip_fixtures();
    all.extend(option_fixtures());
    all.extend(link_fixtures());
    all.extend(evasion_fixtures());
    all
}

/// Ways around the pin that look harmless at first sight.
fn evasion_fixtures() -> Vec<Fixture> {
    let lease = Transport::Udp {
        sport: 68,
        dport: 67,
    };
    let mut padded = from_a("10.1.0.2", "10.2.0.2", UDP).build();
    // Total length 22: the ports are in what the stack will cut off.
    padded[17] = 22;
    let mut nonce_first = vec![0xfd, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1];
    nonce_first.extend([14, 1, 1, 2, 3, 4, 5, 6]);
    nonce_first.extend([1, 1, 2, 0, 0, 0, 0, 0xb]);
    let solicitation = Transport::Icmp {
        kind: 135,
        code: 0,
        word: 0,
    };
    let fragment_of_fragment = Frame {
        extensions: vec![(44, vec![0, 0, 0, 1, 0, 0, 0, 9])],
        fragment: Some(Fragment {
            id: 7,
            offset: 1,
            more: false,
        }),
        ..from_a("fd00:1::2", "fd00:2::2", UDP)
    };
    vec![
        passes(
            "what looks like a lease request awaits its verdict",
            from_a("10.1.0.2", "192.0.2.1", lease.clone()),
        ),
        drops(
            "a lease request to the world without an address",
            from_a("0.0.0.0", "192.0.2.1", lease),
            DropReason::SourceSpoofed,
        ),
        drops(
            "another's MAC behind another option",
            Frame {
                ttl: 255,
                payload: nonce_first,
                ..from_a("fd00:1::2", "ff02::1:ff00:1", solicitation)
            },
            DropReason::MacSpoofed,
        ),
        case(
            "ports in the padding",
            padded,
            Expect::Drop(DropReason::Malformed),
        ),
        drops(
            "IPv4 addresses in an IPv6 header",
            from_a("10.1.0.2", "fd00:2::2", UDP),
            DropReason::Malformed,
        ),
        drops(
            "a fragment of a fragment",
            fragment_of_fragment,
            DropReason::Malformed,
        ),
    ]
}

fn ip_fixtures() -> Vec<Fixture> {
    let tcp = Transport::Tcp {
        sport: 4000,
        dport: 80,
        flags: 2,
    };
    let mut super_packet = passes(
        "a TCP super-packet",
        from_a("10.1.0.2", "10.2.0.2", tcp.clone()),
    );
    super_packet.packet.data = Frame {
        payload: vec![7; 1500],
        ..from_a("10.1.0.2", "10.2.0.2", tcp.clone())
    }
    .build();
    super_packet.packet.gso_size = 500;
    vec![
        passes("TCP to a pod", from_a("10.1.0.2", "10.2.0.2", tcp)),
        passes("UDP over IPv6", from_a("fd00:1::2", "fd00:2::2", UDP)),
        super_packet,
        passes(
            "an echo request",
            from_a(
                "10.1.0.2",
                "10.2.0.2",
                Transport::Icmp {
                    kind: 8,
                    code: 0,
                    word: 1,
                },
            ),
        ),
        passes(
            "the node-local resolver",
            from_a("10.1.0.2", "169.254.20.10", UDP),
        ),
        case(
            "the mark's foreign bits stay",
            from_a("10.1.0.2", "10.2.0.2", UDP).build(),
            Expect::Next(0x4000 | PENDING, A),
        )
        .marked(0x5000),
        drops(
            "another pod's address",
            from_a("10.1.0.3", "10.2.0.2", UDP),
            DropReason::SourceSpoofed,
        ),
        drops(
            "another pod's IPv6 address",
            from_a("fd00:1::3", "fd00:2::2", UDP),
            DropReason::SourceSpoofed,
        ),
        drops(
            "no address",
            from_a("0.0.0.0", "10.2.0.2", UDP),
            DropReason::SourceSpoofed,
        ),
        drops(
            "another MAC",
            Frame {
                src_mac: B_MAC,
                ..from_a("10.1.0.2", "10.2.0.2", UDP)
            },
            DropReason::MacSpoofed,
        ),
        drops(
            "IPv4 multicast",
            from_a("10.1.0.2", "224.0.0.251", UDP),
            DropReason::Multicast,
        ),
        drops(
            "broadcast",
            from_a("10.1.0.2", "255.255.255.255", UDP),
            DropReason::Multicast,
        ),
        drops(
            "IPv6 multicast",
            from_a("fd00:1::2", "ff02::fb", UDP),
            DropReason::Multicast,
        ),
        drops(
            "the metadata address",
            from_a("10.1.0.2", "169.254.169.254", UDP),
            DropReason::LinkLocal,
        ),
        drops(
            "from a link-local address",
            from_a("fe80::2", "fd00:2::2", UDP),
            DropReason::LinkLocal,
        ),
        Fixture {
            packet: Packet::new(99, from_a("10.1.0.2", "10.2.0.2", UDP).build()),
            ..drops(
                "no endpoint here",
                from_a("10.1.0.2", "10.2.0.2", UDP),
                DropReason::UnknownInterface,
            )
        },
        drops(
            "not configured",
            from_a("10.1.0.2", "10.2.0.2", UDP),
            DropReason::NotConfigured,
        )
        .given(|w| w.prog.maps.set_config(&Default::default()).unwrap()),
        drops(
            "a later fragment alone",
            Frame {
                fragment: Some(Fragment {
                    id: 9,
                    offset: 10,
                    more: false,
                }),
                ..from_a("10.1.0.2", "10.2.0.2", UDP)
            },
            DropReason::FragmentWithoutPorts,
        ),
        drops(
            "a later IPv6 fragment alone",
            Frame {
                fragment: Some(Fragment {
                    id: 9,
                    offset: 10,
                    more: true,
                }),
                ..from_a("fd00:1::2", "fd00:2::2", UDP)
            },
            DropReason::FragmentWithoutPorts,
        ),
        case(
            "cut short",
            cut(from_a("10.1.0.2", "10.2.0.2", UDP).build(), 36),
            Expect::Drop(DropReason::Malformed),
        ),
        case(
            "longer than the frame",
            longer(from_a("10.1.0.2", "10.2.0.2", UDP).build()),
            Expect::Drop(DropReason::Malformed),
        ),
        case(
            "no room for the ports",
            cut_ip(),
            Expect::Drop(DropReason::Malformed),
        ),
        case(
            "LLDP",
            with_type(from_a("10.1.0.2", "10.2.0.2", UDP).build(), 0x88cc),
            Expect::Drop(DropReason::NotIp),
        ),
        drops(
            "an IPv6 header in an IPv4 frame",
            from_a("fd00:1::2", "fd00:2::2", UDP),
            DropReason::Malformed,
        )
        .with_type(0x0800),
        case(
            "DHCP without an address",
            from_a(
                "0.0.0.0",
                "255.255.255.255",
                Transport::Udp {
                    sport: 68,
                    dport: 67,
                },
            )
            .build(),
            Expect::Next(0, 0),
        ),
    ]
}

fn option_fixtures() -> Vec<Fixture> {
    let v4 = |options: Vec<u8>| Frame {
        options,
        ..from_a("10.1.0.2", "10.2.0.2", UDP)
    };
    let v6 = |extensions| Frame {
        extensions,
        ..from_a("fd00:1::2", "fd00:2::2", UDP)
    };
    let late_tag = |first: Vec<u8>| {
        let mut options = first;
        options.extend(tag_option(1, 2));
        options
    };
    let mut hidden = vec![0, 2, 1, 1, 0];
    hidden.extend([signet_abi::TAG_OPTION_V6, 6, 1, 0, 0, 0, 0, 2]);
    hidden.extend([0; 11]);
    let hop_by_hop = (0, vec![0, 0, 1, 4, 0, 0, 0, 0]);
    vec![
        passes("a record route option", v4(vec![7, 7, 4, 0, 0, 0, 0, 0])),
        passes("no-operations up to the end", v4(vec![1, 1, 1, 1])),
        drops("a tag", v4(tag_option(1, 2)), DropReason::ForeignTag),
        drops(
            "a tag behind no-operations",
            v4(late_tag(vec![1, 1, 1, 1])),
            DropReason::ForeignTag,
        ),
        drops(
            "a tag behind an option",
            v4(late_tag(vec![7, 4, 4, 0])),
            DropReason::ForeignTag,
        ),
        drops(
            "two tags",
            v4(late_tag(tag_option(1, 2))),
            DropReason::ForeignTag,
        ),
        drops(
            "a tag of another length",
            v4(vec![0x9e, 4, 0, 0]),
            DropReason::ForeignTag,
        ),
        drops(
            "loose source route",
            v4(vec![131, 7, 4, 10, 0, 0, 1, 0]),
            DropReason::SourceRouted,
        ),
        drops(
            "strict source route",
            v4(vec![1, 137, 7, 4, 10, 0, 0, 1]),
            DropReason::SourceRouted,
        ),
        drops(
            "an option past the header",
            v4(vec![7, 9, 4, 0]),
            DropReason::Malformed,
        ),
        drops(
            "an option of no length",
            v4(vec![7, 0, 0, 0]),
            DropReason::Malformed,
        ),
        drops(
            "a tag over IPv6",
            v6(vec![tag_extension(1, 2)]),
            DropReason::ForeignTag,
        ),
        drops(
            "a tag behind hop-by-hop options",
            v6(vec![hop_by_hop.clone(), tag_extension(1, 2)]),
            DropReason::ForeignTag,
        ),
        drops(
            "a tag among other options",
            v6(vec![(60, hidden)]),
            DropReason::ForeignTag,
        ),
        passes("hop-by-hop options", v6(vec![hop_by_hop.clone()])),
        drops(
            "a routing header",
            v6(vec![(43, vec![0, 0, 0, 0, 0, 0, 0, 0])]),
            DropReason::SourceRouted,
        ),
        drops(
            "a chain of headers without end",
            v6(vec![hop_by_hop; 7]),
            DropReason::Malformed,
        ),
        drops(
            "options longer than anybody needs",
            v6(vec![(60, [vec![0, 15, 1, 124], vec![0; 124]].concat())]),
            DropReason::Malformed,
        ),
    ]
}

fn link_fixtures() -> Vec<Fixture> {
    let nd = |kind, src: &str, dst: &str, target: &str, option: &[u8]| Frame {
        ttl: 255,
        payload: [&signet_abi::Addr::from(ip(target)).bytes[..], option].concat(),
        ..from_a(
            src,
            dst,
            Transport::Icmp {
                kind,
                code: 0,
                word: 0,
            },
        )
    };
    let own = &[1, 1, 2, 0, 0, 0, 0, 0xa];
    let other = &[1, 1, 2, 0, 0, 0, 0, 0xb];
    let pass = |what, frame: Frame| case(what, frame.build(), Expect::Next(0, 0));
    let solicited = "ff02::1:ff00:1";
    vec![
        case(
            "ARP for the gateway",
            arp(A_MAC, [10, 1, 0, 2]),
            Expect::Next(0, 0),
        ),
        case("an ARP probe", arp(A_MAC, [0; 4]), Expect::Next(0, 0)),
        case("ARP with another's address", arp(A_MAC, [10, 1, 0, 3]), {
            Expect::Drop(DropReason::SourceSpoofed)
        }),
        case(
            "ARP with another's MAC inside",
            arp(B_MAC, [10, 1, 0, 2]),
            Expect::Drop(DropReason::MacSpoofed),
        ),
        case("ARP cut short", cut(arp(A_MAC, [10, 1, 0, 2]), 30), {
            Expect::Drop(DropReason::Malformed)
        }),
        pass(
            "solicitation of the gateway",
            nd(135, "fd00:1::2", solicited, "fd00:1::1", own),
        ),
        pass(
            "duplicate detection",
            nd(135, "::", solicited, "fd00:1::2", &[]),
        ),
        pass(
            "solicitation from a link-local address",
            nd(135, "fe80::a", solicited, "fd00:1::1", own),
        ),
        pass(
            "advertisement of its own",
            nd(136, "fd00:1::2", "fd00:1::1", "fd00:1::2", own),
        ),
        drops(
            "advertisement of the gateway",
            nd(136, "fd00:1::2", "ff02::1", "fd00:1::1", own),
            DropReason::SourceSpoofed,
        ),
        drops(
            "advertisement of the gateway's link-local address",
            nd(136, "fd00:1::2", "ff02::1", "fe80::1", own),
            DropReason::SourceSpoofed,
        ),
        drops(
            "solicitation from another's address",
            nd(135, "fd00:1::3", solicited, "fd00:1::1", own),
            DropReason::SourceSpoofed,
        ),
        drops(
            "solicitation with another's MAC",
            nd(135, "fd00:1::2", solicited, "fd00:1::1", other),
            DropReason::MacSpoofed,
        ),
        drops(
            "router advertisement",
            nd(134, "fe80::a", "ff02::1", "::", own),
            DropReason::RouterAdvertisement,
        ),
        drops(
            "redirect",
            nd(137, "fe80::a", "fd00:1::3", "::", own),
            DropReason::RouterAdvertisement,
        ),
        drops(
            "router solicitation",
            nd(133, "fe80::a", "ff02::2", "::", own),
            DropReason::Multicast,
        ),
        drops(
            "neighbour discovery from afar",
            Frame {
                ttl: 64,
                ..nd(135, "fd00:1::2", solicited, "fd00:1::1", own)
            },
            DropReason::Malformed,
        ),
        drops(
            "a multicast listener report",
            from_a(
                "fe80::a",
                "ff02::16",
                Transport::Icmp {
                    kind: 143,
                    code: 0,
                    word: 0,
                },
            ),
            DropReason::Multicast,
        ),
    ]
}

impl Fixture {
    fn marked(mut self, mark: u32) -> Self {
        self.packet.mark = mark;
        self
    }

    fn with_type(mut self, ethertype: u16) -> Self {
        self.packet.data = with_type(self.packet.data, ethertype);
        self
    }
}

fn with_type(mut frame: Vec<u8>, ethertype: u16) -> Vec<u8> {
    frame[12..14].copy_from_slice(&ethertype.to_be_bytes());
    frame
}

fn cut(mut frame: Vec<u8>, len: usize) -> Vec<u8> {
    frame.truncate(len);
    frame
}

/// The total length says more than there is.
fn longer(mut frame: Vec<u8>) -> Vec<u8> {
    frame[16..18].copy_from_slice(&2000u16.to_be_bytes());
    frame
}

/// A UDP packet whose length ends in the middle of its ports.
fn cut_ip() -> Vec<u8> {
    let mut frame = from_a("10.1.0.2", "10.2.0.2", UDP).build();
    frame[16..18].copy_from_slice(&22u16.to_be_bytes());
    cut(frame, 36)
}

fn arp(sender_mac: [u8; 6], sender: [u8; 4]) -> Vec<u8> {
    let mut frame = vec![0xff; 6];
    frame.extend(A_MAC);
    frame.extend([8, 6, 0, 1, 8, 0, 6, 4, 0, 1]);
    frame.extend(sender_mac);
    frame.extend(sender);
    frame.extend([0; 6]);
    frame.extend([10, 1, 0, 1]);
    frame
}
