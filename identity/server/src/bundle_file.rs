//! The trust bundle as a file, for agents' first contact.

use std::{
    fs::{self, OpenOptions},
    io::{self, Write as _},
    os::unix::fs::{OpenOptionsExt as _, PermissionsExt as _},
    path::Path,
};

use signet_crypto::bundle::TrustBundle;

/// Writes `bundle` to `path`, readable by all: a reader sees the old or the new one, never half.
pub(crate) fn write(path: &Path, bundle: &TrustBundle) -> io::Result<()> {
    let beside = path.with_extension("pem.new");
    let mut file = OpenOptions::new()
        .write(true)
        .create(true)
        .truncate(true)
        .mode(0o644)
        .open(&beside)?;
    // The mode above is subject to the umask.
    file.set_permissions(fs::Permissions::from_mode(0o644))?;
    file.write_all(bundle.to_pem().as_bytes())?;
    file.sync_all()?;
    fs::rename(&beside, path)
}
