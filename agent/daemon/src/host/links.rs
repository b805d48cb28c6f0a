//! Pods' interfaces: the MAC address on the far side, and when they vanish.

use rtnetlink::{
    MulticastGroup,
    packet_core::NetlinkPayload,
    packet_route::{AddressFamily, RouteNetlinkMessage, link::LinkAttribute},
};
use tokio_stream::StreamExt as _;

use super::netlink::{Link, Netlink};
use crate::executor::Inbox;

impl Netlink {
    /// The host side of a pod's veth, and the MAC address of the pod's side.
    ///
    /// # Errors
    /// One line: no such device, or none whose other side can be asked.
    pub(crate) async fn pod_link(&self, name: &str) -> Result<(Link, [u8; 6]), String> {
        let link = self.link(name).await?.ok_or_else(|| {
            format!("interface {name} does not exist in the agent's network namespace")
        })?;
        let mut links = self.handle().link().get().match_index(link.index).execute();
        let Some(Ok(message)) = links.next().await else {
            return Err(format!("interface {name} vanished while it was looked at"));
        };
        let (mut far_index, mut far_namespace) = (None, None);
        for attribute in message.attributes {
            if let LinkAttribute::Link(index) = attribute {
                far_index = Some(index);
            } else if let LinkAttribute::LinkNetNsId(id) = attribute {
                far_namespace = Some(id);
            }
        }
        let far_index = far_index.ok_or_else(|| {
            format!("interface {name} has no other side: it must be the host side of a veth")
        })?;
        let mut request = self.handle().link().get().match_index(far_index);
        if let Some(id) = far_namespace {
            request
                .message_mut()
                .attributes
                .push(LinkAttribute::IfNetnsId(id));
        }
        let unknown =
            |what: String| format!("MAC address behind interface {name} is unknown: {what}");
        let mut links = request.execute();
        let message = match links.next().await {
            Some(Ok(message)) => message,
            Some(Err(error)) => return Err(unknown(error.to_string())),
            None => return Err(unknown("the kernel gave no answer".into())),
        };
        let mac = message.attributes.into_iter().find_map(|attribute| {
            if let LinkAttribute::Address(mac) = attribute {
                mac.try_into().ok()
            } else {
                None
            }
        });
        let mac = mac.ok_or_else(|| unknown("the other side has none".into()))?;
        Ok((link, mac))
    }
}

/// Tells the executor of every device that goes, for as long as the process runs.
///
/// # Errors
/// If the kernel cannot be listened to.
pub(crate) fn watch(inbox: Inbox) -> Result<(), String> {
    let (connection, _, mut messages) =
        rtnetlink::new_multicast_connection(&[MulticastGroup::Link])
            .map_err(|error| format!("netlink socket cannot be opened: {error}"))?;
    tokio::spawn(connection);
    tokio::spawn(async move {
        while let Some((message, _)) = messages.next().await {
            if let NetlinkPayload::InnerMessage(RouteNetlinkMessage::DelLink(link)) =
                message.payload
                // A port that leaves its bridge is told of in the same words; the device stays.
                && link.header.interface_family != AddressFamily::Bridge
            {
                inbox.link_gone(link.header.index).await;
            }
        }
        tracing::error!("the kernel no longer tells which interfaces go; restart the agent");
    });
    Ok(())
}
