//! Tables and rows. Changing any of this needs a new [`VERSION`].

use redb::{ReadTransaction, ReadableTable as _, TableDefinition, WriteTransaction};
use rustls_pki_types::CertificateDer;
use signet_identity_core::{
    authority::{Authorities, Record, Role, State},
    cluster::NodeUid,
    from_unix_ms,
    registry::NodeRecord,
    token::{TokenRecord, Use},
    unix_ms,
};

/// Of the format.
pub(super) const VERSION: u64 = 1;

/// `version`, `runs` (starts of the service so far), `bundle_sequence`, `commits`.
pub(super) const NUMBERS: TableDefinition<'_, &str, u64> = TableDefinition::new("numbers");
/// `trust_domain`.
pub(super) const TEXTS: TableDefinition<'_, &str, &str> = TableDefinition::new("texts");
/// Role, state, certificate (DER), key (PKCS#8), end of validity (Unix ms).
type AuthorityRow<'a> = (u8, u8, &'a [u8], &'a [u8], u64);
/// By position.
pub(super) const AUTHORITIES: TableDefinition<'_, u64, AuthorityRow<'_>> =
    TableDefinition::new("authorities");

/// Node name, made, expires, used (Unix ms, 0 is never), UID of the node that used it.
type TokenRow<'a> = (&'a str, u64, u64, u64, &'a str);
/// By SHA-256 of the token.
pub(super) const TOKENS: TableDefinition<'_, &[u8; 32], TokenRow<'_>> =
    TableDefinition::new("tokens");

/// Name, key, previous key (SHA-256 of SPKI), attested, issued, end of validity (Unix ms).
type NodeRow<'a> = (&'a str, &'a [u8; 32], Option<&'a [u8; 32]>, u64, u64, u64);
/// By UID.
pub(super) const NODES: TableDefinition<'_, &str, NodeRow<'_>> = TableDefinition::new("nodes");

pub(super) fn token_row(record: &TokenRecord) -> TokenRow<'_> {
    let (at_ms, node) = match &record.used {
        Some(used) => (used.at_ms, &*used.node.0),
        None => (0, ""),
    };
    (
        &record.node,
        record.created_ms,
        record.expires_ms,
        at_ms,
        node,
    )
}

pub(super) fn token((node, created_ms, expires_ms, at_ms, by): TokenRow<'_>) -> TokenRecord {
    let used = (at_ms != 0).then(|| Use {
        at_ms,
        node: NodeUid::from(by),
    });
    TokenRecord {
        node: node.to_owned(),
        created_ms,
        expires_ms,
        used,
    }
}

pub(super) fn node_row(record: &NodeRecord) -> NodeRow<'_> {
    let NodeRecord {
        name,
        key,
        previous_key,
        attested_ms,
        issued_ms,
        not_after_ms,
    } = record;
    (
        name,
        key,
        previous_key.as_ref(),
        *attested_ms,
        *issued_ms,
        *not_after_ms,
    )
}

pub(super) fn node(row: NodeRow<'_>) -> NodeRecord {
    let (name, key, previous_key, attested_ms, issued_ms, not_after_ms) = row;
    NodeRecord {
        name: name.to_owned(),
        key: *key,
        previous_key: previous_key.copied(),
        attested_ms,
        issued_ms,
        not_after_ms,
    }
}

pub(super) fn put_authorities(
    txn: &WriteTransaction,
    authorities: &Authorities,
) -> Result<(), redb::Error> {
    let mut table = txn.open_table(AUTHORITIES)?;
    table.retain(|_, _| false)?;
    for (position, record) in (0u64..).zip(authorities.records()) {
        let row = (
            role_number(record.role),
            state_number(record.state),
            &*record.certificate,
            record.pkcs8.as_slice(),
            unix_ms(record.not_after),
        );
        table.insert(position, row)?;
    }
    txn.open_table(NUMBERS)?
        .insert("bundle_sequence", authorities.bundle().sequence())?;
    Ok(())
}

/// The stored authorities; `None` if a row says what no version ever wrote.
pub(super) fn authorities(txn: &ReadTransaction) -> Result<Option<Vec<Record>>, redb::Error> {
    let mut records = Vec::new();
    for row in txn.open_table(AUTHORITIES)?.iter()? {
        let row = row?.1;
        let (role, state, certificate, pkcs8, not_after_ms) = row.value();
        let (Some(role), Some(state)) = (role_of(role), state_of(state)) else {
            return Ok(None);
        };
        records.push(Record {
            role,
            state,
            certificate: CertificateDer::from(certificate.to_vec()),
            pkcs8: pkcs8.to_vec().into(),
            not_after: from_unix_ms(not_after_ms),
        });
    }
    Ok(Some(records))
}

/// The number of the change that `txn` makes.
pub(super) fn count_commit(txn: &WriteTransaction) -> Result<u64, redb::Error> {
    let mut numbers = txn.open_table(NUMBERS)?;
    let number = numbers.get("commits")?.map_or(0, |row| row.value()) + 1;
    numbers.insert("commits", number)?;
    Ok(number)
}

fn role_number(role: Role) -> u8 {
    match role {
        Role::Root => 1,
        Role::Issuing => 2,
    }
}

fn role_of(number: u8) -> Option<Role> {
    [Role::Root, Role::Issuing]
        .into_iter()
        .find(|role| role_number(*role) == number)
}

fn state_number(state: State) -> u8 {
    match state {
        State::Prepared => 1,
        State::Active => 2,
        State::Old => 3,
    }
}

fn state_of(number: u8) -> Option<State> {
    let states = [State::Prepared, State::Active, State::Old];
    states
        .into_iter()
        .find(|state| state_number(*state) == number)
}
