//! The clients that operators have, unmodified, and our own, against the real `l2gw server`, all of them through a real
//! Keystone whose catalogue names the server. What is installed for it from PyPI is kept below `target`.

#![expect(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    reason = "a failed unwrap in a test is a failed test"
)]

mod keystone;
mod keystone_tls;
mod login;
mod neutron;
mod openstack;
mod reload;
mod site;
