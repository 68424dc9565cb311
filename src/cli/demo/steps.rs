//! The demo's five scenes. Each shows something and checks it.

use anyhow::{Context as _, ensure};
use serde_json::{Value, json};

use crate::cli::demo::environment::{Environment, ORG};
use crate::cli::demo::view;
use crate::cli::output::Output;
use crate::domain::identity::{CustomerId, Lookup};
use crate::message::Message;
use crate::store::lookup;

const LINK_1: &str = include_str!("../../../deploy/demo/seed/link-1.json");
const LINK_2: &str = include_str!("../../../deploy/demo/seed/link-2.json");
const UPDATE: &str = include_str!("../../../deploy/demo/seed/update.json");
const DELINK: &str = include_str!("../../../deploy/demo/seed/delink.json");

/// The customers of the samples.
const CUSTOMERS: [i64; 4] = [382_741_349, 382_741_350, 382_741_351, 382_741_352];
const PROGRAMS: [&str; 6] =
    ["1stProgram", "NoTierPartnerProgram", "2ndProgram", "Apparel-Partner", "p3e1", "Extra Miles"];

pub(super) async fn all(environment: &mut Environment, output: &mut Output) -> anyhow::Result<()> {
    prepare(environment).await.context("preparing")?;
    let first = samples(environment, output).await.context("scene 1")?;
    mixed_batch(environment, output).await.context("scene 2")?;
    duplicate(environment, &first, output).await.context("scene 3")?;
    malformed(environment, output).await.context("scene 4")?;
    outcome(environment, output).await.context("scene 5")
}

/// Takes the samples' customers out of whatever an earlier run has left them in, and gives two of
/// them what the samples take for granted.
async fn prepare(environment: &mut Environment) -> anyhow::Result<()> {
    let programs: Vec<Value> =
        PROGRAMS.iter().map(|name| json!({ "partnerProgramName": name })).collect();
    let everybody: Vec<Value> = CUSTOMERS
        .iter()
        .map(|id| json!({ "customer": { "id": id }, "deLinkFromPartnerPrograms": programs }))
        .collect();
    let leave = json!({ "deLinkCustomers": everybody }).to_string();
    environment.ask("delink", "prepare-1", &leave).await?;
    let join = json!({ "linkCustomers": [
        { "customer": { "id": CUSTOMERS[2] }, "linkToPartnerPrograms": [
            link("Apparel-Partner", "App-1", Some("Bronze")) ] },
        { "customer": { "id": CUSTOMERS[3] }, "linkToPartnerPrograms": [
            link("1stProgram", "First-1", Some("1stSlab")), link("p3e1", "P3-1", None) ] },
    ] });
    let joined = environment.ask("link", "prepare-2", &join.to_string()).await?;
    expect(&joined, &[200, 200, 200])
}

/// Returns the first sample's result event.
async fn samples(environment: &mut Environment, output: &mut Output) -> anyhow::Result<Message> {
    output.raw(
        view::heading(
            "1. The platform's own samples, word for word",
            "Left: the command as it was published. Right: the result event that came back.",
        )
        .as_bytes(),
    )?;
    let samples: [(&str, &str, &str, &[i64]); 4] = [
        ("link", "link-1", LINK_1, &[200, 200, 200]),
        ("link", "link-2", LINK_2, &[200]),
        ("update", "update", UPDATE, &[200]),
        ("delink", "delink", DELINK, &[200, 200]),
    ];
    let mut first = None;
    for (operation, name, body, codes) in samples {
        let event = environment.ask(operation, name, body).await?;
        expect(&event, codes)?;
        let titles = (format!("{ORG}.{operation}"), event.routing_key.clone());
        output.raw(view::side_by_side(&titles, body, &pretty(&event)?).as_bytes())?;
        first.get_or_insert(event);
    }
    first.context("there are no samples")
}

async fn mixed_batch(environment: &mut Environment, output: &mut Output) -> anyhow::Result<()> {
    output.raw(
        view::heading(
            "2. A batch in which some items fail",
            "One command, six customers. Items are independent: a failure undoes nothing.",
        )
        .as_bytes(),
    )?;
    let entry = |customer: Value, items: Vec<Value>| json!({ "customer": customer, "linkToPartnerPrograms": items });
    let batch = json!({ "linkCustomers": [
        entry(json!({ "id": CUSTOMERS[0], "email": "nobody@mail.com" }), vec![
            link("1stProgram", "again", Some("1stSlab")),
            link(" EXTRA miles", "", None),
            link("Winter Club", "W-1", None),
            link("Unheard-of", "U-1", None),
        ]),
        entry(json!({ "mobile": "+91 97403-90055" }), vec![
            link("p3e1", "P3-2", Some("Gold")),
            link("P3E1", "P3-3", None),
            link("2ndProgram", "621000000", Some("1stSlab")),
            link("1stProgram", "First-2", Some("Platinum")),
            link("NoTierPartnerProgram", "", None),
        ]),
        entry(json!({ "mobile": "1234567" }), vec![link("p3e1", "x", None)]),
        entry(json!({ "email": "not.enrolled@mail.com" }), vec![link("p3e1", "x", None)]),
        entry(json!({ "externalId": "F919811000003" }), vec![link("p3e1", "x", None)]),
        entry(json!({ "mobile": "12" }), vec![link("p3e1", "x", None)]),
    ] });
    let event = environment.ask("link", "mixed", &batch.to_string()).await?;
    let codes = [2005, 200, 2104, 2006, 200, 2106, 2103, 2007, 2102, 2001, 2001, 2001, 2001];
    expect(&event, &codes)?;
    ensure!(event.routing_key == format!("{ORG}.link.partial"), "got {}", event.routing_key);
    output.raw(view::statuses(&json_of(&event)?).as_bytes())?;
    output.raw(view::envelope(&event).as_bytes())?;
    Ok(())
}

async fn duplicate(
    environment: &mut Environment,
    first: &Message,
    output: &mut Output,
) -> anyhow::Result<()> {
    output.raw(
        view::heading(
            "3. The same command once more",
            "The first sample is published again with its message id. The inbox answers.",
        )
        .as_bytes(),
    )?;
    let before = effects(environment).await?;
    let again = environment.ask("link", "link-1", LINK_1).await?;
    let after = effects(environment).await?;
    let id = environment.id("link-1");
    let org = org(environment).await?;
    let stored = lookup::command(&mut environment.database, org.id, &id).await?;
    let stored = stored.context("the command is not in the inbox")?.stored.result;
    ensure!(again.body == first.body, "the result differs from the first one");
    ensure!(stored == again.body, "the result differs from the stored one");
    ensure!(before == after, "the duplicate had an effect: {before} effects became {after}");
    let identical = format!("{} bytes, identical to the first", again.body.len());
    output.raw(
        view::facts(&[
            ("routing key", again.routing_key.clone()),
            ("message id", again.properties.message_id.unwrap_or_default()),
            ("result", identical),
            ("effects before and after", format!("{before} and {after}")),
        ])
        .as_bytes(),
    )?;
    Ok(())
}

async fn malformed(environment: &mut Environment, output: &mut Output) -> anyhow::Result<()> {
    output.raw(
        view::heading(
            "4. A message that nobody could process",
            "Its list is no list. It goes to the dead letters, whole, and subscribers are told.",
        )
        .as_bytes(),
    )?;
    let body = r#"{"linkCustomers":[{"customer":{"id":382741349},"linkToPartnerPrograms":"all"}]}"#;
    let event = environment.ask("link", "malformed", body).await?;
    ensure!(event.routing_key == format!("{ORG}.link.rejected"), "got {}", event.routing_key);
    let letter = environment.dead_letter("malformed").await?;
    ensure!(letter.body == body.as_bytes(), "the dead letter's body was changed");
    let titles = (format!("{ORG}.link"), event.routing_key.clone());
    output.raw(view::side_by_side(&titles, body, &pretty(&event)?).as_bytes())?;
    output.raw(view::headers(&letter).as_bytes())?;
    Ok(())
}

async fn outcome(environment: &mut Environment, output: &mut Output) -> anyhow::Result<()> {
    output.raw(
        view::heading(
            "5. What is in Postgres now",
            "Enrolments, and this run's history: one row for each effect, oldest first.",
        )
        .as_bytes(),
    )?;
    let org = org(environment).await?;
    let own = environment.id("");
    let mut enrolments = Vec::new();
    let mut history = Vec::new();
    for id in CUSTOMERS {
        for enrolment in lookup::enrolments(&mut environment.database, org.id, id).await? {
            enrolments.push(view::enrolment(id, &enrolment));
        }
        let mut effects = lookup::history(&mut environment.database, org.id, id, 20).await?;
        effects.reverse();
        let before = environment.id("prepare-1");
        effects.retain(|e| e.command_id.starts_with(&own) && e.command_id != before);
        history.extend(effects.iter().map(|effect| view::effect(id, effect, own.len())));
    }
    let linked = enrolments.iter().filter(|row| row[2] == "yes").count();
    ensure!(linked == 7, "expected 7 linked enrolments, found {linked}");
    ensure!(history.len() == 12, "expected 12 effects, found {}", history.len());
    output.raw(view::table(&view::ENROLMENT_COLUMNS, &enrolments).as_bytes())?;
    output.raw(view::table(&view::EFFECT_COLUMNS, &history).as_bytes())?;
    Ok(())
}

async fn org(environment: &mut Environment) -> anyhow::Result<lookup::Org> {
    lookup::org(&mut environment.database, ORG).await?.context("the org is missing")
}

/// The number of effects on the samples' first customer.
async fn effects(environment: &mut Environment) -> anyhow::Result<usize> {
    let org = org(environment).await?;
    let lookup = Lookup { id: Some(CustomerId(CUSTOMERS[0])), ..Lookup::default() };
    let customer = lookup::customer(&mut environment.database, &org, &lookup).await?;
    let customer = customer.context("the samples' customer is missing")?;
    Ok(lookup::history(&mut environment.database, org.id, customer.id, 10_000).await?.len())
}

fn link(program: &str, membership_id: &str, tier: Option<&str>) -> Value {
    json!({ "partnerProgramName": program, "customerPartnerReference": {
        "partnerMembershipId": membership_id, "partnerTierName": tier } })
}

/// Holds the items' codes against what they should be.
fn expect(event: &Message, expected: &[i64]) -> anyhow::Result<()> {
    let codes: Vec<i64> = view::items(&json_of(event)?).map(|item| item.code).collect();
    ensure!(codes == expected, "expected the codes {expected:?}, got {codes:?}");
    Ok(())
}

fn json_of(event: &Message) -> anyhow::Result<Value> {
    serde_json::from_slice(&event.body).context("an event that is no JSON")
}

fn pretty(event: &Message) -> anyhow::Result<String> {
    crate::cli::demo::json::indented(&event.body).context("an event that is no JSON")
}
