//! What a person sees while a lab comes up: a spinner on a terminal, plain lines otherwise.
//!
//! On the standard error stream: the standard output has data only.

use std::io::IsTerminal;
use std::time::Duration;

use indicatif::{ProgressBar, ProgressStyle};

/// Progress of one command.
pub(crate) struct Progress {
    bar: Option<ProgressBar>,
    quiet: bool,
}

impl Progress {
    pub(crate) fn new() -> Self {
        let bar = std::io::stderr().is_terminal().then(|| {
            let bar = ProgressBar::new_spinner();
            if let Ok(style) = ProgressStyle::with_template("{spinner} {msg} {elapsed:.dim}") {
                bar.set_style(style);
            }
            bar.enable_steady_tick(Duration::from_millis(100));
            bar
        });
        Self { bar, quiet: false }
    }

    /// Shows nothing: for steps within a larger story.
    pub(crate) fn quiet() -> Self {
        Self {
            bar: None,
            quiet: true,
        }
    }

    /// Something begins.
    pub(crate) fn step(&self, message: impl Into<String>) {
        match &self.bar {
            Some(bar) => bar.set_message(message.into()),
            None if self.quiet => {}
            None => eprintln!("{}", message.into()),
        }
    }

    /// A line that stays.
    pub(crate) fn say(&self, message: impl AsRef<str>) {
        match &self.bar {
            Some(bar) => bar.suspend(|| eprintln!("{}", message.as_ref())),
            None => eprintln!("{}", message.as_ref()),
        }
    }

    /// The end: the spinner leaves no trace.
    pub(crate) fn finish(&self) {
        if let Some(bar) = &self.bar {
            bar.finish_and_clear();
        }
    }
}

impl Drop for Progress {
    fn drop(&mut self) {
        self.finish();
    }
}
