//! Whom an `https` destination has to be, and who we are to it. There is no way to skip the check.

use std::io;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, pem};
use rustls::{AlertDescription, CertificateError, ClientConfig, RootCertStore};
use rustls_platform_verifier::BuilderVerifierExt;

use super::SinkError;
use super::outcome::printable;
use super::probe::plain;
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

/// What TLS says about an error of a stream through it.
pub(super) fn cause(error: &io::Error) -> Option<&rustls::Error> {
    error.get_ref()?.downcast_ref()
}

/// What is wrong, and what to do about it.
pub(super) fn problem(error: &io::Error) -> (String, String) {
    let Some(error) = cause(error) else {
        let advice = "the port may not speak TLS: try http://, or another port";
        return (format!("the TLS handshake failed: {}", plain(error)), advice.to_owned());
    };
    let day = |time: rustls::pki_types::UnixTime| {
        httpdate::fmt_http_date(SystemTime::UNIX_EPOCH + Duration::from_secs(time.as_secs()))
    };
    let renew = "renew it at the other side, or look at the clock of this machine";
    let trust = "name the authority's certificate with otlp.certificate (OTEL_EXPORTER_OTLP_CERTIFICATE), or install \
                 it in the system";
    let client = "look at otlp.client_certificate and otlp.client_key";
    let (what, advice) = match error {
        rustls::Error::InvalidCertificate(reason) => match reason {
            CertificateError::Expired => ("the certificate expired".to_owned(), renew),
            CertificateError::ExpiredContext { not_after, .. } => {
                (format!("the certificate expired on {}", day(*not_after)), renew)
            }
            CertificateError::NotValidYet => ("the certificate is not valid yet".to_owned(), renew),
            CertificateError::NotValidYetContext { not_before, .. } => {
                (format!("the certificate is not valid before {}", day(*not_before)), renew)
            }
            CertificateError::NotValidForName => (
                "the certificate is for another name".to_owned(),
                "use the name that is in the certificate as the endpoint",
            ),
            CertificateError::NotValidForNameContext { expected, presented } => {
                // They come as `DnsName("x")`.
                let name = |text: &String| text.split('"').nth(1).unwrap_or(text).to_owned();
                let names: Vec<String> = presented.iter().map(name).collect();
                (
                    format!("the certificate is for {}, not for {}", names.join(", "), expected.to_str()),
                    "use the name that is in the certificate as the endpoint",
                )
            }
            CertificateError::UnknownIssuer => {
                ("the certificate is signed by an authority that is not trusted here".to_owned(), trust)
            }
            CertificateError::Revoked => ("the certificate was revoked".to_owned(), renew),
            other => (format!("the certificate is not good: {other}"), trust),
        },
        rustls::Error::InvalidMessage(_) => {
            ("the other side does not speak TLS".to_owned(), "try http:// in the endpoint, or another port")
        }
        rustls::Error::AlertReceived(AlertDescription::CertificateRequired) => {
            ("the other side wants a certificate of ours".to_owned(), client)
        }
        rustls::Error::AlertReceived(AlertDescription::NoApplicationProtocol) => (
            "the other side does not speak HTTP/2 through TLS, which gRPC needs".to_owned(),
            "set otlp.protocol to http/protobuf, or use the port for gRPC",
        ),
        rustls::Error::AlertReceived(
            alert @ (AlertDescription::BadCertificate
            | AlertDescription::UnknownCA
            | AlertDescription::CertificateUnknown
            | AlertDescription::AccessDenied),
        ) => (format!("the other side refuses our certificate ({alert:?})"), client),
        other => (format!("the TLS handshake failed: {other}"), ""),
    };
    (printable(&what), advice.to_owned())
}
