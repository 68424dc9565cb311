//! The only place that prints: data to standard output, everything else to standard error.

use std::fmt;
use std::io::{self, IsTerminal, Write};
use std::time::{Duration, Instant};

use chrono::{DateTime, SecondsFormat, Utc};
use clap::ValueEnum;
use comfy_table::{ContentArrangement, Table, presets};
use indicatif::{ProgressBar, ProgressStyle};
use serde::Serialize;

/// How often progress is printed where standard error is no terminal.
const SPARSE: Duration = Duration::from_secs(10);

/// How data is printed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(super) enum Format {
    /// For people
    Table,
    /// One document
    Json,
    /// One line for each row
    Ndjson,
}

/// A row of data: serialized for machines, in cells for people.
pub(super) trait Row: Serialize {
    const HEADERS: &'static [&'static str];

    fn cells(&self) -> Vec<String>;
}

/// Standard output in the chosen format.
pub(super) struct Output {
    format: Format,
    out: Box<dyn Write + Send>,
}

impl Output {
    pub(super) fn new(format: Format) -> Self {
        Self { format, out: Box::new(io::stdout()) }
    }

    /// Whether several tables may follow each other; machines get one document.
    pub(super) fn is_for_people(&self) -> bool {
        self.format == Format::Table
    }

    /// Prints all rows at once; in the table format nothing at all where there are none.
    pub(super) fn rows<R: Row>(&mut self, rows: &[R]) -> io::Result<()> {
        match self.format {
            Format::Table if rows.is_empty() => Ok(()),
            Format::Table => {
                let mut table = table();
                table.set_header(R::HEADERS);
                table.add_rows(rows.iter().map(printable_cells));
                self.lines(&table)
            }
            Format::Json => self.document(&rows),
            Format::Ndjson => rows.iter().try_for_each(|row| self.line(row)),
        }
    }

    /// Prints one row as it comes, so one line whatever the format; the cells stand apart by
    /// two spaces.
    pub(super) fn follow<R: Row>(&mut self, row: &R) -> io::Result<()> {
        match self.format {
            Format::Table => {
                writeln!(self.out, "{}", printable_cells(row).join("  "))?;
                self.out.flush()
            }
            Format::Json | Format::Ndjson => self.line(row),
        }
    }

    /// Prints one value: two columns in the table format.
    pub(super) fn record<S: Serialize>(
        &mut self,
        value: &S,
        cells: &[(&str, String)],
    ) -> io::Result<()> {
        match self.format {
            Format::Table => {
                let mut table = table();
                table.add_rows(
                    cells.iter().map(|(name, cell)| [(*name).to_owned(), printable(cell)]),
                );
                self.lines(&table)
            }
            Format::Json => self.document(value),
            Format::Ndjson => self.line(value),
        }
    }

    /// Prints what is JSON in every format.
    pub(super) fn document<S: Serialize>(&mut self, value: &S) -> io::Result<()> {
        let text = serde_json::to_string_pretty(value)?;
        writeln!(self.out, "{text}")?;
        self.out.flush()
    }

    /// Prints lines for people: a publisher's text can't command the terminal.
    pub(super) fn text(&mut self, text: &str) -> io::Result<()> {
        for line in text.lines() {
            writeln!(self.out, "{}", printable(line))?;
        }
        self.out.flush()
    }

    /// Prints bytes as they are.
    pub(super) fn raw(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.out.write_all(bytes)?;
        self.out.flush()
    }

    fn line<S: Serialize>(&mut self, value: &S) -> io::Result<()> {
        let text = serde_json::to_string(value)?;
        writeln!(self.out, "{text}")?;
        self.out.flush()
    }

    fn lines(&mut self, table: &Table) -> io::Result<()> {
        for line in table.lines() {
            writeln!(self.out, "{}", line.trim_end())?;
        }
        self.out.flush()
    }
}

/// No frame, so that `awk` and `cut` are content, too; cells wrap in a terminal only.
fn table() -> Table {
    let mut table = Table::new();
    table.load_style(presets::NOTHING);
    let arrangement = if io::stdout().is_terminal() {
        ContentArrangement::Dynamic
    } else {
        ContentArrangement::Disabled
    };
    table.set_content_arrangement(arrangement);
    table
}

fn printable_cells<R: Row>(row: &R) -> Vec<String> {
    row.cells().iter().map(|cell| printable(cell)).collect()
}

/// The text with what would command the terminal, break the line or turn its direction written
/// out: publishers choose names, ids and reasons.
fn printable(text: &str) -> String {
    let commands = |c: char| {
        c.is_control()
            || matches!(c, '\u{200e}' | '\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
    };
    let mut printable = String::with_capacity(text.len());
    for c in text.chars() {
        if commands(c) {
            printable.extend(c.escape_unicode());
        } else {
            printable.push(c);
        }
    }
    printable
}

/// Prints a line for people to standard error.
pub(super) fn note(text: &str) {
    // If standard error is closed there is no way to tell.
    let _unread = writeln!(io::stderr(), "{text}");
}

/// Progress on standard error: a bar in a terminal, else a line now and then.
pub(super) struct Progress {
    bar: Option<ProgressBar>,
    label: &'static str,
    done: u64,
    told: Instant,
}

impl Progress {
    /// `total` is `None` where it is not known yet.
    pub(super) fn new(label: &'static str, total: Option<u64>) -> Self {
        let bar = io::stderr().is_terminal().then(|| {
            let template = if total.is_some() {
                "{msg} {wide_bar} {human_pos}/{human_len} ({per_sec}, {eta} left)"
            } else {
                "{msg} {spinner} {human_pos} ({per_sec})"
            };
            let style = ProgressStyle::with_template(template)
                .unwrap_or_else(|_| ProgressStyle::default_bar());
            total
                .map_or_else(ProgressBar::new_spinner, ProgressBar::new)
                .with_style(style)
                .with_message(label)
        });
        Self { bar, label, done: 0, told: Instant::now() }
    }

    pub(super) fn add(&mut self, count: u64) {
        self.done += count;
        match &self.bar {
            Some(bar) => bar.inc(count),
            None if self.told.elapsed() >= SPARSE => {
                self.told = Instant::now();
                note(&format!("{}: {} so far", self.label, self.done));
            }
            None => {}
        }
    }

    /// Removes the bar; what came of it is for the caller to say.
    pub(super) fn finish(self) {
        if let Some(bar) = self.bar {
            bar.finish_and_clear();
        }
    }
}

/// A moment as people and machines read it.
pub(super) fn moment(at: DateTime<Utc>) -> String {
    at.to_rfc3339_opts(SecondsFormat::Secs, true)
}

/// Text for a cell that may be empty.
pub(super) fn or_dash(value: Option<&impl fmt::Display>) -> String {
    value.map_or_else(|| "-".to_owned(), ToString::to_string)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_that_was_sent_commands_the_terminal() {
        for (text, shown) in [
            ("Émeraude \u{1f4a9} '%s'", "Émeraude \u{1f4a9} '%s'"),
            ("a\u{1b}[2Jb", "a\\u{1b}[2Jb"),
            ("a\nb\r\u{9b}", "a\\u{a}b\\u{d}\\u{9b}"),
            ("\u{202e}txet\u{2069}", "\\u{202e}txet\\u{2069}"),
        ] {
            assert_eq!(printable(text), shown);
        }
    }
}
