//! The body of a response, bounded in time.

use std::future::Future;
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll};

use hdrhistogram::Histogram;
use hyper::body::{Bytes, Frame, Incoming, SizeHint};
use tokio::sync::futures::OwnedNotified;
use tokio::time::{Instant, Sleep, sleep};
use tower::BoxError;

use super::outstanding::Ticket;

/// Why a request ended without a complete response.
#[derive(Debug, thiserror::Error)]
pub(super) enum Interrupted {
    #[error("the API server did not answer within {0:.0?}")]
    TimedOut(std::time::Duration),
    #[error("nothing arrived for {0:.0?}")]
    Idle(std::time::Duration),
    #[error("its connection was given up, as nothing arrived on it")]
    GivenUp,
}

/// How late the harness reads its watches, in nanoseconds: from the first part of a burst to each
/// part that is read without a pause after it.
#[derive(Clone)]
pub(super) struct ReadLag(Arc<Mutex<Histogram<u64>>>);

impl Default for ReadLag {
    fn default() -> Self {
        let histogram = Histogram::new(2).expect("two digits are allowed");
        Self(Arc::new(Mutex::new(histogram)))
    }
}

impl ReadLag {
    fn record(&self, lag: std::time::Duration) {
        let nanos = u64::try_from(lag.as_nanos()).unwrap_or(u64::MAX);
        // The histogram resizes itself, so any value can be recorded.
        let _ = self.0.lock().unwrap_or_else(PoisonError::into_inner).record(nanos);
    }

    pub fn histogram(&self) -> Histogram<u64> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

/// A response's body. Its request stays recorded until it is dropped.
pub(super) struct Bounded {
    body: Incoming,
    /// When it has to be complete; for a stream, when the next part has to arrive.
    until: Pin<Box<Sleep>>,
    closed: Pin<Box<OwnedNotified>>,
    ticket: Ticket,
    read_lag: ReadLag,
    /// When the first of the parts arrived that were read without a pause between them.
    burst: Option<Instant>,
}

impl Bounded {
    pub fn new(
        body: Incoming,
        sent: Instant,
        closed: Pin<Box<OwnedNotified>>,
        ticket: Ticket,
        read_lag: ReadLag,
    ) -> Self {
        ticket.answered();
        let until = match ticket.kind.idle() {
            Some(idle) => sleep(idle),
            None => tokio::time::sleep_until(sent + ticket.kind.limit()),
        };
        Self { body, until: Box::pin(until), closed, ticket, read_lag, burst: None }
    }

    /// A part of a stream arrived.
    fn streamed(&mut self, idle: std::time::Duration) {
        let now = Instant::now();
        let first = *self.burst.get_or_insert(now);
        self.read_lag.record(now - first);
        self.until.as_mut().reset(now + idle);
    }
}

impl hyper::body::Body for Bounded {
    type Data = Bytes;
    type Error = BoxError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
        let (idle, limit) = (self.ticket.kind.idle(), self.ticket.kind.limit());
        if let Poll::Ready(part) = Pin::new(&mut self.body).poll_frame(cx) {
            self.ticket.lane.progress();
            if let Some(idle) = idle {
                self.streamed(idle);
            }
            return Poll::Ready(part.map(|part| part.map_err(Into::into)));
        }
        self.burst = None;
        if self.closed.as_mut().poll(cx).is_ready() {
            return Poll::Ready(Some(Err(Interrupted::GivenUp.into())));
        }
        if self.until.as_mut().poll(cx).is_ready() {
            let why = idle.map_or(Interrupted::TimedOut(limit), Interrupted::Idle);
            return Poll::Ready(Some(Err(why.into())));
        }
        Poll::Pending
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}
