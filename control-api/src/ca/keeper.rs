//! Bringing what is kept and what is needed together: read, make what is due, write it unless somebody else was faster,
//! and then take theirs. Called by `webhook` at start and again and again.

use std::time::SystemTime;

use super::{CaError, Material, Place, material};

/// Each try but the last was lost to another replica, which then has what this one needs.
const TRIES: usize = 5;

/// The material that is in force at `now`, made or renewed if it had to be. Dropping the future leaves it as it is.
pub async fn settle(place: &Place, names: &[String], now: SystemTime) -> Result<Material, CaError> {
    for _ in 0..TRIES {
        let kept = place.read().await?;
        match (material::next(kept.material.as_ref(), names, now)?, &kept.material) {
            (None, Some(current)) => return Ok(current.clone()),
            (Some(next), _) if place.write(&kept, &next).await? => return Ok(next),
            _ => {}
        }
    }
    Err(CaError::Contended)
}
