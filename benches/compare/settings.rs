//! What the caller chose, all from the environment, and where things are: the folder for results, the two cores.

use std::env::{self, consts, current_exe, var_os};
use std::path::{Path, PathBuf};
use std::process::Command;

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use tsunagi_benches::setting;

use crate::Outcome;

/// Open files of each process.
const FILES: u64 = 8192;

pub struct Settings {
    /// `CASES=h1,h2`; empty: all.
    cases: Vec<String>,
    /// `PEERS=envoy,nginx`; empty: all. Tsunagi always takes part.
    peers: Vec<String>,
    /// `ROUNDS`, 5: of each case; an odd number has a middle one.
    pub rounds: usize,
    /// `SECONDS`, 4: of load, for each peer in each round.
    pub seconds: u64,
    /// `AGAIN`, 2: how often a measurement is made anew that other processes disturbed.
    pub again: u64,
    /// `PROXY_CORE`, 0: every proxy runs here and nothing else.
    pub proxy_core: u64,
    /// `LOAD_CORE`, 1: load generators, upstreams, control plane and this process.
    load_core: u64,
    /// `BINARIES`: a folder with `tsunagi` and `tsunagi-proxy`; else they are built in this benchmark's profile.
    pub binaries: Option<PathBuf>,
    /// `BASELINE`: such a folder as well; measured as one more peer.
    pub baseline: Option<PathBuf>,
    /// `ENVOY`: the binary; else the one in `PATH`, else one that is installed below the target folder.
    pub envoy: Option<PathBuf>,
    /// `OUT`: where `compare.json` and `chart.svg` go; else `compare` in the target folder.
    pub out: PathBuf,
    /// `CHART=1`: the chart goes beside this file instead, for README.
    pub chart: bool,
}

impl Settings {
    pub fn read() -> Outcome<Settings> {
        let list = |name: &str| {
            let text = env::var(name).unwrap_or_default();
            text.split(',')
                .filter(|item| !item.is_empty())
                .map(str::to_owned)
                .collect()
        };
        let folder = |name: &str| var_os(name).map(PathBuf::from);
        let settings = Settings {
            cases: list("CASES"),
            peers: list("PEERS"),
            rounds: setting("ROUNDS", 5).clamp(1, 1000) as usize,
            seconds: setting("SECONDS", 4).clamp(1, 3600),
            again: setting("AGAIN", 2).min(10),
            proxy_core: setting("PROXY_CORE", 0),
            load_core: setting("LOAD_CORE", 1),
            binaries: folder("BINARIES"),
            baseline: folder("BASELINE"),
            envoy: folder("ENVOY"),
            out: folder("OUT").unwrap_or(target_folder()?.join("compare")),
            chart: setting("CHART", 0) == 1,
        };
        if settings.proxy_core == settings.load_core {
            return Err("PROXY_CORE and LOAD_CORE must differ".to_owned());
        }
        std::fs::create_dir_all(&settings.out).map_err(|error| format!("{}: {error}", settings.out.display()))?;
        Ok(settings)
    }

    pub fn wants_case(&self, name: &str) -> bool {
        self.cases.is_empty() || self.cases.iter().any(|case| case == name)
    }

    pub fn wants_peer(&self, name: &str) -> bool {
        self.peers.is_empty() || self.peers.iter().any(|peer| peer == name)
    }

    /// A case or peer that does not exist is a mistake, not an empty run.
    pub fn check_names(&self, cases: &[&str], peers: &[&str]) -> Outcome<()> {
        for (given, known) in [(&self.cases, cases), (&self.peers, peers)] {
            if let Some(unknown) = given.iter().find(|name| !known.contains(&name.as_str())) {
                return Err(format!("`{unknown}` is none of {}", known.join(", ")));
            }
        }
        Ok(())
    }

    pub fn on_proxy_core(&self, program: &Path) -> Command {
        pinned(self.proxy_core, program)
    }

    pub fn on_load_core(&self, program: &Path) -> Command {
        pinned(self.load_core, program)
    }

    /// This process and all that it starts leave the proxies' core alone.
    pub fn pin_this_process(&self) -> Outcome<()> {
        let core = self.load_core.to_string();
        let mut command = Command::new("taskset");
        command.args(["-acp", &core, &std::process::id().to_string()]);
        let output = command.output().map_err(|error| format!("taskset: {error}"))?;
        if !output.status.success() {
            return Err(format!("taskset: {}", String::from_utf8_lossy(&output.stderr).trim()));
        }
        Ok(())
    }
}

/// A thousand idle connections are two thousand in a proxy, and every process here inherits this one's limit.
pub fn raise_file_limit() -> Outcome<()> {
    let hard = getrlimit(Resource::Nofile).maximum;
    if hard.is_some_and(|hard| hard < FILES) {
        return Err(format!(
            "{FILES} open files are needed: raise the hard limit (ulimit -Hn)"
        ));
    }
    let limit = Rlimit {
        current: hard,
        maximum: hard,
    };
    setrlimit(Resource::Nofile, limit).map_err(|error| format!("raising the limit of open files: {error}"))
}

fn pinned(core: u64, program: &Path) -> Command {
    let mut command = Command::new("taskset");
    command.args(["-c", &core.to_string()]).arg(program);
    command
}

/// The target folder: this benchmark lies in target/PROFILE/deps.
pub fn target_folder() -> Outcome<PathBuf> {
    let own = current_exe().map_err(|error| error.to_string())?;
    let target = own.ancestors().nth(3);
    target
        .map(Path::to_owned)
        .ok_or("the benchmark lies in no target folder".to_owned())
}

/// A program in `PATH`, or where Debian keeps servers.
pub fn find_program(name: &str, package: &str) -> Outcome<PathBuf> {
    let path = var_os("PATH").unwrap_or_default();
    let mut folders: Vec<PathBuf> = env::split_paths(&path).collect();
    folders.push(PathBuf::from("/usr/sbin"));
    let found = folders
        .into_iter()
        .map(|folder| folder.join(name))
        .find(|path| path.is_file());
    found.ok_or(format!(
        "`{name}` is not there: install the package `{package}` ({})",
        consts::OS
    ))
}
