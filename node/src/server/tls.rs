//! TLS for clients: from PEM files to what accepts handshakes.

use std::{
    io,
    path::{Path, PathBuf},
    sync::Arc,
};

use config::TlsFiles;
use rustls::{
    RootCertStore, ServerConfig,
    pki_types::{
        CertificateDer, PrivateKeyDer,
        pem::{self, PemObject},
    },
    server::{VerifierBuilderError, WebPkiClientVerifier},
};
use tokio_rustls::TlsAcceptor;

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

/// Reads the files. With authorities among them every client must show a certificate.
///
/// # Errors
/// [`TlsError`]
pub(crate) fn acceptor(files: TlsFiles<'_>) -> Result<TlsAcceptor, TlsError> {
    let chain = certificates(files.cert)?;
    let key = PrivateKeyDer::from_pem_file(files.key)
        .map_err(|error| TlsError::File { path: files.key.to_owned(), error })?;
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let builder = ServerConfig::builder_with_provider(provider.clone()).with_safe_default_protocol_versions()?;
    let builder = match files.ca {
        None => builder.with_no_client_auth(),
        Some(path) => {
            let mut authorities = RootCertStore::empty();
            for certificate in certificates(path)? {
                authorities.add(certificate)?;
            }
            let verifier = WebPkiClientVerifier::builder_with_provider(Arc::new(authorities), provider).build()?;
            builder.with_client_cert_verifier(verifier)
        }
    };
    Ok(TlsAcceptor::from(Arc::new(builder.with_single_cert(chain, key)?)))
}

fn certificates(path: &Path) -> Result<Vec<CertificateDer<'static>>, TlsError> {
    let failed = |error| TlsError::File { path: path.to_owned(), error };
    let all: Vec<_> = CertificateDer::pem_file_iter(path).map_err(failed)?.collect::<Result<_, _>>().map_err(failed)?;
    if all.is_empty() { Err(TlsError::Empty(path.to_owned())) } else { Ok(all) }
}
