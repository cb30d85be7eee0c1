//! JSON from outside, read so that nothing of it is lost: a name that stands twice in an object is refused, where `serde_json` would keep the
//! last and forget the others.

use std::fmt;

use serde::{
    Deserialize, Deserializer,
    de::{Error, MapAccess, SeqAccess, Visitor},
};
use serde_json::{Map, Value, map::Entry};

/// A value in which no object has a name twice.
struct Whole(Value);

/// Reads a text in UTF-8.
///
/// # Errors
/// What is wrong, with line and column.
pub fn read(text: &[u8]) -> Result<Value, serde_json::Error> {
    serde_json::from_slice(text).map(|Whole(value)| value)
}

impl<'de> Deserialize<'de> for Whole {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(Reading).map(Self)
    }
}

struct Reading;

impl<'de> Visitor<'de> for Reading {
    type Value = Value;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("JSON")
    }

    fn visit_unit<E>(self) -> Result<Value, E> {
        Ok(Value::Null)
    }

    fn visit_bool<E>(self, value: bool) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_u64<E>(self, value: u64) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_i64<E>(self, value: i64) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_f64<E>(self, value: f64) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_str<E>(self, value: &str) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<Value, A::Error> {
        let mut all = Vec::new();
        while let Some(Whole(item)) = items.next_element()? {
            all.push(item);
        }
        Ok(all.into())
    }

    fn visit_map<A: MapAccess<'de>>(self, mut fields: A) -> Result<Value, A::Error> {
        let mut all = Map::new();
        while let Some(name) = fields.next_key::<String>()? {
            match all.entry(name) {
                Entry::Vacant(free) => {
                    let Whole(value) = fields.next_value()?;
                    free.insert(value);
                }
                Entry::Occupied(taken) => {
                    let shown: String = taken.key().chars().take(80).collect();
                    return Err(A::Error::custom(format_args!(
                        "`{shown}` is there twice in one object"
                    )));
                }
            }
        }
        Ok(all.into())
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_name_twice_is_refused_with_its_place_at_any_depth() {
        let twice = "{\"a\": {\"b\": [1, {\n  \"c\": 1, \"d\": 2,\n  \"c\": 3}]}}";
        let said = read(twice.as_bytes()).expect_err("is wrong").to_string();
        assert_eq!(said, "`c` is there twice in one object at line 3 column 5");
        assert!(read(b"{\"a\": {\"b\": 1}, \"b\": {\"a\": 1}}").is_ok());
    }

    proptest! {
        #[test]
        fn all_else_is_read_as_it_would_be(text in "[\\[\\]{}\":,a-c0-9.e\\- ]{0,40}") {
            let known: Result<Value, _> = serde_json::from_str(&text);
            match (known, read(text.as_bytes())) {
                (Ok(known), Ok(read)) => prop_assert_eq!(known, read),
                (Ok(_), Err(error)) => prop_assert!(error.to_string().contains("twice")),
                (Err(_), read) => prop_assert!(read.is_err()),
            }
        }
    }
}
