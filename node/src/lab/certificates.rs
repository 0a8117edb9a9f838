//! Development certificates: one authority for the whole lab, and one certificate per region.
//!
//! A region proves who it is by the DNS name `NAME.region.meridian` in its certificate, and it shows the same one
//! whether it dials or is dialled. All of them are made anew at each start: that takes a millisecond each, and
//! nothing that is kept can expire or be left over from other regions. The authority's key is never written down, so
//! nobody can add a region to a lab that runs.

use std::{
    fs::{self, OpenOptions},
    io::{self, Write},
    os::unix::fs::OpenOptionsExt,
    path::Path,
};

use anyhow::Context;
use rcgen::{
    BasicConstraints, CertificateParams, CertifiedIssuer, DnType, ExtendedKeyUsagePurpose, IsCa, KeyPair,
    KeyUsagePurpose,
};

/// What makes a DNS name of the name of a region.
const SUFFIX: &str = "region.meridian";

/// The authority of one lab.
pub(crate) struct Authority {
    issuer: CertifiedIssuer<'static, KeyPair>,
}

impl Authority {
    /// Makes a new one, and writes its certificate.
    ///
    /// # Errors
    /// If there is no randomness, or the file cannot be written.
    pub(crate) fn create(file: &Path) -> anyhow::Result<Self> {
        let mut params = CertificateParams::new(Vec::new())?;
        params.distinguished_name.push(DnType::CommonName, "Meridian lab");
        params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign];
        let issuer = CertifiedIssuer::self_signed(params, KeyPair::generate()?)?;
        fs::write(file, issuer.pem()).with_context(|| format!("cannot write {}", file.display()))?;
        Ok(Self { issuer })
    }

    /// Makes the certificate and the key of a region, and writes both.
    ///
    /// # Errors
    /// If there is no randomness, or a file cannot be written.
    pub(crate) fn certify(&self, region: &str, cert_file: &Path, key_file: &Path) -> anyhow::Result<()> {
        let key = KeyPair::generate()?;
        let mut params = CertificateParams::new(vec![format!("{region}.{SUFFIX}")])?;
        params.distinguished_name.push(DnType::CommonName, region);
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth, ExtendedKeyUsagePurpose::ClientAuth];
        let cert = params.signed_by(&key, &self.issuer)?;
        fs::write(cert_file, cert.pem()).with_context(|| format!("cannot write {}", cert_file.display()))?;
        write_secret(key_file, &key.serialize_pem()).with_context(|| format!("cannot write {}", key_file.display()))
    }
}

/// Writes a file that only its owner can read, whatever was there before: the mode holds for a new file only.
fn write_secret(file: &Path, text: &str) -> io::Result<()> {
    match fs::remove_file(file) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    OpenOptions::new().write(true).create_new(true).mode(0o600).open(file)?.write_all(text.as_bytes())
}
