//! Who asks, and what they may do.
//!
//! ```text
//!  X-Auth-Token ─▶ nobody asked | token file | Keystone ─▶ Caller ─▶ policy ─▶ yes, or 403
//! ```
//!
//! Rules:
//! - Without authentication whoever reaches the socket is the administrator; [`crate::serve`] then listens on loopback or
//!   a unix socket alone.
//! - 401 is worded as keystonemiddleware words it, 403 as networking-l2gw; 403 is answered before 404, so that those who
//!   may nothing learn nothing.
//! - What is read again on SIGHUP and makes no sense leaves what was read before in place.

pub mod options;
mod policy;
mod token_file;

use std::path::PathBuf;
use std::sync::{Arc, RwLock};

use axum::http::header::{ORIGIN, WWW_AUTHENTICATE};
use axum::http::{HeaderMap, HeaderName, HeaderValue, StatusCode};
use axum::response::{IntoResponse, Response};
use model::fault::{Fault, FaultKind};
use model::resource::Resource;
use model::row::Row;
use openstack::Validator;

pub(crate) use self::policy::Operation;
use self::policy::Policy;
pub use self::policy::PolicyError;
pub use self::token_file::TokenFileError;
use self::token_file::Tokens;
use crate::lock::{read, write};

/// The project that owns what is made while there is no authentication. With it, the token's project takes this place.
const PROJECT: &str = "admin";
const TOKEN: HeaderName = HeaderName::from_static("x-auth-token");

/// Who asks, as every handler finds it among the request's extensions.
#[derive(Clone, Debug)]
pub(crate) struct Caller {
    /// The project that owns what the caller makes.
    pub(crate) project_id: Arc<str>,
    /// The user's id.
    pub(crate) user_id: Arc<str>,
    /// The user's name.
    pub(crate) user: Arc<str>,
    /// The names of the user's roles in the project.
    pub(crate) roles: Arc<[String]>,
    /// Whether the policy takes the caller for an administrator.
    pub(crate) is_admin: bool,
}

/// How callers are told apart.
pub(crate) enum Authentication {
    /// Not at all.
    None,
    /// By tokens of a file.
    TokenFile(PathBuf, RwLock<Arc<Tokens>>),
    /// By Keystone.
    Keystone(Box<Validator>),
}

/// Who asks, and what they may do.
pub struct Auth {
    authentication: Authentication,
    policy_file: Option<PathBuf>,
    policy: RwLock<Arc<Policy>>,
}

/// Why a request goes no further.
#[derive(Debug)]
pub(crate) enum Stopped {
    /// 401: it has no token, or not a good one. What keystonemiddleware puts into `WWW-Authenticate`.
    Unauthenticated(HeaderValue),
    /// Anything else.
    Fault(Fault),
}

impl Auth {
    pub(crate) fn new(
        authentication: Authentication,
        policy_file: Option<PathBuf>,
    ) -> Result<Self, PolicyError> {
        let policy = policy_file.as_deref().map(Policy::read).transpose()?;
        Ok(Self {
            authentication,
            policy_file,
            policy: RwLock::new(Arc::new(policy.unwrap_or_default())),
        })
    }

    /// Whether callers are told apart at all.
    pub(crate) fn tells_callers_apart(&self) -> bool {
        !matches!(self.authentication, Authentication::None)
    }

    /// The validator of tokens, if Keystone is asked.
    pub fn keystone(&self) -> Option<&Validator> {
        match &self.authentication {
            Authentication::Keystone(validator) => Some(validator),
            _ => None,
        }
    }

    /// Reads the token file and the policy again; what is wrong with them, if anything is.
    pub(crate) fn reload(&self) -> Vec<String> {
        let mut wrong = Vec::new();
        if let Authentication::TokenFile(path, tokens) = &self.authentication {
            match Tokens::read(path) {
                Ok(read) => *write(tokens) = Arc::new(read),
                Err(error) => wrong.push(error.to_string()),
            }
        }
        if let Some(path) = &self.policy_file {
            match Policy::read(path) {
                Ok(policy) => *write(&self.policy) = Arc::new(policy),
                Err(error) => wrong.push(error.to_string()),
            }
        }
        wrong
    }

    /// Finds out who asks.
    pub(crate) async fn identify(&self, headers: &HeaderMap) -> Result<Caller, Stopped> {
        let mut caller = match &self.authentication {
            Authentication::None => trusted(headers)?,
            Authentication::TokenFile(_, tokens) => {
                let challenge = HeaderValue::from_static("Keystone uri=\"\"");
                let token = headers.get(TOKEN);
                let token = token.ok_or_else(|| Stopped::Unauthenticated(challenge.clone()))?;
                let tokens = Arc::clone(&read(tokens));
                tokens
                    .caller(token.as_bytes())
                    .ok_or(Stopped::Unauthenticated(challenge))?
            }
            Authentication::Keystone(validator) => of_keystone(validator, headers).await?,
        };
        let policy = Arc::clone(&read(&self.policy));
        caller.is_admin = policy.is_admin(&caller);
        Ok(caller)
    }

    /// Refuses what the caller may do neither with resources of its own project nor with those of anybody.
    pub(crate) fn check_possible(
        &self,
        caller: &Caller,
        operation: Operation,
        resource: &Resource,
    ) -> Result<(), Fault> {
        let policy = read(&self.policy);
        let allows = |owner| policy.allows(caller, operation, resource, owner);
        if allows(None) || allows(Some(&caller.project_id)) {
            Ok(())
        } else {
            Err(forbidden(operation))
        }
    }

    /// Refuses what the caller may not do with `row`; `None` is a resource that does not exist, which nobody owns.
    pub(crate) fn check(
        &self,
        caller: &Caller,
        operation: Operation,
        resource: &Resource,
        row: Option<&Row>,
    ) -> Result<(), Fault> {
        let owner = row.map(|row| row.text("tenant_id"));
        if read(&self.policy).allows(caller, operation, resource, owner) {
            Ok(())
        } else {
            Err(forbidden(operation))
        }
    }

    /// Refuses what the caller may not create: by policy, or for another project.
    pub(crate) fn check_new(
        &self,
        caller: &Caller,
        resource: &Resource,
        rows: &[Row],
    ) -> Result<(), Fault> {
        for row in rows {
            self.check(caller, Operation::Create, resource, Some(row))?;
            let owner = row.text("tenant_id");
            if !caller.is_admin && !owner.is_empty() && owner != &*caller.project_id {
                return Err(admin_required("Cannot create resource for another tenant"));
            }
        }
        Ok(())
    }

    /// Refuses everybody but administrators.
    pub(crate) fn check_admin(caller: &Caller, operation: Operation) -> Result<(), Fault> {
        if caller.is_admin {
            Ok(())
        } else {
            Err(forbidden(operation))
        }
    }
}

fn forbidden(operation: Operation) -> Fault {
    admin_required(&format!(
        "Cannot {} resource for non admin tenant",
        operation.word()
    ))
}

/// neutron-lib's `AdminRequired`.
fn admin_required(reason: &str) -> Fault {
    let message = format!("User does not have admin privileges: {reason}.");
    Fault::new(FaultKind::AdminRequired, message)
}

/// The administrator, unless a web page asks: any page that the administrator visits could make requests to loopback, and
/// browsers say so by an `Origin` (Fetch standard, section 3.2). With tokens that is no danger, browsers have none.
fn trusted(headers: &HeaderMap) -> Result<Caller, Stopped> {
    if headers.contains_key(ORIGIN) {
        return Err(Stopped::Fault(Fault::new(
            FaultKind::AdminRequired,
            "Requests from web pages are refused while there is no authentication.",
        )));
    }
    Ok(Caller {
        project_id: PROJECT.into(),
        user_id: PROJECT.into(),
        user: PROJECT.into(),
        roles: Arc::new(["admin".to_owned()]),
        is_admin: true,
    })
}

async fn of_keystone(validator: &Validator, headers: &HeaderMap) -> Result<Caller, Stopped> {
    let refused = || {
        let uri = validator.keystone().endpoint().to_string();
        let challenge = HeaderValue::try_from(format!("Keystone uri=\"{uri}\""));
        Stopped::Unauthenticated(
            challenge.unwrap_or_else(|_| HeaderValue::from_static("Keystone uri=\"\"")),
        )
    };
    let token = headers.get(TOKEN).ok_or_else(refused)?;
    let known = validator
        .identify(token)
        .await
        .map_err(|cause| Stopped::Fault(Fault::unavailable("Keystone", cause)))?;
    let token = known.ok_or_else(refused)?;
    // A token without a project may be good for Keystone itself, here nothing can belong to it.
    let project = token.project.as_ref().ok_or_else(refused)?;
    Ok(Caller {
        project_id: project.id.as_str().into(),
        user_id: token.user.id.as_str().into(),
        user: token.user.name.as_str().into(),
        roles: token.roles.as_slice().into(),
        is_admin: false,
    })
}

impl Stopped {
    /// 401 as keystonemiddleware answers it, which is no NeutronError.
    pub(crate) fn unauthenticated(challenge: HeaderValue) -> Response {
        const BODY: &str = r#"{"error": {"message": "The request you have made requires authentication.", "code": 401, "title": "Unauthorized"}}"#;
        let json = HeaderValue::from_static("application/json");
        let headers = [
            (axum::http::header::CONTENT_TYPE, json),
            (WWW_AUTHENTICATE, challenge),
        ];
        (StatusCode::UNAUTHORIZED, headers, BODY).into_response()
    }
}
