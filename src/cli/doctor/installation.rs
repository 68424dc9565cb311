//! Whether database and broker belong together.

use crate::broker::connection::Connection as BrokerConnection;
use crate::broker::installation as broker_installation;
use crate::cli::doctor::check::Check;
use crate::config::Config;
use crate::store::connection;
use crate::store::installation;

/// Nothing, if one of the servers does not answer: the checks of that server say why.
pub(super) async fn check(config: &Config) -> Option<Check> {
    const NAME: &str = "installation";
    let asking = async {
        let mut database = connection::connect(config.database_url()?, &config.worker_id).await?;
        let id = installation::id(&mut database).await?;
        let broker = BrokerConnection::open(config.amqp_url()?, &config.worker_id).await?;
        let owner = broker_installation::owner(&broker, id).await;
        broker.close().await;
        anyhow::Ok((id, owner?))
    };
    let (id, owner) = asking.await.ok()?;
    Some(match owner.problem(id) {
        None => Check::ok(NAME, format!("{id}: the broker is this database's")),
        Some(problem) => {
            let remedy = "mend AMQP_URL or DATABASE_URL, else: partner-program topology apply";
            Check::fail(NAME, problem, remedy)
        }
    })
}
