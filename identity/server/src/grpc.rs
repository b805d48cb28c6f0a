//! The gRPC services: who calls, what is asked, how it is answered.

pub(crate) mod admin;
pub(crate) mod caller;
pub(crate) mod convert;
pub(crate) mod node;
mod watch;

use tonic::Status;

use crate::service::Refused;

/// What a refusal is in gRPC's words. Agents give up on the first two, and try the others again.
fn status(refused: &Refused) -> Status {
    let text = refused.to_string();
    match refused {
        Refused::Token(_) | Refused::Node(_) | Refused::Issue(_) => Status::permission_denied(text),
        Refused::Csr(_) => Status::invalid_argument(text),
        Refused::Authority(_) | Refused::Store(_) => Status::unavailable(text),
    }
}

/// Runs what blocks where it may.
async fn blocking<T: Send + 'static>(
    act: impl FnOnce() -> T + Send + 'static,
) -> Result<T, Status> {
    tokio::task::spawn_blocking(act)
        .await
        .map_err(|_| Status::internal("the call failed inside the service; see its log"))
}
