//! Filters: what the list, the count and the groups say is what a look at every letter says.

use std::cmp::Reverse;

use chrono::{TimeDelta, Utc};
use partner_program_worker::domain::dead_letter::State;
use partner_program_worker::store::connection::connect_to_search;
use partner_program_worker::store::dead_letters::filter::Filter;
use partner_program_worker::store::dead_letters::groups::groups;
use partner_program_worker::store::dead_letters::list::{Summary, count, list};

use crate::harness::database::TestDatabase;
use crate::harness::servers::Place;

/// Letters of many kinds, such that each filter means some of them and not all.
const LETTERS: &str = "
    insert into dead_letter (id, org_code, lane, reason, operation, detail, fingerprint, state,
        command_id, correlation_id, exchange, routing_key, properties, headers, body,
        first_died_at, last_died_at, customer_keys)
    select gen_random_uuid(), case when n % 7 > 0 then 'org-' || n % 3 end, 'lane-' || n % 2,
        'reason-' || n % 5, (array['link', 'update'])[1 + n % 2],
        'Line ' || n || ' of kind ' || chr(97 + n % 5), 'print-' || n % 10,
        (array['open', 'applied', 'discarded'])[1 + n % 3], 'command-' || n % 50, 'c-' || n % 20,
        'e', 'k', '{}', '{}', '', now() - n * interval '1 minute', now() - n * interval '1 minute',
        array[n % 30, 1000 + n]
    from generate_series(1, 400) n;
    update dead_letter set state = 'discarded' where state = 'open' and sequence % 4 = 0;
    delete from dead_letter where sequence % 11 = 0;";

/// What a filter means, letter by letter.
type Means = fn(&Summary) -> bool;

#[tokio::test]
async fn every_filter_means_the_same_to_lists_counts_and_groups() {
    let place = Place::new("filters").await;
    TestDatabase::of(&place).await.execute(LETTERS).await;
    let mut connection =
        connect_to_search(&place.database_url, "tests").await.expect("it connects");
    let all = list(&mut connection, &Filter::default(), None, 1_000).await.expect("a list");
    assert!(
        all.is_sorted_by_key(|letter| Reverse((letter.last_died_at, letter.sequence))),
        "newest first"
    );
    // Between two deaths.
    let hour = Utc::now() - TimeDelta::seconds(3_630);
    let text = |text: &str| Some(text.to_owned());
    let cases: Vec<(Filter, Means)> = vec![
        (Filter::of_ids(all.iter().take(3).map(|letter| letter.id).collect()), |_| true),
        (Filter { org: text("org-1"), ..Filter::default() }, |l| l.org.as_deref() == Some("org-1")),
        (Filter { operation: text("link"), ..Filter::default() }, |l| l.operation == "link"),
        (Filter { reason: text("reason-3"), ..Filter::default() }, |l| l.reason == "reason-3"),
        (Filter::of_group("print-4"), |l| l.fingerprint == "print-4"),
        (Filter { lane: text("lane-1"), ..Filter::default() }, |l| {
            l.lane.as_deref() == Some("lane-1")
        }),
        (Filter { state: Some(State::Open), ..Filter::default() }, |l| l.state == State::Open),
        (Filter { since: Some(hour), ..Filter::default() }, |l| {
            l.last_died_at >= Utc::now() - TimeDelta::seconds(3_630)
        }),
        (Filter { until: Some(hour), ..Filter::default() }, |l| {
            l.last_died_at < Utc::now() - TimeDelta::seconds(3_630)
        }),
        (Filter { text: text("OF KIND C"), ..Filter::default() }, |l| {
            l.detail.contains("of kind c")
        }),
        (Filter { text: text("line 12"), ..Filter::default() }, |l| l.detail.contains("Line 12")),
        (Filter { text: text("nowhere"), ..Filter::default() }, |_| false),
        (Filter { command_id: text("command-7"), ..Filter::default() }, |l| {
            l.command_id.as_deref() == Some("command-7")
        }),
        (Filter { correlation_id: text("c-7"), ..Filter::default() }, |l| {
            l.correlation_id.as_deref() == Some("c-7")
        }),
        (Filter { customer_keys: vec![1_005, 1_006, 9_999], ..Filter::default() }, |l| {
            ["Line 5 of kind a", "Line 6 of kind b"].contains(&l.detail.as_str())
        }),
        (
            Filter {
                reason: text("reason-3"),
                operation: text("update"),
                text: text("kind d"),
                state: Some(State::Discarded),
                org: text("org-2"),
                ..Filter::default()
            },
            |l| {
                l.reason == "reason-3"
                    && l.operation == "update"
                    && l.state == State::Discarded
                    && l.org.as_deref() == Some("org-2")
            },
        ),
        (
            Filter { reason: text("reason-3"), state: Some(State::Applied), ..Filter::default() },
            |l| l.reason == "reason-3" && l.state == State::Applied,
        ),
    ];
    for (filter, means) in cases {
        let listed = list(&mut connection, &filter, None, 1_000).await.expect("a list");
        let expected: Vec<&Summary> = if filter.ids.is_empty() {
            all.iter().filter(|letter| means(letter)).collect()
        } else {
            all.iter().take(3).collect()
        };
        assert_eq!(listed.iter().collect::<Vec<_>>(), expected, "{filter:?}");
        assert!(expected.len() < all.len(), "{filter:?} tells letters apart");
        let counted = count(&mut connection, &filter).await.expect("a count");
        assert_eq!(usize::try_from(counted.letters).expect("few"), expected.len(), "{filter:?}");
        let groups = groups(&mut connection, &filter, 1_000).await.expect("groups");
        let open: i64 = groups.iter().map(|group| group.letters.open).sum();
        let wanted = expected.iter().filter(|letter| letter.state == State::Open).count();
        if filter.state.is_none_or(|state| state == State::Open) {
            assert_eq!(usize::try_from(open).expect("few"), wanted, "{filter:?}");
        }
        let mut paged = Vec::new();
        let mut after = None;
        loop {
            let page = list(&mut connection, &filter, after, 7).await.expect("a page");
            let Some(last) = page.last() else { break };
            after = Some(last.cursor());
            paged.extend(page);
        }
        assert_eq!(paged, listed, "page by page: {filter:?}");
    }
}
