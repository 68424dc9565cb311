//! What is measured, a table each.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use crate::bare;
use crate::commands;
use crate::contender::{Contender, Running, WORKER};
use crate::drain::{drain, drain_filled, fill};
use crate::flow::{Flow, Pace, flow};
use crate::harness::database::TestDatabase;
use crate::harness::eventually;
use crate::harness::worker::Process;
use crate::limits;
use crate::report::{Rounds, Series, Table, ratios};
use crate::stage::Stage;

/// So many commands are on their way where a contender shows the most that it can do.
const SATURATED: usize = 4000;
const SHARES: [(f64, &str); 3] = [(0.25, "25 %"), (0.5, "50 %"), (0.8, "80 %")];
/// Connections over which Postgres alone is measured.
const STORED_OVER: [usize; 3] = [1, 2, 4];
const QUANTILES: [f64; 3] = [0.5, 0.99, 0.999];
/// Before the worker is killed.
const UNDISTURBED: Duration = Duration::from_secs(3);
const DEADLINE: Duration = Duration::from_mins(1);

/// Who drains, and how many commands: some three seconds' worth.
fn contenders() -> Vec<(Contender, usize)> {
    let worker = |batch, connections| Contender::Worker { batch, connections };
    vec![
        (worker(512, 1), 40_000),
        (worker(512, 2), 40_000),
        (worker(512, 4), 40_000),
        (worker(1, 1), 1_500),
        (Contender::Bare { connections: 2 }, 40_000),
        (Contender::Bare { connections: 4 }, 40_000),
        (Contender::Peer("rust"), 10_000),
        (Contender::Peer("node"), 6_000),
        (Contender::Peer("faststream"), 4_000),
        (Contender::Peer("celery"), 4_000),
    ]
}

/// Commands that wait, of one org on one lane; every contender once a round.
pub(crate) async fn drains(stage: &mut Stage, rounds: usize) {
    let mut speeds = Rounds::new();
    let mut peaks = Rounds::new();
    let mut broker = (Series::default(), Series::default());
    let mut database_alone = BTreeMap::<usize, Series>::new();
    for round in 0..rounds {
        eprintln!("drain, round {} of {rounds}", round + 1);
        let limits = limits::broker(stage, 40_000).await;
        broker.0.add(limits.published);
        broker.1.add(limits.consumed);
        for connections in STORED_OVER {
            let run = format!("stored-{round}-{connections}");
            let messages = commands::singles(stage, &run, 20_000, 1);
            let (database, _) = stage.place_urls();
            let stored = bare::store(database, connections, messages).await;
            eprintln!("Postgres alone, {connections} connections: {stored:.0}/s");
            database_alone.entry(connections).or_default().add(stored);
        }
        let mut order = contenders();
        let count = order.len();
        order.rotate_left(round * 3 % count);
        for (contender, count) in order {
            let run = format!("drain-{round}-{}", contender.name());
            let messages = commands::singles(stage, &run, count, 1);
            let drained = drain(stage, &contender, &messages).await;
            speeds.entry(contender.name()).or_default().push(drained.per_second);
            peaks.entry(contender.name()).or_default().push(drained.peak_mib);
        }
    }
    let columns =
        ["contender", "commands/s", "the worker is faster by", "peak memory of its process, MiB"];
    let mut table = Table::new("A full lane is drained", &columns);
    let ours = &speeds[&WORKER.name()];
    for (contender, _) in contenders() {
        let name = contender.name();
        let speed: Series = speeds[&name].iter().copied().collect();
        let peak: Series = peaks[&name].iter().copied().collect();
        let peak = if peak.median().is_nan() { String::new() } else { peak.show(0) };
        table.row(&[name.clone(), speed.show(0), ratios(ours, &speeds[&name]).show(2), peak]);
    }
    table.print();
    let mut table = Table::new("The servers alone", &["what", "a second"]);
    table.row(&["RabbitMQ: publish with confirms, one channel".to_owned(), broker.0.show(0)]);
    table.row(&["RabbitMQ: consume with acks".to_owned(), broker.1.show(0)]);
    for (connections, stored) in database_alone {
        let what = format!("Postgres: the worker's statements, {connections} connections");
        table.row(&[what, stored.show(0)]);
    }
    table.print();
}

/// A steady load, at shares of what each contender bears.
pub(crate) async fn steady(stage: &mut Stage, rounds: usize) {
    let contenders = [
        (WORKER, 30_000),
        (Contender::Bare { connections: 2 }, 30_000),
        (Contender::Peer("rust"), 8_000),
        (Contender::Peer("node"), 6_000),
    ];
    let mut peers_half = Vec::new();
    let columns = ["contender", "load", "commands/s", "p50, ms", "p99, ms", "p99.9, ms"];
    let mut table = Table::new("A steady load: from the publish to the result", &columns);
    for (contender, count) in contenders {
        let mut most = Series::default();
        let mut at = vec![[(); 3].map(|()| Series::default()); SHARES.len()];
        for round in 0..rounds {
            eprintln!("steady, {}, round {} of {rounds}", contender.name(), round + 1);
            let run = format!("most-{round}-{}", contender.name());
            let full = under(stage, &contender, &run, count, Pace::Outstanding(SATURATED)).await;
            most.add(full.per_second());
            for ((share, _), series) in SHARES.iter().zip(&mut at) {
                let pace = Pace::PerSecond(full.per_second() * share);
                let run = format!("steady-{round}-{share}-{}", contender.name());
                let flow = under(stage, &contender, &run, count, pace).await;
                for (series, figure) in series.iter_mut().zip(flow.latencies(QUANTILES)) {
                    series.add(figure);
                }
            }
        }
        let name = contender.name();
        let blank = String::new;
        table.row(&[
            name.clone(),
            "all it bears".to_owned(),
            most.show(0),
            blank(),
            blank(),
            blank(),
        ]);
        for ((share, label), latencies) in SHARES.iter().zip(&at) {
            latency_row(&mut table, &name, label, most.median() * share, latencies);
        }
        if matches!(contender, Contender::Peer(_)) {
            peers_half.push((format!("50 % of {name}'s"), most.median() / 2.0, count));
        }
    }
    for (label, rate, count) in peers_half {
        let mut latencies = [(); 3].map(|()| Series::default());
        for round in 0..rounds {
            eprintln!("steady, worker at {label}, round {} of {rounds}", round + 1);
            let run = format!("peers-{round}-{rate:.0}");
            let flow = under(stage, &WORKER, &run, count, Pace::PerSecond(rate)).await;
            for (series, figure) in latencies.iter_mut().zip(flow.latencies(QUANTILES)) {
                series.add(figure);
            }
        }
        latency_row(&mut table, &WORKER.name(), &label, rate, &latencies);
    }
    table.print();
}

fn latency_row(table: &mut Table, name: &str, load: &str, rate: f64, latencies: &[Series; 3]) {
    let [p50, p99, p999] = latencies.each_ref().map(|series| series.show(1));
    table.row(&[name.to_owned(), load.to_owned(), format!("{rate:.0}"), p50, p99, p999]);
}

async fn under(
    stage: &mut Stage,
    contender: &Contender,
    run: &str,
    count: usize,
    pace: Pace,
) -> Flow {
    let messages = commands::singles(stage, run, count, 1);
    stage.reset().await;
    let running = contender.start(stage, "bench", count);
    let flow = flow(stage, messages, pace).await;
    running.stop().await;
    flow
}

/// Other commands, and other numbers of them.
pub(crate) async fn shapes(stage: &mut Stage, rounds: usize) {
    let mut table =
        Table::new("The worker, other loads", &["load", "a second", "peak memory, MiB"]);
    let mut add = |label: String, drained: &[(f64, f64)]| {
        let speed: Series = drained.iter().map(|(per_second, _)| *per_second).collect();
        let peak: Series = drained.iter().map(|(_, mib)| *mib).collect();
        table.row(&[label, speed.show(0), peak.show(0)]);
    };
    for orgs in [1, 10, 100] {
        let mut drained = Vec::new();
        for round in 0..rounds {
            let messages = commands::singles(stage, &format!("orgs-{orgs}-{round}"), 40_000, orgs);
            let one = drain(stage, &WORKER, &messages).await;
            drained.push((one.per_second, one.peak_mib));
        }
        add(format!("commands of {orgs} orgs, 40,000 queued"), &drained);
    }
    let mut drained = Vec::new();
    for round in 0..rounds {
        let messages = commands::singles(stage, &format!("cold-{round}"), 40_000, 1);
        fill(stage, &messages).await;
        stage.cool_down().await;
        let one = drain_filled(stage, &WORKER, messages.len()).await;
        drained.push((one.per_second, one.peak_mib));
    }
    add("commands of 1 org, Postgres just started".to_owned(), &drained);
    let mut drained = Vec::new();
    for round in 0..rounds {
        let messages = commands::batches(stage, &format!("batch-{round}"), 800);
        let one = drain(stage, &WORKER, &messages).await;
        let items = f64::from(u32::try_from(commands::BATCH).expect("few"));
        drained.push((one.per_second * items, one.peak_mib));
    }
    add(format!("items, in commands of {} customers", commands::BATCH), &drained);
    table.print();
}

/// How the cost of a command grows with what waits.
pub(crate) async fn growth(stage: &mut Stage, customers: &str, queued: &[usize]) {
    let columns = ["customers", "queued commands", "commands/s", "peak memory, MiB"];
    let mut table = Table::new(&format!("Growth: {customers} customers"), &columns);
    for count in queued {
        let messages = commands::singles(stage, &format!("growth-{customers}-{count}"), *count, 1);
        let one = drain(stage, &WORKER, &messages).await;
        let figures = [format!("{:.0}", one.per_second), format!("{:.0}", one.peak_mib)];
        let [speed, peak] = figures;
        table.row(&[customers.to_owned(), count.to_string(), speed, peak]);
    }
    table.print();
}

/// kill -9 of the worker that has the lane, at full load, while another stands by.
pub(crate) async fn recovery(stage: &mut Stage, rounds: usize) {
    let mut stalls = Series::default();
    for round in 0..rounds {
        eprintln!("recovery, round {} of {rounds}", round + 1);
        let messages = commands::singles(stage, &format!("recovery-{round}"), 100_000, 1);
        stage.reset().await;
        let mut rows = TestDatabase::of(&stage.place).await;
        let (one, other) = (format!("one-{round}"), format!("other-{round}"));
        let mut active = Process::start(&stage.settings, &one);
        let killing = async {
            eventually(DEADLINE, "the first worker has the lane", async || {
                (rows.holder("main").await? == one).then_some(())
            })
            .await;
            let standby = Process::start(&stage.settings, &other);
            tokio::time::sleep(UNDISTURBED).await;
            active.kill().await;
            (standby, Instant::now())
        };
        let flowing = flow(stage, messages, Pace::Outstanding(SATURATED));
        let ((standby, killed_at), flow) = tokio::join!(killing, flowing);
        let stall = flow.longest_stall(killed_at);
        eprintln!("{:.2} s", stall.as_secs_f64());
        stalls.add(stall.as_secs_f64());
        Running::Worker(standby).stop().await;
    }
    let mut table =
        Table::new("kill -9 of the worker at full load, another stands by", &["what", "s"]);
    table.row(&["longest time without a result".to_owned(), stalls.show(2)]);
    table.print();
}
