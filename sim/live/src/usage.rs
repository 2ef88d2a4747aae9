//! Use of processor and memory by this process, from `/proc`.

use std::time::Duration;

/// Processor time so far, user and system; zero if `/proc` cannot be read.
pub fn harness_cpu() -> Duration {
    let stat = procfs::process::Process::myself().and_then(|process| process.stat());
    let ticks = stat.map_or(0, |stat| stat.utime + stat.stime);
    Duration::from_micros(ticks * 1_000_000 / procfs::ticks_per_second())
}

/// The largest resident set so far, in bytes (`VmHWM`); zero if `/proc` cannot be read.
pub fn resident_max() -> u64 {
    let status = procfs::process::Process::myself().and_then(|process| process.status());
    status.ok().and_then(|status| status.vmhwm).map_or(0, |kib| kib * 1024)
}
