//! What of a manifest depends on the node: secrets and certificate files, read when the pipeline starts there.

use std::{fs, path::Path};

use rustls::pki_types::{CertificateDer, pem::PemObject as _};

use super::Manifest;
use crate::config::{
    ConfigErrors,
    error::{At, Report},
    kafka::ProducerConfig,
    secret::{Secret, SecretRoots},
};

/// Largest CA file: the whole set of public authorities takes a quarter of a mebibyte.
const CA_BYTES_MAX: u64 = 4 << 20;

/// A manifest's secrets. `Debug` shows no secret.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Resolved {
    /// MQTT user name.
    pub username: Option<String>,
    /// MQTT password.
    pub password: Option<Secret>,
    /// What the producer is started with. Shards with equal configurations can share one.
    pub producer: ProducerConfig,
}

impl Manifest {
    /// Reads secrets beneath `roots`; looks whether the CA file is one.
    ///
    /// # Errors
    /// Every file that cannot be used, with the key that names it.
    pub fn resolve(&self, roots: &SecretRoots) -> Result<Resolved, ConfigErrors> {
        let report = Report::default();
        let refuse = |key: &str, message: String| {
            report.add(&At { place: self.origin().to_owned(), key: key.to_owned() }, message);
        };
        let source = &self.source;
        let username = source.username.as_ref().map(|value| roots.resolve_text(value)).transpose();
        let username = username.map_err(|error| refuse("source.mqtt.username", error.to_string())).ok();
        let password = source.password.as_ref().map(|value| roots.resolve(value)).transpose();
        let password = password.map_err(|error| refuse("source.mqtt.password", error.to_string())).ok();
        let ca = source.ca_file.as_deref().map_or(Ok(()), check_ca);
        let ca = ca.map_err(|message| refuse("source.mqtt.ca_file", message)).ok();
        let producer = self.sink.properties.resolve(roots);
        let producer = producer
            .map_err(|wrong| {
                for (name, message) in wrong {
                    refuse(&format!("sink.kafka.{name}"), message);
                }
            })
            .ok();
        let resolved = || Some(Resolved { username: username?, password: password?, producer: producer? });
        report.finish(ca.and_then(|()| resolved()))
    }
}

fn check_ca(path: &Path) -> Result<(), String> {
    let shown = path.display();
    let told = |error| format!("CA file {shown}: cannot be read: {error}; correct the path or the file's permissions");
    let metadata = fs::metadata(path).map_err(told)?;
    if !metadata.is_file() || metadata.len() > CA_BYTES_MAX {
        return Err(format!("CA file {shown}: is not a regular file of at most {CA_BYTES_MAX} bytes"));
    }
    let pem = fs::read(path).map_err(told)?;
    let mut certificates = CertificateDer::pem_slice_iter(&pem).peekable();
    if certificates.peek().is_none() || certificates.any(|certificate| certificate.is_err()) {
        return Err(format!("CA file {shown}: is not a PEM file with certificates (-----BEGIN CERTIFICATE-----)"));
    }
    Ok(())
}
