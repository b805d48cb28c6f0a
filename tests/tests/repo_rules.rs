//! The rules of this repository, held by a test so that nobody has to remember them.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
};

use anyhow::{Context, Result};
use serde_json::Value;
use signet_tests::{
    bin,
    docs::{cell, hold},
    repo,
};

/// `bpf, crypto <- identity <- agent <- fuzz <- tests`: a folder may use those named behind it.
const ARROWS: &[(&str, &[&str])] = &[
    ("bpf", &["bpf"]),
    ("crypto", &["crypto"]),
    ("identity", &["identity", "bpf", "crypto"]),
    ("agent", &["agent", "identity", "bpf", "crypto"]),
    (
        "tests",
        &["tests", "fuzz", "agent", "identity", "bpf", "crypto"],
    ),
    ("fuzz", &["fuzz", "agent", "identity", "bpf", "crypto"]),
];

/// Decide only: no runtime, no API server, no kernel.
const PURE: &[&str] = &[
    "signet-abi",
    "signet-model",
    "signet-crypto",
    "signet-identity-core",
    "signet-policy",
    "signet-audit",
    "signet-agent-core",
];

const SHELLS: &[&str] = &["tokio", "kube", "aya", "nix", "rtnetlink", "tonic", "redb"];

#[test]
fn no_arrow_goes_back() -> Result<()> {
    let packages = repo::packages()?;
    let house: BTreeMap<_, _> = packages
        .iter()
        .map(|p| (p.name.as_str(), p.house()))
        .collect();
    for package in &packages {
        let (_, may) = ARROWS
            .iter()
            .find(|(name, _)| *name == package.house())
            .with_context(|| {
                format!("{} lies in a folder without a rule", package.dir.display())
            })?;
        for used in &package.uses {
            let to = house[used.as_str()];
            assert!(
                may.contains(&to),
                "{} ({}) may not use {used} ({to})",
                package.name,
                package.house()
            );
        }
    }
    Ok(())
}

#[test]
fn pure_crates_have_no_shell_in_their_tree() -> Result<()> {
    for name in PURE {
        let tree = repo::tree(name)?;
        let found: Vec<_> = SHELLS
            .iter()
            .filter(|shell| tree.contains(**shell))
            .collect();
        assert!(
            found.is_empty(),
            "{name} is pure, yet its tree has {found:?}"
        );
    }
    Ok(())
}

#[test]
fn pure_crates_ban_clocks_threads_and_hash_order() -> Result<()> {
    for package in repo::packages()?
        .iter()
        .filter(|p| PURE.contains(&p.name.as_str()))
    {
        if package.name == "signet-abi" {
            continue; // no_std: there is nothing to ban
        }
        let path = repo::root().join(&package.dir).join("clippy.toml");
        let text =
            fs::read_to_string(&path).with_context(|| format!("{} is missing", path.display()))?;
        for ban in [
            "Instant::now",
            "SystemTime::now",
            "thread::spawn",
            "collections::HashMap",
            "collections::HashSet",
        ] {
            assert!(text.contains(ban), "{} does not ban {ban}", path.display());
        }
    }
    Ok(())
}

#[test]
fn every_crate_takes_the_workspace_lints() -> Result<()> {
    for package in repo::packages()? {
        let text = fs::read_to_string(repo::root().join(&package.dir).join("Cargo.toml"))?;
        assert!(
            text.contains("[lints]\nworkspace = true"),
            "{} goes its own way with lints",
            package.name
        );
    }
    Ok(())
}

/// A workspace of its own cannot take the lints of this one; it repeats them.
#[test]
fn the_fuzz_workspace_has_the_same_lints() -> Result<()> {
    let tables = |path: &str| -> Result<Vec<String>> {
        let text = fs::read_to_string(repo::root().join(path))?;
        let lints = text
            .split("\n[")
            .filter(|t| t.starts_with("workspace.lints."));
        Ok(lints.map(|table| table.trim().to_owned()).collect())
    };
    let here = tables("Cargo.toml")?;
    assert_eq!(here.len(), 2, "{here:?}");
    assert_eq!(here, tables("fuzz/Cargo.toml")?);
    Ok(())
}

/// A table of threats is worth as much as the tests that it names.
#[test]
fn every_test_that_the_threat_model_names_is_there() -> Result<()> {
    let text = fs::read_to_string(repo::root().join("docs/threat-model.md"))?;
    let files = repo::tracked()?;
    let names = text.split('`').filter_map(|word| word.split_once(".rs::"));
    let mut named = 0;
    for (file, test) in names {
        let suffix = format!("{file}.rs");
        let path = files.iter().find(|path| path.ends_with(&suffix));
        let path = path.with_context(|| format!("{suffix} is not there"))?;
        let source = fs::read_to_string(repo::root().join(path))?;
        let test = format!("fn {test}(");
        let at = source.find(&test);
        let at = at.with_context(|| format!("{} has no {test}", path.display()))?;
        // Attributes stand right above.
        assert!(
            source[..at].trim_end().ends_with("#[test]")
                || source[..at].contains("#[tokio::test")
                || source[..at].contains("proptest!"),
            "{test} of {} is no test",
            path.display()
        );
        named += 1;
    }
    assert!(named > 30, "only {named} are named");
    Ok(())
}

#[test]
fn nothing_tracked_speaks_of_one_machine() -> Result<()> {
    // Put together here, so that this file does not hold the words that it looks for.
    let words: Vec<String> = [
        ["/wo", "rk/"],
        ["/ro", "ot/"],
        ["sub", "agent"],
        ["cla", "ude"],
    ]
    .iter()
    .map(|w| w.concat())
    .collect();
    let mut slips = Vec::new();
    for path in repo::tracked()?
        .iter()
        .filter(|path| !path.ends_with("Cargo.lock"))
    {
        let Ok(text) = fs::read_to_string(repo::root().join(path)) else {
            continue;
        };
        let lower = text.to_lowercase();
        slips.extend(
            words
                .iter()
                .filter(|word| lower.contains(*word))
                .map(|word| format!("{}: {word}", path.display())),
        );
    }
    assert!(slips.is_empty(), "{slips:#?}");
    Ok(())
}

#[test]
fn no_work_is_left_as_a_mark() -> Result<()> {
    let marks: Vec<String> = [
        ["TO", "DO"],
        ["FIX", "ME"],
        ["#[ign", "ore"],
        ["unimpl", "emented!("],
        ["to", "do!("],
    ]
    .iter()
    .map(|w| w.concat())
    .collect();
    for path in repo::tracked()? {
        let Some("rs" | "c" | "h" | "sh" | "proto") = path.extension().and_then(|e| e.to_str())
        else {
            continue;
        };
        let Ok(text) = fs::read_to_string(repo::root().join(&path)) else {
            continue;
        };
        for mark in &marks {
            assert!(!text.contains(mark), "{} has {mark}", path.display());
        }
    }
    Ok(())
}

#[test]
fn the_readme_has_its_two_commands() -> Result<()> {
    let readme = fs::read_to_string(repo::root().join("README.md"))?;
    let makefile = fs::read_to_string(repo::root().join("Makefile"))?;
    for target in ["demo", "test"] {
        assert!(
            readme.contains(&format!("make {target}")),
            "README.md without `make {target}`"
        );
        assert!(
            makefile.contains(&format!("\n{target}:")),
            "Makefile without {target}"
        );
    }
    Ok(())
}

#[test]
fn every_page_is_linked_and_every_link_leads_somewhere() -> Result<()> {
    let mut linked = BTreeSet::new();
    for path in repo::tracked()?
        .iter()
        .filter(|path| path.extension().is_some_and(|e| e == "md"))
    {
        let text = fs::read_to_string(repo::root().join(path))?;
        for target in text
            .split("](")
            .skip(1)
            .filter_map(|rest| rest.split(')').next())
        {
            let target = target.split('#').next().unwrap_or("");
            if target.is_empty() || target.contains("://") {
                continue;
            }
            let full = repo::root()
                .join(path)
                .parent()
                .context("a folder")?
                .join(target);
            assert!(
                full.exists(),
                "{} links to {target}, which is not there",
                path.display()
            );
            linked.insert(full.canonicalize()?);
        }
    }
    for path in repo::tracked()?
        .iter()
        .filter(|path| path.starts_with("docs"))
    {
        let full = repo::root().join(path).canonicalize()?;
        assert!(
            linked.contains(&full),
            "{} is linked from no page",
            path.display()
        );
    }
    Ok(())
}

#[test]
fn drop_reasons_are_documented() -> Result<()> {
    let mut table =
        String::from("| number | reason | what happened, and what to do |\n|---|---|---|\n");
    for reason in signet_abi::DropReason::ALL {
        table.push_str(&format!(
            "| {} | `{}` | {} |\n",
            *reason as u16,
            reason.as_str(),
            cell(reason.explain())
        ));
    }
    hold("docs/drop-reasons.md", "drop-reasons", &table)
}

#[test]
fn audit_fields_are_documented() -> Result<()> {
    let mut fields = String::from("| field | lines | value | meaning |\n|---|---|---|---|\n");
    for field in signet_audit::fields::FIELDS {
        fields.push_str(&format!(
            "| `{}` | {} | {} | {} |\n",
            field.name,
            field.kinds,
            field.form,
            cell(field.meaning)
        ));
    }
    hold("docs/audit.md", "audit-fields", &fields)?;
    let mut events = String::from("| event | meaning |\n|---|---|\n");
    for event in signet_audit::record::Event::ALL {
        events.push_str(&format!("| `{}` | {} |\n", event.as_str(), event.explain()));
    }
    hold("docs/audit.md", "audit-events", &events)
}

#[test]
fn metrics_are_documented() -> Result<()> {
    for service in ["signet-identity", "signet-agent", "signet-tunnel"] {
        let out = bin::command(service)?.arg("metrics").output()?;
        assert!(
            out.status.success(),
            "{service} metrics: {}",
            String::from_utf8_lossy(&out.stderr)
        );
        let list: Vec<Value> =
            serde_json::from_slice(&out.stdout).with_context(|| format!("{service} metrics"))?;
        assert!(!list.is_empty(), "{service} lists no metric");
        let mut table = String::from("| metric | type | labels | meaning |\n|---|---|---|---|\n");
        for metric in list {
            let labels: Vec<_> = metric["labels"]
                .as_array()
                .into_iter()
                .flatten()
                .filter_map(Value::as_str)
                .collect();
            let text = |key: &str| cell(metric[key].as_str().unwrap_or(""));
            table.push_str(&format!(
                "| `{}` | {} | {} | {} |\n",
                text("name"),
                text("kind"),
                labels.join(", "),
                text("help")
            ));
        }
        hold("docs/metrics.md", service, &table)?;
    }
    Ok(())
}

#[test]
fn commands_are_documented() -> Result<()> {
    for program in [
        "signetctl",
        "signet-identity",
        "signet-agent",
        "signet-tunnel",
        "signet-cni",
    ] {
        let mut page = String::new();
        help(program, &mut Vec::new(), &mut page)?;
        hold("docs/cli.md", program, &page)?;
    }
    Ok(())
}

/// Appends the help of one command and of all below it.
fn help(program: &str, path: &mut Vec<String>, page: &mut String) -> Result<()> {
    let out = bin::command(program)?
        .args(path.iter())
        .arg("--help")
        .env("COLUMNS", "100")
        .output()?;
    assert!(out.status.success(), "{program} {path:?} --help failed");
    let text = String::from_utf8(out.stdout)?;
    let title = std::iter::once(program)
        .chain(path.iter().map(String::as_str))
        .collect::<Vec<_>>()
        .join(" ");
    let body: Vec<_> = text.trim_end().lines().map(str::trim_end).collect();
    page.push_str(&format!(
        "### {title}\n\n```text\n{}\n```\n\n",
        body.join("\n")
    ));
    let commands = text
        .lines()
        .skip_while(|line| *line != "Commands:")
        .skip(1)
        .take_while(|line| line.starts_with("  "));
    let names: Vec<_> = commands
        .filter(|line| !line.starts_with("   "))
        .filter_map(|line| line.split_whitespace().next())
        .filter(|name| *name != "help")
        .map(str::to_owned)
        .collect();
    for name in names {
        path.push(name);
        help(program, path, page)?;
        path.pop();
    }
    Ok(())
}
