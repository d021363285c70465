//! The program as a person types it: the real `l2gw`, the real `l2gw server` with its database. Needs no root.

#![expect(
    clippy::unwrap_used,
    reason = "a failed unwrap in a test is a failed test"
)]

mod audit;
mod callers;
mod config;
mod db;
mod memory;
mod place;
mod shell;
mod specification;
