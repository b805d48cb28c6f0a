//! Counters the programs keep per processor.

use aya::Ebpf;
use aya::maps::{MapData, PerCpuArray};
use signet_abi::{DropReason, Hook, Passed};

use crate::error::LoaderError;
use crate::maps::map;
use crate::plain::Raw;
use crate::table::map_error;

pub(crate) struct Counters {
    drops: PerCpuArray<MapData, u64>,
    passed: PerCpuArray<MapData, Raw<Passed>>,
}

impl Counters {
    pub(crate) fn take(ebpf: &mut Ebpf) -> Result<Self, LoaderError> {
        Ok(Self {
            drops: PerCpuArray::try_from(map(ebpf, "drops")?)
                .map_err(|error| map_error("drops", "open", &error))?,
            passed: PerCpuArray::try_from(map(ebpf, "passed")?)
                .map_err(|error| map_error("passed", "open", &error))?,
        })
    }

    pub(crate) fn drops(&self) -> Result<Vec<(DropReason, u64)>, LoaderError> {
        DropReason::ALL
            .iter()
            .map(|&reason| {
                let index = u32::from(reason.number());
                let per_cpu = self.drops.get(&index, 0);
                let per_cpu = per_cpu.map_err(|error| map_error("drops", "read", &error))?;
                Ok((reason, per_cpu.iter().sum()))
            })
            .collect()
    }

    pub(crate) fn passed(&self) -> Result<Vec<(Hook, Passed)>, LoaderError> {
        Hook::ALL
            .iter()
            .map(|&hook| {
                let per_cpu = self.passed.get(&u32::from(hook as u8), 0);
                let per_cpu = per_cpu.map_err(|error| map_error("passed", "read", &error))?;
                let mut total = Passed::default();
                for one in per_cpu.iter() {
                    total.packets += one.0.packets;
                    total.bytes += one.0.bytes;
                }
                Ok((hook, total))
            })
            .collect()
    }
}

impl crate::Maps {
    /// Packets dropped since the maps were made, by reason; reasons never seen are there with 0.
    pub fn drops(&self) -> Result<Vec<(DropReason, u64)>, LoaderError> {
        self.counters.drops()
    }

    /// Packets and bytes that passed each program since the maps were made.
    pub fn passed(&self) -> Result<Vec<(Hook, Passed)>, LoaderError> {
        self.counters.passed()
    }
}
