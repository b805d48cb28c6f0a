//! The closing tables, and the same as JSON.

use anyhow::{Context, Result};
use comfy_table::{CellAlignment, ContentArrangement, Table, presets};
use serde_json::{Value, json};
use signet_tests::docs;

use crate::{contacts::Contacts, machine::Machine};

/// Where the figures of one run are kept, for people who read the repository.
const PAGE: &str = "docs/performance.md";
const PICTURE: &str = "docs/first-contact.png";

/// One line of the table of costs.
#[derive(Debug)]
pub(crate) struct Row {
    pub(crate) name: &'static str,
    pub(crate) unit: &'static str,
    /// What we hold ourselves to; empty for a figure without a bar.
    pub(crate) bar: &'static str,
    /// By contender, then by round; the first is signet-tunnel.
    figures: Vec<Vec<f64>>,
}

impl Row {
    /// Figures of every contender, ours first.
    pub(crate) fn of(
        name: &'static str,
        unit: &'static str,
        bar: &'static str,
        figures: Vec<Vec<f64>>,
    ) -> Self {
        Self {
            name,
            unit,
            bar,
            figures,
        }
    }

    /// A figure that only we have.
    pub(crate) fn alone(
        name: &'static str,
        unit: &'static str,
        bar: &'static str,
        figures: Vec<f64>,
    ) -> Self {
        Self::of(name, unit, bar, vec![figures])
    }

    fn figure(&self, contender: usize) -> Option<f64> {
        median(self.figures.get(contender)?)
    }

    /// The median of the ratios of the rounds, ours over the other's.
    fn ratio(&self, contender: usize) -> Option<f64> {
        let pairs = self
            .figures
            .first()?
            .iter()
            .zip(self.figures.get(contender)?);
        let ratios = pairs.filter(|(_, other)| **other > 0.0);
        median(&ratios.map(|(ours, other)| ours / other).collect::<Vec<_>>())
    }

    fn cells(&self, contenders: &[&str]) -> Vec<String> {
        let mut cells = vec![self.name.into(), self.unit.into(), figure(self.figure(0))];
        for other in 1..contenders.len() {
            cells.push(figure(self.figure(other)));
            cells.push(figure(self.ratio(other)));
        }
        cells.push(self.bar.into());
        cells
    }

    fn json(&self, contenders: &[&str]) -> Value {
        let each = |of: &dyn Fn(usize) -> Value| -> serde_json::Map<String, Value> {
            let numbered = contenders.iter().enumerate().take(self.figures.len());
            numbered
                .map(|(number, name)| ((*name).to_owned(), of(number)))
                .collect()
        };
        json!({
            "name": self.name,
            "unit": self.unit,
            "bar": self.bar,
            "median": each(&|number| json!(self.figure(number))),
            "ratio_to": each(&|number| json!((number > 0).then(|| self.ratio(number)))),
            "rounds": each(&|number| json!(self.figures[number])),
        })
    }
}

/// Everything that was measured.
#[derive(Debug)]
pub(crate) struct Report {
    pub(crate) machine: Machine,
    pub(crate) contenders: Vec<&'static str>,
    pub(crate) rows: Vec<Row>,
    pub(crate) contacts: Option<Contacts>,
}

impl Report {
    /// For people, and as it stands for a Markdown page.
    pub(crate) fn tables(&self) -> String {
        let mut text = format!("{}\n", self.machine.line());
        if !self.rows.is_empty() {
            let mut head = vec!["", "unit", "signet-tunnel"];
            for other in self.contenders.iter().skip(1) {
                head.extend([*other, "ratio"]);
            }
            head.push("bar");
            let numbers = 2..head.len() - 1;
            let rows = self.rows.iter().map(|row| row.cells(&self.contenders));
            text += &format!("\n{}\n", table(head, rows, numbers));
        }
        if let Some(contacts) = &self.contacts {
            let head = vec!["first contact", "pairs", "lost", "p50", "p99", "max", "bar"];
            text += &format!("\n{}\n", table(head, contacts.cells().into_iter(), 1..6));
            text += &format!("\n{}\n", contacts.scan_line());
        }
        text
    }

    /// For programs, with the figures of every round.
    pub(crate) fn json(&self) -> Result<String> {
        let rows: Vec<Value> = self.rows.iter().map(|r| r.json(&self.contenders)).collect();
        let all = json!({
            "machine": self.machine.json(),
            "rows": rows,
            "contacts": self.contacts.as_ref().map(Contacts::json),
        });
        Ok(serde_json::to_string_pretty(&all)? + "\n")
    }

    /// Replaces the figures and the picture in the repository's page.
    pub(crate) fn bless(&self, picture: Option<&[u8]>) -> Result<()> {
        docs::replace(PAGE, "figures", &self.tables())?;
        if let Some(picture) = picture {
            let path = signet_tests::repo::root().join(PICTURE);
            std::fs::write(&path, picture).with_context(|| path.display().to_string())?;
        }
        Ok(())
    }
}

fn table(
    head: Vec<&str>,
    rows: impl Iterator<Item = Vec<String>>,
    numbers: std::ops::Range<usize>,
) -> Table {
    let mut table = Table::new();
    table
        .load_preset(presets::ASCII_MARKDOWN)
        .set_content_arrangement(ContentArrangement::Disabled)
        .set_header(head)
        .add_rows(rows);
    for column in numbers {
        if let Some(column) = table.column_mut(column) {
            column.set_cell_alignment(CellAlignment::Right);
        }
    }
    table
}

/// The middle of some figures; `None` of none.
pub(crate) fn median(figures: &[f64]) -> Option<f64> {
    let mut sorted = figures.to_vec();
    sorted.sort_by(f64::total_cmp);
    let upper = *sorted.get(sorted.len() / 2)?;
    let lower = *sorted.get((sorted.len() - 1) / 2)?;
    Some(f64::midpoint(lower, upper))
}

/// Three digits that count.
pub(crate) fn figure(value: Option<f64>) -> String {
    match value {
        None => String::new(),
        Some(value) if value >= 100.0 => format!("{value:.0}"),
        Some(value) if value >= 10.0 => format!("{value:.1}"),
        Some(value) => format!("{value:.2}"),
    }
}
