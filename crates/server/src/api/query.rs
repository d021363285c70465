//! Query parameters: which rows, which attributes of them, in which order, which page.
//!
//! Meaning and messages are Neutron's: a repeated filter means "or", different filters mean "and", parameters that are
//! none are ignored.

use axum::http::header::HOST;
use axum::http::{Extensions, HeaderMap, Uri};
use model::encode::Projection;
use model::fault::{Fault, FaultKind};
use model::resource::{Attribute, Resource, cut};
use model::row::Value;
use model::validate::{self, Condition, Given};
use store::{Direction, Filter, Query};
use uuid::Uuid;

use crate::http::Scheme;

/// What a list request asks for.
#[derive(Debug)]
pub(super) struct Listing {
    pub(super) query: Query,
    pub(super) projection: Projection,
    /// Links to the pages around; only where a limit was given.
    pub(super) links: Option<Links>,
    /// Filters on what no database keeps; compared row by row.
    pub(super) computed: Vec<Filter>,
    /// A filter that no row can match, or a marker that is no id.
    pub(super) nothing: bool,
}

/// What the links to other pages are made of.
#[derive(Debug)]
pub(super) struct Links {
    /// Scheme, host and path.
    base: String,
    /// The parameters that stay the same.
    kept: Vec<(String, String)>,
    limit: u64,
    reverse: bool,
}

impl Links {
    /// The pages around one of `count` rows: relation and address.
    pub(super) fn around(
        &self,
        count: u64,
        first: Option<Uuid>,
        last: Option<Uuid>,
    ) -> impl Iterator<Item = (&'static str, String)> {
        let short = count < self.limit;
        let next = (!short || self.reverse).then(|| ("next", self.link(last, false)));
        let previous = (!short || !self.reverse).then(|| ("previous", self.link(first, true)));
        next.into_iter().chain(previous)
    }

    fn link(&self, marker: Option<Uuid>, reverse: bool) -> String {
        let mut pairs = self.kept.clone();
        pairs.extend(marker.map(|id| ("marker".to_owned(), id.to_string())));
        if reverse {
            pairs.push(("page_reverse".to_owned(), "True".to_owned()));
        }
        let query = form_urlencoded::Serializer::new(String::new())
            .extend_pairs(pairs)
            .finish();
        format!("{}?{query}", self.base)
    }
}

/// The attributes to show; none means all.
pub(super) fn fields(uri: &Uri) -> Vec<String> {
    values(&pairs(uri), "fields")
}

/// Reads the parameters of a list.
///
/// # Errors
/// 400 for a limit that is no number and for orders that do not exist.
pub(super) fn listing(
    resource: &'static Resource,
    uri: &Uri,
    headers: &HeaderMap,
    extensions: &Extensions,
) -> Result<Listing, Fault> {
    let pairs = pairs(uri);
    let first = |key: &str| {
        pairs
            .iter()
            .find(|(k, _)| k == key)
            .map(|(_, v)| v.as_str())
    };
    let mut query = Query::all(resource.kind);
    let matches = filters(resource, &pairs, &mut query.filters);
    query.sort = sort(resource, &pairs)?;
    let mut nothing = !matches;
    let mut links = None;
    if let Some(limit) = limit(first("limit"))? {
        query.limit = Some(limit);
        query.reverse = first("page_reverse").is_some_and(|v| v.eq_ignore_ascii_case("true"));
        match first("marker")
            .filter(|marker| !marker.is_empty())
            .map(validate::reference)
        {
            Some(Value::Uuid(id)) => query.marker = Some(id),
            // Behind what does not exist there is nothing.
            Some(_) => nothing = true,
            None => {}
        }
        let turning = ["marker", "page_reverse"];
        links = Some(Links {
            base: format!("{}{}", base(headers, extensions), uri.path()),
            kept: pairs
                .iter()
                .filter(|(k, _)| !turning.contains(&k.as_str()))
                .cloned()
                .collect(),
            limit,
            reverse: query.reverse,
        });
    }
    let (stored, computed) = std::mem::take(&mut query.filters)
        .into_iter()
        .partition(|filter| {
            let attribute = resource.attributes.get(filter.attribute);
            attribute.is_some_and(Attribute::is_stored)
        });
    query.filters = stored;
    Ok(Listing {
        computed,
        projection: Projection::of(resource, &values(&pairs, "fields")),
        query,
        links,
        nothing,
    })
}

/// Scheme and host, as the client addressed us.
pub(super) fn base(headers: &HeaderMap, extensions: &Extensions) -> String {
    let host = headers.get(HOST).and_then(|host| host.to_str().ok());
    let scheme = extensions.get().map_or("http", |Scheme(scheme)| scheme);
    format!("{scheme}://{}", host.unwrap_or("localhost"))
}

/// Collects the filters. False if no row can match them.
fn filters(
    resource: &'static Resource,
    pairs: &[(String, String)],
    filters: &mut Vec<Filter>,
) -> bool {
    const RESERVED: &[&str] = &[
        "fields",
        "limit",
        "marker",
        "page_reverse",
        "sort_key",
        "sort_dir",
    ];
    let mut keys: Vec<&str> = Vec::new();
    for (key, _) in pairs {
        if !keys.contains(&key.as_str()) && !RESERVED.contains(&key.as_str()) {
            keys.push(key);
        }
    }
    for key in keys {
        let asked = pairs.iter().filter(|(k, _)| k == key);
        let conditions: Vec<_> = asked
            .filter_map(|(key, value)| validate::filter(resource, key, value))
            .collect();
        let Some((attribute, _)) = conditions.first() else {
            continue;
        };
        let attribute = *attribute;
        if conditions.iter().any(|(_, c)| *c == Condition::Always) {
            continue;
        }
        let any_of: Vec<Value> = conditions
            .into_iter()
            .filter_map(|(_, condition)| match condition {
                Condition::Is(value) => Some(value),
                Condition::Always | Condition::Never => None,
            })
            .collect();
        if any_of.is_empty() {
            return false;
        }
        filters.push(Filter { attribute, any_of });
    }
    true
}

fn sort(
    resource: &'static Resource,
    pairs: &[(String, String)],
) -> Result<Vec<(usize, Direction)>, Fault> {
    let invalid = |message: String| Err(Fault::new(FaultKind::InvalidBody, message));
    let keys = values(pairs, "sort_key");
    let directions = values(pairs, "sort_dir");
    if keys.len() != directions.len() {
        return invalid("The number of sort_keys and sort_dirs must be same".to_owned());
    }
    let (places, unknown) = parted(&keys, |key| validate::sort_key(resource, key));
    if !unknown.is_empty() {
        return invalid(format!(
            "{} is invalid attribute for sort_keys",
            listed(unknown)
        ));
    }
    let (directions, unknown) = parted(&directions, |text| match text {
        "asc" => Some(Direction::Ascending),
        "desc" => Some(Direction::Descending),
        _ => None,
    });
    if !unknown.is_empty() {
        return invalid(format!(
            "{} is invalid value for sort_dirs, valid value is 'asc' and 'desc'",
            listed(unknown)
        ));
    }
    let mut sort = Vec::with_capacity(places.len());
    for (place, direction) in places.into_iter().zip(directions) {
        // What comes first decides; a repetition would only make the statement longer.
        if sort.iter().all(|(known, _)| *known != place) {
            sort.push((place, direction));
        }
    }
    Ok(sort)
}

/// What is understood of these texts, and the others.
fn parted<T>(texts: &[String], understand: impl Fn(&str) -> Option<T>) -> (Vec<T>, Vec<&str>) {
    let (mut understood, mut others) = (Vec::new(), Vec::new());
    for text in texts {
        match understand(text) {
            Some(meaning) => understood.push(meaning),
            None => others.push(text.as_str()),
        }
    }
    (understood, others)
}

/// Texts as Python prints a list of them.
fn listed(texts: Vec<&str>) -> String {
    Given(&texts.into()).to_string()
}

/// The limit; none for 0, which means "no limit" too.
fn limit(text: Option<&str>) -> Result<Option<u64>, Fault> {
    let Some(text) = text else { return Ok(None) };
    let digits = text.trim();
    let number = !digits.is_empty() && digits.bytes().all(|digit| digit.is_ascii_digit());
    match number.then(|| digits.parse().unwrap_or(u64::MAX)).ok_or(()) {
        Ok(limit) => Ok((limit > 0).then_some(limit)),
        Err(_) => Err(Fault::new(
            FaultKind::InvalidRequest,
            format!(
                "Bad limit request: Limit must be an integer 0 or greater and not '{}'.",
                cut(text)
            ),
        )),
    }
}

fn pairs(uri: &Uri) -> Vec<(String, String)> {
    form_urlencoded::parse(uri.query().unwrap_or_default().as_bytes())
        .into_owned()
        .collect()
}

fn values(pairs: &[(String, String)], key: &str) -> Vec<String> {
    let matching = pairs
        .iter()
        .filter(|(k, value)| k == key && !value.is_empty());
    matching.map(|(_, value)| value.clone()).collect()
}
