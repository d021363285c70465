//! How somebody logs in to Keystone: what is proven, and for which project (Identity API v3, "Authentication and token
//! management").

use serde_json::{Map, Value, json};

use crate::error::Error;
use crate::settings::Settings;

/// The domain of names that come without one.
const DEFAULT_DOMAIN: &str = "default";

/// The ways to log in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Method {
    /// No Keystone: requests carry the token that was told, if any.
    None,
    /// User and password.
    Password,
    /// A token, exchanged for one of the project.
    Token,
    /// An application credential, which has its project.
    ApplicationCredential,
}

impl Method {
    /// The method that the settings name, or mean where they name none.
    ///
    /// # Errors
    /// They name one that is not known here.
    pub fn of(settings: &Settings) -> Result<Self, Error> {
        let has = |name| settings.get(name).is_some();
        match settings.get("auth-type") {
            Some("none" | "noauth" | "admin_token" | "token_endpoint") => Ok(Self::None),
            Some("password" | "v3password") => Ok(Self::Password),
            Some("token" | "v3token") => Ok(Self::Token),
            Some("v3applicationcredential" | "application_credential") => {
                Ok(Self::ApplicationCredential)
            }
            Some(other) => Err(Error::Configuration(format!(
                "The auth type {other} is not known here; password, token, v3applicationcredential and none are."
            ))),
            None if has("application-credential-id") || has("application-credential-name") => {
                Ok(Self::ApplicationCredential)
            }
            None if has("auth-url") && has("token") => Ok(Self::Token),
            None if has("auth-url") || has("username") || has("user-id") => Ok(Self::Password),
            None => Ok(Self::None),
        }
    }
}

/// A request for a token.
#[derive(Clone, PartialEq, Eq)]
pub struct Login {
    /// The body of `POST /v3/auth/tokens`.
    pub(crate) body: Value,
    /// The same without secrets.
    pub(crate) shown: Value,
}

impl std::fmt::Debug for Login {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_tuple("Login").field(&self.shown).finish()
    }
}

impl Login {
    /// The request that the settings ask for.
    ///
    /// # Errors
    /// Something is missing, or there is nothing to log in to.
    pub fn of(settings: &Settings, method: Method) -> Result<Self, Error> {
        let body = |secret: &dyn Fn(&str) -> String| {
            let identity = identity(settings, method, secret)?;
            let scope = match method {
                Method::ApplicationCredential => None,
                _ => named(settings, "project"),
            };
            Ok::<_, Error>(match scope {
                Some(project) => {
                    json!({"auth": {"identity": identity, "scope": {"project": project}}})
                }
                None => json!({"auth": {"identity": identity}}),
            })
        };
        Ok(Self {
            body: body(&str::to_owned)?,
            shown: body(&|_| "***".to_owned())?,
        })
    }
}

fn identity(
    settings: &Settings,
    method: Method,
    secret: &dyn Fn(&str) -> String,
) -> Result<Value, Error> {
    match method {
        Method::None => Err(Error::Configuration(
            "There is nothing to log in with.".to_owned(),
        )),
        Method::Password => {
            let mut user = user(settings, "password")?;
            let password = secret(settings.required("password", "password")?);
            user.insert("password".to_owned(), password.into());
            Ok(json!({"methods": ["password"], "password": {"user": user}}))
        }
        Method::Token => {
            let token = secret(settings.required("token", "token")?);
            Ok(json!({"methods": ["token"], "token": {"id": token}}))
        }
        Method::ApplicationCredential => {
            let plugin = "v3applicationcredential";
            let proof = secret(settings.required("application-credential-secret", plugin)?);
            let credential = match settings.get("application-credential-id") {
                Some(id) => json!({"id": id, "secret": proof}),
                None => {
                    let name = settings.required("application-credential-name", plugin)?;
                    // Names of application credentials are unique per user.
                    let user = user(settings, plugin)?;
                    json!({"name": name, "user": user, "secret": proof})
                }
            };
            Ok(json!({"methods": ["application_credential"], "application_credential": credential}))
        }
    }
}

fn user(settings: &Settings, plugin: &str) -> Result<Map<String, Value>, Error> {
    match named(settings, "user") {
        Some(user) => Ok(user),
        None => settings.required("username", plugin).map(|_| Map::new()),
    }
}

/// A user or project as Keystone wants it: by id, or by name and domain.
fn named(settings: &Settings, what: &str) -> Option<Map<String, Value>> {
    let entry = |key: &str, value: Value| (key.to_owned(), value);
    if let Some(id) = settings.get(&format!("{what}-id")) {
        return Some(Map::from_iter([entry("id", id.into())]));
    }
    let name = match what {
        "user" => settings.get("username"),
        _ => settings.get(&format!("{what}-name")),
    }?;
    let domain = |whose: &str| {
        let id = settings.get(&format!("{whose}-domain-id"));
        let name = settings.get(&format!("{whose}-domain-name"));
        id.map(|id| json!({"id": id}))
            .or_else(|| name.map(|name| json!({"name": name})))
    };
    let domain = domain(what)
        .or_else(|| domain("default"))
        .unwrap_or_else(|| json!({"id": DEFAULT_DOMAIN}));
    Some(Map::from_iter([
        entry("name", name.into()),
        entry("domain", domain),
    ]))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn login(pairs: &[(&str, &str)]) -> Result<Login, Error> {
        let mut settings = Settings::default();
        for (name, value) in pairs {
            assert!(settings.set(name, *value), "{name}");
        }
        Login::of(&settings, Method::of(&settings)?)
    }

    #[test]
    fn each_method_asks_as_the_identity_api_wants_it() {
        let password = login(&[
            ("auth-url", "x"),
            ("username", "u"),
            ("password", "p"),
            ("project-name", "j"),
            ("project-domain-name", "D"),
        ]);
        insta::assert_snapshot!(password.unwrap().body, @r#"{"auth":{"identity":{"methods":["password"],"password":{"user":{"name":"u","domain":{"id":"default"},"password":"p"}}},"scope":{"project":{"name":"j","domain":{"name":"D"}}}}}"#);
        let elsewhere = login(&[
            ("auth-url", "x"),
            ("username", "u"),
            ("password", "p"),
            ("project-name", "j"),
            ("project-domain-id", "d"),
            ("default-domain", "e"),
        ]);
        insta::assert_snapshot!(elsewhere.unwrap().body, @r#"{"auth":{"identity":{"methods":["password"],"password":{"user":{"name":"u","domain":{"id":"e"},"password":"p"}}},"scope":{"project":{"name":"j","domain":{"id":"d"}}}}}"#);
        let token = login(&[("auth-url", "x"), ("token", "t"), ("project-id", "1")]);
        insta::assert_snapshot!(token.unwrap().body, @r#"{"auth":{"identity":{"methods":["token"],"token":{"id":"t"}},"scope":{"project":{"id":"1"}}}}"#);
        let credential = login(&[
            ("application-credential-id", "c"),
            ("application-credential-secret", "s"),
            ("project-name", "never sent"),
        ]);
        insta::assert_snapshot!(credential.unwrap().body, @r#"{"auth":{"identity":{"methods":["application_credential"],"application_credential":{"id":"c","secret":"s"}}}}"#);
    }

    #[test]
    fn what_is_missing_is_named_as_keystoneauth_names_it() {
        let error = login(&[("auth-url", "x"), ("username", "u")]).unwrap_err();
        insta::assert_snapshot!(error, @"Missing value password required for auth plugin password");
        let error = login(&[("auth-url", "x"), ("password", "u")]).unwrap_err();
        insta::assert_snapshot!(error, @"Missing value username required for auth plugin password");
    }

    #[test]
    fn secrets_are_not_shown() {
        let shown = login(&[("auth-url", "x"), ("user-id", "u"), ("password", "hunter2")]);
        let shown = format!("{:?}", shown.unwrap());
        assert!(
            shown.contains("***") && !shown.contains("hunter2"),
            "{shown}"
        );
    }
}
