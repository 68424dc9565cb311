//! The facts by which commands are decided.
//!
//! A batch is cut into sub-batches by the customers that its commands name, and sub-batches commit in any
//! order. So all of them must be decided by the customers that the cut was made by. An import may give an
//! identifier to another customer meanwhile, and a command that names another customer by then would be
//! applied after commands that were queued behind it. Hence one rule: once a sub-batch is committed, the rest
//! of its batch uses the same customers, as if the import had come after the batch. If nothing of a batch is
//! committed, the batch is processed again, in the order of the queue, by what is stored then. Facts never
//! get older: a batch whose look-ahead is older than the facts of the batch before it loads its facts again.
//!
//! Deliberately absent: a rule for another process. Where one dies between two sub-batches, the rest is
//! redelivered and decided by what is stored then; see `docs/operations.md`, on imports.

use std::sync::Arc;

use crate::domain::groups::Boundary;
use crate::domain::identity::CustomerId;
use crate::domain::needs::Needs;
use crate::domain::program::{Catalogue, Org, OrgId};
use crate::domain::resolve;
use crate::domain::snapshot::Snapshot;
use crate::store;
use crate::store::connection::Connection;
use crate::store::error::Error;
use crate::store::session::Session;
use crate::worker::lane::receive::DecodedCommand;

/// The facts by which a try decides its commands.
#[derive(Clone, Copy)]
pub(crate) enum Facts<'a> {
    /// What is stored when they are loaded.
    Stored,
    /// The catalogue and the customers of the look-ahead; all else as it is stored.
    Preloaded(&'a Preloaded),
    /// The customers of the look-ahead; all else as it is stored, the catalogue included.
    Pinned(&'a Identities),
}

/// The customers that the commands of a batch name.
pub(crate) struct Identities {
    /// The version that the customers have at least.
    pub(crate) version: i64,
    pub(crate) catalogue: Arc<Catalogue>,
    pub(crate) customers: Snapshot,
}

/// What is known of a sub-batch before it is loaded.
pub(crate) struct Preloaded {
    /// The customers that the whole batch names.
    pub(crate) identities: Arc<Identities>,
    /// The customers that the sub-batch may name.
    pub(crate) customers: Vec<(OrgId, CustomerId)>,
    /// The sub-batch's index, and the boundary between it and the others.
    pub(crate) cut: (usize, Arc<Boundary>),
}

impl<'a> Facts<'a> {
    /// The facts for the next try, when no other sub-batch is under way.
    pub(crate) fn of_retry(self) -> Facts<'a> {
        match self {
            Facts::Stored | Facts::Preloaded(_) => Facts::Stored,
            Facts::Pinned(identities) => Facts::Pinned(identities),
        }
    }

    pub(crate) async fn catalogue(self, session: &mut Session) -> Result<Arc<Catalogue>, Error> {
        match self {
            Facts::Stored => session.catalogue().await,
            Facts::Preloaded(known) => Ok(Arc::clone(&known.identities.catalogue)),
            Facts::Pinned(identities) => {
                Ok(identities.with_programs_of(session.catalogue().await?))
            }
        }
    }

    /// Loads what the commands need.
    ///
    /// # Errors
    ///
    /// [`Error::Conflict`] if the facts show that the sub-batches are not free of each other.
    pub(crate) async fn load(
        self,
        connection: &mut Connection,
        commands: &[(&Org, &DecodedCommand)],
    ) -> Result<Snapshot, Error> {
        let mut needs = Needs::default();
        for (org, decoded) in commands {
            needs.add_command(org, &decoded.command);
        }
        match self {
            Facts::Stored => store::load::load(connection, &needs).await,
            Facts::Preloaded(Preloaded { identities, customers, cut: (index, boundary) }) => {
                let mut snapshot = identities.customers.clone();
                store::load::load_for(connection, &needs, customers, &mut snapshot).await?;
                match boundary.crossing(*index, &snapshot) {
                    None => Ok(snapshot),
                    Some(_) => Err(Error::Conflict(
                        "a membership id has another holder than when the batch was cut".into(),
                    )),
                }
            }
            Facts::Pinned(identities) => identities.load(connection, &needs, commands).await,
        }
    }
}

impl Identities {
    /// The catalogue, in which each org keeps the country code by which its customers were found.
    fn with_programs_of(&self, stored: Arc<Catalogue>) -> Arc<Catalogue> {
        let is_other = |org: &Org| {
            let known = self.catalogue.orgs.get(&org.code);
            known.is_some_and(|known| known.country_code != org.country_code)
        };
        if !stored.orgs.values().any(is_other) {
            return stored;
        }
        let mut catalogue = Catalogue::clone(&stored);
        for (code, org) in &mut catalogue.orgs {
            if let Some(known) = self.catalogue.orgs.get(code) {
                org.country_code.clone_from(&known.country_code);
            }
        }
        Arc::new(catalogue)
    }

    async fn load(
        &self,
        connection: &mut Connection,
        needs: &Needs,
        commands: &[(&Org, &DecodedCommand)],
    ) -> Result<Snapshot, Error> {
        let mut snapshot = self.customers.clone();
        let mut customers = Vec::new();
        // If the org was unknown when the batch was cut, none of its commands is committed and none of its
        // customers was looked up.
        let mut of_new_orgs = Needs::default();
        for (org, decoded) in commands {
            if self.catalogue.orgs.contains_key(&org.code) {
                customers.extend(resolve::meant(org, &snapshot, &decoded.command));
            } else {
                of_new_orgs.add_command(org, &decoded.command);
            }
        }
        if !of_new_orgs.is_empty() {
            let found = store::load::customers(connection, &of_new_orgs, &mut snapshot).await?;
            customers.extend(found);
        }
        customers.sort_unstable();
        customers.dedup();
        store::load::load_for(connection, needs, &customers, &mut snapshot).await?;
        Ok(snapshot)
    }
}
