//! What the operator says about who may ask.

use std::path::PathBuf;
use std::sync::{Arc, RwLock};
use std::time::Duration;

use openstack::clouds::Places;
use openstack::login::Method;
use openstack::{Keystone, Login, Settings, Trust, Validator};

use super::token_file::Tokens;
use super::{Auth, Authentication, PolicyError, TokenFileError};

/// How long Keystone may keep silent: clients wait for us meanwhile.
const KEYSTONE_WITHIN: Duration = Duration::from_secs(10);
/// Seconds; keystonemiddleware's `token_cache_time`.
const WINDOW: u64 = 300;

/// Options of `l2gw server` about who may ask.
#[derive(Clone, Debug, clap::Args)]
#[command(next_help_heading = "Who may ask")]
pub struct AuthOptions {
    /// File of static tokens, each with user, project and roles; read again on SIGHUP.
    #[arg(long, value_name = "FILE", conflicts_with = "keystone_url")]
    pub token_file: Option<PathBuf>,
    /// Keystone that knows the callers' tokens. The service user who asks it is told by OS_USERNAME, OS_PASSWORD,
    /// OS_PROJECT_NAME and the like, or --os-cloud.
    #[arg(long, value_name = "URL")]
    pub keystone_url: Option<String>,
    /// Cloud of clouds.yaml with Keystone's address and the service user.
    #[arg(long, value_name = "NAME", conflicts_with = "token_file")]
    pub os_cloud: Option<String>,
    /// How long a token is believed before Keystone is asked again, in seconds: so long a revoked one is good.
    #[arg(long, value_name = "SECONDS", default_value_t = WINDOW)]
    pub token_cache_time: u64,
    /// Rules of who may do what, in oslo.policy's language; admin only where left out. Read again on SIGHUP.
    #[arg(long, value_name = "FILE")]
    pub policy_file: Option<PathBuf>,
}

impl Default for AuthOptions {
    fn default() -> Self {
        Self {
            token_file: None,
            keystone_url: None,
            os_cloud: None,
            token_cache_time: WINDOW,
            policy_file: None,
        }
    }
}

/// Why callers cannot be told apart: one line for whoever starts the server.
#[derive(Debug, thiserror::Error)]
pub enum AuthError {
    /// The token file cannot be used.
    #[error(transparent)]
    Tokens(#[from] TokenFileError),
    /// The policy file cannot be used.
    #[error(transparent)]
    Policy(#[from] PolicyError),
    /// The service user's login is incomplete, or a file of it cannot be read.
    #[error("Keystone's service user: {0}")]
    Keystone(#[from] openstack::Error),
}

impl AuthOptions {
    /// Reads all files. Keystone may be away: it is asked when the first request comes.
    ///
    /// # Errors
    /// See [`AuthError`].
    pub fn open(self) -> Result<Auth, AuthError> {
        let authentication = match (self.token_file, self.keystone_url, self.os_cloud) {
            (Some(path), _, _) => {
                let tokens = RwLock::new(Arc::new(Tokens::read(&path)?));
                Authentication::TokenFile(path, tokens)
            }
            (None, None, None) => Authentication::None,
            (None, url, cloud) => {
                let window = Duration::from_secs(self.token_cache_time);
                Authentication::Keystone(Box::new(validator(url, cloud, window)?))
            }
        };
        Ok(Auth::new(authentication, self.policy_file)?)
    }
}

fn validator(
    url: Option<String>,
    cloud: Option<String>,
    window: Duration,
) -> Result<Validator, openstack::Error> {
    let variable = |name: &str| std::env::var(name).ok();
    let mut settings = Settings::default();
    if let Some(url) = url {
        settings.set("auth-url", url);
    }
    settings = settings.over(Settings::of_environment(variable));
    if let Some(cloud) = cloud {
        settings = settings.over(Places::of_environment(variable).cloud(&cloud)?);
    }
    let missing = "auth-url is missing: name it by --keystone-url, or in the cloud";
    let url = settings
        .get("auth-url")
        .ok_or_else(|| openstack::Error::Configuration(missing.to_owned()))?;
    let login = Login::of(&settings, Method::of(&settings)?)?;
    let keystone = Keystone::new(url, &Trust::of(&settings), KEYSTONE_WITHIN)?;
    Ok(Validator::new(keystone, login, window))
}
