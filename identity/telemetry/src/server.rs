//! `/metrics`, `/healthz` and `/readyz` on a thread of their own.
//!
//! A plain thread, because `signet-tunnel` has no async runtime and a stuck runtime in
//! the other two must not hide its own metrics.

use std::{io, net::SocketAddr, sync::Arc, thread};

use tiny_http::{Header, Method, Request, Response};

use crate::{Catalog, Health};

const OPENMETRICS: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

/// Why metrics cannot be served.
#[derive(Debug)]
pub struct ServeError {
    addr: SocketAddr,
    source: Box<dyn std::error::Error + Send + Sync>,
}

impl std::fmt::Display for ServeError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let addr = self.addr;
        let in_use = self
            .source
            .downcast_ref::<io::Error>()
            .is_some_and(|error| error.kind() == io::ErrorKind::AddrInUse);
        if in_use {
            write!(
                f,
                "metrics address {addr} is in use; choose another with --metrics"
            )
        } else {
            write!(f, "metrics address {addr} cannot be bound: {}", self.source)
        }
    }
}

impl std::error::Error for ServeError {}

/// The running metrics server; dropping it stops the thread.
pub struct Server {
    inner: Arc<tiny_http::Server>,
    addr: SocketAddr,
}

impl Server {
    /// The address really bound, of use after asking for port 0.
    #[must_use]
    pub fn addr(&self) -> SocketAddr {
        self.addr
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.inner.unblock();
    }
}

/// Serves `catalog` and `health` on `addr` until the returned [`Server`] is dropped.
///
/// # Errors
/// If `addr` cannot be bound or no thread can be started; the message names the flag to change.
pub fn serve(
    addr: SocketAddr,
    catalog: Arc<Catalog>,
    health: Arc<dyn Fn() -> Health + Send + Sync>,
) -> Result<Server, ServeError> {
    let fail = |source: Box<dyn std::error::Error + Send + Sync>| ServeError { addr, source };
    let inner = Arc::new(tiny_http::Server::http(addr).map_err(fail)?);
    let bound = inner.server_addr().to_ip().unwrap_or(addr);
    let listener = Arc::clone(&inner);
    thread::Builder::new()
        .name("metrics".into())
        .spawn(move || {
            for request in listener.incoming_requests() {
                answer(request, &catalog, &*health);
            }
        })
        .map_err(|error| ServeError {
            addr,
            source: error.into(),
        })?;
    Ok(Server { inner, addr: bound })
}

fn answer(request: Request, catalog: &Catalog, health: &dyn Fn() -> Health) {
    let (status, kind, body) = page(request.method(), request.url(), catalog, health);
    let mut response = Response::from_string(body).with_status_code(status);
    if let Ok(header) = Header::from_bytes("Content-Type", kind) {
        response.add_header(header);
    }
    // The client may have gone; nobody is left to tell.
    let _ = request.respond(response);
}

fn page(
    method: &Method,
    url: &str,
    catalog: &Catalog,
    health: &dyn Fn() -> Health,
) -> (u16, &'static str, String) {
    const TEXT: &str = "text/plain; charset=utf-8";
    if *method != Method::Get {
        return (405, TEXT, "only GET is answered here\n".into());
    }
    match url.split('?').next().unwrap_or(url) {
        "/metrics" => match catalog.encode() {
            Ok(text) => (200, OPENMETRICS, text),
            Err(error) => (
                500,
                TEXT,
                format!("metrics could not be encoded: {error}\n"),
            ),
        },
        "/healthz" => {
            let now = health();
            (if now.is_alive() { 200 } else { 503 }, TEXT, now.to_text())
        }
        "/readyz" => {
            let now = health();
            (if now.is_ready() { 200 } else { 503 }, TEXT, now.to_text())
        }
        _ => (404, TEXT, "try /metrics, /healthz or /readyz\n".into()),
    }
}
