//! Names that people misspell.

/// Less alike than this is no misspelling.
const ALIKE: f64 = 0.8;

/// The known name that somebody meant who wrote another one; nothing where none is like it.
pub fn closest<'k>(written: &str, known: impl IntoIterator<Item = &'k str>) -> Option<&'k str> {
    let alike = |known: &'k str| (strsim::jaro_winkler(written, known), known);
    let best = known.into_iter().map(alike);
    let (likeness, best) = best.max_by(|a, b| a.0.total_cmp(&b.0))?;
    (likeness >= ALIKE).then_some(best)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_meant_is_found_and_nothing_else() {
        let known = ["get_l2_gateway", "create_l2_gateway", "get_network"];
        assert_eq!(closest("get_l2_gatway", known), Some("get_l2_gateway"));
        assert_eq!(closest("zzz", known), None);
        assert_eq!(closest("get", []), None);
    }
}
