//! The configuration on standard input.

use std::{path::PathBuf, time::Duration};

use serde::Deserialize;
use serde_json::{json, value::RawValue};

use crate::failure::{Code, Failure};

/// Versions of the specification, oldest first.
const VERSIONS: [&str; 3] = ["0.4.0", "1.0.0", "1.1.0"];
/// Where an agent listens unless told otherwise.
const SOCKET: &str = "/run/signet/agent.sock";
/// The agent waits up to 5 s for a pod's manifest and 3 s for its certificate.
const TIMEOUT: u64 = 30;

/// What matters of a configuration.
#[derive(Debug)]
pub(crate) struct Config {
    /// Spoken by the runtime; one of ours.
    pub(crate) version: &'static str,
    /// Result of the plug-ins before this one, byte for byte.
    pub(crate) previous: Option<Box<RawValue>>,
    /// The agent's status socket.
    pub(crate) socket: PathBuf,
    /// How long a verb may take.
    pub(crate) timeout: Duration,
}

/// As it is written. What else is in there is for others.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Written {
    cni_version: String,
    prev_result: Option<Box<RawValue>>,
    status_socket: Option<PathBuf>,
    mode: Option<String>,
    timeout_seconds: Option<u64>,
}

#[derive(Deserialize)]
struct Versioned {
    #[serde(rename = "cniVersion")]
    version: String,
}

impl Config {
    /// # Errors
    /// Names the field.
    pub(crate) fn parse(input: &[u8]) -> Result<Self, Failure> {
        let written: Written = serde_json::from_slice(input).map_err(|error| {
            Failure::new(
                Code::Decode,
                format!("the configuration on standard input is not understood: {error}"),
                "see `signet-cni --help` for its form",
            )
        })?;
        let known = VERSIONS
            .into_iter()
            .find(|version| *version == written.cni_version);
        let version = known.ok_or_else(|| {
            Failure::new(
                Code::Version,
                format!("CNI version {} is not supported", written.cni_version),
                format!(
                    "set the .conflist's cniVersion to one of {}",
                    VERSIONS.join(", ")
                ),
            )
        })?;
        let wrong = |msg: String, details: &str| Err(Failure::new(Code::Config, msg, details));
        let socket = written.status_socket.unwrap_or_else(|| SOCKET.into());
        if !socket.is_absolute() {
            let msg = format!("statusSocket {:?} is no absolute path", socket.display());
            return wrong(msg, "give the agent's --status-socket");
        }
        if let Some(mode) = written.mode.filter(|mode| mode != "strict") {
            let msg = format!("mode {mode:?} is unknown");
            return wrong(
                msg,
                "leave mode out, or set it to strict, as the agent's --mode",
            );
        }
        let seconds = written.timeout_seconds.unwrap_or(TIMEOUT);
        if !(1..=600).contains(&seconds) {
            let msg = format!("timeoutSeconds {seconds} is out of range");
            return wrong(msg, "set it to 1 to 600");
        }
        Ok(Self {
            version,
            previous: written.prev_result,
            socket,
            timeout: Duration::from_secs(seconds),
        })
    }

    /// `GC` and `STATUS` came with 1.1.0.
    ///
    /// # Errors
    /// If the configuration is older.
    pub(crate) fn allows(&self, verb: &str) -> Result<(), Failure> {
        if self.version == "1.1.0" {
            return Ok(());
        }
        Err(Failure::new(
            Code::Version,
            format!("CNI version {} has no {verb}", self.version),
            "set the .conflist's cniVersion to 1.1.0",
        ))
    }
}

/// The version that answers are to bear: the configuration's, or the newest if it tells none.
pub(crate) fn version(input: &[u8]) -> String {
    serde_json::from_slice(input).map_or_else(
        |_| VERSIONS[VERSIONS.len() - 1].to_owned(),
        |Versioned { version }| version,
    )
}

/// The answer to `VERSION`.
pub(crate) fn supported(input: &[u8]) -> String {
    json!({"cniVersion": version(input), "supportedVersions": VERSIONS}).to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refused(text: &str) -> Failure {
        Config::parse(text.as_bytes()).unwrap_err()
    }

    #[test]
    fn what_is_left_out_has_a_default_and_what_is_others_is_left_alone() {
        let config = Config::parse(
            br#"{"cniVersion": "1.0.0", "name": "pods", "type": "signet-cni",
                 "runtimeConfig": {"x": 1}, "prevResult": {"ips" : [ ]}}"#,
        )
        .unwrap();
        assert_eq!(config.socket, PathBuf::from("/run/signet/agent.sock"));
        assert_eq!(config.timeout, Duration::from_secs(30));
        assert_eq!(config.previous.unwrap().get(), r#"{"ips" : [ ]}"#);
    }

    #[test]
    fn a_wrong_field_is_named() {
        let cases = [
            ("{", Code::Decode, "not understood"),
            (r#"{"name": "x"}"#, Code::Decode, "cniVersion"),
            (r#"{"cniVersion": "0.3.1"}"#, Code::Version, "0.3.1"),
            (
                r#"{"cniVersion": "1.0.0", "statusSocket": "agent.sock"}"#,
                Code::Config,
                "statusSocket",
            ),
            (
                r#"{"cniVersion": "1.0.0", "mode": "lax"}"#,
                Code::Config,
                "mode",
            ),
            (
                r#"{"cniVersion": "1.0.0", "timeoutSeconds": 0}"#,
                Code::Config,
                "timeoutSeconds",
            ),
        ];
        for (text, code, word) in cases {
            let failure = refused(text);
            assert_eq!(failure.code, code, "{text}");
            assert!(failure.msg.contains(word), "{text}: {}", failure.msg);
        }
    }

    #[test]
    fn answers_bear_the_runtimes_version() {
        let failure = refused(r#"{"cniVersion": "0.4.0", "mode": "lax"}"#);
        let object: serde_json::Value =
            serde_json::from_str(&failure.object(&version(br#"{"cniVersion": "0.4.0"}"#))).unwrap();
        assert_eq!(
            (&object["cniVersion"], &object["code"]),
            (&json!("0.4.0"), &json!(7))
        );
        let versions: serde_json::Value = serde_json::from_str(&supported(b"")).unwrap();
        assert_eq!(versions["cniVersion"], "1.1.0");
        assert_eq!(
            versions["supportedVersions"],
            json!(["0.4.0", "1.0.0", "1.1.0"])
        );
    }
}
