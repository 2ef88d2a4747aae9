//! `alertstorm setup local`: builds the servers from pinned Go modules as static binaries. Existing
//! binaries are not built again, so an interrupted setup can be continued.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use super::assets::{CONTROL_PLANE, Module, VAULT, cache_folder, is_program, servers_folder};
use crate::provider::Program;

/// The version that the servers report: that of `k8s.io/kubernetes` in the manifest.
pub const KUBERNETES: &str = "v1.36.3";

/// The servers to build, each with its Go package and module.
const BUILDS: [(Program, &str, &Module); 5] = [
    (Program::Etcd, "go.etcd.io/etcd/server/v3", &CONTROL_PLANE),
    (Program::ApiServer, "k8s.io/kubernetes/cmd/kube-apiserver", &CONTROL_PLANE),
    (Program::ControllerManager, "k8s.io/kubernetes/cmd/kube-controller-manager", &CONTROL_PLANE),
    (Program::Scheduler, "k8s.io/kubernetes/cmd/kube-scheduler", &CONTROL_PLANE),
    (Program::Vault, "github.com/hashicorp/vault", &VAULT),
];

/// Why a server could not be built.
#[derive(Debug, thiserror::Error)]
pub enum SetupError {
    /// Neither `HOME` nor `XDG_CACHE_HOME` is an absolute path.
    #[error("there is no folder for the cache; set XDG_CACHE_HOME to an absolute path")]
    NoCache,
    /// `go env GOVERSION` fails: the version needed.
    #[error("could not run `go`; install Go {0} or later, with which the servers are built")]
    NoGo(String),
    /// The Go compiler is too old.
    #[error("`go` is {found}, and the servers need {needed} or later; install it")]
    OldGo {
        /// The version found.
        found: String,
        /// The version needed.
        needed: String,
    },
    /// The compiler failed.
    #[error("could not build {program}:\n{output}")]
    Build {
        /// Name of the server.
        program: &'static str,
        /// The last 20 lines of the compiler's output.
        output: String,
    },
    /// A file could not be written.
    #[error("could not write {path}")]
    Write {
        /// Its path.
        path: PathBuf,
        /// The error of the operating system.
        source: io::Error,
    },
}

/// A step of a setup.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Step {
    /// The server that is built.
    pub program: Program,
    /// Whether it was built before.
    pub ready: bool,
    /// Its number, from 1.
    pub number: usize,
    /// Number of steps.
    pub of: usize,
}

/// Builds the servers that are missing; their folder. `watch` is called before each step.
///
/// # Errors
/// If Go is missing or too old, a build fails, or the cache cannot be written.
pub fn build(watch: &mut dyn FnMut(Step)) -> Result<PathBuf, SetupError> {
    let out = servers_folder().ok_or(SetupError::NoCache)?;
    let modules = cache_folder().ok_or(SetupError::NoCache)?.join("modules");
    make_folder(&out)?;
    for (number, (program, package, module)) in (1..).zip(BUILDS) {
        let target = out.join(program.file());
        let ready = is_program(&target);
        watch(Step { program, ready, number, of: BUILDS.len() });
        if ready {
            continue;
        }
        check_compiler()?;
        let folder = modules.join(module.folder);
        make_folder(&folder)?;
        write(&folder.join("go.mod"), module.manifest)?;
        write(&folder.join("go.sum"), module.checksums)?;
        // Renamed when complete, so that an interrupted build leaves no partial binary.
        let partial = target.with_extension("partial");
        compile(program, package, &folder, &partial)?;
        fs::rename(&partial, &target)
            .map_err(|source| SetupError::Write { path: target, source })?;
    }
    Ok(out)
}

fn make_folder(path: &Path) -> Result<(), SetupError> {
    fs::create_dir_all(path).map_err(|source| SetupError::Write { path: path.to_owned(), source })
}

fn write(path: &Path, text: &str) -> Result<(), SetupError> {
    fs::write(path, text).map_err(|source| SetupError::Write { path: path.to_owned(), source })
}

/// The version of Go in the modules' `go` line.
fn needed() -> &'static str {
    let line = CONTROL_PLANE.manifest.lines().find_map(|line| line.strip_prefix("go "));
    line.unwrap_or("1.26.0")
}

fn check_compiler() -> Result<(), SetupError> {
    let asked = Command::new("go").args(["env", "GOVERSION"]).output();
    let found = match asked {
        Ok(output) if output.status.success() => {
            String::from_utf8_lossy(&output.stdout).trim().to_owned()
        }
        _ => return Err(SetupError::NoGo(needed().to_owned())),
    };
    let parts = |version: &str| -> Vec<u32> {
        version.trim_start_matches("go").split('.').map_while(|part| part.parse().ok()).collect()
    };
    if parts(&found) < parts(needed()) {
        return Err(SetupError::OldGo { found, needed: needed().to_owned() });
    }
    Ok(())
}

fn compile(program: Program, package: &str, folder: &Path, out: &Path) -> Result<(), SetupError> {
    let version = "k8s.io/component-base/version";
    let flags = format!(
        "-s -w -X {version}.gitVersion={KUBERNETES} -X {version}.gitMajor=1 -X {version}.gitMinor=36"
    );
    let build = Command::new("go")
        .args(["build", "-trimpath", "-mod=readonly", "-buildvcs=false", "-ldflags", &flags, "-o"])
        .arg(out)
        .arg(package)
        .current_dir(folder)
        .env("CGO_ENABLED", "0")
        .env("GOFLAGS", "")
        .env("GOWORK", "off")
        .stdin(Stdio::null())
        .output();
    let failed = |output: String| SetupError::Build { program: program.file(), output };
    let output = build.map_err(|error| failed(error.to_string()))?;
    if output.status.success() {
        return Ok(());
    }
    let printed = String::from_utf8_lossy(&output.stderr);
    let lines: Vec<&str> = printed.lines().collect();
    Err(failed(lines[lines.len().saturating_sub(20)..].join("\n")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_reported_version_of_the_servers_is_the_pinned_one() {
        let pin = format!("k8s.io/kubernetes {KUBERNETES}");
        assert!(CONTROL_PLANE.manifest.contains(&pin));
        assert!(VAULT.manifest.contains("github.com/hashicorp/vault v1.21.1"));
    }

    #[test]
    fn every_built_package_is_a_tool_of_its_module() {
        for (_, package, module) in BUILDS {
            assert!(module.manifest.contains(package), "{package}");
        }
    }
}
