//! The image files and the workflows, which nothing here can run: what can be told from their text.

use crate::tools::{read, root};

fn stages(path: &str) -> Vec<String> {
    let text = read(path);
    let starts = text.split("\nFROM ").skip(1);
    starts.map(str::to_owned).collect()
}

#[test]
fn the_sidecars_image_redirects_and_runs_as_the_user_that_redirection_leaves_alone() {
    let stages = stages("deploy/tsunagi-proxy.Dockerfile");
    let last = stages.last().expect("a stage");
    for package in ["nftables", "iptables", "iproute2"] {
        assert!(last.contains(package), "{package} is not installed:\n{last}");
    }
    assert!(last.contains("USER 1337:1337"), "{last}");
    assert!(last.contains("ENTRYPOINT [\"/usr/local/bin/tsunagi-proxy\"]"), "{last}");
}

#[test]
fn images_are_pinned_and_never_run_as_root() {
    for path in ["deploy/tsunagi.Dockerfile", "deploy/tsunagi-proxy.Dockerfile"] {
        for stage in stages(path) {
            let image = stage.split_whitespace().next().unwrap_or_default();
            let pinned = image == "scratch" || image.rsplit_once(':').is_some_and(|(_, tag)| tag != "latest");
            assert!(pinned, "{path}: {image}");
        }
        let last = stages(path).pop().expect("a stage");
        let users: Vec<&str> = last.lines().filter_map(|line| line.strip_prefix("USER ")).collect();
        assert!(
            users.last().is_some_and(|user| !user.starts_with(['0', 'r'])),
            "{path}: {users:?}"
        );
    }
}

/// What an image file copies must be let through, and what cargo asks for must be there.
#[test]
fn the_build_gets_every_member_of_the_workspace_and_no_more() {
    let ignored = read(".dockerignore");
    let mut lines = ignored.lines();
    assert_eq!(lines.next(), Some("*"));
    let kept: Vec<&str> = lines.filter_map(|line| line.strip_prefix('!')).collect();
    let manifest = read("Cargo.toml");
    let members = manifest
        .lines()
        .find(|line| line.starts_with("members"))
        .expect("members");
    let members = members.split('"').skip(1).step_by(2);
    for needed in members.chain(["Cargo.toml", "Cargo.lock", "deploy/demo"]) {
        assert!(kept.contains(&needed), ".dockerignore keeps {needed} away");
    }
    for path in &kept {
        assert!(root().join(path).exists(), ".dockerignore names {path}");
    }
}

#[test]
fn only_what_is_on_main_or_released_is_pushed_with_the_least_rights() {
    let workflow = read(".github/workflows/images.yml");
    for needed in [
        "branches: [main]",
        "tags: ['v*']",
        "uses: ./.github/workflows/ci.yml",
        "needs: gate",
        "permissions: {}",
        "packages: write",
        "attestations: write",
        "id-token: write",
        "provenance: mode=max",
    ] {
        assert!(workflow.contains(needed), "no {needed}");
    }
    assert!(!workflow.contains("pull_request"), "a pull request could push");
    for path in [".github/workflows/images.yml", ".github/workflows/ci.yml"] {
        let text = read(path);
        let actions = text.lines().filter_map(|line| line.split("uses: ").nth(1));
        let actions = actions.filter(|action| !action.starts_with("./"));
        for action in actions {
            let version = action.split('@').nth(1).unwrap_or_default();
            assert!(version.starts_with('v') || version.len() >= 40, "{path}: {action}");
        }
    }
}
