//! A write-ahead log with group commit: writes that arrive during a sync are committed by the next.

use alertstorm_model::dist::Dist;
use alertstorm_model::seed::Stream;
use alertstorm_model::time::{Span, Time};

#[derive(Debug)]
pub(crate) struct Disk {
    fsync: Dist<Span>,
    stream: Stream,
    /// End of the current sync.
    busy_until: Time,
    /// End of the sync after it, if a write waits for it.
    next_until: Option<Time>,
    syncs: u64,
    /// Added to each sync by the fault `slow-fsync`.
    extra: Span,
}

impl Disk {
    pub fn new(fsync: Dist<Span>, stream: Stream) -> Self {
        Self {
            fsync,
            stream,
            busy_until: Time::ZERO,
            next_until: None,
            syncs: 0,
            extra: Span::ZERO,
        }
    }

    fn sync(&mut self, from: Time) -> Time {
        self.syncs += 1;
        from + self.fsync.draw(&mut self.stream) + self.extra
    }

    pub const fn syncs(&self) -> u64 {
        self.syncs
    }

    /// Adds `extra` to each sync from now on.
    pub const fn slow_down(&mut self, extra: Span) {
        self.extra = extra;
    }

    /// No sync ends before `until`.
    pub fn block(&mut self, until: Time) {
        self.busy_until = self.busy_until.max(until);
        self.next_until = None;
    }

    /// Commits a write that arrives at `now`; returns when it is durable.
    pub fn commit(&mut self, now: Time) -> Time {
        if let Some(next) = self.next_until
            && now >= self.busy_until
        {
            self.busy_until = next;
            self.next_until = None;
        }
        if now >= self.busy_until {
            self.busy_until = self.sync(now);
            self.next_until = None;
            return self.busy_until;
        }
        if let Some(next) = self.next_until {
            return next;
        }
        let next = self.sync(self.busy_until);
        *self.next_until.insert(next)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::streams;

    #[test]
    fn writes_that_arrive_during_a_sync_share_the_next_sync() {
        let fsync = Dist::constant(Span::millis(10));
        let mut disk = Disk::new(fsync, streams::etcd(1));
        let ms = |n| Time::ZERO + Span::millis(n);
        assert_eq!(disk.commit(ms(0)), ms(10));
        assert_eq!(disk.commit(ms(1)), ms(20));
        assert_eq!(disk.commit(ms(9)), ms(20));
        assert_eq!(disk.commit(ms(12)), ms(30), "the second sync has begun");
        assert_eq!(disk.commit(ms(40)), ms(50));
        assert_eq!(disk.syncs, 4);
    }
}
