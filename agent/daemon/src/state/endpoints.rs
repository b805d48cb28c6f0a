//! Which pods had which interface, so that a restarted agent finds them again.

use std::{collections::BTreeMap, net::IpAddr, path::PathBuf};

use serde::{Deserialize, Serialize};

use super::{read, replace};

const FILE: &str = "endpoints.json";
const VERSION: u32 = 1;

/// One endpoint as it was enforced last.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct EndpointRecord {
    pub(crate) pod_uid: String,
    pub(crate) ifname: String,
    pub(crate) ifindex: u32,
    pub(crate) mac: [u8; 6],
    pub(crate) addresses: Vec<IpAddr>,
    /// Index in the data path; 0 until the core has given one.
    pub(crate) index: u16,
    pub(crate) generation: u32,
    #[serde(default)]
    pub(crate) found: FoundBy,
}

/// How the agent came to know of a pod's interface.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum FoundBy {
    /// Whoever made it has said so.
    #[default]
    Cni,
    /// The agent has looked at the pod's processes.
    Discovery,
}

impl FoundBy {
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Cni => "cni",
            Self::Discovery => "discovery",
        }
    }
}

#[derive(Serialize, Deserialize)]
struct Contents {
    version: u32,
    /// The addresses are only good within one boot: interfaces don't survive another.
    boot_id: String,
    /// The highest generation that any endpoint of this boot had.
    last_generation: u32,
    endpoints: Vec<EndpointRecord>,
}

/// The endpoints on disk and in memory.
pub(crate) struct EndpointStore {
    path: PathBuf,
    boot_id: String,
    last_generation: u32,
    records: BTreeMap<String, EndpointRecord>,
}

impl EndpointStore {
    /// Reads the file; records of another boot count as none.
    ///
    /// # Errors
    /// A damaged file, by name and with what to do.
    pub(crate) fn open(data: &super::DataDir, boot_id: &str) -> Result<Self, String> {
        let path = data.file(FILE);
        let mut records = BTreeMap::new();
        let mut last_generation = 0;
        if let Some(bytes) = read(&path)? {
            let contents: Contents = serde_json::from_slice(&bytes).map_err(|error| {
                format!(
                    "{} is damaged ({error}): remove it, then add this node's pods again",
                    path.display()
                )
            })?;
            if contents.version != VERSION {
                return Err(format!(
                    "{} is of version {}, this agent reads {VERSION}: remove it, then add this \
                     node's pods again",
                    path.display(),
                    contents.version
                ));
            }
            if contents.boot_id == boot_id {
                last_generation = contents.last_generation;
                records = contents
                    .endpoints
                    .into_iter()
                    .map(|record| (record.pod_uid.clone(), record))
                    .collect();
            }
        }
        Ok(Self {
            path,
            boot_id: boot_id.to_owned(),
            last_generation,
            records,
        })
    }

    pub(crate) fn records(&self) -> impl Iterator<Item = &EndpointRecord> {
        self.records.values()
    }

    pub(crate) fn record(&self, pod_uid: &str) -> Option<&EndpointRecord> {
        self.records.get(pod_uid)
    }

    /// The highest generation that any endpoint of this boot had, gone ones included.
    pub(crate) fn last_generation(&self) -> u32 {
        self.last_generation
    }

    /// Adds or replaces a record.
    pub(crate) fn put(&mut self, record: EndpointRecord) -> Result<(), String> {
        if self.records.get(&record.pod_uid) == Some(&record) {
            return Ok(());
        }
        self.last_generation = self.last_generation.max(record.generation);
        self.records.insert(record.pod_uid.clone(), record);
        self.save()
    }

    /// Removes a record; true if there was one.
    pub(crate) fn remove(&mut self, pod_uid: &str) -> Result<bool, String> {
        if self.records.remove(pod_uid).is_none() {
            return Ok(false);
        }
        self.save().map(|()| true)
    }

    fn save(&self) -> Result<(), String> {
        let contents = Contents {
            version: VERSION,
            boot_id: self.boot_id.clone(),
            last_generation: self.last_generation,
            endpoints: self.records.values().cloned().collect(),
        };
        let bytes = serde_json::to_vec_pretty(&contents)
            .map_err(|error| format!("{} cannot be written: {error}", self.path.display()))?;
        replace(&self.path, &bytes)
    }
}

#[cfg(test)]
mod tests {
    use super::{super::DataDir, *};

    fn record(uid: &str) -> EndpointRecord {
        EndpointRecord {
            pod_uid: uid.into(),
            ifname: "veth0".into(),
            ifindex: 7,
            mac: [2, 0, 0, 0, 0, 1],
            addresses: vec!["10.0.0.1".parse().unwrap(), "fd00::1".parse().unwrap()],
            index: 3,
            generation: 9,
            found: FoundBy::Discovery,
        }
    }

    #[test]
    fn records_come_back_within_one_boot_only() {
        let root = tempfile::tempdir().unwrap();
        let data = DataDir::open(root.path()).unwrap();
        let mut store = EndpointStore::open(&data, "boot-a").unwrap();
        store.put(record("p1")).unwrap();
        store.put(record("p2")).unwrap();
        assert!(store.remove("p1").unwrap());
        assert!(!store.remove("p1").unwrap());

        let again = EndpointStore::open(&data, "boot-a").unwrap();
        assert_eq!(again.last_generation(), 9, "also of those that are gone");
        assert_eq!(again.records().collect::<Vec<_>>(), [&record("p2")]);
        let later = EndpointStore::open(&data, "boot-b").unwrap();
        assert_eq!(later.records().count(), 0);
    }

    #[test]
    fn damage_is_named_with_what_to_do() {
        let root = tempfile::tempdir().unwrap();
        let data = DataDir::open(root.path()).unwrap();
        for bytes in [
            &b"{\"version\":1,"[..],
            b"",
            b"\xff",
            b"{\"version\":2,\"boot_id\":\"x\",\"last_generation\":0,\"endpoints\":[]}",
        ] {
            replace(&data.file(FILE), bytes).unwrap();
            let Err(error) = EndpointStore::open(&data, "boot-a") else {
                panic!("taken: {bytes:?}")
            };
            assert!(
                error.contains("endpoints.json") && error.contains("remove it"),
                "{error}"
            );
        }
    }
}
