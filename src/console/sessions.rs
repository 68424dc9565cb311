//! Who is logged in: kept in this process alone, so after a restart all users log in again.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use crate::config::console::Role;
use crate::console::token;

/// How long a session lasts: a working day.
pub(super) const LIFETIME: Duration = Duration::from_hours(10);
/// Sessions at a time; the oldest gives way.
const SESSIONS_MAX: usize = 1_000;

/// Sessions by the hash of their secret, so that memory that leaks opens none.
#[derive(Default)]
pub(super) struct Sessions(Mutex<HashMap<[u8; 32], Session>>);

#[derive(Clone)]
struct Session {
    name: String,
    role: Role,
    began: Instant,
}

impl Sessions {
    /// Begins a session; the secret is for the cookie.
    pub(super) fn begin(&self, name: &str, role: Role) -> String {
        let secret = token::new();
        let session = Session { name: name.to_owned(), role, began: Instant::now() };
        let mut sessions = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        sessions.retain(|_, session| session.began.elapsed() < LIFETIME);
        if sessions.len() >= SESSIONS_MAX
            && let Some(oldest) =
                sessions.iter().min_by_key(|(_, session)| session.began).map(|(key, _)| *key)
        {
            sessions.remove(&oldest);
        }
        sessions.insert(token::hash(&secret), session);
        secret
    }

    /// Whose session it is.
    pub(super) fn find(&self, secret: &str) -> Option<(String, Role)> {
        let sessions = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let session = sessions.get(&token::hash(secret))?;
        (session.began.elapsed() < LIFETIME).then(|| (session.name.clone(), session.role))
    }

    /// Ends it, if there is one.
    pub(super) fn end(&self, secret: &str) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).remove(&token::hash(secret));
    }
}
