//! What this process uses.

use std::time::Duration;

/// Processor time of this process so far.
pub fn harness_cpu() -> Duration {
    let stat = procfs::process::Process::myself().and_then(|process| process.stat());
    let ticks = stat.map_or(0, |stat| stat.utime + stat.stime);
    Duration::from_micros(ticks * 1_000_000 / procfs::ticks_per_second())
}

/// Most memory that this process has held, in bytes.
pub fn resident_max() -> u64 {
    let status = procfs::process::Process::myself().and_then(|process| process.status());
    status.ok().and_then(|status| status.vmhwm).map_or(0, |kib| kib * 1024)
}
