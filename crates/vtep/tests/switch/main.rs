//! The switch against real parts: the kernel in network namespaces, ovsdb-server, frames. Needs root.

#[cfg(test)]
mod any_state;
#[cfg(test)]
mod daemon;
#[cfg(test)]
mod elsewhere;
#[cfg(test)]
mod frames;
#[cfg(test)]
mod kernel;
#[cfg(test)]
mod mtu;
#[cfg(test)]
mod storm;
#[cfg(test)]
mod support;
#[cfg(test)]
mod survey;
#[cfg(test)]
mod traffic;
#[cfg(test)]
mod vlans;
#[cfg(test)]
mod within;
