//! Who a customer is: identifiers, parsed, and the customer that was found.

/// A customer's key within the org.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct CustomerId(pub i64);

/// A registered customer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Customer {
    pub id: CustomerId,
    /// Digits only.
    pub mobile: Option<String>,
    /// As registered; compared in lower case.
    pub email: Option<String>,
    pub external_id: Option<String>,
    pub state: CustomerState,
}

/// What the loyalty program says of a customer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CustomerState {
    Active,
    /// Known, but not in the loyalty program.
    NotEnrolled,
    /// Into another account.
    Merged,
    Fraud,
}

/// The identifiers of one entry, valid and normalised: what to look customers up by.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Lookup {
    pub id: Option<CustomerId>,
    pub mobile: Option<Mobile>,
    pub email: Option<Email>,
    pub external_id: Option<ExternalId>,
}

/// A mobile number: 7 to 15 digits, perhaps behind an international prefix.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Mobile {
    digits: String,
    international: bool,
}

impl Mobile {
    /// The numbers to try, in this order (contract, "Identifying the customer").
    pub fn candidates(&self, country_code: &str) -> impl Iterator<Item = String> + use<> {
        [
            self.digits.clone(),
            format!("{country_code}{}", self.digits),
        ]
        .into_iter()
        .take(if self.international { 1 } else { 2 })
    }
}

/// An e-mail address, in lower case.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Email(String);

impl Email {
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

/// The upstream's own key of a customer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ExternalId(String);

impl ExternalId {
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}
