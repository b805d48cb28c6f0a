//! How each thing happens.

use std::{thread, time::Duration};

use anyhow::{Context, Result, ensure};
use signet_tests::{lab::Family, netns, shop};

use crate::{
    deck::{DEVICES, Deed, Kind, NODES, REMOVALS},
    stage::{CANARY, PORT, Stage},
};

const SOON: Duration = Duration::from_secs(20);

impl Stage {
    pub(crate) fn act(&mut self, deed: &Deed) -> Result<()> {
        let node = deed.node;
        match deed.kind {
            Kind::AgentKilled => {
                self.lab.kill(node, "agent")?;
                thread::sleep(deed.pause);
                self.restart(&[node, "agent"])
            }
            Kind::AgentRestarted => self.restart(&[node, "agent"]),
            Kind::AllAgentsKilled => {
                for node in NODES {
                    self.lab.kill(node, "agent")?;
                }
                // Who had no leave before gets none now that nobody could be asked.
                let db = self.lab.socket("shop/db", Family::V6, PORT)?;
                self.silent("other/stray", db, "no agent runs")?;
                thread::sleep(deed.pause);
                for node in NODES {
                    self.restart(&[node, "agent"])?;
                }
                Ok(())
            }
            Kind::ServiceKilled => {
                self.kill_service()?;
                thread::sleep(deed.pause);
                self.restart(&["identity"])
            }
            Kind::EngineKilled => {
                self.lab.kill(node, "tunnel")?;
                thread::sleep(deed.pause / 4);
                self.restart(&[node, "tunnel"])
            }
            Kind::Cut => {
                let port = format!("port{}", node.trim_start_matches("node"));
                self.shell("identity", &format!("ip link set {port} down"))?;
                thread::sleep(deed.pause);
                self.shell("identity", &format!("ip link set {port} up"))
            }
            Kind::CutAndKilled => {
                let port = format!("port{}", node.trim_start_matches("node"));
                self.shell("identity", &format!("ip link set {port} down"))?;
                self.lab.kill(node, "agent")?;
                thread::sleep(deed.pause);
                self.shell("identity", &format!("ip link set {port} up"))?;
                self.restart(&[node, "agent"])
            }
            Kind::ServiceAndAgentKilled => {
                self.kill_service()?;
                self.lab.kill(node, "agent")?;
                thread::sleep(deed.pause);
                self.restart(&["identity"])?;
                self.restart(&[node, "agent"])
            }
            Kind::PodComesAndGoes => self.pod_comes_and_goes(),
            Kind::AddressReused => self.address_reused(),
            Kind::DeviceDeleted => {
                let device = DEVICES[deed.form];
                self.shell(node, &format!("ip link del {device}"))?;
                if device.starts_with("sgslot") {
                    // Its engine ends itself, and what supervises it starts another.
                    thread::sleep(Duration::from_millis(500));
                    self.restart(&[node, "tunnel"])?;
                }
                Ok(())
            }
            Kind::ConntrackFlushed => {
                self.shell(node, "conntrack -F 2>/dev/null")?;
                self.forget_flows(node)
            }
            Kind::RulesRemoved => self.shell(node, REMOVALS[deed.form]),
            Kind::PolicyChanged => {
                self.policy = !self.policy;
                self.apply()
            }
        }
    }

    fn kill_service(&self) -> Result<()> {
        let found = self.lab.describe()?;
        let pid = found["identity"]["process"]["pid"]
            .as_i64()
            .context("pid")?;
        let pid = nix::unistd::Pid::from_raw(i32::try_from(pid)?);
        Ok(nix::sys::signal::kill(pid, nix::sys::signal::SIGKILL)?)
    }

    fn pod_comes_and_goes(&mut self) -> Result<()> {
        self.extra = shop::pod("shop", "churn", "db", "node2", &[("app", "db")]);
        self.apply()?;
        netns::serve_echo(&self.lab.netns("shop/churn")?, PORT)?;
        let churn = self.socket("shop/churn")?;
        let web = self.lab.netns("shop/web")?;
        netns::udp_echo(&web, churn, CANARY, SOON, 20).context("a pod that has come")?;
        self.silent("other/stray", churn, "a pod that has come")?;
        self.extra.clear();
        self.apply()?;
        self.silent("shop/web", churn, "a pod that is gone")
    }

    fn address_reused(&mut self) -> Result<()> {
        self.extra = shop::pod("shop", "churn", "db", "node2", &[("app", "db")]);
        self.apply()?;
        netns::serve_echo(&self.lab.netns("shop/churn")?, PORT)?;
        let churn = self.socket("shop/churn")?;
        let web = self.lab.netns("shop/web")?;
        netns::udp_echo(&web, churn, CANARY, SOON, 20).context("the first owner")?;
        let addresses = [
            churn.ip().to_string(),
            self.lab.address("shop/churn", Family::V6)?.to_string(),
        ];
        let addresses = [addresses[0].as_str(), addresses[1].as_str()];
        let label = [("app", "db")];
        self.extra = shop::pod_with("other", "heir", "stray", "node2", &label, &addresses);
        self.apply()?;
        netns::serve_echo(&self.lab.netns("other/heir")?, PORT)?;
        ensure!(
            self.socket("other/heir")? == churn,
            "the address was to change hands"
        );
        self.silent("shop/web", churn, "an address that changed hands")?;
        let store = self.socket("shop/store")?;
        self.silent("other/heir", store, "the heir of an address")?;
        self.extra.clear();
        self.apply()
    }

    /// Empties the data path's own table of flows.
    fn forget_flows(&self, node: &str) -> Result<()> {
        let root = self.lab.node(node)?;
        let root = root["bpf_root"].as_str().context("bpf_root")?;
        let map = format!("{root}/v1/maps/conntrack");
        let dump = self
            .lab
            .exec(node, &["bpftool", "-j", "map", "dump", "pinned", &map])?;
        ensure!(dump.status.success(), "{map}: {dump:?}");
        let entries: Vec<serde_json::Value> = serde_json::from_slice(&dump.stdout)?;
        ensure!(!entries.is_empty(), "{map} is empty under load");
        let mut batch = String::new();
        for entry in &entries {
            let key = entry["key"].as_array().context("a key")?;
            let bytes: Vec<&str> = key.iter().filter_map(serde_json::Value::as_str).collect();
            batch += &format!("map delete pinned {map} key {}\n", bytes.join(" "));
        }
        let file = tempfile::NamedTempFile::new()?;
        std::fs::write(file.path(), batch)?;
        let path = file.path().to_string_lossy();
        // An entry may have gone by itself meanwhile, which ends a batch early.
        let _ = self.lab.exec(node, &["bpftool", "batch", "file", &path])?;
        Ok(())
    }
}
