//! The closing table.

use crate::human;
use crate::lab::state::{Lab, Process};
use crate::output::Paint;

/// What the demo found, line by line.
#[derive(Debug, Default)]
pub(super) struct Report {
    rows: Vec<Row>,
}

#[derive(Debug)]
struct Row {
    what: String,
    value: String,
    /// None for a figure without a bar.
    good: Option<bool>,
}

impl Report {
    /// So many of so many; good if it is all of them.
    pub(super) fn ratio(&mut self, what: &str, count: u64, of: u64) {
        self.add(what, format!("{count} of {of}"), Some(count == of));
    }

    /// A number that must be 0.
    pub(super) fn zero(&mut self, what: &str, count: u64, of: &str) {
        self.add(
            what,
            format!("{count} {of}").trim_end().to_owned(),
            Some(count == 0),
        );
    }

    /// A number that must not be 0.
    pub(super) fn at_least_one(&mut self, what: &str, count: u64) {
        self.add(what, count.to_string(), Some(count > 0));
    }

    /// A figure.
    pub(super) fn note(&mut self, what: &str, value: String) {
        self.add(what, value, None);
    }

    /// Resident memory of the largest process of each kind.
    pub(super) fn memory(&mut self, lab: &Lab) {
        let largest = |all: Vec<&Process>| all.into_iter().filter_map(Process::resident_kib).max();
        let kinds = [
            ("signet-identity", lab.identity.process.iter().collect()),
            (
                "signet-agent",
                lab.nodes
                    .values()
                    .filter_map(|node| node.agent.as_ref())
                    .collect(),
            ),
            (
                "signet-tunnel",
                lab.nodes
                    .values()
                    .filter_map(|node| node.tunnel.as_ref())
                    .collect(),
            ),
        ];
        for (name, processes) in kinds {
            match largest(processes) {
                Some(kib) => self.note(
                    &format!("resident memory of {name}, the largest"),
                    human::bytes(kib * 1024),
                ),
                None => self.add(&format!("{name} still runs"), "no".to_owned(), Some(false)),
            }
        }
    }

    /// Whether everything was as it should be.
    pub(super) fn good(&self) -> bool {
        self.rows.iter().all(|row| row.good != Some(false))
    }

    /// Prints the table and the verdict.
    pub(super) fn print(&self, complete: bool) {
        let paint = Paint::stdout();
        println!("\n{}", paint.strong("What was found"));
        let width = self
            .rows
            .iter()
            .map(|row| row.what.chars().count())
            .max()
            .unwrap_or(0);
        for row in &self.rows {
            let sign = match row.good {
                Some(true) => paint.good("ok"),
                Some(false) => paint.bad("!!"),
                None => "  ".to_owned(),
            };
            println!("  {sign} {:<width$}  {}", row.what, row.value);
        }
        let verdict = match (complete, self.good()) {
            (false, _) => paint.bad("This is not all: the demo could not go on."),
            (true, true) => paint.good("Everything is as it should be."),
            (true, false) => paint.bad("Something is not as it should be: see the lines marked !!"),
        };
        println!("\n{verdict}");
    }

    fn add(&mut self, what: &str, value: String, good: Option<bool>) {
        self.rows.push(Row {
            what: what.to_owned(),
            value,
            good,
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_bad_line_spoils_it_and_figures_do_not() {
        let mut report = Report::default();
        report.ratio("a", 3, 3);
        report.zero("b", 0, "of 9");
        report.at_least_one("c", 1);
        report.note("d", "1 Gbit/s".into());
        assert!(report.good());
        assert_eq!(report.rows[1].value, "0 of 9");
        let mut short = Report::default();
        short.ratio("x", 2, 3);
        assert!(!short.good());
        report.zero("lost", 1, "");
        assert!(!report.good());
    }
}
