//! Tiers keep who is in them when their order is edited, and no command is committed by a catalogue that
//! an import has replaced.

use std::process::Output;
use std::time::Duration;

use chrono::Utc;
use partner_program_worker::message::Message;
use serde_json::{Value, json};

use crate::harness::collector::Received;
use crate::harness::database::TestDatabase;
use crate::harness::environment::TestEnv;
use crate::harness::eventually;
use crate::harness::publisher::command;
use crate::harness::worker::Process;
use crate::harness::workload::ORG;
use crate::model::{Customer, Model, Org, Program};

const DEADLINE: Duration = Duration::from_mins(1);
const PROGRAM: &str = "Club";

struct Tiers {
    env: TestEnv,
    worker: Process,
}

impl Tiers {
    /// A program of these tiers, and customers from 1 to 9.
    async fn new(name: &str, tiers: &'static [&'static str]) -> Self {
        let customer =
            |id| Customer { id, mobile: None, email: None, external_id: None, state: "active" };
        let program = Program { name: PROGRAM, external: true, active: true, ends_at: None, tiers };
        let org = Org {
            code: ORG,
            country_code: "91",
            programs: vec![program],
            customers: (1..10).map(customer).collect(),
        };
        let env = TestEnv::new(name, &Model::new(Utc::now(), vec![org])).await;
        let worker = Process::start(&env.settings, "tiers");
        Self { env, worker }
    }

    async fn try_import(&self, tiers: &[&str]) -> Output {
        let file = tempfile::NamedTempFile::with_suffix(".toml").expect("a file");
        let text = format!(
            "[[org]]\ncode = \"{ORG}\"\nname = \"{ORG}\"\ncountry_code = \"91\"\n\
             [[org.program]]\nname = \"{PROGRAM}\"\nkind = \"EXTERNAL\"\ntiers = {tiers:?}\n"
        );
        std::fs::write(file.path(), text).expect("it is written");
        let path = file.path().to_str().expect("text");
        let mut command = self.env.settings.command(&["import", "catalogue", path]);
        command.output().await.expect("the program starts")
    }

    async fn import(&self, tiers: &[&str]) {
        let output = self.try_import(tiers).await;
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    }

    /// Publishes the command and waits for its item's status code.
    async fn code_of(&mut self, message: Message) -> i64 {
        let id = message.properties.message_id.clone().expect("an id");
        self.env.publisher.publish(&[message]).await;
        self.answer(&id).await
    }

    async fn answer(&mut self, id: &str) -> i64 {
        let is_its = |event: &Received| event.command_id() == id;
        let heard = |all: &[Received]| all.iter().any(is_its);
        let all = self.env.results.read_until(DEADLINE, id, heard).await;
        let answer = all.iter().find(|event| is_its(event)).expect("it was heard").json();
        let entry = answer.as_object().and_then(|all| all.values().find_map(|list| list.get(0)));
        let statuses =
            ["linkToPartnerPrograms", "partnerProgramUpdates", "deLinkFromPartnerPrograms"]
                .iter()
                .find_map(|list| entry?.get(list)?.get(0));
        let item = statuses.and_then(Value::as_object).expect("an item");
        item.values().find_map(|status| status.get("code")?.as_i64()).expect("a code")
    }

    /// Whom the database has in which tier, by name, as `show` finds it.
    async fn standing(&mut self) -> Vec<(i64, String)> {
        let enrolments = self.env.rows.enrolments().await.into_iter();
        enrolments.map(|(key, row)| (key.1, row.tier.unwrap_or_default())).collect()
    }

    async fn shown(&self, customer: i64) -> Value {
        let customer = customer.to_string();
        let arguments = ["show", "history", "--org", ORG, "--id", &customer, "-o", "json"];
        let output = self.env.settings.command(&arguments).output().await;
        let output = output.expect("the program starts");
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        serde_json::from_slice(&output.stdout).expect("JSON")
    }

    async fn stop(mut self) {
        self.worker.signal("TERM").await;
        assert!(self.worker.ended().await.success(), "{}", self.worker.words());
    }
}

fn link(id: &str, customer: i64, tier: &str) -> Message {
    let reference =
        json!({ "partnerMembershipId": format!("m{customer}"), "partnerTierName": tier });
    let item = json!({ "partnerProgramName": PROGRAM, "customerPartnerReference": reference });
    let entry = json!({ "customer": { "id": customer }, "linkToPartnerPrograms": [item] });
    command(&format!("{ORG}.link"), Some(id), json!({ "linkCustomers": [entry] }).to_string())
}

fn update(id: &str, customer: i64, kind: &str, tier: &str) -> Message {
    let details =
        json!({ "updatedTierName": tier, "updatedTierExpiryDate": "2999-01-01T00:00:00Z" });
    let item =
        json!({ "partnerProgramName": PROGRAM, "updateType": kind, "updateDetails": details });
    let entry = json!({ "customer": { "id": customer }, "partnerProgramUpdates": [item] });
    let body = json!({ "customersPartnerUpdates": [entry] });
    command(&format!("{ORG}.update"), Some(id), body.to_string())
}

fn delink(id: &str, customer: i64) -> Message {
    let item = json!({ "partnerProgramName": PROGRAM });
    let entry = json!({ "customer": { "id": customer }, "deLinkFromPartnerPrograms": [item] });
    command(&format!("{ORG}.delink"), Some(id), json!({ "deLinkCustomers": [entry] }).to_string())
}

#[tokio::test]
async fn a_tier_put_between_others_moves_nobody() {
    let mut tiers = Tiers::new("tiers-between", &["Silver", "Gold"]).await;
    assert_eq!(tiers.code_of(link("s", 1, "Silver")).await, 200);
    assert_eq!(tiers.code_of(link("g", 2, "Gold")).await, 200);
    assert_eq!(tiers.code_of(update("u", 1, "UPGRADE", "Gold")).await, 200);

    tiers.import(&["Silver", "Ruby", "Gold"]).await;
    let in_gold = [(1, "Gold".to_owned()), (2, "Gold".to_owned())];
    assert_eq!(tiers.standing().await, in_gold);
    assert_eq!(tiers.code_of(update("same", 1, "UPGRADE", "Gold")).await, 2101, "it is in Gold");
    assert_eq!(tiers.code_of(update("renew", 1, "RENEW", "Gold")).await, 200);
    assert_eq!(tiers.code_of(update("down", 2, "DOWNGRADE", "Ruby")).await, 200);
    assert_eq!(tiers.code_of(link("r", 3, "Ruby")).await, 200);

    // Ranks change places; whoever is in a tier stays in it, and "higher" is by the new order.
    tiers.import(&["Gold", "Ruby", "Silver"]).await;
    let as_before = [(1, "Gold".to_owned()), (2, "Ruby".to_owned()), (3, "Ruby".to_owned())];
    assert_eq!(tiers.standing().await, as_before);
    assert_eq!(tiers.code_of(update("up", 1, "UPGRADE", "Silver")).await, 200);
    assert_eq!(tiers.code_of(update("no", 2, "DOWNGRADE", "Silver")).await, 2101);

    let shown = tiers.shown(1).await.to_string();
    for tier in ["Silver", "Gold"] {
        assert!(shown.contains(tier), "the history names what happened: {shown}");
    }
    assert!(!shown.contains("Ruby"), "{shown}");
    tiers.stop().await;
}

#[tokio::test]
async fn a_tier_in_use_is_not_removed_and_one_that_is_not_stays_readable() {
    let mut tiers = Tiers::new("tiers-removed", &["Silver", "Ruby", "Gold", "Onyx"]).await;
    for (customer, tier) in [(1, "Gold"), (2, "Gold"), (3, "Ruby"), (4, "Silver"), (5, "Onyx")] {
        let id = format!("link-{customer}");
        assert_eq!(tiers.code_of(link(&id, customer, tier)).await, 200);
    }
    let refused = tiers.try_import(&["Silver", "Onyx"]).await;
    assert_eq!(refused.status.code(), Some(5));
    let words = String::from_utf8_lossy(&refused.stderr);
    for part in ["`Club`", "`Gold` (2 enrolments)", "`Ruby` (1 enrolment)"] {
        assert!(words.contains(part), "{part} in {words}");
    }
    assert_eq!(tiers.code_of(link("after", 6, "Gold")).await, 200, "nothing was imported");

    assert_eq!(tiers.code_of(update("leaves", 5, "DOWNGRADE", "Silver")).await, 200);
    assert_eq!(tiers.code_of(delink("ruby", 3)).await, 200);
    tiers.import(&["Silver", "Gold"]).await;
    assert_eq!(tiers.code_of(link("gone", 7, "Onyx")).await, 2007);
    assert!(tiers.shown(5).await.to_string().contains("Onyx"), "what was is still named");
    assert!(tiers.shown(3).await.to_string().contains("Ruby"), "what was is still named");

    // The same name is the same tier, wherever it stands now.
    tiers.import(&["Onyx", "Silver", "Gold", "Jade"]).await;
    assert_eq!(tiers.code_of(link("onyx", 8, "onyx ")).await, 200);
    assert_eq!(tiers.code_of(link("jade", 9, "Jade")).await, 200);
    let standing = tiers.standing().await;
    for expected in [(8, "Onyx".to_owned()), (9, "Jade".to_owned()), (2, "Gold".to_owned())] {
        assert!(standing.contains(&expected), "{standing:?}");
    }
    tiers.stop().await;
}

#[tokio::test]
async fn a_command_evaluated_by_an_old_catalogue_is_evaluated_again() {
    let mut tiers = Tiers::new("tiers-stale", &["Silver", "Gold"]).await;
    assert_eq!(tiers.code_of(link("s", 1, "Silver")).await, 200);
    let mut locks = TestDatabase::of(&tiers.env.place).await;
    // The worker evaluates, begins its transaction, and waits for its lane.
    locks.execute("begin; select from lane for update").await;
    tiers.env.publisher.publish(&[update("up", 1, "UPGRADE", "Gold")]).await;
    let waiting = "select count(*) from pg_stat_activity \
        where datname = current_database() and wait_event_type = 'Lock'";
    eventually(DEADLINE, "the worker waits for its lane", async || {
        (tiers.env.rows.count(waiting).await == 1).then_some(())
    })
    .await;
    tiers.import(&["Gold", "Silver"]).await;
    locks.execute("commit").await;
    assert_eq!(tiers.answer("up").await, 2101, "Gold is below Silver by now");
    assert_eq!(tiers.standing().await, [(1, "Silver".to_owned())]);
    tiers.stop().await;
}

#[tokio::test]
async fn an_import_waits_for_commits_of_its_org_and_they_for_it() {
    let mut tiers = Tiers::new("tiers-locks", &["Silver", "Gold", "Onyx"]).await;
    assert_eq!(tiers.code_of(link("s", 1, "Silver")).await, 200);
    // The worker has begun its commit into a tier that the import takes away, and waits for a row.
    let mut locks = TestDatabase::of(&tiers.env.place).await;
    locks.execute("begin; update enrolment set version = version where org_id > 0").await;
    tiers.env.publisher.publish(&[update("up", 1, "UPGRADE", "Onyx")]).await;
    let waiting = "select count(*) from pg_stat_activity \
        where datname = current_database() and wait_event_type = 'Lock'";
    let mut blocked = async |sessions| {
        eventually(DEADLINE, "they wait", async || {
            (tiers.env.rows.count(waiting).await == sessions).then_some(())
        })
        .await;
    };
    blocked(1).await;
    let file = tempfile::NamedTempFile::with_suffix(".toml").expect("a file");
    let text = format!(
        "[[org]]\ncode = \"{ORG}\"\nname = \"{ORG}\"\ncountry_code = \"91\"\n\
         [[org.program]]\nname = \"{PROGRAM}\"\nkind = \"EXTERNAL\"\ntiers = [\"Silver\", \"Gold\"]\n"
    );
    std::fs::write(file.path(), text).expect("it is written");
    let path = file.path().to_str().expect("text").to_owned();
    let mut import = tiers.env.settings.command(&["import", "catalogue", &path]);
    let import = import.stderr(std::process::Stdio::piped()).spawn().expect("the program starts");
    blocked(2).await;
    locks.execute("commit").await;
    let refused = import.wait_with_output().await.expect("it ends");
    let words = String::from_utf8_lossy(&refused.stderr);
    assert_eq!(refused.status.code(), Some(5), "{words}");
    assert!(words.contains("`Onyx` (1 enrolment)"), "{words}");
    assert_eq!(tiers.answer("up").await, 200);
    tiers.stop().await;
}
