//! Columns and formats: how records become a table, JSON, YAML, CSV, plain values or shell variables.
//!
//! Tables are drawn as cliff draws them, which the specification's boxes come from. Machine formats have every attribute
//! under its name on the wire; tables, CSV and values of lists have the columns that the specification names.

mod cell;
mod columns;
mod many;
mod one;
mod options;
mod table;

pub(crate) use columns::{Columns, Order, named};
pub(crate) use many::listing;
pub(crate) use one::show;
pub(crate) use options::{Format, Of, Options, arguments};
