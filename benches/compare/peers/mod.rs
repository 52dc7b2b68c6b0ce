//! What is compared: a peer starts in the shape that a plan asks for, on the proxies' core, in a sane production
//! configuration: kept connections in pools that are large enough, no logs, no delays. Each has what Tsunagi does there
//! as far as it can: the header rule, the split, limits, least request, ejection, its own statistics.

mod envoy;
mod haproxy;
mod nginx;
mod tsunagi;

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::Command;

use tsunagi_tests::binaries;

use crate::Outcome;
use crate::plan::{Endpoints, Plan, Protocol, Rules, free_address};
use crate::settings::{Settings, find_program};
use crate::started::Started;

pub const NAMES: &[&str] = &["tsunagi", "baseline", "envoy", "haproxy", "nginx", "direct"];

#[derive(Clone)]
pub struct Peer {
    pub name: &'static str,
    pub version: String,
    program: Program,
}

#[derive(Clone)]
enum Program {
    Tsunagi(tsunagi::Builds),
    Envoy(PathBuf),
    Haproxy(PathBuf),
    Nginx(PathBuf),
    Direct,
}

/// A peer that serves, until this is dropped.
pub struct Running {
    pub address: SocketAddr,
    /// Whose processor time and memory count: the proxy itself. Of nginx the workers, not the idle master.
    pub accounted: Vec<u32>,
    processes: Vec<Started>,
}

impl Peer {
    /// All that take part, each with its version.
    pub fn find_all(settings: &Settings) -> Outcome<Vec<Peer>> {
        let built = || {
            println!("building tsunagi and tsunagi-proxy in this profile, which takes minutes the first time");
            let found = binaries();
            tsunagi::Builds {
                control: found.tsunagi.clone(),
                proxy: found.proxy.clone(),
            }
        };
        let own = settings
            .binaries
            .as_deref()
            .map_or_else(built, tsunagi::Builds::in_folder);
        let mut peers = vec![Peer::new("tsunagi", Program::Tsunagi(own))?];
        if let Some(folder) = &settings.baseline {
            peers.push(Peer::new(
                "baseline",
                Program::Tsunagi(tsunagi::Builds::in_folder(folder)),
            )?);
        }
        if settings.wants_peer("envoy") {
            peers.push(Peer::new("envoy", Program::Envoy(envoy::find(settings)?))?);
        }
        if settings.wants_peer("haproxy") {
            peers.push(Peer::new(
                "haproxy",
                Program::Haproxy(find_program("haproxy", "haproxy")?),
            )?);
        }
        if settings.wants_peer("nginx") {
            peers.push(Peer::new("nginx", Program::Nginx(find_program("nginx", "nginx")?))?);
        }
        if settings.wants_peer("direct") {
            peers.push(Peer::new("direct", Program::Direct)?);
        }
        Ok(peers)
    }

    fn new(name: &'static str, program: Program) -> Outcome<Peer> {
        let version = match &program {
            Program::Tsunagi(builds) => builds.version()?,
            Program::Envoy(path) => {
                let said = first_line(path, "--version")?;
                // `PATH version: COMMIT/VERSION/...`
                let version = said.split("version: ").nth(1).and_then(|rest| rest.split('/').nth(1));
                version.unwrap_or(&said).to_owned()
            }
            Program::Haproxy(path) => {
                let said = first_line(path, "-v")?;
                said.split(' ').nth(2).unwrap_or(&said).to_owned()
            }
            Program::Nginx(path) => {
                let said = first_line(path, "-v")?;
                said.rsplit('/').next().unwrap_or(&said).to_owned()
            }
            Program::Direct => String::new(),
        };
        Ok(Peer { name, version, program })
    }

    /// nginx has no HTTP/2 to endpoints; only sidecars are configured with thousands of rules.
    pub fn can(&self, plan: &Plan) -> bool {
        let many = matches!(plan.rules, Rules::Paths(_) | Rules::AmongServices(_));
        match self.program {
            Program::Tsunagi(_) | Program::Envoy(_) => true,
            Program::Haproxy(_) => !many,
            Program::Nginx(_) => !many && plan.protocol == Protocol::Http1,
            Program::Direct => !many && !plan.two_in_line && plan.rules != Rules::OneSlow,
        }
    }

    /// Its files go to `folder`, which is its own.
    pub fn start(&self, settings: &Settings, folder: &Path, plan: &Plan, endpoints: &Endpoints) -> Outcome<Running> {
        std::fs::create_dir_all(folder).map_err(|error| error.to_string())?;
        if let Program::Tsunagi(builds) = &self.program {
            return tsunagi::start(settings, folder, builds, plan, endpoints);
        }
        if !plan.two_in_line {
            return self.start_one(settings, folder, plan, endpoints, "proxy");
        }
        let second = Plan {
            rules: Rules::Forward,
            two_in_line: false,
            ..*plan
        };
        let mut second = self.start_one(settings, folder, &second, endpoints, "second")?;
        let only = Endpoints {
            v1: vec![second.address],
            v2: vec![second.address],
        };
        let mut first = self.start_one(settings, folder, plan, &only, "first")?;
        first.accounted.append(&mut second.accounted);
        first.processes.append(&mut second.processes);
        Ok(first)
    }

    fn start_one(
        &self,
        settings: &Settings,
        folder: &Path,
        plan: &Plan,
        endpoints: &Endpoints,
        name: &str,
    ) -> Outcome<Running> {
        let address = free_address()?;
        let place = Place {
            settings,
            folder,
            name,
            address,
        };
        match &self.program {
            Program::Envoy(path) => envoy::start(&place, path, plan, endpoints),
            Program::Haproxy(path) => haproxy::start(&place, path, plan, endpoints),
            Program::Nginx(path) => nginx::start(&place, path, plan, endpoints),
            Program::Direct | Program::Tsunagi(_) => {
                let address = *endpoints.v1.first().ok_or("no endpoint")?;
                Ok(Running {
                    address,
                    accounted: Vec::new(),
                    processes: Vec::new(),
                })
            }
        }
    }
}

/// Where one proxy of a peer goes.
struct Place<'a> {
    settings: &'a Settings,
    folder: &'a Path,
    name: &'a str,
    address: SocketAddr,
}

impl Place<'_> {
    fn write(&self, ending: &str, text: &str) -> Outcome<PathBuf> {
        let file = self.folder.join(format!("{}.{ending}", self.name));
        std::fs::write(&file, text).map_err(|error| format!("{}: {error}", file.display()))?;
        Ok(file)
    }

    /// Once it listens.
    fn start(&self, command: &mut Command) -> Outcome<Started> {
        let mut process = Started::start(self.name, command, self.folder)?;
        process.wait_for(self.address)?;
        Ok(process)
    }
}

fn first_line(program: &Path, flag: &str) -> Outcome<String> {
    let output = Command::new(program).arg(flag).output();
    let output = output.map_err(|error| format!("{}: {error}", program.display()))?;
    // nginx tells its version on stderr.
    let said = [output.stdout, output.stderr].concat();
    let said = String::from_utf8_lossy(&said).into_owned();
    Ok(said
        .lines()
        .find(|line| !line.trim().is_empty())
        .unwrap_or_default()
        .trim()
        .to_owned())
}
