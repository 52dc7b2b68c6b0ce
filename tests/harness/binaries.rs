//! Where the two binaries are: built once per test process, by the cargo and in the profile that runs the test.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;

pub struct Binaries {
    pub tsunagi: PathBuf,
    pub proxy: PathBuf,
}

/// The binaries in `TSUNAGI_BIN_DIR` when it is set, else freshly built ones. Cargo's own lock orders test processes.
pub fn binaries() -> &'static Binaries {
    static FOUND: OnceLock<Binaries> = OnceLock::new();
    FOUND.get_or_init(|| {
        let folder = std::env::var_os("TSUNAGI_BIN_DIR").map_or_else(build, PathBuf::from);
        let binaries = Binaries {
            tsunagi: folder.join("tsunagi"),
            proxy: folder.join("tsunagi-proxy"),
        };
        for path in [&binaries.tsunagi, &binaries.proxy] {
            assert!(path.is_file(), "{} is not there", path.display());
        }
        binaries
    })
}

fn build() -> PathBuf {
    // target/PROFILE/deps/TEST
    let test = std::env::current_exe().expect("a running test has a path");
    let profile_folder = test
        .parent()
        .and_then(Path::parent)
        .expect("test binaries lie in target/PROFILE/deps");
    let target = profile_folder
        .parent()
        .expect("a profile's folder lies in the target folder");
    let profile = match profile_folder.file_name().and_then(|name| name.to_str()) {
        None | Some("debug") => "dev",
        Some(other) => other,
    };
    let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let output = Command::new(cargo)
        .args([
            "build",
            "--quiet",
            "--locked",
            // With the workspace's features, as the tests are built: nothing is compiled twice.
            "--workspace",
            "--bins",
        ])
        .args(["--profile", profile, "--target-dir"])
        .arg(target)
        .current_dir(env!("CARGO_MANIFEST_DIR"))
        .output()
        .expect("cargo starts");
    assert!(
        output.status.success(),
        "building the binaries:\n{}",
        String::from_utf8_lossy(&output.stderr)
    );
    profile_folder.to_owned()
}
