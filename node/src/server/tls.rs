//! TLS for clients: from PEM files to what accepts handshakes, and for our own client to what begins them.

use std::{
    io,
    path::{Path, PathBuf},
    sync::Arc,
};

use arc_swap::ArcSwap;
use config::TlsFiles;
use rustls::{
    ClientConfig, RootCertStore, ServerConfig,
    pki_types::{
        CertificateDer, PrivateKeyDer,
        pem::{self, PemObject},
    },
    server::{VerifierBuilderError, WebPkiClientVerifier},
};
use tokio_rustls::{TlsAcceptor, TlsConnector};

/// Why the configured files make no TLS server.
#[derive(Debug, thiserror::Error)]
pub(crate) enum TlsError {
    /// A file cannot be read, or is no PEM file.
    #[error("cannot read {path}: {error}")]
    File {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        error: pem::Error,
    },
    /// A file holds no certificate.
    #[error("no certificate in {0}")]
    Empty(PathBuf),
    /// The key does not belong to the certificate, or is of a kind that is not known.
    #[error("certificate and key cannot be used: {0}")]
    Unusable(#[from] rustls::Error),
    /// The authorities for client certificates cannot be used.
    #[error("authorities for client certificates cannot be used: {0}")]
    Authorities(#[from] VerifierBuilderError),
}

impl From<TlsError> for io::Error {
    fn from(error: TlsError) -> Self {
        Self::new(io::ErrorKind::InvalidData, error)
    }
}

/// How handshakes of clients are answered, until other certificates are taken.
pub(crate) struct Handshakes(ArcSwap<ServerConfig>);

impl Handshakes {
    /// With what the files hold. With authorities among them every client must show a certificate.
    ///
    /// # Errors
    /// [`TlsError`]
    pub(crate) fn new(files: TlsFiles<'_>) -> Result<Self, TlsError> {
        Ok(Self(ArcSwap::new(server_config(files)?)))
    }

    /// Takes what the files hold now, for connections made from now on.
    ///
    /// # Errors
    /// [`TlsError`]; then what was in use still is.
    pub(crate) fn reload(&self, files: TlsFiles<'_>) -> Result<(), TlsError> {
        self.0.store(server_config(files)?);
        Ok(())
    }

    /// What accepts the next one.
    pub(crate) fn acceptor(&self) -> TlsAcceptor {
        TlsAcceptor::from(self.0.load_full())
    }
}

fn server_config(files: TlsFiles<'_>) -> Result<Arc<ServerConfig>, TlsError> {
    let (chain, key) = identity(files.cert, files.key)?;
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let builder = ServerConfig::builder_with_provider(provider.clone()).with_safe_default_protocol_versions()?;
    let builder = match files.ca {
        None => builder.with_no_client_auth(),
        Some(path) => {
            let authorities = Arc::new(authorities(path)?);
            let verifier = WebPkiClientVerifier::builder_with_provider(authorities, provider).build()?;
            builder.with_client_cert_verifier(verifier)
        }
    };
    Ok(Arc::new(builder.with_single_cert(chain, key)?))
}

/// Reads the files of a client: the authorities that it trusts, and a certificate and its key if it is to show one.
///
/// # Errors
/// [`TlsError`]
pub(crate) fn connector(ca: &Path, own: Option<(&Path, &Path)>) -> Result<TlsConnector, TlsError> {
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let builder = ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions()?;
    let builder = builder.with_root_certificates(authorities(ca)?);
    let config = match own {
        None => builder.with_no_client_auth(),
        Some((cert, key)) => {
            let (chain, key) = identity(cert, key)?;
            builder.with_client_auth_cert(chain, key)?
        }
    };
    Ok(TlsConnector::from(Arc::new(config)))
}

/// A certificate's chain and its key.
fn identity(cert: &Path, key: &Path) -> Result<(Vec<CertificateDer<'static>>, PrivateKeyDer<'static>), TlsError> {
    let file = |error| TlsError::File { path: key.to_owned(), error };
    Ok((certificates(cert)?, PrivateKeyDer::from_pem_file(key).map_err(file)?))
}

fn authorities(path: &Path) -> Result<RootCertStore, TlsError> {
    let mut authorities = RootCertStore::empty();
    certificates(path)?.into_iter().try_for_each(|certificate| authorities.add(certificate))?;
    Ok(authorities)
}

fn certificates(path: &Path) -> Result<Vec<CertificateDer<'static>>, TlsError> {
    let failed = |error| TlsError::File { path: path.to_owned(), error };
    let all: Vec<_> = CertificateDer::pem_file_iter(path).map_err(failed)?.collect::<Result<_, _>>().map_err(failed)?;
    if all.is_empty() { Err(TlsError::Empty(path.to_owned())) } else { Ok(all) }
}
