//! What rustls asks during a handshake, answered by [`crate::x509::verify`].

use std::sync::Arc;

use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{WebPkiSupportedAlgorithms, verify_tls13_signature};
use rustls::server::danger::{ClientCertVerified, ClientCertVerifier};
use rustls::{
    CertificateError, DigitallySignedStruct, DistinguishedName, Error, OtherError,
    PeerIncompatible, SignatureScheme,
};
use rustls_pki_types::{CertificateDer, ServerName, UnixTime};
use webpki::aws_lc_rs as algorithm;

use super::TrustStore;
use crate::spiffe_id::SpiffeId;
use crate::time::TimeSource;
use crate::x509::profile::Purpose;
use crate::x509::verify::{ALGORITHMS, Expect, Usage, VerifyError, verify};

/// Whom a TLS peer must prove to be.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ExpectPeer {
    /// Exactly this identity.
    Id(SpiffeId),
    /// Anybody of the trust domain with a certificate for this purpose.
    Purpose(Purpose),
}

impl ExpectPeer {
    fn with_usage(self, usage: Usage) -> Expect {
        let any = Expect::any(usage);
        match self {
            Self::Id(id) => Expect {
                id: Some(id),
                ..any
            },
            Self::Purpose(purpose) => Expect {
                purpose: Some(purpose),
                ..any
            },
        }
    }
}

/// How handshakes are signed: by the two kinds of key an SVID may have.
pub(super) static HANDSHAKE_ALGORITHMS: WebPkiSupportedAlgorithms = WebPkiSupportedAlgorithms {
    all: ALGORITHMS,
    mapping: &[
        (
            SignatureScheme::ECDSA_NISTP256_SHA256,
            &[algorithm::ECDSA_P256_SHA256],
        ),
        (SignatureScheme::ED25519, &[algorithm::ED25519]),
    ],
};

/// Verifies the peer of a handshake against what the trust store holds at that moment, at the time of
/// the anchored clock. The time that rustls passes comes from the same clock, and is not used so that
/// no other configuration can put the machine's clock in its place.
#[derive(Debug)]
pub(super) struct PeerVerifier {
    trust: TrustStore,
    time: TimeSource,
    expect: Expect,
    certificate_required: bool,
}

impl PeerVerifier {
    pub(super) fn of_server(trust: TrustStore, time: TimeSource, expect: ExpectPeer) -> Self {
        let expect = expect.with_usage(Usage::Server);
        Self {
            trust,
            time,
            expect,
            certificate_required: true,
        }
    }

    pub(super) fn of_client(
        trust: TrustStore,
        time: TimeSource,
        expect: ExpectPeer,
        certificate_required: bool,
    ) -> Self {
        let expect = expect.with_usage(Usage::Client);
        Self {
            trust,
            time,
            expect,
            certificate_required,
        }
    }

    fn verify(
        &self,
        leaf: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
    ) -> Result<(), Error> {
        let mut chain = Vec::with_capacity(1 + intermediates.len());
        chain.push(leaf.clone());
        chain.extend_from_slice(intermediates);
        let bundle = self.trust.load();
        match verify(&chain, &bundle, self.time.now().wall, &self.expect) {
            Ok(_) => Ok(()),
            Err(error) => Err(tls_error(error)),
        }
    }
}

impl ServerCertVerifier for PeerVerifier {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        _server_name: &ServerName<'_>,
        _ocsp_response: &[u8],
        _now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        self.verify(end_entity, intermediates)?;
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        _message: &[u8],
        _certificate: &CertificateDer<'_>,
        _signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        Err(tls12_refused())
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        verify_tls13_signature(message, certificate, signature, &HANDSHAKE_ALGORITHMS)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        HANDSHAKE_ALGORITHMS.supported_schemes()
    }
}

impl ClientCertVerifier for PeerVerifier {
    fn client_auth_mandatory(&self) -> bool {
        self.certificate_required
    }

    /// None: a client has one SVID, and need not be told which authorities are believed.
    fn root_hint_subjects(&self) -> &[DistinguishedName] {
        &[]
    }

    fn verify_client_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        _now: UnixTime,
    ) -> Result<ClientCertVerified, Error> {
        self.verify(end_entity, intermediates)?;
        Ok(ClientCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        _message: &[u8],
        _certificate: &CertificateDer<'_>,
        _signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        Err(tls12_refused())
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        verify_tls13_signature(message, certificate, signature, &HANDSHAKE_ALGORITHMS)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        HANDSHAKE_ALGORITHMS.supported_schemes()
    }
}

/// Keeps our own words, except where TLS has an alert of its own that tells the peer what to mend.
fn tls_error(error: VerifyError) -> Error {
    let certificate_error = match error {
        VerifyError::Expired { .. } => CertificateError::Expired,
        VerifyError::NotYetValid { .. } => CertificateError::NotValidYet,
        VerifyError::UnknownIssuer => CertificateError::UnknownIssuer,
        VerifyError::BadSignature => CertificateError::BadSignature,
        VerifyError::NoCertificate
        | VerifyError::ChainTooLong { .. }
        | VerifyError::CertificateTooLong { .. }
        | VerifyError::Malformed { .. }
        | VerifyError::LeafIsAuthority
        | VerifyError::KeyUsage(_)
        | VerifyError::ExtendedKeyUsage
        | VerifyError::UnsupportedKey
        | VerifyError::UriNames(_)
        | VerifyError::NamesNotCritical
        | VerifyError::BadId(_)
        | VerifyError::NoPath(_)
        | VerifyError::PurposeExtension(_)
        | VerifyError::PurposeDoesNotFit { .. }
        | VerifyError::BindingExtension(_)
        | VerifyError::ForeignTrustDomain { .. }
        | VerifyError::Intermediate { .. }
        | VerifyError::Path(_)
        | VerifyError::WrongId { .. }
        | VerifyError::WrongNode { .. }
        | VerifyError::WrongPurpose { .. } => CertificateError::Other(OtherError(Arc::new(error))),
    };
    Error::InvalidCertificate(certificate_error)
}

fn tls12_refused() -> Error {
    Error::PeerIncompatible(PeerIncompatible::ServerDoesNotSupportTls12Or13)
}
