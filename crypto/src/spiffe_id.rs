//! SPIFFE IDs and trust domains, to the letter of the SPIFFE-ID specification.
//!
//! There is one spelling of each ID: upper case in the trust domain, percent-encoding, empty or dot
//! segments and a trailing slash are refused, never normalised. Equality of text is equality of
//! identity.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

/// The longest SPIFFE ID, in bytes (SPIFFE-ID, section 2.3).
pub const MAX_ID_LENGTH: usize = 2048;
/// The longest trust domain name, in bytes (SPIFFE-ID, section 2.3).
pub const MAX_TRUST_DOMAIN_LENGTH: usize = 255;

const SCHEME: &str = "spiffe://";

/// The name of a trust domain, such as `example.org`.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct TrustDomain(String);

impl TrustDomain {
    /// Parses a bare name.
    ///
    /// # Errors
    /// Says which rule of SPIFFE-ID section 2.1 the name breaks.
    pub fn new(name: impl Into<String>) -> Result<Self, SpiffeIdError> {
        let name = name.into();
        check_trust_domain(&name)?;
        Ok(Self(name))
    }

    /// The name without scheme.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The trust domain's own SPIFFE ID, which has no path. Signing certificates carry it.
    pub fn id(&self) -> SpiffeId {
        SpiffeId {
            text: format!("{SCHEME}{}", self.0),
            trust_domain: self.clone(),
        }
    }
}

impl fmt::Display for TrustDomain {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl FromStr for TrustDomain {
    type Err = SpiffeIdError;

    fn from_str(name: &str) -> Result<Self, SpiffeIdError> {
        Self::new(name)
    }
}

impl TryFrom<String> for TrustDomain {
    type Error = SpiffeIdError;

    fn try_from(name: String) -> Result<Self, SpiffeIdError> {
        Self::new(name)
    }
}

impl From<TrustDomain> for String {
    fn from(trust_domain: TrustDomain) -> Self {
        trust_domain.0
    }
}

/// A SPIFFE ID, such as `spiffe://example.org/ns/shop/sa/frontend`.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct SpiffeId {
    text: String,
    trust_domain: TrustDomain,
}

impl SpiffeId {
    /// Parses `spiffe://<trust domain>[/<path>]`.
    ///
    /// # Errors
    /// Says which rule of SPIFFE-ID section 2 the text breaks.
    pub fn new(text: impl Into<String>) -> Result<Self, SpiffeIdError> {
        let text = text.into();
        if text.len() > MAX_ID_LENGTH {
            return Err(SpiffeIdError::TooLong { length: text.len() });
        }
        let rest = text.strip_prefix(SCHEME).ok_or(SpiffeIdError::Scheme)?;
        let (name, path) = rest.split_at(rest.find('/').unwrap_or(rest.len()));
        let trust_domain = TrustDomain::new(name)?;
        check_path(path)?;
        Ok(Self { text, trust_domain })
    }

    /// `spiffe://<trust domain>/ns/<namespace>/sa/<service account>`.
    ///
    /// # Errors
    /// When a name is not a single path segment, or the whole is too long.
    pub fn workload(
        trust_domain: &TrustDomain,
        namespace: &str,
        service_account: &str,
    ) -> Result<Self, SpiffeIdError> {
        Self::from_segments(trust_domain, &["ns", namespace, "sa", service_account])
    }

    /// `spiffe://<trust domain>/node/<uid>`.
    ///
    /// # Errors
    /// When the UID is not a single path segment, or the whole is too long.
    pub fn node(trust_domain: &TrustDomain, node_uid: &str) -> Result<Self, SpiffeIdError> {
        Self::from_segments(trust_domain, &["node", node_uid])
    }

    /// `spiffe://<trust domain>/signet/identity`.
    pub fn identity_service(trust_domain: &TrustDomain) -> Self {
        let text = format!("{SCHEME}{trust_domain}/signet/identity");
        Self {
            text,
            trust_domain: trust_domain.clone(),
        }
    }

    /// Each name must be one segment: a name with a slash in it would be somebody else's identity.
    fn from_segments(td: &TrustDomain, segments: &[&str]) -> Result<Self, SpiffeIdError> {
        for segment in segments {
            check_segment(segment)?;
        }
        Self::new(format!("{SCHEME}{td}/{}", segments.join("/")))
    }

    /// The trust domain that vouches for this ID.
    pub fn trust_domain(&self) -> &TrustDomain {
        &self.trust_domain
    }

    /// The path with its leading slash, or nothing for a trust domain's own ID.
    pub fn path(&self) -> &str {
        &self.text[SCHEME.len() + self.trust_domain.0.len()..]
    }

    /// The whole ID.
    pub fn as_str(&self) -> &str {
        &self.text
    }

    /// What the path says this is, by the shapes Signet issues.
    pub fn kind(&self) -> IdKind<'_> {
        let segments: Vec<&str> = self.path().split('/').skip(1).collect();
        match segments.as_slice() {
            ["ns", namespace, "sa", service_account] => IdKind::Workload {
                namespace,
                service_account,
            },
            ["node", uid] => IdKind::Node { uid },
            ["signet", "identity"] => IdKind::IdentityService,
            [] => IdKind::TrustDomain,
            _ => IdKind::Other,
        }
    }
}

/// The shapes of ID that Signet issues.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum IdKind<'a> {
    /// `/ns/<namespace>/sa/<service account>`
    Workload {
        /// Kubernetes namespace.
        namespace: &'a str,
        /// Kubernetes service account.
        service_account: &'a str,
    },
    /// `/node/<uid>`
    Node {
        /// The Node object's UID.
        uid: &'a str,
    },
    /// `/signet/identity`
    IdentityService,
    /// No path.
    TrustDomain,
    /// Valid, but none of ours.
    Other,
}

impl fmt::Display for SpiffeId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

impl fmt::Debug for SpiffeId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "SpiffeId({})", self.text)
    }
}

impl FromStr for SpiffeId {
    type Err = SpiffeIdError;

    fn from_str(text: &str) -> Result<Self, SpiffeIdError> {
        Self::new(text)
    }
}

impl TryFrom<String> for SpiffeId {
    type Error = SpiffeIdError;

    fn try_from(text: String) -> Result<Self, SpiffeIdError> {
        Self::new(text)
    }
}

impl From<SpiffeId> for String {
    fn from(id: SpiffeId) -> Self {
        id.text
    }
}

/// Why some text is not a SPIFFE ID, or not a trust domain name.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum SpiffeIdError {
    /// Longer than 2,048 bytes.
    #[error("SPIFFE ID is {length} bytes long; at most {MAX_ID_LENGTH} are allowed")]
    TooLong {
        /// Its length in bytes.
        length: usize,
    },
    /// Does not begin with `spiffe://`.
    #[error("SPIFFE ID must begin with \"spiffe://\", in lower case")]
    Scheme,
    /// No trust domain name.
    #[error("trust domain name is empty")]
    EmptyTrustDomain,
    /// Name longer than 255 bytes.
    #[error(
        "trust domain name is {length} bytes long; at most {MAX_TRUST_DOMAIN_LENGTH} are allowed"
    )]
    TrustDomainTooLong {
        /// Its length in bytes.
        length: usize,
    },
    /// A character outside `[a-z0-9._-]`, which includes `:` of a port and `@` of user information.
    #[error("trust domain name has {0:?}; only a-z, 0-9, '.', '-' and '_' are allowed")]
    TrustDomainCharacter(char),
    /// Two slashes in a row, or one at the end.
    #[error("path has an empty segment: no double slash and no trailing slash is allowed")]
    EmptySegment,
    /// A segment `.` or `..`.
    #[error("path has the segment {0:?}; relative segments are not allowed")]
    DotSegment(String),
    /// A character outside `[a-zA-Z0-9._-]`, which includes `%`, `?` and `#`.
    #[error("path has {0:?}; only a-z, A-Z, 0-9, '.', '-' and '_' are allowed in a segment")]
    PathCharacter(char),
}

fn check_trust_domain(name: &str) -> Result<(), SpiffeIdError> {
    if name.is_empty() {
        return Err(SpiffeIdError::EmptyTrustDomain);
    }
    if name.len() > MAX_TRUST_DOMAIN_LENGTH {
        return Err(SpiffeIdError::TrustDomainTooLong { length: name.len() });
    }
    let allowed = |c: &char| matches!(c, 'a'..='z' | '0'..='9' | '.' | '-' | '_');
    match name.chars().find(|c| !allowed(c)) {
        Some(c) => Err(SpiffeIdError::TrustDomainCharacter(c)),
        None => Ok(()),
    }
}

/// `path` is empty or begins with a slash.
fn check_path(path: &str) -> Result<(), SpiffeIdError> {
    path.split('/').skip(1).try_for_each(check_segment)
}

fn check_segment(segment: &str) -> Result<(), SpiffeIdError> {
    if segment.is_empty() {
        return Err(SpiffeIdError::EmptySegment);
    }
    if segment == "." || segment == ".." {
        return Err(SpiffeIdError::DotSegment(segment.to_owned()));
    }
    let allowed = |c: &char| c.is_ascii_alphanumeric() || matches!(c, '.' | '-' | '_');
    match segment.chars().find(|c| !allowed(c)) {
        Some(c) => Err(SpiffeIdError::PathCharacter(c)),
        None => Ok(()),
    }
}

#[cfg(test)]
mod tests;
