use crate::spiffe_id::{SpiffeId, TrustDomain};
use crate::svid::SvidError;
use crate::x509::profile::{MAX_UID_LENGTH, Purpose};
use crate::x509::template::TemplateError;

/// Why a certificate is not made, or an authority not taken from storage.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum BuildError {
    /// The key is of the wrong kind, or AWS-LC could not make one or sign.
    #[error(transparent)]
    Key(#[from] SvidError),
    /// A date after the year 9999.
    #[error("validity passes the year 9999")]
    Date,
    /// Ends before it begins.
    #[error("certificate for {0} would end before it begins")]
    EmptyValidity(SpiffeId),
    /// Would be valid for longer than who signs it.
    #[error(
        "certificate would be valid until {wanted} (Unix seconds), its authority only until \
         {authority}; prepare the next authority earlier"
    )]
    OutlivesAuthority {
        /// Wanted end, in Unix seconds.
        wanted: u64,
        /// The authority's end, in Unix seconds.
        authority: u64,
    },
    /// An ID of another trust domain.
    #[error("authority of {authority} cannot certify {id}")]
    ForeignTrustDomain {
        /// The wanted ID.
        id: SpiffeId,
        /// The authority's trust domain.
        authority: TrustDomain,
    },
    /// The ID is not of the shape this purpose has.
    #[error("{id} cannot be certified for the purpose {purpose}")]
    PurposeDoesNotFit {
        /// The wanted purpose.
        purpose: Purpose,
        /// The wanted ID.
        id: SpiffeId,
    },
    /// Agent-plane certificates are bound to a node.
    #[error("agent-plane certificate for {0} needs a node binding")]
    BindingMissing(SpiffeId),
    /// Other certificates are not.
    #[error("certificate for the purpose {0} takes no node binding")]
    BindingUnexpected(Purpose),
    /// A UID that is empty or too long.
    #[error("UID {0:?} in the binding must have 1 to {MAX_UID_LENGTH} bytes")]
    BindingUid(String),
    /// The stored certificate does not parse.
    #[error("stored authority certificate does not parse: {0}")]
    Malformed(String),
    /// The stored certificate is no authority of the wanted kind.
    #[error("stored certificate is not such an authority: {0}")]
    NotSuchAnAuthority(&'static str),
    /// Certificate and key do not belong together.
    #[error("stored authority certificate is for another private key")]
    KeyMismatch,
}

impl From<TemplateError> for BuildError {
    fn from(error: TemplateError) -> Self {
        match error {
            TemplateError::Date => Self::Date,
            TemplateError::Sign(error) => Self::Key(error),
        }
    }
}
