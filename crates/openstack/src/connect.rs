//! From settings to a client: log in if there is a Keystone, find the service, carry the token.

use std::time::Duration;

use reqwest::header::HeaderValue;

use crate::catalog::Wanted;
use crate::client::Client;
use crate::endpoint::Endpoint;
use crate::error::Error;
use crate::keystone::Keystone;
use crate::login::{Login, Method};
use crate::settings::Settings;
use crate::tls::Trust;

/// The service's type in the catalogue, unless another is told.
const SERVICE_TYPE: &str = "network";
/// Which of its endpoints.
const INTERFACE: &str = "public";

impl Trust {
    /// What the settings say about trust.
    pub fn of(settings: &Settings) -> Self {
        let path = |name| settings.get(name).map(Into::into);
        Self {
            cacert: path("cacert"),
            cert: path("cert"),
            key: path("key"),
            insecure: settings.is_on("insecure"),
        }
    }
}

/// The client that the settings ask for; where they name neither Keystone nor server, one of `default`.
///
/// # Errors
/// The settings make no sense, Keystone cannot be reached or refuses, or its catalogue lacks the service.
pub async fn connect(
    settings: &Settings,
    default: &str,
    timeout: Duration,
) -> Result<Client, Error> {
    let trust = Trust::of(settings);
    let method = Method::of(settings)?;
    let client = |address: &str| {
        let endpoint: Endpoint = address
            .parse()
            .map_err(|cause| Error::Configuration(format!("endpoint {address}: {cause}")))?;
        Client::new(endpoint, &trust, timeout)
    };
    if method == Method::None {
        let client = client(settings.get("endpoint").unwrap_or(default))?;
        return match settings.get("token") {
            Some(token) => Ok(client.with_token(header(token)?)),
            None => Ok(client),
        };
    }
    let auth_url = settings.required("auth-url", "password")?;
    let login = Login::of(settings, method)?;
    let keystone = Keystone::new(auth_url, &trust, timeout)?;
    let session = keystone.login(&login).await?;
    let wanted = Wanted {
        kind: settings.get("service-type").unwrap_or(SERVICE_TYPE),
        region: settings.get("region-name"),
        interface: settings.get("interface").unwrap_or(INTERFACE),
    };
    let address = settings
        .get("endpoint")
        .or_else(|| wanted.find(&session.token.catalog))
        .ok_or_else(|| Error::Configuration(format!("{wanted} not found")))?;
    Ok(client(address)?.with_token(session.secret))
}

fn header(token: &str) -> Result<HeaderValue, Error> {
    HeaderValue::from_str(token)
        .map_err(|_| Error::Configuration("The token has characters no token has.".to_owned()))
}
