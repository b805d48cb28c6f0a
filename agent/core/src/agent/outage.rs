//! The own stream from the identity service is down, and it was said to be strict about that:
//! nothing authenticated outlives a lease.

use std::time::Duration;

use crate::{
    agent::Agent,
    effects::Ctx,
    facts::Outage,
    ids::{NodeUid, PodUid},
};

impl Agent {
    /// Also at the start, until the stream is up for the first time.
    pub(super) fn outage_begins(&mut self, ctx: &mut Ctx<'_>) {
        match self.config.outage {
            Outage::Certificates => {}
            // It may be said more than once that it is down.
            Outage::Strict if self.outage_until.is_some() => {}
            Outage::Strict => {
                self.set_outage(Some(ctx.boot() + self.config.timers.lease), ctx);
            }
        }
    }

    pub(super) fn outage_over(&mut self, ctx: &mut Ctx<'_>) {
        if self.outage_until.is_some() {
            self.set_outage(None, ctx);
        }
    }

    fn set_outage(&mut self, until: Option<Duration>, ctx: &mut Ctx<'_>) {
        self.outage_until = until;
        let nodes: Vec<NodeUid> = self.peers.keys().cloned().collect();
        for node in nodes {
            if let Some(peer) = self.peers.get_mut(&node) {
                peer.outage_until = until;
            }
            self.write_peer(&node, ctx);
        }
        let pods: Vec<PodUid> = self.endpoints.pods();
        for pod in pods {
            if let Some(endpoint) = self.endpoints.of_pod_mut(&pod) {
                endpoint.outage_until = until;
            }
            self.write_endpoint(&pod, ctx);
        }
    }
}
