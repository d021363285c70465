//! What a switch that dials us may claim.
//!
//! Without TLS anybody who reaches the port may come as any switch, and as thousands that there are not. What a name leaves
//! behind (the memory of physical switches that were seen, their statuses, their series in `/metrics`) outlives the
//! connection, so new names are taken up to a number only. Whoever names a switch that is known is served all the same.
//!
//! What the connections themselves take is bounded for each and for all together; a switch that a gateway names is expected
//! there, and everybody else a stranger ([`ovsdb::budget`]).

use std::collections::BTreeSet;
use std::sync::Arc;

use ovsdb::SessionOptions;
use ovsdb::budget::{Bounds, Budget};

/// How many physical switches are known at most where nobody says otherwise.
const KNOWN: usize = 1000;

/// The longest name of a physical switch, in bytes.
const NAME: usize = 255;

/// The most rows of a caller's database: ten times what the largest switches hold.
const ROWS: usize = 1_000_000;

/// The longest message from a caller, in bytes: so many rows in one dump.
const MESSAGE: usize = 256 << 20;

/// Bytes of memory that callers have together at most where nobody says otherwise: thirty of the largest switches, or a
/// thousand with 1,000 MACs each.
const MEMORY: usize = 1 << 30;

/// The least that makes sense, in bytes: a switch with 100,000 MACs takes twice 26 MB while it connects.
pub(super) const LEAST_MEMORY: usize = 64 << 20;

/// What callers may claim.
#[derive(Clone, Copy, Debug)]
pub(super) struct Claims {
    known: usize,
}

impl Default for Claims {
    fn default() -> Self {
        Self::up_to(KNOWN)
    }
}

impl Claims {
    /// Up to so many physical switches are known, whoever named them.
    pub(super) fn up_to(known: usize) -> Self {
        Self { known }
    }

    /// What all callers may have together, in so many bytes if somebody says so. As for connections, every switch may have one,
    /// and another one while it dials again.
    pub(super) fn budget(self, bytes: Option<usize>) -> Budget {
        Budget::new(Bounds {
            connections: self.known.saturating_mul(2),
            bytes: bytes.unwrap_or(MEMORY),
            advice: " (--ovsdb-listen-memory says how much there is)",
        })
    }

    /// Sessions with callers take no more than a switch needs.
    pub(super) fn bound(options: SessionOptions) -> SessionOptions {
        SessionOptions {
            message_limit: MESSAGE,
            row_limit: ROWS,
            ..options
        }
    }

    /// Why a caller cannot be all these switches, whatever is known.
    pub(super) fn objection(self, names: &BTreeSet<Arc<str>>) -> Option<String> {
        if names.len() > self.known {
            return Some(self.too_many(names.len()));
        }
        let unusable = names
            .iter()
            .find(|name| name.is_empty() || name.len() > NAME || name.contains(char::is_control))?;
        let shown: String = unusable.chars().take(20).collect();
        Some(format!(
            "it names a physical switch {shown:?}: names have 1 to {NAME} bytes and no control characters"
        ))
    }

    /// Why a caller cannot become known by these names where those are known already.
    pub(super) fn objection_beside(
        self,
        known: &BTreeSet<String>,
        names: &[String],
    ) -> Option<String> {
        let new = names.iter().filter(|name| !known.contains(*name)).count();
        let then = known.len() + new;
        (new > 0 && then > self.known).then(|| self.too_many(then))
    }

    fn too_many(self, then: usize) -> String {
        format!(
            "{then} physical switches would be known then, and --ovsdb-listen-limit is {}",
            self.known
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_that_no_switch_has_are_refused_and_not_repeated_at_length() {
        let claims = Claims::default();
        let of = |name: &str| claims.objection(&[Arc::from(name)].into());
        assert_eq!(of("tor1"), None);
        assert_eq!(of(&"a".repeat(NAME)), None);
        for name in ["", "\u{1b}[2J", &"a".repeat(NAME + 1)] {
            let words = of(name).unwrap();
            assert!(words.len() < 200 && !words.contains('\u{1b}'), "{words}");
        }
    }

    #[test]
    fn known_switches_come_back_whatever_the_limit() {
        let claims = Claims::up_to(2);
        let known: BTreeSet<_> = ["a", "b", "c"].map(str::to_owned).into();
        assert_eq!(claims.objection_beside(&known, &["a".to_owned()]), None);
        let words = claims.objection_beside(&known, &["d".to_owned()]).unwrap();
        assert_eq!(
            words,
            "4 physical switches would be known then, and --ovsdb-listen-limit is 2"
        );
    }
}
