//! The commands of several files, as one stream of messages.

use std::path::PathBuf;

use anyhow::Context as _;
use tokio::io::AsyncRead;

use crate::cli::context::Refusal;
use crate::clock::Clock;
use crate::config::Config;
use crate::message::Message;
use crate::usecases::documents::Documents;
use crate::usecases::priority;
use crate::usecases::publish::{Envelope, Ids};

/// The messages of all files, one after the other, up to the limit.
pub(super) struct Inputs {
    files: std::vec::IntoIter<PathBuf>,
    open: Option<(PathBuf, Documents<Box<dyn AsyncRead + Unpin + Send>>)>,
    envelope: Envelope,
    clock: Clock,
    config: Config,
    limit: u64,
    count: u64,
}

impl Inputs {
    pub(super) fn new(
        files: Vec<PathBuf>,
        limit: Option<u64>,
        envelope: Envelope,
        config: Config,
    ) -> Self {
        Self {
            files: files.into_iter(),
            open: None,
            envelope,
            clock: Clock::system(),
            config,
            limit: limit.unwrap_or(u64::MAX),
            count: 0,
        }
    }

    pub(super) async fn next(&mut self) -> anyhow::Result<Option<Message>> {
        while self.count < self.limit {
            let Some((path, documents)) = &mut self.open else {
                let Some(path) = self.files.next() else { break };
                let input = open(&path).await?;
                self.open = Some((path, Documents::new(input)));
                continue;
            };
            let shown = path.display();
            let Some(document) = documents.next().await.with_context(|| shown.to_string())? else {
                self.open = None;
                continue;
            };
            self.count += 1;
            if self.count == 2 && matches!(self.envelope.ids, Ids::Given(_)) {
                let text = "--message-id is for one command; use --id-prefix for several";
                return Err(Refusal::Usage(text.to_owned()).into());
            }
            let message = self.envelope.message(document, self.count, self.clock.now());
            let mut message = message.with_context(|| shown.to_string())?;
            message.properties.priority =
                priority::in_lane(&self.config, &message.routing_key, None);
            return Ok(Some(message));
        }
        Ok(None)
    }
}

async fn open(path: &PathBuf) -> anyhow::Result<Box<dyn AsyncRead + Unpin + Send>> {
    if path.as_os_str() == "-" {
        return Ok(Box::new(tokio::io::stdin()));
    }
    let file = tokio::fs::File::open(path)
        .await
        .map_err(|error| Refusal::Usage(format!("can't read {}: {error}", path.display())))?;
    Ok(Box::new(file))
}
