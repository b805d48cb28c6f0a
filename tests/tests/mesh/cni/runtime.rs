//! What a container runtime does with a CNI configuration list, for pods that the lab does not make.

use std::{
    fs,
    hash::{DefaultHasher, Hash, Hasher},
    io::Write,
    net::IpAddr,
    path::{Path, PathBuf},
    process::{Command, Stdio},
};

use anyhow::{Context, Result, anyhow, ensure};
use serde_json::{Value, json};
use signet_tests::{bin, lab::Lab, netns, shop};
use tempfile::TempDir;

/// Where Debian's `containernetworking-plugins` are.
const PLUGINS: &str = "/usr/lib/cni";

const NODE: &str = "node1";

/// A pod of service account `web` on node1, attached by plug-ins alone.
pub(super) struct Guest<'a> {
    lab: &'a Lab,
    pub(super) name: String,
    account: &'static str,
    uid: String,
    host: u32,
    plugins: Vec<Value>,
    leases: TempDir,
}

impl<'a> Guest<'a> {
    /// Gives the node a Pod object with host number `host` of both ranges, and the pod a namespace.
    /// The network is `main`'s; `signet-cni` comes behind it.
    pub(super) fn new(lab: &'a Lab, name: &str, host: u32, main: &Value) -> Result<Self> {
        Self::of_account(lab, "web", name, host, main)
    }

    /// As [`Guest::new`], of another service account.
    pub(super) fn of_account(
        lab: &'a Lab,
        account: &'static str,
        name: &str,
        host: u32,
        main: &Value,
    ) -> Result<Self> {
        let leases = TempDir::new()?;
        let mut guest = Self {
            lab,
            name: name.to_owned(),
            account,
            uid: String::new(),
            host,
            plugins: Vec::new(),
            leases,
        };
        let mut main = main.clone();
        main["ipam"] = guest.ipam()?;
        let socket = lab.node(NODE)?["status_socket"].take();
        guest.plugins = vec![main, json!({"type": "signet-cni", "statusSocket": socket})];
        guest.become_new(1)?;
        ip(&["netns", "add", &guest.netns()])?;
        Ok(guest)
    }

    /// The Pod object is deleted and created again: same name, same addresses, another UID.
    pub(super) fn become_new(&mut self, creation: u32) -> Result<()> {
        let mut hasher = DefaultHasher::new();
        (&self.name, creation).hash(&mut hasher);
        let tail = hasher.finish() & 0xffff_ffff_ffff;
        self.uid = format!("00000000-0000-4000-8000-{tail:012x}");
        let addresses: Vec<_> = self.addresses()?.iter().map(ToString::to_string).collect();
        let addresses: Vec<_> = addresses.iter().map(String::as_str).collect();
        let labels = [("app", self.name.as_str())];
        let object = shop::pod_with("shop", &self.name, self.account, NODE, &labels, &addresses)
            .replacen(
                "metadata: {",
                &format!("metadata: {{uid: {}, ", self.uid),
                1,
            );
        let file = self.manifest()?;
        let draft = file.with_file_name(format!(".{}.new", self.name));
        fs::write(&draft, object)?;
        fs::rename(draft, file)?;
        Ok(())
    }

    fn manifest(&self) -> Result<PathBuf> {
        let dir = self.lab.describe()?["manifests_dir"].take();
        let dir = Path::new(dir.as_str().context("manifests_dir")?);
        Ok(dir.join(format!("Pod.shop.{}.yaml", self.name)))
    }

    /// The pod is deleted: its network, its object and its namespace.
    pub(super) fn vanish(self, result: &Value) -> Result<()> {
        self.del(Some(result))?;
        fs::remove_file(self.manifest()?)?;
        ip(&["netns", "del", &self.netns()])
    }

    /// `metadata.uid` of the Pod object.
    pub(super) fn uid(&self) -> &str {
        &self.uid
    }

    /// `lab down` removes it, by its name.
    pub(super) fn netns(&self) -> String {
        format!("sg-{}-{NODE}-{}", self.lab.name, self.name)
    }

    /// IPv4 first.
    pub(super) fn addresses(&self) -> Result<Vec<IpAddr>> {
        cidrs(self.lab)?
            .iter()
            .map(|cidr| nth(cidr, self.host))
            .collect()
    }

    /// Runs the plug-ins before the last.
    pub(super) fn add_network(&self) -> Result<Value> {
        let (_, before) = self.plugins.split_last().context("plug-ins")?;
        self.add(before, None)?
            .map_err(|error| anyhow!("ADD of {}: {error}", self.name))
    }

    /// Runs the last plug-in; what it makes of `result`, or its error object.
    pub(super) fn add_last(&self, result: &Value) -> Result<Result<Value, Value>> {
        let last = self.plugins.last().context("plug-ins")?;
        self.run("ADD", last, Some(result))
    }

    /// Runs all plug-ins.
    pub(super) fn add_all(&self) -> Result<Value> {
        self.add(&self.plugins, None)?
            .map_err(|error| anyhow!("ADD of {}: {error}", self.name))
    }

    fn add(&self, plugins: &[Value], mut result: Option<Value>) -> Result<Result<Value, Value>> {
        for plugin in plugins {
            match self.run("ADD", plugin, result.as_ref())? {
                Ok(made) => result = Some(made),
                Err(error) => return Ok(Err(error)),
            }
        }
        Ok(Ok(result.unwrap_or_default()))
    }

    /// Asks each plug-in whether the pod is as it was made.
    pub(super) fn check(&self, result: &Value) -> Result<Result<(), Value>> {
        for plugin in &self.plugins {
            if let Err(error) = self.run("CHECK", plugin, Some(result))? {
                return Ok(Err(error));
            }
        }
        Ok(Ok(()))
    }

    /// Takes the pod off the network, last plug-in first.
    pub(super) fn del(&self, result: Option<&Value>) -> Result<()> {
        self.del_from(0, result)
    }

    /// Runs `DEL` of the last plug-in alone.
    pub(super) fn del_last(&self, result: Option<&Value>) -> Result<()> {
        self.del_from(self.plugins.len() - 1, result)
    }

    fn del_from(&self, first: usize, result: Option<&Value>) -> Result<()> {
        for plugin in self.plugins[first..].iter().rev() {
            self.run("DEL", plugin, result)?
                .map_err(|error| anyhow!("DEL of {} by {}: {error}", self.name, plugin["type"]))?;
        }
        Ok(())
    }

    /// What `signetctl endpoints` says of the pod.
    pub(super) fn endpoint(&self) -> Result<Option<Value>> {
        let all = self.lab.ask(NODE, &["endpoints"])?;
        let all = all["endpoints"].as_array().context("endpoints")?;
        Ok(all
            .iter()
            .find(|endpoint| endpoint["pod_uid"] == self.uid.as_str())
            .cloned())
    }

    fn run(
        &self,
        verb: &str,
        plugin: &Value,
        previous: Option<&Value>,
    ) -> Result<Result<Value, Value>> {
        let kind = plugin["type"].as_str().context("type")?;
        let mut config = plugin.clone();
        config["cniVersion"] = json!("1.0.0");
        config["name"] = json!("pods");
        if let Some(previous) = previous {
            config["prevResult"] = previous.clone();
        }
        let own = bin::dir()?;
        let found = [own.as_path(), Path::new(PLUGINS)].map(|dir| dir.join(kind));
        let program = found
            .into_iter()
            .find(|path| path.exists())
            .with_context(|| {
                format!("no CNI plug-in {kind} in {PLUGINS}: `make setup` installs it")
            })?;
        let mut command = Command::new(program);
        command
            .env("CNI_COMMAND", verb)
            .env("CNI_CONTAINERID", &self.uid)
            .env("CNI_NETNS", format!("/run/netns/{}", self.netns()))
            .env("CNI_IFNAME", "eth0")
            .env("CNI_PATH", PLUGINS)
            .env(
                "CNI_ARGS",
                format!(
                    "IgnoreUnknown=1;K8S_POD_NAMESPACE=shop;K8S_POD_NAME={};K8S_POD_UID={}",
                    self.name, self.uid
                ),
            )
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
        let out = netns::within(&self.lab.netns(NODE)?, move || {
            let mut child = command.spawn()?;
            let mut input = child.stdin.take().context("stdin")?;
            input.write_all(config.to_string().as_bytes())?;
            drop(input);
            Ok(child.wait_with_output()?)
        })?;
        let said = if out.stdout.is_empty() {
            Value::Null
        } else {
            serde_json::from_slice(&out.stdout).with_context(|| {
                format!("{kind} {verb}: {}", String::from_utf8_lossy(&out.stdout))
            })?
        };
        Ok(if out.status.success() {
            Ok(said)
        } else {
            Err(said)
        })
    }

    fn ipam(&self) -> Result<Value> {
        let ranges = cidrs(self.lab)?
            .iter()
            .map(|cidr| {
                let only = nth(cidr, self.host)?;
                Ok(json!([{"subnet": cidr, "rangeStart": only, "rangeEnd": only}]))
            })
            .collect::<Result<Vec<_>>>()?;
        Ok(json!({
            "type": "host-local",
            "dataDir": self.leases.path(),
            "ranges": ranges,
            "routes": [{"dst": "0.0.0.0/0"}, {"dst": "::/0"}],
        }))
    }
}

fn cidrs(lab: &Lab) -> Result<Vec<String>> {
    let cidrs = lab.node(NODE)?["pod_cidrs"].take();
    serde_json::from_value(cidrs).context("pod_cidrs")
}

/// Address number `host` of a range that ends in zeros.
fn nth(cidr: &str, host: u32) -> Result<IpAddr> {
    let base = cidr.split('/').next().unwrap_or_default();
    Ok(match base.parse()? {
        IpAddr::V4(v4) => std::net::Ipv4Addr::from(u32::from(v4) + host).into(),
        IpAddr::V6(v6) => std::net::Ipv6Addr::from(u128::from(v6) + u128::from(host)).into(),
    })
}

/// Runs `ip`.
pub(super) fn ip(args: &[&str]) -> Result<()> {
    let out = Command::new("ip").args(args).output()?;
    ensure!(
        out.status.success(),
        "ip {args:?}: {}",
        String::from_utf8_lossy(&out.stderr)
    );
    Ok(())
}
