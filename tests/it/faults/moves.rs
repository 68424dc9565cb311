//! A pattern moves from lane to lane under load, and the move and the workers are killed at each step.

use std::os::unix::process::ExitStatusExt as _;

use serde_json::json;

use crate::faults::lanes::{OTHER, VIP};
use crate::faults::trial::{DEADLINE, LANE, SOME, Trial};
use crate::harness::worker::Settings;
use crate::harness::workload::ORG;

/// In the order in which a leg reaches them.
const STEPS: [&str; 6] = [
    "move-begun",
    "move-rerouted",
    "move-draining",
    "move-marked",
    "move-drained",
    "move-leg-finished",
];
const LANES: &str = "select distinct lane from command_log order by lane";

/// The settings of a worker whose only other lane is this one, with all of the org's commands.
fn settings(trial: &Trial, lane: &str) -> Settings {
    let lanes = if lane == LANE {
        json!([{ "name": LANE }, { "name": VIP }, { "name": OTHER }])
    } else {
        let of = |name: &str| if name == lane { vec![format!("{ORG}.#")] } else { Vec::new() };
        json!([
            { "name": LANE },
            { "name": VIP, "bindings": of(VIP) },
            { "name": OTHER, "bindings": of(OTHER) },
        ])
    };
    trial.settings.clone().with("LANES", lanes)
}

/// Runs the command; whether it has come to its end, or died where it was to.
async fn moves(settings: &Settings, arguments: &[&str], dies_at: &str) -> bool {
    let points =
        if dies_at.is_empty() { String::new() } else { format!("{dies_at}=return(abort)") };
    let settings = settings.clone().failing(&points);
    let all = [&["lanes", "move"], arguments].concat();
    let moving = settings.command(&all).output();
    let output = tokio::time::timeout(DEADLINE, moving).await.expect("it ends in time");
    let output = output.expect("the program starts");
    let words = String::from_utf8_lossy(&output.stderr);
    let has_died = output.status.signal().is_some();
    assert!(has_died || output.status.success(), "{arguments:?}, {dies_at}: {words}");
    !has_died
}

#[tokio::test]
async fn commands_that_move_between_lanes_under_load_keep_their_order() {
    let mut trial = Trial::moving("moves").await;
    // Every lane that is moved to is there from the beginning, without a pattern.
    let mut lane = LANE;
    let mut now = settings(&trial, lane);
    now.declare().await;
    trial.settings = now.clone();
    trial.queue_up().await;
    trial.start_worker("");
    trial.resume_load();
    trial.progress(SOME).await;
    // One leg, two legs, one leg back.
    for to in [VIP, OTHER, LANE] {
        let next = settings(&trial, to);
        // Two workers with the new configuration, beside those with the old one.
        trial.settings = next.clone();
        trial.start_worker("");
        trial.start_worker("");
        let reason = format!("from {lane} to {to}");
        let begin = [&format!("{ORG}.#"), "--to", to, "--reason", &reason];
        assert!(!moves(&next, &begin, STEPS[0]).await, "{reason}");
        let legs = if lane == LANE || to == LANE { 1 } else { 2 };
        for leg in 0..legs {
            for step in &STEPS[1..] {
                assert!(!moves(&next, &["--resume"], step).await, "{reason}, {step} of leg {leg}");
                if *step == "move-marked" {
                    // While the lane is drained: the worker that has it.
                    let active = trial.active().await;
                    trial.workers.remove(active).kill().await;
                    trial.start_worker("");
                }
            }
        }
        // The move is over: there is nothing to resume.
        let over = next.command(&["lanes", "move", "--resume"]).output().await.expect("it starts");
        assert_eq!(over.status.code(), Some(5), "{over:?}");
        trial.progress(SOME).await;
        assert!(trial.rows.texts(LANES).await.contains(&to.to_owned()), "{reason}");
        (lane, now) = (to, next);
    }
    drop(now);
    trial.assert_kept().await;
}
