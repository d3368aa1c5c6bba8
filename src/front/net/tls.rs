//! TLS of the front door: certificates from files, read again by a reload.

use std::fmt;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use parking_lot::RwLock;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio_rustls::TlsAcceptor;
use tokio_rustls::rustls::crypto::aws_lc_rs;
use tokio_rustls::rustls::pki_types::pem::PemObject;
use tokio_rustls::rustls::pki_types::{CertificateDer, PrivateKeyDer, pem};
use tokio_rustls::rustls::server::WebPkiClientVerifier;
use tokio_rustls::rustls::{self, RootCertStore, ServerConfig};
use tokio_rustls::server::TlsStream;

use crate::config;

/// Why TLS cannot be spoken with these files.
#[derive(Debug, thiserror::Error)]
pub enum TlsError {
    /// A file cannot be read, or has nothing of the kind in it.
    #[error("`{key}`: {}: {source}", path.display())]
    File {
        /// The key that names it.
        key: &'static str,
        /// The file.
        path: PathBuf,
        /// The error in the file.
        source: pem::Error,
    },
    /// The certificate and the key do not go together.
    #[error("`http.tls`: {0}")]
    Mismatch(#[from] rustls::Error),
    /// Clients' certificates cannot be checked.
    #[error("`http.tls.client_ca`: {0}")]
    Clients(String),
}

/// The certificates in use. Cheap to clone; all clones see a replacement.
#[derive(Clone)]
pub struct Tls(Arc<RwLock<Arc<ServerConfig>>>);

impl fmt::Debug for Tls {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Tls").finish_non_exhaustive()
    }
}

impl Tls {
    /// Reads the files.
    ///
    /// # Errors
    /// [`TlsError`].
    pub fn load(settings: &config::Tls) -> Result<Self, TlsError> {
        Ok(Self(Arc::new(RwLock::new(Arc::new(read(settings)?)))))
    }

    /// Takes over what the other has: connections from now on are made with it.
    pub fn replace(&self, other: &Self) {
        let new = Arc::clone(&other.0.read());
        *self.0.write() = new;
    }

    /// Shakes hands with a client.
    ///
    /// # Errors
    /// Whatever is wrong with what it sends, such as that it has no certificate.
    pub(in crate::front) async fn accept<T>(&self, stream: T) -> io::Result<TlsStream<T>>
    where
        T: AsyncRead + AsyncWrite + Unpin,
    {
        let config = Arc::clone(&self.0.read());
        TlsAcceptor::from(config).accept(stream).await
    }
}

fn read(settings: &config::Tls) -> Result<ServerConfig, TlsError> {
    let chain = certificates("http.tls.cert", &settings.cert)?;
    let key = PrivateKeyDer::from_pem_file(&settings.key);
    let key = key.map_err(|source| TlsError::File {
        key: "http.tls.key",
        path: settings.key.clone(),
        source,
    })?;
    let provider = Arc::new(aws_lc_rs::default_provider());
    let builder = ServerConfig::builder_with_provider(Arc::clone(&provider))
        .with_safe_default_protocol_versions()?;
    let builder = match &settings.client_ca {
        None => builder.with_no_client_auth(),
        Some(path) => {
            let mut roots = RootCertStore::empty();
            for root in certificates("http.tls.client_ca", path)? {
                roots.add(root)?;
            }
            let verifier = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider);
            let verifier = verifier.build();
            let told = |error: rustls::server::VerifierBuilderError| error.to_string();
            builder.with_client_cert_verifier(
                verifier.map_err(|error| TlsError::Clients(told(error)))?,
            )
        }
    };
    let mut config = builder.with_single_cert(chain, key)?;
    config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
    Ok(config)
}

fn certificates(key: &'static str, path: &Path) -> Result<Vec<CertificateDer<'static>>, TlsError> {
    let wrong = |source| TlsError::File {
        key,
        path: path.to_owned(),
        source,
    };
    let found = CertificateDer::pem_file_iter(path).map_err(wrong)?;
    let found: Vec<_> = found.collect::<Result<_, _>>().map_err(wrong)?;
    if found.is_empty() {
        return Err(wrong(pem::Error::NoItemsFound));
    }
    Ok(found)
}
