//! What a database URL means.

use std::os::unix::fs::MetadataExt;
use std::path::PathBuf;
use std::str::FromStr;

use crate::postgres::{self, Server};
use crate::threads::Threads;
use crate::{OpenError, sqlite};

/// Where a database is.
#[derive(Debug)]
pub(crate) enum Location {
    /// In a file.
    File(PathBuf),
    /// Nowhere after it is closed.
    Temporary,
    /// On a PostgreSQL server.
    Postgres(Box<Server>),
}

/// Opens the database that a URL names.
pub(crate) async fn open(url: &str) -> Result<Threads, OpenError> {
    let location = url.parse()?;
    let open = move || match location {
        Location::File(path) => sqlite::open(&path),
        Location::Temporary => sqlite::open_temporary(),
        Location::Postgres(server) => postgres::open(*server),
    };
    let opened = tokio::task::spawn_blocking(open).await;
    opened.unwrap_or_else(|cause| Err(OpenError::engine("of this server", cause)))
}

impl Location {
    /// Whether the two are one database, as far as their names tell.
    pub(crate) fn is(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::File(one), Self::File(other)) => {
                // Links may lead to it.
                let file = |path: &PathBuf| {
                    let found = std::fs::metadata(path).ok()?;
                    Some((found.dev(), found.ino()))
                };
                one == other || file(one).is_some_and(|found| Some(found) == file(other))
            }
            (Self::Postgres(one), Self::Postgres(other)) => one.is(other),
            _ => false,
        }
    }
}

impl FromStr for Location {
    type Err = OpenError;

    fn from_str(url: &str) -> Result<Self, OpenError> {
        let path = match url.split_once(':') {
            Some(("sqlite", ":memory:")) => return Ok(Self::Temporary),
            Some(("postgres" | "postgresql", rest)) if rest.starts_with("//") => {
                return Ok(Self::Postgres(Box::new(url.parse()?)));
            }
            // `sqlite:///path` has an empty authority (RFC 3986 section 3.2); one that is not empty is a mistake.
            Some(("sqlite", rest)) => match rest.strip_prefix("//") {
                Some(path) if path.starts_with('/') => path,
                Some(_) => "",
                None => rest,
            },
            Some((_, rest)) if rest.starts_with("//") => "",
            _ => url,
        };
        if path.is_empty() {
            return Err(OpenError::Url(url.to_owned()));
        }
        Ok(Self::File(path.into()))
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;

    #[test]
    fn every_spelling_of_a_file_is_read() {
        for (url, path) in [
            ("sqlite:///var/lib/l2gw/l2gw.db", "/var/lib/l2gw/l2gw.db"),
            ("sqlite:/var/lib/l2gw/l2gw.db", "/var/lib/l2gw/l2gw.db"),
            ("sqlite:state/l2gw.db", "state/l2gw.db"),
            ("/var/lib/l2gw/l2gw.db", "/var/lib/l2gw/l2gw.db"),
            ("l2gw.db", "l2gw.db"),
            ("cloud:a.db", "cloud:a.db"),
        ] {
            let location = url.parse::<Location>().expect(url);
            let is_file = matches!(&location, Location::File(file) if file == Path::new(path));
            assert!(is_file, "{url} is {location:?}");
        }
        let memory = "sqlite::memory:".parse::<Location>().unwrap();
        assert!(matches!(memory, Location::Temporary), "{memory:?}");
    }

    #[test]
    fn what_is_no_database_is_named() {
        for url in [
            "",
            "sqlite:",
            "sqlite://",
            "sqlite://host/file",
            "mysql://host/db",
        ] {
            let error = url.parse::<Location>().unwrap_err();
            assert!(error.to_string().contains(&format!("'{url}'")), "{error}");
        }
        for url in ["postgres://host/db", "postgresql://host/db"] {
            let location = url.parse::<Location>().unwrap();
            assert!(matches!(location, Location::Postgres(_)), "{location:?}");
        }
    }
}
