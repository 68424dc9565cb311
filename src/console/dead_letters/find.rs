//! From a customer's identifier to the keys that an address may hold.

use axum::extract::{Form, State};
use axum::response::Redirect;
use serde::Deserialize;

use crate::console::app::Shared;
use crate::console::auth::Identity;
use crate::console::dead_letters::query::Asked;
use crate::console::error::Failure;
use crate::store::dead_letters::filter::Filter;
use crate::usecases::dead_letters::selection;

/// Whose letters.
#[derive(Deserialize)]
pub(in crate::console) struct LookupForm {
    identifier: String,
    #[serde(flatten)]
    asked: Asked,
}

pub(in crate::console) async fn find(
    State(app): State<Shared>,
    _who: Identity,
    Form(wanted): Form<LookupForm>,
) -> Result<Redirect, Failure> {
    let identifier = wanted.identifier.trim();
    let mut asked = Asked { after: String::new(), customer: String::new(), ..wanted.asked };
    if !identifier.is_empty() {
        let mut connection = app.database.acquire().await?;
        let found =
            selection::with_customer(&mut connection, Filter::default(), identifier).await?;
        connection.release();
        let keys: Vec<String> = found.customer_keys.iter().map(ToString::to_string).collect();
        asked.customer = keys.join(".");
    }
    Ok(Redirect::to(&format!("/dead-letters{}", asked.query())))
}
