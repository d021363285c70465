//! The same work with nothing of the product around it.

pub(crate) mod disk;
pub(crate) mod frames;
pub(crate) mod netlink;
pub(crate) mod ovsdb;
pub(crate) mod postgres;
pub(crate) mod sqlite;
