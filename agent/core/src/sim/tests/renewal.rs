//! Certificates renewed while something else is under way: nothing is left on the old one.

use super::*;
use crate::Input;

/// A certificate that ends long before every other one.
const SHORT: Duration = Duration::from_secs(100);

impl Two {
    /// Everything goes on when the short certificate has run out.
    fn outlives_it(&mut self) {
        assert!(self.forth(), "the pair opens");
        for _ in 0..SHORT.as_secs() + 20 {
            self.world.run(SECOND);
            assert!(self.flows(), "at {:?}", self.world.boot);
        }
    }

    fn issued(&mut self, pod: &Pod, ttl: Duration) -> Input {
        let usual = std::mem::replace(&mut self.world.svid_ttl, ttl);
        let node = self.world.nodes[pod.node].facts.spiffe_id.clone();
        let entry = &pod.entry;
        let binding = signet_crypto::x509::profile::Binding::new(
            &node,
            entry.namespace_uid.clone(),
            entry.service_account_uid.clone(),
        );
        let purpose = signet_crypto::x509::profile::Purpose::AgentPlane;
        let svid = self
            .world
            .issue(entry.spiffe_id.clone(), purpose, Some(binding));
        self.world.svid_ttl = usual;
        Input::SvidIssued {
            pod: pod.uid.clone(),
            svid,
        }
    }
}

#[test]
fn of_the_node_between_tls_and_hello() {
    for late in [false, true] {
        let mut two = Two::new(90);
        // What TLS shows is about to be replaced.
        let usual = std::mem::replace(&mut two.world.svid_ttl, SHORT);
        two.world.issue_node(two.a);
        two.world.svid_ttl = usual;
        two.world.send(&two.x.uid, two.y.address);
        two.step_until(|two| !two.world.links_between(two.a, two.b).is_empty());
        if late {
            two.step_until(|two| two.agent(two.b).counters().channels_opened > 0);
        }
        assert_eq!(two.agent(two.a).counters().channels_opened, 0);
        let svid = two.world.issue_node(two.a);
        two.world.input(two.a, Input::NodeSvid { svid });
        two.outlives_it();
    }
}

#[test]
fn of_a_pod_that_asks_between_its_question_and_the_answer() {
    let mut two = Two::new(91);
    let x = two.x.clone();
    let short = two.issued(&x, SHORT);
    two.world.input(two.a, short);
    two.world.send(&x.uid, two.y.address);
    two.step_until(|two| two.agent(two.a).counters().proofs_made > 0);
    let long = two.issued(&x, SECOND * 3600);
    two.world.input(two.a, long);
    two.outlives_it();
}

#[test]
fn of_a_pod_that_is_asked_between_its_proof_and_the_label() {
    let mut two = Two::new(92);
    let y = two.y.clone();
    let short = two.issued(&y, SHORT);
    two.world.input(two.b, short);
    two.world.send(&two.x.uid, y.address);
    two.step_until(|two| two.agent(two.b).counters().proofs_made > 0);
    let long = two.issued(&y, SECOND * 3600);
    two.world.input(two.b, long);
    two.outlives_it();
}
