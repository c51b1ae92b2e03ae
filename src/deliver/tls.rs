//! Whom an `https` destination has to be, and who we are to it. There is no way to skip the check.

use std::path::Path;
use std::sync::Arc;

use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, pem};
use rustls::{ClientConfig, RootCertStore};
use rustls_platform_verifier::BuilderVerifierExt;

use super::SinkError;
use crate::config::{Endpoint, Tls};

/// TLS 1.2 and 1.3 for one URL.
pub(super) fn config(url: &Endpoint, tls: &Tls) -> Result<ClientConfig, SinkError> {
    // The provider is named here and not taken from the process, where nobody may have installed one, or a
    // host may have installed another.
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let failed = |error: rustls::Error| SinkError(format!("TLS cannot be set up: {error}"));
    let builder = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(failed)?;
    if url.expose().scheme() != "https" {
        // Never used: an http URL stays one, for redirects are not followed. The system's certificates are
        // not read, so that a machine without any can still deliver to itself.
        return Ok(builder.with_root_certificates(RootCertStore::empty()).with_no_client_auth());
    }
    let builder = match &tls.certificate {
        None => builder.with_platform_verifier().map_err(failed)?,
        Some(path) => {
            let mut roots = RootCertStore::empty();
            for certificate in certificates(path)? {
                roots.add(certificate).map_err(|error| wrong(path, &error))?;
            }
            builder.with_root_certificates(roots)
        }
    };
    match (&tls.client_certificate, &tls.client_key) {
        (Some(chain), Some(key)) => {
            let secret =
                PrivateKeyDer::from_pem_file(key).map_err(|error| unread(key, "private key", &error))?;
            builder.with_client_auth_cert(certificates(chain)?, secret).map_err(|error| wrong(chain, &error))
        }
        (None, None) => Ok(builder.with_no_client_auth()),
        _ => Err(SinkError("a client certificate needs its key, and a key its certificate".to_owned())),
    }
}

fn certificates(path: &Path) -> Result<Vec<CertificateDer<'static>>, SinkError> {
    let unread = |error| unread(path, "certificate", &error);
    let found: Vec<_> =
        CertificateDer::pem_file_iter(path).map_err(unread)?.collect::<Result<_, _>>().map_err(unread)?;
    if found.is_empty() {
        return Err(unread(pem::Error::NoItemsFound));
    }
    Ok(found)
}

/// The parser's errors may quote a line of the file, which may be the key.
fn unread(path: &Path, what: &str, error: &pem::Error) -> SinkError {
    let why = match error {
        pem::Error::Io(error) => error.to_string(),
        pem::Error::NoItemsFound => format!("there is no {what} in it, in PEM form"),
        _ => "it is no PEM file".to_owned(),
    };
    SinkError(format!("{}: {why}", path.display()))
}

fn wrong(path: &Path, error: &rustls::Error) -> SinkError {
    SinkError(format!("{}: {error}", path.display()))
}
