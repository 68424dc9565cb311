//! Imports customers from CSV, in batches, so that a file of any length takes bounded memory.
//!
//! A row that can't be taken is reported with its line and column, never with its value; the
//! others are imported.

use std::io::Read;

use csv::{ReaderBuilder, StringRecord, Trim};

use crate::domain::identity::{CustomerState, Email, ExternalId, Mobile};
use crate::store;
use crate::store::connection::Connection;
use crate::store::import::Counts;
use crate::store::import_customers::{Problem, Row};

/// Rows in one transaction.
const BATCH_ROWS: usize = 10_000;
/// Problems that are kept for the report; the rest is counted.
const PROBLEMS_MAX: usize = 1000;
const COLUMNS: [&str; 6] = ["org", "id", "mobile", "email", "external_id", "state"];

/// Why an import ended early. Batches before that are in the database.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The header is not that of a customers file.
    #[error("{0}; the header is `org,id,mobile,email,external_id,state`, in any order")]
    Header(String),
    /// The file can't be read, or is no CSV.
    #[error("{0}")]
    Csv(#[from] csv::Error),
    /// The database.
    #[error("{0}")]
    Store(#[from] store::error::Error),
}

/// What became of a file.
#[derive(Debug, Default)]
pub struct Report {
    /// Of the rows that were taken.
    pub counts: Counts,
    /// The first of the rows that were not.
    pub problems: Vec<Problem>,
    /// All of them.
    pub problem_count: u64,
}

/// Reads `file` and merges it; `progress` hears how many rows have been dealt with.
pub async fn merge(
    connection: &mut Connection,
    file: impl Read,
    dry_run: bool,
    mut progress: impl FnMut(u64),
) -> Result<Report, Error> {
    let mut reader = ReaderBuilder::new().trim(Trim::All).flexible(true).from_reader(file);
    let columns = columns(reader.headers()?)?;
    let mut report = Report::default();
    let mut batch = Vec::with_capacity(BATCH_ROWS);
    let mut record = StringRecord::new();
    loop {
        let more = reader.read_record(&mut record)?;
        if more {
            let line = record.position().map_or(0, csv::Position::line);
            match row(line, &record, &columns) {
                Ok(row) => batch.push(row),
                Err(text) => report.add(vec![Problem { line, text }]),
            }
        }
        if batch.len() == BATCH_ROWS || (!more && !batch.is_empty()) {
            let (counts, problems) =
                store::import_customers::merge(connection, &batch, dry_run).await?;
            report.counts.added += counts.added;
            report.counts.changed += counts.changed;
            report.counts.unchanged += counts.unchanged;
            report.add(problems);
            progress(batch.len() as u64);
            batch.clear();
        }
        if !more {
            report.problems.sort_by_key(|problem| problem.line);
            return Ok(report);
        }
    }
}

impl Report {
    fn add(&mut self, problems: Vec<Problem>) {
        self.problem_count += problems.len() as u64;
        let room = PROBLEMS_MAX.saturating_sub(self.problems.len());
        self.problems.extend(problems.into_iter().take(room));
    }
}

/// Where each of [`COLUMNS`] stands.
fn columns(header: &StringRecord) -> Result<[usize; COLUMNS.len()], Error> {
    if let Some(unknown) = header.iter().find(|name| !COLUMNS.contains(name)) {
        return Err(Error::Header(format!("unknown column `{unknown}`")));
    }
    let mut places = [0; COLUMNS.len()];
    for (place, name) in places.iter_mut().zip(COLUMNS) {
        *place = header
            .iter()
            .position(|column| column == name)
            .ok_or_else(|| Error::Header(format!("column `{name}` is missing")))?;
    }
    Ok(places)
}

fn row(line: u64, record: &StringRecord, columns: &[usize; 6]) -> Result<Row, String> {
    let [org, id, mobile, email, external_id, state] =
        columns.map(|place| record.get(place).filter(|text| !text.is_empty()));
    let invalid = |column: &str, rule: &str| format!("{column}: {rule}");
    let id = id.map(str::parse).transpose();
    let mobile = mobile.map(Mobile::parse).transpose();
    if let Some(email) = email {
        Email::parse(email).map_err(|_| invalid("email", "no address"))?;
    }
    if let Some(id) = external_id {
        ExternalId::parse(id)
            .map_err(|_| invalid("external_id", "longer than 255 or with control characters"))?;
    }
    Ok(Row {
        line,
        org: org.ok_or_else(|| invalid("org", "is empty"))?.to_owned(),
        id: id.map_err(|_: std::num::ParseIntError| invalid("id", "no whole number"))?,
        mobile: mobile
            .map_err(|_| invalid("mobile", "not 7 to 15 digits"))?
            .map(|mobile| mobile.digits().to_owned()),
        email: email.map(ToOwned::to_owned),
        external_id: external_id.map(ToOwned::to_owned),
        state: state.map_or(Some(CustomerState::Active), CustomerState::parse).ok_or_else(
            || {
                let states = CustomerState::ALL.map(CustomerState::as_str).join(", ");
                invalid("state", &format!("none of {states}"))
            },
        )?,
    })
}
