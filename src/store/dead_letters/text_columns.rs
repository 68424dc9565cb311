//! Enums of the domain as text columns.

use sqlx::error::BoxDynError;
use sqlx::postgres::{PgTypeInfo, PgValueRef};
use sqlx::{Decode, Postgres, Type};

use crate::domain::bulk_job::{BulkJobKind, BulkJobState};
use crate::domain::dead_letter::State;

macro_rules! text_column {
    ($($column:ty),*) => {$(
        impl Type<Postgres> for $column {
            fn type_info() -> PgTypeInfo {
                <&str as Type<Postgres>>::type_info()
            }
        }

        impl<'r> Decode<'r, Postgres> for $column {
            fn decode(value: PgValueRef<'r>) -> Result<Self, BoxDynError> {
                Ok(<&str as Decode<Postgres>>::decode(value)?.parse()?)
            }
        }
    )*};
}

text_column!(BulkJobKind, BulkJobState, State);
