//! RFC 9261 exported authenticators: proof, inside one TLS connection, of a certificate that the
//! handshake did not show.
//!
//! Labels, transcript and messages are the RFC's, unchanged. What is fixed here: every authenticator
//! answers a request with 32 bytes of context; a request asks for ECDSA P-256 or Ed25519 and for
//! nothing else; certificate entries bear no extensions.
//!
//! The verifier checks the Finished MAC first. It costs a hash, and only this channel's peer can
//! make it, so nobody else can make the verifier parse certificates.

use std::fmt;

use aws_lc_rs::hmac;
use rustls::SignatureScheme;
use rustls_pki_types::{CertificateDer, UnixTime};
use webpki::EndEntityCert;
use zeroize::Zeroizing;

pub use super::exporter::Role;
use super::exporter::{ChannelSecrets, ExportError, SuiteHash};
use super::messages::{
    CERTIFICATE_VERIFY, Certificate, CertificateVerify, FINISHED, Message, certificate,
    certificate_request, certificate_verify, message,
};
use crate::bundle::TrustBundle;
use crate::svid::X509Svid;
use crate::x509::verify::{Expect, VerifiedSvid, VerifyError};

/// The largest authenticator, in bytes.
pub const MAX_LENGTH: usize = 40_000;

/// The two exporter values on which the authenticators of one role on one channel hang (RFC 9261,
/// section 5.1).
pub struct Secrets {
    hash: SuiteHash,
    prover: Role,
    handshake_context: Zeroizing<Vec<u8>>,
    finished_key: hmac::Key,
}

impl Secrets {
    /// For authenticators made by the end that is `prover`, on `channel`.
    ///
    /// # Errors
    /// As [`ChannelSecrets::export`].
    pub fn from_channel(channel: &dyn ChannelSecrets, prover: Role) -> Result<Self, ExportError> {
        let (context_label, key_label): (&[u8], &[u8]) = match prover {
            Role::Client => (
                b"EXPORTER-client authenticator handshake context",
                b"EXPORTER-client authenticator finished key",
            ),
            Role::Server => (
                b"EXPORTER-server authenticator handshake context",
                b"EXPORTER-server authenticator finished key",
            ),
        };
        let hash = channel.suite_hash()?;
        let mut handshake_context = Zeroizing::new(vec![0; hash.length()]);
        channel.export(context_label, None, &mut handshake_context)?;
        let mut finished_key = Zeroizing::new(vec![0; hash.length()]);
        channel.export(key_label, None, &mut finished_key)?;
        Ok(Self {
            hash,
            prover,
            handshake_context,
            finished_key: hash.hmac(&finished_key),
        })
    }

    /// Whose authenticators these secrets make and verify.
    pub fn prover(&self) -> Role {
        self.prover
    }

    fn transcript(&self, request: &Request, messages: &[&[u8]]) -> Vec<u8> {
        let request = request.encode(self.prover);
        let mut parts: Vec<&[u8]> = vec![&self.handshake_context, &request];
        parts.extend(messages);
        self.hash.digest(&parts).as_ref().to_vec()
    }
}

impl fmt::Debug for Secrets {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Secrets({:?}, {:?})", self.prover, self.hash)
    }
}

/// An authenticator request: 32 bytes that the verifier chose and never uses again.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Request {
    /// The `certificate_request_context`.
    pub context: [u8; 32],
}

impl Request {
    /// The message of RFC 9261 section 4 that asks `prover` for an authenticator: CertificateRequest
    /// to a client, ClientCertificateRequest to a server. Both ends make it from the context.
    pub fn encode(&self, prover: Role) -> Vec<u8> {
        certificate_request(prover, &self.context, &crate::svid::SCHEMES)
    }
}

/// Proves `svid` in answer to `request`.
///
/// # Errors
/// When signing fails, or the SVID's chain is too long for an authenticator.
pub fn create(
    secrets: &Secrets,
    request: &Request,
    svid: &X509Svid,
) -> Result<Vec<u8>, AuthenticatorError> {
    let certificate = certificate(&request.context, svid.chain());
    let to_sign = signature_input(&secrets.transcript(request, &[&certificate]));
    let signature = svid
        .key()
        .sign(&to_sign)
        .map_err(|_| AuthenticatorError::Create("AWS-LC cannot sign"))?;
    let verify = certificate_verify(svid.key().scheme(), &signature);
    let finished = finished(secrets, request, &[&certificate, &verify]);

    let authenticator = [certificate, verify, finished].concat();
    if authenticator.len() > MAX_LENGTH {
        return Err(AuthenticatorError::Create("certificate chain is too long"));
    }
    Ok(authenticator)
}

/// Declines `request` by the empty authenticator of RFC 9261 section 6: a Finished alone, over a
/// Certificate without entries. It proves that this end declined, and nothing else.
pub fn refuse(secrets: &Secrets, request: &Request) -> Vec<u8> {
    finished(secrets, request, &[&certificate(&request.context, &[])])
}

/// Checks an authenticator: Finished, chain, SPIFFE ID, node binding, purpose, signature, in this
/// order.
///
/// # Errors
/// Names the first check that fails. An empty authenticator, and no bytes at all, are
/// [`AuthenticatorError::Refused`].
pub fn verify(
    secrets: &Secrets,
    request: &Request,
    authenticator: &[u8],
    bundle: &TrustBundle,
    now: UnixTime,
    expect: &Expect,
) -> Result<VerifiedSvid, AuthenticatorError> {
    let (certificate, verify) = match split(authenticator)? {
        Parts::Nothing => return Err(AuthenticatorError::Refused),
        Parts::Empty { finished } => {
            let certificate = certificate(&request.context, &[]);
            check_finished(secrets, request, &[&certificate], finished.body)?;
            return Err(AuthenticatorError::Refused);
        }
        Parts::Full {
            certificate,
            verify,
            finished,
        } => {
            check_finished(
                secrets,
                request,
                &[certificate.whole, verify.whole],
                finished.body,
            )?;
            (certificate, verify)
        }
    };

    let body = Certificate::parse(certificate.body).ok_or(MALFORMED_CERTIFICATE)?;
    if body.context != request.context {
        return Err(AuthenticatorError::Malformed(
            "context is not the request's",
        ));
    }
    let svid = crate::x509::verify::verify(&body.chain, bundle, now, expect)?;

    let body_verify = CertificateVerify::parse(verify.body).ok_or(MALFORMED_VERIFY)?;
    let signed = signature_input(&secrets.transcript(request, &[certificate.whole]));
    check_signature(&body.chain, &body_verify, &signed)?;
    Ok(svid)
}

/// Why an authenticator proves nothing.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum AuthenticatorError {
    /// The peer declined.
    #[error("peer declined to authenticate")]
    Refused,
    /// It does not parse.
    #[error("authenticator is malformed: {0}")]
    Malformed(&'static str),
    /// The MAC is wrong: for another channel, role or request, or altered on the way.
    #[error("authenticator was not made for this channel, role and request")]
    Finished,
    /// The certificate chain is not believed.
    #[error("authenticator's certificate is refused: {0}")]
    Certificate(#[from] VerifyError),
    /// The certificate's key did not sign it.
    #[error("authenticator is not signed by the key of its certificate")]
    Signature,
    /// This end could not make one.
    #[error("authenticator cannot be made: {0}")]
    Create(&'static str),
}

const MALFORMED_CERTIFICATE: AuthenticatorError =
    AuthenticatorError::Malformed("Certificate message");
const MALFORMED_VERIFY: AuthenticatorError =
    AuthenticatorError::Malformed("CertificateVerify message");

/// An authenticator by its messages.
enum Parts<'a> {
    Nothing,
    Empty {
        finished: Message<'a>,
    },
    Full {
        certificate: Message<'a>,
        verify: Message<'a>,
        finished: Message<'a>,
    },
}

fn split(authenticator: &[u8]) -> Result<Parts<'_>, AuthenticatorError> {
    if authenticator.is_empty() {
        return Ok(Parts::Nothing);
    }
    if authenticator.len() > MAX_LENGTH {
        return Err(AuthenticatorError::Malformed("too long"));
    }
    let next = |input| Message::split(input).ok_or(AuthenticatorError::Malformed("cut short"));
    let (first, rest) = next(authenticator)?;
    if first.kind == FINISHED && rest.is_empty() {
        return Ok(Parts::Empty { finished: first });
    }
    let (second, rest) = next(rest)?;
    let (third, rest) = next(rest)?;
    let kinds = [first.kind, second.kind, third.kind];
    if kinds != [super::messages::CERTIFICATE, CERTIFICATE_VERIFY, FINISHED] || !rest.is_empty() {
        return Err(AuthenticatorError::Malformed("messages are out of order"));
    }
    Ok(Parts::Full {
        certificate: first,
        verify: second,
        finished: third,
    })
}

fn finished(secrets: &Secrets, request: &Request, messages: &[&[u8]]) -> Vec<u8> {
    let tag = hmac::sign(
        &secrets.finished_key,
        &secrets.transcript(request, messages),
    );
    message(FINISHED, tag.as_ref())
}

fn check_finished(
    secrets: &Secrets,
    request: &Request,
    messages: &[&[u8]],
    tag: &[u8],
) -> Result<(), AuthenticatorError> {
    hmac::verify(
        &secrets.finished_key,
        &secrets.transcript(request, messages),
        tag,
    )
    .map_err(|_| AuthenticatorError::Finished)
}

fn check_signature(
    chain: &[CertificateDer<'_>],
    verify: &CertificateVerify<'_>,
    signed: &[u8],
) -> Result<(), AuthenticatorError> {
    let algorithm = if verify.scheme == SignatureScheme::ECDSA_NISTP256_SHA256 {
        webpki::aws_lc_rs::ECDSA_P256_SHA256
    } else if verify.scheme == SignatureScheme::ED25519 {
        webpki::aws_lc_rs::ED25519
    } else {
        return Err(AuthenticatorError::Malformed(
            "signature scheme was not asked for",
        ));
    };
    let leaf = chain.first().ok_or(MALFORMED_CERTIFICATE)?;
    let leaf = EndEntityCert::try_from(leaf).map_err(|_| MALFORMED_CERTIFICATE)?;
    leaf.verify_signature(algorithm, signed, verify.signature)
        .map_err(|_| AuthenticatorError::Signature)
}

/// RFC 9261 section 5.2.2: RFC 8446's construction under a context string of its own, so that no
/// handshake signature is an authenticator and the other way round.
fn signature_input(transcript: &[u8]) -> Vec<u8> {
    [
        [0x20; 64].as_slice(),
        b"Exported Authenticator",
        &[0],
        transcript,
    ]
    .concat()
}

#[cfg(test)]
mod tests;
