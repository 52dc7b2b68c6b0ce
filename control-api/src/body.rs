//! A request's body within a limit. What is too much is read all the same and dropped, up to a few times the limit: many
//! clients read no answer before they have sent all, and a connection that closes on them is no answer. Called by `api` and
//! `webhook`, which limit the time.

use axum::body::{Body, Bytes};
use bytes::BytesMut;
use http_body_util::{BodyExt, Limited};

/// Of a limit: how much is read before the connection is given up.
const DRAINED_LIMITS: usize = 4;

#[derive(Debug, thiserror::Error)]
pub enum BodyError {
    #[error("the body is larger than {limit_bytes} bytes")]
    TooLarge { limit_bytes: usize },
    #[error("the body could not be read: {0}")]
    Unreadable(Box<dyn std::error::Error + Send + Sync>),
}

/// The whole body. Dropping the future gives the connection up.
pub async fn read(body: Body, limit_bytes: usize) -> Result<Bytes, BodyError> {
    let mut body = Limited::new(body, limit_bytes.saturating_mul(DRAINED_LIMITS));
    let mut whole = BytesMut::new();
    while let Some(frame) = body.frame().await {
        let data = frame.map_err(BodyError::Unreadable)?.into_data().unwrap_or_default();
        if whole.len() + data.len() > limit_bytes {
            drop(whole);
            while let Some(Ok(_)) = body.frame().await {}
            return Err(BodyError::TooLarge { limit_bytes });
        }
        whole.extend_from_slice(&data);
    }
    Ok(whole.freeze())
}
