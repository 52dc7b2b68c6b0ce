//! The certificate of the admission webhook: made here, kept where every replica finds it, renewed in time and without a
//! restart. Called by `webhook`. Nobody else trusts this authority: the API server is told of it, and it signs nothing but
//! the one serving certificate.

mod keeper;
mod material;
mod place;
mod serving;

pub use keeper::settle;
pub use material::Material;
pub use place::Place;
pub use serving::Serving;

/// Why there is no certificate.
#[derive(Debug, thiserror::Error)]
pub enum CaError {
    #[error("cannot make a certificate: {0}")]
    Issue(#[from] rcgen::Error),
    #[error("cannot serve with the certificate: {0}")]
    Serve(#[from] rustls::Error),
    #[error("cannot serve with the certificate: it is not readable as PEM")]
    Pem,
    #[error("cannot keep the certificate in {path}: {source}")]
    File {
        path: std::path::PathBuf,
        source: std::io::Error,
    },
    #[error("cannot keep the certificate in the Secret {name}: {source}")]
    Secret { name: String, source: Box<kube::Error> },
    #[error("others change the Secret each time before this replica can")]
    Contended,
}

#[cfg(test)]
mod tests;
