//! Static tokens from a file, for places without Keystone.
//!
//! ```yaml
//! - token: 5f3c…           # at least 16 characters; `openssl rand -hex 32` makes a good one
//!   user: alice
//!   project_id: 0123…      # owns what she makes
//!   roles: [admin]
//! ```
//!
//! Tokens are compared in constant time: digests, all of them, whether one fitted or not.

use std::io::Read;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use ring::digest::{SHA256, digest};
use serde::Deserialize;
use subtle::ConstantTimeEq;

use super::Caller;

/// A shorter token can be guessed.
const SHORTEST: usize = 16;
/// Permission bits that would let others read tokens, or the group change them.
const FORBIDDEN: u32 = 0o027;

/// Why a token file cannot be used: one line that names it.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{}: {reason}", path.display())]
pub struct TokenFileError {
    /// The file.
    pub path: PathBuf,
    /// What is wrong.
    pub reason: String,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Entry {
    token: String,
    user: String,
    project_id: String,
    #[serde(default)]
    roles: Vec<String>,
}

/// The callers by their tokens' digests.
#[derive(Debug, Default)]
pub(crate) struct Tokens(Vec<([u8; 32], Caller)>);

impl Tokens {
    /// Reads a file.
    pub(crate) fn read(path: &Path) -> Result<Self, TokenFileError> {
        let wrong = |reason: String| TokenFileError {
            path: path.to_owned(),
            reason,
        };
        let failed = |cause: std::io::Error| wrong(cause.to_string());
        // The permissions of what is read, not of what has its name by then.
        let mut file = std::fs::File::open(path).map_err(failed)?;
        let mode = file.metadata().map_err(failed)?.mode() & 0o777;
        if mode & FORBIDDEN != 0 {
            let reason = format!(
                "its permissions are {mode:03o}; others could read the tokens, make it 600 or 640"
            );
            return Err(wrong(reason));
        }
        let mut text = String::new();
        file.read_to_string(&mut text).map_err(failed)?;
        Self::parse(&text).map_err(wrong)
    }

    fn parse(text: &str) -> Result<Self, String> {
        let entries: Option<Vec<Entry>> = serde_yaml_ng::from_str(text).map_err(|cause| {
            let said = cause.to_string();
            match cause.location() {
                // The library would quote the value, which may be a token.
                Some(place) if said.contains("invalid type") => {
                    format!("line {}: a value is of the wrong type", place.line())
                }
                _ => said,
            }
        })?;
        let entries = entries.unwrap_or_default();
        if entries.is_empty() {
            return Err("there is no token in it".to_owned());
        }
        let mut tokens = Vec::with_capacity(entries.len());
        for (index, entry) in entries.into_iter().enumerate() {
            let wrong = |reason: &str| format!("entry {}: {reason}", index + 1);
            if entry.token.len() < SHORTEST {
                return Err(wrong(&format!(
                    "the token is shorter than {SHORTEST} characters"
                )));
            }
            if entry.project_id.is_empty() || entry.user.is_empty() {
                return Err(wrong("user and project_id must not be empty"));
            }
            let digest = digest_of(entry.token.as_bytes());
            if tokens.iter().any(|(other, _)| *other == digest) {
                return Err(wrong("another entry has the same token"));
            }
            let caller = Caller {
                project_id: entry.project_id.into(),
                user_id: entry.user.as_str().into(),
                user: entry.user.into(),
                roles: entry.roles.into(),
                is_admin: false,
            };
            tokens.push((digest, caller));
        }
        Ok(Self(tokens))
    }

    /// Who has this token.
    pub(crate) fn caller(&self, token: &[u8]) -> Option<Caller> {
        let given = digest_of(token);
        let mut found = None;
        for (digest, caller) in &self.0 {
            if bool::from(digest.ct_eq(&given)) {
                found = Some(caller);
            }
        }
        found.cloned()
    }
}

/// Digests are equally long, whatever the tokens are.
fn digest_of(token: &[u8]) -> [u8; 32] {
    let mut bytes = [0; 32];
    bytes.copy_from_slice(digest(&SHA256, token).as_ref());
    bytes
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    const FILE: &str = "
- {token: 0123456789abcdef, user: alice, project_id: p1, roles: [admin]}
- {token: fedcba9876543210, user: bob, project_id: p2}
";

    #[test]
    fn each_token_is_its_owners() {
        let tokens = Tokens::parse(FILE).unwrap();
        let caller = tokens.caller(b"fedcba9876543210").unwrap();
        assert_eq!((&*caller.user, &*caller.project_id), ("bob", "p2"));
        assert!(caller.roles.is_empty());
        assert!(tokens.caller(b"fedcba987654321").is_none());
        assert!(tokens.caller(b"").is_none());
    }

    #[test]
    fn what_is_wrong_is_said_and_where() {
        let wrong = |text: &str| Tokens::parse(text).unwrap_err();
        for (text, reason) in [
            ("", "there is no token in it"),
            ("- 0123456789abcdef", "line 1: a value"),
            ("[]", "there is no token in it"),
            (
                "- {token: short, user: a, project_id: p}",
                "entry 1: the token is shorter",
            ),
            ("- {token: 0123456789abcdef, user: a}", "project_id"),
            (
                "- {token: 0123456789abcdef, user: a, project_id: p, role: x}",
                "role",
            ),
            (
                &format!("{FILE}- {{token: 0123456789abcdef, user: c, project_id: p}}"),
                "entry 3: another",
            ),
        ] {
            let said = wrong(text);
            assert!(said.contains(reason), "{text}: {said}");
            assert!(!said.contains("0123456789"), "a secret was told: {said}");
        }
    }

    #[test]
    fn a_file_that_others_can_read_is_refused() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("tokens.yaml");
        std::fs::write(&path, FILE).unwrap();
        for (mode, good) in [(0o600, true), (0o640, true), (0o644, false), (0o660, false)] {
            std::fs::set_permissions(&path, std::fs::Permissions::from_mode(mode)).unwrap();
            assert_eq!(Tokens::read(&path).is_ok(), good, "{mode:o}");
        }
        let error = Tokens::read(&path).unwrap_err().to_string();
        assert!(error.contains("660"), "{error}");
    }
}
