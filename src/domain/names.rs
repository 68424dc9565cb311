//! The names of members that commands and results share (`docs/contract.md`): `wire` reads and writes by
//! them, and warnings point to them. Those that depend on the operation are at
//! [`Operation`](crate::domain::command::Operation).
#![expect(missing_docs, reason = "each is the name that it holds")]

pub const CUSTOMER: &str = "customer";

pub const ID: &str = "id";
pub const MOBILE: &str = "mobile";
pub const EMAIL: &str = "email";
pub const EXTERNAL_ID: &str = "externalId";
pub const IDENTIFIERS: [&str; 4] = [ID, MOBILE, EMAIL, EXTERNAL_ID];

pub const PARTNER_PROGRAM_NAME: &str = "partnerProgramName";
pub const UPDATE_TYPE: &str = "updateType";
pub const CUSTOMER_PARTNER_REFERENCE: &str = "customerPartnerReference";
