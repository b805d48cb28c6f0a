//! Where the programs under test are.

use std::{
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context, Result, ensure};

/// The folder with the built programs: `SIGNET_BIN_DIR`, else beside this program or above its `deps`.
///
/// # Errors
/// If `signetctl` is not there; the message says how to build it.
pub fn dir() -> Result<PathBuf> {
    let dir = match std::env::var_os("SIGNET_BIN_DIR") {
        Some(dir) => PathBuf::from(dir),
        None => {
            let exe = std::env::current_exe().context("this program's own path")?;
            let mut above = exe.ancestors().skip(1).map(Path::to_path_buf);
            let beside = above.next().context("a folder of this program")?;
            // target/<profile>/deps/<test> -> target/<profile>
            if beside.ends_with("deps") {
                above.next().context("a target folder above deps")?
            } else {
                beside
            }
        }
    };
    ensure!(
        dir.join("signetctl").exists(),
        "{} has no signetctl; run `cargo build --release --workspace --bins` first",
        dir.display()
    );
    Ok(dir)
}

/// A command for one of the built programs.
///
/// # Errors
/// As [`dir`].
pub fn command(name: &str) -> Result<Command> {
    Ok(Command::new(dir()?.join(name)))
}

/// True if the test may make network namespaces; otherwise says loudly that it is skipped.
#[must_use]
pub fn root_or_skip(test: &str) -> bool {
    let root = nix::unistd::geteuid().is_root();
    if !root {
        eprintln!("SKIPPED: {test}: needs root for network namespaces and BPF");
    }
    root
}
