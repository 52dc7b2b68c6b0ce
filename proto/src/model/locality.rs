//! What the place of endpoints means for balancing: DestinationRule `localityLbSetting` and `zoneAwareLbSetting`. The
//! proxy applies it to its own place; a cluster is the same for every proxy.

use super::Invalid;
use crate::wire::mesh;

#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct LocalityBalancing {
    /// The first whose `from` covers the proxy's locality decides.
    pub distribute: Vec<LocalityShares>,
    /// From region, to region.
    pub failover: Vec<(String, String)>,
    /// `key` or `key=value`: endpoints that have more of the first ones in common with the proxy come first.
    pub failover_priority: Vec<(String, Option<String>)>,
    pub zone_aware: Option<ZoneAware>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LocalityShares {
    /// `region/zone/subzone`; what is missing at the end, or `*`, means any.
    pub from: String,
    /// Locality and percent; of them one is not 0.
    pub to: Vec<(String, u32)>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ZoneAware {
    /// With fewer endpoints localities do not matter.
    pub min_cluster_size: u64,
}

impl TryFrom<mesh::LocalityBalancing> for LocalityBalancing {
    type Error = Invalid;

    fn try_from(wire: mesh::LocalityBalancing) -> Result<Self, Invalid> {
        let priority = |label: String| match label.split_once('=') {
            Some((key, value)) => (key.to_owned(), Some(value.to_owned())),
            None => (label, None),
        };
        Ok(Self {
            distribute: wire
                .distribute
                .into_iter()
                .map(LocalityShares::try_from)
                .collect::<Result<_, _>>()?,
            failover: wire.failover.into_iter().map(|item| (item.from, item.to)).collect(),
            failover_priority: wire.failover_priority.into_iter().map(priority).collect(),
            zone_aware: wire.zone_aware.map(|wire| ZoneAware {
                min_cluster_size: wire.min_cluster_size,
            }),
        })
    }
}

impl TryFrom<mesh::LocalityShares> for LocalityShares {
    type Error = Invalid;

    fn try_from(wire: mesh::LocalityShares) -> Result<Self, Invalid> {
        let to: Vec<(String, u32)> = wire
            .to
            .into_iter()
            .map(|share| (share.locality, share.weight))
            .collect();
        if to.iter().any(|(_, weight)| *weight > 100) {
            return Err(Invalid::new("distribute", "a share is more than 100 percent"));
        }
        if to.iter().all(|(_, weight)| *weight == 0) {
            return Err(Invalid::new("distribute", "no locality has a share"));
        }
        Ok(Self { from: wire.from, to })
    }
}
