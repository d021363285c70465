//! Certificates of a CA of our own, as `ovs-pki` would make them but within milliseconds: files in a directory that
//! goes away with the value.

use std::fs;
use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, ensure};
use tempfile::TempDir;

/// A certificate authority.
#[derive(Debug)]
pub struct CertificateAuthority {
    directory: TempDir,
}

/// A private key, the certificate of it, and the CA's certificate: the three files that every OVS program takes.
#[derive(Clone, Debug)]
pub struct Credentials {
    /// The private key.
    pub private_key: PathBuf,
    /// The certificate.
    pub certificate: PathBuf,
    /// The certificate of the CA that signed it.
    pub ca_certificate: PathBuf,
}

impl Credentials {
    /// The arguments of ovsdb-server and its tools that make it use these files.
    pub fn arguments(&self) -> [String; 3] {
        [
            format!("--private-key={}", self.private_key.display()),
            format!("--certificate={}", self.certificate.display()),
            format!("--ca-cert={}", self.ca_certificate.display()),
        ]
    }
}

const NEW_KEY: [&str; 5] = [
    "-newkey",
    "ec",
    "-pkeyopt",
    "ec_paramgen_curve:P-256",
    "-nodes",
];

impl CertificateAuthority {
    /// A CA with a new key.
    ///
    /// # Errors
    /// openssl is missing or fails.
    pub fn new() -> Result<Self> {
        let directory = tempfile::Builder::new().prefix("l2gw-ca-").tempdir()?;
        let authority = Self { directory };
        openssl(
            Command::new("openssl")
                .args(["req", "-x509", "-subj", "/CN=test CA", "-days", "30"])
                .args(NEW_KEY)
                .arg("-keyout")
                .arg(authority.path("ca.key"))
                .arg("-out")
                .arg(authority.path("ca.pem")),
        )?;
        Ok(authority)
    }

    /// The directory of all files.
    pub fn directory(&self) -> &Path {
        self.directory.path()
    }

    fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    /// A new key and a certificate of it whose subject is `CN=name`, good for web servers where that is an IP address. The files of an earlier call with the same name are
    /// replaced.
    ///
    /// # Errors
    /// openssl fails.
    pub fn issue(&self, name: &str) -> Result<Credentials> {
        let at = |ending: &str| self.path(&format!("{name}.{ending}"));
        // A certificate without any extension would be one of version 1.
        let mut extensions = "basicConstraints=CA:false\n".to_owned();
        if name.parse::<IpAddr>().is_ok() {
            // Web clients look for the address here alone (RFC 2818 section 3.1).
            extensions += &format!("subjectAltName=IP:{name}\n");
        }
        fs::write(at("ext"), extensions)?;
        openssl(
            Command::new("openssl")
                .args(["req", "-subj", &format!("/CN={name}")])
                .args(NEW_KEY)
                .arg("-keyout")
                .arg(at("key"))
                .arg("-out")
                .arg(at("csr")),
        )?;
        openssl(
            Command::new("openssl")
                .args(["x509", "-req", "-days", "30", "-CAcreateserial", "-in"])
                .arg(at("csr"))
                .arg("-CA")
                .arg(self.path("ca.pem"))
                .arg("-CAkey")
                .arg(self.path("ca.key"))
                .arg("-extfile")
                .arg(at("ext"))
                .arg("-out")
                .arg(at("pem")),
        )?;
        Ok(Credentials {
            private_key: at("key"),
            certificate: at("pem"),
            ca_certificate: self.path("ca.pem"),
        })
    }
}

fn openssl(command: &mut Command) -> Result<()> {
    let output = command.output().context("openssl (package openssl)")?;
    ensure!(
        output.status.success(),
        "{}",
        String::from_utf8_lossy(&output.stderr)
    );
    Ok(())
}
