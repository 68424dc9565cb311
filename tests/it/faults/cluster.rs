//! Nodes of a RabbitMQ cluster that crash: the workers find another one.

use crate::faults::trial::{DEADLINE, LANE, SOME, Trial};
use crate::harness::eventually;
use crate::harness::servers::{OwnServers, Place};

/// Which node is lost, and in which order workers, upstream and subscriber know the nodes. The
/// lane's leader is on the first, where its queue was declared; the second is left alone, for the
/// cluster is looked at through it.
const LOSSES: [(&str, usize, [usize; 3]); 3] = [
    ("rabbitmq cluster loses the workers node and the lanes leader", 0, [0, 1, 2]),
    ("rabbitmq cluster loses the lanes leader", 0, [1, 2, 0]),
    ("rabbitmq cluster loses the workers node", 2, [2, 1, 0]),
];

async fn trial(name: &str, cluster: &OwnServers, nodes: [usize; 3]) -> Trial {
    let place = Place::on(&cluster.servers, name).await;
    let mut trial = Trial::at(name, place, None).await;
    let vhost = trial.place.vhost();
    let urls = cluster.node_urls();
    let hosts: Vec<&str> = nodes.iter().map(|node| urls[*node].as_str()).collect();
    let amqp_url = format!("amqp://guest:guest@{}/{vhost}?heartbeat=2", hosts.join(","));
    trial.place.amqp_url.clone_from(&amqp_url);
    trial.subscriber.move_to(&amqp_url);
    trial.settings = trial.settings.clone().with("AMQP_URL", amqp_url);
    trial
}

/// The worker's connections are where the trial wants them.
async fn assert_connected(trial: &Trial, port: &str) {
    let ends_there = format!("-> 127.0.0.1:{port}");
    eventually(DEADLINE, "the worker is connected to its first node", async || {
        let mut theirs = trial.place.broker.connections();
        theirs.retain(|(_, given)| given.starts_with("partner-program"));
        let there = theirs.iter().all(|(name, _)| name.ends_with(&ends_there));
        (!theirs.is_empty() && there).then_some(())
    })
    .await;
}

#[tokio::test]
async fn a_cluster_survives_its_nodes() {
    let cluster = OwnServers::start_cluster().await;
    for (name, lost, nodes) in LOSSES {
        let mut trial = trial(name, &cluster, nodes).await;
        trial.begin().await;
        let leader = trial.place.broker.leader(&format!("partner-program.commands.{LANE}"));
        assert!(leader.contains(&cluster.node_name(0)), "the leader is {leader}");
        assert_connected(&trial, &cluster.nodes[nodes[0]].port()).await;
        cluster.nodes[lost].kill().await;
        trial.progress(SOME).await;
        cluster.nodes[lost].start().await;
        trial.progress(SOME).await;
        trial.assert_kept().await;
    }
}
