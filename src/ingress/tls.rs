//! The listeners' certificates, read from files and read again on reload.

use crate::config::settings::Tls;
use arc_swap::ArcSwap;
use rustls::{
    ServerConfig,
    pki_types::{CertificateDer, PrivateKeyDer, pem, pem::PemObject},
};
use std::{fmt, path::PathBuf, sync::Arc};
use tokio_rustls::TlsAcceptor;

/// Why certificates cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum TlsError {
    /// A file cannot be read, or holds no such PEM.
    #[error("cannot read `{}`", path.display())]
    File {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        #[source]
        source: pem::Error,
    },
    /// The chain is empty, or the key does not belong to it.
    #[error("cannot use the certificate with its key")]
    Pair(#[source] rustls::Error),
}

/// The certificates in force; clones share them.
#[derive(Clone)]
pub struct Certificates(Arc<ArcSwap<ServerConfig>>);

impl fmt::Debug for Certificates {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str("Certificates")
    }
}

/// Certificates that can be used, and are not in force yet.
#[derive(Debug)]
pub struct Renewed(Arc<ServerConfig>);

impl Certificates {
    /// Reads the files.
    ///
    /// # Errors
    /// [`TlsError`].
    pub fn load(files: &Tls) -> Result<Self, TlsError> {
        Ok(Self(Arc::new(ArcSwap::from_pointee(read(files)?))))
    }

    /// Reads the files again, for [`Certificates::renew`].
    ///
    /// # Errors
    /// [`TlsError`].
    pub fn read(files: &Tls) -> Result<Renewed, TlsError> {
        read(files).map(|config| Renewed(Arc::new(config)))
    }

    /// Puts what was read into force: connections to come use it, those that are open keep theirs.
    pub fn renew(&self, renewed: Renewed) {
        self.0.store(renewed.0);
    }

    pub(super) fn acceptor(&self) -> TlsAcceptor {
        TlsAcceptor::from(self.0.load_full())
    }
}

fn read(files: &Tls) -> Result<ServerConfig, TlsError> {
    let error = |path: &PathBuf, source| TlsError::File { path: path.clone(), source };
    let chain = CertificateDer::pem_file_iter(&files.cert_file.path)
        .and_then(Iterator::collect)
        .map_err(|source| error(&files.cert_file.path, source))?;
    let key =
        PrivateKeyDer::from_pem_file(&files.key_file.path).map_err(|source| error(&files.key_file.path, source))?;
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let mut config = ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .and_then(|builder| builder.with_no_client_auth().with_single_cert(chain, key))
        .map_err(TlsError::Pair)?;
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    Ok(config)
}
