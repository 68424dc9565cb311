//! What one pass over a document meets: its faults, and its scalars.

use std::borrow::Cow;
use std::cell::{Cell, RefCell};
use std::fmt::{self, Write as _};

use serde::de::{self, DeserializeSeed, MapAccess, Visitor};

use crate::domain::command::{CUSTOMERS_MAX, PROGRAMS_MAX};
use crate::domain::rejection::{Reason, Rejection};

/// Most elements of all lists of one document: entries and items together
/// (`docs/contract.md#limits`). A command may be over each of its bounds by one and is still answered. It bounds the
/// memory of a decoded command and the size of its result.
pub(super) const ELEMENTS_MAX: usize = (CUSTOMERS_MAX + 1) * (PROGRAMS_MAX + 2);

/// What one pass over a document has met so far.
#[derive(Default)]
pub(super) struct Reader {
    fault: RefCell<Option<(Reason, String)>>,
    /// The way from a fault up to the root, innermost first.
    steps: RefCell<Vec<Step>>,
    elements: Cell<usize>,
}

#[derive(Clone, Copy)]
pub(super) enum Step {
    Field(&'static str),
    Element(usize),
}

/// A scalar of the document.
enum Scalar<'de> {
    Null,
    Boolean,
    Natural(u64),
    Negative(i64),
    OtherNumber,
    Text(Cow<'de, str>),
}

impl Scalar<'_> {
    const fn kind(&self) -> &'static str {
        match self {
            Self::Null => "null",
            Self::Boolean => "a boolean",
            Self::Natural(_) | Self::Negative(_) | Self::OtherNumber => "a number",
            Self::Text(_) => "a string",
        }
    }
}

impl Reader {
    /// A text; null means absent.
    pub(super) fn text<'de, A: MapAccess<'de>>(
        &self,
        from: &mut A,
    ) -> Result<Option<String>, A::Error> {
        self.cow(from, "a string").map(|text| text.map(Cow::into_owned))
    }

    /// A text that is looked at once; null means absent.
    pub(super) fn cow<'de, A: MapAccess<'de>>(
        &self,
        from: &mut A,
        expected: &'static str,
    ) -> Result<Option<Cow<'de, str>>, A::Error> {
        match self.scalar(from, expected)? {
            Scalar::Null => Ok(None),
            Scalar::Text(text) => Ok(Some(text)),
            other => Err(self.wrong_type(expected, other.kind())),
        }
    }

    /// A text, perhaps written as a number; null means absent.
    pub(super) fn text_or_natural<'de, A: MapAccess<'de>>(
        &self,
        from: &mut A,
    ) -> Result<Option<String>, A::Error> {
        let expected = "a string or a non-negative integer";
        match self.scalar(from, expected)? {
            Scalar::Null => Ok(None),
            Scalar::Text(text) => Ok(Some(text.into_owned())),
            Scalar::Natural(number) => Ok(Some(number.to_string())),
            other => Err(self.wrong_type(expected, other.kind())),
        }
    }

    /// An integer; null and the empty string mean absent.
    pub(super) fn integer<'de, A: MapAccess<'de>>(
        &self,
        from: &mut A,
    ) -> Result<Option<i64>, A::Error> {
        let expected = "an integer of 64 bits";
        let scalar = self.scalar(from, expected)?;
        match &scalar {
            Scalar::Null => return Ok(None),
            Scalar::Text(text) if text.is_empty() => return Ok(None),
            Scalar::Negative(number) => return Ok(Some(*number)),
            Scalar::Natural(number) => {
                if let Ok(number) = i64::try_from(*number) {
                    return Ok(Some(number));
                }
            }
            Scalar::Boolean | Scalar::OtherNumber | Scalar::Text(_) => {}
        }
        Err(self.wrong_type(expected, scalar.kind()))
    }

    /// Notes on which step of the way a fault was met.
    pub(super) fn within<T, E>(&self, step: Step, result: Result<T, E>) -> Result<T, E> {
        if result.is_err() {
            self.steps.borrow_mut().push(step);
        }
        result
    }

    /// Notes a fault and stops the reading.
    pub(super) fn fail<E: de::Error>(&self, reason: Reason, detail: String) -> E {
        self.fault.replace(Some((reason, detail)));
        E::custom(reason)
    }

    /// What stopped the reading, in our words.
    pub(super) fn rejection(&self, error: &serde_json::Error) -> Rejection {
        let (reason, what) = self.fault.take().unwrap_or_else(|| {
            let reason = reason_of_syntax(&error.to_string());
            (reason, format!("line {}, column {}", error.line(), error.column()))
        });
        let pointer = self.pointer();
        match reason {
            // A syntax error's place is its line; the pointer would only name what was left open.
            Reason::NotJson => Rejection::new(reason, what),
            _ if pointer.is_empty() => Rejection::new(reason, what),
            _ => Rejection::new(reason, format!("{pointer}: {what}")),
        }
    }

    /// JSON pointer (RFC 6901) to the fault. Names of fields that are read need no escapes.
    fn pointer(&self) -> String {
        self.steps.borrow().iter().rev().fold(String::new(), |mut pointer, step| {
            // Writing to a String can't fail.
            let _ = match step {
                Step::Field(name) => write!(pointer, "/{name}"),
                Step::Element(index) => write!(pointer, "/{index}"),
            };
            pointer
        })
    }

    fn scalar<'de, A: MapAccess<'de>>(
        &self,
        from: &mut A,
        expected: &'static str,
    ) -> Result<Scalar<'de>, A::Error> {
        let scalar = from.next_value_seed(AnyScalar { reader: self, expected })?;
        match scalar {
            Scalar::Text(text) if text.contains('\0') => {
                Err(self.fail(Reason::InvalidText, "holds a NUL character".to_owned()))
            }
            scalar => Ok(scalar),
        }
    }

    pub(super) fn wrong_type<E: de::Error>(&self, expected: &str, found: &str) -> E {
        self.fail(Reason::WrongType, format!("expected {expected}, found {found}"))
    }

    pub(super) fn count_element<E: de::Error>(&self) -> Result<(), E> {
        self.elements.set(self.elements.get() + 1);
        if self.elements.get() > ELEMENTS_MAX {
            let detail = format!("more than {ELEMENTS_MAX} elements in all lists");
            return Err(self.fail(Reason::TooLarge, detail));
        }
        Ok(())
    }
}

/// What a syntax error comes to. Only the text of `serde_json` tells these apart; should it
/// change, all become `not-json`, which is still a rejection.
fn reason_of_syntax(text: &str) -> Reason {
    let says = |what: &str| text.starts_with(what);
    if says("number out of range") {
        // Well-formed, but no number that the field could hold.
        Reason::WrongType
    } else if says("lone leading surrogate in hex escape")
        || says("unexpected end of hex escape")
        || says("invalid unicode code point")
    {
        Reason::InvalidText
    } else {
        Reason::NotJson
    }
}

/// The visitor methods for kinds of value that are refused alike, by `self.refused(kind)`.
macro_rules! refuse {
    ($($kind:ident)+) => { $(refuse!(@$kind);)+ };
    (@boolean) => { refuse!(@visit visit_bool(bool) "a boolean"); };
    (@number) => {
        refuse!(@visit visit_i64(i64) "a number");
        refuse!(@visit visit_u64(u64) "a number");
        refuse!(@visit visit_f64(f64) "a number");
    };
    (@string) => { refuse!(@visit visit_str(&str) "a string"); };
    (@null) => {
        fn visit_unit<E: serde::de::Error>(self) -> Result<Self::Value, E> {
            Err(self.refused("null"))
        }
    };
    (@array) => {
        fn visit_seq<A: serde::de::SeqAccess<'de>>(self, _: A) -> Result<Self::Value, A::Error> {
            Err(self.refused("an array"))
        }
    };
    (@object) => {
        fn visit_map<A: serde::de::MapAccess<'de>>(self, _: A) -> Result<Self::Value, A::Error> {
            Err(self.refused("an object"))
        }
    };
    (@visit $method:ident($type:ty) $kind:literal) => {
        fn $method<E: serde::de::Error>(self, _: $type) -> Result<Self::Value, E> {
            Err(self.refused($kind))
        }
    };
}
pub(super) use refuse;

struct AnyScalar<'r> {
    reader: &'r Reader,
    expected: &'static str,
}

impl AnyScalar<'_> {
    fn refused<E: de::Error>(&self, found: &str) -> E {
        self.reader.wrong_type(self.expected, found)
    }
}

impl<'de> DeserializeSeed<'de> for AnyScalar<'_> {
    type Value = Scalar<'de>;

    fn deserialize<D: de::Deserializer<'de>>(self, from: D) -> Result<Self::Value, D::Error> {
        from.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for AnyScalar<'_> {
    type Value = Scalar<'de>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.expected)
    }

    fn visit_unit<E>(self) -> Result<Self::Value, E> {
        Ok(Scalar::Null)
    }

    fn visit_bool<E>(self, _: bool) -> Result<Self::Value, E> {
        Ok(Scalar::Boolean)
    }

    fn visit_u64<E>(self, number: u64) -> Result<Self::Value, E> {
        Ok(Scalar::Natural(number))
    }

    fn visit_i64<E>(self, number: i64) -> Result<Self::Value, E> {
        Ok(Scalar::Negative(number))
    }

    fn visit_f64<E>(self, _: f64) -> Result<Self::Value, E> {
        Ok(Scalar::OtherNumber)
    }

    fn visit_borrowed_str<E>(self, text: &'de str) -> Result<Self::Value, E> {
        Ok(Scalar::Text(Cow::Borrowed(text)))
    }

    fn visit_str<E>(self, text: &str) -> Result<Self::Value, E> {
        Ok(Scalar::Text(Cow::Owned(text.to_owned())))
    }

    refuse!(array object);
}
