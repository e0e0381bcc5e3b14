//! An authority of a test's own and the certificates it signs, made with openssl.

use std::{
    fs,
    net::IpAddr,
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::ensure;
use tempfile::TempDir;

use super::environment;

const NEW_KEY: [&str; 5] = ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes"];

/// An authority; its files go with it.
#[derive(Debug)]
pub struct Authority {
    dir: TempDir,
}

/// A certificate and its key, as PEM files.
#[derive(Debug, Clone)]
pub struct Certificate {
    pub certificate: PathBuf,
    pub key: PathBuf,
}

impl Authority {
    /// Makes one.
    ///
    /// # Errors
    /// There is no openssl, or it fails.
    pub fn make() -> anyhow::Result<Self> {
        let dir = tempfile::Builder::new().prefix("sluice-authority-").tempdir()?;
        run(
            dir.path(),
            &["req", "-x509", "-days", "2", "-subj", "/CN=laboratory", "-keyout", "ca.key", "-out", "ca.pem"],
            &NEW_KEY,
        )?;
        Ok(Self { dir })
    }

    /// Its own certificate.
    pub fn file(&self) -> PathBuf {
        self.dir.path().join("ca.pem")
    }

    /// Signs a certificate for both ends of a connection.
    ///
    /// # Errors
    /// openssl fails.
    pub fn sign(&self, name: &str, address: IpAddr) -> anyhow::Result<Certificate> {
        let dir = self.dir.path();
        let file = |extension: &str| format!("{name}.{extension}");
        let (key, request, signed, extensions) = (file("key"), file("csr"), file("pem"), file("ext"));
        run(dir, &["req", "-subj", &format!("/CN={name}"), "-keyout", &key, "-out", &request], &NEW_KEY)?;
        let text = format!(
            "basicConstraints=critical,CA:FALSE\nextendedKeyUsage=serverAuth,clientAuth\n\
             subjectAltName=IP:{address},DNS:{name}\n"
        );
        fs::write(dir.join(&extensions), text)?;
        let sign =
            ["x509", "-req", "-days", "2", "-in", &request, "-CA", "ca.pem", "-CAkey", "ca.key", "-CAcreateserial"];
        run(dir, &sign, &["-extfile", &extensions, "-out", &signed])?;
        Ok(Certificate { certificate: dir.join(signed), key: dir.join(key) })
    }
}

fn run(dir: &Path, arguments: &[&str], more: &[&str]) -> anyhow::Result<()> {
    let output = Command::new(environment::openssl()?).args(arguments).args(more).current_dir(dir).output()?;
    ensure!(output.status.success(), "openssl {arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
    Ok(())
}
