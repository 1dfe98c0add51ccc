//! Whom to believe behind an `https` admin listener.
//!
//! Beside the server its own certificate is at hand: `server.tls` names the file. Then that certificate is believed and
//! no other, whoever signed it and whatever name it bears, since `127.0.0.1` is hardly ever one of them.

use anyhow::{Context, bail};
use reqwest::{Certificate, ClientBuilder};
use rustls::{
    CertificateError, ClientConfig, DigitallySignedStruct, Error, SignatureScheme,
    client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier},
    crypto::{CryptoProvider, ring, verify_tls12_signature, verify_tls13_signature},
    pki_types::{CertificateDer, ServerName, UnixTime, pem::PemObject},
};
use std::{path::Path, sync::Arc};

/// Who counts as the server.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Trust {
    /// Whoever the system trusts.
    System,
    /// Who shows one of these, or what one of them signed for this name.
    Authorities(Vec<u8>),
    /// Who shows this certificate.
    This(CertificateDer<'static>),
}

impl Trust {
    /// `--ca-file`.
    pub(super) fn authorities(file: &Path) -> anyhow::Result<Self> {
        let read = std::fs::read(file);
        Ok(Self::Authorities(read.with_context(|| format!("--ca-file: `{}` cannot be read", file.display()))?))
    }

    /// The leaf of `server.tls`.
    pub(super) fn leaf(file: &Path) -> anyhow::Result<Self> {
        let leaf = CertificateDer::from_pem_file(file);
        Ok(Self::This(leaf.with_context(|| format!("`{}` cannot be read", file.display()))?))
    }

    /// A client that trusts so.
    pub(super) fn apply(self, builder: ClientBuilder) -> anyhow::Result<ClientBuilder> {
        match self {
            Self::System => Ok(builder),
            Self::Authorities(pem) => match Certificate::from_pem_bundle(&pem) {
                Ok(found) if !found.is_empty() => Ok(builder.tls_certs_only(found)),
                _ => bail!("--ca-file: there is no certificate in it; expected PEM, `-----BEGIN CERTIFICATE-----`"),
            },
            Self::This(leaf) => {
                let provider = Arc::new(ring::default_provider());
                let config = ClientConfig::builder_with_provider(Arc::clone(&provider))
                    .with_safe_default_protocol_versions()
                    .context("cannot speak TLS")?
                    .dangerous()
                    .with_custom_certificate_verifier(Arc::new(Only { leaf, provider }))
                    .with_no_client_auth();
                Ok(builder.tls_backend_preconfigured(config))
            }
        }
    }
}

/// Believes one certificate, once its key has signed the handshake.
#[derive(Debug)]
struct Only {
    leaf: CertificateDer<'static>,
    provider: Arc<CryptoProvider>,
}

impl ServerCertVerifier for Only {
    fn verify_server_cert(
        &self,
        shown: &CertificateDer<'_>,
        _chain: &[CertificateDer<'_>],
        _name: &ServerName<'_>,
        _staple: &[u8],
        _now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        if *shown == self.leaf {
            Ok(ServerCertVerified::assertion())
        } else {
            Err(Error::InvalidCertificate(CertificateError::ApplicationVerificationFailure))
        }
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        shown: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        verify_tls12_signature(message, shown, signature, &self.provider.signature_verification_algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        shown: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        verify_tls13_signature(message, shown, signature, &self.provider.signature_verification_algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.provider.signature_verification_algorithms.supported_schemes()
    }
}
