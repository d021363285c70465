//! The product, measured from outside: as its clients, its switches and the kernel see it.

pub(crate) mod api;
pub(crate) mod bulk;
pub(crate) mod chain;
pub(crate) mod churn;
pub(crate) mod fabric;
pub(crate) mod load;
pub(crate) mod paging;
pub(crate) mod process;
pub(crate) mod programming;
pub(crate) mod server;
pub(crate) mod switch;
pub(crate) mod throughput;
pub(crate) mod vtep;
