//! The language both planes speak: `wire` (generated) becomes `model` (checked), on which `decide` (pure) judges requests.

pub mod decide;
pub mod model;
pub mod names;
pub mod shards;
pub mod wire;
