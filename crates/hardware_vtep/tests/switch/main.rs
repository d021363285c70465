//! Both halves, against a real ovsdb-server.
#![expect(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    reason = "helpers of tests fail the test"
)]

mod apply;
mod bad_days;
mod counters;
mod fixture;
mod fuzz;
mod learnt;
mod mischief;
mod proxy;
mod publish;
mod vtep_ctl;
