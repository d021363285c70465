//! What callers may do: rules per operation and resource, admin only unless `policy.yaml` says otherwise.
//!
//! Operations are named as in networking-l2gw: `create_l2_gateway`, `get_l2_gateway`, `update_…`, `delete_…`, and the same
//! for every other resource. `get_l2_gateways` is about lists, and is `rule:get_l2_gateway` unless it is given. Other names
//! in the file are rules for use in rules. `context_is_admin` says who is an administrator.
//!
//! A file that makes no sense keeps the server from starting (and on SIGHUP, the earlier rules stay): no gate is left open
//! because of a misspelled word.

mod expression;
#[cfg(test)]
mod tests;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use model::resource::Resource;
use model::spelling::closest;
use model::table;
use serde_yaml_ng::{Mapping, Value};

use self::expression::{Check, Fact, Stated};
use super::Caller;

/// Who is an administrator.
const ADMIN: &str = "context_is_admin";
/// What operations say unless the file says otherwise.
const ADMIN_ONLY: &str = "admin_only";
/// The first words of operations' names.
const VERBS: [&str; 4] = ["create_", "get_", "update_", "delete_"];

/// Why a policy file cannot be used: one line that names the place.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{}{}: {reason}", path.display(), line.map(|line| format!(":{line}")).unwrap_or_default())]
pub struct PolicyError {
    /// The file.
    pub path: PathBuf,
    /// The line, counted from 1, where it is one line's fault.
    pub line: Option<usize>,
    /// What is wrong.
    pub reason: String,
}

/// What is done with a resource.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Operation {
    Create,
    Get,
    List,
    Update,
    Delete,
}

impl Operation {
    const ALL: [Self; 5] = [
        Self::Create,
        Self::Get,
        Self::List,
        Self::Update,
        Self::Delete,
    ];

    /// The name of the rule.
    fn rule(self, resource: &Resource) -> String {
        match self {
            Self::Create => format!("create_{}", resource.member),
            Self::Get => format!("get_{}", resource.member),
            Self::List => format!("get_{}", resource.collection),
            Self::Update => format!("update_{}", resource.member),
            Self::Delete => format!("delete_{}", resource.member),
        }
    }

    /// As upstream's refusals call it.
    pub(super) const fn word(self) -> &'static str {
        match self {
            Self::Create => "CREATE",
            Self::Get | Self::List => "GET",
            Self::Update => "UPDATE",
            Self::Delete => "DELETE",
        }
    }
}

/// The rules.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Policy {
    rules: BTreeMap<String, Check>,
}

impl Default for Policy {
    fn default() -> Self {
        let rule = |name: &str| Check::Rule(name.to_owned());
        let mut rules = BTreeMap::from([
            (ADMIN.to_owned(), Check::Role("admin".to_owned())),
            (ADMIN_ONLY.to_owned(), rule(ADMIN)),
        ]);
        for resource in table::ALL {
            for operation in Operation::ALL {
                let check = match operation {
                    Operation::List => rule(&Operation::Get.rule(resource)),
                    _ => rule(ADMIN_ONLY),
                };
                rules.insert(operation.rule(resource), check);
            }
        }
        Self { rules }
    }
}

impl Policy {
    /// Reads a file.
    pub(crate) fn read(path: &Path) -> Result<Self, PolicyError> {
        let text = std::fs::read_to_string(path).map_err(|cause| PolicyError {
            path: path.to_owned(),
            line: None,
            reason: cause.to_string(),
        })?;
        Self::parse(&text).map_err(|(line, reason)| PolicyError {
            path: path.to_owned(),
            line,
            reason,
        })
    }

    /// Understands a file's text; otherwise where it does not, and why.
    fn parse(text: &str) -> Result<Self, (Option<usize>, String)> {
        let file: Option<Mapping> = serde_yaml_ng::from_str(text)
            .map_err(|cause| (cause.location().map(|l| l.line()), cause.to_string()))?;
        let mut policy = Self::default();
        let mut given = Vec::new();
        for (name, rule) in file.into_iter().flatten() {
            let (Value::String(name), Value::String(rule)) = (&name, &rule) else {
                let name = name.as_str().unwrap_or("a name");
                let reason = format!("{name}: name and rule are texts; put the rule into quotes");
                return Err((line_of(text, name), reason));
            };
            let check = policy
                .understand(name, rule)
                .map_err(|reason| (line_of(text, name), format!("{name}: {reason}")))?;
            policy.rules.insert(name.clone(), check);
            given.push(name.clone());
        }
        for name in &given {
            policy
                .follow(name, &mut Vec::new())
                .map_err(|reason| (line_of(text, name), format!("{name}: {reason}")))?;
        }
        Ok(policy)
    }

    fn understand(&self, name: &str, rule: &str) -> Result<Check, String> {
        let is_operation = VERBS.iter().any(|verb| name.starts_with(verb));
        // Only what is there by default has a gate that asks for it.
        let known = Self::default().rules;
        if is_operation && !known.contains_key(name) {
            return Err(match closest(name, known.keys().map(String::as_str)) {
                Some(meant) => format!("there is no such operation; did you mean {meant}?"),
                None => "there is no such operation".to_owned(),
            });
        }
        expression::parse(rule)
    }

    /// Follows references from a rule: each leads to a rule, and none back.
    fn follow<'r>(&'r self, name: &'r str, behind: &mut Vec<&'r str>) -> Result<(), String> {
        if behind.contains(&name) {
            return Err(format!(
                "it refers to itself: {} -> {name}",
                behind.join(" -> ")
            ));
        }
        let check = self
            .rules
            .get(name)
            .ok_or_else(|| format!("there is no rule '{name}'"))?;
        behind.push(name);
        let mut open = vec![check];
        while let Some(check) = open.pop() {
            match check {
                Check::Rule(next) => self.follow(next, behind)?,
                Check::Not(inner) => open.push(inner),
                Check::All(inner) | Check::Any(inner) => open.extend(inner),
                Check::Always | Check::Never | Check::Role(_) | Check::Is(..) => {}
            }
        }
        behind.pop();
        Ok(())
    }

    /// Whether the caller is an administrator.
    pub(crate) fn is_admin(&self, caller: &Caller) -> bool {
        self.holds(&Check::Rule(ADMIN.to_owned()), caller, None)
    }

    /// Whether the caller may do that with a resource of this owner; without one, with resources of anybody.
    pub(crate) fn allows(
        &self,
        caller: &Caller,
        operation: Operation,
        resource: &Resource,
        owner: Option<&str>,
    ) -> bool {
        self.holds(&Check::Rule(operation.rule(resource)), caller, owner)
    }

    fn holds(&self, check: &Check, caller: &Caller, owner: Option<&str>) -> bool {
        match check {
            Check::Always => true,
            Check::Never => false,
            Check::Role(role) => caller.roles.iter().any(|r| r.eq_ignore_ascii_case(role)),
            // Every reference was followed when the file was read.
            Check::Rule(name) => self
                .rules
                .get(name)
                .is_some_and(|check| self.holds(check, caller, owner)),
            Check::Is(fact, stated) => {
                let stated = match stated {
                    Stated::Text(text) => Some(text.as_str()),
                    Stated::Owner => owner,
                };
                let truth;
                let fact = match fact {
                    Fact::Project => &*caller.project_id,
                    Fact::User => &*caller.user_id,
                    Fact::Admin => {
                        truth = if caller.is_admin { "True" } else { "False" };
                        truth
                    }
                };
                stated == Some(fact)
            }
            Check::Not(check) => !self.holds(check, caller, owner),
            Check::All(checks) => checks.iter().all(|c| self.holds(c, caller, owner)),
            Check::Any(checks) => checks.iter().any(|c| self.holds(c, caller, owner)),
        }
    }
}

/// The line that gives the rule of this name: the YAML library does not tell.
fn line_of(text: &str, name: &str) -> Option<usize> {
    let gives = |line: &str| {
        let line = line.trim_start_matches([' ', '{', ',', '?', '\t']);
        let line = line.strip_prefix(['"', '\'']).unwrap_or(line);
        line.strip_prefix(name)
            .map(|rest| rest.trim_start_matches(['"', '\'']).trim_start())
            .is_some_and(|rest| rest.starts_with(':'))
    };
    text.lines().position(gives).map(|index| index + 1)
}
