//! What a previous agent left in the pinned maps.

use signet_agent_core::io::{Adopted, ClassId, PeerId, PodUid, SendRow};
use signet_loader::LoaderError;

use super::{DataPlane, rows, said};
use crate::state::EndpointStore;

impl DataPlane {
    /// Every row. What makes no sense is removed: nobody would ever take it back.
    ///
    /// # Errors
    /// The kernel's refusal, one line.
    pub(crate) fn adopted(&mut self, store: &EndpointStore) -> Result<Adopted, String> {
        let adopted = self.read_all(store).map_err(said)?;
        for (label, _) in &adopted.recv {
            self.granted.insert(label.value());
        }
        for (key, row) in &adopted.send {
            if matches!(row, SendRow::Paired { .. }) {
                self.held.insert(*key);
            }
        }
        Ok(adopted)
    }

    fn read_all(&mut self, store: &EndpointStore) -> Result<Adopted, LoaderError> {
        let maps = &mut self.plane.maps;
        let mut adopted = Adopted {
            last_generation: store.last_generation(),
            ..Adopted::default()
        };
        for entry in maps.endpoints.iter() {
            let row = rows::endpoint_back(&entry?.1);
            let record = store
                .records()
                .find(|record| record.index == row.index.0 && record.generation == row.generation);
            let pod = record.map(|record| PodUid::new(&record.pod_uid));
            adopted.endpoints.push((row, pod));
        }
        let mut bad = Vec::new();
        for entry in maps.send_rows.iter() {
            let (key, row) = entry?;
            match rows::send_back(&key, &row) {
                Some(row) => adopted.send.push(row),
                None => bad.push(key),
            }
        }
        for key in bad {
            maps.send_rows.remove(&key)?;
        }
        let mut bad = Vec::new();
        for entry in maps.recv_rows.iter() {
            let (key, row) = entry?;
            match rows::recv_back(&key, &row) {
                Some(row) => adopted.recv.push(row),
                None => bad.push(key),
            }
        }
        for key in bad {
            maps.recv_rows.remove(&key)?;
        }
        for entry in maps.peers.iter() {
            let (id, row) = entry?;
            adopted.peers.push((PeerId(id), rows::peer_back(&row)));
        }
        let mut bad = Vec::new();
        for entry in maps.policy.iter() {
            let (key, value) = entry?;
            match rows::policy_back(&key, &value) {
                Some(row) => adopted.policy.push(row),
                None => bad.push(key),
            }
        }
        for key in bad {
            maps.policy.remove(key)?;
        }
        for entry in maps.cidr_classes.iter() {
            let (prefix, class) = entry?;
            if let Some(net) = rows::prefix_back(prefix) {
                adopted.cidrs.push((net, ClassId(class)));
            }
        }
        for entry in maps.pod_ranges.iter() {
            let (prefix, _) = entry?;
            if let Some(net) = rows::prefix_back(prefix) {
                adopted.pod_ranges.push(net);
            }
        }
        Ok(adopted)
    }
}
