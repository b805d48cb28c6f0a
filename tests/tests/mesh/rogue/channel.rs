//! Lies on a node channel: about whose proof it is, whose pod, which node.

use std::net::SocketAddr;

use anyhow::{Context, Result, bail, ensure};
use serde_json::Value;
use signet_agent_core::wire::{
    Message, address_bytes,
    pb::{self, Refusal},
};
use signet_crypto::{svid::X509Svid, tls::exporter::Role, wg::PublicKey};
use signet_tests::{
    bin,
    lab::{Family, Lab},
    rogue::{
        Rogue,
        line::{Answer, Line, Made},
    },
};

use super::{SOON, counted, uid, unharmed, up};

const REFUSED: (&str, &str) = ("signet_proof_requests_refused_total", "");
const REJECTED: (&str, &str) = ("signet_proof_results_total", "result=\"rejected\"");
const VIOLATION: (&str, &str) = ("signet_channel_violations_total", "");
/// Nobody has the private half.
const KEY: PublicKey = PublicKey([3; 32]);

/// Everything a lie needs.
struct Scene {
    lab: Lab,
    rogue: Rogue,
    web: String,
    db: (String, Vec<u8>),
    thief: (String, X509Svid),
    loot: (String, X509Svid),
}

impl Scene {
    fn of(lab: Lab) -> Result<Self> {
        lab.kill("node3", "agent")?;
        let rogue = Rogue::of(&lab, "node3")?;
        let svid = |pod: &str, namespace: &str, account: &str| -> Result<(String, X509Svid)> {
            let uid = uid(&lab, pod)?;
            let issued = rogue.issue(&uid, &rogue.workload_id(namespace, account)?)?;
            let issued = issued.map_err(|(code, text)| anyhow::anyhow!("{code}: {text}"))?;
            Ok((uid, issued))
        };
        Ok(Self {
            web: uid(&lab, "shop/web")?,
            db: (
                uid(&lab, "shop/db")?,
                address_bytes(lab.address("shop/db", Family::V4)?),
            ),
            thief: svid("shop/thief", "shop", "web")?,
            loot: svid("other/loot", "other", "stray")?,
            rogue,
            lab,
        })
    }

    fn at(&self, node: &str) -> Result<(SocketAddr, signet_crypto::spiffe_id::SpiffeId)> {
        let found = self.lab.node(node)?;
        let address = found["underlay_addresses"][0].as_str().context("address")?;
        let uid = found["uid"].as_str().context("uid")?;
        Ok((
            SocketAddr::new(address.parse()?, 7447),
            self.rogue.node_id(uid)?,
        ))
    }

    fn open(&self, node: &str) -> Result<Line> {
        let (to, peer) = self.at(node)?;
        self.rogue.open(to, &peer, KEY)
    }

    /// Asks node2 for its `db`, and holds that it is refused so, counted, and told nothing.
    fn refused(
        &self,
        line: &mut Line,
        what: &str,
        from: &str,
        proof: Made,
        so: Refusal,
    ) -> Result<()> {
        let metric = if so == Refusal::Proof {
            REJECTED
        } else {
            REFUSED
        };
        let ask = || line.ask(from, (&self.db.0, self.db.1.clone()), proof);
        let answer = counted(&self.lab, "node2", metric, ask).context(what.to_owned())?;
        ensure!(
            matches!(answer, Answer::Refused(got, false) if got == so),
            "{what}: {answer:?} instead of {so:?}"
        );
        Ok(())
    }

    /// Breaks the protocol on a fresh channel to node2, and holds that it is closed and counted.
    fn violation(&self, what: &str, lie: impl FnOnce(&mut Line) -> Result<()>) -> Result<()> {
        let (to, peer) = self.at("node2")?;
        let mut line = self.rogue.dial(to, &peer)?;
        let close = || {
            lie(&mut line)?;
            line.end()
        };
        match counted(&self.lab, "node2", VIOLATION, close).context(what.to_owned())? {
            Some(pb::ByeReason::Protocol) => Ok(()),
            other => bail!("{what}: closed for {other:?}"),
        }
    }
}

#[test]
fn no_proof_but_its_own_is_worth_anything() -> Result<()> {
    if !bin::root_or_skip("a rogue's proofs") {
        return Ok(());
    }
    let (lab, load) = up()?;
    let scene = Scene::of(lab)?;
    let (thief, thief_svid) = (&scene.thief.0, &scene.thief.1);
    let mut line = scene.open("node2")?;

    let proof = line.prove(thief_svid)?;
    scene.refused(
        &mut line,
        "a pod of another node",
        &scene.web,
        proof,
        Refusal::NotPlaced,
    )?;
    let proof = line.prove(thief_svid)?;
    scene.refused(
        &mut line,
        "a pod that nobody has",
        "no-such",
        proof,
        Refusal::UnknownSource,
    )?;
    scene.refused(
        &mut line,
        "no proof",
        thief,
        (0, vec![]),
        Refusal::NotProven,
    )?;
    let proof = line.prove(&scene.loot.1)?;
    scene.refused(
        &mut line,
        "its other pod's proof",
        thief,
        proof,
        Refusal::Proof,
    )?;
    let proof = line.prove(&scene.rogue.svid()?)?;
    scene.refused(&mut line, "its node's proof", thief, proof, Refusal::Proof)?;
    // Relayed: a good proof, made for node1.
    let mut elsewhere = scene.open("node1")?;
    for _ in 0..20 {
        elsewhere.next_number();
    }
    let proof = elsewhere.prove(thief_svid)?;
    while line.next_number() < proof.0 - 1 {}
    scene.refused(&mut line, "a relayed proof", thief, proof, Refusal::Proof)?;
    // As if node2 had made it.
    let n = line.next_number();
    let made = line.authenticator(thief_svid, n + 20, Role::Server)?;
    scene.refused(
        &mut line,
        "the other side's proof",
        thief,
        (n + 20, made),
        Refusal::Proof,
    )?;
    while line.next_number() < n + 20 {}
    // As a node: another one, and one that nobody has.
    let as_node = |node: &str| -> Result<String> {
        let found = scene.lab.node(node)?;
        Ok(format!("node:{}", found["uid"].as_str().context("uid")?))
    };
    for (what, node, so) in [
        ("another node", as_node("node1")?, Refusal::NotPlaced),
        (
            "a node that nobody has",
            "node:nobody".to_owned(),
            Refusal::UnknownSource,
        ),
    ] {
        scene.refused(&mut line, what, &node, (0, vec![]), so)?;
    }
    // A pod that may not reach db, with a good proof: told so, and nothing of db's.
    let proof = line.prove(&scene.loot.1)?;
    scene.refused(
        &mut line,
        "what no rule admits",
        &scene.loot.0,
        proof,
        Refusal::Policy,
    )?;
    // Foreign addresses.
    let proof = line.prove(thief_svid)?;
    let idle = address_bytes(scene.lab.address("shop/idle", Family::V4)?);
    let ask = || line.ask(thief, (&scene.db.0, idle), proof);
    let answer = counted(&scene.lab, "node2", REFUSED, ask)?;
    let unknown = matches!(answer, Answer::Refused(Refusal::UnknownDestination, false));
    ensure!(unknown, "db at idle's address: {answer:?}");

    // The truth is believed, or all of this would say nothing.
    let good = line.prove(thief_svid)?;
    let answer = line.ask(thief, (&scene.db.0, scene.db.1.clone()), good.clone())?;
    let Answer::Proof(theirs) = answer else {
        bail!("the truth is answered by {answer:?}");
    };
    scene.refused(
        &mut line,
        "the same once more",
        thief,
        good.clone(),
        Refusal::Proof,
    )?;
    let again = (line.next_number(), good.1);
    scene.refused(
        &mut line,
        "the same under a new number",
        thief,
        again,
        Refusal::Proof,
    )?;
    let reflected = (line.next_number(), theirs.1);
    scene.refused(
        &mut line,
        "db's own proof",
        thief,
        reflected,
        Refusal::Proof,
    )?;

    // What it says about others' pairs is not its business: the load below goes on.
    let web_address = address_bytes(scene.lab.address("shop/web", Family::V4)?);
    for message in [
        Message::Stale(pb::Stale {
            address: web_address,
        }),
        Message::LabelRevoke(pb::LabelRevoke {
            local_pod: scene.web.clone(),
            remote_pod: scene.db.0.clone(),
        }),
        Message::Label(pb::Label {
            src_pod: scene.db.0.clone(),
            dst_pod: scene.web.clone(),
            label: 1,
            epoch: 1,
            not_after_unix_ms: u64::MAX,
        }),
    ] {
        if line.say(&message).is_err() {
            line = scene.open("node2")?;
            line.say(&message)?;
        }
    }

    // All of it is on record, under the liar's name.
    let audit = scene
        .lab
        .exec("node2", &ctl(&["audit", "export"])?.each())?;
    let text = String::from_utf8(audit.stdout)?;
    let liar = scene.rogue.id()?.to_string();
    let records: Vec<Value> = text
        .lines()
        .map(serde_json::from_str)
        .collect::<Result<_, _>>()?;
    let of_liar = |event: &str| {
        let is =
            |record: &&Value| record["event"] == event && record["remote_node"] == liar.as_str();
        records.iter().filter(is).count()
    };
    let (requests, proofs) = (of_liar("request_refused"), of_liar("proof_rejected"));
    eprintln!("on record: {requests} requests refused, {proofs} proofs rejected");
    ensure!(requests >= 5 && proofs >= 5, "{text}");

    let tally = unharmed(load)?;
    eprintln!(
        "meanwhile {} datagrams of others, none lost",
        tally.sent.len()
    );
    Ok(())
}

#[test]
fn who_breaks_the_protocol_is_hung_up_on() -> Result<()> {
    if !bin::root_or_skip("a rogue's channel") {
        return Ok(());
    }
    let (lab, load) = up()?;
    let scene = Scene::of(lab)?;
    let node1 = scene.lab.node("node1")?["uid"]
        .as_str()
        .context("uid")?
        .to_owned();
    scene.violation("the HELLO of another node", |line| {
        line.say(&Message::Hello(pb::Hello {
            node_uid: node1,
            ..scene.rogue.hello()
        }))
    })?;
    scene.violation("a frame of no type", |line| line.say_raw(99, b"?"))?;
    scene.violation("a message that does not decode", |line| {
        line.say_raw(1, &[0xff; 40])
    })?;
    scene.violation("a question before HELLO", |line| {
        line.ask_on(
            &scene.thief.0,
            (&scene.db.0, scene.db.1.clone()),
            (0, vec![]),
        )
    })?;
    scene.violation("keys confirmed wrongly", |line| {
        line.say(&Message::Hello(scene.rogue.hello()))?;
        let (context, mut confirm) = line.offer(KEY)?;
        confirm[0] ^= 1;
        line.ready(context.epoch, &mut confirm)
    })?;
    // node1's WireGuard key, which it gives to whom it talks with, as one's own towards node2.
    let (to, peer) = scene.at("node1")?;
    let mut line = scene.rogue.dial(to, &peer)?;
    line.say(&Message::Hello(scene.rogue.hello()))?;
    let theirs = line.offer(KEY)?.0;
    scene.violation("another node's WireGuard key", |line| {
        line.say(&Message::Hello(scene.rogue.hello()))?;
        line.offer_in(theirs.epoch % 2, theirs.server_wg)
    })?;

    // More questions than a node has: told to wait, and in nobody's way.
    let mut line = scene.open("node2")?;
    let (thief, db) = (scene.thief.0.clone(), scene.db.clone());
    let flood = std::thread::spawn(move || -> Result<(usize, usize)> {
        let (mut busy, mut answered) = (0, 0);
        for id in 1..=3000 {
            line.ask_on(&thief, (&db.0, db.1.clone()), (0, vec![]))?;
            // As many under way as the agent takes, and more.
            if id > 1000 {
                answered += 1;
                let answer = line.answer_to(id - 1000)?;
                busy += usize::from(matches!(answer, Answer::Refused(Refusal::Busy, false)));
            }
        }
        Ok((busy, answered))
    });
    let (web, v6) = (
        scene.lab.netns("shop/web")?,
        scene.lab.socket("shop/idle", Family::V6, 3306)?,
    );
    signet_tests::netns::tcp_echo(&web, v6, b"first contact of an honest pair", SOON)?;
    let (busy, answered) = flood
        .join()
        .map_err(|_| anyhow::anyhow!("the flood panicked"))??;
    eprintln!("{busy} of {answered} questions were told to wait");
    // How many depends on how fast the machine is: the allowance comes back while it goes on.
    ensure!(busy > 0, "none of {answered} was told to wait");
    unharmed(load).map(drop)
}

/// `signetctl` with arguments, to be run in a lab.
struct Ctl(Vec<String>);

fn ctl(args: &[&str]) -> Result<Ctl> {
    let path = bin::dir()?.join("signetctl").to_string_lossy().into_owned();
    let args = args.iter().map(|arg| (*arg).to_owned());
    Ok(Ctl(std::iter::once(path).chain(args).collect()))
}

impl Ctl {
    fn each(&self) -> Vec<&str> {
        self.0.iter().map(String::as_str).collect()
    }
}
