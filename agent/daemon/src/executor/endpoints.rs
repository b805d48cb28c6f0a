//! Local pods: added by the status socket or a restart, removed when anything of them is gone.

use signet_agent_core::{
    io::{EndpointRow, Input, MapOp, PodUid},
    status::Endpoint,
};

use super::{AddError, Executor, NewEndpoint};
use crate::state::EndpointRecord;

impl Executor {
    /// Enforces a pod. Whatever the answer, nothing of it passes that policy does not allow.
    pub(super) async fn add_endpoint(&mut self, new: NewEndpoint) -> Result<Endpoint, AddError> {
        let Some(addresses) = self.addresses_of(&new.pod_uid) else {
            return Err(AddError::NotPlaced);
        };
        let stale = self
            .store
            .records()
            .find(|record| record.ifindex == new.link.index && record.pod_uid != new.pod_uid)
            .map(|record| record.pod_uid.clone());
        if let Some(stale) = stale {
            // The kernel uses numbers of interfaces again; the other one is gone or will be.
            tracing::info!(
                pod = self.names.pod(&stale),
                "another pod has its interface now"
            );
            self.remove_endpoint(PodUid::new(stale)).await;
        }
        self.dismissed
            .retain(|_, old| old.ifindex != new.link.index);
        let known = self.store.record(&new.pod_uid);
        let record = EndpointRecord {
            pod_uid: new.pod_uid.clone(),
            ifname: new.link.name.clone(),
            ifindex: new.link.index,
            mac: new.mac,
            addresses,
            index: known.map_or(0, |known| known.index),
            generation: known.map_or(0, |known| known.generation),
            found: new.found,
        };
        self.store.put(record.clone()).map_err(AddError::Failed)?;
        self.refusal = None;
        self.feed(added(&record)).await;
        if let Some(problem) = self.refusal.take() {
            self.remove_endpoint(PodUid::new(&new.pod_uid)).await;
            return Err(AddError::Failed(problem));
        }
        self.endpoint(&new.pod_uid).ok_or_else(|| {
            AddError::Failed(format!(
                "pod {} was not taken on: see the agent's log",
                new.pod_uid
            ))
        })
    }

    /// True if there was such a pod.
    pub(super) async fn remove_endpoint(&mut self, pod: PodUid) -> bool {
        self.dismissed.remove(pod.as_str());
        let existed = match self.store.remove(pod.as_str()) {
            Ok(existed) => existed,
            Err(problem) => {
                tracing::error!(problem, "removed endpoint is still stored");
                true
            }
        };
        self.feed(Input::EndpointRemoved { pod }).await;
        existed
    }

    /// Endpoints of the agent before this one: those whose interface is still there go on.
    pub(super) async fn readopt_endpoints(&mut self) {
        let records: Vec<_> = self.store.records().cloned().collect();
        for record in records {
            let present = self.host.pod_link(&record.ifname).await;
            let same = present
                .as_ref()
                .is_ok_and(|(link, mac)| link.index == record.ifindex && *mac == record.mac);
            let placed = self.addresses_of(&record.pod_uid);
            match placed {
                Some(addresses) if same => {
                    tracing::info!(pod = self.names.pod(&record.pod_uid), "endpoint goes on");
                    let record = EndpointRecord {
                        addresses,
                        ..record
                    };
                    self.feed(added(&record)).await;
                }
                Some(_) | None => {
                    tracing::info!(pod = self.names.pod(&record.pod_uid), "endpoint is gone");
                    self.remove_endpoint(PodUid::new(record.pod_uid)).await;
                }
            }
        }
    }

    /// After a change of the manifests: pods that are gone, and addresses that are others.
    pub(super) async fn follow_pods(&mut self) {
        let records: Vec<_> = self.store.records().cloned().collect();
        for record in records {
            match self.addresses_of(&record.pod_uid) {
                None => {
                    tracing::info!(pod = record.pod_uid, "pod is no longer placed on this node");
                    self.remove_endpoint(PodUid::new(&record.pod_uid)).await;
                    self.dismissed.insert(record.pod_uid.clone(), record);
                }
                Some(addresses) if addresses != record.addresses => {
                    let record = EndpointRecord {
                        addresses,
                        ..record
                    };
                    if let Err(problem) = self.store.put(record.clone()) {
                        tracing::error!(problem, "changed endpoint is not stored");
                    }
                    self.feed(added(&record)).await;
                }
                Some(_) => {}
            }
        }
        self.take_back().await;
    }

    /// Pods whose object was gone for a moment: a directory that is filled anew, an editor that
    /// removes before it writes. No runtime adds them a second time.
    async fn take_back(&mut self) {
        let returned: Vec<_> = self
            .dismissed
            .keys()
            .filter(|pod| self.addresses_of(pod).is_some())
            .cloned()
            .collect();
        for pod in returned {
            let Some(record) = self.dismissed.remove(&pod) else {
                continue;
            };
            let present = self.host.pod_link(&record.ifname).await;
            let Ok((link, mac)) = present else { continue };
            if link.index == record.ifindex && mac == record.mac {
                tracing::info!(pod = self.names.pod(&pod), "pod is back");
                let new = NewEndpoint {
                    pod_uid: pod,
                    link,
                    mac,
                    found: record.found,
                };
                if let Err(AddError::Failed(problem)) = self.add_endpoint(new).await {
                    tracing::warn!(
                        problem,
                        "pod that is back is not enforced, and stays silent"
                    );
                }
            }
        }
    }

    /// Keeps the record of an endpoint up to date with what the core has given it.
    pub(super) fn remember(&mut self, op: &MapOp) {
        let MapOp::SetEndpoint(EndpointRow {
            index,
            generation,
            ifindex,
            ..
        }) = op
        else {
            return;
        };
        let known = self
            .store
            .records()
            .find(|record| record.ifindex == *ifindex);
        let Some(record) = known.cloned() else { return };
        let record = EndpointRecord {
            index: index.0,
            generation: *generation,
            ..record
        };
        if let Err(problem) = self.store.put(record) {
            tracing::error!(
                problem,
                "endpoint is not stored; a restarted agent will not know it"
            );
        }
    }

    /// Addresses of a pod that the manifests place here.
    fn addresses_of(&self, pod_uid: &str) -> Option<Vec<std::net::IpAddr>> {
        let pods = &self.cluster.view.pods;
        pods.iter()
            .find(|pod| pod.uid.as_str() == pod_uid)
            .map(|pod| pod.pod.addresses.clone())
    }
}

fn added(record: &EndpointRecord) -> Input {
    Input::EndpointAdded {
        pod: PodUid::new(&record.pod_uid),
        ifindex: record.ifindex,
        ifname: record.ifname.clone(),
        mac: record.mac,
        addresses: record.addresses.clone(),
    }
}
