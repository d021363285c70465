//! A real Keystone on a port of 127.0.0.1, with people who may log in.
//!
//! It comes from PyPI and keeps its state in SQLite. Making it takes a while (a schema, keys, people), so that is done
//! once, kept beside the build, and copied. A shell watches over it as over PostgreSQL: when the process that started it
//! ends, however it ends, Keystone is stopped and its files are removed. So it can live in a static.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::{Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use serde_json::{Value, json};

use crate::daemon::Daemon;
use crate::http::{self, Answer};
use crate::janitor::Janitor;
use crate::port::free_port;
use crate::python::{self, Environment, made_once};
use crate::run::run;

const CONFIGURATION: &str = include_str!("../python/keystone.conf");
const MAKE: &str = include_str!("../python/make_keystone.py");

/// Python loads all of Keystone first: seconds, on a machine with other things to do many.
const READY_WITHIN: Duration = Duration::from_secs(120);

/// Tells of every request which token it is about, if it is about one.
const LOG_FORMAT: &str = "%(method) %(uri) %(status), about %(var.HTTP_X_SUBJECT_TOKEN)";
/// How the line of a good answer about a token begins.
const INSPECTED: &str = "GET /v3/auth/tokens?nocatalog 200, about ";

/// Somebody who may log in. The password is [`Person::password`], the domain the default one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Person {
    /// The user's name.
    pub user: &'static str,
    /// The project's name.
    pub project: &'static str,
    /// The user's role in the project.
    pub role: &'static str,
}

/// The administrator.
pub const ADMIN: Person = Person {
    user: "admin",
    project: "admin",
    role: "admin",
};
/// Somebody without rights of an administrator.
pub const ALICE: Person = Person {
    user: "alice",
    project: "demo",
    role: "member",
};
/// The user as whom `l2gw server` asks about tokens.
pub const SERVICE: Person = Person {
    user: "l2gw",
    project: "service",
    role: "service",
};
/// The administrator is the first, as `make_keystone.py` wants it.
const PEOPLE: [Person; 3] = [ADMIN, ALICE, SERVICE];

impl Person {
    /// The user's password.
    #[must_use]
    pub fn password(&self) -> String {
        format!("{}-password", self.user)
    }

    /// The variables with which an OpenStack client logs in.
    #[must_use]
    pub fn variables(&self, keystone: &Keystone) -> Vec<(String, String)> {
        [
            ("OS_AUTH_URL", keystone.url()),
            ("OS_USERNAME", self.user.to_owned()),
            ("OS_PASSWORD", self.password()),
            ("OS_PROJECT_NAME", self.project.to_owned()),
            ("OS_USER_DOMAIN_ID", "default".to_owned()),
            ("OS_PROJECT_DOMAIN_ID", "default".to_owned()),
            ("OS_IDENTITY_API_VERSION", "3".to_owned()),
        ]
        .map(|(name, value)| (name.to_owned(), value))
        .into()
    }
}

/// A Keystone: running, or stopped and ready to be started again on the same port with the same state.
#[derive(Debug)]
pub struct Keystone {
    directory: PathBuf,
    environment: Environment,
    port: u16,
    running: Mutex<Option<Daemon>>,
    /// The administrator's token and the id of the service of type network: asked for once.
    known: OnceLock<(String, String)>,
    /// Ends it and removes its directory.
    _janitor: Janitor,
}

impl Keystone {
    /// A running Keystone; what can be kept for the next one is kept below `place`.
    ///
    /// # Errors
    /// It cannot be installed or does not start.
    pub fn start(place: &Path) -> Result<Self> {
        let environment = python::KEYSTONE.installed_in(place)?;
        let template = template(place, &environment)?;
        let janitor = Janitor::start("l2gw-keystone-", "pid", "KILL")?;
        let directory = janitor.directory().to_owned();
        let keystone = Self {
            directory,
            environment,
            port: free_port()?,
            running: Mutex::default(),
            known: OnceLock::new(),
            _janitor: janitor,
        };
        let all = template.join(".");
        run(Command::new("cp")
            .arg("-a")
            .arg(all)
            .arg(&keystone.directory))?;
        keystone.start_again()?;
        Ok(keystone)
    }

    /// Starts it again after [`Self::kill`].
    ///
    /// # Errors
    /// It does not start; with the end of its log.
    pub fn start_again(&self) -> Result<()> {
        self.await_answers(self.launch()?)
    }

    fn launch(&self) -> Result<Daemon> {
        let mut uwsgi = self.environment.command("pyuwsgi");
        uwsgi.current_dir(&self.directory);
        uwsgi.env("OS_KEYSTONE_CONFIG_DIR", &self.directory);
        uwsgi.env("OS_KEYSTONE_CONFIG_FILES", "keystone.conf");
        uwsgi.args(["--http-socket", &self.address()]);
        uwsgi.args(["--module", "keystone.wsgi.api:application", "--need-app"]);
        uwsgi.args(["--die-on-term", "--pidfile", "pid"]);
        uwsgi.args(["--logformat", LOG_FORMAT]);
        // It closes connections after each answer; clients that are not told may use one once more.
        uwsgi.args(["--add-header", "Connection: close"]);
        Daemon::start(uwsgi, &self.directory.join("uwsgi.log"))
    }

    fn await_answers(&self, mut daemon: Daemon) -> Result<()> {
        daemon.wait_until("Keystone answers", READY_WITHIN, || {
            http::request(&self.address(), "GET", "/v3", &[], None)?.succeeded()
        })?;
        *self.running() = Some(daemon);
        Ok(())
    }

    /// Ends it as a crash would.
    ///
    /// # Errors
    /// It does not run.
    pub fn kill(&self) -> Result<()> {
        fs::remove_file(self.directory.join("pid"))?;
        let daemon = self.running().take().context("Keystone does not run")?;
        daemon.kill()
    }

    /// Its address, as `OS_AUTH_URL` has it.
    #[must_use]
    pub fn url(&self) -> String {
        format!("http://{}/v3", self.address())
    }

    /// How often it was asked whose `token` is.
    ///
    /// # Errors
    /// Its log cannot be read.
    pub fn inspections(&self, token: &str) -> Result<usize> {
        let log = self.log()?;
        Ok(log.matches(&format!("{INSPECTED}{token}\n")).count())
    }

    /// Logs somebody in: the token.
    ///
    /// # Errors
    /// Keystone refuses.
    pub fn token(&self, person: &Person) -> Result<String> {
        let domain = json!({"id": "default"});
        self.log_in(
            person,
            Some(json!({"project": {"name": person.project, "domain": domain}})),
        )
    }

    /// Logs somebody in for no project, which is good for little more than asking which projects there are.
    ///
    /// # Errors
    /// Keystone refuses.
    pub fn token_without_project(&self, person: &Person) -> Result<String> {
        self.log_in(person, None)
    }

    fn log_in(&self, person: &Person, scope: Option<Value>) -> Result<String> {
        let mut login = json!({"auth": {"identity": {"methods": ["password"], "password": {"user": {
            "name": person.user, "domain": {"id": "default"}, "password": person.password()}}}}});
        if let (Some(scope), Some(auth)) = (
            scope,
            login.pointer_mut("/auth").and_then(Value::as_object_mut),
        ) {
            auth.insert("scope".to_owned(), scope);
        }
        let answer = http::request(
            &self.address(),
            "POST",
            "/v3/auth/tokens",
            &[],
            Some(&login),
        )?;
        answer.succeeded()?;
        let token = answer.header("x-subject-token").context("no token")?;
        Ok(token.to_owned())
    }

    /// Revokes a token.
    ///
    /// # Errors
    /// Keystone refuses.
    pub fn revoke(&self, token: &str) -> Result<()> {
        let headers = [("X-Auth-Token", token), ("X-Subject-Token", token)];
        let answer = http::request(&self.address(), "DELETE", "/v3/auth/tokens", &headers, None)?;
        answer.succeeded().map(drop)
    }

    /// Names `url` in the catalogue as the endpoint of type network of a region of its own.
    ///
    /// # Errors
    /// Keystone refuses.
    pub fn name_network_endpoint(&self, region: &str, url: &str) -> Result<()> {
        let (token, service) = self.network_service()?;
        let region_path = format!("/v3/regions/{region}");
        let named = self.ask(&token, "PUT", &region_path, Some(&json!({"region": {}})))?;
        named.succeeded()?;
        let endpoint = json!({"endpoint": {
            "service_id": service, "interface": "public", "region_id": region, "url": url,
        }});
        let named = self.ask(&token, "POST", "/v3/endpoints", Some(&endpoint))?;
        named.succeeded().map(drop)
    }

    fn network_service(&self) -> Result<(String, String)> {
        if let Some(known) = self.known.get() {
            return Ok(known.clone());
        }
        let token = self.token(&ADMIN)?;
        let services = self.ask(&token, "GET", "/v3/services?type=network", None)?;
        let services = services.succeeded()?;
        let service = services.pointer("/services/0/id").and_then(Value::as_str);
        let found = (token, service.context("no service")?.to_owned());
        Ok(self.known.get_or_init(|| found).clone())
    }

    /// Makes an application credential of somebody: its id and its secret.
    ///
    /// # Errors
    /// Keystone refuses.
    pub fn application_credential(&self, person: &Person, name: &str) -> Result<(String, String)> {
        let token = self.token(person)?;
        let known = [("X-Auth-Token", &*token), ("X-Subject-Token", &*token)];
        let whose = http::request(&self.address(), "GET", "/v3/auth/tokens", &known, None)?;
        let whose = whose.succeeded()?;
        let user = whose.pointer("/token/user/id").and_then(Value::as_str);
        let path = format!(
            "/v3/users/{}/application_credentials",
            user.context("no user")?
        );
        let wanted = json!({"application_credential": {"name": name}});
        let made = self
            .ask(&token, "POST", &path, Some(&wanted))?
            .succeeded()?;
        let text = |key: &str| {
            let value = made.pointer(&format!("/application_credential/{key}"));
            value.and_then(Value::as_str).map(str::to_owned)
        };
        text("id")
            .zip(text("secret"))
            .with_context(|| made.to_string())
    }

    /// Asks in the name of whose `token` is.
    ///
    /// # Errors
    /// It does not run.
    pub fn ask(
        &self,
        token: &str,
        method: &str,
        path: &str,
        body: Option<&Value>,
    ) -> Result<Answer> {
        http::request(
            &self.address(),
            method,
            path,
            &[("X-Auth-Token", token)],
            body,
        )
    }

    fn log(&self) -> Result<String> {
        Ok(fs::read_to_string(self.directory.join("uwsgi.log"))?)
    }

    fn address(&self) -> String {
        format!("127.0.0.1:{}", self.port)
    }

    fn running(&self) -> MutexGuard<'_, Option<Daemon>> {
        self.running.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Keystone {
    fn drop(&mut self) {
        // It is our child: the janitor would wait for its end, and we for the janitor's. An error means it is killed.
        let _ = self.kill();
    }
}

/// The files of a Keystone that has never run.
fn template(place: &Path, environment: &Environment) -> Result<PathBuf> {
    let directory = place.join("keystone-template");
    let people: Vec<_> = PEOPLE
        .iter()
        .map(|person| format!("{} {} {}", person.user, person.project, person.role))
        .collect();
    let requirements = python::KEYSTONE.requirements();
    let recipe = format!("{MAKE}{CONFIGURATION}{people:?}{requirements}");
    made_once(&directory, &recipe, |directory| {
        fs::write(directory.join("keystone.conf"), CONFIGURATION)?;
        let mut make = environment.command("python");
        run(make.args(["-c", MAKE]).args(&people).current_dir(directory))?;
        ensure!(directory.join("keystone.db").exists(), "no database");
        Ok(())
    })?;
    Ok(directory)
}
