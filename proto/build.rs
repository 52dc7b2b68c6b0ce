//! Generates the wire types from `wire/` with a compiler written in Rust: no `protoc` is needed.

fn main() -> Result<(), Box<dyn std::error::Error>> {
    println!("cargo:rerun-if-changed=wire");
    let files = protox::compile(
        [
            "wire/tsunagi/mesh/v1/mesh.proto",
            "wire/tsunagi/mesh/v1/config.proto",
            "wire/envoy/service/discovery/v3/ads.proto",
        ],
        ["wire"],
    )?;
    tonic_prost_build::configure()
        .bytes(".google.protobuf.Any")
        .compile_fds(files)?;
    Ok(())
}
