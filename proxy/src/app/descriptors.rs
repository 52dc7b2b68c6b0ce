//! How many files and connections this process may have open: as many as it is allowed to. What it is given at its start
//! (the soft limit) is often 1024, for the sake of programs that use `select`; this is none.

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

/// Raises the soft limit to the hard one.
pub(super) fn raise_limit() {
    let Rlimit { current, maximum } = getrlimit(Resource::Nofile);
    // `None`: no limit.
    let raised = Rlimit {
        current: maximum,
        maximum,
    };
    let text = |limit: Option<u64>| limit.map_or_else(|| "unlimited".to_owned(), |limit| limit.to_string());
    match setrlimit(Resource::Nofile, raised) {
        Ok(()) => tracing::info!(
            limit = text(maximum),
            before = text(current),
            "open files and connections"
        ),
        Err(error) => {
            tracing::warn!(%error, limit = text(current), "the limit of open files and connections cannot be raised");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn afterwards_there_is_nothing_left_to_raise() {
        let before = getrlimit(Resource::Nofile).maximum;
        raise_limit();
        let after = getrlimit(Resource::Nofile);
        assert_eq!((after.current, after.maximum), (before, before));
    }
}
