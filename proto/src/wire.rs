//! Generated wire types. Only the rooms `xds/` and `api/`, and `model` here, name them.
#![allow(clippy::all, clippy::allow_attributes_without_reason, reason = "generated code")]

pub mod mesh {
    tonic::include_proto!("tsunagi.mesh.v1");
}

// The nesting is what the generated code of `v3` expects.
pub mod envoy {
    pub mod service {
        pub mod discovery {
            pub mod v3 {
                tonic::include_proto!("envoy.service.discovery.v3");
            }
        }
    }
}
pub mod google {
    pub mod rpc {
        tonic::include_proto!("google.rpc");
    }
}

pub use envoy::service::discovery::v3 as discovery;
