//! Sockets that note what they hear, wherever a pod's packet could end up.

use std::{
    collections::BTreeSet,
    net::{IpAddr, SocketAddr, UdpSocket},
    sync::{Arc, Mutex, PoisonError},
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context, Result};
use signet_tests::{
    lab::{Family, Lab},
    netns,
};

const PORT: u16 = 4000;

/// Who heard what.
type Notes = Arc<Mutex<BTreeSet<(&'static str, String)>>>;

/// Listeners at a pod of another node (`remote`), a pod of node1 (`local`), node1 itself (`node`) and outside (`world`).
pub(super) struct Ears {
    addresses: Vec<IpAddr>,
    notes: Notes,
}

impl Ears {
    pub(super) fn new(lab: &Lab) -> Result<Self> {
        let lab_is = lab.describe()?;
        let of = |value: &serde_json::Value| -> Result<Vec<IpAddr>> {
            serde_json::from_value(value["underlay_addresses"].clone())
                .context("underlay_addresses")
        };
        let pod = |pod: &str| -> Result<Vec<IpAddr>> {
            [Family::V4, Family::V6]
                .map(|family| lab.address(pod, family))
                .into_iter()
                .collect()
        };
        let identity = lab_is["identity"]["netns"]
            .as_str()
            .context("netns")?
            .to_owned();
        let places = [
            ("remote", lab.netns("shop/db")?, pod("shop/db")?),
            ("local", lab.netns("other/stray")?, pod("other/stray")?),
            ("node", lab.netns("node1")?, of(&lab.node("node1")?)?),
            ("world", identity, of(&lab_is["identity"])?),
        ];
        let mut ears = Self {
            addresses: Vec::new(),
            notes: Notes::default(),
        };
        for (place, netns, addresses) in places {
            ears.listen(place, &netns)?;
            ears.addresses.extend(addresses);
        }
        Ok(ears)
    }

    fn listen(&self, place: &'static str, netns: &str) -> Result<()> {
        let notes = Arc::downgrade(&self.notes);
        netns::within(netns, move || {
            let socket = UdpSocket::bind(("::", PORT))?;
            socket.set_read_timeout(Some(Duration::from_millis(50)))?;
            thread::spawn(move || {
                let mut buffer = [0; 256];
                while notes.strong_count() > 0 {
                    let (Ok(n), Some(notes)) = (socket.recv(&mut buffer), notes.upgrade()) else {
                        continue;
                    };
                    let text = String::from_utf8_lossy(&buffer[..n]).into_owned();
                    let mut notes = notes.lock().unwrap_or_else(PoisonError::into_inner);
                    notes.insert((place, text));
                }
            });
            Ok(())
        })
    }

    /// Calls every place from a namespace, again and again.
    pub(super) fn hear(&self, netns: &str, text: &str, time: Duration) -> Result<()> {
        self.call(netns, None, text, time)
    }

    /// As [`Ears::hear`], from an address of the caller's choice; only places of its family are called.
    pub(super) fn hear_as(
        &self,
        netns: &str,
        from: IpAddr,
        text: &str,
        time: Duration,
    ) -> Result<()> {
        self.call(netns, Some(from), text, time)
    }

    fn call(&self, netns: &str, from: Option<IpAddr>, text: &str, time: Duration) -> Result<()> {
        let (addresses, text) = (self.addresses.clone(), text.to_owned());
        netns::within(netns, move || {
            let start = Instant::now();
            while start.elapsed() < time {
                for address in &addresses {
                    let own = from.map_or_else(|| netns::any(*address), |ip| (ip, 0).into());
                    if own.is_ipv4() == address.is_ipv4() {
                        // Without a route yet it is as good as unheard.
                        let _ = UdpSocket::bind(own)?
                            .send_to(text.as_bytes(), SocketAddr::new(*address, PORT));
                    }
                }
                thread::sleep(Duration::from_millis(20));
            }
            Ok(())
        })
    }

    /// Places that have heard it by now.
    pub(super) fn who_heard(&self, text: &str) -> BTreeSet<&'static str> {
        let notes = self.notes.lock().unwrap_or_else(PoisonError::into_inner);
        notes
            .iter()
            .filter(|(_, heard)| heard == text)
            .map(|(place, _)| *place)
            .collect()
    }

    /// True if it reached nobody, late comers included.
    pub(super) fn nobody_heard(&self, text: &str) -> Result<bool> {
        thread::sleep(Duration::from_millis(300));
        Ok(self.who_heard(text).is_empty())
    }
}
