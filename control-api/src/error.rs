//! How an error is told to people: one line, causes included. Called by every door and by `main`.

use std::error::Error;

/// The error and its causes, joined by `: `. A cause that the message before it already quotes is not repeated.
pub fn sentence(error: &dyn Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        let reason = error.to_string();
        if !text.contains(&reason) {
            text.push_str(": ");
            text.push_str(&reason);
        }
        cause = error.source();
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Debug, thiserror::Error)]
    enum Outer {
        #[error("cannot listen")]
        Plain(#[source] std::io::Error),
        #[error("cannot listen: {0}")]
        Quoted(#[source] std::io::Error),
    }

    #[test]
    fn a_cause_is_told_once() {
        let cause = || std::io::Error::other("address in use");
        let expected = "cannot listen: address in use";
        assert_eq!(sentence(&Outer::Plain(cause())), expected);
        assert_eq!(sentence(&Outer::Quoted(cause())), expected);
    }
}
