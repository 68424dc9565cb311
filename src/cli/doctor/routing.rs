//! Whether commands reach their lanes: the routing map, what is bound, and by whom.

use crate::broker::management::Management;
use crate::broker::topology::{ROUTING, Topology};
use crate::cli::context::one_line;
use crate::cli::doctor::check::Check;
use crate::config::Config;
use crate::domain::routing::{Difference, RoutingMap};
use crate::store::connection;
use crate::store::routing::{self, Routing};

const APPLY: &str = "partner-program topology apply";

/// The map as it is applied, the change under way, and the bindings as far as they can be seen.
pub(super) async fn checks(config: &Config, own: &RoutingMap) -> Vec<Check> {
    let routing = match load(config).await {
        Ok(Some(routing)) => routing,
        Ok(None) => return vec![Check::fail("routing map", "it was never applied", APPLY)],
        // The checks of the database say why.
        Err(_) => return Vec::new(),
    };
    let mut checks = vec![of_map(own, &routing)];
    if let Some(change) = &routing.change {
        let remedy = "let it finish, or go on with it as it says";
        checks.push(Check::warn("routing change", change.description(), remedy));
    }
    checks.extend(bindings(config, routing).await);
    checks
}

async fn load(config: &Config) -> anyhow::Result<Option<Routing>> {
    let mut database = connection::connect(config.database_url()?, &config.worker_id).await?;
    Ok(routing::load(&mut database).await?)
}

fn of_map(own: &RoutingMap, routing: &Routing) -> Check {
    let differences = own.differences(&routing.map);
    if differences.is_empty() {
        let lanes: Vec<&str> = routing.map.lanes.iter().map(String::as_str).collect();
        let detail = format!("version {}: {}", routing.version, lanes.join(", "));
        return Check::ok("routing map", detail);
    }
    let words: Vec<String> = differences.iter().map(Difference::of_configuration).collect();
    let remedy = "give workers the configuration that was applied, or apply this one: \
                  partner-program topology apply";
    Check::fail("routing map", words.join("; "), remedy)
}

async fn bindings(config: &Config, routing: Routing) -> Vec<Check> {
    const NAME: &str = "bindings";
    let (Some(url), Ok(amqp_url)) = (&config.management_url, config.amqp_url()) else {
        let detail = "not checked: AMQP does not tell which bindings there are";
        return vec![Check::warn(
            NAME,
            detail,
            "set management_url to see missing and foreign ones",
        )];
    };
    let compared = match Management::new(url.expose(), amqp_url) {
        Ok(management) => management.compare_bindings(&Topology { map: routing.map }).await,
        Err(error) => Err(error),
    };
    let differences = match compared {
        Ok(differences) => differences,
        Err(error) => {
            let remedy = "mend management_url, or its user";
            return vec![Check::warn(
                NAME,
                format!("not checked: {}", one_line(&error.into())),
                remedy,
            )];
        }
    };
    let missing = differences.missing.into_iter();
    let missing = missing.map(|binding| Check::fail(NAME, format!("missing: {binding}"), APPLY));
    let foreign = differences.foreign.into_iter().map(|binding| {
        let detail = format!("foreign: {binding}: it can take commands away from their lane");
        Check::fail(
            NAME,
            detail,
            "bind to the exchange partner-program.commands instead, and unbind it here",
        )
    });
    let checks: Vec<Check> = missing.chain(foreign).collect();
    if checks.is_empty() {
        let detail = format!("all of the map, and no others, from exchange {ROUTING}");
        return vec![Check::ok(NAME, detail)];
    }
    checks
}
