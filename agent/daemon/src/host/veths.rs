//! Which of the host's devices lead into which network namespace.

use std::os::fd::RawFd;

use rtnetlink::{
    packet_core::{NLM_F_REQUEST, NetlinkMessage, NetlinkPayload},
    packet_route::{
        RouteNetlinkMessage,
        link::{InfoKind, LinkAttribute, LinkInfo, LinkMessage},
        nsid::{NsidAttribute, NsidMessage},
    },
};
use tokio_stream::StreamExt as _;

use super::netlink::Netlink;

/// The host's end of a veth whose other end is elsewhere.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Veth {
    pub(crate) name: String,
    /// What the other end is called there; empty if the kernel does not tell.
    pub(crate) far_name: String,
    /// What that namespace is called here.
    pub(crate) far_namespace: i32,
}

impl Netlink {
    /// Every veth that leads to another network namespace.
    ///
    /// # Errors
    /// One line.
    pub(crate) async fn veths(&self) -> Result<Vec<Veth>, String> {
        let mut found = Vec::new();
        let mut links = self.handle().link().get().execute();
        while let Some(link) = links.next().await {
            let link = link.map_err(|error| format!("devices cannot be listed: {error}"))?;
            if let Some((name, index, far_namespace)) = far_end(&link) {
                found.push((name, index, far_namespace));
            }
        }
        let mut veths = Vec::new();
        for (name, index, far_namespace) in found {
            let far_name = self.far_name(index, far_namespace).await;
            veths.push(Veth {
                name,
                far_name: far_name.unwrap_or_default(),
                far_namespace,
            });
        }
        Ok(veths)
    }

    async fn far_name(&self, index: u32, namespace: i32) -> Option<String> {
        let mut request = self.handle().link().get().match_index(index);
        request
            .message_mut()
            .attributes
            .push(LinkAttribute::IfNetnsId(namespace));
        let message = request.execute().next().await?.ok()?;
        message.attributes.into_iter().find_map(|attribute| {
            if let LinkAttribute::IfName(name) = attribute {
                Some(name)
            } else {
                None
            }
        })
    }

    /// What the namespace behind an open file is called here; `None` if no device leads there.
    ///
    /// # Errors
    /// One line.
    pub(crate) async fn namespace_id(&self, file: RawFd) -> Result<Option<i32>, String> {
        let said = |error: &dyn std::fmt::Display| {
            format!("a network namespace cannot be asked for: {error}")
        };
        let mut question = NsidMessage::default();
        let file = u32::try_from(file).map_err(|error| said(&error))?;
        question.attributes.push(NsidAttribute::Fd(file));
        let mut message = NetlinkMessage::from(RouteNetlinkMessage::GetNsId(question));
        message.header.flags = NLM_F_REQUEST;
        let mut handle = self.handle().clone();
        let mut answers = handle.request(message).map_err(|error| said(&error))?;
        while let Some(answer) = answers.next().await {
            if let NetlinkPayload::InnerMessage(RouteNetlinkMessage::NewNsId(answer)) =
                answer.payload
            {
                let id = answer.attributes.into_iter().find_map(|attribute| {
                    if let NsidAttribute::Id(id) = attribute {
                        Some(id)
                    } else {
                        None
                    }
                });
                return Ok(id.filter(|id| *id >= 0));
            }
        }
        Ok(None)
    }
}

/// Name of a veth, and index and namespace of its other end.
fn far_end(link: &LinkMessage) -> Option<(String, u32, i32)> {
    let (mut name, mut index, mut namespace, mut is_veth) = (None, None, None, false);
    for attribute in &link.attributes {
        if let LinkAttribute::IfName(own) = attribute {
            name = Some(own.clone());
        } else if let LinkAttribute::Link(far) = attribute {
            index = Some(*far);
        } else if let LinkAttribute::LinkNetNsId(id) = attribute {
            namespace = Some(*id);
        } else if let LinkAttribute::LinkInfo(all) = attribute {
            is_veth = all.contains(&LinkInfo::Kind(InfoKind::Veth));
        }
    }
    is_veth.then_some((name?, index?, namespace?))
}
