//! Who a customer is: identifiers, parsed, and the customer that was found.
//!
//! The rules are the contract's, "Identifying the customer". Parsing checks each identifier on
//! its own; `resolve` says whether it matches a customer.

use crate::domain::command::{Identifiers, given};
use crate::domain::status::Status;

/// The shortest and the longest number a mobile may be, in digits (E.164).
const MOBILE_DIGITS: std::ops::RangeInclusive<usize> = 7..=15;
/// The longest e-mail address, in bytes (RFC 5321, 4.5.3.1.3).
const EMAIL_BYTES_MAX: usize = 254;
/// The longest external id, in characters.
const EXTERNAL_ID_CHARS_MAX: usize = 255;

/// A customer's key within the org.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct CustomerId(pub i64);

/// A registered customer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Customer {
    /// The key.
    pub id: CustomerId,
    /// Digits only.
    pub mobile: Option<String>,
    /// As registered; compared in lower case.
    pub email: Option<String>,
    /// As registered.
    pub external_id: Option<String>,
    /// Whether they may be acted on.
    pub state: CustomerState,
}

/// What the loyalty program says of a customer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CustomerState {
    /// In the loyalty program.
    Active,
    /// Known, but not in the loyalty program.
    NotEnrolled,
    /// Into another account.
    Merged,
    /// Marked as fraud.
    Fraud,
}

impl CustomerState {
    /// Every state.
    pub const ALL: [Self; 4] = [Self::Active, Self::NotEnrolled, Self::Merged, Self::Fraud];

    /// The word in `customer.state` and in files of customers.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Active => "active",
            Self::NotEnrolled => "not_enrolled",
            Self::Merged => "merged",
            Self::Fraud => "fraud",
        }
    }

    /// The inverse of [`as_str`](Self::as_str).
    #[must_use]
    pub fn parse(word: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|state| state.as_str() == word)
    }
}

/// The identifiers of one entry, valid and normalised: what to look customers up by.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Lookup {
    /// Looked up first.
    pub id: Option<CustomerId>,
    /// Looked up second.
    pub mobile: Option<Mobile>,
    /// Looked up third.
    pub email: Option<Email>,
    /// Looked up last.
    pub external_id: Option<ExternalId>,
}

impl Lookup {
    /// Parses what was given; nothing given and anything invalid are answers.
    pub fn parse(identifiers: &Identifiers) -> Result<Self, Status> {
        let mobile = given(identifiers.mobile.as_ref());
        let email = given(identifiers.email.as_ref());
        let external_id = given(identifiers.external_id.as_ref());
        if identifiers.id.is_none() && mobile.is_none() && email.is_none() && external_id.is_none()
        {
            return Err(Status::NoIdentifier);
        }
        Ok(Self {
            id: identifiers.id.map(CustomerId),
            mobile: mobile.map(Mobile::parse).transpose()?,
            email: email.map(Email::parse).transpose()?,
            external_id: external_id.map(ExternalId::parse).transpose()?,
        })
    }
}

/// A mobile number: 7 to 15 digits, perhaps behind an international prefix.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Mobile {
    digits: String,
    international: bool,
}

impl Mobile {
    /// Strips punctuation and the international prefix.
    pub fn parse(text: &str) -> Result<Self, Status> {
        let mut digits: String =
            text.chars().filter(|c| !matches!(c, '+' | ' ' | '-' | '(' | ')' | '.')).collect();
        let mut international = text.trim_start().starts_with('+');
        if let Some(rest) = digits.strip_prefix("00") {
            international = true;
            digits = rest.to_owned();
        }
        if !digits.bytes().all(|b| b.is_ascii_digit()) || !MOBILE_DIGITS.contains(&digits.len()) {
            return Err(Status::IdentifierInvalid);
        }
        Ok(Self { digits, international })
    }

    /// The digits alone, as they are registered.
    #[must_use]
    pub fn digits(&self) -> &str {
        &self.digits
    }

    /// The numbers to try, in this order (`docs/contract.md#identifying-the-customer`).
    pub fn candidates(&self, country_code: &str) -> impl Iterator<Item = String> + use<> {
        [self.digits.clone(), format!("{country_code}{}", self.digits)]
            .into_iter()
            .take(if self.international { 1 } else { 2 })
    }
}

/// An e-mail address, in lower case.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Email(String);

impl Email {
    /// Checks the shape only: something, `@`, something, and no white space.
    pub fn parse(text: &str) -> Result<Self, Status> {
        let well_formed = text.len() <= EMAIL_BYTES_MAX
            && !text.contains(|c: char| c.is_whitespace() || c.is_control())
            && text.split_once('@').is_some_and(|(local, domain)| {
                !local.is_empty() && !domain.is_empty() && !domain.contains('@')
            });
        if well_formed { Ok(Self(text.to_lowercase())) } else { Err(Status::IdentifierInvalid) }
    }

    /// The text to compare.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

/// The upstream's own key of a customer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ExternalId(String);

impl ExternalId {
    /// Bounds the length and refuses control characters.
    pub fn parse(text: &str) -> Result<Self, Status> {
        if text.chars().count() > EXTERNAL_ID_CHARS_MAX || text.contains(char::is_control) {
            return Err(Status::IdentifierInvalid);
        }
        Ok(Self(text.to_owned()))
    }

    /// The text to compare.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn candidates(text: &str) -> Result<Vec<String>, Status> {
        Mobile::parse(text).map(|mobile| mobile.candidates("91").collect())
    }

    #[test]
    fn a_word_that_is_no_state_is_not_taken_for_one() {
        for state in CustomerState::ALL {
            assert_eq!(CustomerState::parse(state.as_str()), Some(state));
        }
        assert_eq!(CustomerState::parse("Active"), None);
    }

    #[test]
    fn a_mobile_is_tried_as_it_is_and_then_behind_the_country_code() {
        for text in ["6215000000", "(621) 500-0000", "621.500.0000", " 621 500 0000"] {
            assert_eq!(candidates(text).unwrap(), ["6215000000", "916215000000"], "{text}");
        }
    }

    #[test]
    fn an_international_mobile_is_tried_as_it_is_only() {
        for text in ["+916215000000", "+91 (621) 500-0000", "00916215000000", "00 91 6215000000"] {
            assert_eq!(candidates(text).unwrap(), ["916215000000"], "{text}");
        }
    }

    #[test]
    fn a_mobile_has_7_to_15_digits_and_nothing_else() {
        assert!(candidates("1234567").is_ok());
        assert!(candidates("123456789012345").is_ok());
        for text in
            ["123456", "1234567890123456", "12345x7", "+", "٣٤٥٦٧٨٩", "1234567/8", "tel:1234567"]
        {
            assert_eq!(candidates(text), Err(Status::IdentifierInvalid), "{text}");
        }
    }

    #[test]
    fn an_email_is_compared_in_lower_case() {
        assert_eq!(Email::parse("Ann@Example.COM").unwrap().as_str(), "ann@example.com");
    }

    #[test]
    fn an_email_has_one_at_sign_with_something_on_both_sides() {
        let long = format!("{}@example.com", "a".repeat(250));
        for text in ["ann", "@example.com", "ann@", "a@b@c", "a b@c.d", "a\u{7}@c.d", &long] {
            assert_eq!(Email::parse(text), Err(Status::IdentifierInvalid), "{text}");
        }
    }

    #[test]
    fn an_external_id_is_bounded_text_without_control_characters() {
        assert!(ExternalId::parse(&"é".repeat(255)).is_ok());
        for text in ["a\tb", &"x".repeat(256)] {
            assert_eq!(ExternalId::parse(text), Err(Status::IdentifierInvalid), "{text}");
        }
    }

    #[test]
    fn empty_and_absent_identifiers_are_the_same_nothing() {
        let nothing = Identifiers {
            id: None,
            mobile: Some("  ".into()),
            email: Some(String::new()),
            external_id: None,
        };
        assert_eq!(Lookup::parse(&nothing), Err(Status::NoIdentifier));
    }

    #[test]
    fn one_invalid_identifier_spoils_the_entry_although_another_is_fine() {
        let given =
            Identifiers { id: Some(7), mobile: Some("12".into()), ..Identifiers::default() };
        assert_eq!(Lookup::parse(&given), Err(Status::IdentifierInvalid));
    }
}
