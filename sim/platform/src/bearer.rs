//! Bearer tokens and their renewal. A ServiceAccount token is renewed as a kubelet does it
//! (pkg/kubelet/token/token_manager.go v1.36.3): when 80 % of its life is over, or after a day, up to
//! 10 s earlier at random. A token from a file is read again every minute, as client-go does it
//! (`cachingTokenSource` in transport/token_source.go). Connections stay open: a request has the token
//! that is current when it is sent.

use std::fmt::Display;
use std::future::Future;
use std::path::Path;
use std::sync::{Arc, PoisonError, RwLock};
use std::time::{Duration, SystemTime};

use http::HeaderValue;
use tokio::time::sleep;

/// `maxTTL`: an older token is renewed, however long it is valid.
const AGE_MAX: Duration = Duration::from_secs(86_400);
/// `maxJitter`.
const JITTER_MAX: Duration = Duration::from_secs(10);
/// The pause after a renewal that failed. The current token is used for as long as it is valid.
const RETRY_AFTER: Duration = Duration::from_secs(10);
/// The period of reading a token's file.
pub const READ_EVERY: Duration = Duration::from_secs(60);

/// A token has characters that are not allowed in an HTTP header.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("a bearer token has characters that are not allowed in an HTTP header")]
pub struct InvalidToken;

/// The `Authorization` header of an identity; clones share it, and see its renewal.
#[derive(Clone)]
pub struct Bearer(Arc<RwLock<HeaderValue>>);

impl std::fmt::Debug for Bearer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("a bearer token")
    }
}

fn header(token: &str) -> Result<HeaderValue, InvalidToken> {
    let bearer = HeaderValue::from_str(&format!("Bearer {token}"));
    let mut bearer = bearer.map_err(|_| InvalidToken)?;
    bearer.set_sensitive(true);
    Ok(bearer)
}

impl Bearer {
    /// The header with a token.
    ///
    /// # Errors
    /// [`InvalidToken`].
    pub fn new(token: &str) -> Result<Self, InvalidToken> {
        Ok(Self(Arc::new(RwLock::new(header(token)?))))
    }

    /// Sends another token from now on.
    ///
    /// # Errors
    /// [`InvalidToken`].
    pub fn replace(&self, token: &str) -> Result<(), InvalidToken> {
        *self.0.write().unwrap_or_else(PoisonError::into_inner) = header(token)?;
        Ok(())
    }

    /// The current header.
    pub fn header(&self) -> HeaderValue {
        self.0.read().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

/// How long a token is valid, from the response to its TokenRequest.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Validity {
    /// `status.expirationTimestamp`.
    pub expires: SystemTime,
    /// `spec.expirationSeconds`: what the API server granted, which may be less than what was
    /// requested.
    pub life: Duration,
}

impl Validity {
    /// How long after `now` the token is renewed; `jitter` is from 0 to 1. If this machine's clock
    /// contradicts the API server's, the token counts as issued now.
    pub fn renew_after(self, now: SystemTime, jitter: f64) -> Duration {
        let left = self.expires.duration_since(now).unwrap_or(Duration::ZERO);
        let left = if left.is_zero() || left > self.life { self.life } else { left };
        let age = self.life - left;
        let due = (self.life * 4 / 5).min(AGE_MAX);
        due.saturating_sub(age).saturating_sub(JITTER_MAX.mul_f64(jitter.clamp(0.0, 1.0)))
    }
}

/// A random number from 0 to 1, different for each token.
fn jitter(now: SystemTime) -> f64 {
    let since = now.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    f64::from(since.subsec_micros() % 10_000) / 10_000.0
}

/// Renews a token until it is aborted. `renew` requests one and puts it in force; `failed` receives its
/// errors, after which it is tried again. `now` is this machine's clock.
pub async fn keep_renewed<F, E>(
    mut current: Validity,
    renew: impl Fn() -> F,
    failed: impl Fn(&E),
    now: impl Fn() -> SystemTime,
) where
    F: Future<Output = Result<Validity, E>>,
    E: Display,
{
    loop {
        let at = now();
        // Also if every token is issued with a life of some seconds.
        sleep(current.renew_after(at, jitter(at)).max(Duration::from_secs(1))).await;
        current = loop {
            match renew().await {
                Ok(next) => break next,
                Err(error) => failed(&error),
            }
            sleep(RETRY_AFTER).await;
        };
        tracing::info!(life = ?current.life, "a ServiceAccount token was renewed");
    }
}

/// Reads a token from its file until it is aborted, as the kubelet renews it there. `failed` receives
/// errors; the current token is used until the file can be read again.
pub async fn follow_file(path: &Path, bearer: &Bearer, failed: impl Fn(&str)) {
    loop {
        sleep(READ_EVERY).await;
        match std::fs::read_to_string(path) {
            Ok(text) if text.trim().is_empty() => failed("the file is empty"),
            Ok(text) => {
                if let Err(error) = bearer.replace(text.trim()) {
                    failed(&error.to_string());
                }
            }
            Err(error) => failed(&error.to_string()),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Mutex;

    use tokio::time::Instant;

    use super::*;

    const TEN_MINUTES: Duration = Duration::from_secs(600);

    fn at(seconds: u64) -> SystemTime {
        SystemTime::UNIX_EPOCH + Duration::from_secs(1_000_000 + seconds)
    }

    #[test]
    fn a_token_is_renewed_at_four_fifths_of_its_life_or_after_a_day() {
        let token = Validity { expires: at(600), life: TEN_MINUTES };
        assert_eq!(token.renew_after(at(0), 0.0), Duration::from_secs(480));
        assert_eq!(token.renew_after(at(0), 1.0), Duration::from_secs(470));
        assert_eq!(token.renew_after(at(400), 0.5), Duration::from_secs(75));
        assert_eq!(token.renew_after(at(500), 0.0), Duration::ZERO);
        let year = Duration::from_secs(365 * 86_400);
        let long = Validity { expires: at(0) + year, life: year };
        assert_eq!(long.renew_after(at(0), 0.0), AGE_MAX);
        // The server grants less than what was requested, and its clock is an hour ahead or behind.
        for skewed in [at(4_200), SystemTime::UNIX_EPOCH] {
            let token = Validity { expires: skewed, life: TEN_MINUTES };
            assert_eq!(token.renew_after(at(0), 0.0), Duration::from_secs(480));
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_short_lived_token_is_renewed_before_it_expires_also_after_failures() {
        let began = Instant::now();
        let now = || at(began.elapsed().as_secs());
        let bearer = Bearer::new("token-0").unwrap();
        let asked: Mutex<Vec<u64>> = Mutex::default();
        let failures: Mutex<Vec<String>> = Mutex::default();
        let renew = || async {
            let second = began.elapsed().as_secs();
            let number = {
                let mut asked = asked.lock().unwrap();
                asked.push(second);
                asked.len()
            };
            // The API server is down for a while.
            if (2..4).contains(&number) {
                return Err("connection refused".to_owned());
            }
            bearer.replace(&format!("token-{number}")).unwrap();
            Ok(Validity { expires: at(second + 600), life: TEN_MINUTES })
        };
        let failed = |error: &String| failures.lock().unwrap().push(error.clone());
        let first = Validity { expires: at(600), life: TEN_MINUTES };
        let renewing = keep_renewed(first, renew, failed, now);
        assert!(tokio::time::timeout(Duration::from_secs(1_100), renewing).await.is_err());
        let asked = asked.into_inner().unwrap();
        assert_eq!(asked.len(), 4, "{asked:?}");
        assert!((470..=480).contains(&asked[0]), "{asked:?}");
        assert!((940..=961).contains(&asked[1]), "{asked:?}");
        assert_eq!([asked[2] - asked[1], asked[3] - asked[2]], [10, 10]);
        assert_eq!(failures.into_inner().unwrap(), ["connection refused"; 2]);
        assert_eq!(bearer.header(), "Bearer token-4");
    }

    #[tokio::test(start_paused = true)]
    async fn a_token_that_its_file_no_longer_has_is_replaced_and_an_empty_file_is_not_taken() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("kubernetes");
        std::fs::write(&path, "token-1\n").unwrap();
        let bearer = Bearer::new("token-0").unwrap();
        let failures: Mutex<Vec<String>> = Mutex::default();
        let failed = |error: &str| failures.lock().unwrap().push(error.to_owned());
        let reading = follow_file(&path, &bearer, failed);
        assert!(tokio::time::timeout(READ_EVERY * 3 / 2, reading).await.is_err());
        assert_eq!(bearer.header(), "Bearer token-1");
        std::fs::write(&path, "").unwrap();
        let reading = follow_file(&path, &bearer, failed);
        assert!(tokio::time::timeout(READ_EVERY * 3 / 2, reading).await.is_err());
        assert_eq!(bearer.header(), "Bearer token-1");
        assert_eq!(failures.into_inner().unwrap(), ["the file is empty"]);
    }

    #[test]
    fn debug_output_contains_no_token() {
        let bearer = Bearer::new("a-secret-of-the-test").unwrap();
        assert!(!format!("{bearer:?}").contains("a-secret-of-the-test"));
        assert!(!format!("{:?}", bearer.header()).contains("a-secret-of-the-test"));
    }
}
