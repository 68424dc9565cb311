//! Files with personal data.

use std::path::Path;

use anyhow::Context as _;
use tokio::fs::{File, OpenOptions};

/// Makes a file that this user alone may read. It must not be there yet.
pub(super) async fn create(path: &Path) -> anyhow::Result<File> {
    let made = OpenOptions::new().write(true).create_new(true).mode(0o600).open(path).await;
    made.with_context(|| format!("can't make {}", path.display()))
}
