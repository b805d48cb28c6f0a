//! The identity service's admin socket, from the client's side.

use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, Result, anyhow};
use signet_identity_api::client::connect_admin;
use signet_identity_api::v1::admin_client::AdminClient;
use signet_identity_api::v1::{CreateTokenRequest, CreateTokenResponse, StatusRequest};
use tonic::transport::Channel;

/// Where the identity service listens for administrators unless told otherwise.
pub(crate) const DEFAULT_ADMIN_SOCKET: &str = "/run/signet/admin.sock";

const PATIENCE: Duration = Duration::from_secs(10);

/// The identity service on this machine.
#[derive(Debug)]
pub(crate) struct Admin {
    socket: PathBuf,
}

impl Admin {
    pub(crate) fn new(socket: &Path) -> Self {
        Self {
            socket: socket.to_owned(),
        }
    }

    /// Whether it answers.
    pub(crate) fn reachable(&self) -> Result<()> {
        self.call(async |mut client| client.status(StatusRequest {}).await)
            .map(|_| ())
    }

    /// A join token for one node.
    pub(crate) fn create_token(&self, node: &str, ttl: Duration) -> Result<CreateTokenResponse> {
        let request = CreateTokenRequest {
            node: node.to_owned(),
            ttl_s: ttl.as_secs(),
        };
        self.call(async move |mut client| client.create_token(request).await)
            .with_context(|| format!("create a join token for node {node:?}"))
    }

    fn call<T>(
        &self,
        ask: impl AsyncFnOnce(AdminClient<Channel>) -> Result<tonic::Response<T>, tonic::Status>,
    ) -> Result<T> {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .context("start the client's runtime")?;
        runtime.block_on(async {
            let conversation = async {
                let channel = connect_admin(&self.socket).await?;
                // The status's text is the service's own line for people; its code adds nothing to it.
                let answer = ask(AdminClient::new(channel)).await;
                answer
                    .map(tonic::Response::into_inner)
                    .map_err(|status| anyhow!("{}", status.message()))
            };
            tokio::time::timeout(PATIENCE, conversation)
                .await
                .unwrap_or_else(|_| {
                    Err(anyhow!(
                        "the identity service at {} did not answer in time",
                        self.socket.display()
                    ))
                })
        })
    }
}
