//! A PostgreSQL server in a pod, for tests with real databases.

use std::os::unix::fs::chown;
use std::process::Command;
use std::sync::OnceLock;

use tempfile::TempDir;

use crate::pods::Pod;
use crate::process::Process;

/// Ends with the value, and leaves nothing behind.
pub struct PostgreSql {
    _process: Process,
    _data: TempDir,
}

impl PostgreSql {
    /// Debian packages that this needs and a command that tells whether each is there.
    pub const TOOLS: [(&str, &[&str]); 2] = [
        ("postgresql", &["id", "postgres"]),
        ("postgresql-client", &["psql", "--version"]),
    ];

    /// On port 5432 of every address of the pod, soon after this returns; the user `postgres` needs no password.
    pub fn start(pod: &Pod) -> PostgreSql {
        let data = TempDir::new().expect("a temporary folder");
        let (uid, tools) = (postgres_uid(), postgres_tools());
        chown(data.path(), Some(uid), Some(uid)).expect("root may give a folder away");
        let folder = data.path().join("data");
        let mut initdb = pod.command_as(uid, format!("{tools}/initdb"));
        initdb
            .args(["-U", "postgres", "-A", "trust", "--no-sync", "-D"])
            .arg(&folder);
        let made = initdb.output().expect("initdb starts");
        assert!(made.status.success(), "{}", String::from_utf8_lossy(&made.stderr));
        std::fs::write(folder.join("pg_hba.conf"), "host all all all trust\n").expect("the folder was made");
        let mut postgres = pod.command_as(uid, format!("{tools}/postgres"));
        for setting in ["listen_addresses=*", "fsync=off", "shared_buffers=16MB"] {
            postgres.args(["-c", setting]);
        }
        postgres.arg("-k").arg(data.path()).arg("-D").arg(&folder);
        PostgreSql {
            _process: Process::start("postgres", &mut postgres),
            _data: data,
        }
    }
}

/// PostgreSQL does not run as root.
fn postgres_uid() -> u32 {
    let output = Command::new("id").args(["-u", "postgres"]).output().expect("id starts");
    let text = String::from_utf8_lossy(&output.stdout);
    text.trim()
        .parse()
        .expect("the user postgres is there (Debian package postgresql)")
}

fn postgres_tools() -> &'static str {
    static FOUND: OnceLock<String> = OnceLock::new();
    FOUND.get_or_init(|| {
        let output = Command::new("sh")
            .args(["-c", "ls -d /usr/lib/postgresql/*/bin | tail -1"])
            .output()
            .expect("sh starts");
        String::from_utf8_lossy(&output.stdout).trim().to_owned()
    })
}
