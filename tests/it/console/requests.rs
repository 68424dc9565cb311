//! Requests that no browser would send, or that one is made to send.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::time::Duration;

use partner_program_worker::console;
use partner_program_worker::worker::counters::LaneCounters;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use crate::console::stage::{ADMIN, OPERATOR, Stage, VIEWER, settings};
use crate::harness::eventually;
use crate::harness::servers::Place;
use crate::harness::worker::{Process, Settings};

const SOON: Duration = Duration::from_secs(20);

struct Answer {
    status: u16,
    headers: BTreeMap<String, String>,
    body: String,
}

/// Sends a request as it is; redirections are not followed.
async fn send(method: &str, url: String, headers: &[(&str, &str)], body: &str) -> Answer {
    let mut request = ureq::http::Request::builder().method(method).uri(url);
    for (name, value) in headers {
        request = request.header(*name, *value);
    }
    if method == "POST" {
        request = request.header("content-type", "application/x-www-form-urlencoded");
    }
    let request = request.body(body.to_owned()).expect("a request");
    let answering = tokio::task::spawn_blocking(move || {
        let agent = ureq::Agent::config_builder()
            .http_status_as_error(false)
            .max_redirects(0)
            .build()
            .new_agent();
        let mut response = agent.run(request).expect("an answer");
        let headers = response
            .headers()
            .iter()
            .map(|(name, value)| (name.to_string(), value.to_str().unwrap_or_default().to_owned()));
        let headers = headers.collect();
        let status = response.status().as_u16();
        Answer { status, headers, body: response.body_mut().read_to_string().unwrap_or_default() }
    });
    answering.await.expect("the request ends")
}

/// A console without a worker.
struct Alone {
    address: SocketAddr,
    stop: CancellationToken,
    serving: JoinHandle<Result<(), console::Error>>,
}

impl Alone {
    async fn serve(settings: &Settings) -> Self {
        let config = settings.config();
        let listener = console::listen(&config).await.expect("a port is free").expect("it is on");
        let address = listener.local_addr().expect("an address");
        let stop = CancellationToken::new();
        let stopped = stop.clone();
        let serving = tokio::spawn(async move {
            console::serve(listener, &config, LaneCounters::default(), stopped).await
        });
        Self { address, stop, serving }
    }

    fn url(&self, path: &str) -> String {
        format!("http://{}{path}", self.address)
    }

    async fn stop(self) {
        self.stop.cancel();
        self.serving.await.expect("it does not panic").expect("it ends well");
    }
}

fn bearer(token: &str) -> (&'static str, String) {
    ("authorization", format!("Bearer {token}"))
}

#[tokio::test(flavor = "multi_thread")]
async fn roles_hold_whatever_the_pages_offer() {
    let mut stage = Stage::with_letters("console_requests", 1).await;
    let id: uuid::Uuid =
        sqlx::query_scalar("select id from dead_letter where reason = 'not-an-array'")
            .fetch_one(&mut stage.rows)
            .await
            .unwrap();
    let act = format!(r#"action=discard&reason=x&filter={{"ids":"{{{id}}}"}}"#);
    let export = format!(r#"action=export&reason=x&filter={{"ids":"{{{id}}}"}}"#);
    let plan = format!("action=discard&id={id}");
    for (path, body, needs) in [
        ("/dead-letters/plan".to_owned(), plan.as_str(), OPERATOR),
        ("/dead-letters/act".to_owned(), act.as_str(), OPERATOR),
        ("/dead-letters/export".to_owned(), export.as_str(), ADMIN),
        (format!("/dead-letters/{id}/unmask"), "reason=x", ADMIN),
        (format!("/dead-letters/{id}/edit"), "routing_key=acme.link&body=x", ADMIN),
    ] {
        for token in [VIEWER, OPERATOR, ADMIN] {
            let allowed = token == needs || token == ADMIN;
            if !allowed {
                let (name, value) = bearer(token);
                let url = format!("{}{path}", stage.url);
                let answer = send("POST", url, &[(name, &value)], body).await;
                assert_eq!(answer.status, 403, "{path} {token}");
            }
        }
        let answer = send("POST", format!("{}{path}", stage.url), &[], body).await;
        assert_eq!(answer.status, 303, "{path}: nobody logs in");
        assert!(answer.headers["location"].starts_with("/login"), "{path}");
    }
    assert_eq!(stage.count("select count(*) from dead_letter_action").await, 0);
    let (name, value) = bearer(ADMIN);
    let url = format!("{}/dead-letters/export", stage.url);
    let exported = send("POST", url, &[(name, &value)], &export).await;
    assert_eq!(exported.status, 200, "{}", exported.body);
    let line: serde_json::Value = serde_json::from_str(&exported.body).unwrap();
    assert_eq!(line["id"], id.to_string());
    // What can't be read is refused, and what a filter of another version means is not guessed.
    for body in
        [r#"action=discard&reason=x&filter={"colour":"red"}"#, "action=burn&reason=x", "", "%ff"]
    {
        let url = format!("{}/dead-letters/act", stage.url);
        let answer = send("POST", url, &[(name, &value)], body).await;
        assert_eq!(answer.status, 422, "{body}");
    }
    stage.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn requests_of_other_sites_are_refused() {
    let stage = Stage::new("console_csrf").await;
    let given = format!("token={ADMIN}");
    let login = send("POST", format!("{}/login", stage.url), &[], &given).await;
    let cookie = login.headers["set-cookie"].clone();
    for mark in ["HttpOnly", "SameSite=Strict", "Path=/"] {
        assert!(cookie.contains(mark), "{cookie}");
    }
    let cookie = cookie.split(';').next().unwrap();
    for origin in [
        ("sec-fetch-site", "cross-site"),
        ("sec-fetch-site", "same-site"),
        ("origin", "https://evil.example"),
        ("origin", "null"),
    ] {
        for path in ["/dead-letters/act", "/logout", "/login"] {
            let url = format!("{}{path}", stage.url);
            let answer = send("POST", url, &[("cookie", cookie), origin], "action=discard").await;
            assert_eq!(answer.status, 403, "{path} {origin:?}");
        }
    }
    let own = [("cookie", cookie), ("sec-fetch-site", "same-origin")];
    let answer =
        send("POST", format!("{}/dead-letters/act", stage.url), &own, "action=discard").await;
    assert_eq!(answer.status, 422, "of its own it is read");
    stage.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn every_answer_is_strict_about_what_it_loads_and_kept_nowhere() {
    let stage = Stage::new("console_headers").await;
    for path in
        ["/login", "/dead-letters", "/assets/style.css", "/nowhere", "/health/live", "/metrics"]
    {
        let answer = send("GET", format!("{}{path}", stage.url), &[], "").await;
        let policy = &answer.headers["content-security-policy"];
        assert!(policy.starts_with("default-src 'none'"), "{path}: {policy}");
        assert!(!policy.contains("unsafe"), "{path}: {policy}");
        assert_eq!(answer.headers["x-content-type-options"], "nosniff", "{path}");
        if !path.starts_with("/assets") {
            assert_eq!(answer.headers["cache-control"], "no-store", "{path}");
        }
    }
    stage.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn guessing_is_slowed_down() {
    let stage = Stage::new("console_guess").await;
    let login = format!("{}/login", stage.url);
    let mut statuses = Vec::new();
    for _ in 0..11 {
        statuses.push(send("POST", login.clone(), &[], "token=pp_guess").await.status);
    }
    assert_eq!(statuses[..10], [401; 10]);
    assert_eq!(statuses[10], 429);
    // Not even the right one, and not by the other way either.
    let answer = send("POST", login, &[], &format!("token={ADMIN}")).await;
    assert_eq!(answer.status, 429);
    assert!(answer.headers["retry-after"].parse::<u64>().unwrap() <= 61);
    let (name, value) = bearer(ADMIN);
    let answer = send("GET", format!("{}/dead-letters", stage.url), &[(name, &value)], "").await;
    assert_eq!(answer.status, 429);
    stage.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn probes_and_metrics_need_no_token_and_name_nobody() {
    let stage = Stage::with_letters("console_probes", 1).await;
    eventually(SOON, "it is ready", async || {
        let answer = send("GET", format!("{}/health/ready", stage.url), &[], "").await;
        (answer.status == 200).then_some(())
    })
    .await;
    eventually(SOON, "it is counted", async || {
        let answer = send("GET", format!("{}/metrics", stage.url), &[], "").await;
        assert!(!answer.body.contains("globex") && !answer.body.contains("98765"));
        let counted = answer.body.contains("partner_program_dead_letters_open 3\n")
            && answer.body.contains("partner_program_lane_held{lane=\"main\"} 1\n")
            && answer.body.contains("worker_commands_rejected_total{lane=\"main\"} 3\n")
            && answer.body.contains("worker_commands_applied_total{lane=\"main\"} 0\n")
            && answer.body.contains("worker_answer_seconds_bucket{le=\"+Inf\",lane=\"main\"} 3\n")
            && answer.body.contains("worker_answer_seconds_count{lane=\"main\"} 3\n");
        counted.then_some(())
    })
    .await;
    stage.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_public_address_without_a_log_in_is_refused() {
    let place = Place::new("console_public").await;
    let open = Settings::of(&place).with("OPS_LISTEN", "0.0.0.0:0");
    let mut worker = Process::start(&open, "public");
    assert_eq!(worker.ended().await.code(), Some(2));
    let words = worker.words();
    assert!(words.contains("OPS_LISTEN") && words.contains("console.token"), "{words}");

    let guarded = settings(&place).with("OPS_LISTEN", "0.0.0.0:0").config();
    assert!(guarded.console.asks_who());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_proxy_is_believed_from_its_own_address_alone() {
    let place = Place::new("console_proxy").await;
    for (from, status) in [("127.0.0.1", 200), ("10.0.0.5", 303)] {
        let proxy = serde_json::json!({ "proxy": {
            "header": "X-Forwarded-User", "from": [from], "roles": { "bo": "viewer" },
        } });
        let settings =
            Settings::of(&place).with("OPS_LISTEN", "127.0.0.1:0").with("CONSOLE", proxy);
        let console = Alone::serve(&settings).await;
        let named = [("x-forwarded-user", "bo")];
        let answer = send("GET", console.url("/dead-letters"), &named, "").await;
        assert_eq!(answer.status, status, "{from}");
        // Whom the table does not have, and whoever is named twice, nobody knows.
        let stranger = [("x-forwarded-user", "eve")];
        assert_eq!(send("GET", console.url("/dead-letters"), &stranger, "").await.status, 303);
        let twice = [("x-forwarded-user", "eve"), ("x-forwarded-user", "bo")];
        assert_eq!(send("GET", console.url("/dead-letters"), &twice, "").await.status, 303);
        console.stop().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_worker_whose_port_is_taken_works_on_and_takes_it_over() {
    let place = Place::new("console_port").await;
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap();
    let settings = Settings::of(&place).with("OPS_LISTEN", address);
    settings.declare().await;
    let mut worker = Process::start(&settings, "second");
    eventually(SOON, "it says so, and works", async || {
        let words = worker.words();
        (words.contains("(ops_listen)") && words.contains("subscribed to")).then_some(())
    })
    .await;
    drop(taken);
    eventually(SOON, "it has taken the port over", async || {
        worker.words().contains(&format!("the console is at http://{address}")).then_some(())
    })
    .await;
    let live = send("GET", format!("http://{address}/health/live"), &[], "").await;
    assert!(live.status == 200 && live.body.contains("second"), "{}", live.body);
    worker.signal("TERM").await;
    assert!(worker.ended().await.success());
}

#[tokio::test(flavor = "multi_thread")]
async fn without_tokens_only_this_machine_by_its_own_names_is_answered() {
    let place = Place::new("console_local").await;
    let console = Alone::serve(&Settings::of(&place).with("OPS_LISTEN", "127.0.0.1:0")).await;
    assert_eq!(send("GET", console.url("/dead-letters"), &[], "").await.status, 200);
    let rebound = send("GET", console.url("/dead-letters"), &[("host", "evil.example")], "").await;
    assert_eq!(rebound.status, 421);
    console.stop().await;
}
