//! Which states of which database are in a database's own past.
//!
//! A controller writes on every switch which state of our database it last made the switch hold. When it comes back, with
//! whatever database it then has, that tells whether what the switch holds and the database does not know was deleted
//! (the state is in the database's past) or was never known to it (an empty database, another one, a backup that was
//! restored). A revision alone does not tell: a restored backup counts on from where it was taken. So every start of a
//! server begins a new timeline, as PostgreSQL does when it recovers.

use std::fmt;
use std::str::FromStr;

use uuid::Uuid;

/// A state of a database: a revision on one of its timelines.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Moment {
    /// The timeline.
    pub timeline: Uuid,
    /// The revision.
    pub revision: u64,
}

/// As it is written on switches.
impl fmt::Display for Moment {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}@{}", self.timeline, self.revision)
    }
}

/// The text is no moment of ours.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NoMoment;

impl FromStr for Moment {
    type Err = NoMoment;

    fn from_str(text: &str) -> Result<Self, NoMoment> {
        let (timeline, revision) = text.split_once('@').ok_or(NoMoment)?;
        Ok(Self {
            timeline: timeline.parse().map_err(|_| NoMoment)?,
            revision: revision.parse().map_err(|_| NoMoment)?,
        })
    }
}

/// The timelines of one database, the oldest first, each with the revision at which it began. One ends where the next
/// begins.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Lineage(Vec<Moment>);

impl Lineage {
    /// The timelines by their beginnings.
    pub fn new(beginnings: Vec<Moment>) -> Self {
        Self(beginnings)
    }

    /// The database as it is now, at this revision; nothing for one without timelines.
    pub fn at(&self, revision: u64) -> Option<Moment> {
        let timeline = self.0.last()?.timeline;
        Some(Moment { timeline, revision })
    }

    /// Whether the database, now at `revision`, was once in this state.
    pub fn has_been_at(&self, moment: Moment, revision: u64) -> bool {
        let place = self.0.iter().position(|b| b.timeline == moment.timeline);
        place.is_some_and(|place| {
            let next = self.0.get(place + 1);
            moment.revision <= next.map_or(revision, |next| next.revision)
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn moment(timeline: u128, revision: u64) -> Moment {
        Moment {
            timeline: Uuid::from_u128(timeline),
            revision,
        }
    }

    #[test]
    fn a_database_has_been_where_it_was_and_nowhere_else() {
        let lineage = Lineage::new(vec![moment(1, 0), moment(2, 10), moment(3, 10)]);
        for (state, known) in [
            (moment(1, 10), true),
            (moment(2, 10), true),
            (moment(3, 20), true),
            // Written before a backup of revision 10 was restored.
            (moment(1, 11), false),
            (moment(3, 21), false),
            (moment(4, 1), false),
        ] {
            assert_eq!(lineage.has_been_at(state, 20), known, "{state}");
        }
        assert!(!Lineage::default().has_been_at(moment(1, 0), 20));
    }

    #[test]
    fn what_is_written_on_a_switch_is_read_back() {
        let written = moment(7, 1234);
        assert_eq!(written.to_string().parse(), Ok(written));
        for text in ["", "owned", "7@8", &format!("{}@", written.timeline)] {
            assert_eq!(text.parse::<Moment>(), Err(NoMoment), "{text}");
        }
    }
}
