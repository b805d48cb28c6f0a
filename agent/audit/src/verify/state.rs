//! What the verifier has believed so far, and what may follow it.

use std::time::Duration;

use rustls_pki_types::{CertificateDer, UnixTime};
use signet_crypto::{
    bundle::TrustBundle,
    spiffe_id::SpiffeId,
    svid::verify_statement,
    x509::{
        profile::Purpose,
        verify::{Expect, Usage, verify},
    },
};

use super::report::{Marked, Report, Voucher};
use crate::{
    chain::HEADER_CONTEXT,
    key::signed,
    line::{Checkpoint, Hash, Header, Hex, Line, Record, VERSION, signed_part},
    record::Event,
};

#[derive(Debug, Default)]
pub(super) struct State {
    last: Option<Last>,
    /// Number of the first line, if that is not 1.
    missing_before: Option<u64>,
    /// The last line that the log says was removed, and whether that is signed.
    pruned: u64,
    pruned_unsigned: u64,
    unsigned: u64,
    after_mark: u64,
    mark: Option<Marked>,
    proven: u64,
    /// What the agent itself found wrong.
    vouchers: Vec<Voucher>,
}

#[derive(Debug)]
struct Last {
    seq: u64,
    hash: Hash,
    segment: u64,
    node: SpiffeId,
    key: Hex<32>,
    checked: bool,
}

impl State {
    /// Number of the last line.
    pub(super) fn seq(&self) -> u64 {
        self.last.as_ref().map_or(0, |last| last.seq)
    }

    pub(super) fn node(&self) -> Option<&SpiffeId> {
        self.last.as_ref().map(|last| &last.node)
    }

    /// Whether a line with these may come now.
    pub(super) fn follows(&self, seq: u64, prev: Hash) -> Result<(), String> {
        let Some(last) = &self.last else {
            return Err("the first line of a log must be a header".to_owned());
        };
        if seq <= last.seq {
            return Err(format!(
                "line number {seq} comes after {}: lines are there twice, or in another order",
                last.seq
            ));
        }
        if seq != last.seq + 1 {
            return Err(format!(
                "line number {seq} comes after {}: {} lines are missing",
                last.seq,
                seq - last.seq - 1
            ));
        }
        if prev != last.hash {
            return Err(format!(
                "it names another line {} than the one before it: one of the two was changed, or \
                 comes from another log",
                last.seq
            ));
        }
        Ok(())
    }

    pub(super) fn header(&mut self, header: &Header, voucher: Voucher) -> Result<(), String> {
        if header.version != VERSION {
            return Err(format!(
                "version {} of the format is not known here",
                header.version
            ));
        }
        let checked = voucher.checked;
        match &self.last {
            None if header.seq == 1 => {
                if header.prev != Hash::NONE || header.segment != 1 {
                    return Err("it is the first line and names one before".to_owned());
                }
            }
            None if header.seq == 0 => return Err("lines are numbered from 1".to_owned()),
            // Perhaps removed to keep the log within its size; the log must say so.
            None => self.missing_before = Some(header.seq),
            Some(last) => {
                self.follows(header.seq, header.prev)?;
                if header.segment != last.segment + 1 {
                    return Err(format!(
                        "segment {} comes after {}",
                        header.segment, last.segment
                    ));
                }
                if header.node != last.node {
                    return Err(format!(
                        "this is the log of {}, and the one before of {}",
                        header.node, last.node
                    ));
                }
                if header.key != last.key && !(checked && last.checked) {
                    return Err(
                        "another key signs from here on, and no trust bundle says whose it is"
                            .to_owned(),
                    );
                }
            }
        }
        self.last = Some(Last {
            // Until it is taken over as a whole.
            seq: header.seq - 1,
            hash: header.prev,
            segment: header.segment,
            node: header.node.clone(),
            key: header.key,
            checked,
        });
        if self
            .vouchers
            .last()
            .is_none_or(|known| known.certificate != voucher.certificate)
        {
            self.vouchers.push(voucher);
        }
        Ok(())
    }

    pub(super) fn record(&mut self, record: &Record) -> Result<(), String> {
        self.follows(record.seq, record.prev)?;
        let owner = self.last.as_ref().map(|last| &last.node);
        if owner != Some(&record.node) {
            return Err(format!("it is a record of {}", record.node));
        }
        match record.facts.event {
            Event::Pruned => {
                self.pruned_unsigned = record.facts.through.unwrap_or(0);
            }
            Event::Damaged => {
                return Err(format!(
                    "the agent itself found the log damaged here: {}",
                    record.facts.reason
                ));
            }
            Event::Opened
            | Event::Renewed
            | Event::Closed
            | Event::Refused
            | Event::RequestRefused
            | Event::ProofRejected
            | Event::Started
            | Event::Stopped
            | Event::Recovered
            | Event::Lost
            | Event::Suppressed => {}
        }
        Ok(())
    }

    pub(super) fn owned_by(&self, node: &SpiffeId, key: &Hex<32>) -> Result<(), String> {
        let own = self
            .last
            .as_ref()
            .is_some_and(|last| last.node == *node && last.key == *key);
        own.then_some(())
            .ok_or_else(|| "it is a checkpoint of another log".to_owned())
    }

    pub(super) fn signed(&self, text: &[u8], signature: &Hex<64>) -> Result<(), String> {
        let part = signed_part(text).unwrap_or_default();
        let good = self
            .last
            .as_ref()
            .is_some_and(|last| signed(&last.key, part, signature));
        good.then_some(()).ok_or_else(|| {
            format!(
                "its signature does not fit: a line after {} was changed, or this one",
                self.proven
            )
        })
    }

    pub(super) fn marked(&mut self, checkpoint: &Checkpoint) {
        self.mark = Some(Marked {
            seq: checkpoint.seq,
            wall_ms: checkpoint.wall_ms,
        });
    }

    /// Takes a line over that was found good.
    pub(super) fn advance(&mut self, line: &Line, hash: Hash) {
        if let Some(last) = &mut self.last {
            last.seq = line.seq();
            last.hash = hash;
        }
        match line {
            Line::Header(_) | Line::Record(_) => {
                self.unsigned += 1;
                self.after_mark += 1;
            }
            Line::Batch(_) => {
                self.prove(line.seq());
                self.after_mark += 1;
            }
            Line::Checkpoint(_) => {
                self.prove(line.seq());
                self.after_mark = 0;
            }
        }
    }

    fn prove(&mut self, seq: u64) {
        self.unsigned = 0;
        self.proven = seq;
        self.pruned = self.pruned.max(self.pruned_unsigned);
    }

    /// At the end: whether a log that does not begin with line 1 says why.
    pub(super) fn start(&self) -> Result<(), String> {
        match self.missing_before {
            Some(first) if first > self.pruned.saturating_add(1) => Err(format!(
                "the log begins with line {first}, and nothing in it says that what was before was removed"
            )),
            Some(_) | None => Ok(()),
        }
    }

    pub(super) fn tell(self, report: &mut Report) {
        report.node = self.node().cloned();
        report.key = self.last.as_ref().map(|last| last.key);
        report.vouchers = self.vouchers;
        report.last = self.last.map_or(0, |last| last.seq);
        report.proven = self.proven;
        report.unsigned = self.unsigned;
        report.mark = self.mark;
        report.after_mark = self.after_mark;
        report.pruned = self.missing_before.map_or(0, |first| first - 1);
    }
}

/// Checks that the SVID in a header signed it and, if there is a bundle, that the SVID was the
/// node's at that time.
pub(super) fn voucher(
    header: &Header,
    part: &[u8],
    bundle: Option<&TrustBundle>,
) -> Result<Voucher, String> {
    let chain: Vec<CertificateDer<'_>> = header
        .certificates
        .iter()
        .map(|certificate| CertificateDer::from(certificate.0.as_slice()))
        .collect();
    let leaf = chain.first().ok_or("it has no certificate")?;
    verify_statement(leaf, HEADER_CONTEXT, part, &header.signature)
        .map_err(|error| format!("its signature is not by the certificate in it: {error}"))?;
    if let Some(bundle) = bundle {
        let at = UnixTime::since_unix_epoch(Duration::from_millis(header.wall_ms));
        let expect = Expect {
            id: Some(header.node.clone()),
            purpose: Some(Purpose::NodeAgent),
            node: None,
            usage: Usage::Either,
        };
        verify(&chain, bundle, at, &expect)
            .map_err(|error| format!("its certificate was not the node's then: {error}"))?;
    }
    Ok(Voucher {
        segment: header.segment,
        certificate: Hash::of(leaf),
        checked: bundle.is_some(),
    })
}
