//! The service catalogue that comes with a token: which service answers where.

use serde::Deserialize;

/// A service of the catalogue.
#[derive(Clone, Debug, Deserialize, PartialEq, Eq)]
pub struct Service {
    /// Such as `network`.
    #[serde(rename = "type")]
    pub kind: String,
    /// Where it answers.
    #[serde(default)]
    pub endpoints: Vec<Place>,
}

/// One address of a service.
#[derive(Clone, Debug, Deserialize, PartialEq, Eq)]
pub struct Place {
    /// `public`, `internal` or `admin`.
    pub interface: String,
    /// The region it is in.
    #[serde(default)]
    pub region: Option<String>,
    /// The address.
    pub url: String,
}

/// What is looked for in a catalogue.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Wanted<'a> {
    /// The service's type.
    pub kind: &'a str,
    /// The region, if it matters.
    pub region: Option<&'a str>,
    /// Which of its endpoints; `publicURL` of old is the same as `public`.
    pub interface: &'a str,
}

impl Wanted<'_> {
    /// The first address that fits.
    pub fn find<'c>(&self, catalog: &'c [Service]) -> Option<&'c str> {
        let interface = self.interface.strip_suffix("URL").unwrap_or(self.interface);
        let fits = |place: &&Place| {
            place.interface == interface
                && (self.region.is_none() || place.region.as_deref() == self.region)
        };
        let services = catalog.iter().filter(|service| service.kind == self.kind);
        let mut places = services.flat_map(|service| &service.endpoints);
        places.find(fits).map(|place| place.url.as_str())
    }
}

impl std::fmt::Display for Wanted<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} endpoint for {} service", self.interface, self.kind)?;
        match self.region {
            Some(region) => write!(f, " in {region} region"),
            None => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn type_interface_and_region_choose_the_endpoint() {
        let catalog: Vec<Service> = serde_json::from_str(
            r#"[{"type": "identity", "name": "keystone", "endpoints": []},
                {"type": "network", "endpoints": [
                  {"interface": "internal", "region": "a", "region_id": "a", "url": "http://in.a"},
                  {"interface": "public", "region": "a", "url": "http://a"},
                  {"interface": "public", "region": "b", "url": "http://b"}]}]"#,
        )
        .unwrap();
        let find = |kind, region, interface| {
            Wanted {
                kind,
                region,
                interface,
            }
            .find(&catalog)
        };
        assert_eq!(find("network", None, "public"), Some("http://a"));
        assert_eq!(find("network", Some("b"), "publicURL"), Some("http://b"));
        assert_eq!(find("network", None, "internal"), Some("http://in.a"));
        assert_eq!(find("network", Some("c"), "public"), None);
        assert_eq!(find("identity", None, "public"), None);
    }
}
