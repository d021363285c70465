//! Regular expressions (ECMA-262) of what JSON Schema has no word for: numbers within a range as text, MAC addresses and IP
//! addresses of stations and tunnels.

use std::collections::BTreeSet;

/// Any text without U+0000, which no database keeps.
pub(super) const TEXT: &str = "^[^\\u0000]*$";

/// Unicast, in every spelling that is read, and not zero.
pub(super) const MAC: &str = "^(?!0{2}([:-]0{2}){5}$|0{4}(\\.0{4}){2}$|0{12}$)[0-9A-Fa-f][02468ACEace]\
    ((:[0-9A-Fa-f]{2}){5}|(-[0-9A-Fa-f]{2}){5}|[0-9A-Fa-f]{2}(\\.[0-9A-Fa-f]{4}){2}|[0-9A-Fa-f]{10})$";

/// What is no unicast address: unspecified or multicast. To be excluded from the format `ipv6`.
pub(super) const NO_STATION_V6: &str = "^([Ff][Ff][0-9A-Fa-f]{2}:|[0:.]+$)";

/// A whole number from 0 or more, as text, with blanks around.
pub(super) fn number(min: u32, max: u32) -> String {
    format!("^ *\\+?0*({}) *$", range(min, max))
}

/// The same, or no text at all.
pub(super) fn number_or_nothing(min: u32, max: u32) -> String {
    format!("^( *\\+?0*({}) *)?$", range(min, max))
}

/// An IPv4 address of a station: neither unspecified nor multicast nor broadcast.
pub(super) fn station_v4() -> String {
    let first = [range(0, 223), range(240, 255)].join("|");
    format!(
        "^(?!0\\.0\\.0\\.0$|255\\.255\\.255\\.255$)({first})(\\.({})){{3}}$",
        range(0, 255)
    )
}

/// An IPv4 address at which a tunnel can end: [`model::value::is_tunnel_endpoint`].
pub(super) fn endpoint() -> String {
    let first = [range(1, 126), range(128, 223)].join("|");
    format!("^({first})(\\.({})){{3}}$", range(0, 255))
}

/// Numbers of a range without leading zeros: alternatives in which each digit has a range of its own.
fn range(min: u32, max: u32) -> String {
    let mut start = min;
    let mut alternatives = Vec::new();
    for end in ends(min, max) {
        alternatives.push(alike(start, end));
        start = end.saturating_add(1);
    }
    alternatives.join("|")
}

/// Where the range must be cut so that in each piece the digits vary independently: before the first number with more
/// nines at its end than the last piece has, and after the last with more zeros.
fn ends(min: u32, max: u32) -> BTreeSet<u32> {
    let mut ends = BTreeSet::from([max]);
    let mut power = 10_u32;
    while let Some(next) = power.checked_mul(10) {
        let nines = min - min % power + (power - 1);
        if (min..max).contains(&nines) {
            ends.insert(nines);
        }
        let zeros = (max + 1) - (max + 1) % power;
        if zeros > min && zeros <= max {
            ends.insert(zeros - 1);
        }
        power = next;
    }
    ends
}

/// Numbers of the same length between two.
fn alike(start: u32, end: u32) -> String {
    let (start, end) = (start.to_string(), end.to_string());
    let digits = start.chars().zip(end.chars());
    digits
        .map(|pair| match pair {
            (a, b) if a == b => a.to_string(),
            ('0', '9') => "[0-9]".to_owned(),
            (a, b) => format!("[{a}-{b}]"),
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::{alike, ends};

    /// Whether a number is in one of the pieces, digit by digit, as a regular expression would find.
    fn matches(min: u32, max: u32, number: u32) -> bool {
        let mut start = min;
        ends(min, max).into_iter().any(|end| {
            let (from, to) = (start.to_string(), end.to_string());
            assert_eq!(
                from.len(),
                to.len(),
                "{from} to {to}: {}",
                alike(start, end)
            );
            start = end + 1;
            let number = number.to_string();
            let mut digits = number.chars().zip(from.chars().zip(to.chars()));
            number.len() == from.len() && digits.all(|(digit, (a, b))| (a..=b).contains(&digit))
        })
    }

    #[test]
    fn a_range_has_its_numbers_and_no_others() {
        for (min, max) in [
            (0, 4094),
            (1, 126),
            (128, 223),
            (0, 255),
            (68, 65535),
            (1, 16_777_215),
        ] {
            let edges = [
                0, 1, 9, 10, 67, 68, 99, 100, 126, 127, 128, 223, 224, 255, 256, 999, 1000, 4094,
                4095, 9999,
            ];
            let more = [65_535, 65_536, 99_999, 16_777_215, 16_777_216, 99_999_999];
            for number in edges.into_iter().chain(more).chain((0..5000).step_by(7)) {
                let wanted = (min..=max).contains(&number);
                assert_eq!(
                    matches(min, max, number),
                    wanted,
                    "{number} in {min} to {max}"
                );
            }
        }
    }
}
