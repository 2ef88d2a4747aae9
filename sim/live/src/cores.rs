//! The cores that the servers share, and how long they were busy. Both have to be of the same extent:
//! `/proc/stat` is the host's also in a container, while a container may have fewer cores.

use std::path::{Path, PathBuf};
use std::time::Duration;

use alertstorm_model::event::Capacity;

/// Where the control groups are mounted.
const GROUPS: &str = "/sys/fs/cgroup";
/// The mount of version 2 beside version 1.
const UNIFIED: &str = "/sys/fs/cgroup/unified";

/// Reads a file; `None` if that fails.
type Read<'a> = &'a dyn Fn(&Path) -> Option<String>;

fn read(path: &Path) -> Option<String> {
    std::fs::read_to_string(path).ok()
}

/// Cores, and the counter of their busy time.
#[derive(Clone, Debug, PartialEq)]
pub struct Cores {
    count: f64,
    busy: Counter,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Counter {
    /// These CPUs of `/proc/stat`; all of them if there are none.
    Host(Vec<usize>),
    /// `usage_usec` in a `cpu.stat` of control groups version 2.
    GroupV2(PathBuf),
    /// A `cpuacct.usage` of version 1, in ns.
    GroupV1(PathBuf),
}

impl Cores {
    /// Those of the whole machine, for servers that are not within this process's control group.
    pub fn of_the_machine() -> Self {
        Self::host(&read, Vec::new())
    }

    /// Those that this process and its children may use: of the control group whose quota limits them
    /// most, or of the machine's CPUs that they may run on.
    pub fn of_this_process() -> Self {
        Self::allowed(&read)
    }

    fn host(read: Read<'_>, cpus: Vec<usize>) -> Self {
        let stat = read(Path::new("/proc/stat")).unwrap_or_default();
        let count = of_cpus(&stat, &cpus).count().max(1) as f64;
        Self { count, busy: Counter::Host(cpus) }
    }

    fn allowed(read: Read<'_>) -> Self {
        let status = read(Path::new("/proc/self/status")).unwrap_or_default();
        let list = status.lines().find_map(|line| line.strip_prefix("Cpus_allowed_list:"));
        let host = Self::host(read, list.map(numbers).unwrap_or_default());
        match limited(read) {
            // Without CPU time of its own the group cannot be measured.
            Some(group) if group.count < host.count && group.busy_from(read).is_some() => group,
            _ => host,
        }
    }

    /// Their number, a fraction where a quota is one.
    pub fn count(&self) -> f64 {
        self.count
    }

    /// Their number as a capacity.
    pub fn capacity(&self) -> Capacity {
        Capacity::of(self.count)
    }

    /// Time that they were busy so far, summed over cores; waiting for disks does not count. Of the
    /// machine's, time that its hypervisor gave to others counts, and other processes' too. `None` if the
    /// counter cannot be read.
    pub fn busy(&self) -> Option<Duration> {
        self.busy_from(&read)
    }

    fn busy_from(&self, read: Read<'_>) -> Option<Duration> {
        match &self.busy {
            Counter::Host(cpus) => {
                let stat = read(Path::new("/proc/stat"))?;
                let ticks = of_cpus(&stat, cpus).map(busy_ticks).sum::<Option<u64>>()?;
                Some(Duration::from_micros(ticks * 1_000_000 / procfs::ticks_per_second()))
            }
            Counter::GroupV2(path) => {
                let stat = read(path)?;
                let micros = stat.lines().find_map(|line| line.strip_prefix("usage_usec "))?;
                micros.trim().parse().ok().map(Duration::from_micros)
            }
            Counter::GroupV1(path) => read(path)?.trim().parse().ok().map(Duration::from_nanos),
        }
    }
}

/// The lines of `/proc/stat` of these CPUs, or of all.
fn of_cpus<'a>(stat: &'a str, cpus: &'a [usize]) -> impl Iterator<Item = &'a str> {
    stat.lines().filter_map(|line| {
        let (number, times) = line.strip_prefix("cpu")?.split_once(' ')?;
        let number: usize = number.parse().ok()?;
        (cpus.is_empty() || cpus.contains(&number)).then_some(times)
    })
}

/// `user nice system idle iowait irq softirq steal guest guest_nice`: all that is not idle. The time of
/// guests is part of `user` and `nice`.
fn busy_ticks(times: &str) -> Option<u64> {
    let ticks: Vec<u64> =
        times.split_ascii_whitespace().map(str::parse).collect::<Result<_, _>>().ok()?;
    let of = |number: usize| ticks.get(number).copied().unwrap_or(0);
    Some([0, 1, 2, 5, 6, 7].into_iter().map(of).sum())
}

/// The numbers in a list like `0-2,5`.
fn numbers(list: &str) -> Vec<usize> {
    let range = |part: &str| {
        let (first, last) = part.trim().split_once('-').unwrap_or((part.trim(), part.trim()));
        Some(first.parse().ok()?..=last.parse().ok()?)
    };
    list.split(',').filter_map(range).flatten().collect()
}

/// The control group of this process, or one above it, whose quota is the smallest.
fn limited(read: Read<'_>) -> Option<Cores> {
    let groups = read(Path::new("/proc/self/cgroup"))?;
    // Each line is `ID:CONTROLLERS:PATH`; that of version 2 has no controllers.
    let lines = groups.lines().filter_map(|line| {
        let (_, rest) = line.split_once(':')?;
        rest.split_once(':')
    });
    let all = lines.flat_map(|(controllers, path)| {
        let is_cpu = controllers.split(',').any(|name| name == "cpu");
        let mounts = match controllers {
            "" => vec![PathBuf::from(GROUPS), PathBuf::from(UNIFIED)],
            _ if is_cpu => vec![Path::new(GROUPS).join(controllers), Path::new(GROUPS).join("cpu")],
            _ => Vec::new(),
        };
        mounts.into_iter().flat_map(move |mount| of_path(read, &mount, path, is_cpu))
    });
    all.min_by(|a, b| a.count.total_cmp(&b.count))
}

/// The quotas of a group and of those above it, up to the mount. A container's own group may be mounted
/// there while `/proc` names it by its path on the host: then only the mount itself exists.
fn of_path(read: Read<'_>, mount: &Path, path: &str, is_v1: bool) -> Vec<Cores> {
    let below = Path::new(path.trim_start_matches('/'));
    let folders = below.ancestors().map(|part| mount.join(part));
    let limit = |folder: PathBuf| {
        let number = |name: &str| read(&folder.join(name))?.trim().parse::<f64>().ok();
        let (quota, period) = match is_v1 {
            // A quota of -1 is none.
            true => (number("cpu.cfs_quota_us")?, number("cpu.cfs_period_us")?),
            false => {
                let max = read(&folder.join("cpu.max"))?;
                let (quota, period) = max.trim().split_once(' ')?;
                (quota.parse().ok()?, period.parse().ok()?)
            }
        };
        let busy = match is_v1 {
            true => Counter::GroupV1(accounts(read, mount, &folder)),
            false => Counter::GroupV2(folder.join("cpu.stat")),
        };
        (quota > 0.0 && period > 0.0).then(|| Cores { count: quota / period, busy })
    };
    folders.filter_map(limit).collect()
}

/// The accounting file of a group of version 1, whose controller may be mounted elsewhere.
fn accounts(read: Read<'_>, mount: &Path, folder: &Path) -> PathBuf {
    let beside = folder.join("cpuacct.usage");
    let below = folder.strip_prefix(mount).unwrap_or(Path::new(""));
    match read(&beside) {
        Some(_) => beside,
        None => Path::new(GROUPS).join("cpuacct").join(below).join("cpuacct.usage"),
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;

    /// Four CPUs; per CPU 100 ticks of work, 900 idle, 50 stolen.
    const STAT: &str = "cpu  280 40 80 3600 0 0 0 200 0 0\ncpu0 70 10 20 900 0 0 0 50 0 0\ncpu1 70 10 20 900 0 0 0 50 0 0\n\
                        cpu2 70 10 20 900 0 0 0 50 0 0\ncpu3 70 10 20 900 0 0 0 50 0 0\nintr 1\n";

    /// The cores of a machine with these files besides `STAT`; their number, and busy seconds.
    fn of(files: &[(&str, &str)]) -> (f64, f64) {
        let files: BTreeMap<&Path, &str> = files
            .iter()
            .chain(&[("/proc/stat", STAT)])
            .map(|(path, text)| (Path::new(*path), *text))
            .collect();
        let read = |path: &Path| files.get(path).map(|text| (*text).to_owned());
        let cores = Cores::allowed(&read);
        let busy = cores.busy_from(&read).expect("a counter");
        (cores.count(), busy.as_secs_f64() * procfs::ticks_per_second() as f64)
    }

    #[test]
    fn without_limits_they_are_the_machines_and_stolen_time_is_busy() {
        assert_eq!(of(&[]), (4.0, 600.0));
        let unlimited = [
            ("/proc/self/cgroup", "0::/a.slice\n"),
            ("/sys/fs/cgroup/a.slice/cpu.max", "max 100000\n"),
        ];
        assert_eq!(of(&unlimited), (4.0, 600.0));
        let ample =
            [("/proc/self/cgroup", "0::/\n"), ("/sys/fs/cgroup/cpu.max", "800000 100000\n")];
        assert_eq!(of(&ample), (4.0, 600.0));
    }

    #[test]
    fn a_process_that_may_run_on_some_cpus_has_only_their_busy_time() {
        let status = "Name:\ta\nCpus_allowed_list:\t0-1,3\n";
        assert_eq!(of(&[("/proc/self/status", status)]), (3.0, 450.0));
    }

    /// In seconds, from what [`of`] returns in ticks.
    fn seconds((count, ticks): (f64, f64)) -> (f64, f64) {
        (count, ticks / procfs::ticks_per_second() as f64)
    }

    #[test]
    fn a_quota_of_version_2_is_measured_in_the_group_that_has_it() {
        let files = [
            ("/proc/self/cgroup", "0::/pod/container\n"),
            ("/sys/fs/cgroup/pod/container/cpu.max", "300000 100000\n"),
            ("/sys/fs/cgroup/pod/container/cpu.stat", "usage_usec 1000000\nuser_usec 1\n"),
            ("/sys/fs/cgroup/pod/cpu.max", "150000 100000\n"),
            ("/sys/fs/cgroup/pod/cpu.stat", "usage_usec 7500000\nuser_usec 1\n"),
        ];
        assert_eq!(seconds(of(&files)), (1.5, 7.5));
    }

    #[test]
    fn a_quota_of_version_1_is_found_also_where_proc_names_the_path_on_the_host() {
        let container = [
            ("/proc/self/cgroup", "5:memory:/docker/0a\n4:cpu,cpuacct:/docker/0a\n0::/\n"),
            ("/sys/fs/cgroup/cpu,cpuacct/cpu.cfs_quota_us", "50000\n"),
            ("/sys/fs/cgroup/cpu,cpuacct/cpu.cfs_period_us", "100000\n"),
            ("/sys/fs/cgroup/cpu,cpuacct/cpuacct.usage", "2500000000\n"),
        ];
        assert_eq!(seconds(of(&container)), (0.5, 2.5));
        let apart = [
            ("/proc/self/cgroup", "2:cpuacct:/b\n1:cpu:/b\n"),
            ("/sys/fs/cgroup/cpu/b/cpu.cfs_quota_us", "200000\n"),
            ("/sys/fs/cgroup/cpu/b/cpu.cfs_period_us", "100000\n"),
            ("/sys/fs/cgroup/cpuacct/b/cpuacct.usage", "3000000000\n"),
        ];
        assert_eq!(seconds(of(&apart)), (2.0, 3.0));
        let none = [
            ("/proc/self/cgroup", "1:cpu:/\n"),
            ("/sys/fs/cgroup/cpu/cpu.cfs_quota_us", "-1\n"),
            ("/sys/fs/cgroup/cpu/cpu.cfs_period_us", "100000\n"),
        ];
        assert_eq!(of(&none), (4.0, 600.0));
    }

    #[test]
    fn a_group_whose_time_cannot_be_read_is_not_mixed_with_the_machines_count() {
        let files =
            [("/proc/self/cgroup", "0::/\n"), ("/sys/fs/cgroup/cpu.max", "100000 100000\n")];
        assert_eq!(of(&files), (4.0, 600.0));
    }
}
