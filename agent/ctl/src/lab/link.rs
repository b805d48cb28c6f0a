//! Interfaces, addresses and routes, by one `ip -batch` per namespace.

use std::io::Write;
use std::process::{Command, Stdio};

use anyhow::{Context, Result, anyhow, bail};

use super::netns;

/// Runs `ip` commands in a namespace, in order, up to the first that fails.
///
/// # Errors
/// Names the command that failed and why.
pub(crate) fn batch(namespace: &str, commands: &[String]) -> Result<()> {
    let mut child = Command::new("ip")
        .args(["-netns", namespace, "-batch", "-"])
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()
        .context("run `ip`; install it with `apt-get install iproute2`")?;
    let mut input = child
        .stdin
        .take()
        .ok_or_else(|| anyhow!("no way to talk to `ip`"))?;
    // `ip` stops reading at the first failure: what it says about that is the better error.
    let _ = input.write_all((commands.join("\n") + "\n").as_bytes());
    drop(input);
    let output = child.wait_with_output().context("wait for `ip`")?;
    if output.status.success() {
        return Ok(());
    }
    let said = String::from_utf8_lossy(&output.stderr);
    bail!("in {namespace}: {}", explain(&said, commands))
}

/// Sets kernel parameters (`net/...`) of a namespace.
pub(crate) fn sysctls(namespace: &str, settings: &[(String, &str)]) -> Result<()> {
    netns::within(namespace, || {
        settings
            .iter()
            .try_for_each(|(key, value)| netns::sysctl(key, value))
    })
}

/// `ip` says "Command failed -:3": that is the third line.
fn explain(said: &str, commands: &[String]) -> String {
    let line = said
        .lines()
        .find_map(|line| line.strip_prefix("Command failed -:"))
        .and_then(|number| number.trim().parse::<usize>().ok());
    let why: Vec<&str> = said
        .lines()
        .filter(|line| !line.starts_with("Command failed"))
        .collect();
    let why = why.join("; ");
    match line.and_then(|line| commands.get(line.checked_sub(1)?)) {
        Some(command) => format!("`ip {command}` failed: {why}"),
        None => format!("`ip` failed: {why}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_failed_batch_names_its_command() {
        let commands = ["link set lo up".to_owned(), "addr add x dev y".to_owned()];
        let said = "Error: any valid prefix is expected rather than \"x\".\nCommand failed -:2\n";
        assert_eq!(
            explain(said, &commands),
            "`ip addr add x dev y` failed: Error: any valid prefix is expected rather than \"x\"."
        );
        assert_eq!(explain("odd", &commands), "`ip` failed: odd");
    }
}
