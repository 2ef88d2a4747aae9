//! TLS clients that trust one certificate authority only.

use std::sync::Arc;

use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject;

/// A TLS configuration that trusts the certificates of a PEM text and no others, not even the host's.
///
/// # Errors
/// If a certificate is invalid.
pub fn only(ca_pem: &str) -> Result<rustls::ClientConfig, rustls::Error> {
    let mut roots = rustls::RootCertStore::empty();
    for certificate in CertificateDer::pem_slice_iter(ca_pem.as_bytes()).filter_map(Result::ok) {
        roots.add(certificate)?;
    }
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config = rustls::ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()?
        .with_root_certificates(roots)
        .with_no_client_auth();
    Ok(config)
}

/// As [`only`], for a text that must hold a certificate.
///
/// # Errors
/// If there is none, or one is invalid.
pub fn only_nonempty(ca_pem: &str) -> Result<rustls::ClientConfig, rustls::Error> {
    if CertificateDer::pem_slice_iter(ca_pem.as_bytes()).filter_map(Result::ok).next().is_none() {
        return Err(rustls::Error::General("the text holds no certificate in PEM format".into()));
    }
    only(ca_pem)
}
