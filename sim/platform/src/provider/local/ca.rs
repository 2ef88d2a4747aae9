//! The certificate authority of a platform, and the certificates that it signs. All are deleted
//! with the platform's folder.

use std::io;
use std::net::{IpAddr, Ipv4Addr};
use std::path::{Path, PathBuf};

use rcgen::{
    BasicConstraints, CertificateParams, CertifiedIssuer, DnType, ExtendedKeyUsagePurpose, IsCa,
    KeyPair, KeyUsagePurpose, SanType,
};

use crate::provider::state::write_private;

/// Why a certificate could not be created.
#[derive(Debug, thiserror::Error)]
pub enum CaError {
    /// A key could not be generated, or a certificate not signed.
    #[error("could not create a certificate of the local platform")]
    Make(#[from] rcgen::Error),
    /// A file could not be written.
    #[error("could not write {path}")]
    Write {
        /// Its path.
        path: PathBuf,
        /// The error of the operating system.
        source: io::Error,
    },
}

/// The files of a platform's certificates.
#[derive(Clone, Debug)]
pub struct Certificates {
    /// The CA certificate.
    pub ca: PathBuf,
    /// The server certificate of all servers.
    pub server: PathBuf,
    /// Its key.
    pub server_key: PathBuf,
    /// The client certificate of the API server for etcd.
    pub etcd_client: PathBuf,
    /// Its key.
    pub etcd_client_key: PathBuf,
    /// The key that signs ServiceAccount tokens.
    pub service_accounts: PathBuf,
    /// Its public key, with which Vault verifies tokens for `vault.auth: jwt`.
    pub service_accounts_public: PathBuf,
}

impl Certificates {
    /// The paths in a folder.
    pub fn within(folder: &Path) -> Self {
        let file = |name: &str| folder.join(name);
        Self {
            ca: file("ca.crt"),
            server: file("server.crt"),
            server_key: file("server.key"),
            etcd_client: file("etcd-client.crt"),
            etcd_client_key: file("etcd-client.key"),
            service_accounts: file("service-accounts.key"),
            service_accounts_public: file("service-accounts.pub"),
        }
    }

    /// Creates all of them, for servers on loopback.
    ///
    /// # Errors
    /// If one cannot be created or written.
    pub fn make(folder: &Path) -> Result<Self, CaError> {
        let files = Self::within(folder);
        let mut params = CertificateParams::default();
        params.distinguished_name.push(DnType::CommonName, "alertstorm local");
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
        let ca = CertifiedIssuer::self_signed(params, KeyPair::generate()?)?;
        put(&files.ca, &ca.pem())?;
        let names = ["localhost", "kubernetes", "kubernetes.default", "kubernetes.default.svc"];
        sign(&ca, "alertstorm-server", &names, (&files.server, &files.server_key))?;
        sign(&ca, "kube-apiserver", &[], (&files.etcd_client, &files.etcd_client_key))?;
        let accounts = KeyPair::generate()?;
        put(&files.service_accounts, &accounts.serialize_pem())?;
        put(&files.service_accounts_public, &accounts.public_key_pem())?;
        Ok(files)
    }
}

fn sign(
    ca: &CertifiedIssuer<'_, KeyPair>,
    name: &str,
    names: &[&str],
    (certificate, key): (&Path, &Path),
) -> Result<(), CaError> {
    let names: Vec<String> = names.iter().map(|name| (*name).to_owned()).collect();
    let mut params = CertificateParams::new(names)?;
    params.subject_alt_names.push(SanType::IpAddress(IpAddr::V4(Ipv4Addr::LOCALHOST)));
    params.distinguished_name.push(DnType::CommonName, name);
    params.use_authority_key_identifier_extension = true;
    params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
    params.extended_key_usages =
        vec![ExtendedKeyUsagePurpose::ServerAuth, ExtendedKeyUsagePurpose::ClientAuth];
    let own = KeyPair::generate()?;
    put(certificate, &params.signed_by(&own, ca)?.pem())?;
    put(key, &own.serialize_pem())
}

fn put(path: &Path, text: &str) -> Result<(), CaError> {
    write_private(path, text.as_bytes())
        .map_err(|source| CaError::Write { path: path.to_owned(), source })
}
