//! What the cluster source says, and the policy that follows from it.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::IpAddr,
};

use ipnet::IpNet;
use signet_policy::{CidrPartition, PairPolicy, PeerFacts};

use crate::{
    agent::Agent,
    effects::Ctx,
    endpoint::Endpoint,
    event::PairEnd,
    facts::ClusterView,
    ids::{ClassId, PodUid},
    rows::{MapOp, PodRange, PolicyKey},
};

/// Addresses that belong to no pod: their classes, and the ranges that do belong to pods.
#[derive(Debug, Default)]
pub(super) struct World {
    partition: Option<CidrPartition>,
    /// Class of each of the partition's classes.
    classes: Vec<ClassId>,
    cidrs: BTreeMap<IpNet, Option<ClassId>>,
    ranges: BTreeMap<IpNet, Option<PodRange>>,
}

impl World {
    /// Blocks and ranges of a previous instance; written anew or removed with the first view.
    pub(super) fn adopt(&mut self, cidrs: impl Iterator<Item = IpNet>, ranges: Vec<IpNet>) {
        self.cidrs.extend(cidrs.map(|net| (net, None)));
        self.ranges
            .extend(ranges.into_iter().map(|net| (net, None)));
    }

    /// The class that a block should have; `None` if it should not be there.
    pub(super) fn cidr(&self, net: &IpNet) -> Option<ClassId> {
        self.cidrs.get(net).copied().flatten()
    }

    /// The same of a range.
    pub(super) fn range(&self, net: &IpNet) -> Option<PodRange> {
        self.ranges.get(net).copied().flatten()
    }
}

impl Agent {
    pub(super) fn on_cluster(&mut self, view: Box<ClusterView>, ctx: &mut Ctx<'_>) {
        let nodes_gone = self.nodes_gone(&view);
        self.cluster = Some(view);
        self.write_ranges(ctx);
        self.set_host(ctx);
        for pod in self.endpoints.pods() {
            let known = self.known(&pod, None);
            self.set_known(&pod, known, ctx);
        }
        for node in nodes_gone {
            self.on_node_gone(&node, ctx);
        }
        self.update_peer_facts();
        // Before the world's classes change, so that endpoints taken over get entries for them.
        self.take_early(ctx);
        // Pairs that no rule admits any more lose their rows before anything is opened.
        self.close_unadmitted(ctx);
        self.learn_nodes(ctx);
        self.apply_world(ctx);
        let pods = self.endpoints.pods();
        self.apply_policy(&pods, ctx);
        self.flush_refusals(|_| true, ctx);
        for pod in &pods {
            self.request_svid(pod, ctx);
            self.answer_requests_for(pod, ctx);
        }
        self.try_start(ctx);
        self.advance_all(ctx);
    }

    /// Closes pairs that policy no longer admits.
    pub(super) fn close_unadmitted(&mut self, ctx: &mut Ctx<'_>) {
        let keys = self.pairs.keys_where(|key, _| {
            let local = self
                .endpoints
                .of_pod(&key.local)
                .and_then(|e| e.known.as_ref());
            let remote = self.directory.entry(&key.remote);
            match (local, remote) {
                (Some(local), Some(remote)) => !self.admits(&local.facts, remote),
                (None, _) | (_, None) => true,
            }
        });
        for key in keys {
            self.close_pair(&key, PairEnd::Policy, true, ctx);
        }
    }

    /// Brings policy entries and rows of these endpoints in line, without a window.
    pub(super) fn apply_policy(&mut self, pods: &[PodUid], ctx: &mut Ctx<'_>) {
        let retry = self.config.timers.refused;
        for pod in pods {
            let Some(target) = self.targets(pod) else {
                self.shut(pod, ctx);
                continue;
            };
            let Some(view) = self.cluster.as_ref() else {
                continue;
            };
            let Some(endpoint) = self.endpoints.of_pod_mut(pod) else {
                continue;
            };
            let plan = self.policy.plan(endpoint.index, target);
            let isolation = endpoint
                .known
                .as_ref()
                .map(|k| view.policies.isolation(&k.facts));
            let isolation = isolation.unwrap_or_default();
            let changed = isolation != endpoint.isolation
                || !plan.is_empty()
                || endpoint.incomplete.is_some();
            // Only what has been there without a refusal counts as written.
            endpoint.incomplete = endpoint
                .incomplete
                .filter(|_| !plan.is_empty())
                .map(|_| ctx.boot() + retry);
            endpoint.isolation = isolation;
            plan.write(ctx);
            ctx.bpf(MapOp::SetEndpoint(endpoint.row(ctx.boot())));
            plan.remove(ctx);
            if changed {
                // Last, so that no flow is judged again by an entry that is about to go.
                endpoint.policy_generation = endpoint.policy_generation.wrapping_add(1);
                ctx.bpf(MapOp::SetEndpoint(endpoint.row(ctx.boot())));
            }
        }
    }

    /// Nothing is known of the pod: nothing passes, whatever rules said of it.
    fn shut(&mut self, pod: &PodUid, ctx: &mut Ctx<'_>) {
        let Some(endpoint) = self.endpoints.of_pod_mut(pod) else {
            return;
        };
        let index = endpoint.index;
        endpoint.incomplete = None;
        ctx.bpf(MapOp::SetEndpoint(endpoint.row(ctx.boot())));
        self.policy.remove_endpoint(index, ctx);
        // Last, so that no flow is judged again by an entry that is about to go.
        endpoint.policy_generation = endpoint.policy_generation.wrapping_add(1);
        ctx.bpf(MapOp::SetEndpoint(endpoint.row(ctx.boot())));
    }

    /// An entry could not be written, most likely because the map is full. Half of a policy may allow
    /// what the whole denies: the endpoint's rules about that peer go, and what no rule allows is
    /// denied, until everything could be written.
    pub(super) fn on_policy_failed(&mut self, key: &PolicyKey, ctx: &mut Ctx<'_>) {
        self.policy.lost(key);
        let retry = ctx.boot() + self.config.timers.refused;
        let of = |endpoint: &&mut Endpoint| endpoint.index == key.endpoint;
        let Some(endpoint) = self.endpoints.iter_mut().find(of) else {
            return;
        };
        endpoint.incomplete = Some(retry);
        ctx.bpf(MapOp::SetEndpoint(endpoint.row(ctx.boot())));
        self.policy.remove(key.endpoint, key.class, ctx);
        endpoint.policy_generation = endpoint.policy_generation.wrapping_add(1);
        ctx.bpf(MapOp::SetEndpoint(endpoint.row(ctx.boot())));
    }

    /// Policies that could not be written are tried again.
    pub(super) fn repeat_policies(&mut self, ctx: &mut Ctx<'_>) {
        let due = |endpoint: &&Endpoint| endpoint.incomplete.is_some_and(|at| at <= ctx.boot());
        let pods: Vec<PodUid> = self
            .endpoints
            .iter()
            .filter(due)
            .map(|endpoint| endpoint.pod.clone())
            .collect();
        self.apply_policy(&pods, ctx);
    }

    /// The policy of one remote pod for one endpoint, before its rows are written.
    pub(super) fn apply_remote_class(
        &mut self,
        local: &PodUid,
        remote: &PeerFacts,
        class: ClassId,
        ctx: &mut Ctx<'_>,
    ) {
        let Some(endpoint) = self.endpoints.of_pod(local) else {
            return;
        };
        let Some(policy) = self.compile(endpoint, remote) else {
            return;
        };
        let plan = self.policy.plan(endpoint.index, vec![(class, policy)]);
        plan.write(ctx);
        plan.remove(ctx);
    }

    /// A new local pod's class, for all other endpoints.
    pub(super) fn apply_local_class(&mut self, pod: &PodUid, ctx: &mut Ctx<'_>) {
        // The node's own is a fixed one, and among everybody's targets already.
        if pod.node().is_some() {
            return;
        }
        let others: Vec<PodUid> = self
            .endpoints
            .pods()
            .into_iter()
            .filter(|other| other != pod)
            .collect();
        let Some(endpoint) = self.endpoints.of_pod(pod) else {
            return;
        };
        let class = endpoint.class;
        let Some(known) = endpoint.known.as_ref() else {
            return;
        };
        let facts = PeerFacts::Pod(known.facts.clone());
        for other in others {
            self.apply_remote_class(&other, &facts, class, ctx);
        }
    }

    fn compile(
        &self,
        endpoint: &crate::endpoint::Endpoint,
        peer: &PeerFacts,
    ) -> Option<PairPolicy> {
        let local = &endpoint.known.as_ref()?.facts;
        Some(self.cluster.as_ref()?.policies.compile_pair(local, peer))
    }

    /// Everything that an endpoint may meet, with what policy says of it.
    fn targets(&self, pod: &PodUid) -> Option<Vec<(ClassId, PairPolicy)>> {
        let endpoint = self.endpoints.of_pod(pod)?;
        let mut targets = Vec::new();
        let (own, others) = self.node_addresses();
        let fixed = [
            (signet_abi::CLASS_HOST, PeerFacts::Host(own)),
            (signet_abi::CLASS_REMOTE_NODE, PeerFacts::RemoteNode(others)),
            (
                signet_abi::CLASS_KUBE_API_SERVER,
                PeerFacts::KubeApiServer(self.api_servers()),
            ),
        ];
        for (class, facts) in fixed {
            targets.push((ClassId(class), self.compile(endpoint, &facts)?));
        }
        if let Some(partition) = &self.world.partition {
            for (at, verdicts) in partition.classes.iter().enumerate() {
                let class = self.world.classes.get(at).copied();
                let policy = verdicts.get(pod.as_str()).cloned().unwrap_or_default();
                targets.extend(class.map(|class| (class, policy)));
            }
        }
        for other in self.endpoints.iter().filter(|other| !other.is_host()) {
            if let Some(known) = &other.known {
                let facts = PeerFacts::Pod(known.facts.clone());
                targets.push((other.class, self.compile(endpoint, &facts)?));
            }
        }
        for key in self.pairs.of_local(pod) {
            if let (Some(pair), Some(entry)) =
                (self.pairs.of(&key), self.directory.entry(&key.remote))
            {
                let facts = self.facts_of(entry);
                targets.push((pair.class, self.compile(endpoint, &facts)?));
            }
        }
        Some(targets)
    }

    /// Classes of the world's addresses.
    fn apply_world(&mut self, ctx: &mut Ctx<'_>) {
        let Some(view) = self.cluster.as_ref() else {
            return;
        };
        let locals = view.pods.iter().map(|local| &local.pod);
        let partition = view.policies.cidr_classes(locals);
        if self.world.partition.as_ref() == Some(&partition) {
            let cidrs = self.cidrs(&partition);
            self.write_cidrs(cidrs, ctx);
            return;
        }
        let old = std::mem::take(&mut self.world.classes);
        // Class 0 is the world that no rule names by address, in the data path, too.
        let fresh = (0..partition.classes.len()).map(|at| match at {
            0 => ClassId(signet_abi::CLASS_WORLD),
            _ => self.handles.fresh_class(),
        });
        self.world.classes = fresh.collect();
        let cidrs = self.cidrs(&partition);
        self.world.partition = Some(partition);
        // Entries of the new classes, then blocks that lead there, then the old classes.
        let pods = self.endpoints.pods();
        self.apply_policy(&pods, ctx);
        self.write_cidrs(cidrs, ctx);
        for class in old
            .into_iter()
            .filter(|class| class.0 >= signet_abi::CLASS_DYNAMIC)
        {
            self.policy.remove_class(class, ctx);
        }
    }

    fn cidrs(&self, partition: &CidrPartition) -> BTreeMap<IpNet, ClassId> {
        let class = |at: &usize| self.world.classes.get(*at).copied().unwrap_or_default();
        let mut cidrs: BTreeMap<IpNet, ClassId> = partition
            .blocks
            .iter()
            .map(|(net, at)| (*net, class(at)))
            .collect();
        // Nodes are not among them: what they send themselves comes with their own index or label,
        // and what merely has one of their addresses was forwarded, by whomever.
        let class = ClassId(signet_abi::CLASS_KUBE_API_SERVER);
        let api = self.api_servers().into_iter();
        cidrs.extend(api.map(|address| (IpNet::from(address), class)));
        cidrs
    }

    fn write_cidrs(&mut self, new: BTreeMap<IpNet, ClassId>, ctx: &mut Ctx<'_>) {
        // From the longest prefix on, and removals from the shortest on, as with policy entries.
        let mut writes: Vec<_> = new
            .iter()
            .filter(|(net, class)| self.world.cidrs.get(net) != Some(&Some(**class)))
            .collect();
        writes.sort_by_key(|(net, _)| std::cmp::Reverse(net.prefix_len()));
        for (net, class) in writes {
            ctx.bpf(MapOp::SetCidr(*net, *class));
        }
        let mut gone: Vec<_> = self
            .world
            .cidrs
            .keys()
            .filter(|net| !new.contains_key(net))
            .collect();
        gone.sort_by_key(|net| net.prefix_len());
        for net in gone {
            ctx.bpf(MapOp::RemoveCidr(*net));
        }
        self.world.cidrs = new
            .into_iter()
            .map(|(net, class)| (net, Some(class)))
            .collect();
    }

    fn write_ranges(&mut self, ctx: &mut Ctx<'_>) {
        let Some(view) = self.cluster.as_ref() else {
            return;
        };
        let mut new = BTreeMap::new();
        for node in &view.nodes {
            let range = if node.uid == self.config.node_uid {
                PodRange::Local
            } else {
                PodRange::Remote
            };
            new.extend(node.pod_cidrs.iter().map(|net| (net.trunc(), Some(range))));
        }
        for (net, range) in &new {
            if let Some(range) = range
                && self.world.ranges.get(net) != Some(&Some(*range))
            {
                ctx.bpf(MapOp::SetPodRange(*net, *range));
            }
        }
        for net in self
            .world
            .ranges
            .keys()
            .filter(|net| !new.contains_key(net))
        {
            ctx.bpf(MapOp::RemovePodRange(*net));
        }
        self.world.ranges = new;
    }

    /// Where the API server answers outside of the mesh. On a node of it, it is that node.
    fn api_servers(&self) -> Vec<IpAddr> {
        let (own, others) = self.node_addresses();
        let all = self.cluster.iter().flat_map(|view| &view.kube_api_servers);
        let of_node = |address: &IpAddr| own.contains(address) || others.contains(address);
        all.filter(|address| !of_node(address)).copied().collect()
    }

    /// Addresses of this node and of all others.
    fn node_addresses(&self) -> (Vec<IpAddr>, Vec<IpAddr>) {
        let mut own = BTreeSet::new();
        let mut others = BTreeSet::new();
        for node in self.cluster.iter().flat_map(|view| &view.nodes) {
            let side = if node.uid == self.config.node_uid {
                &mut own
            } else {
                &mut others
            };
            side.extend(node.underlay.iter().copied());
        }
        (own.into_iter().collect(), others.into_iter().collect())
    }
}
