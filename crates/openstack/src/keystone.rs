//! Keystone's Identity API v3, as far as logging in and asking about tokens goes.

use std::time::Duration;

use jiff::Timestamp;
use reqwest::header::HeaderValue;
use reqwest::{RequestBuilder, Response};
use serde::Deserialize;
use tracing::debug;

use crate::catalog::Service;
use crate::endpoint::Endpoint;
use crate::error::{Error, Refusal};
use crate::login::Login;
use crate::tls::{Trust, innermost};

/// What Keystone says about a token.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Token {
    /// Until when it is good.
    pub expires_at: Timestamp,
    /// Whose it is.
    pub user: Named,
    /// The project it is for; tokens without one cannot own anything.
    pub project: Option<Named>,
    /// The names of the user's roles in that project.
    pub roles: Vec<String>,
    /// Which services there are.
    pub catalog: Vec<Service>,
}

/// A user, project or role.
#[derive(Clone, Debug, Deserialize, PartialEq, Eq)]
pub struct Named {
    /// Its id.
    pub id: String,
    /// Its name.
    pub name: String,
}

/// Somebody who logged in.
#[derive(Clone)]
pub struct Session {
    /// What proves it.
    pub secret: HeaderValue,
    /// What it says.
    pub token: Token,
}

/// A Keystone.
#[derive(Clone, Debug)]
pub struct Keystone {
    http: reqwest::Client,
    endpoint: Endpoint,
    tokens: reqwest::Url,
    timeout: Duration,
}

#[derive(Deserialize)]
struct Answer {
    token: AnsweredToken,
}

#[derive(Deserialize)]
struct AnsweredToken {
    expires_at: String,
    user: Named,
    #[serde(default)]
    project: Option<Named>,
    #[serde(default)]
    roles: Vec<Named>,
    #[serde(default)]
    catalog: Vec<Service>,
}

impl Keystone {
    /// The Keystone at `auth_url`, with or without the `/v3` behind.
    ///
    /// # Errors
    /// It is no address, or a certificate cannot be read.
    pub fn new(auth_url: &str, trust: &Trust, timeout: Duration) -> Result<Self, Error> {
        let base = auth_url.trim_end_matches('/');
        let base = base
            .strip_suffix("/v3")
            .or_else(|| base.strip_suffix("/v2.0"))
            .unwrap_or(base);
        let wrong = |cause: String| Error::Configuration(format!("auth-url {auth_url}: {cause}"));
        let endpoint: Endpoint = base.parse().map_err(|cause| wrong(format!("{cause}")))?;
        let tokens = endpoint.below(&["v3", "auth", "tokens"]);
        Ok(Self {
            // Keystone under uwsgi's `http-socket` closes a connection after its answer without saying so; the next
            // request on it would fail. Questions are rare enough to each have a connection.
            http: trust.connect_each_time(&endpoint, timeout)?,
            endpoint,
            tokens,
            timeout,
        })
    }

    /// Its address.
    pub fn endpoint(&self) -> &Endpoint {
        &self.endpoint
    }

    /// Logs in.
    ///
    /// # Errors
    /// Keystone cannot be reached or refuses.
    pub async fn login(&self, login: &Login) -> Result<Session, Error> {
        debug!(
            "curl -i -X POST '{}' -H 'Content-Type: application/json' -d '{}'",
            self.tokens, login.shown
        );
        let request = self.http.post(self.tokens.clone()).json(&login.body);
        let response = self.send(request).await?;
        let secret = response.headers().get("x-subject-token").cloned();
        let mut secret = secret.ok_or_else(|| self.garbled("no X-Subject-Token"))?;
        secret.set_sensitive(true);
        let token = self.read(response).await?;
        Ok(Session { secret, token })
    }

    /// Asks what `token` is; nothing if Keystone does not know it, or no longer.
    ///
    /// # Errors
    /// Keystone cannot be reached or refuses to tell the service.
    pub async fn inspect(
        &self,
        service: &HeaderValue,
        token: &HeaderValue,
    ) -> Result<Option<Token>, Error> {
        // The catalogue would be most of the answer.
        let mut url = self.tokens.clone();
        url.set_query(Some("nocatalog"));
        debug!("curl -i '{url}' -H 'X-Auth-Token: ***' -H 'X-Subject-Token: ***'");
        let request = self
            .http
            .get(url)
            .header("X-Auth-Token", service)
            .header("X-Subject-Token", token);
        match self.send(request).await {
            Ok(response) => Ok(Some(self.read(response).await?)),
            Err(Error::Keystone { refusal, .. }) if refusal.status == 404 => Ok(None),
            Err(error) => Err(error),
        }
    }

    async fn send(&self, request: RequestBuilder) -> Result<Response, Error> {
        let response = request.send().await.map_err(|cause| self.failed(&cause))?;
        let status = response.status();
        let header = |name: &str| {
            let value = response.headers().get(name)?.to_str().ok()?;
            Some(value.to_owned())
        };
        let request_id = header("x-openstack-request-id");
        debug!(
            "{status}, {}",
            request_id.as_deref().unwrap_or("no request id")
        );
        if status.is_success() {
            return Ok(response);
        }
        if status.is_server_error() {
            return Err(self.away(format!("it answered {status}")));
        }
        let body = response.bytes().await.unwrap_or_default();
        Err(Error::Keystone {
            endpoint: self.endpoint.to_string(),
            refusal: Refusal::read(status.as_u16(), request_id, &body),
        })
    }

    async fn read(&self, response: Response) -> Result<Token, Error> {
        let body = response
            .bytes()
            .await
            .map_err(|cause| self.failed(&cause))?;
        let Answer { token } =
            serde_json::from_slice(&body).map_err(|cause| self.garbled(cause))?;
        Ok(Token {
            expires_at: token
                .expires_at
                .parse()
                .map_err(|cause| self.garbled(cause))?,
            user: token.user,
            project: token.project,
            roles: token.roles.into_iter().map(|role| role.name).collect(),
            catalog: token.catalog,
        })
    }

    fn garbled(&self, cause: impl std::fmt::Display) -> Error {
        self.away(format!("its answer makes no sense: {cause}"))
    }

    fn failed(&self, cause: &reqwest::Error) -> Error {
        if cause.is_timeout() && !cause.is_connect() {
            return self.away(format!("no answer within {} s", self.timeout.as_secs()));
        }
        self.away(innermost(cause))
    }

    fn away(&self, cause: String) -> Error {
        Error::NoKeystone {
            endpoint: self.endpoint.to_string(),
            cause,
        }
    }
}
