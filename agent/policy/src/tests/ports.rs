//! Port ranges as prefixes.

use crate::ports::decompose;

#[test]
fn ranges_fall_into_the_fewest_prefixes() {
    type Row = (u16, u16, &'static [(u16, u8)]);
    let table: &[Row] = &[
        (0, 65535, &[(0, 0)]),
        (0, 0, &[(0, 16)]),
        (65535, 65535, &[(65535, 16)]),
        (0, 32767, &[(0, 1)]),
        (32768, 65535, &[(32768, 1)]),
        (80, 81, &[(80, 15)]),
        (81, 82, &[(81, 16), (82, 16)]),
        (
            4000,
            4100,
            &[(4000, 11), (4032, 10), (4096, 14), (4100, 16)],
        ),
    ];
    for (first, last, expected) in table {
        assert_eq!(
            decompose(*first, *last).collect::<Vec<_>>(),
            *expected,
            "{first}-{last}"
        );
    }
    // The longest decomposition there is: 15 blocks up and 15 down.
    assert_eq!(decompose(1, 65534).count(), 30);
}

#[test]
fn prefixes_cover_exactly_their_range() {
    let edges = [
        0, 1, 2, 3, 79, 80, 1023, 1024, 4000, 32767, 32768, 65533, 65534, 65535,
    ];
    for first in edges {
        for last in edges.into_iter().filter(|last| *last >= first) {
            let mut covered = Vec::new();
            for (port, bits) in decompose(first, last) {
                let size = 1_u32 << (16 - u32::from(bits));
                covered.extend(u32::from(port)..u32::from(port) + size);
            }
            assert!(
                covered.into_iter().eq(u32::from(first)..=u32::from(last)),
                "{first}-{last}"
            );
        }
    }
}
