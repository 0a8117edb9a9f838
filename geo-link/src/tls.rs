//! TLS between regions, and between the nodes of one: both ends show a certificate, and a certificate names a region.
//!
//! TLS 1.3 alone, ring alone, no session resumption: every connection is verified in full against the authorities
//! that are configured now. A region's certificate bears the DNS name `NAME.region.meridian`. Who dials checks that of
//! the gateway that it reached, as any TLS client does; who is dialled reads the names off the client's certificate
//! and accepts the regions that it knows. That a peer may call itself so in its greeting is checked against this.
//!
//! Links and the bus between nodes do this alike and differ in the protocol that they name in the handshake (ALPN), so
//! that neither ever ends in the other, or in some other TLS service, by mistake.
//!
//! [`Credentials::reload`] replaces certificate, key and authorities for connections made from then on. Links that are
//! up stay up: there is no storm of reconnects when certificates are renewed, each link takes the new ones when it next
//! connects.

use std::{io, sync::Arc};

use arc_swap::ArcSwap;
use rustls::{
    AlertDescription, ClientConfig, RootCertStore, ServerConfig,
    client::Resumption,
    crypto::{CryptoProvider, ring},
    pki_types::{CertificateDer, InvalidDnsNameError, PrivateKeyDer, ServerName, pem::PemObject},
    server::{NoServerSessionStorage, WebPkiClientVerifier},
    version::TLS13,
};
use webpki::EndEntityCert;
use x509_cert::der::Decode as _;

use crate::options::TlsMaterial;

/// Why certificates cannot be used. What was in use before still is.
#[derive(Debug, thiserror::Error)]
pub enum TlsError {
    /// A file is not PEM, or holds something else than it should.
    #[error("{what} is not readable: {reason}")]
    Pem {
        /// Which part.
        what: &'static str,
        /// What is wrong with it.
        reason: String,
    },
    /// A file holds no certificate.
    #[error("{0} holds no certificate")]
    Empty(&'static str),
    /// Certificate, key and authorities do not go together.
    #[error("certificates are not usable: {0}")]
    Unusable(String),
    /// The certificate does not bear the name of this region.
    #[error("the certificate does not bear the name {0}")]
    WrongName(String),
}

/// Why bytes no longer come or go. Certificates are blamed only if TLS did: a peer that is not there yet, or a proxy
/// before it, ends a connection just as early as one that is refused.
#[derive(Debug, thiserror::Error)]
pub enum Broken {
    /// TLS: one end does not accept the other's certificate.
    #[error("the peer's certificate is not accepted, or ours is not: {0}")]
    Certificate(io::Error),
    /// TLS, for another reason.
    #[error("TLS failed: {0}")]
    Tls(io::Error),
    /// The connection below it.
    #[error("connection lost: {0}")]
    Io(io::Error),
}

impl From<io::Error> for Broken {
    fn from(error: io::Error) -> Self {
        match error.get_ref().and_then(|inner| inner.downcast_ref()) {
            None => Self::Io(error),
            Some(reason) if is_about_certificates(reason) => Self::Certificate(error),
            Some(_) => Self::Tls(error),
        }
    }
}

/// Whether this end refused a certificate, or the other end says that it did.
fn is_about_certificates(error: &rustls::Error) -> bool {
    use AlertDescription as Alert;
    match error {
        rustls::Error::InvalidCertificate(_)
        | rustls::Error::InvalidCertRevocationList(_)
        | rustls::Error::NoCertificatesPresented => true,
        rustls::Error::AlertReceived(alert) => matches!(
            alert,
            Alert::NoCertificate
                | Alert::BadCertificate
                | Alert::UnsupportedCertificate
                | Alert::CertificateRevoked
                | Alert::CertificateExpired
                | Alert::CertificateUnknown
                | Alert::UnknownCA
                | Alert::AccessDenied
                | Alert::CertificateRequired
        ),
        _ => false,
    }
}

/// What both ends of a connection authenticate with.
#[derive(Debug)]
pub struct Credentials {
    region: String,
    protocol: &'static [u8],
    configs: ArcSwap<Configs>,
}

#[derive(Debug)]
struct Configs {
    client: Arc<ClientConfig>,
    server: Arc<ServerConfig>,
}

impl Credentials {
    /// Those of the region of this name, for connections that speak this protocol.
    ///
    /// # Errors
    /// [`TlsError`]: the material cannot be used.
    pub fn new(region: &str, protocol: &'static [u8], material: &TlsMaterial) -> Result<Self, TlsError> {
        let configs = ArcSwap::from_pointee(Configs::new(region, protocol, material)?);
        Ok(Self { region: region.to_owned(), protocol, configs })
    }

    /// Takes others, for connections made from now on.
    ///
    /// # Errors
    /// [`TlsError`]; then those that were in use still are.
    pub fn reload(&self, material: &TlsMaterial) -> Result<(), TlsError> {
        self.configs.store(Arc::new(Configs::new(&self.region, self.protocol, material)?));
        Ok(())
    }

    /// The name of the region whose they are.
    pub fn region(&self) -> &str {
        &self.region
    }

    /// What to dial with.
    pub fn client(&self) -> Arc<ClientConfig> {
        self.configs.load().client.clone()
    }

    /// What to accept with.
    pub fn server(&self) -> Arc<ServerConfig> {
        self.configs.load().server.clone()
    }
}

impl Configs {
    fn new(region: &str, protocol: &[u8], material: &TlsMaterial) -> Result<Self, TlsError> {
        let provider = Arc::new(ring::default_provider());
        let chain = certificates("the certificate", &material.cert_pem)?;
        let key = || {
            PrivateKeyDer::from_pem_slice(&material.key_pem)
                .map_err(|error| TlsError::Pem { what: "the key", reason: error.to_string() })
        };
        let mut roots = RootCertStore::empty();
        for authority in certificates("the list of authorities", &material.ca_pem)? {
            roots.add(authority).map_err(unusable)?;
        }
        if !regions_of(&chain[0]).iter().any(|name| name == region) {
            return Err(TlsError::WrongName(dns_name(region)));
        }
        let roots = Arc::new(roots);
        let mut client = client_config(&provider, &roots, chain.clone(), key()?)?;
        let mut server = server_config(&provider, &roots, chain, key()?)?;
        client.alpn_protocols = vec![protocol.to_vec()];
        server.alpn_protocols = vec![protocol.to_vec()];
        Ok(Self { client: Arc::new(client), server: Arc::new(server) })
    }
}

fn client_config(
    provider: &Arc<CryptoProvider>,
    roots: &Arc<RootCertStore>,
    chain: Vec<CertificateDer<'static>>,
    key: PrivateKeyDer<'static>,
) -> Result<ClientConfig, TlsError> {
    let mut config = ClientConfig::builder_with_provider(provider.clone())
        .with_protocol_versions(&[&TLS13])
        .map_err(unusable)?
        .with_root_certificates(roots.clone())
        .with_client_auth_cert(chain, key)
        .map_err(unusable)?;
    config.resumption = Resumption::disabled();
    Ok(config)
}

fn server_config(
    provider: &Arc<CryptoProvider>,
    roots: &Arc<RootCertStore>,
    chain: Vec<CertificateDer<'static>>,
    key: PrivateKeyDer<'static>,
) -> Result<ServerConfig, TlsError> {
    let verifier = WebPkiClientVerifier::builder_with_provider(roots.clone(), provider.clone());
    let mut config = ServerConfig::builder_with_provider(provider.clone())
        .with_protocol_versions(&[&TLS13])
        .map_err(unusable)?
        .with_client_cert_verifier(verifier.build().map_err(unusable)?)
        .with_single_cert(chain, key)
        .map_err(unusable)?;
    config.session_storage = Arc::new(NoServerSessionStorage {});
    config.send_tls13_tickets = 0;
    Ok(config)
}

/// The name by which a region's gateways and nodes are dialled.
///
/// # Errors
/// If the region's name is no DNS label.
pub fn server_name(region: &str) -> Result<ServerName<'static>, InvalidDnsNameError> {
    ServerName::try_from(dns_name(region))
}

/// The regions whose names a certificate bears. It has been verified by rustls.
pub fn regions_of(certificate: &CertificateDer<'_>) -> Vec<String> {
    let Ok(certificate) = EndEntityCert::try_from(certificate) else { return Vec::new() };
    let regions = certificate.valid_dns_names().filter_map(|name| name.strip_suffix(SUFFIX)?.strip_suffix('.'));
    regions.map(str::to_owned).collect()
}

/// Until when the first certificate of a PEM text is valid, in seconds since 1970.
///
/// # Errors
/// [`TlsError`]: there is none.
pub fn valid_until(cert_pem: &[u8]) -> Result<u64, TlsError> {
    let chain = certificates("the certificate", cert_pem)?;
    let certificate = x509_cert::Certificate::from_der(&chain[0])
        .map_err(|error| TlsError::Pem { what: "the certificate", reason: error.to_string() })?;
    Ok(certificate.tbs_certificate.validity.not_after.to_unix_duration().as_secs())
}

/// The domain under which regions have their names in certificates; it exists nowhere else.
const SUFFIX: &str = "region.meridian";

/// The protocol of links.
pub const LINK: &[u8] = b"meridian-link/1";

fn dns_name(region: &str) -> String {
    format!("{region}.{SUFFIX}")
}

fn certificates(what: &'static str, pem: &[u8]) -> Result<Vec<CertificateDer<'static>>, TlsError> {
    let certificates: Vec<_> = CertificateDer::pem_slice_iter(pem)
        .collect::<Result<_, _>>()
        .map_err(|error| TlsError::Pem { what, reason: error.to_string() })?;
    if certificates.is_empty() { Err(TlsError::Empty(what)) } else { Ok(certificates) }
}

fn unusable(error: impl std::fmt::Display) -> TlsError {
    TlsError::Unusable(error.to_string())
}

#[cfg(test)]
mod tests {
    use rcgen::{CertificateParams, KeyPair};

    use rustls::{AlertDescription, CertificateError, Error};

    use super::{Broken, Credentials, LINK, TlsError, regions_of};
    use crate::options::TlsMaterial;

    /// A certificate that is its own authority, for these names.
    fn material(names: &[&str]) -> TlsMaterial {
        let key = KeyPair::generate().unwrap();
        let names: Vec<String> = names.iter().map(|name| (*name).to_owned()).collect();
        let pem = CertificateParams::new(names).unwrap().self_signed(&key).unwrap().pem().into_bytes();
        TlsMaterial { cert_pem: pem.clone(), key_pem: key.serialize_pem().into_bytes(), ca_pem: pem }
    }

    #[test]
    fn only_names_of_regions_count() {
        let material = material(&["us-east.region.meridian", "example.com", "region.meridian", "evilregion.meridian"]);
        let certificate = super::certificates("it", &material.cert_pem).unwrap().remove(0);
        assert_eq!(regions_of(&certificate), ["us-east"]);
    }

    #[test]
    fn a_certificate_must_bear_the_name_of_its_region() {
        let eu = material(&["eu-west.region.meridian"]);
        assert!(Credentials::new("eu-west", LINK, &eu).is_ok());
        assert!(matches!(Credentials::new("us-east", LINK, &eu), Err(TlsError::WrongName(_))));
    }

    #[test]
    fn what_cannot_be_used_is_refused_and_says_which_part_is_wrong() {
        let good = material(&["eu-west.region.meridian"]);
        let message = |material: &TlsMaterial| Credentials::new("eu-west", LINK, material).unwrap_err().to_string();
        assert!(message(&TlsMaterial { cert_pem: b"nonsense".to_vec(), ..good.clone() }).contains("the certificate"));
        assert!(message(&TlsMaterial { key_pem: b"nonsense".to_vec(), ..good.clone() }).contains("the key"));
        assert!(message(&TlsMaterial { ca_pem: Vec::new(), ..good.clone() }).contains("authorities"));
        let other_key = material(&["eu-west.region.meridian"]).key_pem;
        assert!(message(&TlsMaterial { key_pem: other_key, ..good }).contains("not usable"));
    }

    #[test]
    fn certificates_are_blamed_only_by_tls_itself() {
        let broken = |error| Broken::from(std::io::Error::new(std::io::ErrorKind::InvalidData, error));
        for error in [
            Error::InvalidCertificate(CertificateError::UnknownIssuer),
            Error::NoCertificatesPresented,
            Error::AlertReceived(AlertDescription::UnknownCA),
            Error::AlertReceived(AlertDescription::CertificateExpired),
        ] {
            assert!(matches!(broken(error.clone()), Broken::Certificate(_)), "{error}");
        }
        for error in [Error::AlertReceived(AlertDescription::NoApplicationProtocol), Error::DecryptError] {
            assert!(matches!(broken(error.clone()), Broken::Tls(_)), "{error}");
        }
        for kind in [std::io::ErrorKind::ConnectionReset, std::io::ErrorKind::UnexpectedEof] {
            assert!(matches!(Broken::from(std::io::Error::from(kind)), Broken::Io(_)), "{kind}");
        }
    }

    #[test]
    fn a_reload_that_fails_leaves_what_was_in_use() {
        let credentials = Credentials::new("eu-west", LINK, &material(&["eu-west.region.meridian"])).unwrap();
        let before = credentials.server();
        assert!(credentials.reload(&material(&["us-east.region.meridian"])).is_err());
        assert!(std::sync::Arc::ptr_eq(&before, &credentials.server()));
        credentials.reload(&material(&["eu-west.region.meridian"])).unwrap();
        assert!(!std::sync::Arc::ptr_eq(&before, &credentials.server()));
    }
}
