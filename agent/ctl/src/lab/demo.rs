//! placeholder while the rest compiles
use clap::Args;
#[derive(Args, Debug)]
pub(crate) struct Demo {}
pub(crate) fn run(_options: &Demo) -> anyhow::Result<u8> { Ok(0) }
