//! The host side of a pod's interface, as the kernel knows it.
//!
//! What a plug-in before us says about interfaces is not asked: a bridge plug-in names two of the
//! host, others none, and whoever is enforced must be who sends.

use std::{
    fs::File,
    os::fd::{AsRawFd, RawFd},
    path::Path,
    thread,
};

use netlink_packet_core::{NLM_F_REQUEST, NetlinkMessage, NetlinkPayload};
use netlink_packet_route::{
    RouteNetlinkMessage,
    link::{InfoKind, LinkAttribute, LinkInfo, LinkMessage},
    nsid::{NsidAttribute, NsidMessage},
};
use netlink_sys::{Socket, SocketAddr, protocols::NETLINK_ROUTE};
use nix::sched::{CloneFlags, setns};

/// An answer about one interface is a few kilobytes.
const MAX_ANSWER: usize = 64 << 10;

/// Finds what is at the host's end of a pod's interface.
pub(crate) trait HostSide {
    /// The name of the host's end.
    ///
    /// # Errors
    /// One line: what there is instead.
    fn of(&self, netns: &Path, ifname: &str) -> Result<String, String>;
}

/// The kernel this runs on. The calling thread must be in the host's network namespace.
pub(crate) struct Kernel;

impl HostSide for Kernel {
    fn of(&self, netns: &Path, ifname: &str) -> Result<String, String> {
        let file = File::open(netns)
            .map_err(|error| format!("network namespace {}: {error}", netns.display()))?;
        let inside = within(&file, || {
            Rtnetlink::open()?.link(LinkAttribute::IfName(ifname.to_owned()))
        })?
        .ok_or_else(|| format!("there is no {ifname} in {}", netns.display()))?;
        let Some(peer) = inside.peer.filter(|_| inside.veth) else {
            return Err(format!(
                "{ifname} in {} is a {}, not one end of a veth",
                netns.display(),
                inside.kind
            ));
        };
        let mut host = Rtnetlink::open()?;
        let namespace = host.namespace_id(file.as_raw_fd())?;
        // Numbers of interfaces repeat from namespace to namespace: the far end must point back.
        let outside = host.link_by_index(peer)?.filter(|outside| {
            outside.veth
                && outside.peer == Some(inside.index)
                && outside.peer_namespace.is_some()
                && outside.peer_namespace == namespace
        });
        outside.map(|outside| outside.name).ok_or_else(|| {
            format!(
                "the other end of {ifname} in {} is not in the network namespace of this host",
                netns.display()
            )
        })
    }
}

struct Link {
    index: u32,
    name: String,
    kind: String,
    veth: bool,
    /// Index of the other end, in the namespace where that is.
    peer: Option<u32>,
    /// What that namespace is called in the one that was asked; absent if it is the same.
    peer_namespace: Option<i32>,
}

impl Link {
    fn new(message: LinkMessage) -> Self {
        let mut link = Self {
            index: message.header.index,
            name: String::new(),
            kind: "physical device".to_owned(),
            veth: false,
            peer: None,
            peer_namespace: None,
        };
        for attribute in message.attributes {
            if let LinkAttribute::IfName(name) = attribute {
                link.name = name;
            } else if let LinkAttribute::Link(peer) = attribute {
                link.peer = Some(peer);
            } else if let LinkAttribute::LinkNetNsId(id) = attribute {
                link.peer_namespace = Some(id);
            } else if let LinkAttribute::LinkInfo(all) = attribute {
                for info in all {
                    if let LinkInfo::Kind(kind) = info {
                        link.veth = kind == InfoKind::Veth;
                        link.kind = kind.to_string();
                    }
                }
            }
        }
        link
    }
}

/// A question and an answer at a time.
struct Rtnetlink {
    socket: Socket,
}

impl Rtnetlink {
    /// Of the namespace that the calling thread is in.
    fn open() -> Result<Self, String> {
        let open = || {
            let mut socket = Socket::new(NETLINK_ROUTE)?;
            socket.bind_auto()?;
            socket.connect(&SocketAddr::new(0, 0))?;
            Ok(Self { socket })
        };
        open().map_err(|error: std::io::Error| format!("the kernel cannot be asked: {error}"))
    }

    fn link(&mut self, which: LinkAttribute) -> Result<Option<Link>, String> {
        let mut question = LinkMessage::default();
        question.attributes.push(which);
        self.link_of(question)
    }

    fn link_by_index(&mut self, index: u32) -> Result<Option<Link>, String> {
        let mut question = LinkMessage::default();
        question.header.index = index;
        self.link_of(question)
    }

    fn link_of(&mut self, question: LinkMessage) -> Result<Option<Link>, String> {
        match self.ask(RouteNetlinkMessage::GetLink(question))? {
            Some(RouteNetlinkMessage::NewLink(message)) => Ok(Some(Link::new(message))),
            Some(_) => Err("the kernel answered another question".to_owned()),
            None => Ok(None),
        }
    }

    /// What a namespace is called in this one.
    fn namespace_id(&mut self, file: RawFd) -> Result<Option<i32>, String> {
        let mut question = NsidMessage::default();
        let file = u32::try_from(file).map_err(|error| error.to_string())?;
        question.attributes.push(NsidAttribute::Fd(file));
        match self.ask(RouteNetlinkMessage::GetNsId(question))? {
            Some(RouteNetlinkMessage::NewNsId(answer)) => {
                Ok(answer.attributes.into_iter().find_map(|attribute| {
                    if let NsidAttribute::Id(id) = attribute {
                        Some(id)
                    } else {
                        None
                    }
                }))
            }
            Some(_) => Err("the kernel answered another question".to_owned()),
            None => Ok(None),
        }
    }

    /// `None` if there is no such thing.
    fn ask(
        &mut self,
        question: RouteNetlinkMessage,
    ) -> Result<Option<RouteNetlinkMessage>, String> {
        let said = |error: &dyn std::fmt::Display| format!("the kernel cannot be asked: {error}");
        let mut message = NetlinkMessage::from(question);
        message.header.flags = NLM_F_REQUEST;
        message.finalize();
        let mut bytes = vec![0; message.buffer_len()];
        message.serialize(&mut bytes);
        self.socket.send(&bytes, 0).map_err(|error| said(&error))?;
        let mut answer = vec![0; MAX_ANSWER];
        let length = self
            .socket
            .recv(&mut &mut answer[..], 0)
            .map_err(|error| said(&error))?;
        let answer = answer.get(..length).unwrap_or_default();
        let answer = NetlinkMessage::<RouteNetlinkMessage>::deserialize(answer)
            .map_err(|error| said(&error))?;
        if let NetlinkPayload::InnerMessage(inner) = answer.payload {
            return Ok(Some(inner));
        }
        if let NetlinkPayload::Error(error) = answer.payload {
            let error = error.to_io();
            if error.raw_os_error() == Some(nix::libc::ENODEV) {
                return Ok(None);
            }
            return Err(said(&error));
        }
        Err("the kernel gave no answer".to_owned())
    }
}

/// Runs `work` in another network namespace, on a thread that ends with it.
fn within<T: Send>(
    namespace: &File,
    work: impl FnOnce() -> Result<T, String> + Send,
) -> Result<T, String> {
    let inside = move || {
        setns(namespace, CloneFlags::CLONE_NEWNET)
            .map_err(|error| format!("the pod's network namespace cannot be entered: {error}"))?;
        work()
    };
    thread::scope(|scope| scope.spawn(inside).join())
        .unwrap_or_else(|_| Err("the thread in the pod's network namespace failed".to_owned()))
}
