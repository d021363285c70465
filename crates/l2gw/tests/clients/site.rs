//! A server that asks Keystone, named in the catalogue as the network service of a region of its own; and the clients.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::LazyLock;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use anyhow::Context as _;
use serde_json::Value;
use tempfile::TempDir;
use testkit::daemon::Daemon;
use testkit::http::{self, Answer};
use testkit::keystone::{ADMIN, Keystone, Person, SERVICE};
use testkit::python::{Environment, NEUTRON, OPENSTACK, Recipe};
use testkit::shell::{Outcome, Shell};

/// What all test programs keep for the next run.
pub(crate) const KEPT: &str = env!("CARGO_TARGET_TMPDIR");

/// How long a server may take until it answers, on a machine with other things to do.
pub(crate) const READY_WITHIN: Duration = Duration::from_secs(60);

/// The Keystone of all tests that do it no harm.
pub(crate) static KEYSTONE: LazyLock<Keystone> =
    LazyLock::new(|| Keystone::start(Path::new(KEPT)).unwrap());

/// `openstack`, from python-openstackclient with networking-l2gw's plugin.
static OPENSTACK_SHELL: LazyLock<Shell> =
    LazyLock::new(|| load(&OPENSTACK, "openstack", "openstackclient.shell:main"));

/// `neutron`, from python-neutronclient 9.0.0 with networking-l2gw's extension.
static NEUTRON_SHELL: LazyLock<Shell> =
    LazyLock::new(|| load(&NEUTRON, "neutron", "neutronclient.shell:main"));

static REGIONS: AtomicU32 = AtomicU32::new(1);

fn load(recipe: &Recipe, program: &str, entry: &str) -> Shell {
    Shell::load(&environment(recipe), program, entry).unwrap()
}

/// Where programs of others are installed.
pub(crate) fn environment(recipe: &Recipe) -> Environment {
    recipe.installed_in(Path::new(KEPT)).unwrap()
}

/// A server, and where it is.
pub(crate) struct Site {
    pub(crate) server: Daemon,
    /// Host and port.
    pub(crate) address: String,
    keystone: Option<&'static Keystone>,
    /// Where the catalogue names it, if it does.
    region: Option<String>,
    directory: TempDir,
}

impl Site {
    pub(crate) fn start() -> Self {
        Self::with(&KEYSTONE, "http", |_, _| {})
    }

    /// A server that does not ask Keystone and is in no catalogue.
    pub(crate) fn asking_nobody(options: impl FnOnce(&mut Command, &Path)) -> Self {
        Self::run(None, options)
    }

    /// A server with further options, which may name files in the directory.
    pub(crate) fn with(
        keystone: &'static Keystone,
        scheme: &str,
        options: impl FnOnce(&mut Command, &Path),
    ) -> Self {
        let mut site = Self::run(Some(keystone), |command, directory| {
            command.args(["--keystone-url", &keystone.url()]);
            command.envs(SERVICE.variables(keystone));
            options(command, directory);
        });
        let url = format!("{scheme}://{}", site.address);
        let region = format!("region-{}", REGIONS.fetch_add(1, Ordering::Relaxed));
        keystone.name_network_endpoint(&region, &url).unwrap();
        site.region = Some(region);
        site
    }

    fn run(keystone: Option<&'static Keystone>, options: impl FnOnce(&mut Command, &Path)) -> Self {
        let directory = TempDir::new().unwrap();
        let mut command = program();
        command.args(["server", "--allow-unknown-devices"]);
        command.args(["--listen", "127.0.0.1:0"]);
        command
            .arg("--database")
            .arg(directory.path().join("l2gw.db"));
        options(&mut command, directory.path());
        let log = directory.path().join("log");
        let mut server = Daemon::start(command, &log).unwrap();
        let ready = server.wait_until("it answers", READY_WITHIN, || {
            let said = std::fs::read_to_string(&log)?;
            let place = said.split_once("answering on ").context("not yet")?.1;
            let place = place.split_whitespace().next().context("nowhere")?;
            let (_, address) = place.split_once("://").context("no URL")?;
            Ok(address.to_owned())
        });
        Self {
            server,
            address: ready.unwrap(),
            keystone,
            region: None,
            directory,
        }
    }

    /// A file of this site.
    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    /// The Keystone that it asks.
    pub(crate) fn keystone(&self) -> &'static Keystone {
        self.keystone.unwrap()
    }

    /// The region whose network service it is.
    pub(crate) fn region(&self) -> &str {
        self.region.as_deref().unwrap()
    }

    /// What the server has logged.
    pub(crate) fn log(&self) -> String {
        std::fs::read_to_string(self.path("log")).unwrap()
    }

    /// The variables with which somebody's clients find this site.
    pub(crate) fn variables(&self, person: &Person) -> Vec<(String, String)> {
        let Some(keystone) = self.keystone else {
            let endpoint = format!("http://{}", self.address);
            return vec![("OS_ENDPOINT".to_owned(), endpoint)];
        };
        let mut variables = person.variables(keystone);
        variables.push(("OS_REGION_NAME".to_owned(), self.region().to_owned()));
        variables
    }

    /// Types `openstack LINE` as somebody.
    pub(crate) fn openstack(&self, person: &Person, line: &str) -> Outcome {
        run(&OPENSTACK_SHELL, &self.variables(person), line)
    }

    /// Types `neutron LINE` as somebody.
    pub(crate) fn neutron(&self, person: &Person, line: &str) -> Outcome {
        let mut outcome = run(&NEUTRON_SHELL, &self.variables(person), line);
        // It tells at every start that nobody maintains it.
        let told = outcome.err.split_once("Use openstack CLI instead.\n");
        outcome.err = told.map(|(_, rest)| rest.to_owned()).unwrap();
        outcome
    }

    /// Types `l2gw LINE` as somebody.
    pub(crate) fn l2gw(&self, person: &Person, line: &str) -> Outcome {
        let mut command = program();
        command.envs(self.variables(person)).args(line.split(' '));
        typed(command)
    }

    /// Makes a network; its id.
    pub(crate) fn network(&self, name: &str) -> String {
        let line = format!("network create {name} -f value -c id");
        let made = self.l2gw(&ADMIN, &line);
        assert_eq!((made.code, &*made.err), (0, ""));
        made.out.trim_end().to_owned()
    }

    /// A request with a token, or without one.
    pub(crate) fn get(&self, token: Option<&str>, path: &str) -> Answer {
        self.request(token, "GET", path, None)
    }

    pub(crate) fn request(
        &self,
        token: Option<&str>,
        method: &str,
        path: &str,
        body: Option<&Value>,
    ) -> Answer {
        let headers: Vec<_> = token.iter().map(|token| ("X-Auth-Token", *token)).collect();
        http::request(&self.address, method, path, &headers, body).unwrap()
    }
}

/// Types `openstack LINE` where no variable tells of a cloud.
pub(crate) fn openstack(line: &str) -> Outcome {
    run(&OPENSTACK_SHELL, &[], line)
}

fn run(shell: &Shell, variables: &[(String, String)], line: &str) -> Outcome {
    let words: Vec<_> = line.split(' ').collect();
    shell.run(variables, &words).unwrap()
}

/// What a command printed as JSON; it must succeed and keep quiet on standard error.
pub(crate) fn printed(outcome: &Outcome) -> Value {
    assert_eq!((outcome.code, &*outcome.err), (0, ""), "{}", outcome.out);
    serde_json::from_str(&outcome.out).unwrap()
}

/// Checks that a command failed, with the exit code, and with `said` at the end of what it said.
pub(crate) fn failed(outcome: &Outcome, code: i32, said: &str) {
    assert_eq!((outcome.code, &*outcome.out), (code, ""), "{}", outcome.err);
    assert!(outcome.err.trim_end().ends_with(said), "{}", outcome.err);
}

/// `l2gw`, without the caller's own OpenStack settings, and with nobody's clouds.yaml.
pub(crate) fn program() -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_l2gw"));
    for (name, _) in std::env::vars_os() {
        if name.to_string_lossy().starts_with("OS_") {
            command.env_remove(name);
        }
    }
    command.env_remove("RUST_LOG").env("HOME", "/nonexistent");
    command.current_dir("/");
    command
}

/// Runs a command to its end.
pub(crate) fn typed(mut command: Command) -> Outcome {
    let output = command.output().unwrap();
    Outcome {
        code: output.status.code().unwrap(),
        out: String::from_utf8(output.stdout).unwrap(),
        err: String::from_utf8(output.stderr).unwrap(),
    }
}
