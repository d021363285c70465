//! A list's answer, read one record at a time: what a caller does not keep is never all in memory.

use std::fmt;

use bytes::Bytes;
use serde::Deserialize;
use serde::de::{DeserializeSeed, Deserializer, Error as _, MapAccess, SeqAccess, Visitor};
use serde_json::{Map, Value};

use crate::client::{Client, Parameter};
use crate::error::Error;

/// One resource as the wire has it, keys in the service's order.
pub type Record = Map<String, Value>;

#[derive(Deserialize)]
struct Link {
    rel: String,
    href: String,
}

impl Client {
    /// GET of a collection, following links to further pages; `each` sees every record in turn and may end the reading.
    ///
    /// # Errors
    /// The service cannot be reached, refuses or makes no sense; or what `each` says.
    pub async fn list<E: From<Error>>(
        &self,
        path: &[&str],
        query: &[Parameter],
        mut each: impl FnMut(Record) -> Result<(), E>,
    ) -> Result<(), E> {
        let mut query = query.to_vec();
        loop {
            let body = self.get(path, &query).await?;
            match self.read_page(&body, &mut each)? {
                Some(next) => query = next,
                None => return Ok(()),
            }
        }
    }

    /// Reads one page that [`Client::get`] or a bulk request brought; the query of the next page, if there is one.
    ///
    /// # Errors
    /// It makes no sense; or what `each` says.
    pub fn read_page<E: From<Error>>(
        &self,
        body: &Bytes,
        each: &mut impl FnMut(Record) -> Result<(), E>,
    ) -> Result<Option<Vec<Parameter>>, E> {
        let mut page = Page {
            each,
            stopped: None,
            next: None,
        };
        let mut json = serde_json::Deserializer::from_slice(body);
        let outcome = page.deserialize(&mut json).and_then(|()| json.end());
        if let Some(stopped) = page.stopped {
            return Err(stopped);
        }
        outcome.map_err(|cause| self.garbled(cause))?;
        // Only the query is taken, as neutronclient does: behind a proxy the service names itself wrongly.
        let query = page.next.map(|href| {
            reqwest::Url::options()
                .base_url(Some(&self.endpoint().url(&[])))
                .parse(&href)
                .map(|url| url.query_pairs().into_owned().collect())
                .map_err(|cause| self.garbled(cause))
        });
        Ok(query.transpose()?)
    }
}

impl Client {
    /// The one resource in `{"<member>": {…}}`.
    ///
    /// # Errors
    /// It is no such JSON.
    pub fn member(&self, body: &Bytes) -> Result<Record, Error> {
        let members: std::collections::BTreeMap<String, Record> =
            serde_json::from_slice(body).map_err(|cause| self.garbled(cause))?;
        let first = members.into_values().next();
        first.ok_or_else(|| self.garbled("an empty object"))
    }
}

/// Reads `{"<collection>": [record, …], "<collection>_links": […]}`.
struct Page<'f, F, E> {
    each: &'f mut F,
    /// What `each` said when it wanted no more.
    stopped: Option<E>,
    next: Option<String>,
}

impl<'de, F: FnMut(Record) -> Result<(), E>, E> DeserializeSeed<'de> for &mut Page<'_, F, E> {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, json: D) -> Result<(), D::Error> {
        json.deserialize_map(self)
    }
}

impl<'de, F: FnMut(Record) -> Result<(), E>, E> Visitor<'de> for &mut Page<'_, F, E> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a list of resources")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<(), A::Error> {
        while let Some(key) = map.next_key::<String>()? {
            if key.ends_with("_links") {
                let links: Vec<Link> = map.next_value()?;
                self.next = links
                    .into_iter()
                    .find(|link| link.rel == "next")
                    .map(|link| link.href);
            } else {
                map.next_value_seed(Records(self))?;
            }
        }
        Ok(())
    }
}

struct Records<'p, 'f, F, E>(&'p mut Page<'f, F, E>);

impl<'de, F: FnMut(Record) -> Result<(), E>, E> DeserializeSeed<'de> for Records<'_, '_, F, E> {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, json: D) -> Result<(), D::Error> {
        json.deserialize_seq(self)
    }
}

impl<'de, F: FnMut(Record) -> Result<(), E>, E> Visitor<'de> for Records<'_, '_, F, E> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an array of resources")
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut records: A) -> Result<(), A::Error> {
        while let Some(record) = records.next_element::<Record>()? {
            if let Err(stopped) = (self.0.each)(record) {
                self.0.stopped = Some(stopped);
                return Err(A::Error::custom("stopped"));
            }
        }
        Ok(())
    }
}
