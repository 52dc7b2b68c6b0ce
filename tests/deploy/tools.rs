//! The programs that judge manifests: helm, kubectl and Kubernetes' schemas from the folder that `.ci/tools` fills, promtool
//! from the system. Whoever lacks them is told so loudly, and fails where the gate demands them.

use std::ffi::OsStr;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use serde_json::Value;

/// Oldest version with native sidecars, and the newest whose schemas are there.
const VERSIONS: [&str; 2] = ["1.29", "latest"];

pub(crate) struct Tools {
    folder: PathBuf,
}

/// What `check.py` says.
pub(crate) struct Judged {
    pub problems: Vec<String>,
    pub documents: Vec<Value>,
}

pub(crate) fn root() -> PathBuf {
    let package = Path::new(env!("CARGO_MANIFEST_DIR"));
    package.parent().expect("the package is one folder below").to_owned()
}

pub(crate) fn read(path: &str) -> String {
    std::fs::read_to_string(root().join(path)).unwrap_or_else(|error| panic!("{path}: {error}"))
}

/// `None`, after a word on stderr, where nothing is installed.
pub(crate) fn tools() -> Option<Tools> {
    let folder = std::env::var_os("TSUNAGI_TOOLS_DIR").map(PathBuf::from).or_else(|| {
        let cache = std::env::var_os("XDG_CACHE_HOME").map(PathBuf::from);
        let cache = cache.or_else(|| std::env::var_os("HOME").map(|home| PathBuf::from(home).join(".cache")));
        cache.map(|cache| cache.join("tsunagi-tools"))
    });
    let found = folder.filter(|folder| folder.join("complete").is_file());
    if found.is_none() {
        missing(
            "helm, kubectl and the schemas of Kubernetes (`.ci/tools` fetches them)",
            "the manifests",
        );
    }
    found.map(|folder| Tools { folder })
}

pub(crate) fn missing(what: &str, unjudged: &str) {
    assert!(
        std::env::var_os("TSUNAGI_TESTS_REQUIRE_TOOLS").is_none(),
        "not installed: {what}"
    );
    // Past the capture of a test's output: a test that passes says it too.
    writeln!(
        std::io::stderr(),
        "NOT RUN: not installed: {what}; nothing judged {unjudged}"
    )
    .ok();
}

impl Tools {
    pub(crate) fn kubectl(&self, arguments: &[&str]) -> String {
        run(self.folder.join("bin/kubectl"), arguments, "").expect("kubectl")
    }

    pub(crate) fn kustomize(&self, folder: &str) -> String {
        let folder = root().join(folder);
        self.kubectl(&["kustomize", &folder.to_string_lossy()])
    }

    /// `helm COMMAND CHART` with these values, in tsunagi-system unless the command says another namespace.
    pub(crate) fn helm(&self, command: &[&str], values: &str) -> Result<String, String> {
        let chart = root().join("deploy/helm/tsunagi");
        let chart = chart.to_string_lossy();
        let mut arguments = command.to_vec();
        arguments.extend([chart.as_ref(), "--values", "-"]);
        if !command.contains(&"--namespace") {
            arguments.extend(["--namespace", "tsunagi-system"]);
        }
        run(self.folder.join("bin/helm"), &arguments, values)
    }

    pub(crate) fn render(&self, values: &str) -> String {
        self.helm(&["template", "tsunagi"], values).expect("the chart renders")
    }

    pub(crate) fn judge(&self, yaml: &str) -> Judged {
        let script = root().join("tests/deploy/check.py");
        let kinds = root().join("deploy/crds");
        let mut arguments = vec![script.as_os_str(), kinds.as_os_str()];
        arguments.extend(VERSIONS.map(OsStr::new));
        let answer = run(self.folder.join("venv/bin/python"), &arguments, yaml).expect("check.py");
        let answer: Value = serde_json::from_str(&answer).expect("JSON");
        let list = |name: &str| answer[name].as_array().cloned().unwrap_or_default();
        Judged {
            problems: list("problems")
                .iter()
                .filter_map(|problem| problem.as_str().map(str::to_owned))
                .collect(),
            documents: list("documents"),
        }
    }

    /// The documents, of which nothing is wrong.
    pub(crate) fn sound(&self, what: &str, yaml: &str) -> Vec<Value> {
        let judged = self.judge(yaml);
        assert!(judged.problems.is_empty(), "{what}:\n{}", judged.problems.join("\n"));
        assert!(!judged.documents.is_empty(), "{what} is empty");
        judged.documents
    }
}

/// Standard output; what was said on stderr where it failed.
pub(crate) fn run<A: AsRef<OsStr>>(program: impl AsRef<OsStr>, arguments: &[A], input: &str) -> Result<String, String> {
    let mut command = Command::new(program);
    command
        .args(arguments)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped());
    let mut child = command.spawn().map_err(|error| format!("does not start: {error}"))?;
    let mut stdin = child.stdin.take().expect("stdin is piped");
    let input = input.to_owned();
    // Beside the reader: both pipes may fill.
    let writer = std::thread::spawn(move || stdin.write_all(input.as_bytes()).ok());
    let output = child.wait_with_output().expect("our own child");
    writer.join().ok();
    let stdout = String::from_utf8_lossy(&output.stdout).into_owned();
    if output.status.success() {
        Ok(stdout)
    } else {
        Err(format!("{stdout}{}", String::from_utf8_lossy(&output.stderr)))
    }
}
