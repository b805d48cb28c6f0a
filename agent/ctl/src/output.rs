//! How answers are printed: tables for people, JSON and YAML for programs.

use std::io::{IsTerminal, Write};

use anyhow::{Context, Result};
use clap::ValueEnum;
use comfy_table::{ContentArrangement, Table, presets};
use serde::Serialize;

/// The form of the data on the standard output.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Format {
    Table,
    Wide,
    Json,
    Yaml,
}

/// Prints data for programs.
pub(crate) fn data(format: Format, value: &impl Serialize) -> Result<()> {
    let text = match format {
        Format::Yaml => serde_yaml_ng::to_string(value).context("encode the answer")?,
        Format::Json | Format::Table | Format::Wide => {
            serde_json::to_string_pretty(value).context("encode the answer")? + "\n"
        }
    };
    print_text(&text)
}

/// One line of JSON, or a YAML document, for streams.
pub(crate) fn item(format: Format, value: &impl Serialize) -> Result<()> {
    let text = match format {
        Format::Yaml => "---\n".to_owned() + &serde_yaml_ng::to_string(value).context("encode")?,
        Format::Json | Format::Table | Format::Wide => {
            serde_json::to_string(value).context("encode")? + "\n"
        }
    };
    print_text(&text)
}

/// Prints text.
pub(crate) fn print_text(text: &str) -> Result<()> {
    let mut out = std::io::stdout().lock();
    out.write_all(text.as_bytes())
        .and_then(|()| out.flush())
        .context("write to the standard output")
}

/// Lays out rows without borders, as kubectl does. Never wraps: a cell is a word for `cut` and `grep`.
pub(crate) fn table(head: &[&str], rows: Vec<Vec<String>>) -> String {
    let mut table = Table::new();
    table
        .load_preset(presets::NOTHING)
        .set_content_arrangement(ContentArrangement::Disabled);
    table.set_header(head.to_vec());
    for row in rows {
        table.add_row(row);
    }
    for column in table.column_iter_mut() {
        column.set_padding((0, 2));
    }
    let lines: Vec<String> = table
        .lines()
        .map(|line| line.trim_end().to_owned())
        .collect();
    lines.join("\n") + "\n"
}

/// Colours, unless nobody sees them or `NO_COLOR` is set (<https://no-color.org>).
#[derive(Clone, Copy, Debug)]
pub(crate) struct Paint(bool);

impl Paint {
    /// For the standard output.
    pub(crate) fn stdout() -> Self {
        let wanted = std::env::var_os("NO_COLOR").is_none_or(|value| value.is_empty());
        let dumb = std::env::var_os("TERM").is_some_and(|term| term == "dumb");
        Self(wanted && !dumb && std::io::stdout().is_terminal())
    }

    /// Never.
    #[cfg(test)]
    pub(crate) fn none() -> Self {
        Self(false)
    }

    pub(crate) fn good(self, text: &str) -> String {
        self.wrap("32", text)
    }

    pub(crate) fn bad(self, text: &str) -> String {
        self.wrap("31", text)
    }

    pub(crate) fn unsure(self, text: &str) -> String {
        self.wrap("33", text)
    }

    pub(crate) fn strong(self, text: &str) -> String {
        self.wrap("1", text)
    }

    pub(crate) fn faint(self, text: &str) -> String {
        self.wrap("2", text)
    }

    fn wrap(self, code: &str, text: &str) -> String {
        if self.0 {
            format!("\x1b[{code}m{text}\x1b[0m")
        } else {
            text.to_owned()
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tables_are_aligned_and_bare() {
        let rows = vec![
            vec!["a".into(), "1".into()],
            vec!["longer".into(), String::new()],
        ];
        assert_eq!(
            table(&["NAME", "N"], rows),
            "NAME    N\na       1\nlonger\n"
        );
    }

    #[test]
    fn paint_can_be_off() {
        assert_eq!(Paint(false).bad("x"), "x");
        assert_eq!(Paint(true).bad("x"), "\x1b[31mx\x1b[0m");
    }
}
