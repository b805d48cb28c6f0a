//! Raw value to [`AuthenticatedPolicy`], with the place of every error.

use serde_json::Value;

use super::{API_VERSION, AuthenticatedPolicy, KIND};
use crate::problem::Fault;

/// The name of the object for messages, as far as it can be read.
pub(crate) fn object_name(raw: &Value) -> String {
    let text = |key: &str| {
        raw.pointer(key)
            .and_then(Value::as_str)
            .filter(|s| !s.is_empty())
    };
    let kind = text("/kind").unwrap_or(KIND);
    match (text("/metadata/namespace"), text("/metadata/name")) {
        (Some(namespace), Some(name)) => format!("{kind} {namespace}/{name}"),
        (None, Some(name)) => format!("{kind} {name}"),
        (Some(namespace), None) => format!("{kind} {namespace}/(unnamed)"),
        (None, None) => format!("{kind} (unnamed)"),
    }
}

/// Reads the object strictly: unknown fields are errors, at any depth.
pub(crate) fn parse(raw: &Value) -> Result<AuthenticatedPolicy, Fault> {
    check_type(raw)?;
    let mut unknown: Option<String> = None;
    let mut track = serde_path_to_error::Track::new();
    let tracked = serde_path_to_error::Deserializer::new(raw, &mut track);
    let parsed: Result<AuthenticatedPolicy, _> = serde_ignored::deserialize(tracked, |path| {
        unknown.get_or_insert_with(|| ignored_path(&path));
    });
    let policy = parsed.map_err(|error| {
        let path = render(&track.path());
        fault(path, &error)
    })?;
    match unknown {
        None => Ok(policy),
        Some(path) => Err(Fault::new(
            path,
            "unknown field",
            "remove it or correct its spelling",
        )),
    }
}

fn check_type(raw: &Value) -> Result<(), Fault> {
    for (field, expected) in [("apiVersion", API_VERSION), ("kind", KIND)] {
        match raw.get(field).and_then(Value::as_str) {
            Some(found) if found == expected => {}
            Some(found) => {
                let what = format!("`{found}` is not supported");
                return Err(Fault::new(field, what, format!("write `{expected}`")));
            }
            None => return Err(Fault::new(field, "missing", format!("write `{expected}`"))),
        }
    }
    Ok(())
}

/// Turns serde's sentence into ours: what is wrong, then what to do.
fn fault(path: String, error: &serde_json::Error) -> Fault {
    let text = error.to_string();
    if let Some(field) = text
        .strip_prefix("missing field `")
        .and_then(|t| t.strip_suffix('`'))
    {
        let path = if path == "." {
            field.to_owned()
        } else {
            format!("{path}.{field}")
        };
        return Fault::new(path, "missing", "add it");
    }
    let Some((what, expected)) = text.split_once(", expected ") else {
        return Fault::new(
            path,
            text,
            "correct it; docs/policy.md describes every field",
        );
    };
    // The path ends in the unknown field's name already.
    let what = if what.starts_with("unknown field") {
        "unknown field"
    } else {
        what
    };
    Fault::new(path, what, format!("use {}", choice(expected)))
}

/// Serde's "one of `a`, `b`, `c`" as "`a`, `b` or `c`".
fn choice(expected: &str) -> String {
    let expected = expected
        .trim_start_matches("one of ")
        .replace("a sequence", "a list");
    match expected.rsplit_once(", `") {
        Some((others, last)) => format!("{others} or `{last}"),
        None => expected,
    }
}

fn render(path: &serde_path_to_error::Path) -> String {
    use serde_path_to_error::Segment;
    let mut text = String::new();
    for segment in path {
        match segment {
            Segment::Seq { index } => text.push_str(&format!("[{index}]")),
            Segment::Map { key } | Segment::Enum { variant: key } => append_key(&mut text, key),
            Segment::Unknown => append_key(&mut text, "?"),
        }
    }
    if text.is_empty() {
        ".".to_owned()
    } else {
        text
    }
}

fn ignored_path(path: &serde_ignored::Path<'_>) -> String {
    use serde_ignored::Path;
    match path {
        Path::Root => String::new(),
        Path::Seq { parent, index } => format!("{}[{index}]", ignored_path(parent)),
        Path::Map { parent, key } => {
            let mut text = ignored_path(parent);
            append_key(&mut text, key);
            text
        }
        Path::Some { parent }
        | Path::NewtypeStruct { parent }
        | Path::NewtypeVariant { parent } => ignored_path(parent),
    }
}

fn append_key(text: &mut String, key: &str) {
    if !text.is_empty() {
        text.push('.');
    }
    text.push_str(key);
}
