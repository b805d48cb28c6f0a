//! One file's text into typed objects, strictly.
//!
//! Unknown kinds, unknown fields at any depth, duplicate keys and values of the wrong type are
//! refused: a field that nobody reads is a rule that nobody enforces.

mod convert;
mod json;

use std::fmt;

use serde::de::DeserializeOwned;
use serde_json::{Map, Value};

use crate::{
    object::{Kind, Object, ObjectKey},
    problem::Problem,
};

/// An object of a file, with what tells it from others.
pub type Parsed = (ObjectKey, Object);

/// Reads every document of `text`. `file` is for messages only.
///
/// # Errors
/// Everything that is wrong with the file, in the order of its documents. YAML that cannot be read is
/// one problem, with line and column.
pub fn parse(file: &str, text: &str) -> Result<Vec<Parsed>, Vec<Problem>> {
    let mut objects = Vec::new();
    let mut problems = Vec::new();
    for document in json::documents(text) {
        match document {
            Ok(Value::Null) => {}
            Ok(value) => read(value, &mut objects, &mut |object: String, fault: Fault| {
                problems.push(Problem::new(file, object, fault.0));
            }),
            Err(fault) => {
                // What follows broken syntax is noise.
                problems.push(Problem::new(file, "", fault.0));
                break;
            }
        }
    }
    if problems.is_empty() {
        Ok(objects)
    } else {
        Err(problems)
    }
}

/// What is wrong and what to do, without its place.
#[derive(Debug)]
pub(crate) struct Fault(pub(crate) String);

impl Fault {
    pub(crate) fn new(what: impl fmt::Display, fix: impl fmt::Display) -> Self {
        Self(format!("{what}; {fix}"))
    }
}

fn read(value: Value, objects: &mut Vec<Parsed>, refuse: &mut dyn FnMut(String, Fault)) {
    if is_list(&value) {
        let Value::Object(mut list) = value else {
            return;
        };
        match list.remove("items") {
            Some(Value::Array(items)) => {
                items
                    .into_iter()
                    .for_each(|item| read(item, objects, refuse));
            }
            Some(_) | None => {
                let fault = Fault::new("items is not a list", "write the objects under items");
                refuse("List".into(), fault);
            }
        }
        return;
    }
    let name = object_name(&value);
    match read_one(value) {
        Ok(parsed) => objects.push(parsed),
        Err(fault) => refuse(name, fault),
    }
}

fn is_list(value: &Value) -> bool {
    text(value, "/kind") == Some("List") && text(value, "/apiVersion") == Some("v1")
}

fn read_one(mut value: Value) -> Result<Parsed, Fault> {
    let kind = kind(&value)?;
    let (namespace, name) = {
        let metadata = metadata(&mut value)?;
        let name = name(metadata)?;
        (namespace(kind, metadata)?, name)
    };
    let object = match kind {
        Kind::Node => Object::Node(convert::node(typed(value)?)?.into()),
        Kind::Namespace => Object::Namespace(convert::namespace(typed(value)?)?.into()),
        Kind::ServiceAccount => {
            Object::ServiceAccount(convert::service_account(typed(value)?)?.into())
        }
        Kind::Pod => Object::Pod(convert::pod(typed(value)?)?.into()),
        Kind::NetworkPolicy => Object::NetworkPolicy(
            typed::<k8s_openapi::api::networking::v1::NetworkPolicy>(value)?.into(),
        ),
        Kind::AuthenticatedPolicy => Object::AuthenticatedPolicy(value.into()),
    };
    Ok((
        ObjectKey {
            kind,
            namespace,
            name,
        },
        object,
    ))
}

fn kind(value: &Value) -> Result<Kind, Fault> {
    if !value.is_object() {
        return Err(Fault::new(
            "not an object",
            "write apiVersion, kind and metadata",
        ));
    }
    let Some(given) = text(value, "/kind") else {
        return Err(Fault::new("kind is missing", "write one such as kind: Pod"));
    };
    let Some(kind) = Kind::ALL.into_iter().find(|kind| kind.name() == given) else {
        let known: Vec<_> = Kind::ALL.iter().map(|kind| kind.name()).collect();
        let fix = format!(
            "move it out of this directory; read are {}",
            known.join(", ")
        );
        return Err(Fault::new(format!("kind {given:?} is not read"), fix));
    };
    let version = text(value, "/apiVersion").unwrap_or_default();
    if version != kind.api_version() {
        let what = format!("apiVersion {version:?} is not supported");
        return Err(Fault::new(what, format!("write {}", kind.api_version())));
    }
    Ok(kind)
}

fn metadata(value: &mut Value) -> Result<&mut Map<String, Value>, Fault> {
    value
        .get_mut("metadata")
        .and_then(Value::as_object_mut)
        .ok_or_else(|| Fault::new("metadata is missing", "write at least metadata.name"))
}

fn name(metadata: &Map<String, Value>) -> Result<String, Fault> {
    let name = metadata
        .get("name")
        .and_then(Value::as_str)
        .unwrap_or_default();
    if name.is_empty() {
        return Err(Fault::new("metadata.name is missing", "give it a name"));
    }
    check_name("metadata.name", name, 253, ".")?;
    Ok(name.to_owned())
}

/// The namespace, `default` if none is given (as kubectl does), which is then filled in.
fn namespace(kind: Kind, metadata: &mut Map<String, Value>) -> Result<String, Fault> {
    let given = metadata
        .get("namespace")
        .and_then(Value::as_str)
        .unwrap_or_default();
    if !kind.is_namespaced() {
        return match given {
            "" => Ok(String::new()),
            _ => {
                let what = format!("metadata.namespace is set, but a {kind} has none");
                Err(Fault::new(what, "remove it"))
            }
        };
    }
    let namespace = if given.is_empty() { "default" } else { given }.to_owned();
    check_name("metadata.namespace", &namespace, 63, "")?;
    metadata.insert("namespace".into(), Value::String(namespace.clone()));
    Ok(namespace)
}

/// RFC 1123 labels, joined by dots where `extra` allows them: what Kubernetes takes for names, and
/// what is safe as a path segment of a SPIFFE ID.
pub(crate) fn check_name(field: &str, name: &str, max: usize, extra: &str) -> Result<(), Fault> {
    let fine = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit();
    let inner = |byte: u8| fine(byte) || byte == b'-' || extra.as_bytes().contains(&byte);
    let bytes = name.as_bytes();
    let ends = [bytes.first(), bytes.last()]
        .into_iter()
        .flatten()
        .all(|byte| fine(*byte));
    if bytes.len() <= max && ends && bytes.iter().all(|byte| inner(*byte)) {
        return Ok(());
    }
    let fix = format!(
        "use at most {max} of a-z, 0-9, '-'{}",
        if extra.is_empty() { "" } else { " and '.'" }
    );
    Err(Fault::new(format!("{field} {name:?} is no name"), fix))
}

/// The typed object, if every field of `value` is known and of the right type.
fn typed<T: DeserializeOwned>(value: Value) -> Result<T, Fault> {
    let mut unknown = None;
    let mut track = serde_path_to_error::Track::new();
    let tracked = serde_path_to_error::Deserializer::new(&value, &mut track);
    let parsed = serde_ignored::deserialize(tracked, |path| {
        unknown.get_or_insert_with(|| path.to_string());
    });
    let object = parsed.map_err(|error: serde_json::Error| {
        let path = track.path().to_string();
        let place = if path == "." {
            String::new()
        } else {
            format!("{path}: ")
        };
        Fault::new(format!("{place}{error}"), "correct its type or spelling")
    })?;
    match unknown {
        None => Ok(object),
        Some(path) => {
            // Optional layers show as question marks, which say nothing to who wrote the file.
            let path = path
                .split('.')
                .filter(|part| *part != "?")
                .collect::<Vec<_>>()
                .join(".");
            Err(Fault::new(
                format!("{path}: unknown field"),
                "remove it or correct its spelling",
            ))
        }
    }
}

/// The object for messages, as far as it can be read.
fn object_name(value: &Value) -> String {
    let kind = text(value, "/kind").unwrap_or("object");
    let name = text(value, "/metadata/name").unwrap_or("(unnamed)");
    match text(value, "/metadata/namespace") {
        Some(namespace) => format!("{kind} {namespace}/{name}"),
        None => format!("{kind} {name}"),
    }
}

fn text<'a>(value: &'a Value, pointer: &str) -> Option<&'a str> {
    value
        .pointer(pointer)
        .and_then(Value::as_str)
        .filter(|text| !text.is_empty())
}
