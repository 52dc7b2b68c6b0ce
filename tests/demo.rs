//! `tsunagi demo`: every act turns out as told, and whatever ends it, no process and no folder stays behind.

use std::path::PathBuf;
use std::process::Command;

use tsunagi_tests::{LIMIT, Process, binaries, eventually};

struct Demo {
    process: Process,
}

/// What the first table and the last lines say.
struct Up {
    children: Vec<u32>,
    folder: PathBuf,
}

impl Demo {
    fn start(arguments: &[&str]) -> Demo {
        let mut command = Command::new(&binaries().tsunagi);
        command.arg("demo").args(arguments);
        Demo {
            process: Process::start("tsunagi demo", &mut command),
        }
    }

    fn output(&self) -> String {
        self.process.stdout().join("\n")
    }

    /// Once all processes run.
    async fn up(&self) -> Up {
        let children = eventually("the demo's processes run", LIMIT, async || {
            let lines = self.process.stdout();
            let table = lines.iter().skip_while(|line| !line.contains("PROCESS"));
            let mut children: Vec<u32> = table
                .skip(1)
                .map_while(|line| line.split_whitespace().find_map(|word| word.parse().ok()))
                .collect();
            children.dedup();
            (children.len() == 6).then_some(children)
        })
        .await;
        let folder = children.iter().find_map(|pid| folder(*pid));
        Up {
            folder: folder.expect("a child logs into the demo's folder"),
            children,
        }
    }

    async fn ended(&mut self) -> i32 {
        let status = eventually("the demo ends", LIMIT * 3, async || self.process.exit_status()).await;
        status.code().unwrap_or(-1)
    }
}

/// Where the process's stderr goes.
fn folder(pid: u32) -> Option<PathBuf> {
    let log = std::fs::read_link(format!("/proc/{pid}/fd/2")).ok()?;
    Some(log.parent()?.to_owned())
}

/// Not even as a zombie that nobody waits for.
fn runs(pid: u32) -> bool {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    let state = stat.rsplit_once(") ").map_or("", |(_, rest)| rest);
    !state.is_empty() && !state.starts_with('Z')
}

async fn gone(children: &[u32]) {
    eventually("the demo's processes are gone", LIMIT, async || {
        (!children.iter().any(|pid| runs(*pid))).then_some(())
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_act_turns_out_as_told() {
    let mut demo = Demo::start(&["--exit"]);
    let up = demo.up().await;
    let code = demo.ended().await;
    let output = demo.output();
    assert_eq!(code, 0, "{output}\n{}", demo.process.log());
    for part in [
        "deploy/demo/user-service.yaml applied as it stands: in force on 1 of 1 sidecar",
        "10,000 requests answered 200",
        "1,000 of 1,000 answered by v2",
        "5 errors in a row ejected it",
        "through 1 probe",
        "3 served, 7 told at once",
        "11 of 11 checks ok",
    ] {
        assert!(output.contains(part), "{part} is missing in\n{output}");
    }
    assert!(!output.contains("curl -H"), "nobody stays to try it:\n{output}");
    assert!(!output.contains('\u{1b}'), "colours in a pipe:\n{output}");
    gone(&up.children).await;
    assert!(!up.folder.exists(), "{} is left", up.folder.display());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_signal_ends_it_and_nothing_stays() {
    for signal in ["INT", "TERM", "HUP"] {
        let mut demo = Demo::start(&[]);
        let up = demo.up().await;
        demo.process.signal(signal);
        assert_eq!(demo.ended().await, 1, "stopped before its last act");
        gone(&up.children).await;
        assert!(!up.folder.exists(), "{} is left", up.folder.display());
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn killed_it_takes_its_processes_with_it() {
    let mut demo = Demo::start(&[]);
    let up = demo.up().await;
    demo.process.kill();
    gone(&up.children).await;
    std::fs::remove_dir_all(up.folder).ok();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_child_that_dies_is_named_with_its_log_and_ends_the_demo() {
    let mut demo = Demo::start(&[]);
    let up = demo.up().await;
    let sidecar = demo.process.stdout().iter().find_map(|line| {
        let rest = line.trim().strip_prefix("sidecar ")?;
        rest.split_whitespace().next()?.to_owned().parse::<u32>().ok()
    });
    let sidecar = sidecar.expect("the table names the sidecar");
    let killed = Command::new("kill").args(["-KILL", &sidecar.to_string()]).status();
    assert!(killed.is_ok_and(|status| status.success()));
    assert_eq!(demo.ended().await, 1);
    let said = demo.process.log();
    assert!(
        said.contains(&format!("the sidecar (pid {sidecar}) ended by itself")),
        "{said}"
    );
    assert!(said.contains("listening outbound="), "its log is missing: {said}");
    gone(&up.children).await;
    assert!(!up.folder.exists(), "{} is left", up.folder.display());
}
