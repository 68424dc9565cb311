use std::collections::BTreeMap;
use std::io;

use proptest::prelude::{any, prop_assert, proptest};

use crate::config::lane::AfterDeadLetter;
use crate::config::{Config, LogFormat};

fn read(file: &str, env: &[(&str, &str)]) -> Result<Config, String> {
    let env: BTreeMap<String, String> =
        env.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
    Config::read(Some(("test.toml", file)), &env, &|path| match path.to_str() {
        Some("/run/secrets/db") => Ok("postgres://u:file-secret@db/app\n".to_owned()),
        _ => Err(io::ErrorKind::NotFound.into()),
    })
    .map_err(|error| error.to_string())
}

#[test]
fn nothing_set_gives_the_defaults() {
    let config = read("", &[]).unwrap();
    assert_eq!(
        (config.batch_size, config.batch_items, config.linger_ms, config.prefetch),
        (435, 4_096, 0, 1_737)
    );
    assert_eq!(config.memory_budget_bytes, 2 << 30);
    assert_eq!((config.attempts_limit, config.retention_days), (5, 30));
    assert_eq!(config.lanes.iter().map(|lane| lane.name.as_str()).collect::<Vec<_>>(), ["main"]);
    assert!(config.may_publish(None, "acme"));
}

#[test]
fn the_environment_wins_over_the_file() {
    let config = read(
        "batch_size = 100\nlog = \"debug\"",
        &[("PARTNER_PROGRAM_BATCH_SIZE", "150"), ("PARTNER_PROGRAM_LOG_FORMAT", "json")],
    )
    .unwrap();
    assert_eq!((config.batch_size, config.log.as_str()), (150, "debug"));
    assert_eq!(config.log_format, LogFormat::Json);
}

#[test]
fn the_own_variable_wins_over_the_customary_one() {
    let config = read(
        "",
        &[
            ("DATABASE_URL", "postgres://u:p@customary/app"),
            ("PARTNER_PROGRAM_DATABASE_URL", "postgres://u:p@own/app"),
        ],
    )
    .unwrap();
    assert_eq!(config.database_url.unwrap().to_string(), "postgres://u@own/app");
}

#[test]
fn a_secret_comes_from_a_file_and_is_never_shown() {
    let config = read("", &[("DATABASE_URL_FILE", "/run/secrets/db")]).unwrap();
    assert_eq!(config.database_url().unwrap(), "postgres://u:file-secret@db/app");
    assert!(!format!("{config:?}").contains("file-secret"));
}

#[test]
fn all_hosts_of_an_address_are_shown_and_nothing_secret() {
    for (given, shown) in [
        (
            "postgres://u:hidden@one:5432,[::1]:5433,three/app?password=hidden",
            "postgres://u@one:5432,[::1]:5433,three/app",
        ),
        ("postgres://one,two/app?user=u&password=hidden", "postgres://one,two/app"),
    ] {
        let config = read("", &[("DATABASE_URL", given)]).unwrap();
        assert_eq!(config.database_url().unwrap(), given);
        assert_eq!(config.database_url.unwrap().to_string(), shown);
    }
}

#[test]
fn a_lane_skips_dead_letters_unless_it_holds_their_customers() {
    let main = "[[lane]]\nname = \"main\"\n";
    let holds = format!("{main}after_dead_letter = \"hold-customer\"\n");
    for (file, expected) in [
        (String::new(), AfterDeadLetter::Skip),
        (format!("{main}after_dead_letter = \"skip\""), AfterDeadLetter::Skip),
        (holds.clone(), AfterDeadLetter::HoldCustomer { parked_max: 10_000 }),
        (format!("{holds}parked_max = 7"), AfterDeadLetter::HoldCustomer { parked_max: 7 }),
    ] {
        assert_eq!(read(&file, &[]).unwrap().lanes[0].after_dead_letter, expected);
    }
}

#[test]
fn lanes_read_alike_from_file_text_and_json() {
    let file = "[[lane]]\nname = \"acme\"\nbindings = [\"acme.*\", \"acme.*.7\"]";
    let from_file = read(file, &[]).unwrap();
    let from_text = read("", &[("PARTNER_PROGRAM_LANES", "acme=acme.*, acme.*.7;")]).unwrap();
    let json = r#"[{"name":"acme","bindings":["acme.*","acme.*.7"]}]"#;
    let from_json = read("", &[("PARTNER_PROGRAM_LANES", json)]).unwrap();
    assert_eq!(from_file, from_text);
    assert_eq!(from_file, from_json);
    assert_eq!(from_file.lanes.len(), 2);
}

#[test]
fn the_brokers_name_for_this_program_is_that_of_its_address() {
    for (url, user) in [
        ("amqp://svc%40acme:secret@one:5672/", Some("svc@acme")),
        ("amqp://one:5672/", Some("guest")),
        ("amqps://one:5671/?auth_mechanism=external", None),
    ] {
        let config = read(&format!("amqp_url = \"{url}\""), &[]).unwrap();
        assert_eq!(config.amqp_user().as_deref(), user, "{url}");
        assert_eq!(config.letter_user(), None, "it does not matter who publishes");
    }
}

#[test]
fn publishers_bind_users_to_orgs() {
    let config = read("[publishers]\nacme-app = [\"acme\"]", &[]).unwrap();
    assert!(config.may_publish(Some("acme-app"), "acme"));
    assert!(!config.may_publish(Some("acme-app"), "globex"));
    assert!(!config.may_publish(None, "acme"));
}

#[test]
fn a_bad_setting_is_named_with_its_remedy() {
    let cases: &[(&str, &[(&str, &str)])] = &[
        ("batch_sise = 3", &[]),
        ("batch_size = \"many\"", &[]),
        ("batch_size = 0", &[]),
        ("batch_size = 100\nprefetch = 50", &[]),
        ("archive_dead_letters = \"perhaps\"", &[]),
        ("log_format = \"xml\"", &[]),
        ("worker_id = \"\"", &[]),
        ("worker_id = 7", &[]),
        ("database_url = [\"hidden\"]", &[]),
        ("database_url = \"mysql://u:hidden@db/app\"", &[]),
        ("database_url = \"postgres://u:hidden@db/app", &[]),
        ("database_url = \"postgres://u:hidden@one:5432,two:99999/app\"", &[]),
        ("amqp_url = \"amqp://u:hidden@one,,three/vhost\"", &[]),
        ("lane = \"a\"", &[]),
        ("[[lane]]\nbindings = []", &[]),
        ("[[lane]]\nname = \"Acme\"", &[]),
        ("[[lane]]\nname = \"a\"\nbinding = []", &[]),
        ("[[lane]]\nname = \"a\"\nafter_dead_letter = \"hold\"", &[]),
        ("[[lane]]\nname = \"a\"\nparked_max = 0", &[]),
        ("[[lane]]\nname = \"a\"\nparked_max = 7", &[]),
        ("[[lane]]\nname = \"a\"\nbindings = [\"#\"]", &[]),
        ("[[lane]]\nname = \"a\"\nbindings = [\"a..b\"]", &[]),
        ("[[lane]]\nname = \"a\"\n[[lane]]\nname = \"a\"", &[]),
        ("[[lane]]\nname = \"main\"\nbindings = [\"a.*\"]", &[]),
        ("", &[("PARTNER_PROGRAM_LANES", "a=acme.*;b=beta.*,acme.*")]),
        ("", &[("PARTNER_PROGRAM_PREFECH", "3")]),
        ("", &[("PARTNER_PROGRAM_LINGER_MS", "soon")]),
        ("", &[("PARTNER_PROGRAM_LANES", "acme")]),
        ("", &[("PARTNER_PROGRAM_LANES", "[{\"name\": \"a\", \"priority\": 256}]")]),
        ("", &[("PARTNER_PROGRAM_PUBLISHERS", "[\"acme\"]")]),
        ("", &[("AMQP_URL_FILE", "/nowhere")]),
        ("", &[("AMQP_URL", "amqp://x"), ("AMQP_URL_FILE", "/nowhere")]),
    ];
    insta::assert_snapshot!("bad_settings", refusals(cases));
}

#[test]
fn a_bad_setting_of_the_console_is_named_with_its_remedy() {
    let token = |from: &str, to: &str| format!("[[console.token]]\n{}", TOKEN.replace(from, to));
    let two_names = format!("{}\n{}", token("", ""), token("ana", "bo"));
    let proxy = "[console.proxy]\nheader = \"X-User\"\n";
    let cases: &[(&str, &[(&str, &str)])] = &[
        ("console = \"hidden\"", &[]),
        ("[console]\ntoken = \"hidden\"", &[]),
        ("[console]\ntoken = [\"hidden\"]", &[]),
        ("", &[("PARTNER_PROGRAM_CONSOLE", "hidden")]),
        ("", &[("PARTNER_PROGRAM_CONSOLE", "{\"token\": hidden}")]),
        ("", &[("PARTNER_PROGRAM_CONSOLE", "{\"token\": [{\"name\": \"ana\"}]}")]),
        (&token("operator", "root"), &[]),
        (&token("0001", "hidden"), &[]),
        (&token("name", "nam"), &[]),
        (&token("ana", ""), &[]),
        (&two_names, &[]),
        ("[console]\npublic_uri = \"x\"", &[]),
        ("[console]\npublic_url = \"ops.example.com\"", &[]),
        ("[console.proxy]\nheader = \"X User\"\nfrom = [\"10.0.0.5\"]", &[]),
        (proxy, &[]),
        (&format!("{proxy}from = []"), &[]),
        (&format!("{proxy}from = [\"all\"]"), &[]),
        (&format!("{proxy}from = \"10.0.0.5\""), &[]),
        ("ops_listen = \"8080\"", &[]),
        ("ops_listen = \"0.0.0.0:8080\"", &[]),
    ];
    insta::assert_snapshot!("bad_console_settings", refusals(cases));
}

/// What each file and environment is refused with, line by line.
fn refusals(cases: &[(&str, &[(&str, &str)])]) -> String {
    let texts: Vec<String> =
        cases.iter().map(|(file, env)| read(file, env).expect_err("a bad setting")).collect();
    assert!(!texts.iter().any(|text| text.contains("hidden")), "a secret is shown: {texts:#?}");
    texts.join("\n")
}

#[test]
fn the_prefetch_follows_from_the_budget_and_the_lanes() {
    let prefetch = |file: &str| read(file, &[]).unwrap().prefetch;
    let lanes = "[[lane]]\nname = \"a\"\n[[lane]]\nname = \"b\"";
    assert_eq!(prefetch("memory_budget_bytes = 4294967296"), 1_999);
    assert_eq!(prefetch("batch_size = 16\nmemory_budget_bytes = 4294967296"), 64);
    assert!(prefetch(lanes) < prefetch("") / 3, "{}", prefetch(lanes));
    assert_eq!(prefetch("memory_budget_bytes = 134217728"), 16, "the least");
    assert_eq!(read("memory_budget_bytes = 134217728", &[]).unwrap().batch_size, 4);
    assert_eq!(read("memory_budget_bytes = 4294967296", &[]).unwrap().batch_size, 512);
    assert_eq!(prefetch("prefetch = 1999"), 1_999, "what is set is taken");
    let by_each = |one: &str| prefetch(&format!("{one}\n{lanes}"));
    for own in ["worker_id = \"w\"", "archive_dead_letters = false", "connections_per_lane = 4"] {
        assert_eq!(by_each(own), prefetch(lanes), "alike whatever else differs: {own}");
    }
}

#[test]
fn variables_of_tests_and_of_others_are_left_alone() {
    read("", &[("PARTNER_PROGRAM_TEST_SERVERS", "1"), ("PARTNER", "x"), ("PATH", "/bin")]).unwrap();
}

proptest! {
    #[test]
    fn a_batch_is_taken_or_refused_and_bounds_the_prefetch(batch in any::<i32>()) {
        if let Ok(config) = read(&format!("batch_size = {batch}"), &[]) {
            prop_assert!(config.batch_size <= usize::try_from(batch).unwrap());
            prop_assert!(config.batch_size <= usize::from(config.prefetch));
            prop_assert!(config.prefetch <= 1_999);
        } else {
            prop_assert!(!(1..=1_999).contains(&batch));
        }
    }
}

const TOKEN: &str = "name = \"ana\"\nrole = \"operator\"\nsha256 = \"000102030405060708090a0b0c0d0e0f101112131415161718191a1b1c1d1e1f\"";

#[test]
fn the_console_reads_alike_from_file_and_json() {
    let file = format!(
        "ops_listen = \"10.0.0.1:80\"\n[[console.token]]\n{TOKEN}\n[console.proxy]\n\
         header = \"X-User\"\nfrom = [\"10.0.0.5\"]\nroles = {{ bo = \"admin\" }}"
    );
    let from_file = read(&file, &[]).unwrap();
    let json = r#"{"token":[{"name":"ana","role":"operator","sha256":"000102030405060708090a0b0c0d0e0f101112131415161718191a1b1c1d1e1f"}],
        "proxy":{"header":"X-User","from":["10.0.0.5"],"roles":{"bo":"admin"}}}"#;
    let from_json = read("ops_listen = \"10.0.0.1:80\"", &[("PARTNER_PROGRAM_CONSOLE", json)]);
    assert_eq!(from_file.console, from_json.unwrap().console);
    assert_eq!(from_file.console.tokens[0].sha256[31], 31);
    assert_eq!(from_file.console.proxy.unwrap().role, None, "others are not let in");
}

#[test]
fn the_console_is_for_its_own_machine_unless_users_have_to_log_in() {
    assert_eq!(read("", &[]).unwrap().ops_listen, "127.0.0.1:8080".parse().ok());
    for off in ["ops_listen = \"\"", "ops_listen = \"off\""] {
        assert_eq!(read(off, &[]).unwrap().ops_listen, None);
    }
    assert!(read("ops_listen = \"[::1]:9\"", &[]).is_ok());
    for public in ["0.0.0.0:8080", "10.0.0.1:80", "[::]:80"] {
        let refused = read(&format!("ops_listen = \"{public}\""), &[]).unwrap_err();
        assert!(refused.contains("ops_listen") && refused.contains("console.token"), "{refused}");
    }
}
