//! A port by number or by name.

use std::fmt;

use serde::de::{Deserializer, Error, Visitor};
use serde::{Deserialize, Serialize};

/// A port: a number, or the name of a container port.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(untagged)]
pub enum PortRef {
    /// 1 to 65535.
    Number(u16),
    /// A name from `containerPorts`.
    Name(String),
}

impl<'de> Deserialize<'de> for PortRef {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(PortVisitor)
    }
}

struct PortVisitor;

impl Visitor<'_> for PortVisitor {
    type Value = PortRef;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a port number from 1 to 65535 or a port name")
    }

    fn visit_u64<E: Error>(self, value: u64) -> Result<PortRef, E> {
        let number = u16::try_from(value)
            .map_err(|_| E::invalid_value(serde::de::Unexpected::Unsigned(value), &self))?;
        Ok(PortRef::Number(number))
    }

    fn visit_i64<E: Error>(self, value: i64) -> Result<PortRef, E> {
        let number = u16::try_from(value)
            .map_err(|_| E::invalid_value(serde::de::Unexpected::Signed(value), &self))?;
        Ok(PortRef::Number(number))
    }

    fn visit_str<E: Error>(self, value: &str) -> Result<PortRef, E> {
        Ok(PortRef::Name(value.to_owned()))
    }
}
