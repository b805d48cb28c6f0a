//! Reading Signet's own extensions. DER in one form only: no other length, no trailing byte.

use std::str;

use x509_parser::asn1_rs::Oid;
use x509_parser::prelude::X509Certificate;

use super::profile::{BINDING_OID, Binding, MAX_UID_LENGTH, PURPOSE_OID, Purpose};
use super::verify::VerifyError;

/// The purpose of a leaf.
pub(crate) fn purpose(leaf: &X509Certificate<'_>) -> Result<Purpose, VerifyError> {
    let refuse = VerifyError::PurposeExtension;
    match value(leaf, &PURPOSE_OID) {
        None => Err(refuse("missing")),
        Some([0x0a, 1, number]) => Purpose::from_number(*number).ok_or(refuse("unknown")),
        Some(_) => Err(refuse("malformed")),
    }
}

/// The binding of a leaf, if it has one.
pub(crate) fn binding(leaf: &X509Certificate<'_>) -> Result<Option<Binding>, VerifyError> {
    let Some(value) = value(leaf, &BINDING_OID) else {
        return Ok(None);
    };
    match read_binding(value) {
        Some(binding) => Ok(Some(binding)),
        None => Err(VerifyError::BindingExtension("malformed")),
    }
}

/// Extensions are known to be unique by now.
fn value<'a>(leaf: &'a X509Certificate<'_>, oid: &[u8]) -> Option<&'a [u8]> {
    let oid = Oid::new(oid.into());
    leaf.extensions()
        .iter()
        .find(|extension| extension.oid == oid)
        .map(|found| found.value)
}

fn read_binding(value: &[u8]) -> Option<Binding> {
    let (fields, rest) = read(value, 0x30)?;
    let (node, fields) = read(fields, 0x04)?;
    let (namespace_uid, fields) = read(fields, 0x0c)?;
    let (service_account_uid, fields) = read(fields, 0x0c)?;
    if !rest.is_empty() || !fields.is_empty() {
        return None;
    }
    Some(Binding {
        node: node.try_into().ok()?,
        namespace_uid: uid(namespace_uid)?,
        service_account_uid: uid(service_account_uid)?,
    })
}

fn uid(bytes: &[u8]) -> Option<String> {
    let allowed = (1..=MAX_UID_LENGTH).contains(&bytes.len());
    str::from_utf8(bytes)
        .ok()
        .filter(|_| allowed)
        .map(str::to_owned)
}

/// The content of a value with this tag, and what follows it.
fn read(input: &[u8], tag: u8) -> Option<(&[u8], &[u8])> {
    let (found, input) = input.split_first()?;
    let (first, input) = input.split_first()?;
    if *found != tag {
        return None;
    }
    match *first {
        0..=0x7f => input.split_at_checked(usize::from(*first)),
        0x81 => {
            let (length, input) = input.split_first()?;
            if *length < 0x80 {
                None
            } else {
                input.split_at_checked(usize::from(*length))
            }
        }
        0x82 => {
            let (length, input) = input.split_first_chunk::<2>()?;
            let length = u16::from_be_bytes(*length);
            if length < 0x100 {
                None
            } else {
                input.split_at_checked(usize::from(length))
            }
        }
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::x509::build::binding_extension;

    fn sample(uid: &str) -> Binding {
        Binding {
            node: [9; 32],
            namespace_uid: uid.to_owned(),
            service_account_uid: "sa-uid".to_owned(),
        }
    }

    #[test]
    fn binding_reads_what_the_builder_writes_at_every_length() {
        for length in 1..=MAX_UID_LENGTH {
            let binding = sample(&"u".repeat(length));
            assert_eq!(
                read_binding(&binding_extension(&binding).value),
                Some(binding)
            );
        }
    }

    #[test]
    fn binding_of_any_other_form_is_refused() {
        let good = binding_extension(&sample("ns-uid")).value;
        for length in 0..good.len() {
            assert_eq!(read_binding(&good[..length]), None, "cut to {length}");
        }
        assert_eq!(
            read_binding(&[good.as_slice(), &[0]].concat()),
            None,
            "trailing byte"
        );
        for uid in [String::new(), "u".repeat(MAX_UID_LENGTH + 1)] {
            assert_eq!(
                read_binding(&binding_extension(&sample(&uid)).value),
                None,
                "{uid:?}"
            );
        }
        let long_form = [&[0x30, 0x81, good[1]], &good[2..]].concat();
        assert_eq!(read_binding(&long_form), None, "length not minimal");
        let mut short_node = good.clone();
        short_node[3] = 31;
        assert_eq!(read_binding(&short_node), None, "digest of 31 bytes");
        let mut not_text = good;
        not_text[38] = 0xff;
        assert_eq!(read_binding(&not_text), None, "not UTF-8");
    }
}
