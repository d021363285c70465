//! The commands as a person types them, against a service whose answers each test states.

#![expect(
    clippy::unwrap_used,
    reason = "a failed unwrap in a test is a failed test"
)]

mod bulk;
mod formats;
mod help;
mod looks;
mod lookup;
mod service;
mod specification;
mod usage;
