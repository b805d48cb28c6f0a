//! Mutations without a tool: deterministic, so that a seed and a number name an input.

/// SplitMix64.
#[derive(Clone, Debug)]
pub struct Dice(pub u64);

impl Dice {
    /// The next number.
    pub fn roll(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// A number below `bound`; 0 if `bound` is 0.
    pub fn below(&mut self, bound: usize) -> usize {
        let bound = u64::try_from(bound).unwrap_or(u64::MAX).max(1);
        usize::try_from(self.roll() % bound).unwrap_or(0)
    }

    fn byte(&mut self) -> u8 {
        self.roll().to_be_bytes()[0]
    }
}

/// Values at which lengths and numbers turn.
const EDGES: [u8; 10] = [0, 1, 2, 0x0f, 0x40, 0x7f, 0x80, 0x81, 0xfe, 0xff];

/// Changes one to five things about one of `seeds`, sometimes none.
pub fn mutate(dice: &mut Dice, seeds: &[Vec<u8>], max_len: usize) -> Vec<u8> {
    let Some(seed) = seeds.get(dice.below(seeds.len())) else {
        return Vec::new();
    };
    let mut input = seed.clone();
    for _ in 0..dice.below(6) {
        once(dice, &mut input, seeds);
        input.truncate(max_len);
    }
    input
}

fn once(dice: &mut Dice, input: &mut Vec<u8>, seeds: &[Vec<u8>]) {
    let at = dice.below(input.len());
    let span = at..(at + 1 + dice.below(16)).min(input.len()).max(at);
    match dice.below(9) {
        _ if input.is_empty() => input.push(dice.byte()),
        0 => input[at] ^= 1 << dice.below(8),
        1 => input[at] = dice.byte(),
        2 => input[at] = EDGES[dice.below(EDGES.len())],
        3 => input[at] = input[at].wrapping_add(if dice.below(2) == 0 { 1 } else { 255 }),
        4 => input.truncate(at),
        5 => {
            input.drain(span);
        }
        6 => {
            let bytes: Vec<u8> = (0..1 + dice.below(8)).map(|_| dice.byte()).collect();
            input.splice(at..at, bytes);
        }
        7 => {
            let copied = input[span].to_vec();
            let to = dice.below(input.len());
            input.splice(to..to, copied);
        }
        _ => {
            // The head of this one, the tail of another.
            let other = &seeds[dice.below(seeds.len())];
            input.truncate(at);
            input.extend_from_slice(&other[dice.below(other.len())..]);
        }
    }
}
