//! Names of everything a lab makes, so that `lab down` can find it again from the name alone.

use std::path::{Path, PathBuf};

use anyhow::{Result, bail};
use sha2::{Digest, Sha256};

/// Where every lab keeps its state, one directory per lab.
pub(crate) const LABS: &str = "/run/signet/lab";

/// Where pinned BPF objects of labs live, one directory per lab and node.
pub(crate) const BPF_LABS: &str = "/sys/fs/bpf/signet-lab";

/// The place that holds the identity service and the underlay's bridge.
pub(crate) const IDENTITY: &str = "identity";

/// Refuses lab names that would not work as a part of namespace names.
///
/// No dash: the namespaces of lab `a` are found by the prefix `sg-a-`, which must not match `sg-a-b-`.
pub(crate) fn check_lab_name(name: &str) -> Result<()> {
    let fine = !name.is_empty()
        && name.len() <= 12
        && name
            .bytes()
            .all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit());
    if !fine {
        bail!("lab name {name:?}: use 1 to 12 of a-z and 0-9");
    }
    Ok(())
}

/// [`check_lab_name`] for command lines.
pub(crate) fn lab_name(text: &str) -> Result<String, String> {
    match check_lab_name(text) {
        Ok(()) => Ok(text.to_owned()),
        Err(_) => Err("use 1 to 12 of a-z and 0-9".to_owned()),
    }
}

/// Prefix of all namespaces of a lab.
pub(crate) fn netns_prefix(lab: &str) -> String {
    format!("sg-{lab}-")
}

/// The kernel's limit on a file's name. Namespaces, objects and pods all are files or folders.
const NAME_MAX: usize = 255;

/// Refuses what has too long a name for the files that a lab makes of it.
pub(crate) fn check_length(file_name: &str) -> Result<()> {
    let length = file_name.len();
    if length > NAME_MAX {
        bail!(
            "the lab would make a file of {length} characters of its name, and {NAME_MAX} is the most; \
             give it a shorter one"
        );
    }
    Ok(())
}

/// Namespace of a node, or of the identity service.
pub(crate) fn node_netns(lab: &str, node: &str) -> String {
    format!("{}{node}", netns_prefix(lab))
}

/// Namespace of a pod.
pub(crate) fn pod_netns(lab: &str, node: &str, pod: &str) -> String {
    format!("{}{node}-{pod}", netns_prefix(lab))
}

/// Interface name of a pod on its node: 11 characters, the same for the same pod.
pub(crate) fn host_interface(lab: &str, namespace: &str, pod: &str) -> String {
    let digest = Sha256::digest(format!("{lab}/{namespace}/{pod}"));
    format!("sgv{}", hex::encode(&digest[..4]))
}

/// State directory of a lab.
pub(crate) fn state_dir(lab: &str) -> PathBuf {
    Path::new(LABS).join(lab)
}

/// BPF directory of a lab.
pub(crate) fn bpf_dir(lab: &str) -> PathBuf {
    Path::new(BPF_LABS).join(lab)
}

/// A stable UID for the `creation`th object of that key, in the shape of a UUID (RFC 9562, version 8).
pub(crate) fn object_uid(lab: &str, key: &str, creation: u64) -> String {
    let digest = Sha256::digest(format!("{lab}/{key}#{creation}"));
    let mut bytes = [0u8; 16];
    bytes.copy_from_slice(&digest[..16]);
    bytes[6] = (bytes[6] & 0x0f) | 0x80;
    bytes[8] = (bytes[8] & 0x3f) | 0x80;
    let text = hex::encode(bytes);
    format!(
        "{}-{}-{}-{}-{}",
        &text[..8],
        &text[8..12],
        &text[12..16],
        &text[16..20],
        &text[20..]
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lab_names_cannot_contain_one_another() {
        for good in ["demo", "a", "lab2", "abcdefghijkl"] {
            check_lab_name(good).unwrap();
        }
        for bad in ["", "a-b", "Demo", "a.b", "../x", "abcdefghijklm", "ä"] {
            check_lab_name(bad).unwrap_err();
        }
        assert!(!node_netns("demo2", "n1").starts_with(&netns_prefix("demo")));
    }

    #[test]
    fn names_of_files_fit_the_kernel() {
        check_length(&pod_netns("demo", "node1", &"p".repeat(240))).unwrap();
        let error = check_length(&pod_netns("demo", "node1", &"p".repeat(253))).unwrap_err();
        assert!(error.to_string().contains("shorter"), "{error}");
    }

    #[test]
    fn interface_names_fit_the_kernel() {
        let name = host_interface(
            "abcdefghijkl",
            "a-rather-long-namespace",
            "and-a-long-pod-name",
        );
        assert_eq!(name.len(), 11);
        assert_ne!(
            name,
            host_interface("abcdefghijkl", "a-rather-long", "namespace-and-a-long-pod")
        );
    }

    #[test]
    fn a_recreated_object_gets_another_uid() {
        let first = object_uid("demo", "Pod/shop/web", 1);
        assert_eq!(first, object_uid("demo", "Pod/shop/web", 1));
        assert_ne!(first, object_uid("demo", "Pod/shop/web", 2));
        assert_eq!(first.len(), 36);
        assert_eq!(&first[14..15], "8");
    }
}
