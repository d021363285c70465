//! clouds.yaml and secure.yaml, found and read as openstacksdk does it ("Configuring OpenStack SDK Applications").

use std::path::{Path, PathBuf};

use serde_yaml_ng::{Mapping, Value};

use crate::error::Error;
use crate::settings::Settings;

/// Where clouds.yaml and secure.yaml may be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Places {
    /// Files to look at, the first that exists is read: clouds.yaml.
    pub clouds: Vec<PathBuf>,
    /// The same for secure.yaml.
    pub secure: Vec<PathBuf>,
}

impl Places {
    /// `OS_CLIENT_CONFIG_FILE` and `OS_CLIENT_SECURE_FILE`, then the working directory, the user's and the machine's
    /// configuration.
    pub fn of_environment(variable: impl Fn(&str) -> Option<String>) -> Self {
        let path = |name: &str| variable(name).filter(|v| !v.is_empty()).map(PathBuf::from);
        let users = path("XDG_CONFIG_HOME").or_else(|| path("HOME").map(|h| h.join(".config")));
        let directories = [
            Some(PathBuf::from(".")),
            users.map(|users| users.join("openstack")),
            Some(PathBuf::from("/etc/openstack")),
        ];
        let places = |first: &str, stem: &str| {
            let files = directories.iter().flatten().flat_map(|directory| {
                ["yaml", "yml"].map(|ending| directory.join(format!("{stem}.{ending}")))
            });
            path(first).into_iter().chain(files).collect()
        };
        Self {
            clouds: places("OS_CLIENT_CONFIG_FILE", "clouds"),
            secure: places("OS_CLIENT_SECURE_FILE", "secure"),
        }
    }

    /// The settings of the cloud with this name.
    ///
    /// # Errors
    /// There is none, or a file cannot be read.
    pub fn cloud(&self, name: &str) -> Result<Settings, Error> {
        let clouds = read_first(&self.clouds)?;
        let mut cloud = clouds.as_ref().and_then(|(_, file)| entry(file, name));
        let secure = read_first(&self.secure)?;
        if let Some(secret) = secure.as_ref().and_then(|(_, file)| entry(file, name)) {
            let mut whole = cloud.unwrap_or_default();
            merge(&mut whole, secret);
            cloud = Some(whole);
        }
        let Some(cloud) = cloud else {
            let known = match &clouds {
                Some((path, file)) => format!("{} has {}", path.display(), names(file)),
                None => "there is no clouds.yaml".to_owned(),
            };
            return Err(Error::Configuration(format!(
                "Cloud {name} was not found: {known}."
            )));
        };
        Ok(settings(&cloud))
    }
}

fn read_first(places: &[PathBuf]) -> Result<Option<(&Path, Value)>, Error> {
    for path in places {
        let wrong = |cause: &dyn std::fmt::Display| {
            Error::Configuration(format!("{}: {cause}", path.display()))
        };
        match std::fs::read_to_string(path) {
            Ok(text) => {
                let file = serde_yaml_ng::from_str(&text).map_err(|cause| wrong(&cause))?;
                return Ok(Some((path, file)));
            }
            Err(cause) if cause.kind() == std::io::ErrorKind::NotFound => {}
            Err(cause) => return Err(wrong(&cause)),
        }
    }
    Ok(None)
}

fn entry(file: &Value, name: &str) -> Option<Mapping> {
    file.get("clouds")?.get(name)?.as_mapping().cloned()
}

fn names(file: &Value) -> String {
    let clouds = file.get("clouds").and_then(Value::as_mapping);
    let names = clouds.into_iter().flat_map(Mapping::keys);
    let names: Vec<_> = names.filter_map(Value::as_str).collect();
    if names.is_empty() {
        "none".to_owned()
    } else {
        names.join(", ")
    }
}

/// Puts what `above` has over what is there, also within mappings.
fn merge(below: &mut Mapping, above: Mapping) {
    for (key, value) in above {
        match (below.get_mut(&key), value) {
            (Some(Value::Mapping(below)), Value::Mapping(above)) => merge(below, above),
            (_, value) => {
                below.insert(key, value);
            }
        }
    }
}

fn settings(cloud: &Mapping) -> Settings {
    let mut settings = Settings::default();
    let auth = cloud.get("auth").and_then(Value::as_mapping);
    for (key, value) in auth.into_iter().flatten().chain(cloud) {
        let (Some(key), Some(value)) = (key.as_str(), scalar(value)) else {
            continue;
        };
        // What openstacksdk has for other programs than this one is none of our business.
        settings.set(key, value);
    }
    if settings.get("region-name").is_none()
        && let Some(Value::Sequence(regions)) = cloud.get("regions")
    {
        let first = regions.first();
        let first = first.and_then(|region| region.get("name").or(Some(region)));
        if let Some(name) = first.and_then(scalar) {
            settings.set("region-name", name);
        }
    }
    if cloud.get("verify") == Some(&Value::Bool(false)) {
        settings.set("insecure", "true");
    }
    settings
}

fn scalar(value: &Value) -> Option<String> {
    match value {
        Value::String(text) => Some(text.clone()),
        Value::Number(number) => Some(number.to_string()),
        Value::Bool(truth) => Some(truth.to_string()),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn places(directory: &tempfile::TempDir, clouds: &str, secure: &str) -> Places {
        let file = |name: &str, text: &str| {
            let path = directory.path().join(name);
            std::fs::write(&path, text).unwrap();
            vec![directory.path().join("absent.yaml"), path]
        };
        Places {
            clouds: file("clouds.yaml", clouds),
            secure: file("secure.yaml", secure),
        }
    }

    const CLOUDS: &str = "
clouds:
  east:
    auth:
      auth_url: http://keystone:5000
      username: admin
      project_name: ops
    regions: [{name: East1}, East2]
    verify: false
    network_endpoint_override: http://l2gw:9720
    compute_api_version: 2
  west: {auth_type: none, endpoint: 'http://w:9720'}
";

    #[test]
    fn a_cloud_is_read_with_its_secrets() {
        let directory = tempfile::tempdir().unwrap();
        let places = places(
            &directory,
            CLOUDS,
            "clouds: {east: {auth: {password: 12345}}}",
        );
        let east = places.cloud("east").unwrap();
        for (name, value) in [
            ("auth-url", "http://keystone:5000"),
            ("username", "admin"),
            ("project-name", "ops"),
            ("password", "12345"),
            ("region-name", "East1"),
            ("endpoint", "http://l2gw:9720"),
        ] {
            assert_eq!(east.get(name), Some(value), "{name}");
        }
        assert!(east.is_on("insecure"));
        let west = places.cloud("west").unwrap();
        assert_eq!(west.get("auth-type"), Some("none"));
        assert_eq!(west.get("username"), None);
    }

    #[test]
    fn an_unknown_cloud_is_told_with_those_there_are() {
        let directory = tempfile::tempdir().unwrap();
        let error = places(&directory, CLOUDS, "").cloud("north").unwrap_err();
        assert!(
            error.to_string().ends_with("clouds.yaml has east, west."),
            "{error}"
        );
        let error = places(&directory, "clouds: [", "")
            .cloud("north")
            .unwrap_err();
        assert!(error.to_string().contains("clouds.yaml: "), "{error}");
    }
}
