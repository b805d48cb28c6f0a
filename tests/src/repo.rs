//! The repository as the rules see it: folders, crates, arrows.

use std::{
    collections::BTreeSet,
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context, Result, ensure};
use serde_json::Value;

/// The repository's top folder.
#[must_use]
pub fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .parent()
        .map(Path::to_path_buf)
        .unwrap_or_default()
}

/// One crate of the workspace.
#[derive(Debug)]
pub struct Package {
    /// The package name, such as `signet-crypto`.
    pub name: String,
    /// Its folder, relative to the top.
    pub dir: PathBuf,
    /// Names of the workspace crates that it depends on, development dependencies included.
    pub uses: BTreeSet<String>,
}

impl Package {
    /// The top-level folder that it lives in.
    #[must_use]
    pub fn house(&self) -> &str {
        self.dir
            .iter()
            .next()
            .and_then(|part| part.to_str())
            .unwrap_or("")
    }
}

/// Every crate: those of the workspace, and `fuzz`, which is one of its own.
///
/// # Errors
/// If `cargo metadata` fails.
pub fn packages() -> Result<Vec<Package>> {
    let mut all = packages_of("Cargo.toml")?;
    all.extend(packages_of("fuzz/Cargo.toml")?);
    Ok(all)
}

fn packages_of(manifest: &str) -> Result<Vec<Package>> {
    let text = cargo(&[
        "metadata",
        "--format-version",
        "1",
        "--no-deps",
        "--offline",
        "--manifest-path",
        manifest,
    ])?;
    let meta: Value = serde_json::from_str(&text).context("cargo metadata's JSON")?;
    let list = meta["packages"].as_array().context("packages")?;
    list.iter()
        .map(|package| {
            let manifest = package["manifest_path"].as_str().context("manifest_path")?;
            let dir = Path::new(manifest).parent().context("a folder")?;
            let uses = package["dependencies"]
                .as_array()
                .context("dependencies")?
                .iter()
                .filter(|dep| dep["path"].is_string())
                .filter_map(|dep| dep["name"].as_str().map(str::to_owned))
                .collect();
            Ok(Package {
                name: package["name"].as_str().context("name")?.to_owned(),
                dir: dir
                    .strip_prefix(root())
                    .context("inside the repository")?
                    .to_path_buf(),
                uses,
            })
        })
        .collect()
}

/// Names of all crates that `package` needs at run time, however deep.
///
/// # Errors
/// If `cargo tree` fails.
pub fn tree(package: &str) -> Result<BTreeSet<String>> {
    let text = cargo(&[
        "tree",
        "--offline",
        "-p",
        package,
        "-e",
        "normal",
        "--prefix",
        "none",
        "-f",
        "{p}",
    ])?;
    Ok(text
        .lines()
        .filter_map(|line| line.split(' ').next())
        .map(str::to_owned)
        .collect())
}

/// Files that git tracks, relative to the top.
///
/// # Errors
/// If git fails.
pub fn tracked() -> Result<Vec<PathBuf>> {
    let out = Command::new("git")
        .args(["ls-files", "-z"])
        .current_dir(root())
        .output()?;
    ensure!(
        out.status.success(),
        "git ls-files: {}",
        String::from_utf8_lossy(&out.stderr)
    );
    let text = String::from_utf8(out.stdout)?;
    Ok(text
        .split('\0')
        .filter(|path| !path.is_empty())
        .map(PathBuf::from)
        .collect())
}

fn cargo(args: &[&str]) -> Result<String> {
    let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let out = Command::new(cargo)
        .args(args)
        .current_dir(root())
        .output()?;
    ensure!(
        out.status.success(),
        "cargo {args:?}: {}",
        String::from_utf8_lossy(&out.stderr)
    );
    Ok(String::from_utf8(out.stdout)?)
}
