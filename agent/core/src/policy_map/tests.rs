use proptest::prelude::*;

use super::*;

/// The answer of the kernel's map: exact protocol first, then any; longest port prefix.
fn lookup(map: &Entries, protocol: u8, port: u16) -> Option<PolicyValue> {
    [protocol, 0].into_iter().find_map(|protocol| {
        let hits = map.iter().filter(|(key, _)| {
            let shift = 16 - u32::from(key.port_bits);
            let same = |a: u16, b: u16| u32::from(a) >> shift == u32::from(b) >> shift;
            key.protocol == protocol && same(key.port, port)
        });
        hits.max_by_key(|(key, _)| key.port_bits)
            .map(|(_, value)| *value)
    })
}

fn key(protocol: u8, port: u16, bits: u8) -> PolicyKey {
    let mask = u16::MAX.checked_shl(u32::from(16 - bits)).unwrap_or(0);
    PolicyKey {
        endpoint: EndpointIndex(1),
        direction: Direction::Ingress,
        protocol,
        class: ClassId(20),
        port: port & mask,
        port_bits: bits,
    }
}

fn map() -> impl Strategy<Value = Entries> {
    let entry = (
        prop_oneof![Just(0u8), Just(6), Just(17)],
        0u16..8,
        0u8..=16,
        0u32..4,
        any::<bool>(),
    );
    proptest::collection::vec(entry, 0..10).prop_map(|entries| {
        let entries = entries
            .into_iter()
            .map(|(protocol, port, bits, rule, allow)| {
                // Without a protocol there are no ports.
                let key = if protocol == 0 {
                    key(0, 0, 0)
                } else {
                    key(protocol, port << 13, bits)
                };
                (
                    key,
                    PolicyValue {
                        rule,
                        allow,
                        authentication_required: false,
                    },
                )
            });
        entries.collect()
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(400))]

    #[test]
    fn every_step_answers_as_the_old_or_the_new_map(old in map(), new in map()) {
        let mut plan = Plan::default();
        plan.add(&old, &new);
        let mut map = old.clone();
        let check = |map: &Entries| -> Result<(), TestCaseError> {
            for protocol in [1u8, 6, 17] {
                for port in (0..=u16::MAX).step_by(4099) {
                    let answer = lookup(map, protocol, port);
                    let before = lookup(&old, protocol, port);
                    let after = lookup(&new, protocol, port);
                    prop_assert!(answer == before || answer == after,
                        "protocol {protocol} port {port}: {answer:?}, neither {before:?} nor {after:?}");
                }
            }
            Ok(())
        };
        for (key, value) in &plan.writes {
            map.insert(*key, *value);
            check(&map)?;
        }
        for key in &plan.removals {
            map.remove(key);
            check(&map)?;
        }
        prop_assert_eq!(map, new);
    }
}
