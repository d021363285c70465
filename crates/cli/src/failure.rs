//! Why a command failed, and its exit code.

use std::io;

use thiserror::Error;

/// What keeps a command from doing what it was asked for.
#[derive(Debug, Error)]
pub enum Failure {
    /// It was typed wrongly.
    #[error("{0}")]
    Usage(String),
    /// The server cannot be reached or refuses, or a name leads nowhere.
    #[error(transparent)]
    Service(#[from] openstack::Error),
    /// Something else is not as it should be.
    #[error("{0}")]
    Refused(String),
    /// What was asked cannot be told: neither yes nor no.
    #[error("{0}")]
    Unknown(String),
    /// Its result cannot be written.
    #[error("Unable to write the result: {0}")]
    Output(#[from] io::Error),
}

impl Failure {
    /// 2 for a command that was typed wrongly and for a question that has no answer, otherwise 1. A reader that has gone (`| head`) is no failure.
    pub fn exit_code(&self) -> u8 {
        match self {
            Self::Usage(_) | Self::Unknown(_) => 2,
            Self::Output(cause) if cause.kind() == io::ErrorKind::BrokenPipe => 0,
            Self::Service(_) | Self::Refused(_) | Self::Output(_) => 1,
        }
    }

    /// What the person who typed the command reads.
    pub fn report(&self) -> String {
        match self {
            Self::Usage(message) => {
                format!("error: {message}\n\nFor more information, try '--help'.")
            }
            Self::Service(error @ openstack::Error::Unreachable { .. }) => {
                format!(
                    "{error} Start one with `l2gw server`, or name its address with --os-endpoint or OS_ENDPOINT."
                )
            }
            other => other.to_string(),
        }
    }
}
