//! How fast the archive answers with a million letters in it.
//!
//! `scripts/letters.sh` runs it on private servers. Each figure is the median of many calls: of
//! what the command line and the console call, then of the console's pages, asked for over HTTP.
#![expect(clippy::expect_used, clippy::print_stdout, reason = "it prints figures, or fails")]

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use chrono::{TimeDelta, Utc};
use partner_program_worker::config::Config;
use partner_program_worker::console;
use partner_program_worker::domain::dead_letter::State;
use partner_program_worker::store::connection::{self, Connection};
use partner_program_worker::store::dead_letters::filter::Filter;
use partner_program_worker::store::dead_letters::{claims, groups, list};
use partner_program_worker::store::migrate;
use partner_program_worker::worker::counters::LaneCounters;
use sqlx::AssertSqlSafe;
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;

/// Sets how many letters there are.
const LETTERS_VARIABLE: &str = "PARTNER_PROGRAM_BENCH_LETTERS";
const CALLS: usize = 31;
const PAGE: i64 = 50;

/// Sixty groups of twenty orgs; the newest 10,000 are open, the others have been dealt with.
const FILL: &str = "
    insert into dead_letter (id, org_code, lane, reason, operation, detail, fingerprint, state,
        command_id, exchange, routing_key, properties, headers, body, correlation_id,
        first_died_at, last_died_at, customer_keys)
    select gen_random_uuid(), 'org-' || n % 20, 'main',
        (array['not-json', 'wrong-type', 'unknown-org', 'processing-failed', 'duplicate-key'])[1 + kind % 5],
        (array['link', 'update', 'delink'])[1 + kind % 3],
        '/linkCustomers/' || n % 50 || '/customer: kind ' || chr(97 + kind % 26) || chr(97 + kind / 26)
            || ', line ' || n, md5(kind::text),
        case when n <= 10000 then 'open' when n % 10 < 7 then 'applied'
            when n % 10 < 8 then 'failed_again' else 'discarded' end,
        'command-' || n, 'partner-program.commands', 'org.link', '{}', '{}',
        convert_to('{\"linkCustomers\":[{\"customer\":{\"id\":' || n || '},\"linkToPartnerPrograms\":['
            || repeat('{\"partnerProgramName\":\"Plain\"},', 8) || '{}]}]}', 'UTF8'),
        case when n % 3 = 0 then 'correlation-' || n / 10 end,
        now() - n * interval '3 seconds', now() - n * interval '3 seconds',
        array[n % 300000, 10000000 + n]
    from (select n, (n * 7919::bigint % 97 % 60)::int as kind from generate_series(1, LETTERS) n) letters;";
/// What autovacuum would have done meanwhile.
const SETTLE: [&str; 2] = ["vacuum analyze dead_letter", "vacuum analyze dead_letter_group"];

#[tokio::main]
async fn main() {
    let url = std::env::var("DATABASE_URL").expect("DATABASE_URL");
    let letters: u32 = std::env::var(LETTERS_VARIABLE)
        .map_or(1_000_000, |given| given.parse().expect("a number of letters"));
    let mut connection =
        connection::connect_to_search(&url, "letters").await.expect("Postgres answers");
    migrate::run(&mut connection).await.expect("the schema is migrated");
    let fill =
        format!("set statement_timeout = 0; {}", FILL.replace("LETTERS", &letters.to_string()));
    sqlx::raw_sql(AssertSqlSafe(fill)).execute(&mut connection).await.expect("letters are made");
    for vacuum in SETTLE {
        sqlx::raw_sql(vacuum).execute(&mut connection).await.expect("it is vacuumed");
    }
    println!("{letters} letters\n");
    println!("| filter | list, ms | count, ms | groups, ms |");
    println!("|---|---|---|---|");
    for (name, filter) in filters() {
        let mut took: [Vec<Duration>; 3] = Default::default();
        for _ in 0..CALLS {
            for (place, duration) in call(&mut connection, &filter).await.into_iter().enumerate() {
                took[place].push(duration);
            }
        }
        let [list, count, groups] = took.map(median_ms);
        println!("| {name} | {list:.1} | {count:.1} | {groups:.1} |");
    }
    let begun = Instant::now();
    let before = claims::now(&mut connection).await.expect("it is asked");
    let open = Filter { state: Some(State::Open), ..Filter::default() };
    let page = claims::page(&mut connection, &open, before, None, 100).await.expect("a page");
    println!("\nthe first {} letters to replay: {:?}", page.len(), begun.elapsed());
    let newest = list::list(&mut connection, &Filter::default(), None, 1).await.expect("a list");
    pages(url, newest.first().expect("a letter").id.to_string()).await;
}

/// How long the console takes for its pages.
async fn pages(url: String, letter: String) {
    let settings = BTreeMap::from([("PARTNER_PROGRAM_DATABASE_URL".to_owned(), url)]);
    let config = Config::load(None, settings).expect("the settings are right");
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let address = listener.local_addr().expect("it is bound");
    let stop = CancellationToken::new();
    let stopped = stop.clone();
    let serving = tokio::spawn(async move {
        console::serve(listener, &config, LaneCounters::default(), stopped).await
    });
    let asking = tokio::task::spawn_blocking(move || {
        println!("\n| page | ms | KiB |");
        println!("|---|---|---|");
        for (name, path) in [
            ("all letters", "/dead-letters?state=any".to_owned()),
            ("the open ones of an org", "/dead-letters?state=open&org=org-3".to_owned()),
            (
                "a group",
                "/dead-letters?state=any&group=c81e728d9d4c2f636f067f89cc14862c".to_owned(),
            ),
            ("a text", "/dead-letters?state=any&text=kind+cb".to_owned()),
            ("a text with a number", "/dead-letters?state=any&text=kind+cb%2C+line+77".to_owned()),
            ("a letter", format!("/dead-letters/{letter}")),
            ("the audit", "/audit".to_owned()),
            ("the lanes", "/lanes".to_owned()),
        ] {
            let page = || {
                let begun = Instant::now();
                let answer = ureq::get(format!("http://{address}{path}")).call();
                let text = answer.expect("a page").body_mut().read_to_string().expect("text");
                (begun.elapsed(), text.len())
            };
            let (took, sizes): (Vec<Duration>, Vec<usize>) = (0..CALLS).map(|_| page()).unzip();
            println!("| {name} | {:.1} | {} |", median_ms(took), sizes[0] / 1_024);
        }
    });
    asking.await.expect("every page is answered");
    stop.cancel();
    serving.await.expect("it ends").expect("it served");
}

fn filters() -> Vec<(&'static str, Filter)> {
    let text = |text: &str| Some(text.to_owned());
    let days_ago = |days| Some(Utc::now() - TimeDelta::days(days));
    vec![
        ("none", Filter::default()),
        ("open", Filter { state: Some(State::Open), ..Filter::default() }),
        (
            "open, of an org",
            Filter { state: Some(State::Open), org: text("org-3"), ..Filter::default() },
        ),
        (
            "open, of a reason",
            Filter { state: Some(State::Open), reason: text("not-json"), ..Filter::default() },
        ),
        ("a group", Filter::of_group("c81e728d9d4c2f636f067f89cc14862c")),
        (
            "an operation and a reason",
            Filter { operation: text("link"), reason: text("not-json"), ..Filter::default() },
        ),
        (
            "one day, of an org",
            Filter {
                since: days_ago(3),
                until: days_ago(2),
                org: text("org-7"),
                ..Filter::default()
            },
        ),
        ("a text", Filter { text: text("kind cb"), ..Filter::default() }),
        ("a text with a number", Filter { text: text("kind cb, line 77"), ..Filter::default() }),
        ("a text that nowhere stands", Filter { text: text("nowhere"), ..Filter::default() }),
        ("a command id", Filter { command_id: text("command-777777"), ..Filter::default() }),
        (
            "a correlation id",
            Filter { correlation_id: text("correlation-777"), ..Filter::default() },
        ),
        ("a customer", Filter { customer_keys: vec![777], ..Filter::default() }),
        ("another lane", Filter { lane: text("elsewhere"), ..Filter::default() }),
    ]
}

async fn call(connection: &mut Connection, filter: &Filter) -> [Duration; 3] {
    let begun = Instant::now();
    list::list(connection, filter, None, PAGE).await.expect("a list");
    let listed = Instant::now();
    list::count(connection, filter).await.expect("a count");
    let counted = Instant::now();
    groups::groups(connection, filter, PAGE).await.expect("groups");
    [listed - begun, counted - listed, counted.elapsed()]
}

fn median_ms(mut durations: Vec<Duration>) -> f64 {
    durations.sort();
    durations[durations.len() / 2].as_secs_f64() * 1_000.0
}
