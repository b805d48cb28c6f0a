//! What the runtime asks for: the `CNI_` variables.

use std::path::PathBuf;

use crate::failure::{Code, Failure};

/// The verbs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Command {
    Add,
    Del,
    Check,
    Gc,
    Status,
    Version,
}

impl Command {
    pub(crate) fn parse(text: &str) -> Result<Self, Failure> {
        Ok(match text {
            "ADD" => Self::Add,
            "DEL" => Self::Del,
            "CHECK" => Self::Check,
            "GC" => Self::Gc,
            "STATUS" => Self::Status,
            "VERSION" => Self::Version,
            other => {
                return Err(Failure::new(
                    Code::Environment,
                    format!("CNI_COMMAND {other:?} is no verb of CNI 1.1.0"),
                    "it must be ADD, DEL, CHECK, GC, STATUS or VERSION",
                ));
            }
        })
    }
}

/// The pod, as Kubernetes runtimes name it in `CNI_ARGS`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Pod {
    pub(crate) uid: Option<String>,
    pub(crate) namespace: String,
    pub(crate) name: String,
}

impl Pod {
    fn parse(args: &str) -> Self {
        let mut pod = Self::default();
        for (key, value) in args.split(';').filter_map(|pair| pair.split_once('=')) {
            match key.trim() {
                "K8S_POD_UID" if !value.is_empty() => pod.uid = Some(value.to_owned()),
                "K8S_POD_NAMESPACE" => value.clone_into(&mut pod.namespace),
                "K8S_POD_NAME" => value.clone_into(&mut pod.name),
                _ => {}
            }
        }
        pod
    }

    /// The UID, which alone tells one pod from the next of the same name.
    pub(crate) fn uid(&self) -> Result<&str, Failure> {
        self.uid.as_deref().ok_or_else(|| {
            Failure::new(
                Code::Environment,
                format!("CNI_ARGS names no K8S_POD_UID for pod {}", self.called()),
                "the container runtime must pass it, as current containerd and CRI-O do",
            )
        })
    }

    /// For people.
    pub(crate) fn called(&self) -> String {
        if self.name.is_empty() {
            return self.uid.clone().unwrap_or_else(|| "without a name".into());
        }
        format!("{}/{}", self.namespace, self.name)
    }
}

/// One call, as far as its verb needs it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Call {
    pub(crate) command: Command,
    /// Absent for `DEL` once the pod's namespace is gone, and for verbs that are about no pod.
    pub(crate) netns: Option<PathBuf>,
    pub(crate) ifname: String,
    pub(crate) pod: Pod,
}

impl Call {
    /// # Errors
    /// Names the variable that is missing.
    pub(crate) fn read(
        command: Command,
        variable: impl Fn(&str) -> Option<String>,
    ) -> Result<Self, Failure> {
        let (attachment, netns) = match command {
            Command::Add | Command::Check => (true, true),
            Command::Del => (true, false),
            Command::Gc | Command::Status | Command::Version => (false, false),
        };
        let need = |name: &str, needed: bool| match variable(name) {
            None if needed => Err(Failure::new(
                Code::Environment,
                format!("{name} is missing"),
                "the container runtime must set it for this verb",
            )),
            value => Ok(value),
        };
        need("CNI_CONTAINERID", attachment)?;
        Ok(Self {
            command,
            netns: need("CNI_NETNS", netns)?.map(PathBuf::from),
            ifname: need("CNI_IFNAME", attachment)?.unwrap_or_default(),
            pod: Pod::parse(&variable("CNI_ARGS").unwrap_or_default()),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn call(command: Command, variables: &[(&str, &str)]) -> Result<Call, Failure> {
        Call::read(command, |name| {
            variables
                .iter()
                .find(|(key, _)| *key == name)
                .map(|(_, value)| (*value).to_owned())
        })
    }

    #[test]
    fn a_pod_is_told_by_what_kubelets_runtimes_pass() {
        let args = "IgnoreUnknown=1;K8S_POD_NAMESPACE=shop;K8S_POD_NAME=web;\
                    K8S_POD_INFRA_CONTAINER_ID=c1;K8S_POD_UID=7d0f";
        let all = [
            ("CNI_CONTAINERID", "c1"),
            ("CNI_NETNS", "/run/netns/a"),
            ("CNI_IFNAME", "eth0"),
            ("CNI_ARGS", args),
        ];
        let call = call(Command::Add, &all).unwrap();
        assert_eq!(call.pod.uid().unwrap(), "7d0f");
        assert_eq!(call.pod.called(), "shop/web");
        assert_eq!(call.ifname, "eth0");
    }

    #[test]
    fn what_a_verb_needs_is_missed_by_name() {
        let some = [("CNI_CONTAINERID", "c1"), ("CNI_IFNAME", "eth0")];
        for command in [Command::Add, Command::Check] {
            let failure = call(command, &some).unwrap_err();
            assert_eq!(
                (failure.code, failure.msg.as_str()),
                (Code::Environment, "CNI_NETNS is missing")
            );
        }
        assert_eq!(call(Command::Del, &some).unwrap().netns, None);
        for command in [Command::Gc, Command::Status] {
            call(command, &[]).unwrap();
        }
        let failure = call(Command::Del, &some).unwrap().pod.uid().map(drop);
        assert!(failure.unwrap_err().msg.contains("K8S_POD_UID"));
        assert!(Command::parse("UPDATE").is_err());
    }
}
