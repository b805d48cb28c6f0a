//! Kubernetes label selectors.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use k8s_openapi::apimachinery::pkg::apis::meta::v1 as meta;

use crate::problem::Fault;

/// A label selector. Empty selects everything.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct LabelSelector {
    requirements: Vec<Requirement>,
}

/// One condition; a selector matches if all of its conditions do.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Requirement {
    key: String,
    test: Test,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Test {
    In(BTreeSet<String>),
    /// Holds for a missing label too.
    NotIn(BTreeSet<String>),
    Exists,
    DoesNotExist,
}

impl LabelSelector {
    /// Whether `labels` satisfy every condition.
    pub(crate) fn matches(&self, labels: &BTreeMap<String, String>) -> bool {
        self.requirements.iter().all(|requirement| {
            let value = labels.get(&requirement.key);
            match &requirement.test {
                Test::In(values) => value.is_some_and(|value| values.contains(value)),
                Test::NotIn(values) => value.is_none_or(|value| !values.contains(value)),
                Test::Exists => value.is_some(),
                Test::DoesNotExist => value.is_none(),
            }
        })
    }

    /// Checks and takes over a selector as written; `path` is where it stands.
    pub(crate) fn import(selector: &meta::LabelSelector, path: &str) -> Result<Self, Fault> {
        let mut requirements = Vec::new();
        for (key, value) in selector.match_labels.iter().flatten() {
            let path = format!("{path}.matchLabels");
            check_key(key, &path)?;
            check_value(value, &format!("{path}[{key}]"))?;
            let test = Test::In(BTreeSet::from([value.clone()]));
            requirements.push(Requirement {
                key: key.clone(),
                test,
            });
        }
        for (index, written) in selector.match_expressions.iter().flatten().enumerate() {
            let path = format!("{path}.matchExpressions[{index}]");
            check_key(&written.key, &format!("{path}.key"))?;
            let test = import_test(written, &path)?;
            requirements.push(Requirement {
                key: written.key.clone(),
                test,
            });
        }
        Ok(LabelSelector { requirements })
    }
}

/// As a person reads it: `labels app=web and tier in (x, y)`.
impl fmt::Display for LabelSelector {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.requirements.is_empty() {
            return f.write_str("any labels");
        }
        f.write_str("labels ")?;
        for (at, Requirement { key, test }) in self.requirements.iter().enumerate() {
            f.write_str(if at == 0 { "" } else { " and " })?;
            let join = |values: &BTreeSet<String>| {
                let values: Vec<&str> = values.iter().map(String::as_str).collect();
                values.join(", ")
            };
            match test {
                Test::In(values) if values.len() == 1 => write!(f, "{key}={}", join(values))?,
                Test::In(values) => write!(f, "{key} in ({})", join(values))?,
                Test::NotIn(values) => write!(f, "{key} not in ({})", join(values))?,
                Test::Exists => write!(f, "{key}")?,
                Test::DoesNotExist => write!(f, "no {key}")?,
            }
        }
        Ok(())
    }
}

fn import_test(written: &meta::LabelSelectorRequirement, path: &str) -> Result<Test, Fault> {
    let values = written.values.as_deref().unwrap_or_default();
    for (index, value) in values.iter().enumerate() {
        check_value(value, &format!("{path}.values[{index}]"))?;
    }
    let values: BTreeSet<String> = values.iter().cloned().collect();
    let test = match written.operator.as_str() {
        "In" => Test::In(values.clone()),
        "NotIn" => Test::NotIn(values.clone()),
        "Exists" => Test::Exists,
        "DoesNotExist" => Test::DoesNotExist,
        other => {
            return Err(Fault::new(
                format!("{path}.operator"),
                format!("unknown operator `{other}`"),
                "use In, NotIn, Exists or DoesNotExist",
            ));
        }
    };
    match (&test, values.is_empty()) {
        (Test::In(_) | Test::NotIn(_), true) => Err(Fault::new(
            format!("{path}.values"),
            format!("operator {} has no values", written.operator),
            "list at least one value",
        )),
        (Test::Exists | Test::DoesNotExist, false) => Err(Fault::new(
            format!("{path}.values"),
            format!("operator {} takes no values", written.operator),
            "remove `values`, or use In or NotIn",
        )),
        (Test::In(_) | Test::NotIn(_), false) | (Test::Exists | Test::DoesNotExist, true) => {
            Ok(test)
        }
    }
}

/// A label key: an optional DNS prefix and `/`, then a name of at most 63 characters.
fn check_key(key: &str, path: &str) -> Result<(), Fault> {
    let (prefix, name) = match key.split_once('/') {
        Some((prefix, name)) => (Some(prefix), name),
        None => (None, key),
    };
    let prefix_ok = prefix.is_none_or(|prefix| {
        prefix.len() <= 253
            && prefix
                .split('.')
                .all(|part| is_word(part, |c| c.is_ascii_lowercase() || c.is_ascii_digit(), "-"))
    });
    if prefix_ok && name.len() <= 63 && is_word(name, |c| c.is_ascii_alphanumeric(), "-_.") {
        return Ok(());
    }
    Err(Fault::new(
        path,
        format!("`{key}` is not a label key"),
        "write `name` or `prefix.example/name`, at most 63 letters, digits, `-`, `_` or `.`",
    ))
}

fn check_value(value: &str, path: &str) -> Result<(), Fault> {
    let fits = value.len() <= 63 && is_word(value, |c| c.is_ascii_alphanumeric(), "-_.");
    if value.is_empty() || fits {
        return Ok(());
    }
    Err(Fault::new(
        path,
        format!("`{value}` is not a label value"),
        "use at most 63 letters, digits, `-`, `_` or `.`, with a letter or digit at both ends",
    ))
}

/// Whether `text` is made of `edge` characters, with `inner` ones allowed between them.
fn is_word(text: &str, edge: impl Fn(char) -> bool, inner: &str) -> bool {
    text.starts_with(&edge)
        && text.ends_with(&edge)
        && text.chars().all(|c| edge(c) || inner.contains(c))
}
