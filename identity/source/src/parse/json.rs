//! YAML documents as JSON values, which is what Kubernetes makes of them.

use serde::Deserialize;
use serde_json::{Map, Number, Value};
use serde_yaml_ng::Value as Yaml;

use super::Fault;

/// Each document of `text`; the iterator ends after the first that cannot be read.
pub(super) fn documents(text: &str) -> impl Iterator<Item = Result<Value, Fault>> + '_ {
    serde_yaml_ng::Deserializer::from_str(text).map(|document| {
        let mut yaml = Yaml::deserialize(document).map_err(|error| syntax(&error))?;
        yaml.apply_merge().map_err(|error| syntax(&error))?;
        json(yaml)
    })
}

fn syntax(error: &serde_yaml_ng::Error) -> Fault {
    Fault::new(format!("not YAML: {error}"), "correct the syntax")
}

fn json(yaml: Yaml) -> Result<Value, Fault> {
    Ok(match yaml {
        Yaml::Null => Value::Null,
        Yaml::Bool(value) => Value::Bool(value),
        Yaml::Number(number) => Value::Number(json_number(&number)?),
        Yaml::String(text) => Value::String(text),
        Yaml::Sequence(items) => {
            Value::Array(items.into_iter().map(json).collect::<Result<_, _>>()?)
        }
        Yaml::Mapping(mapping) => {
            let mut object = Map::new();
            for (key, value) in mapping {
                let Yaml::String(key) = key else {
                    return Err(Fault::new(
                        format!("key {key:?} is not text"),
                        "put it in quotes",
                    ));
                };
                object.insert(key, json(value)?);
            }
            Value::Object(object)
        }
        Yaml::Tagged(tagged) => {
            let what = format!("tag {} is not understood", tagged.tag);
            return Err(Fault::new(what, "remove it"));
        }
    })
}

fn json_number(number: &serde_yaml_ng::Number) -> Result<Number, Fault> {
    let whole = number
        .as_i64()
        .map(Number::from)
        .or_else(|| number.as_u64().map(Number::from));
    whole
        .or_else(|| number.as_f64().and_then(Number::from_f64))
        .ok_or_else(|| {
            Fault::new(
                format!("{number} is no number in JSON"),
                "write a finite one",
            )
        })
}
