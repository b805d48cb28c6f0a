//! Running the programs on single packets, in the kernel, without devices.
//!
//! The test object is built from the same sources; only what BPF_PROG_TEST_RUN cannot set is
//! passed through `skb->cb` (see `lib/hook.h`). Needs root and nothing else; every
//! [`ProgTest`] has maps of its own. Devices without a link layer (`signet0`, the slots) also get
//! packets **with** an Ethernet header here.

pub mod frame;

use aya::programs::{TestRun, TestRunOptions};
use aya::{Ebpf, EbpfLoader};
use signet_abi::{DropReason, Event, Hook};

use crate::error::{LoaderError, chain};
use crate::events::EventReader;
use crate::maps::Maps;
use crate::object;

/// A packet and its surroundings.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Packet {
    /// The Ethernet frame; at most about 3,500 bytes.
    pub data: Vec<u8>,
    /// The mark.
    pub mark: u32,
    /// Index of the endpoint that sent it, as `from_workload` set it.
    pub tc_index: u16,
    /// Where it came into the node, 0 = made here; any number.
    pub ingress_ifindex: u32,
    /// Where the program runs; any number.
    pub ifindex: u32,
    /// `skb->hash`.
    pub hash: u32,
    /// Segment size of a super-packet, 0 = none.
    pub gso_size: u32,
}

impl Packet {
    /// A packet without marks at interface `ifindex`.
    pub fn new(ifindex: u32, data: Vec<u8>) -> Self {
        Self {
            data,
            mark: 0,
            tc_index: 0,
            ingress_ifindex: 0,
            ifindex,
            hash: 0,
            gso_size: 0,
        }
    }
}

/// What a program said.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// Pass on to the next program and the stack.
    Next,
    /// Drop.
    Drop,
    /// Out of this interface.
    Redirect(u32),
    /// None of ours.
    Other(u32),
}

/// What became of a packet.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Outcome {
    /// What the program said.
    pub verdict: Verdict,
    /// The frame afterwards.
    pub data: Vec<u8>,
    /// The mark afterwards.
    pub mark: u32,
    /// The index afterwards.
    pub tc_index: u16,
    /// `skb->hash` afterwards.
    pub hash: u32,
    /// The drop reason that was counted.
    pub reason: Option<DropReason>,
    /// The events it caused.
    pub events: Vec<Event>,
}

/// The test object, loaded.
pub struct ProgTest {
    /// Its maps.
    pub maps: Maps,
    events: EventReader,
    /// The drop counters as the last packet left them.
    drops: Vec<(DropReason, u64)>,
    ebpf: Ebpf,
}

// Offsets in struct __sk_buff (include/uapi/linux/bpf.h).
const CTX_LEN: usize = 192;
const CTX_MARK: usize = 8;
const CTX_INGRESS_IFINDEX: usize = 36;
const CTX_CB: usize = 48;
const CTX_GSO_SEGS: usize = 164;
const CTX_GSO_SIZE: usize = 176;

// Places in skb->cb (lib/hook.h).
const CB_INDEX_IN: usize = 0;
const CB_INDEX_OUT: usize = 1;
const CB_HASH: usize = 2;
const CB_REDIRECT: usize = 3;
const CB_IFINDEX: usize = 4;

const TC_ACT_UNSPEC: u32 = u32::MAX;
const TC_ACT_SHOT: u32 = 2;
const TC_ACT_REDIRECT: u32 = 7;

impl ProgTest {
    /// Loads the test object with empty maps.
    pub fn load() -> Result<Self, LoaderError> {
        let mut ebpf = object::load(&mut EbpfLoader::new(), object::TEST)?;
        let maps = Maps::take(&mut ebpf)?;
        let events = EventReader::take(&mut ebpf)?;
        let drops = maps.drops()?;
        Ok(Self {
            maps,
            events,
            drops,
            ebpf,
        })
    }

    /// Runs the program of `hook` on `packet`.
    pub fn run(&mut self, hook: Hook, packet: &Packet) -> Result<Outcome, LoaderError> {
        while self.events.next_event().is_some() {}
        let mut ctx = [0u8; CTX_LEN];
        put(&mut ctx, CTX_MARK, packet.mark);
        put(&mut ctx, CTX_INGRESS_IFINDEX, packet.ingress_ifindex);
        put(&mut ctx, CTX_CB + 4 * CB_INDEX_IN, packet.tc_index.into());
        put(&mut ctx, CTX_CB + 4 * CB_HASH, packet.hash);
        put(&mut ctx, CTX_CB + 4 * CB_IFINDEX, packet.ifindex);
        if packet.gso_size > 0 {
            let segments = packet.data.len().div_ceil(packet.gso_size as usize);
            put(&mut ctx, CTX_GSO_SIZE, packet.gso_size);
            put(&mut ctx, CTX_GSO_SEGS, segments as u32);
        }
        let mut ctx_out = [0u8; CTX_LEN];
        let mut data_out = vec![0u8; packet.data.len() + 64];
        let result = object::classifier(&mut self.ebpf, hook)?
            .test_run(TestRunOptions {
                data_in: Some(&packet.data),
                data_out: Some(&mut data_out),
                ctx_in: Some(&ctx),
                ctx_out: Some(&mut ctx_out),
                ..TestRunOptions::default()
            })
            .map_err(|error| LoaderError::TestRun {
                program: hook.as_str(),
                detail: chain(&error),
            })?;
        data_out.truncate(result.data_size_out as usize);

        let mut events = Vec::new();
        while let Some(event) = self.events.next_event() {
            events.push(event);
        }
        let before = std::mem::replace(&mut self.drops, self.maps.drops()?);
        let reason = before
            .iter()
            .zip(&self.drops)
            .find(|((_, before), (_, after))| after > before)
            .map(|((reason, _), _)| *reason);
        Ok(Outcome {
            verdict: match result.return_value {
                TC_ACT_UNSPEC => Verdict::Next,
                TC_ACT_SHOT => Verdict::Drop,
                TC_ACT_REDIRECT => Verdict::Redirect(get(&ctx_out, CTX_CB + 4 * CB_REDIRECT)),
                other => Verdict::Other(other),
            },
            data: data_out,
            mark: get(&ctx_out, CTX_MARK),
            tc_index: get(&ctx_out, CTX_CB + 4 * CB_INDEX_OUT) as u16,
            hash: get(&ctx_out, CTX_CB + 4 * CB_HASH),
            reason,
            events,
        })
    }

    /// Empties conntrack, flows, fragments, who waits and event limits: what earlier packets left behind.
    pub fn forget_flows(&mut self) -> Result<(), LoaderError> {
        self.maps.event_limits.clear()?;
        self.maps.conntrack.clear()?;
        self.maps.flows.clear()?;
        self.maps.hold_budgets.clear()?;
        self.maps.hold_orders.clear()?;
        self.maps.fragments.clear()
    }
}

fn put(ctx: &mut [u8], at: usize, value: u32) {
    if let Some(field) = ctx.get_mut(at..at + 4) {
        field.copy_from_slice(&value.to_ne_bytes());
    }
}

fn get(ctx: &[u8], at: usize) -> u32 {
    let field = ctx.get(at..at + 4).and_then(|bytes| bytes.try_into().ok());
    field.map(u32::from_ne_bytes).unwrap_or(0)
}
