//! Programs of others that are written in Python, at pinned versions, each in a virtual environment that is made when it is
//! first needed and kept beside the build.

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result};

use crate::run::run;

/// The file by which a directory shows that it was made to the end, and from what.
const MADE_FROM: &str = "made-from";

/// What is installed together.
#[derive(Clone, Copy, Debug)]
pub struct Recipe {
    name: &'static str,
    requirements: &'static str,
}

/// Keystone and the WSGI server that runs it.
pub const KEYSTONE: Recipe = Recipe {
    name: "keystone",
    requirements: include_str!("../python/keystone.txt"),
};

/// The `openstack` command with networking-l2gw's plugin.
pub const OPENSTACK: Recipe = Recipe {
    name: "openstack",
    requirements: include_str!("../python/openstack.txt"),
};

/// The `neutron` command with networking-l2gw's extension.
pub const NEUTRON: Recipe = Recipe {
    name: "neutron",
    requirements: include_str!("../python/neutron.txt"),
};

/// The `schemathesis` command, which tries what an OpenAPI document promises.
pub const SCHEMATHESIS: Recipe = Recipe {
    name: "schemathesis",
    requirements: include_str!("../python/schemathesis.txt"),
};

/// A virtual environment.
#[derive(Clone, Debug)]
pub struct Environment {
    home: PathBuf,
}

impl Recipe {
    /// The environment below `place`, which is made if it is not there, or was made from something else.
    ///
    /// # Errors
    /// Python is missing, or what is to be installed cannot be had.
    pub fn installed_in(&self, place: &Path) -> Result<Environment> {
        // Another Python would not find what was installed for this one.
        let python = run(Command::new("python3").args(["-VV"]))?;
        let home = place.join(format!("python-{}", self.name));
        made_once(&home, &format!("{python}{}", self.requirements), |home| {
            run(Command::new("python3").args(["-m", "venv"]).arg(home))?;
            let requirements = home.join("requirements.txt");
            fs::write(&requirements, self.requirements)?;
            // The list is complete, and modules are compiled when they are used.
            let mut pip = Command::new(home.join("bin/pip"));
            pip.args(["install", "--quiet", "--no-deps", "--no-compile"]);
            pip.args(["--disable-pip-version-check", "--requirement"]);
            run(pip.arg(requirements))?;
            Ok(())
        })?;
        Ok(Environment { home })
    }

    /// What is installed: every package with its version.
    pub(crate) fn requirements(&self) -> &'static str {
        self.requirements
    }
}

impl Environment {
    /// A program of the environment.
    #[must_use]
    pub fn command(&self, program: &str) -> Command {
        let mut command = Command::new(self.home.join("bin").join(program));
        for (name, _) in std::env::vars_os() {
            // Nobody's own cloud.
            if name.to_string_lossy().starts_with("OS_") {
                command.env_remove(name);
            }
        }
        command.env("PYTHONWARNINGS", "ignore");
        command
    }
}

/// A directory whose content follows from `recipe`. `make` fills it, unless somebody did before; of several processes
/// that want it one makes it and the others wait.
///
/// # Errors
/// What `make` says.
pub(crate) fn made_once(
    directory: &Path,
    recipe: &str,
    make: impl FnOnce(&Path) -> Result<()>,
) -> Result<()> {
    let lock = File::create(directory.with_extension("lock"))
        .with_context(|| directory.display().to_string())?;
    lock.lock()?;
    let marker = directory.join(MADE_FROM);
    if fs::read_to_string(&marker).is_ok_and(|made_from| made_from == recipe) {
        return Ok(());
    }
    if directory.exists() {
        fs::remove_dir_all(directory)?;
    }
    fs::create_dir_all(directory)?;
    make(directory)?;
    Ok(fs::write(marker, recipe)?)
}

#[cfg(test)]
mod tests {
    use anyhow::bail;

    use super::*;

    #[test]
    fn what_is_kept_is_made_once_and_anew_when_it_was_broken_off_or_its_recipe_changed() {
        let place = tempfile::tempdir().unwrap();
        let directory = place.path().join("kept");
        let content = directory.join("content");
        let make = |recipe: &'static str| {
            made_once(&directory, recipe, move |at| {
                assert!(
                    !at.join("content").exists(),
                    "what is left of an earlier one"
                );
                fs::write(at.join("content"), recipe)?;
                Ok(())
            })
        };
        let broken_off = made_once(&directory, "a", |at| {
            fs::write(at.join("content"), "half")?;
            bail!("no space left");
        });
        assert!(broken_off.is_err());
        make("a").unwrap();
        assert_eq!(fs::read_to_string(&content).unwrap(), "a");
        made_once(&directory, "a", |_| bail!("it is there")).unwrap();
        make("b").unwrap();
        assert_eq!(fs::read_to_string(&content).unwrap(), "b");
    }
}
