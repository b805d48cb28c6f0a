//! The TLS handshake messages that exported authenticators are made of (RFC 8446 section 4, RFC 9261
//! sections 4 and 5), written and read.

use rustls::SignatureScheme;
use rustls_pki_types::CertificateDer;

use super::exporter::Role;
use crate::x509::verify::MAX_CHAIN_LENGTH;

pub(super) const CERTIFICATE: u8 = 11;
const CERTIFICATE_REQUEST: u8 = 13;
pub(super) const CERTIFICATE_VERIFY: u8 = 15;
const CLIENT_CERTIFICATE_REQUEST: u8 = 17;
pub(super) const FINISHED: u8 = 20;
const SIGNATURE_ALGORITHMS: u16 = 13;

/// `type | u24 length | body`
pub(super) fn message(kind: u8, body: &[u8]) -> Vec<u8> {
    [&[kind], u24(body.len()).as_slice(), body].concat()
}

/// CertificateRequest for a client, ClientCertificateRequest for a server: context, and the
/// signature algorithms as the only extension.
pub(super) fn certificate_request(
    prover: Role,
    context: &[u8; 32],
    schemes: &[SignatureScheme],
) -> Vec<u8> {
    let kind = match prover {
        Role::Client => CERTIFICATE_REQUEST,
        Role::Server => CLIENT_CERTIFICATE_REQUEST,
    };
    let schemes: Vec<u8> = schemes
        .iter()
        .flat_map(|scheme| u16::from(*scheme).to_be_bytes())
        .collect();
    let list = with_u16_length(&with_u16_length(&schemes));
    let extension = [SIGNATURE_ALGORITHMS.to_be_bytes().as_slice(), &list].concat();
    let extensions = with_u16_length(&extension);
    message(kind, &[with_u8_length(context), extensions].concat())
}

/// Certificate: context, and entries without extensions.
pub(super) fn certificate(context: &[u8; 32], chain: &[CertificateDer<'_>]) -> Vec<u8> {
    let mut entries = Vec::new();
    for der in chain {
        entries.extend_from_slice(&u24(der.len()));
        entries.extend_from_slice(der);
        entries.extend_from_slice(&[0, 0]);
    }
    let list = [u24(entries.len()).as_slice(), &entries].concat();
    message(CERTIFICATE, &[with_u8_length(context), list].concat())
}

/// CertificateVerify.
pub(super) fn certificate_verify(scheme: SignatureScheme, signature: &[u8]) -> Vec<u8> {
    let scheme = u16::from(scheme).to_be_bytes().to_vec();
    message(
        CERTIFICATE_VERIFY,
        &[scheme, with_u16_length(signature)].concat(),
    )
}

/// One message, as it was received.
pub(super) struct Message<'a> {
    pub(super) kind: u8,
    pub(super) body: &'a [u8],
    /// With its header, as the transcript takes it.
    pub(super) whole: &'a [u8],
}

impl<'a> Message<'a> {
    /// The first message, and what follows it.
    pub(super) fn split(input: &'a [u8]) -> Option<(Self, &'a [u8])> {
        let (kind, rest) = input.split_first()?;
        let (body, rest) = take_u24(rest)?;
        let whole = &input[..input.len() - rest.len()];
        Some((
            Self {
                kind: *kind,
                body,
                whole,
            },
            rest,
        ))
    }
}

/// The body of a Certificate message.
pub(super) struct Certificate<'a> {
    pub(super) context: &'a [u8],
    pub(super) chain: Vec<CertificateDer<'a>>,
}

impl<'a> Certificate<'a> {
    pub(super) fn parse(body: &'a [u8]) -> Option<Self> {
        let (length, rest) = body.split_first()?;
        let (context, rest) = rest.split_at_checked(usize::from(*length))?;
        let (mut entries, rest) = take_u24(rest)?;
        if !rest.is_empty() {
            return None;
        }
        let mut chain = Vec::new();
        while !entries.is_empty() {
            let (der, rest) = take_u24(entries)?;
            let (extensions, rest) = take_u16(rest)?;
            // No extension was asked for (RFC 8446, section 4.4.2).
            if !extensions.is_empty() || chain.len() == MAX_CHAIN_LENGTH {
                return None;
            }
            chain.push(CertificateDer::from(der));
            entries = rest;
        }
        Some(Self { context, chain })
    }
}

/// The body of a CertificateVerify message.
pub(super) struct CertificateVerify<'a> {
    pub(super) scheme: SignatureScheme,
    pub(super) signature: &'a [u8],
}

impl<'a> CertificateVerify<'a> {
    pub(super) fn parse(body: &'a [u8]) -> Option<Self> {
        let (scheme, rest) = body.split_first_chunk::<2>()?;
        let (signature, rest) = take_u16(rest)?;
        let scheme = SignatureScheme::from(u16::from_be_bytes(*scheme));
        rest.is_empty().then_some(Self { scheme, signature })
    }
}

/// Lengths here are those of certificates and of lists of a few: far below 2^24.
fn u24(length: usize) -> [u8; 3] {
    [(length >> 16) as u8, (length >> 8) as u8, length as u8]
}

fn with_u8_length(bytes: &[u8; 32]) -> Vec<u8> {
    [&[32], bytes.as_slice()].concat()
}

/// For signatures and the few extensions above: far below 2^16.
fn with_u16_length(bytes: &[u8]) -> Vec<u8> {
    [&(bytes.len() as u16).to_be_bytes(), bytes].concat()
}

fn take_u24(input: &[u8]) -> Option<(&[u8], &[u8])> {
    let ([high, middle, low], rest) = input.split_first_chunk::<3>()?;
    rest.split_at_checked(usize::from(*high) << 16 | usize::from(*middle) << 8 | usize::from(*low))
}

fn take_u16(input: &[u8]) -> Option<(&[u8], &[u8])> {
    let (length, rest) = input.split_first_chunk::<2>()?;
    rest.split_at_checked(usize::from(u16::from_be_bytes(*length)))
}
