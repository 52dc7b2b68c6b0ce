//! Programs of others that a test works with. One that is missing is said so, loudly, or fails the test where nothing may be
//! skipped.

use std::process::Command;

/// Whether this machine has them: for each a Debian package, and a command that succeeds where it is installed.
pub fn require_tools(tools: &[(&str, &[&str])]) -> bool {
    let missing = |(_, command): &&(&str, &[&str])| {
        let Some((program, arguments)) = command.split_first() else {
            return false;
        };
        let output = Command::new(program).args(arguments).output();
        !output.is_ok_and(|output| output.status.success())
    };
    let missing: Vec<&str> = tools.iter().filter(missing).map(|(package, _)| *package).collect();
    if missing.is_empty() {
        return true;
    }
    let said = format!("the Debian packages {} are missing", missing.join(", "));
    assert!(std::env::var_os("TSUNAGI_TESTS_REQUIRE_TOOLS").is_none(), "{said}");
    eprintln!("NOT RUN: {said}");
    false
}
