//! Reading JSON straight into a command's values, in one pass and with its own account of faults.
//!
//! serde's derived readers take an array for an object and tell faults apart only by their
//! text. Here each fault is noted by the [`Reader`] where it is met, and its JSON pointer is put
//! together while the reader unwinds, so well-formed commands pay nothing for it. Fields that
//! no caller asks for are skipped without recursion, however deep they go. The first fault in
//! reading order is the one reported.

use std::fmt;
use std::marker::PhantomData;

use serde::de::{self, DeserializeSeed, IgnoredAny, MapAccess, SeqAccess, Visitor};

use crate::domain::rejection::Reason;
use crate::wire::reader::{Reader, Step, refuse};

/// The fields of an object that are read, and where they go.
pub(super) trait Fields: Default {
    const NAMES: &'static [&'static str];
    /// The one of them that must be there.
    const REQUIRED: Option<&'static str> = None;

    /// Reads the value of the field `name`, one of [`NAMES`](Self::NAMES).
    fn read<'de, A: MapAccess<'de>>(
        &mut self,
        name: &'static str,
        from: &mut A,
        reader: &Reader,
    ) -> Result<(), A::Error>;
}

impl Reader {
    /// An object; null means absent.
    pub(super) fn object<'de, T: Fields, A: MapAccess<'de>>(
        &self,
        from: &mut A,
    ) -> Result<Option<T>, A::Error> {
        from.next_value_seed(Object { reader: self, nullable: true, fields: PhantomData })
    }

    /// A list of objects.
    pub(super) fn list<'de, T: Fields, A: MapAccess<'de>>(
        &self,
        from: &mut A,
    ) -> Result<Vec<T>, A::Error> {
        from.next_value_seed(List { reader: self, element: PhantomData })
    }

    /// Moves to the value of the next field among `names`, past all others; gives its index.
    pub(super) fn next_field<'de, A: MapAccess<'de>>(
        from: &mut A,
        names: &'static [&'static str],
    ) -> Result<Option<usize>, A::Error> {
        while let Some(key) = from.next_key_seed(Key(names))? {
            match key {
                FieldKey::Read(index) => return Ok(Some(index)),
                FieldKey::Other => Self::skip(from)?,
            }
        }
        Ok(None)
    }

    /// Skips a value that no caller asked for.
    pub(super) fn skip<'de, A: MapAccess<'de>>(from: &mut A) -> Result<(), A::Error> {
        from.next_value::<IgnoredAny>().map(drop)
    }
}

struct Object<'r, T> {
    reader: &'r Reader,
    nullable: bool,
    fields: PhantomData<T>,
}

impl<T> Object<'_, T> {
    fn refused<E: de::Error>(&self, found: &str) -> E {
        self.reader.wrong_type("an object", found)
    }
}

impl<'de, T: Fields> DeserializeSeed<'de> for Object<'_, T> {
    type Value = Option<T>;

    fn deserialize<D: de::Deserializer<'de>>(self, from: D) -> Result<Self::Value, D::Error> {
        from.deserialize_any(self)
    }
}

impl<'de, T: Fields> Visitor<'de> for Object<'_, T> {
    type Value = Option<T>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object")
    }

    fn visit_unit<E: de::Error>(self) -> Result<Self::Value, E> {
        if self.nullable { Ok(None) } else { Err(self.refused("null")) }
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
        let reader = self.reader;
        let mut object = T::default();
        // A bit for each name; no object has more than a few.
        let mut seen = 0_u64;
        while let Some(index) = Reader::next_field(&mut map, T::NAMES)? {
            let name = T::NAMES[index];
            let bit = 1 << index;
            let read = if seen & bit == 0 {
                object.read(name, &mut map, reader)
            } else {
                Err(reader.fail(Reason::DuplicateKey, "given twice".to_owned()))
            };
            reader.within(Step::Field(name), read)?;
            seen |= bit;
        }
        if let Some(name) = T::REQUIRED
            && T::NAMES.iter().position(|n| *n == name).is_none_or(|index| seen & (1 << index) == 0)
        {
            let absent =
                reader.fail(Reason::NotAnArray, "expected an array, found nothing".to_owned());
            return reader.within(Step::Field(name), Err(absent));
        }
        Ok(Some(object))
    }

    refuse!(boolean number string array);
}

struct List<'r, T> {
    reader: &'r Reader,
    element: PhantomData<T>,
}

impl<T> List<'_, T> {
    fn refused<E: de::Error>(&self, found: &str) -> E {
        self.reader.fail(Reason::NotAnArray, format!("expected an array, found {found}"))
    }
}

impl<'de, T: Fields> DeserializeSeed<'de> for List<'_, T> {
    type Value = Vec<T>;

    fn deserialize<D: de::Deserializer<'de>>(self, from: D) -> Result<Self::Value, D::Error> {
        from.deserialize_any(self)
    }
}

impl<'de, T: Fields> Visitor<'de> for List<'_, T> {
    type Value = Vec<T>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an array")
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Self::Value, A::Error> {
        let reader = self.reader;
        let mut list = Vec::new();
        loop {
            let element = Object { reader, nullable: false, fields: PhantomData };
            let next = seq.next_element_seed(element);
            match reader.within(Step::Element(list.len()), next)? {
                Some(element) => {
                    reader.count_element()?;
                    list.extend(element);
                }
                None => return Ok(list),
            }
        }
    }

    refuse!(boolean number string null object);
}

struct Key(&'static [&'static str]);

/// A key of an object: one of those that are read, by its index, or any other.
enum FieldKey {
    Read(usize),
    Other,
}

impl<'de> DeserializeSeed<'de> for Key {
    type Value = FieldKey;

    fn deserialize<D: de::Deserializer<'de>>(self, from: D) -> Result<Self::Value, D::Error> {
        from.deserialize_str(self)
    }
}

impl Visitor<'_> for Key {
    type Value = FieldKey;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a key")
    }

    fn visit_str<E>(self, key: &str) -> Result<Self::Value, E> {
        let index = self.0.iter().position(|name| *name == key);
        Ok(index.map_or(FieldKey::Other, FieldKey::Read))
    }
}
