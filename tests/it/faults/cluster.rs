//! Nodes of a cluster that crash: the workers find another one.

use crate::faults::trial::{LANE, SOME, Trial};
use crate::harness::servers::{OwnServers, Place};

/// Workers that know all nodes of both clusters, in this order.
async fn trial(name: &str, cluster: &OwnServers, nodes: [usize; 3]) -> Trial {
    let place = Place::on(&cluster.servers, name).await;
    let mut trial = Trial::at(name, place, None).await;
    let vhost = trial.place.vhost();
    let urls = cluster.node_urls();
    let hosts: Vec<&str> = nodes.iter().map(|node| urls[*node].as_str()).collect();
    let amqp_url = format!("amqp://guest:guest@{}/{vhost}?heartbeat=2", hosts.join(","));
    trial.place.amqp_url = amqp_url.clone();
    trial.subscriber.move_to(&amqp_url);
    let (primary, standby) = (cluster.postgres.port(), cluster.standby.port());
    let database_url =
        format!("postgres://postgres@127.0.0.1:{primary},127.0.0.1:{standby}/{vhost}");
    trial.settings =
        trial.settings.clone().with("AMQP_URL", amqp_url).with("DATABASE_URL", database_url);
    trial
}

#[tokio::test]
async fn a_cluster_survives_its_nodes() {
    let cluster = OwnServers::start_cluster().await;
    // The first node has the lane's leader, for its queue was declared there: workers that are
    // connected to it, and workers that are not.
    for (name, nodes) in [
        ("rabbitmq cluster loses the workers node and the lanes leader", [0, 1, 2]),
        ("rabbitmq cluster loses the lanes leader", [1, 2, 0]),
    ] {
        let mut trial = trial(name, &cluster, nodes).await;
        trial.begin().await;
        let leader = trial.place.broker.leader(&format!("partner-program.commands.{LANE}"));
        assert!(leader.contains(&cluster.node_name(0)), "the leader is {leader}");
        cluster.nodes[0].kill().await;
        trial.progress(SOME).await;
        cluster.nodes[0].start().await;
        trial.progress(SOME).await;
        trial.assert_kept().await;
    }

    let mut trial =
        trial("postgres primary is lost and its standby promoted", &cluster, [1, 2, 0]).await;
    trial.begin().await;
    cluster.postgres.kill().await;
    trial.place.database_url = trial.place.database_url.replace(
        &format!(":{}/", cluster.postgres.port()),
        &format!(":{}/", cluster.standby.port()),
    );
    trial.rows.reconnect(&trial.place).await;
    trial.rows.execute("select pg_promote()").await;
    trial.progress(SOME).await;
    trial.assert_kept().await;
}
