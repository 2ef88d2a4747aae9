//! Use of processor and memory by this process and by the whole machine, from `/proc`.

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

/// Time that the machine's cores were not idle, summed over cores, since it was started; time that its
/// hypervisor gave to others counts, waiting for disks does not. `None` if `/proc` cannot be read.
pub fn machine_cpu() -> Option<Duration> {
    use procfs::CurrentSI as _;
    let cpu = procfs::KernelStats::current().ok()?.total;
    // Guests' time is part of `user` and `nice`.
    let ticks = cpu.user
        + cpu.nice
        + cpu.system
        + cpu.irq.unwrap_or(0)
        + cpu.softirq.unwrap_or(0)
        + cpu.steal.unwrap_or(0);
    Some(Duration::from_micros(ticks * 1_000_000 / procfs::ticks_per_second()))
}
