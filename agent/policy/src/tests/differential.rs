//! Compiled tables, on every way they are used, against the naive evaluator.

use std::collections::BTreeMap;

use proptest::prelude::*;

use crate::generate::{Bytes, Choices, Cluster, PROTOCOLS, Seeded};
use crate::naive::{Naive, NaiveSide};
use crate::{
    Action, Authentication, Cause, Direction, Enforcement, Isolation, Mode, Outcome, PairPolicy,
    PeerFacts, PolicySet, Query, RuleId, Side, Verdict, diff,
};

/// Flows tried per cluster. With 1,024 clusters that makes more than 60,000 flows a run.
const FLOWS: usize = 64;

struct World {
    cluster: Cluster,
    set: PolicySet,
    naive: Naive,
    random: Seeded,
}

struct Flow {
    from: PeerFacts,
    to: PeerFacts,
    protocol: u8,
    port: u16,
}

impl World {
    fn new(bytes: &[u8]) -> World {
        let seed = bytes.iter().fold(7_u64, |sum, byte| {
            sum.wrapping_mul(31).wrapping_add(u64::from(*byte))
        });
        let cluster = Cluster::generate(&mut Bytes(bytes));
        let (set, problems) =
            PolicySet::from_objects(&cluster.network_policies, &cluster.authenticated_policies);
        assert_eq!(problems, [], "the generator makes valid objects");
        let naive = Naive::new(&cluster.network_policies, &cluster.authenticated_policies);
        World {
            cluster,
            set,
            naive,
            random: Seeded(seed),
        }
    }

    /// A flow with a pod at one end at least.
    fn flow(&mut self) -> Flow {
        let pod = PeerFacts::Pod(self.random.pick(&self.cluster.pods).clone());
        let peers = self.cluster.peers();
        // Half of them pods, or nearly all would be addresses of the world.
        let other = if self.random.chance(50) {
            PeerFacts::Pod(self.random.pick(&self.cluster.pods).clone())
        } else {
            self.random.pick(&peers).clone()
        };
        let (from, to) = if self.random.chance(50) {
            (pod, other)
        } else {
            (other, pod)
        };
        let protocol = *self.random.pick(&PROTOCOLS);
        let ports: Vec<u16> = self.cluster.ports().into_iter().collect();
        let has_ports = matches!(protocol, 6 | 17 | 132);
        let port = if has_ports {
            *self.random.pick(&ports)
        } else {
            0
        };
        Flow {
            from,
            to,
            protocol,
            port,
        }
    }

    fn rule_name(&self, id: RuleId) -> String {
        match id {
            RuleId::ITSELF => "itself".to_owned(),
            RuleId::OWN_NODE => "own node".to_owned(),
            other => self.set.rule(other).unwrap().to_string(),
        }
    }

    fn assert_hit(&self, hit: Option<Verdict>, expected: &NaiveSide, context: &str) {
        let name = hit.map(|verdict| self.rule_name(verdict.rule));
        assert_eq!(name, expected.rule, "{context}");
        if let Some(Verdict {
            action,
            authentication,
            ..
        }) = hit
        {
            assert_eq!(action == Action::Deny, expected.deny, "{context}");
            assert_eq!(
                authentication == Authentication::Required,
                expected.required,
                "{context}"
            );
        }
    }
}

/// A policy map as the kernel has it: rows by exact protocol, longest prefix first.
struct Rows(Vec<(diff::RowKey, Verdict)>);

impl Rows {
    fn lookup(&self, direction: Direction, protocol: u8, port: u16) -> Option<Verdict> {
        let covers = |key: &diff::RowKey, protocol: u8| {
            let shift = 16 - u32::from(key.bits);
            key.direction == direction
                && key.protocol == protocol
                && (u32::from(key.port) >> shift) == (u32::from(port) >> shift)
        };
        let longest = |protocol| {
            let rows = self.0.iter().filter(|(key, _)| covers(key, protocol));
            rows.max_by_key(|(key, _)| key.bits)
                .map(|(_, verdict)| *verdict)
        };
        longest(protocol).or_else(|| longest(0))
    }
}

fn check_flow(world: &World, flow: &Flow) {
    let Flow {
        from,
        to,
        protocol,
        port,
    } = flow;
    for strict in [false, true] {
        let mode = if strict {
            Mode::Strict
        } else {
            Mode::Permissive
        };
        let explained = world.set.explain(&Query {
            from: from.clone(),
            to: to.clone(),
            protocol: *protocol,
            port: *port,
            mode,
        });
        let egress = world.naive.egress(from, to, *protocol, *port, strict);
        let ingress = world.naive.ingress(from, to, *protocol, *port, strict);
        let allowed = egress.iter().chain(&ingress).all(|side| side.allowed);
        assert_eq!(
            explained.outcome == Outcome::Allowed,
            allowed,
            "{explained}"
        );
        for (direction, expected, side, local, peer) in [
            (Direction::Egress, &egress, &explained.egress, from, to),
            (Direction::Ingress, &ingress, &explained.ingress, to, from),
        ] {
            let context = format!("{direction} of {explained}");
            assert_eq!(side.is_some(), expected.is_some(), "{context}");
            let (Some(side), Some(expected)) = (side, expected) else {
                continue;
            };
            check_side(side, expected, &context);
            let local = local.pod().unwrap();
            assert_eq!(
                world.set.isolation(local).of(direction),
                expected.isolated,
                "{context}"
            );
            let compiled = world.set.compile_pair(local, peer);
            world.assert_hit(
                compiled.of(direction).lookup(*protocol, *port),
                expected,
                &context,
            );
            let rows = Rows(compiled.rows().collect());
            world.assert_hit(rows.lookup(direction, *protocol, *port), expected, &context);
            check_breakage(world, flow, mode, direction, expected);
        }
    }
}

/// What the dry runs would stop: what passes now, and does not if the objects are read as enforced.
fn check_breakage(world: &World, flow: &Flow, mode: Mode, direction: Direction, now: &NaiveSide) {
    let query = Query {
        from: flow.from.clone(),
        to: flow.to.clone(),
        protocol: flow.protocol,
        port: flow.port,
        mode,
    };
    let strict = mode == Mode::Strict;
    let naive = world.naive.with_dry_runs();
    let would = match direction {
        Direction::Egress => naive.egress(&flow.from, &flow.to, flow.protocol, flow.port, strict),
        Direction::Ingress => naive.ingress(&flow.from, &flow.to, flow.protocol, flow.port, strict),
    };
    let would = would.unwrap();
    let found = world.set.breakage(&query, direction);
    let context = format!("{direction} {query:?}: {found:?}");
    assert_eq!(found.is_some(), now.allowed && !would.allowed, "{context}");
    let Some(found) = found else { return };
    check_side(&found.would, &would, &context);
    // Something is to blame, and only dry runs are.
    assert!(!found.policies.is_empty(), "{context}");
    for policy in &found.policies {
        let mut dry = world.set.policies().filter(|(name, _)| *name == policy);
        assert!(dry.all(|(_, enforcement)| enforcement == Enforcement::DryRun));
    }
}

fn check_side(side: &Side, expected: &NaiveSide, context: &str) {
    assert_eq!(
        side.outcome == Outcome::Allowed,
        expected.allowed,
        "{context}"
    );
    assert_eq!(!side.isolated_by.is_empty(), expected.isolated, "{context}");
    let rule = match &side.cause {
        Cause::Rule { rule, .. } | Cause::AuthenticationRequired { rule, .. } => {
            Some(rule.to_string())
        }
        Cause::OwnNode => Some("own node".to_owned()),
        Cause::Itself => Some("itself".to_owned()),
        Cause::Isolated | Cause::NotIsolated | Cause::WorldNeedsRule => None,
    };
    assert_eq!(rule, expected.rule, "{context}");
}

/// The data path's way for the world: address to class, class to table.
fn check_partition(world: &World) {
    let enrolled = || world.cluster.pods.iter().filter(|pod| pod.enrolled);
    let partition = world.set.cidr_classes(enrolled());
    let distinct: std::collections::BTreeSet<_> = partition.classes.iter().collect();
    assert_eq!(
        distinct.len(),
        partition.classes.len(),
        "classes with equal verdicts"
    );
    for address in world.cluster.world() {
        // A longest-prefix lookup over IPv4-mapped addresses, as in the kernel's one table.
        let mapped = |address: std::net::IpAddr| match address {
            std::net::IpAddr::V4(v4) => u128::from(v4.to_ipv6_mapped()),
            std::net::IpAddr::V6(v6) => u128::from(v6),
        };
        let rows = partition.blocks.iter().map(|(block, class)| {
            let bits = match block {
                ipnet::IpNet::V4(net) => 96 + u32::from(net.prefix_len()),
                ipnet::IpNet::V6(net) => u32::from(net.prefix_len()),
            };
            (bits, mapped(block.network()), *class)
        });
        let same =
            |bits: u32, a: u128, b: u128| bits == 0 || (a >> (128 - bits)) == (b >> (128 - bits));
        let class = rows
            .filter(|(bits, network, _)| same(*bits, *network, mapped(address)))
            .max_by_key(|(bits, _, _)| *bits)
            .map(|(_, _, class)| class)
            .unwrap();
        assert_eq!(class, partition.class_of(address), "{address}");
        for pod in enrolled() {
            let expected = world.set.compile_pair(pod, &PeerFacts::Address(address));
            assert_eq!(
                partition.classes[class][&pod.uid], expected,
                "{address} at {}",
                pod.name
            );
        }
    }
}

/// `admits_any` against every flow between two pods.
fn check_admits(world: &mut World) {
    let a = world.random.pick(&world.cluster.pods).clone();
    let b = world.random.pick(&world.cluster.pods).clone();
    let (from, to) = (PeerFacts::Pod(a.clone()), PeerFacts::Pod(b.clone()));
    let any = PROTOCOLS.iter().any(|protocol| {
        world.cluster.ports().iter().any(|port| {
            let port = if matches!(protocol, 6 | 17 | 132) {
                *port
            } else {
                0
            };
            world.naive.allows(&from, &to, *protocol, port)
                || world.naive.allows(&to, &from, *protocol, port)
        })
    });
    let admitted = world.set.admits_any(&a, &b);
    assert_eq!(admitted, world.set.admits_any(&b, &a));
    let ports_known = a.named_ports.is_some() && b.named_ports.is_some();
    assert!(
        admitted == any || (admitted && !ports_known),
        "{a:?}\n{b:?}\n{admitted}"
    );
}

/// Applies the changes from one pair's rows to another's step by step; each lookup on the way,
/// isolation included, must answer as before or as after.
fn check_changes(world: &World, before: &(PairPolicy, Isolation), after: &(PairPolicy, Isolation)) {
    let answer = |rows: &Rows, isolation: Isolation, direction: Direction, protocol, port| {
        let hit = rows.lookup(direction, protocol, port);
        hit.ok_or(isolation.of(direction))
    };
    let full = |policy: &PairPolicy| Rows(policy.rows().collect());
    let (old, new) = (full(&before.0), full(&after.0));
    let mut now: BTreeMap<diff::RowKey, Verdict> = before.0.rows().collect();
    let mut isolation = before.1;
    let changes = diff::changes(&before.0, &after.0);
    let steps = changes.upserts.len() + 1 + changes.deletes.len();
    for step in 0..steps {
        if let Some((key, verdict)) = changes.upserts.get(step) {
            now.insert(*key, *verdict);
        } else if step == changes.upserts.len() {
            isolation = after.1;
        } else {
            now.remove(&changes.deletes[step - changes.upserts.len() - 1]);
        }
        let rows = Rows(now.iter().map(|(key, verdict)| (*key, *verdict)).collect());
        for direction in Direction::ALL {
            for protocol in [6, 17, 1] {
                for port in world.cluster.ports() {
                    let seen = answer(&rows, isolation, direction, protocol, port);
                    let was = answer(&old, before.1, direction, protocol, port);
                    let will = answer(&new, after.1, direction, protocol, port);
                    assert!(
                        seen == was || seen == will,
                        "step {step}: {direction} {protocol} {port}: {seen:?}, {was:?}, {will:?}"
                    );
                }
            }
        }
    }
    assert_eq!(
        now,
        after.0.rows().collect(),
        "the changes lead to the new rows"
    );
    assert!(diff::changes(&after.0, &after.0).is_empty());
}

fn bytes() -> impl Strategy<Value = Vec<u8>> {
    proptest::collection::vec(any::<u8>(), 0..700)
}

proptest! {
    #![proptest_config(ProptestConfig {
        cases: 1024,
        failure_persistence: None,
        ..ProptestConfig::default()
    })]

    #[test]
    fn every_flow_gets_the_naive_verdict(bytes in bytes()) {
        let mut world = World::new(&bytes);
        for _ in 0..FLOWS {
            let flow = world.flow();
            check_flow(&world, &flow);
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig {
        cases: 128,
        failure_persistence: None,
        ..ProptestConfig::default()
    })]

    #[test]
    fn every_address_has_the_class_of_its_verdicts(bytes in bytes()) {
        check_partition(&World::new(&bytes));
    }

    #[test]
    fn a_pair_is_admitted_if_some_flow_is(bytes in bytes()) {
        check_admits(&mut World::new(&bytes));
    }

    #[test]
    fn changes_open_no_window(before in bytes(), after in bytes()) {
        let (mut before, after) = (World::new(&before), World::new(&after));
        let local = before.cluster.pods.iter().find(|pod| pod.enrolled).cloned();
        let Some(local) = local else { return Ok(()) };
        let peers = before.cluster.peers();
        let peer = before.random.pick(&peers).clone();
        let state = |set: &PolicySet| (set.compile_pair(&local, &peer), set.isolation(&local));
        check_changes(&before, &state(&before.set), &state(&after.set));
    }
}

/// A generator that never reaches a case would make the properties above hollow.
#[test]
fn the_generator_reaches_every_outcome() {
    let mut seen: BTreeMap<&str, usize> = BTreeMap::new();
    for seed in 0..520 {
        let mut random = Seeded(seed);
        let bytes: Vec<u8> = (0..500)
            .map(|_| u8::try_from(random.below(256)).unwrap())
            .collect();
        let mut world = World::new(&bytes);
        for _ in 0..16 {
            let Flow {
                from,
                to,
                protocol,
                port,
            } = world.flow();
            let query = Query {
                from,
                to,
                protocol,
                port,
                mode: Mode::Strict,
            };
            let explained = world.set.explain(&query);
            for side in explained.egress.iter().chain(&explained.ingress) {
                let kind = match (&side.cause, side.outcome) {
                    (Cause::Rule { .. }, Outcome::Denied) => "deny rule",
                    (
                        Cause::Rule {
                            authentication: Authentication::Required,
                            ..
                        },
                        _,
                    ) => "required",
                    (Cause::Rule { .. }, Outcome::Allowed) => "optional",
                    (Cause::AuthenticationRequired { .. }, _) => "cannot authenticate",
                    (Cause::OwnNode, _) => "own node",
                    (Cause::Itself, _) => "itself",
                    (Cause::Isolated, _) => "isolated",
                    (Cause::NotIsolated, _) => "not isolated",
                    (Cause::WorldNeedsRule, _) => "world needs rule",
                };
                *seen.entry(kind).or_default() += 1;
            }
            if !explained.dry_run.is_empty() {
                *seen.entry("dry run").or_default() += 1;
            }
            let mut sides = Direction::ALL.into_iter();
            if sides.any(|direction| world.set.breakage(&query, direction).is_some()) {
                *seen.entry("would break").or_default() += 1;
            }
        }
    }
    assert!(
        seen.len() == 11 && seen.values().all(|count| *count >= 20),
        "{seen:?}"
    );
}
