//! Pods of this node that nobody has handed over: they are looked for.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::{Duration, Instant},
};

use super::{AddError, Executor, NewEndpoint};
use crate::{
    discover::{self, Found},
    state::FoundBy,
};

/// Looked for again this often, while there are such pods.
const AGAIN: Duration = Duration::from_secs(10);

#[derive(Default)]
pub(super) struct Discovery {
    under_way: bool,
    looked: Option<Instant>,
    /// Pods whose runtime has taken them away. What is left of them is on its way out.
    pub(super) withdrawn: BTreeSet<String>,
    /// What was said already, by pod.
    told: BTreeMap<String, String>,
}

impl Executor {
    /// Looks in a task of its own; what it finds comes by the inbox.
    pub(super) fn discover(&mut self) {
        let wanted = self.unknown_pods();
        self.discovery.told.retain(|pod, _| wanted.contains(pod));
        if wanted.is_empty() || self.discovery.under_way {
            return;
        }
        self.discovery.under_way = true;
        self.discovery.looked = Some(Instant::now());
        let (netlink, inbox) = (self.host.netlink().clone(), self.inbox.clone());
        tokio::spawn(async move {
            inbox
                .discovered(discover::look(netlink, wanted).await)
                .await;
        });
    }

    pub(super) fn discover_again(&mut self) {
        let looked = self.discovery.looked;
        if looked.is_none_or(|at| at.elapsed() >= AGAIN) {
            self.discover();
        }
    }

    pub(super) async fn discovered(&mut self, found: Result<Vec<Found>, String>) {
        self.discovery.under_way = false;
        let found = match found {
            Ok(found) => found,
            Err(problem) => return self.tell_once("", problem),
        };
        // Somebody may have handed them over meanwhile, or taken them away.
        let wanted = self.unknown_pods();
        for Found { pod_uid, interface } in found {
            if !wanted.contains(&pod_uid) {
                continue;
            }
            let done = match interface {
                Ok(name) => self.enforce_found(&pod_uid, &name).await,
                Err(problem) => Err(problem),
            };
            if let Err(problem) = done {
                self.tell_once(&pod_uid, problem);
            }
        }
    }

    async fn enforce_found(&mut self, pod_uid: &str, name: &str) -> Result<(), String> {
        let (link, mac) = self.host.pod_link(name).await?;
        let taken = self
            .store
            .records()
            .find(|record| record.ifindex == link.index);
        if let Some(taken) = taken {
            return Err(format!(
                "interface {name} is that of pod {} already",
                self.names.pod(&taken.pod_uid)
            ));
        }
        let new = NewEndpoint {
            pod_uid: pod_uid.to_owned(),
            link,
            mac,
            found: FoundBy::Discovery,
        };
        match self.add_endpoint(new).await {
            Ok(_) => {
                tracing::info!(
                    pod = self.names.pod(pod_uid),
                    interface = name,
                    "pod that was there before is enforced from now on"
                );
                Ok(())
            }
            Err(AddError::NotPlaced) => Ok(()),
            Err(AddError::Failed(problem)) => Err(problem),
        }
    }

    /// Pods that the manifests place here, and no endpoint is for.
    fn unknown_pods(&mut self) -> BTreeSet<String> {
        let pods = &self.cluster.view.pods;
        let placed: BTreeSet<&str> = pods.iter().map(|pod| pod.uid.as_str()).collect();
        let withdrawn = &mut self.discovery.withdrawn;
        withdrawn.retain(|pod| placed.contains(pod.as_str()));
        placed
            .into_iter()
            .filter(|pod| self.store.record(pod).is_none() && !withdrawn.contains(*pod))
            .map(str::to_owned)
            .collect()
    }

    fn tell_once(&mut self, pod_uid: &str, problem: String) {
        if self.discovery.told.get(pod_uid) == Some(&problem) {
            return;
        }
        tracing::warn!(
            pod = self.names.pod(pod_uid),
            problem,
            "pod that was there before is not enforced, and stays silent"
        );
        self.discovery.told.insert(pod_uid.to_owned(), problem);
    }
}
