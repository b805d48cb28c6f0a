use std::path::Path;

use super::*;
use crate::lab::blueprint::{self, Wish};
use crate::lab::manifests;
use crate::lab::materialise::materialise;
use crate::lab::state::{Backend, Family, Lab};

struct Bench {
    lab: Lab,
    files: BTreeMap<String, Value>,
}

impl Bench {
    fn new() -> Self {
        let wish = Wish {
            name: "test",
            nodes: 2,
            backend: Backend::Userspace,
            underlay: Family::Ipv4,
            source: None,
        };
        Self {
            lab: blueprint::draw(&wish, &[]).unwrap(),
            files: BTreeMap::new(),
        }
    }

    /// What `apply` would do, taken as done.
    fn apply(&mut self, text: &str) -> Diff {
        let objects = manifests::parse(Path::new("x.yaml"), text).unwrap();
        let made = materialise(objects, &mut self.lab).unwrap();
        let diff = diff(&self.lab.pods, &self.files, &made);
        self.files = made
            .objects
            .iter()
            .map(|(file, object)| (file.clone(), object.value.clone()))
            .collect();
        for (key, mut pod) in made.pods {
            pod.phase = PodPhase::Running;
            self.lab.pods.insert(key, pod);
        }
        self.lab.pods.retain(|key, _| {
            self.files
                .contains_key(&format!("Pod.{}.yaml", key.replace('/', ".")))
        });
        diff
    }
}

fn pod(name: &str, labels: &str, rest: &str) -> String {
    format!(
        "kind: Pod\nmetadata: {{name: {name}, namespace: shop, labels: {{{labels}}}}}\n{rest}\n---\n"
    )
}

fn lines(diff: &Diff) -> Vec<String> {
    diff.changes
        .iter()
        .map(|change| format!("{} {}", change.what, change.object))
        .collect()
}

#[test]
fn nothing_changed_is_nothing_to_do() {
    let mut bench = Bench::new();
    let text = pod("a", "", "");
    assert!(!bench.apply(&text).is_empty());
    let again = bench.apply(&text);
    assert_eq!(again, Diff::default());
}

#[test]
fn a_label_changes_the_object_only() {
    let mut bench = Bench::new();
    bench.apply(&pod("a", "app: x", ""));
    let diff = bench.apply(&pod("a", "app: y", ""));
    assert_eq!(lines(&diff), ["changed Pod/shop/a"]);
    assert_eq!((diff.stop.len(), diff.start.len()), (0, 0));
    assert_eq!(diff.write, ["Pod.shop.a.yaml"]);
}

#[test]
fn an_address_or_command_restarts_the_pod_under_the_same_uid() {
    let mut bench = Bench::new();
    bench.apply(&pod("a", "", ""));
    let uid = bench.lab.pods["shop/a"].uid.clone();
    let diff = bench.apply(&pod("a", "", "status: {podIPs: [{ip: 10.61.1.77}]}"));
    assert_eq!(lines(&diff), ["restarted Pod/shop/a"]);
    assert_eq!(
        (&diff.stop, &diff.start),
        (&vec!["shop/a".to_owned()], &vec!["shop/a".to_owned()])
    );
    assert_eq!(bench.lab.pods["shop/a"].uid, uid);
    let spec = "spec: {containers: [{name: c, command: [sleep, '1']}]}";
    assert_eq!(
        lines(&bench.apply(&pod("a", "", spec))),
        ["restarted Pod/shop/a"]
    );
}

#[test]
fn pods_come_and_go_and_hand_their_address_on() {
    let mut bench = Bench::new();
    bench.apply(&pod("a", "", "status: {podIPs: [{ip: 10.61.1.9}]}"));
    let diff = bench.apply(&pod("b", "", "status: {podIPs: [{ip: 10.61.1.9}]}"));
    assert_eq!(lines(&diff), ["deleted Pod/shop/a", "created Pod/shop/b"]);
    assert_eq!(
        (diff.stop, diff.remove),
        (vec!["shop/a".into()], vec!["Pod.shop.a.yaml".into()])
    );
    assert_eq!(
        (diff.start, diff.write),
        (vec!["shop/b".into()], vec!["Pod.shop.b.yaml".into()])
    );
}

#[test]
fn a_replaced_pods_file_is_gone_in_between() {
    let mut bench = Bench::new();
    bench.apply(&pod("a", "", ""));
    let diff = bench.apply(&pod("a", "", "spec: {serviceAccountName: other}"));
    assert_eq!(lines(&diff), ["replaced Pod/shop/a"]);
    assert_eq!(diff.remove, ["Pod.shop.a.yaml"]);
    assert_eq!(diff.write, ["Pod.shop.a.yaml"]);
}

#[test]
fn policies_come_change_and_go_without_touching_pods() {
    let mut bench = Bench::new();
    let policy = |rule: &str| {
        pod("a", "", "")
            + &format!(
                "kind: NetworkPolicy\nmetadata: {{name: p, namespace: shop}}\nspec: {{{rule}}}\n"
            )
    };
    bench.apply(&pod("a", "", ""));
    assert_eq!(
        lines(&bench.apply(&policy("podSelector: {}"))),
        ["created NetworkPolicy/shop/p"]
    );
    let changed = bench.apply(&policy("podSelector: {}, policyTypes: [Egress]"));
    assert_eq!(lines(&changed), ["changed NetworkPolicy/shop/p"]);
    let gone = bench.apply(&pod("a", "", ""));
    assert_eq!(lines(&gone), ["deleted NetworkPolicy.shop.p"]);
    assert!(gone.stop.is_empty() && gone.start.is_empty());
}

#[test]
fn a_pod_that_was_interrupted_is_started_again() {
    let mut bench = Bench::new();
    let text = pod("a", "", "");
    bench.apply(&text);
    bench.lab.pods.get_mut("shop/a").unwrap().phase = PodPhase::Starting;
    assert_eq!(lines(&bench.apply(&text)), ["restarted Pod/shop/a"]);
}
