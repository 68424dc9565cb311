//! A place with a world, its topology, an upstream and a subscriber: what most tests begin with.

use crate::harness::collector::Collector;
use crate::harness::database::TestDatabase;
use crate::harness::publisher::Publisher;
use crate::harness::servers::Place;
use crate::harness::worker::Settings;
use crate::model::Model;

pub(crate) struct TestEnv {
    pub(crate) place: Place,
    pub(crate) settings: Settings,
    pub(crate) rows: TestDatabase,
    pub(crate) results: Collector,
    pub(crate) publisher: Publisher,
}

impl TestEnv {
    /// On the shared servers.
    pub(crate) async fn new(name: &str, model: &Model) -> Self {
        Self::at(Place::new(name).await, model).await
    }

    pub(crate) async fn at(place: Place, model: &Model) -> Self {
        let settings = Settings::of(&place);
        settings.declare().await;
        let mut rows = TestDatabase::of(&place).await;
        rows.insert(model).await;
        let results = Collector::of_results(&place.amqp_url).await;
        let publisher = Publisher::open(&place.amqp_url).await;
        Self { place, settings, rows, results, publisher }
    }
}
