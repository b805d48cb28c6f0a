//! The floor: sealing and opening alone, without a packet moved.

use anyhow::{Result, anyhow};
use nix::time::ClockId;
use ring::aead::{Aad, CHACHA20_POLY1305, LessSafeKey, Nonce, UnboundKey};
use std::time::Duration;

/// Bytes of a full inner packet.
const PACKET: usize = 1420;
/// TCP payload in it: less IPv4's 20 bytes, TCP's 20 and its timestamps' 12.
const PAYLOAD: u64 = 1368;

/// CPU seconds to seal and open the full packets that carry 1 GB of TCP payload, by ChaCha20-Poly1305 of ring.
pub(crate) fn seconds_per_gb() -> Result<f64> {
    // Any key will do: the time does not depend on it.
    let failed = |_| anyhow!("ring refused to seal or open");
    let key = LessSafeKey::new(UnboundKey::new(&CHACHA20_POLY1305, &[7; 32]).map_err(failed)?);
    let mut packet = vec![0; PACKET];
    let packets = 250_000_000 / PAYLOAD;
    let start = spent()?;
    for number in 0..packets {
        let nonce = || {
            let mut nonce = [0; 12];
            nonce[4..].copy_from_slice(&number.to_le_bytes());
            Nonce::assume_unique_for_key(nonce)
        };
        key.seal_in_place_append_tag(nonce(), Aad::empty(), &mut packet)
            .map_err(failed)?;
        key.open_in_place(nonce(), Aad::empty(), &mut packet)
            .map_err(failed)?;
        packet.truncate(PACKET);
    }
    let gigabytes = (packets * PAYLOAD) as f64 / 1e9;
    Ok((spent()? - start).as_secs_f64() / gigabytes)
}

fn spent() -> Result<Duration> {
    Ok(Duration::from(ClockId::CLOCK_THREAD_CPUTIME_ID.now()?))
}
