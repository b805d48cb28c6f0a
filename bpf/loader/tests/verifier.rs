//! The kernel takes the programs, with room to spare below the verifier's limit.

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::print_stdout,
    reason = "a test fails by panicking and says loudly what it skips"
)]

use aya::programs::SchedClassifier;
use aya::{EbpfLoader, VerifierLogLevel};

/// The kernel's limit is a million; growing past half of it deserves a look.
const INSTRUCTIONS: u32 = 500_000;

#[test]
fn every_program_stays_well_below_the_verifiers_limit() {
    if let Err(error) = signet_loader::probe() {
        println!("SKIPPED: {error}");
        return;
    }
    let path = concat!(
        env!("CARGO_MANIFEST_DIR"),
        "/../programs/obj/signet_test.bpf.o"
    );
    let object = std::fs::read(path).unwrap();
    let mut ebpf = EbpfLoader::new()
        .verifier_log_level(VerifierLogLevel::STATS)
        .load(&object)
        .unwrap();
    for (name, program) in ebpf.programs_mut() {
        let program: &mut SchedClassifier = program.try_into().unwrap();
        program.load().unwrap();
        let verified = program
            .info()
            .unwrap()
            .verified_instruction_count()
            .unwrap();
        println!("{name}: {verified} instructions verified");
        assert!(verified < INSTRUCTIONS, "{name}: {verified}");
    }
}
