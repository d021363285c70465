//! What OpenStack clients are told by options, OS_* variables and clouds.yaml, under the same names everywhere.
//!
//! An option `--os-auth-url` is the variable `OS_AUTH_URL` and the key `auth_url` in clouds.yaml. Options come before
//! variables, variables before clouds.yaml (python-openstackclient, "Configuration").

use std::collections::BTreeMap;

use crate::error::Error;

/// One of the things that can be told.
#[derive(Debug)]
pub struct Setting {
    /// As the option has it behind `--os-`.
    pub name: &'static str,
    /// Older names, and those that clouds.yaml has for one service.
    pub aliases: &'static [&'static str],
    /// What stands for the value in help texts; nothing for a switch.
    pub value_name: Option<&'static str>,
    /// One line for help texts.
    pub help: &'static str,
}

const fn setting(name: &'static str, value_name: &'static str, help: &'static str) -> Setting {
    Setting {
        name,
        aliases: &[],
        value_name: Some(value_name),
        help,
    }
}

impl Setting {
    const fn or(self, aliases: &'static [&'static str]) -> Self {
        Self { aliases, ..self }
    }

    const fn switch(self) -> Self {
        Self {
            value_name: None,
            ..self
        }
    }

    fn names(&self) -> impl Iterator<Item = &'static str> {
        std::iter::once(self.name).chain(self.aliases.iter().copied())
    }
}

/// Everything that can be told.
pub const ALL: &[Setting] = &[
    setting("cloud", "NAME", "Cloud of clouds.yaml to use"),
    setting(
        "auth-type",
        "TYPE",
        "How to log in: password, token, v3applicationcredential, or none; found out where left out",
    ),
    setting("auth-url", "URL", "Address of Keystone"),
    setting("username", "NAME", "User to log in as"),
    setting("user-id", "ID", "The same by id"),
    setting(
        "user-domain-name",
        "NAME",
        "Domain of the user; the default one where left out",
    ),
    setting("user-domain-id", "ID", "The same by id"),
    setting("password", "PASSWORD", "The user's password"),
    setting("project-name", "NAME", "Project to work in").or(&["tenant-name"]),
    setting("project-id", "ID", "The same by id").or(&["tenant-id"]),
    setting(
        "project-domain-name",
        "NAME",
        "Domain of the project; the default one where left out",
    ),
    setting("project-domain-id", "ID", "The same by id"),
    setting(
        "default-domain-name",
        "NAME",
        "Domain of user and project where theirs are left out; that with the id default otherwise",
    ),
    setting("default-domain-id", "ID", "The same by id").or(&["default-domain"]),
    setting(
        "token",
        "TOKEN",
        "A token: sent to Keystone for another one, or to the server itself if no Keystone is named",
    ),
    setting(
        "application-credential-id",
        "ID",
        "Application credential to log in with",
    ),
    setting(
        "application-credential-name",
        "NAME",
        "The same by name, which needs the user too",
    ),
    setting("application-credential-secret", "SECRET", "Its secret"),
    setting("region-name", "NAME", "Region whose endpoint is meant"),
    setting(
        "service-type",
        "TYPE",
        "The server's type in the catalogue; network where left out",
    )
    .or(&["network-service-type"]),
    setting(
        "interface",
        "INTERFACE",
        "Which of its endpoints: public, internal or admin; public where left out",
    )
    .or(&["endpoint-type", "network-interface"]),
    setting(
        "endpoint",
        "URL",
        "Address of the server, whatever the catalogue says",
    )
    .or(&["url", "endpoint-override", "network-endpoint-override"]),
    setting("cacert", "FILE", "The only CAs to trust, in PEM"),
    setting("cert", "FILE", "Certificate to show, in PEM"),
    setting("key", "FILE", "Its private key, in PEM"),
    setting("insecure", "", "Do not check certificates").switch(),
];

/// Settings that say the same thing in two ways: who gives one of them does not mean the other one.
const EITHER: [(&str, &str); 5] = [
    ("username", "user-id"),
    ("user-domain-name", "user-domain-id"),
    ("project-name", "project-id"),
    ("project-domain-name", "project-domain-id"),
    ("default-domain-name", "default-domain-id"),
];

/// What was told.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct Settings(BTreeMap<&'static str, String>);

impl std::fmt::Debug for Settings {
    /// Names only: some values are secrets.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_set().entries(self.0.keys()).finish()
    }
}

impl Settings {
    /// What the environment says; empty variables say nothing.
    pub fn of_environment(variable: impl Fn(&str) -> Option<String>) -> Self {
        let mut found = Self::default();
        for setting in ALL {
            for name in setting.names() {
                let name = format!("OS_{}", name.to_uppercase().replace('-', "_"));
                if let Some(value) = variable(&name).filter(|value| !value.is_empty()) {
                    found.0.entry(setting.name).or_insert(value);
                }
            }
        }
        found
    }

    /// The value of a setting.
    pub fn get(&self, name: &str) -> Option<&str> {
        self.0.get(name).map(String::as_str)
    }

    /// Whether a switch is on.
    pub fn is_on(&self, name: &str) -> bool {
        let on = ["1", "true", "yes", "on"];
        self.get(name)
            .is_some_and(|value| on.contains(&value.to_lowercase().as_str()))
    }

    /// Sets what has this name or alias, with dashes or underscores; returns whether there is such a thing. A value under
    /// the name itself comes before one under an alias.
    pub fn set(&mut self, name: &str, value: impl Into<String>) -> bool {
        let name = name.replace('_', "-");
        let Some(setting) = ALL.iter().find(|s| s.names().any(|n| n == name)) else {
            return false;
        };
        if setting.name == name || !self.0.contains_key(setting.name) {
            self.0.insert(setting.name, value.into());
        }
        true
    }

    /// These settings, and where they say nothing, those.
    #[must_use]
    pub fn over(mut self, mut lower: Self) -> Self {
        for (name, id) in EITHER {
            if self.0.contains_key(name) || self.0.contains_key(id) {
                lower.0.remove(name);
                lower.0.remove(id);
            }
        }
        for (name, value) in lower.0 {
            self.0.entry(name).or_insert(value);
        }
        self
    }

    /// The value of a setting that `purpose` cannot do without.
    pub(crate) fn required(&self, name: &str, purpose: &str) -> Result<&str, Error> {
        self.get(name).ok_or_else(|| {
            Error::Configuration(format!(
                "Missing value {name} required for auth plugin {purpose}"
            ))
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn settings(pairs: &[(&str, &str)]) -> Settings {
        let mut settings = Settings::default();
        for (name, value) in pairs {
            assert!(settings.set(name, *value), "{name}");
        }
        settings
    }

    #[test]
    fn variables_are_read_under_old_and_new_names() {
        let environment = [
            ("OS_TENANT_NAME", "old"),
            ("OS_PROJECT_NAME", "new"),
            ("OS_URL", "http://x"),
            ("OS_TOKEN", ""),
        ];
        let read = Settings::of_environment(|name| {
            let found = environment.iter().find(|(n, _)| *n == name);
            found.map(|(_, value)| (*value).to_owned())
        });
        let expected = settings(&[("project-name", "new"), ("endpoint", "http://x")]);
        assert!(read == expected, "{read:?}");
    }

    #[test]
    fn a_name_given_above_hides_an_id_below() {
        let merged = settings(&[("project_name", "mine")])
            .over(settings(&[("project-id", "1"), ("password", "p")]));
        assert_eq!(merged.get("project-name"), Some("mine"));
        assert_eq!(merged.get("project-id"), None);
        assert_eq!(merged.get("password"), Some("p"));
    }

    #[test]
    fn secrets_are_not_printed() {
        let text = format!("{:?}", settings(&[("password", "hunter2")]));
        assert_eq!(text, r#"{"password"}"#);
    }
}
