//! How drop reasons look on the control socket: their number.

use serde::{Deserialize, Deserializer, Serialize, Serializer, de::Error};
use signet_abi::DropReason;

pub(super) mod reason {
    use super::*;

    pub(in crate::control) fn serialize<S: Serializer>(
        reason: &DropReason,
        to: S,
    ) -> Result<S::Ok, S::Error> {
        (*reason as u16).serialize(to)
    }

    pub(in crate::control) fn deserialize<'de, D: Deserializer<'de>>(
        from: D,
    ) -> Result<DropReason, D::Error> {
        DropReason::try_from(u16::deserialize(from)?).map_err(D::Error::custom)
    }
}
