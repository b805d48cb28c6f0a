//! Typed maps.

use aya::maps::lpm_trie::{Key, LpmTrie};
use aya::maps::{HashMap, MapData, MapError};
use signet_abi::{Addr, AddrPrefix, Plain, PolicyKey};

use crate::error::{LoaderError, chain};
use crate::plain::Raw;

/// A hash map (also LRU) of the data plane.
pub struct Table<K, V> {
    name: &'static str,
    inner: HashMap<MapData, Raw<K>, Raw<V>>,
}

impl<K: Plain, V: Plain> Table<K, V> {
    pub(crate) fn new(name: &'static str, inner: HashMap<MapData, Raw<K>, Raw<V>>) -> Self {
        Self { name, inner }
    }

    /// The value of `key`.
    pub fn get(&self, key: &K) -> Result<Option<V>, LoaderError> {
        match self.inner.get(&Raw(*key), 0) {
            Ok(value) => Ok(Some(value.0)),
            Err(MapError::KeyNotFound) => Ok(None),
            Err(error) => Err(map_error(self.name, "read", &error)),
        }
    }

    /// Sets the value of `key`.
    ///
    /// # Errors
    /// [`LoaderError::Full`] if the map has no room.
    pub fn upsert(&mut self, key: &K, value: &V) -> Result<(), LoaderError> {
        self.inner
            .insert(Raw(*key), Raw(*value), 0)
            .map_err(|error| map_error(self.name, "write", &error))
    }

    /// Removes `key`; false if it was not there.
    pub fn remove(&mut self, key: &K) -> Result<bool, LoaderError> {
        removed(self.name, self.inner.remove(&Raw(*key)))
    }

    /// Every entry. An entry written or removed meanwhile may be seen or not.
    pub fn iter(&self) -> impl Iterator<Item = Result<(K, V), LoaderError>> + '_ {
        self.inner.iter().filter_map(|entry| match entry {
            Ok((key, value)) => Some(Ok((key.0, value.0))),
            Err(MapError::KeyNotFound) => None,
            Err(error) => Some(Err(map_error(self.name, "list", &error))),
        })
    }

    /// Removes every entry.
    pub fn clear(&mut self) -> Result<(), LoaderError> {
        self.retain(|_, _| false)
    }

    /// Removes the entries `keep` says no to.
    pub fn retain(&mut self, mut keep: impl FnMut(&K, &V) -> bool) -> Result<(), LoaderError> {
        let mut gone = Vec::new();
        for entry in self.iter() {
            let (key, value) = entry?;
            if !keep(&key, &value) {
                gone.push(key);
            }
        }
        for key in gone {
            self.remove(&key)?;
        }
        Ok(())
    }
}

/// The key of a [`Trie`]: a prefix length and what it counts.
pub trait PrefixKey: Copy {
    /// The bytes the prefix length counts.
    type Data: Plain;
    /// (prefix length in bits, data).
    fn split(self) -> (u32, Self::Data);
    /// The reverse.
    fn join(prefix_len: u32, data: Self::Data) -> Self;
}

impl PrefixKey for AddrPrefix {
    type Data = Addr;

    fn split(self) -> (u32, Addr) {
        (self.prefix_len, self.addr)
    }

    fn join(prefix_len: u32, addr: Addr) -> Self {
        Self { prefix_len, addr }
    }
}

impl PrefixKey for PolicyKey {
    type Data = [u8; 12];

    fn split(self) -> (u32, [u8; 12]) {
        let [e0, e1] = self.endpoint.to_ne_bytes();
        let [c0, c1, c2, c3] = self.class.to_ne_bytes();
        let [p0, p1] = self.port.to_ne_bytes();
        let [r0, r1] = self.reserved.to_ne_bytes();
        let data = [
            e0,
            e1,
            self.direction,
            self.proto,
            c0,
            c1,
            c2,
            c3,
            p0,
            p1,
            r0,
            r1,
        ];
        (self.prefix_len, data)
    }

    fn join(prefix_len: u32, data: [u8; 12]) -> Self {
        let [e0, e1, direction, proto, c0, c1, c2, c3, p0, p1, r0, r1] = data;
        Self {
            prefix_len,
            endpoint: u16::from_ne_bytes([e0, e1]),
            direction,
            proto,
            class: u32::from_ne_bytes([c0, c1, c2, c3]),
            port: u16::from_ne_bytes([p0, p1]),
            reserved: u16::from_ne_bytes([r0, r1]),
        }
    }
}

/// A longest-prefix map of the data plane.
pub struct Trie<K: PrefixKey, V> {
    name: &'static str,
    inner: LpmTrie<MapData, Raw<K::Data>, Raw<V>>,
}

impl<K: PrefixKey, V: Plain> Trie<K, V> {
    pub(crate) fn new(name: &'static str, inner: LpmTrie<MapData, Raw<K::Data>, Raw<V>>) -> Self {
        Self { name, inner }
    }

    /// The value of the longest prefix that covers `key`.
    pub fn lookup(&self, key: K) -> Result<Option<V>, LoaderError> {
        match self.inner.get(&raw_key(key), 0) {
            Ok(value) => Ok(Some(value.0)),
            Err(MapError::KeyNotFound) => Ok(None),
            Err(error) => Err(map_error(self.name, "read", &error)),
        }
    }

    /// Sets the value of exactly this prefix.
    ///
    /// # Errors
    /// [`LoaderError::Full`] if the map has no room.
    pub fn upsert(&mut self, key: K, value: &V) -> Result<(), LoaderError> {
        self.inner
            .insert(&raw_key(key), Raw(*value), 0)
            .map_err(|error| map_error(self.name, "write", &error))
    }

    /// Removes exactly this prefix; false if it was not there.
    pub fn remove(&mut self, key: K) -> Result<bool, LoaderError> {
        removed(self.name, self.inner.remove(&raw_key(key)))
    }

    /// Every entry. An entry written or removed meanwhile may be seen or not.
    pub fn iter(&self) -> impl Iterator<Item = Result<(K, V), LoaderError>> + '_ {
        self.inner.iter().filter_map(|entry| match entry {
            Ok((key, value)) => Some(Ok((K::join(key.prefix_len(), key.data().0), value.0))),
            Err(MapError::KeyNotFound) => None,
            Err(error) => Some(Err(map_error(self.name, "list", &error))),
        })
    }

    /// Removes every entry.
    pub fn clear(&mut self) -> Result<(), LoaderError> {
        let keys = self.iter().map(|entry| entry.map(|(key, _)| key));
        let keys = keys.collect::<Result<Vec<_>, _>>()?;
        for key in keys {
            self.remove(key)?;
        }
        Ok(())
    }
}

fn raw_key<K: PrefixKey>(key: K) -> Key<Raw<K::Data>> {
    let (prefix_len, data) = key.split();
    Key::new(prefix_len, Raw(data))
}

fn removed(map: &'static str, result: Result<(), MapError>) -> Result<bool, LoaderError> {
    match result {
        Ok(()) => Ok(true),
        Err(error) if errno(&error) == Some(libc::ENOENT) => Ok(false),
        Err(error) => Err(map_error(map, "remove from", &error)),
    }
}

fn errno(error: &MapError) -> Option<i32> {
    let mut cause: Option<&(dyn std::error::Error + 'static)> = Some(error);
    while let Some(inner) = cause {
        if let Some(io) = inner.downcast_ref::<std::io::Error>() {
            return io.raw_os_error();
        }
        cause = inner.source();
    }
    // aya says this one in its own words.
    matches!(error, MapError::KeyNotFound).then_some(libc::ENOENT)
}

pub(crate) fn map_error(
    map: &'static str,
    operation: &'static str,
    error: &MapError,
) -> LoaderError {
    // Hashes say E2BIG, tries ENOSPC.
    match errno(error) {
        Some(libc::E2BIG | libc::ENOSPC) => LoaderError::Full { map },
        Some(_) | None => LoaderError::Map {
            map,
            operation,
            detail: chain(error),
        },
    }
}
