//! Calls to the API server: which errors are transient, and how they are retried.

use std::future::Future;
use std::time::Duration;

use backon::{ExponentialBuilder, Retryable};
use kube::Error;

/// Whether a retry may succeed: no connection, 429, 500, 502, 503 or 504, or an error that the API server
/// did not write.
pub fn is_transient(error: &Error) -> bool {
    match error {
        // kube's client takes any JSON for a Status. Without a code it is of something before the API
        // server, such as a load balancer, and the response's own code is lost.
        Error::Api(status) => matches!(status.code, 0 | 429 | 500 | 502 | 503 | 504),
        Error::HyperError(_) | Error::Service(_) | Error::ReadEvents(_) | Error::FromUtf8(_) => {
            true
        }
        _ => false,
    }
}

/// The text of an error: status code and message if the API server answered.
pub fn describe(error: &Error) -> String {
    match error {
        Error::Api(status) if status.code == 0 => {
            format!("a response that is not the API server's: {}", status.message)
        }
        Error::Api(status) => format!("{} {}", status.code, status.message),
        other => other.to_string(),
    }
}

/// Whether the API server answered 409: the object exists.
pub fn is_conflict(error: &Error) -> bool {
    matches!(error, Error::Api(status) if status.code == 409)
}

/// Whether the API server answered 404: the object does not exist.
pub fn is_gone(error: &Error) -> bool {
    matches!(error, Error::Api(status) if status.code == 404)
}

/// The result of a deletion; 404 counts as success.
///
/// # Errors
/// Any other error.
pub fn deleted<T>(done: Result<T, Error>) -> Result<(), Error> {
    match done {
        Err(error) if !is_gone(&error) => Err(error),
        _ => Ok(()),
    }
}

/// Whether the API server answered 403: RBAC denies the request.
pub fn is_forbidden(error: &Error) -> bool {
    matches!(error, Error::Api(status) if status.code == 403)
}

/// Whether the API server refused the request: RBAC (403), or an admission policy (403 or 422).
pub fn is_refused(error: &Error) -> bool {
    matches!(error, Error::Api(status) if matches!(status.code, 403 | 422))
}

/// Retries a call while its error is transient, for at most `patience`. The pause doubles from 50
/// ms to 5 s with jitter, and is at least what the server requests (`retryAfterSeconds`). After a lost
/// connection 403 is transient, too: an API server that starts refuses everything until it has read its
/// RBAC objects.
///
/// # Errors
/// The last error.
pub async fn patiently<T, F: Future<Output = Result<T, Error>>>(
    patience: Duration,
    call: impl FnMut() -> F,
) -> Result<T, Error> {
    let pauses = ExponentialBuilder::default()
        .with_min_delay(Duration::from_millis(50))
        .with_max_delay(Duration::from_secs(5))
        .with_factor(2.0)
        .with_jitter()
        .without_max_times()
        .with_total_delay(Some(patience));
    let mut was_lost = false;
    let is_transient = move |error: &Error| {
        was_lost |= !matches!(error, Error::Api(_));
        is_transient(error) || (was_lost && is_forbidden(error))
    };
    call.retry(pauses)
        .sleep(tokio::time::sleep)
        .when(is_transient)
        .notify(|error, pause| {
            tracing::debug!(error = %describe(error), ?pause, "a request to the API server is tried again");
        })
        .adjust(|error, pause| {
            let pause = pause?;
            let Error::Api(status) = error else { return Some(pause) };
            let asked = status.details.as_ref().map_or(0, |details| details.retry_after_seconds);
            Some(pause.max(Duration::from_secs(u64::from(asked))))
        })
        .await
}

#[cfg(test)]
mod tests {
    use super::*;

    fn forbidden() -> Error {
        Error::Api(kube::core::Status::failure("no", "Forbidden").with_code(403).boxed())
    }

    #[tokio::test(start_paused = true)]
    async fn a_refusal_is_retried_only_after_a_lost_connection() {
        let answers = |lost: bool| {
            let mut calls = 0;
            move || {
                calls += 1;
                let done = match (calls, lost) {
                    (1, true) => Err(Error::Service("connection refused".into())),
                    (1, false) | (2, _) => Err(forbidden()),
                    _ => Ok(calls),
                };
                async move { done }
            }
        };
        let patience = Duration::from_secs(30);
        assert_eq!(patiently(patience, answers(true)).await.unwrap(), 3);
        assert!(is_forbidden(&patiently(patience, answers(false)).await.unwrap_err()));
    }
}
