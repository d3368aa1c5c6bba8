//! Walks the members of a JSON object, whose values are looked at only where that is asked for.

use std::fmt;
use std::marker::PhantomData;

use serde::Deserialize;
use serde::de::{Deserializer, Error, MapAccess, Visitor};
use serde_json::value::RawValue;

/// What `each` makes of the members of an object, in the order of the text: a name that stands twice comes twice. A name comes as
/// `N` reads it, a value as raw JSON.
///
/// # Errors
/// The text is no object, `N` does not read a name, or `each` fails.
pub(crate) fn members_of<'a, N: Deserialize<'a>, T>(
    text: &'a str,
    each: impl FnMut(N, &'a str) -> serde_json::Result<T>,
) -> serde_json::Result<Vec<T>> {
    let mut deserializer = serde_json::Deserializer::from_str(text);
    let walk = Walk(each, PhantomData);
    let members = deserializer.deserialize_map(walk)?;
    deserializer.end()?;
    Ok(members)
}

struct Walk<N, T, F>(F, PhantomData<fn(N) -> T>);

impl<'de, N, T, F> Visitor<'de> for Walk<N, T, F>
where
    N: Deserialize<'de>,
    F: FnMut(N, &'de str) -> serde_json::Result<T>,
{
    type Value = Vec<T>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
        let Self(mut each, _) = self;
        let mut members = Vec::new();
        while let Some((name, value)) = map.next_entry::<N, &'de RawValue>()? {
            members.push(each(name, value.get()).map_err(A::Error::custom)?);
        }
        Ok(members)
    }
}
