//! Who acts, why, and from where.

/// The person that an action is noted for in the audit.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Actor {
    /// The name, as given by the command line, the console's token or the proxy.
    pub name: String,
    /// Why, in the person's words.
    pub reason: String,
    /// `cli` with the machine's name, or `console` with the address.
    pub source: String,
}
