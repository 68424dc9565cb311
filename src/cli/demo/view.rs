//! How the demo looks: headings, a command beside its result, short tables.

use std::fmt::Write as _;

use chrono::{DateTime, Utc};
use comfy_table::{ContentArrangement, Table, presets};
use serde_json::Value;

use crate::cli::demo::json;
use crate::cli::output::{moment, or_dash};
use crate::domain::command::Operation;
use crate::domain::names::{CUSTOMER, IDENTIFIERS, PARTNER_PROGRAM_NAME};
use crate::message::Message;
use crate::store::lookup;

/// Columns where there is no terminal.
const WIDTH: u16 = 120;
/// Below this a command stands above its result instead of beside it.
const WIDTH_FOR_TWO: u16 = 100;

pub(super) const ENROLMENT_COLUMNS: [&str; 7] =
    ["CUSTOMER", "PROGRAM", "LINKED", "MEMBERSHIP", "TIER", "EXPIRES", "VERSION"];
pub(super) const EFFECT_COLUMNS: [&str; 6] =
    ["CUSTOMER", "PROGRAM", "EFFECT", "TIER", "EXPIRES", "COMMAND"];

pub(super) fn opening(worker: &str, clock: DateTime<Utc>) -> String {
    format!(
        "A worker runs inside this process as {worker}, on a real RabbitMQ and a real Postgres.\n\
         Its clock began at {}, so that the dates in the samples lie ahead.\n",
        moment(clock)
    )
}

pub(super) fn ending(servers_stay: bool) -> String {
    let mut text = "\nAll as it should be. ".to_owned();
    let try_next = "\
        \n  partner-program show customer --org acme --mobile 6215000000\
        \n  partner-program show history --org acme --id 382741349\
        \n  partner-program doctor\n";
    if servers_stay {
        text.push_str("The servers and a worker stay; with the settings printed below, try:");
        text.push_str(try_next);
    } else {
        text.push_str(
            "With `make demo KEEP=1` the servers, a worker and its console stay, to try:",
        );
        text.push_str(try_next);
    }
    text
}

pub(super) fn heading(title: &str, text: &str) -> String {
    format!("\n{title}\n{}\n{text}\n\n", "=".repeat(title.chars().count()))
}

/// A command and what came back, beside each other where the terminal is wide enough.
pub(super) fn side_by_side(titles: &(String, String), left: &str, right: &str) -> String {
    let left = json::indented(left.as_bytes()).unwrap_or_else(|| left.to_owned());
    let titles = (format!("--> {}", titles.0), format!("<-- {}", titles.1));
    let width = Table::new().width().unwrap_or(WIDTH);
    if width < WIDTH_FOR_TWO {
        return format!("{}\n{left}\n\n{}\n{right}\n\n", titles.0, titles.1);
    }
    let mut table = plain();
    table.set_content_arrangement(ContentArrangement::Dynamic).set_width(width.min(WIDTH + 20));
    table.set_header([titles.0, titles.1]).add_row([left, right.to_owned()]);
    lines(&table)
}

/// An answered item, with whom and what it is about.
pub(super) struct Item<'a> {
    customer: &'a Value,
    program: &'a str,
    pub(super) code: i64,
    message: &'a str,
}

/// The items of a result, over all customers.
pub(super) fn items(result: &Value) -> impl Iterator<Item = Item<'_>> {
    Operation::ALL
        .into_iter()
        .filter_map(|operation| Some((operation, result.get(operation.root_key())?.as_array()?)))
        .flat_map(|(operation, entries)| entries.iter().map(move |entry| (operation, entry)))
        .filter_map(|(operation, entry)| {
            Some((entry.get(CUSTOMER)?, entry.get(operation.list_key())?.as_array()?))
        })
        .flat_map(|(customer, items)| items.iter().map(move |item| (customer, item)))
        .filter_map(|(customer, item)| {
            let status =
                Operation::ALL.iter().find_map(|operation| item.get(operation.status_key()))?;
            Some(Item {
                customer,
                program: item.get(PARTNER_PROGRAM_NAME).and_then(Value::as_str).unwrap_or_default(),
                code: status.get("code")?.as_i64()?,
                message: status.get("message")?.as_str()?,
            })
        })
}

/// The statuses of a result's customers and items, and its warnings.
pub(super) fn statuses(result: &Value) -> String {
    let rows: Vec<[String; 4]> = items(result)
        .map(|Item { customer, program, code, message }| {
            let status = customer.pointer("/status/code").map(ToString::to_string);
            let who = IDENTIFIERS
                .iter()
                .find_map(|name| customer.get(name))
                .map(|who| who.as_str().map_or_else(|| who.to_string(), ToOwned::to_owned));
            [
                format!("{} ({})", who.unwrap_or_default(), status.unwrap_or_default()),
                program.trim().to_owned(),
                code.to_string(),
                message.to_owned(),
            ]
        })
        .collect();
    let mut text = table(&["CUSTOMER", "PROGRAM", "CODE", "MESSAGE"], &rows);
    for warning in result.get("warnings").and_then(Value::as_array).into_iter().flatten() {
        let part = |name| warning.get(name).map(ToString::to_string).unwrap_or_default();
        // A String takes whatever is written to it.
        let _always = writeln!(
            text,
            "warning {}: {} at {}",
            part("code"),
            part("message").trim_matches('"'),
            part("path").trim_matches('"')
        );
    }
    text
}

/// A result event's routing key and headers.
pub(super) fn envelope(event: &Message) -> String {
    let headers: Vec<String> =
        event.properties.headers.iter().map(|(name, value)| format!("{name}: {value}")).collect();
    facts(&[("routing key", event.routing_key.clone()), ("headers", headers.join(", "))])
}

/// A dead letter's headers, one a line.
pub(super) fn headers(letter: &Message) -> String {
    let rows: Vec<[String; 2]> = letter
        .properties
        .headers
        .iter()
        .map(|(name, value)| {
            let text = value.as_str().map_or_else(|| value.to_string(), ToOwned::to_owned);
            [name.clone(), text]
        })
        .collect();
    table(&["HEADER OF THE DEAD LETTER", ""], &rows)
}

pub(super) fn enrolment(customer: i64, enrolment: &lookup::Enrolment) -> [String; 7] {
    [
        customer.to_string(),
        enrolment.program.clone(),
        if enrolment.linked { "yes" } else { "no" }.to_owned(),
        or_dash(enrolment.membership_id.as_ref()),
        or_dash(enrolment.tier.as_ref()),
        enrolment.tier_expires_at.map_or_else(|| "-".to_owned(), moment),
        enrolment.version.to_string(),
    ]
}

/// `prefix` is what all command ids of this run begin with, in bytes.
pub(super) fn effect(customer: i64, effect: &lookup::Effect, prefix: usize) -> [String; 6] {
    let old_tier = effect.old.as_ref().and_then(|old| old.tier.clone());
    let new_tier = effect.new.tier.clone();
    let tier = if old_tier == new_tier || old_tier.is_none() {
        or_dash(new_tier.as_ref())
    } else {
        format!("{} -> {}", or_dash(old_tier.as_ref()), or_dash(new_tier.as_ref()))
    };
    [
        customer.to_string(),
        effect.program.clone(),
        effect.kind.clone(),
        tier,
        effect.new.tier_expires_at.map_or_else(|| "-".to_owned(), moment),
        effect.command_id.get(prefix..).unwrap_or_default().to_owned(),
    ]
}

/// Names and values.
pub(super) fn facts(facts: &[(&str, String)]) -> String {
    let mut table = plain();
    table.add_rows(facts.iter().map(|(name, value)| [(*name).to_owned(), value.clone()]));
    lines(&table)
}

pub(super) fn table<const N: usize>(columns: &[&str; N], rows: &[[String; N]]) -> String {
    let mut table = plain();
    table.set_header(columns.to_vec());
    table.add_rows(rows.iter().map(|row| row.to_vec()));
    lines(&table)
}

fn plain() -> Table {
    let mut table = Table::new();
    table.load_style(presets::NOTHING).set_content_arrangement(ContentArrangement::Disabled);
    table
}

fn lines(table: &Table) -> String {
    let mut text = String::new();
    for line in table.lines() {
        text.push_str(line.trim_end());
        text.push('\n');
    }
    text.push('\n');
    text
}
