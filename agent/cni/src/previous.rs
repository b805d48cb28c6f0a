//! What the plug-ins before this one have made.

use std::net::IpAddr;

use serde::Deserialize;

use crate::{
    config::Config,
    failure::{Code, Failure},
};

/// The parts of a result that matter here; the same in every version that is spoken.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(crate) struct Previous {
    interfaces: Vec<Interface>,
    ips: Vec<Ip>,
}

#[derive(Debug, Deserialize)]
struct Interface {
    name: String,
    #[serde(default)]
    sandbox: String,
}

#[derive(Debug, Deserialize)]
struct Ip {
    /// With the length of its network behind a slash.
    address: String,
    /// Which of the interfaces has it.
    interface: Option<usize>,
}

impl Previous {
    /// # Errors
    /// If there is none, or none that can be read.
    pub(crate) fn of(config: &Config) -> Result<Self, Failure> {
        let Some(text) = &config.previous else {
            return Err(Failure::new(
                Code::Config,
                "signet-cni is a chained plug-in and was given no prevResult",
                "put it behind the plug-in that makes the pods' interfaces, in one .conflist",
            ));
        };
        serde_json::from_str(text.get()).map_err(|error| {
            Failure::new(
                Code::Decode,
                format!("prevResult is not understood: {error}"),
                "see what the plug-in before signet-cni prints",
            )
        })
    }

    /// Addresses of the pod's interface.
    ///
    /// # Errors
    /// If one of them is none.
    pub(crate) fn addresses(&self, ifname: &str) -> Result<Vec<IpAddr>, Failure> {
        let is_its = |ip: &&Ip| match ip.interface {
            None => true,
            Some(at) => self
                .interfaces
                .get(at)
                .is_some_and(|interface| interface.name == ifname && !interface.sandbox.is_empty()),
        };
        self.ips
            .iter()
            .filter(is_its)
            .map(|ip| {
                let bare = ip.address.split('/').next().unwrap_or_default();
                bare.parse().map_err(|_| {
                    Failure::new(
                        Code::Decode,
                        format!("prevResult has {:?} as an address", ip.address),
                        "see what the plug-in before signet-cni prints",
                    )
                })
            })
            .collect()
    }

    /// Whether an interface of the host is among what was made for the pod.
    pub(crate) fn made(&self, name: &str) -> bool {
        self.interfaces
            .iter()
            .any(|interface| interface.sandbox.is_empty() && interface.name == name)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn previous(text: &str) -> Previous {
        let input = format!(r#"{{"cniVersion": "1.0.0", "prevResult": {text}}}"#);
        Previous::of(&Config::parse(input.as_bytes()).unwrap()).unwrap()
    }

    #[test]
    fn addresses_are_those_of_the_pods_interface() {
        let made = previous(
            r#"{"interfaces": [{"name": "cni0"}, {"name": "veth1", "mac": "02:00:00:00:00:01"},
                               {"name": "eth0", "sandbox": "/run/netns/a"},
                               {"name": "net1", "sandbox": "/run/netns/a"}],
                "ips": [{"address": "10.0.0.7/24", "interface": 2, "gateway": "10.0.0.1"},
                        {"address": "fd00::7/64", "interface": 2},
                        {"address": "10.9.0.7/24", "interface": 3}]}"#,
        );
        let ips: Vec<IpAddr> = vec!["10.0.0.7".parse().unwrap(), "fd00::7".parse().unwrap()];
        assert_eq!(made.addresses("eth0").unwrap(), ips);
        assert!(made.made("veth1") && made.made("cni0") && !made.made("eth0"));
    }

    #[test]
    fn an_ipam_result_without_interfaces_is_the_pods() {
        let made = previous(r#"{"ips": [{"address": "10.0.0.7/24"}]}"#);
        assert_eq!(made.addresses("eth0").unwrap().len(), 1);
        let made = previous(r#"{"ips": [{"address": "ten/24"}]}"#);
        assert_eq!(made.addresses("eth0").unwrap_err().code, Code::Decode);
    }

    #[test]
    fn a_plug_in_that_is_not_chained_says_so() {
        let config = Config::parse(br#"{"cniVersion": "1.0.0"}"#).unwrap();
        let failure = Previous::of(&config).unwrap_err();
        assert!(failure.msg.contains("chained"), "{failure:?}");
    }
}
