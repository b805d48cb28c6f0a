//! A node channel spoken by hand, frame by frame.

use std::{
    io::{ErrorKind, Read as _, Write as _},
    net::{SocketAddr, TcpStream},
    time::Duration,
};

use anyhow::{Context, Result, anyhow, bail, ensure};
use rustls::{ClientConnection, StreamOwned};
use rustls_pki_types::ServerName;
use sha2::{Digest as _, Sha256};
use signet_agent_core::wire::{Message, PROTO, pb};
use signet_crypto::{
    spiffe_id::SpiffeId,
    svid::X509Svid,
    tls::{
        ExpectPeer, SvidStore, TlsSecrets,
        authenticator::{Request, Role, Secrets, create},
        capturing_client, client_config,
        exporter::{SlotContext, confirm},
    },
    wg::PublicKey,
};

use super::{Rogue, clock};
use crate::netns;

/// How long an honest agent may take to answer; a loaded machine is no lie.
const PATIENCE: Duration = Duration::from_secs(10);
const SLOT_PORTS: [u16; 2] = [51830, 51831];

/// A channel that the rogue has dialled.
pub struct Line {
    tls: StreamOwned<ClientConnection, TcpStream>,
    secrets: TlsSecrets,
    peer: SpiffeId,
    own: (SpiffeId, [u8; 16]),
    hello: pb::Hello,
    /// The highest epoch that may not be offered again, and the one whose slot is taken.
    epochs: (u64, u64),
    /// Number of the last proof made, and of the last question.
    made: u64,
    asked: u64,
}

/// A proof as it goes into a frame: its number and the authenticator.
pub type Made = (u64, Vec<u8>);

/// What came back for a question.
#[derive(Debug)]
pub enum Answer {
    /// A proof of the other's pod.
    Proof(Made),
    /// A refusal; true if a proof came along all the same.
    Refused(pb::Refusal, bool),
    /// The channel was closed, and why if a BYE said so.
    Closed(Option<pb::ByeReason>),
}

impl Rogue {
    /// Dials an agent with the node's own certificate and reads its HELLO; says none yet.
    ///
    /// # Errors
    /// If TLS fails, or the agent does not greet.
    pub fn dial(&self, to: SocketAddr, peer: &SpiffeId) -> Result<Line> {
        let svid = SvidStore::new(self.svid()?);
        let expect = ExpectPeer::Id(peer.clone());
        let config = client_config(
            &self.trust()?,
            Some(&svid),
            expect,
            &clock()?,
            &[b"signet/1"],
        )?;
        let (config, capture) = capturing_client(&config);
        let name = ServerName::IpAddress(to.ip().into());
        let mut tcp = netns::within(self.netns(), move || {
            let stream = TcpStream::connect_timeout(&to, PATIENCE)?;
            stream.set_nodelay(true)?;
            Ok(stream)
        })?;
        tcp.set_read_timeout(Some(PATIENCE))?;
        let mut connection = ClientConnection::new(config, name)?;
        while connection.is_handshaking() {
            connection.complete_io(&mut tcp)?;
        }
        let secrets = TlsSecrets::of_client(&connection, &capture)?;
        let mut line = Line {
            tls: StreamOwned::new(connection, tcp),
            secrets,
            peer: peer.clone(),
            own: (self.id()?, self.boot_id()),
            hello: pb::Hello::default(),
            epochs: (0, 0),
            made: 0,
            asked: 0,
        };
        match line.hear()? {
            Some(Message::Hello(hello)) => line.hello = hello,
            other => bail!(
                "no HELLO but {}",
                other.as_ref().map_or("an end", Message::name)
            ),
        }
        line.epochs = (line.hello.last_epoch, line.hello.live_epoch);
        Ok(line)
    }

    /// What an honest node would say first.
    #[must_use]
    pub fn hello(&self) -> pb::Hello {
        pb::Hello {
            proto: PROTO,
            node_uid: self.uid.clone(),
            boot_id: self.boot_id().to_vec(),
            instance: self.next_instance(),
            proof_nonce: vec![9; 32],
            ..pb::Hello::default()
        }
    }

    /// A channel with keys, made as the protocol wants it; `key` is the WireGuard key offered.
    ///
    /// # Errors
    /// If the agent does not go along.
    pub fn open(&self, to: SocketAddr, peer: &SpiffeId, key: PublicKey) -> Result<Line> {
        let mut line = self.dial(to, peer)?;
        line.say(&Message::Hello(self.hello()))?;
        let (context, mut mine) = line.offer(key)?;
        line.ready(context.epoch, &mut mine)?;
        Ok(line)
    }
}

impl Line {
    /// Sends a message.
    ///
    /// # Errors
    /// If the channel is closed.
    pub fn say(&mut self, message: &Message) -> Result<()> {
        let (kind, payload) = message.encode();
        self.say_raw(kind, &payload)
    }

    /// Sends a frame of any kind and content.
    ///
    /// # Errors
    /// If the channel is closed.
    pub fn say_raw(&mut self, kind: u8, payload: &[u8]) -> Result<()> {
        let length = u32::try_from(1 + payload.len())?.to_be_bytes();
        self.tls
            .write_all(&[&length[..], &[kind], payload].concat())?;
        self.tls.flush()?;
        Ok(())
    }

    /// The next message but PING; `None` if the channel is closed.
    ///
    /// # Errors
    /// If nothing comes for ten seconds, or no message.
    pub fn hear(&mut self) -> Result<Option<Message>> {
        loop {
            let mut header = [0; 5];
            if let Err(error) = self.tls.read_exact(&mut header) {
                let silent = matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut);
                ensure!(!silent, "the agent says nothing");
                return Ok(None);
            }
            let [l0, l1, l2, l3, kind] = header;
            let length = u32::from_be_bytes([l0, l1, l2, l3]) as usize;
            let mut payload = vec![0; length.checked_sub(1).context("an empty frame")?];
            self.tls.read_exact(&mut payload)?;
            let message = Message::decode(kind, &payload)?;
            if let Message::Ping(ping) = message {
                self.say(&Message::Pong(pb::Pong { nonce: ping.nonce }))?;
            } else {
                return Ok(Some(message));
            }
        }
    }

    /// Offers keys, until an epoch is taken; what to confirm, and with what.
    ///
    /// # Errors
    /// If no offer is accepted.
    pub fn offer(&mut self, key: PublicKey) -> Result<(SlotContext, [u8; 32])> {
        for _ in 0..3 {
            let (highest, live) = self.epochs;
            let mut epoch = highest.max(live) + 1;
            epoch += u64::from(live != 0 && epoch % 2 == live % 2);
            let port = SLOT_PORTS[usize::from(epoch % 2 == 1)];
            self.say(&Message::SlotOffer(pb::SlotOffer {
                epoch,
                wg_public_key: key.as_bytes().to_vec(),
                port: u32::from(port),
                tag_carriers: 1,
            }))?;
            match self.hear_of_slot()? {
                Some(Message::SlotAccept(accept)) => {
                    let context = SlotContext {
                        epoch,
                        client_node: self.own.0.clone(),
                        server_node: self.peer.clone(),
                        client_boot_id: self.own.1,
                        server_boot_id: self.hello.boot_id[..].try_into()?,
                        client_wg: key,
                        server_wg: PublicKey(accept.wg_public_key[..].try_into()?),
                        client_port: port,
                        server_port: u16::try_from(accept.port)?,
                    };
                    let mine = confirm(&self.secrets, &context, Role::Client)?;
                    return Ok((context, mine));
                }
                Some(Message::SlotRefuse(refuse)) => {
                    self.epochs = (refuse.last_epoch.max(epoch), refuse.live_epoch);
                }
                other => {
                    let name = other.as_ref().map_or("an end", Message::name);
                    bail!("the offer is answered by {name}");
                }
            }
        }
        Err(anyhow!("no epoch is taken"))
    }

    /// The next message but those that an agent may send at any time after HELLO.
    fn hear_of_slot(&mut self) -> Result<Option<Message>> {
        loop {
            let message = self.hear()?;
            if !matches!(
                message,
                Some(Message::Proof(_) | Message::LabelKeep(_) | Message::ProofReq(_))
            ) {
                return Ok(message);
            }
        }
    }

    /// Offers a key in a slot of one's own choice, and does not wait.
    ///
    /// # Errors
    /// If the channel is closed.
    pub fn offer_in(&mut self, slot: u64, key: PublicKey) -> Result<()> {
        let (highest, live) = self.epochs;
        let mut epoch = highest.max(live) + 1;
        epoch += u64::from(epoch % 2 != slot);
        self.say(&Message::SlotOffer(pb::SlotOffer {
            epoch,
            wg_public_key: key.as_bytes().to_vec(),
            port: u32::from(SLOT_PORTS[usize::from(epoch % 2 == 1)]),
            tag_carriers: 1,
        }))
    }

    /// Says that the keys are in use.
    ///
    /// # Errors
    /// If the channel is closed.
    pub fn ready(&mut self, epoch: u64, confirm: &mut [u8; 32]) -> Result<()> {
        self.say(&Message::SlotReady(pb::SlotReady {
            epoch,
            confirm: confirm.to_vec(),
        }))
    }

    /// The next proof of `svid`, good for this channel and no other.
    ///
    /// # Errors
    /// If it cannot be signed.
    pub fn prove(&mut self, svid: &X509Svid) -> Result<Made> {
        self.made += 1;
        Ok((
            self.made,
            self.authenticator(svid, self.made, Role::Client)?,
        ))
    }

    /// An authenticator of this channel for any number and either side.
    ///
    /// # Errors
    /// If it cannot be signed.
    pub fn authenticator(&self, svid: &X509Svid, n: u64, side: Role) -> Result<Vec<u8>> {
        let mut hash = Sha256::new();
        hash.update(b"signet proof context");
        hash.update(&self.hello.proof_nonce);
        hash.update(n.to_be_bytes());
        let context = hash.finalize().into();
        let secrets = Secrets::from_channel(&self.secrets, side)?;
        Ok(create(&secrets, &Request { context }, svid)?)
    }

    /// A number for a proof that was not made by [`Line::prove`].
    pub fn next_number(&mut self) -> u64 {
        self.made += 1;
        self.made
    }

    /// Asks for a proof of `to` on behalf of `from`, and waits for the answer.
    ///
    /// # Errors
    /// If nothing comes back.
    pub fn ask(&mut self, from: &str, to: (&str, Vec<u8>), proof: Made) -> Result<Answer> {
        self.ask_on(from, to, proof)?;
        let id = self.asked;
        self.answer_to(id)
    }

    /// Asks, and does not wait.
    ///
    /// # Errors
    /// If the channel is closed.
    pub fn ask_on(&mut self, from: &str, to: (&str, Vec<u8>), proof: Made) -> Result<()> {
        self.asked += 1;
        self.say(&Message::ProofReq(pb::ProofReq {
            id: self.asked,
            src_pod: from.to_owned(),
            dst_pod: to.0.to_owned(),
            dst_address: to.1,
            proof_n: proof.0,
            authenticator: proof.1,
            have_proof: false,
        }))
    }

    /// Waits for the answer to question `id`; other messages are passed over.
    ///
    /// # Errors
    /// If nothing comes.
    pub fn answer_to(&mut self, id: u64) -> Result<Answer> {
        let mut bye = None;
        loop {
            match self.hear()? {
                None => return Ok(Answer::Closed(bye)),
                Some(Message::Bye(said)) => bye = Some(said.reason()),
                Some(Message::Proof(proof)) if proof.id == id => {
                    let refusal = proof.refusal();
                    if refusal == pb::Refusal::None {
                        return Ok(Answer::Proof((proof.proof_n, proof.authenticator)));
                    }
                    return Ok(Answer::Refused(refusal, !proof.authenticator.is_empty()));
                }
                Some(_) => {}
            }
        }
    }

    /// Waits for the end of the channel.
    ///
    /// # Errors
    /// If it stays open.
    pub fn end(&mut self) -> Result<Option<pb::ByeReason>> {
        let mut bye = None;
        while let Some(message) = self.hear()? {
            if let Message::Bye(said) = message {
                bye = Some(said.reason());
            }
        }
        Ok(bye)
    }
}
