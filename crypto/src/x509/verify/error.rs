use super::{MAX_CERTIFICATE_LENGTH, MAX_CHAIN_LENGTH};
use crate::spiffe_id::{SpiffeId, SpiffeIdError, TrustDomain};
use crate::x509::profile::Purpose;

/// Why a chain is not believed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum VerifyError {
    /// No certificate at all.
    #[error("no certificate was presented")]
    NoCertificate,
    /// More than [`MAX_CHAIN_LENGTH`] certificates.
    #[error("chain has {length} certificates; at most {MAX_CHAIN_LENGTH} are allowed")]
    ChainTooLong {
        /// How many there are.
        length: usize,
    },
    /// A certificate of more than [`MAX_CERTIFICATE_LENGTH`] bytes.
    #[error("a certificate has {length} bytes; at most {MAX_CERTIFICATE_LENGTH} are allowed")]
    CertificateTooLong {
        /// Its length in bytes.
        length: usize,
    },
    /// A certificate does not parse.
    #[error("certificate {index} of the chain does not parse: {reason}")]
    Malformed {
        /// Its place in the chain, from 0.
        index: usize,
        /// What the parser says.
        reason: String,
    },
    /// The leaf is a signing certificate (X509-SVID, section 5.2).
    #[error("leaf is a signing certificate (CA is true)")]
    LeafIsAuthority,
    /// The leaf's key usage breaks X509-SVID section 4.3.
    #[error("leaf's key usage is wrong: {0}")]
    KeyUsage(&'static str),
    /// The leaf's extended key usage breaks X509-SVID section 4.4.
    #[error("leaf's extended key usage lacks server or client authentication")]
    ExtendedKeyUsage,
    /// The leaf's key is neither ECDSA P-256 nor Ed25519.
    #[error("leaf's key is neither ECDSA P-256 nor Ed25519")]
    UnsupportedKey,
    /// Not exactly one URI name (X509-SVID, section 2).
    #[error("leaf has {0} URI names; an SVID has exactly one")]
    UriNames(usize),
    /// The subject is empty and the names are not critical (X509-SVID, section 3.1).
    #[error("leaf has no subject, and its alternative names are not marked critical")]
    NamesNotCritical,
    /// The URI is no SPIFFE ID.
    #[error("leaf's URI name is no SPIFFE ID: {0}")]
    BadId(#[from] SpiffeIdError),
    /// The SPIFFE ID has no path (X509-SVID, section 3.1).
    #[error("leaf's SPIFFE ID {0} is that of a trust domain, with no path")]
    NoPath(SpiffeId),
    /// No purpose, or a broken one.
    #[error("leaf's purpose extension is {0}")]
    PurposeExtension(&'static str),
    /// The purpose does not go with the shape of the ID.
    #[error("leaf of {id} has the purpose {purpose}, which such an ID cannot have")]
    PurposeDoesNotFit {
        /// The leaf's ID.
        id: SpiffeId,
        /// The leaf's purpose.
        purpose: Purpose,
    },
    /// No binding, a broken one, or one where none belongs.
    #[error("leaf's binding extension is {0}")]
    BindingExtension(&'static str),
    /// The leaf is of another trust domain than the bundle.
    #[error("{found} is not of trust domain {expected}")]
    ForeignTrustDomain {
        /// The leaf's ID.
        found: SpiffeId,
        /// The bundle's trust domain.
        expected: TrustDomain,
    },
    /// A certificate after the first is no signing certificate of the trust domain.
    #[error("certificate {index} of the chain is no signing certificate: {reason}")]
    Intermediate {
        /// Its place in the chain, from 1.
        index: usize,
        /// Which rule it breaks.
        reason: &'static str,
    },
    /// No path leads to an authority of the bundle.
    #[error("no authority of the trust bundle stands behind the certificate")]
    UnknownIssuer,
    /// A certificate is not signed by who it says.
    #[error("a signature in the chain is wrong")]
    BadSignature,
    /// A certificate's time is over.
    #[error("a certificate expired at {not_after} (Unix seconds), and it is {now}")]
    Expired {
        /// End of validity, in Unix seconds.
        not_after: u64,
        /// The present, in Unix seconds.
        now: u64,
    },
    /// A certificate's time has not come.
    #[error("a certificate is valid from {not_before} (Unix seconds), and it is {now}; clocks?")]
    NotYetValid {
        /// Start of validity, in Unix seconds.
        not_before: u64,
        /// The present, in Unix seconds.
        now: u64,
    },
    /// Path validation failed otherwise.
    #[error("certificate path is refused: {0}")]
    Path(String),
    /// Somebody else than expected.
    #[error("peer is {found}, not {expected}")]
    WrongId {
        /// The leaf's ID.
        found: SpiffeId,
        /// Who was expected.
        expected: SpiffeId,
    },
    /// Bound to another node, or to none.
    #[error("certificate of {id} is not bound to {node}")]
    WrongNode {
        /// The leaf's ID.
        id: SpiffeId,
        /// Where it was presented.
        node: SpiffeId,
    },
    /// For another use.
    #[error("certificate of {id} is for the purpose {found}, not {expected}")]
    WrongPurpose {
        /// The leaf's ID.
        id: SpiffeId,
        /// Its purpose.
        found: Purpose,
        /// The purpose that was expected.
        expected: Purpose,
    },
}
