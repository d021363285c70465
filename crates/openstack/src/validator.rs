//! Whose token a request carries: asked of Keystone in the name of a service user, and remembered for a while.
//!
//! Rules:
//! - A token is believed until it expires, and no longer than the revocation window after Keystone was last asked.
//! - Requests that come with the same token at the same time ask Keystone once.
//! - Memory is bounded; a flood of made-up tokens does not push out those that are in use (TinyLFU admission).
//! - Tokens themselves are not kept, only their SHA-256.
//! - While Keystone does not answer nothing new is remembered, and what is remembered stays good.

use std::sync::Arc;
use std::time::{Duration, Instant};

use jiff::Timestamp;
use moka::Expiry;
use moka::future::Cache;
use reqwest::header::HeaderValue;
use ring::digest::{SHA256, digest};
use tokio::sync::Mutex;

use crate::error::Error;
use crate::keystone::{Keystone, Session, Token};
use crate::login::Login;

/// As many tokens are remembered.
const REMEMBERED: u64 = 20_000;
/// How long a token that Keystone does not know stays unknown: short, because with several Keystones one may not know it
/// yet; long enough to keep a client that insists from Keystone.
const UNKNOWN_FOR: Duration = Duration::from_secs(10);
/// A service token is replaced when so little is left of it.
const RENEWED_BEFORE: Duration = Duration::from_secs(60);

type Digest = [u8; 32];
/// What Keystone says of a token: nothing when it does not know it.
type Verdict = Option<Arc<Token>>;

/// Finds out whose tokens are.
#[derive(Clone)]
pub struct Validator {
    asked: Arc<Asked>,
    verdicts: Cache<Digest, Verdict>,
}

struct Asked {
    keystone: Keystone,
    login: Login,
    service: Mutex<Option<Session>>,
}

/// How long verdicts are good.
struct Window(Duration);

impl Expiry<Digest, Verdict> for Window {
    fn expire_after_create(&self, _: &Digest, verdict: &Verdict, _: Instant) -> Option<Duration> {
        Some(match verdict {
            Some(token) => left(token.expires_at).min(self.0),
            None => self.0.min(UNKNOWN_FOR),
        })
    }
}

fn left(expires_at: Timestamp) -> Duration {
    let left = expires_at.duration_since(Timestamp::now());
    Duration::try_from(left).unwrap_or(Duration::ZERO)
}

impl Validator {
    /// Asks `keystone` in the name of the service user who logs in by `login`; what it says is believed for `window`.
    pub fn new(keystone: Keystone, login: Login, window: Duration) -> Self {
        Self {
            asked: Arc::new(Asked {
                keystone,
                login,
                service: Mutex::default(),
            }),
            verdicts: Cache::builder()
                .max_capacity(REMEMBERED)
                .expire_after(Window(window))
                .build(),
        }
    }

    /// The Keystone that is asked.
    pub fn keystone(&self) -> &Keystone {
        &self.asked.keystone
    }

    /// Asks about the service user's own token, which shows whether Keystone is there and knows the service user. The answer
    /// is not remembered.
    ///
    /// # Errors
    /// It cannot be reached or refuses.
    pub async fn check(&self) -> Result<(), Error> {
        let asked = &self.asked;
        let service = asked.service_token().await?;
        match asked.about(&service).await? {
            Some(_) => Ok(()),
            // It was good a moment ago: Keystone has new keys, or is another one.
            None => {
                asked.forget(&service).await;
                asked.service_token().await.map(drop)
            }
        }
    }

    /// What the token says; nothing if it is not good.
    ///
    /// # Errors
    /// Keystone cannot be reached or refuses to tell.
    pub async fn identify(&self, token: &HeaderValue) -> Result<Verdict, Arc<Error>> {
        let mut key = Digest::default();
        key.copy_from_slice(digest(&SHA256, token.as_bytes()).as_ref());
        let asked = Arc::clone(&self.asked);
        let verdict = self
            .verdicts
            .try_get_with(key, async move { asked.about(token).await })
            .await?;
        // The cache forgets by a clock of its own; what counts is the token's.
        Ok(verdict.filter(|token| !left(token.expires_at).is_zero()))
    }
}

impl Asked {
    async fn about(&self, token: &HeaderValue) -> Result<Verdict, Error> {
        let service = self.service_token().await?;
        let answer = match self.keystone.inspect(&service, token).await {
            // The service's own token was revoked, or Keystone has new keys.
            Err(Error::Keystone { refusal, .. }) if refusal.status == 401 => {
                self.forget(&service).await;
                let service = self.service_token().await?;
                self.keystone.inspect(&service, token).await
            }
            answer => answer,
        };
        Ok(answer?.map(Arc::new))
    }

    async fn service_token(&self) -> Result<HeaderValue, Error> {
        // Held while logging in: who comes meanwhile needs the same token.
        let mut service = self.service.lock().await;
        let good = |session: &&Session| left(session.token.expires_at) > RENEWED_BEFORE;
        if let Some(session) = service.as_ref().filter(good) {
            return Ok(session.secret.clone());
        }
        let session = self.keystone.login(&self.login).await?;
        let secret = session.secret.clone();
        *service = Some(session);
        Ok(secret)
    }

    async fn forget(&self, secret: &HeaderValue) {
        let mut service = self.service.lock().await;
        if service.as_ref().is_some_and(|s| s.secret == *secret) {
            *service = None;
        }
    }
}
