//! The demo, which checks itself: here it only has to say that all was well, twice.

use std::process::Command;

use crate::harness::servers::Place;

#[tokio::test]
async fn the_demo_shows_what_it_promises_and_can_be_repeated() {
    let place = Place::without_migrations("demo").await;
    for _ in 0..2 {
        let shown = Command::new(env!("CARGO_BIN_EXE_partner-program"))
            .arg("demo")
            .env("DATABASE_URL", &place.database_url)
            .env("AMQP_URL", &place.amqp_url)
            .output()
            .expect("the program runs");
        let text = String::from_utf8_lossy(&shown.stdout).into_owned();
        let told = String::from_utf8_lossy(&shown.stderr).into_owned();
        assert!(shown.status.success(), "{told}");
        assert!(text.contains("All as it should be."), "{text}");
        assert!(text.contains("identical to the first"), "{text}");
    }
}
