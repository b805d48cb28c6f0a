use std::{
    cell::RefCell,
    io::{BufRead, BufReader, Write},
    os::unix::net::UnixListener,
    path::Path,
    thread::JoinHandle,
};

use serde_json::{Value, json};
use tempfile::TempDir;

use super::*;

/// What the plug-ins before have made, written as nobody else would.
const PREVIOUS: &str = r#"{"cniVersion":"1.1.0", "ips":[{"address":"10.0.0.7/24","interface":1}],
  "interfaces":[{"name":"veth1"},{"name":"eth0","sandbox":"/run/netns/a"}],"dns":{}}"#;

/// A kernel that knows one pod's interface.
struct Host(Result<&'static str, &'static str>);

impl HostSide for Host {
    fn of(&self, netns: &Path, ifname: &str) -> Result<String, String> {
        assert_eq!((netns, ifname), (Path::new("/run/netns/a"), "eth0"));
        self.0.map(str::to_owned).map_err(str::to_owned)
    }
}

/// An agent that has an answer to each of so many requests, and tells what it was asked.
struct Scene {
    dir: TempDir,
    agent: Option<JoinHandle<Vec<Value>>>,
    answers: RefCell<Vec<Value>>,
}

impl Scene {
    fn new(answers: Vec<Value>) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let mut scene = Self {
            dir,
            agent: None,
            answers: RefCell::new(answers),
        };
        scene.start();
        scene
    }

    fn without_agent() -> Self {
        Self {
            dir: tempfile::tempdir().unwrap(),
            agent: None,
            answers: RefCell::default(),
        }
    }

    fn start(&mut self) {
        let listener = UnixListener::bind(self.dir.path().join("agent.sock")).unwrap();
        let answers = self.answers.take();
        self.agent = Some(std::thread::spawn(move || {
            let mut asked = Vec::new();
            for answer in answers {
                let (stream, _) = listener.accept().unwrap();
                let mut line = String::new();
                BufReader::new(&stream).read_line(&mut line).unwrap();
                asked.push(serde_json::from_str(&line).unwrap());
                // A number is how long the agent says nothing.
                match answer.as_u64() {
                    Some(pause) => std::thread::sleep(Duration::from_millis(pause)),
                    None => writeln!(&stream, "{answer}").unwrap(),
                }
            }
            asked
        }));
    }

    fn run(
        &self,
        command: &str,
        version: &str,
        netns: bool,
        host: Host,
    ) -> Result<String, Failure> {
        let socket = self.dir.path().join("agent.sock");
        let input = format!(
            r#"{{"cniVersion": "{version}", "name": "pods", "type": "signet-cni",
                 "timeoutSeconds": 1, "statusSocket": {socket:?}, "prevResult": {PREVIOUS}}}"#
        );
        let config = Config::parse(input.as_bytes()).unwrap();
        let call = Call::read(Command::parse(command).unwrap(), |name| match name {
            "CNI_NETNS" => netns.then(|| "/run/netns/a".to_owned()),
            "CNI_CONTAINERID" => Some("c1".to_owned()),
            "CNI_IFNAME" => Some("eth0".to_owned()),
            "CNI_ARGS" => {
                Some("K8S_POD_NAMESPACE=shop;K8S_POD_NAME=web;K8S_POD_UID=7d0f".to_owned())
            }
            _ => None,
        });
        super::run(&call.unwrap(), &config, &host)
    }

    fn asked(mut self) -> Vec<Value> {
        self.agent
            .take()
            .map(|agent| agent.join().unwrap())
            .unwrap_or_default()
    }
}

fn endpoint_with(interface: &str, addresses: &[&str], pending: &[&str]) -> Value {
    json!({
        "index": 1, "generation": 1, "pod_uid": "7d0f", "name": "web", "namespace": "shop",
        "service_account": "web", "spiffe_id": null, "addresses": addresses,
        "interface": interface, "ifindex": 7, "svid_not_after": null, "ingress_isolated": false,
        "egress_isolated": false, "pending": pending,
        "pairs": {"open": 0, "pending": 0, "refused": 0, "adopted": 0},
    })
}

fn added(addresses: &[&str]) -> Value {
    json!({"endpoint": endpoint_with("veth1", addresses, &[]), "ready": true})
}

fn listed(endpoint: Value) -> Value {
    json!({"endpoints": [endpoint]})
}

const HERE: Host = Host(Ok("veth1"));

#[test]
fn add_hands_the_veth_over_and_passes_the_result_on_as_it_is() {
    let scene = Scene::new(vec![added(&["10.0.0.7", "fd00::7"])]);
    assert_eq!(scene.run("ADD", "1.1.0", true, HERE).unwrap(), PREVIOUS);
    let want = json!({"cmd": "endpoint_add", "pod_uid": "7d0f", "ifname": "veth1"});
    assert_eq!(scene.asked(), [want]);
}

#[test]
fn add_without_an_agent_fails_and_says_what_to_do() {
    let failure = Scene::without_agent()
        .run("ADD", "1.0.0", true, HERE)
        .unwrap_err();
    assert_eq!(failure.code, Code::NoAgent);
    assert!(failure.msg.contains("agent.sock"), "{failure:?}");
    for word in ["agent.sock", "start signet-agent", "statusSocket"] {
        assert!(failure.details.contains(word), "{failure:?}");
    }
}

#[test]
fn add_passes_on_what_the_agent_refuses_and_does_not_wait_for_ever() {
    let scene = Scene::new(vec![
        json!({"error": "pod 7d0f is not placed on this node"}),
    ]);
    let failure = scene.run("ADD", "1.0.0", true, HERE).unwrap_err();
    assert_eq!(failure.code, Code::Refused);
    assert_eq!(failure.msg, "pod 7d0f is not placed on this node");

    let scene = Scene::new(vec![json!(3_000)]);
    let failure = scene.run("ADD", "1.0.0", true, HERE).unwrap_err();
    assert_eq!(failure.code, Code::NoAgent);
    assert!(failure.msg.contains("within 1s"), "{failure:?}");
}

#[test]
fn add_refuses_what_it_cannot_enforce_before_the_agent_is_asked() {
    let scene = Scene::without_agent();
    let host = Host(Err(
        "eth0 in /run/netns/a is a macvlan, not one end of a veth",
    ));
    let failure = scene.run("ADD", "1.0.0", true, host).unwrap_err();
    assert_eq!(failure.code, Code::NoHostSide);
    assert!(
        failure.msg.contains("shop/web") && failure.msg.contains("macvlan"),
        "{failure:?}"
    );
}

#[test]
fn a_pod_with_an_address_that_is_not_its_own_does_not_start() {
    let scene = Scene::new(vec![added(&["10.0.0.8"])]);
    let failure = scene.run("ADD", "1.0.0", true, HERE).unwrap_err();
    assert_eq!(failure.code, Code::OtherAddresses);
    assert!(
        failure.msg.contains("10.0.0.7") && failure.msg.contains("10.0.0.8"),
        "{failure:?}"
    );
    // Its status may not be written yet.
    Scene::new(vec![added(&[])])
        .run("ADD", "1.0.0", true, HERE)
        .unwrap();
}

#[test]
fn del_withdraws_the_pod_by_its_interface_or_by_what_was_made_for_it() {
    for (netns, host) in [(true, HERE), (true, Host(Err("gone"))), (false, HERE)] {
        let scene = Scene::new(vec![
            listed(endpoint_with("veth1", &[], &[])),
            json!({"pod_uid": "7d0f", "existed": true}),
        ]);
        assert_eq!(scene.run("DEL", "0.4.0", netns, host).unwrap(), "");
        assert_eq!(
            scene.asked()[1],
            json!({"cmd": "endpoint_remove", "pod_uid": "7d0f"})
        );
    }
}

#[test]
fn del_of_an_old_sandbox_leaves_its_successor_alone() {
    for netns in [true, false] {
        let scene = Scene::new(vec![listed(endpoint_with("veth2", &[], &[]))]);
        assert_eq!(scene.run("DEL", "1.0.0", netns, HERE).unwrap(), "");
        assert_eq!(scene.asked(), [json!({"cmd": "endpoints"})]);
    }
}

#[test]
fn del_never_fails() {
    for scene in [
        Scene::without_agent(),
        Scene::new(vec![json!({"endpoints": []})]),
        Scene::new(vec![json!({"error": "starting"})]),
    ] {
        assert_eq!(
            scene.run("DEL", "1.0.0", true, Host(Err("gone"))).unwrap(),
            ""
        );
    }
}

#[test]
fn check_names_what_is_missing() {
    let mine = ["10.0.0.7"];
    let cases = [
        (json!({"endpoints": []}), "no endpoint"),
        (listed(endpoint_with("veth9", &mine, &[])), "veth9"),
        (
            listed(endpoint_with("veth1", &["10.0.0.8"], &[])),
            "10.0.0.8",
        ),
    ];
    for (answer, word) in cases {
        let failure = Scene::new(vec![answer])
            .run("CHECK", "1.0.0", true, HERE)
            .unwrap_err();
        assert!(failure.msg.contains(word), "{failure:?}");
    }
    let failure = Scene::without_agent()
        .run("CHECK", "1.0.0", true, HERE)
        .unwrap_err();
    assert_eq!(failure.code, Code::NoAgent);
}

#[test]
fn check_gives_what_is_pending_time_to_come() {
    let mine = ["10.0.0.7"];
    let waits = || listed(endpoint_with("veth1", &mine, &["certificate"]));
    let scene = Scene::new(vec![
        waits(),
        waits(),
        listed(endpoint_with("veth1", &mine, &[])),
    ]);
    assert_eq!(scene.run("CHECK", "1.0.0", true, HERE).unwrap(), "");

    let scene = Scene::new((0..100).map(|_| waits()).collect());
    let failure = scene.run("CHECK", "1.0.0", true, HERE).unwrap_err();
    assert_eq!(failure.code, Code::NotEnforced);
    assert!(failure.msg.contains("certificate"), "{failure:?}");
}

#[test]
fn status_and_gc_are_verbs_of_the_newest_version_only() {
    let scene = Scene::new(vec![json!({"endpoints": []})]);
    assert_eq!(scene.run("STATUS", "1.1.0", false, HERE).unwrap(), "");
    let without = Scene::without_agent();
    let failure = without.run("STATUS", "1.1.0", false, HERE).unwrap_err();
    assert_eq!(failure.code, Code::NotAvailable);
    assert!(failure.details.contains("signet-agent"), "{failure:?}");
    assert_eq!(without.run("GC", "1.1.0", false, HERE).unwrap(), "");
    for verb in ["STATUS", "GC"] {
        let failure = without.run(verb, "1.0.0", false, HERE).unwrap_err();
        assert_eq!(failure.code, Code::Version);
    }
}
