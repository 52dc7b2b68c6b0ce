//! The certificate that handshakes use now: replaced while connections go on. Called by `webhook`'s TLS listener.

use std::sync::{Arc, PoisonError, RwLock};

use rustls::{
    ServerConfig,
    crypto::{CryptoProvider, aws_lc_rs},
    pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject},
    server::{ClientHello, ResolvesServerCert},
    sign::CertifiedKey,
};

use super::{CaError, Material};

/// Nothing at first: a handshake fails until there is a certificate.
#[derive(Debug)]
pub struct Serving {
    provider: Arc<CryptoProvider>,
    current: RwLock<Option<Arc<CertifiedKey>>>,
}

impl Serving {
    pub fn new() -> Arc<Self> {
        Arc::new(Self {
            provider: Arc::new(aws_lc_rs::default_provider()),
            current: RwLock::new(None),
        })
    }

    /// Handshakes from now on show this certificate.
    pub fn install(&self, material: &Material) -> Result<(), CaError> {
        let chain: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(material.certificate.as_bytes()).collect();
        let key = PrivateKeyDer::from_pem_slice(material.key.as_bytes()).map_err(|_| CaError::Pem)?;
        let certified = CertifiedKey::from_der(chain.map_err(|_| CaError::Pem)?, key, &self.provider)?;
        *self.current.write().unwrap_or_else(PoisonError::into_inner) = Some(Arc::new(certified));
        Ok(())
    }

    /// TLS 1.2 and 1.3 without client certificates: the API server has none unless its operator configures one.
    pub fn config(self: &Arc<Self>) -> Result<Arc<ServerConfig>, CaError> {
        let config =
            ServerConfig::builder_with_provider(Arc::clone(&self.provider)).with_safe_default_protocol_versions()?;
        let resolver: Arc<dyn ResolvesServerCert> = Arc::<Self>::clone(self);
        let mut config = config.with_no_client_auth().with_cert_resolver(resolver);
        config.alpn_protocols = vec![b"http/1.1".to_vec()];
        Ok(Arc::new(config))
    }
}

impl ResolvesServerCert for Serving {
    fn resolve(&self, _: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        self.current.read().unwrap_or_else(PoisonError::into_inner).clone()
    }
}
