//! Whatever is asked of the API and whatever befalls the server, its switch and the connection between them: afterwards
//! the switch holds what a model of the API says, a second run writes nothing, and rows of others are as they were.
#![expect(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    clippy::panic,
    reason = "clippy knows tests by their attribute; what they share is test code too"
)]

mod act;
mod misfortune;
mod model;
mod outages;
mod random;
mod verdict;
mod world;
