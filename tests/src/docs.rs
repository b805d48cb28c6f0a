//! Tables in `docs/` that are made from the code, and held against it.

use std::{fs, ops::Range};

use anyhow::{Context, Result, bail};

use crate::repo::root;

/// Holds the part of `file` between `<!-- generated: NAME -->` and `<!-- end -->` against `want`.
///
/// With `SIGNET_BLESS=1` in the environment it rewrites that part instead.
///
/// # Errors
/// If the markers are missing or the text differs; the message names the command that mends it.
pub fn hold(file: &str, name: &str, want: &str) -> Result<()> {
    let (text, part) = find(file, name)?;
    let want = format!("{}\n", want.trim_end());
    if text[part.clone()] == want {
        return Ok(());
    }
    if std::env::var_os("SIGNET_BLESS").is_some() {
        return replace(file, name, &want);
    }
    let (from, to) = (part.start, part.end);
    let have: Vec<_> = text[from..to].lines().collect();
    let missing: Vec<_> = want
        .lines()
        .filter(|line| !have.contains(line))
        .take(5)
        .collect();
    let stale: Vec<_> = have
        .iter()
        .filter(|line| !want.lines().any(|w| w == **line))
        .take(5)
        .collect();
    bail!(
        "{file}: the part {name:?} is not what the code says; run `make docs`.\nmissing: {missing:#?}\nstale: {stale:#?}"
    )
}

/// Puts `want` between the markers that [`hold`] looks for.
///
/// # Errors
/// If the markers are missing or the file cannot be written.
pub fn replace(file: &str, name: &str, want: &str) -> Result<()> {
    let (mut text, part) = find(file, name)?;
    text.replace_range(part, &format!("{}\n", want.trim_end()));
    fs::write(root().join(file), text).with_context(|| format!("cannot write {file}"))
}

/// A page and the place between two markers in it.
fn find(file: &str, name: &str) -> Result<(String, Range<usize>)> {
    let text =
        fs::read_to_string(root().join(file)).with_context(|| format!("{file} is missing"))?;
    let (start, end) = (format!("<!-- generated: {name} -->\n"), "<!-- end -->");
    let from = text
        .find(&start)
        .with_context(|| format!("{file} has no {start:?}"))?
        + start.len();
    let to = from
        + text[from..]
            .find(end)
            .with_context(|| format!("{file} has no {end:?} after {name}"))?;
    Ok((text, from..to))
}

/// A table cell: no line breaks, bars escaped.
#[must_use]
pub fn cell(text: &str) -> String {
    text.replace('\n', " ").replace('|', "\\|")
}
