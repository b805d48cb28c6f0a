//! The agent: routes inputs to its machines and collects what they want done.

use std::collections::VecDeque;

use signet_crypto::{random::Random, time::Now};

use crate::{
    facts::Config,
    io::{Input, Output, Timeout},
};

/// One node's agent, without the world around it.
///
/// Single-threaded: one owner calls the four verbs. A typical loop:
///
/// 1. `handle(input, now, random)` for one input, or `handle_timeout(now, random)` when the time
///    of `poll_timeout` is reached (early or late calls do no harm).
/// 2. `poll_output()` until it gives `None`, doing each output in order.
/// 3. `poll_timeout()` to know how long to sleep at most.
pub struct Agent {
    config: Config,
    outputs: VecDeque<Output>,
}

impl Agent {
    /// An agent that knows nothing yet. Feed [`Input::Trust`], [`Input::NodeSvid`],
    /// [`Input::Cluster`], [`Input::Adopted`] and `Tunnel(Welcome)` in any order; nothing is
    /// written or dialled before all of them are in.
    #[must_use]
    pub fn new(config: Config) -> Self {
        Self { config, outputs: VecDeque::new() }
    }

    /// Takes one input. Call [`Agent::poll_output`] and [`Agent::poll_timeout`] afterwards.
    pub fn handle(&mut self, input: Input, now: Now, random: &mut dyn Random) {
        let _ = (input, now, random, &self.config);
    }

    /// Does what is due at `now`. Call when the time of [`Agent::poll_timeout`] has come, then
    /// [`Agent::poll_output`] and [`Agent::poll_timeout`].
    pub fn handle_timeout(&mut self, now: Now, random: &mut dyn Random) {
        let _ = (now, random);
    }

    /// The earliest moment on the boot clock at which [`Agent::handle_timeout`] has something to
    /// do. Ask again after every other call.
    #[must_use]
    pub fn poll_timeout(&self) -> Option<Timeout> {
        None
    }

    /// The next thing to do, in order. Call until `None` after every `handle` and
    /// `handle_timeout`.
    pub fn poll_output(&mut self) -> Option<Output> {
        self.outputs.pop_front()
    }
}
