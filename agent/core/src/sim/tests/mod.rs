//! Scenarios: what packets pass, and what becomes of the rest.

mod contact;
mod epochs;
mod full;
mod hold;
mod hostile;
mod hosts;
mod puppet;
mod random;
mod refusals;
mod renewal;
mod restart;
mod time;
mod withdrawal;

use std::time::Duration;

use serde_json::{Value, json};
use signet_policy::PolicySet;

use super::{NodeIx, Pod, World};
use crate::Agent;

const SECOND: Duration = Duration::from_secs(1);

/// Two nodes, one pod each.
struct Two {
    world: World,
    a: NodeIx,
    b: NodeIx,
    x: Pod,
    y: Pod,
}

impl Two {
    fn new(seed: u64) -> Self {
        let mut world = World::new(seed);
        let (a, b) = (world.add_node(), world.add_node());
        let x = world.add_pod(a, "shop", "frontend");
        let y = world.add_pod(b, "shop", "backend");
        world.run(SECOND);
        Self { world, a, b, x, y }
    }

    /// The same with the pair open.
    fn open(seed: u64) -> Self {
        let mut two = Self::new(seed);
        assert!(two.forth() && two.back());
        two
    }

    fn forth(&mut self) -> bool {
        self.world.passes(&self.x.uid, self.y.address)
    }

    fn back(&mut self) -> bool {
        self.world.passes(&self.y.uid, self.x.address)
    }

    /// Sends one packet each way without waiting for anything to be opened.
    fn flows(&mut self) -> bool {
        let forth = self.world.send(&self.x.uid, self.y.address);
        let back = self.world.send(&self.y.uid, self.x.address);
        self.world.arrived(forth) && self.world.arrived(back)
    }

    fn agent(&self, node: NodeIx) -> &Agent {
        self.world.nodes[node].agent.as_ref().unwrap()
    }

    /// Lets time pass in small steps until `done`.
    fn step_until(&mut self, done: impl Fn(&Self) -> bool) {
        for _ in 0..100_000 {
            if done(self) {
                return;
            }
            self.world.run(Duration::from_micros(50));
        }
        panic!("it never came to that");
    }

    /// Nothing of either pod is left in a map of the other's node.
    fn clean(&self) -> bool {
        let maps = |node: NodeIx| &self.world.nodes[node].maps;
        let send = |node| maps(node).send.values().any(|row| row.epoch().is_some());
        !(send(self.a) || send(self.b))
            && maps(self.a).recv.is_empty()
            && maps(self.b).recv.is_empty()
    }
}

/// A policy that lets `from` in to `to`, and nobody else.
fn allow(to: &str, from: &[&str]) -> Value {
    let accounts: Vec<Value> = from
        .iter()
        .map(|name| json!({"namespace": "shop", "name": name}))
        .collect();
    json!({
        "apiVersion": "signet.dev/v1alpha1",
        "kind": "AuthenticatedPolicy",
        "metadata": {"name": format!("in-{to}"), "namespace": "shop"},
        "spec": {
            "endpointSelector": {"matchLabels": {"app": to}},
            "ingress": [{"from": [{"serviceAccounts": accounts}], "authentication": "Required"}],
        },
    })
}

fn policies(objects: &[Value]) -> PolicySet {
    let (set, problems) = PolicySet::from_objects(&[], objects);
    assert!(problems.is_empty(), "{problems:?}");
    set
}
