//! One request and its answer.

use std::time::{Duration, Instant};

use bytes::Bytes;
use futures_util::stream;
use reqwest::header::{CONTENT_LENGTH, CONTENT_TYPE, HeaderValue};
use reqwest::{Body, Method, Request, Url};
use tracing::debug;

use crate::endpoint::Endpoint;
use crate::error::{Error, Refusal};
use crate::tls::{Trust, innermost};

/// How much of a large body is handed to the network at once: small enough for a smooth progress bar.
const UPLOAD_CHUNK: usize = 64 * 1024;
/// How much of a body the debug output shows.
const SHOWN_OF_BODY: usize = 2_000;

/// A key and value of a URL's query.
pub type Parameter = (String, String);

/// Speaks to one service.
#[derive(Clone, Debug)]
pub struct Client {
    http: reqwest::Client,
    endpoint: Endpoint,
    token: Option<HeaderValue>,
    timeout: Duration,
}

impl Client {
    /// A client of the service at `endpoint`, which waits at most `timeout` for each sign of life.
    ///
    /// # Errors
    /// The machine cannot open sockets, or a certificate cannot be read.
    pub fn new(endpoint: Endpoint, trust: &Trust, timeout: Duration) -> Result<Self, Error> {
        Ok(Self {
            http: trust.connect(&endpoint, timeout)?,
            endpoint,
            token: None,
            timeout,
        })
    }

    /// The same client, whose requests carry this token.
    #[must_use]
    pub fn with_token(mut self, mut token: HeaderValue) -> Self {
        token.set_sensitive(true);
        self.token = Some(token);
        self
    }

    /// The service's address.
    pub fn endpoint(&self) -> &Endpoint {
        &self.endpoint
    }

    /// GET of a path below `/v2.0`; the answer's body.
    ///
    /// # Errors
    /// The service cannot be reached or refuses.
    pub async fn get(&self, path: &[&str], query: &[Parameter]) -> Result<Bytes, Error> {
        let mut url = self.endpoint.url(path);
        if !query.is_empty() {
            url.query_pairs_mut().extend_pairs(query);
        }
        self.send(Method::GET, url, None).await
    }

    /// POST of a JSON text to a path below `/v2.0`; the answer's body.
    ///
    /// # Errors
    /// The service cannot be reached or refuses.
    pub async fn post(&self, path: &[&str], json: String) -> Result<Bytes, Error> {
        self.send(Method::POST, self.endpoint.url(path), Some(json))
            .await
    }

    /// PUT of a JSON text to a path below `/v2.0`; the answer's body.
    ///
    /// # Errors
    /// The service cannot be reached or refuses.
    pub async fn put(&self, path: &[&str], json: String) -> Result<Bytes, Error> {
        self.send(Method::PUT, self.endpoint.url(path), Some(json))
            .await
    }

    /// DELETE of a path below `/v2.0`.
    ///
    /// # Errors
    /// The service cannot be reached or refuses.
    pub async fn delete(&self, path: &[&str]) -> Result<(), Error> {
        self.send(Method::DELETE, self.endpoint.url(path), None)
            .await
            .map(drop)
    }

    /// POST of a large JSON text, telling `sent` after each part how many bytes are on their way.
    ///
    /// # Errors
    /// The service cannot be reached or refuses.
    pub async fn upload(
        &self,
        path: &[&str],
        json: Bytes,
        sent: impl Fn(usize) + Send + Sync + 'static,
    ) -> Result<Bytes, Error> {
        let url = self.endpoint.url(path);
        debug!(
            "curl -i -X POST '{url}'{} -d @- # {} bytes",
            self.shown_token(),
            json.len()
        );
        // The length is known, so the service can refuse a body that is too large before it is sent.
        let length = json.len();
        let parts = stream::unfold((json, sent), move |(mut rest, sent)| async move {
            if rest.is_empty() {
                return None;
            }
            let part = rest.split_to(rest.len().min(UPLOAD_CHUNK));
            sent(length - rest.len());
            Some((Ok::<_, std::convert::Infallible>(part), (rest, sent)))
        });
        let request = self
            .http
            .request(Method::POST, url)
            .header(CONTENT_TYPE, "application/json")
            .header(CONTENT_LENGTH, length)
            .body(Body::wrap_stream(parts))
            .build();
        self.execute(request).await
    }

    async fn send(&self, method: Method, url: Url, json: Option<String>) -> Result<Bytes, Error> {
        let mut request = self.http.request(method.clone(), url.clone());
        if let Some(json) = json {
            debug!(
                "curl -i -X {method} '{url}'{} -d '{}'",
                self.shown_token(),
                shortened(&json)
            );
            request = request.header(CONTENT_TYPE, "application/json").body(json);
        } else {
            debug!("curl -i -X {method} '{url}'{}", self.shown_token());
        }
        self.execute(request.build()).await
    }

    /// The token's place in a command line that is shown to people.
    fn shown_token(&self) -> &'static str {
        match self.token {
            Some(_) => " -H 'X-Auth-Token: ***'",
            None => "",
        }
    }

    async fn execute(&self, request: reqwest::Result<Request>) -> Result<Bytes, Error> {
        let mut request = request.map_err(|cause| self.failed(&cause))?;
        if let Some(token) = &self.token {
            request.headers_mut().insert("x-auth-token", token.clone());
        }
        let begun = Instant::now();
        let response = self
            .http
            .execute(request)
            .await
            .map_err(|cause| self.failed(&cause))?;
        let status = response.status();
        let request_id = response
            .headers()
            .get("x-openstack-request-id")
            .and_then(|id| id.to_str().ok())
            .map(str::to_owned);
        let body = response
            .bytes()
            .await
            .map_err(|cause| self.failed(&cause))?;
        debug!(
            "{status}, {} bytes after {} ms, {}: {}",
            body.len(),
            begun.elapsed().as_millis(),
            request_id.as_deref().unwrap_or("no request id"),
            shortened(&String::from_utf8_lossy(
                body.get(..SHOWN_OF_BODY).unwrap_or(&body)
            )),
        );
        if status.is_success() {
            Ok(body)
        } else {
            Err(Error::Refused(Refusal::read(
                status.as_u16(),
                request_id,
                &body,
            )))
        }
    }

    /// An answer that cannot be read.
    pub(crate) fn garbled(&self, cause: impl std::fmt::Display) -> Error {
        Error::Garbled {
            endpoint: self.endpoint.to_string(),
            cause: cause.to_string(),
        }
    }

    fn failed(&self, cause: &reqwest::Error) -> Error {
        let endpoint = self.endpoint.to_string();
        if cause.is_timeout() && !cause.is_connect() {
            let timeout = self.timeout;
            return Error::Timeout { endpoint, timeout };
        }
        Error::Unreachable {
            endpoint,
            cause: innermost(cause),
        }
    }
}

fn shortened(text: &str) -> String {
    match text.char_indices().nth(SHOWN_OF_BODY) {
        Some((end, _)) => format!("{}…", text.get(..end).unwrap_or_default()),
        None => text.to_owned(),
    }
}
