//! Finds the programs of the servers: in the folders that environment variables name, on PATH, and
//! in the folder of `alertstorm setup local`.

use std::env;
use std::ffi::OsStr;
use std::path::{Path, PathBuf};

use crate::provider::Program;

/// A Go module that pins the versions of servers.
pub(super) struct Module {
    /// Name of its folder in the cache.
    pub folder: &'static str,
    /// Text of its go.mod.
    pub manifest: &'static str,
    /// Text of its go.sum.
    pub checksums: &'static str,
}

/// Kubernetes and etcd, as tools of a module.
pub(super) const CONTROL_PLANE: Module = Module {
    folder: "control-plane",
    manifest: include_str!("../../../../../kind-config/control-plane/go.mod"),
    checksums: include_str!("../../../../../kind-config/control-plane/go.sum"),
};
/// Vault. Its dependencies conflict with those of Kubernetes, so it has a module of its own.
pub(super) const VAULT: Module = Module {
    folder: "vault-server",
    manifest: include_str!("../../../../../kind-config/vault-server/go.mod"),
    checksums: include_str!("../../../../../kind-config/vault-server/go.sum"),
};

/// A program that was not found.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("could not find the program {}; to install it: {}", .0.file(), .0.got_by())]
pub struct Missing(pub Program);

/// The programs of the local platform.
#[derive(Clone, Debug)]
pub struct Assets {
    found: Vec<(Program, PathBuf)>,
}

impl Assets {
    /// Finds all programs.
    ///
    /// # Errors
    /// All programs that are missing.
    pub fn find() -> Result<Self, Vec<Missing>> {
        let looked = Program::ALL.map(|program| (program, find(program)));
        let missing: Vec<Missing> = looked
            .iter()
            .filter(|(_, path)| path.is_none())
            .map(|(program, _)| Missing(*program))
            .collect();
        if !missing.is_empty() {
            return Err(missing);
        }
        let found = looked.into_iter().filter_map(|(program, path)| Some((program, path?)));
        Ok(Self { found: found.collect() })
    }

    /// The path of a program.
    ///
    /// # Panics
    /// Never: [`Self::find`] has found all of them.
    pub fn path(&self, program: Program) -> &Path {
        let found = self.found.iter().find(|(found, _)| *found == program);
        &found.expect("all were found").1
    }
}

/// The path of one program. Searches `ALERTSTORM_ASSETS`, `KUBEBUILDER_ASSETS`, PATH, the cache,
/// and for PostgreSQL the folders of the distributions, newest version first.
pub fn find(program: Program) -> Option<PathBuf> {
    let named = ["ALERTSTORM_ASSETS", "KUBEBUILDER_ASSETS"].into_iter().filter_map(env::var_os);
    let mut folders: Vec<PathBuf> = named.map(PathBuf::from).collect();
    folders.extend(env::var_os("PATH").iter().flat_map(env::split_paths));
    folders.extend(servers_folder());
    if matches!(program, Program::Postgres | Program::Initdb) {
        folders.extend(distribution_folders());
    }
    folders.into_iter().map(|folder| folder.join(program.file())).find(|path| is_program(path))
}

/// Folders like `/usr/lib/postgresql/15/bin`, the newest first.
fn distribution_folders() -> Vec<PathBuf> {
    let mut versions: Vec<(u32, PathBuf)> = ["/usr/lib/postgresql", "/usr/pgsql"]
        .iter()
        .filter_map(|folder| std::fs::read_dir(folder).ok())
        .flatten()
        .filter_map(Result::ok)
        .filter_map(|entry| {
            let version = entry.file_name().to_str()?.parse().ok()?;
            Some((version, entry.path().join("bin")))
        })
        .collect();
    versions.sort_unstable_by_key(|(version, _)| std::cmp::Reverse(*version));
    versions.into_iter().map(|(_, folder)| folder).collect()
}

/// Whether the path is an executable file.
pub fn is_program(path: &Path) -> bool {
    path.is_file() && rustix::fs::access(path, rustix::fs::Access::EXEC_OK).is_ok()
}

/// The cache folder of Alertstorm: `$XDG_CACHE_HOME/alertstorm`, or `~/.cache/alertstorm`.
pub fn cache_folder() -> Option<PathBuf> {
    let absolute = |path: PathBuf| path.is_absolute().then_some(path);
    let home = || env::var_os("HOME").map(PathBuf::from).and_then(absolute);
    let base = env::var_os("XDG_CACHE_HOME").map(PathBuf::from).and_then(absolute);
    let base = base.or_else(|| Some(home()?.join(".cache")))?;
    Some(base.join(OsStr::new("alertstorm")))
}

/// The folder of the built servers. Its name has a digest of the pinned versions.
pub fn servers_folder() -> Option<PathBuf> {
    let pins: Vec<&str> =
        [&CONTROL_PLANE, &VAULT].iter().flat_map(|m| [m.manifest, m.checksums]).collect();
    let digest = alertstorm_model::digest::of_text(&pins.concat());
    Some(cache_folder()?.join("servers").join(&digest[..12]))
}
