//! The kernel takes the programs, with room to spare below the verifier's limits.

use std::time::Instant;
use aya::{EbpfLoader, VerifierLogLevel, programs::SchedClassifier};

#[test]
fn stats() {
    let data = std::fs::read(concat!(env!("CARGO_MANIFEST_DIR"), "/../programs/obj/signet_test.bpf.o")).unwrap();
    let t = Instant::now();
    let mut b = EbpfLoader::new().verifier_log_level(VerifierLogLevel::STATS).load(&data).unwrap();
    println!("maps {:?}", t.elapsed());
    let names: Vec<String> = b.programs().map(|(n, _)| n.to_string()).collect();
    for n in names {
        let p: &mut SchedClassifier = b.program_mut(&n).unwrap().try_into().unwrap();
        let t = Instant::now();
        p.load().unwrap();
        println!("{n} {:?} insns {:?}", t.elapsed(), p.info().unwrap().verified_instruction_count());
    }
    let t = Instant::now();
    drop(b);
    println!("drop {:?}", t.elapsed());
}
