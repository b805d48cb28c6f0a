//! The fields of all lines, for the documents; a test holds them against the types.

/// A field of a line, for the documents: its name, in which kinds of line, its form, its meaning.
#[derive(Clone, Copy, Debug)]
pub struct Field {
    /// As it stands in the line.
    pub name: &'static str,
    /// Which kinds have it.
    pub kinds: &'static str,
    /// How its value is written.
    pub form: &'static str,
    /// What it means.
    pub meaning: &'static str,
}

const fn field(
    name: &'static str,
    kinds: &'static str,
    form: &'static str,
    meaning: &'static str,
) -> Field {
    Field {
        name,
        kinds,
        form,
        meaning,
    }
}

/// Every field, in an order in which each kind's own fields stand as they are written.
pub const FIELDS: &[Field] = &[
    field(
        "kind",
        "all",
        "`header`, `record`, `batch`, `checkpoint`",
        "kind of the line",
    ),
    field(
        "seq",
        "all",
        "number",
        "number of the line in the log, from 1, over all segments, without a gap",
    ),
    field(
        "prev",
        "all",
        "SHA-256, hex",
        "hash of the line before, without its line feed; in a segment's header that of the former segment's last line; 64 zeros in the first line of a log",
    ),
    field(
        "wall_ms",
        "all",
        "Unix milliseconds",
        "wall time, anchored to the identity service",
    ),
    field(
        "boot_ms",
        "all",
        "milliseconds",
        "time since the node booted, suspend included (CLOCK_BOOTTIME)",
    ),
    field("version", "header", "number", "version of this format: 1"),
    field(
        "segment",
        "header",
        "number",
        "number of the segment, from 1, without a gap",
    ),
    field(
        "node",
        "header, record, checkpoint",
        "SPIFFE ID",
        "the node whose log it is",
    ),
    field(
        "boot_id",
        "header, record",
        "UUID",
        "the kernel's boot id: boot times compare within one only",
    ),
    field(
        "key",
        "header, checkpoint",
        "32 bytes, hex",
        "the Ed25519 public key that signs the log",
    ),
    field(
        "certificates",
        "header",
        "list of base64",
        "the node's SVID at that time, DER, leaf first",
    ),
    field("event", "record", "see below", "what happened"),
    field(
        "session_id",
        "record",
        "SHA-256, hex",
        "the node channel; the same in the logs of both nodes",
    ),
    field(
        "role",
        "record",
        "`client`, `server`",
        "this node's side of the channel's TLS",
    ),
    field("local_id", "record", "SPIFFE ID", "the local workload"),
    field("local_pod", "record", "UID", "the local pod"),
    field(
        "local_certificate",
        "record",
        "SHA-256, hex",
        "leaf certificate that the local workload was proven with",
    ),
    field("remote_id", "record", "SPIFFE ID", "the remote workload"),
    field("remote_pod", "record", "UID", "the remote pod"),
    field(
        "remote_certificate",
        "record",
        "SHA-256, hex",
        "leaf certificate that the remote workload was proven with",
    ),
    field(
        "remote_node",
        "record",
        "SPIFFE ID",
        "the node of the remote workload, or the one that asked",
    ),
    field(
        "remote_address",
        "record",
        "IP address",
        "the destination that was refused",
    ),
    field(
        "key_exchange",
        "record",
        "name",
        "key exchange of the channel",
    ),
    field("cipher", "record", "name", "cipher suite of the channel"),
    field("epoch", "record", "number", "epoch of the WireGuard keys"),
    field(
        "local_wireguard",
        "record",
        "SHA-256, hex",
        "hash of the local node's WireGuard public key of that epoch (its 32 bytes)",
    ),
    field(
        "remote_wireguard",
        "record",
        "SHA-256, hex",
        "hash of the remote node's WireGuard public key of that epoch",
    ),
    field(
        "not_after",
        "record",
        "Unix seconds",
        "end of the grant, unless it is renewed",
    ),
    field(
        "verdict",
        "record",
        "`allowed`, `refused`, `ended`",
        "what was decided",
    ),
    field("reason", "record", "one line", "why"),
    field(
        "count",
        "record",
        "number",
        "lines cut off, records lost, refusals suppressed",
    ),
    field(
        "through",
        "record",
        "number",
        "the last line that was removed",
    ),
    field(
        "signature",
        "header, batch, checkpoint",
        "hex",
        "over the line up to the comma before this field: in a header by the SVID's key, else by the log's key",
    ),
];
