//! The software VTEP: a plain Linux server as a hardware_vtep switch.
pub mod kernel;
