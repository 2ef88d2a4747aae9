//! The text of an error with its causes, where one message holds two errors.

use std::error::Error;

/// An error and its causes, separated by colons.
pub fn with_causes(error: &dyn Error) -> String {
    let mut text = error.to_string();
    let mut next = error.source();
    while let Some(cause) = next {
        text.push_str(&format!(": {cause}"));
        next = cause.source();
    }
    text
}

#[cfg(test)]
mod tests {
    use std::io;

    use crate::provider::local::LocalError;

    #[test]
    fn a_failed_cleanup_is_reported_after_the_error_of_the_start() {
        let failed = |what: &str, why: &str| {
            let (what, source) = (what.to_owned(), io::Error::other(why.to_owned()));
            Box::new(LocalError::Io { what, source })
        };
        let error = LocalError::AndCleanup {
            first: failed("start etcd", "no such file"),
            cleanup: failed("remove the folder", "permission denied"),
        };
        let text = error.to_string();
        assert!(text.starts_with("could not start etcd: no such file; "), "{text}");
        assert!(text.contains("could not remove the folder: permission denied"), "{text}");
    }
}
