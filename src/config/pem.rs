//! Certificates and keys. They are looked into while the file is read: `check` tells what a start or a handshake would.

use super::{
    reader::{Field, Reader, Section},
    settings::{PemFile, Tls},
};
use rustls::{
    Error, InconsistentKeys,
    crypto::ring::sign::any_supported_type,
    pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject},
    sign::CertifiedKey,
};

/// Who will use a certificate with its key.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum User {
    /// We: what our library cannot use is a mistake.
    Us,
    /// librdkafka, which knows kinds of keys that we do not.
    Librdkafka,
}

/// A file with certificates.
pub(super) fn certificates(reader: &mut Reader<'_>, field: Option<Field<'_>>) -> Option<PemFile> {
    chain(reader, field).map(|(file, _)| file)
}

/// `cert_file` and `key_file`, which go together.
pub(super) fn client_cert(reader: &mut Reader<'_>, section: &Section<'_>, user: User) -> Option<Tls> {
    let (cert, key) = (section.get("cert_file"), section.get("key_file"));
    if let (Some(alone), None) | (None, Some(alone)) = (cert, key) {
        reader.error("`cert_file` and `key_file` go together", alone.key_span, "the other one is missing");
    }
    pair(reader, cert, key, user)
}

/// A certificate and its key.
pub(super) fn pair(
    reader: &mut Reader<'_>,
    cert: Option<Field<'_>>,
    key: Option<Field<'_>>,
    user: User,
) -> Option<Tls> {
    let (cert_file, key_place) = (chain(reader, cert), key.map(|field| &field.node.span));
    let (path, content) = reader.file(key)?;
    let key_file = PemFile::new(path, &content);
    let Ok(private) = PrivateKeyDer::from_pem_slice(&content) else {
        let label = "expected PEM, such as `-----BEGIN PRIVATE KEY-----`, without a password";
        reader.error("there is no private key in `key_file`", key_place?, label);
        return None;
    };
    let (cert_file, chain) = cert_file?;
    if user == User::Us
        && let Err(error) = belong_together(chain, &private)
    {
        reader.error(format!("`key_file` is no key for `cert_file`: {error}"), key_place?, "the chain is leaf first");
        return None;
    }
    Some(Tls { cert_file, key_file })
}

type Chain = Vec<CertificateDer<'static>>;

fn chain(reader: &mut Reader<'_>, field: Option<Field<'_>>) -> Option<(PemFile, Chain)> {
    let (path, content) = reader.file(field)?;
    let field = field?;
    let found: Result<Chain, _> = CertificateDer::pem_slice_iter(&content).collect();
    match found {
        Ok(found) if !found.is_empty() => Some((PemFile::new(path, &content), found)),
        _ => {
            let message = format!("there is no certificate in `{}`", field.key);
            reader.error(message, &field.node.span, "expected PEM, such as `-----BEGIN CERTIFICATE-----`");
            None
        }
    }
}

fn belong_together(chain: Chain, key: &PrivateKeyDer<'static>) -> Result<(), Error> {
    match CertifiedKey::new(chain, any_supported_type(key)?).keys_match() {
        // A key that does not tell its public half is believed.
        Ok(()) | Err(Error::InconsistentKeys(InconsistentKeys::Unknown)) => Ok(()),
        Err(error) => Err(error),
    }
}
