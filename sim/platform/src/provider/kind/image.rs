//! Builds images with `docker import`, without a registry and without a builder. The agent's image
//! is one static program; the shards' image is this program and its shared libraries.

use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::process::Stdio;

use futures::future::LocalBoxFuture;
use tokio::io::AsyncWriteExt;
use tokio::process::Command;
use twox_hash::XxHash3_128;

use crate::provider::command::{CommandError, run};
use crate::provider::images;
use crate::provider::progress::Progress;

/// Why an image could not be built.
#[derive(Debug, thiserror::Error)]
pub enum ImageError {
    /// A program or a shared library cannot be read.
    #[error("could not read {}", path.display())]
    Read {
        /// Its path.
        path: PathBuf,
        /// The error of the operating system.
        source: std::io::Error,
    },
    /// The tar archive of the image could not be written, or not sent to `docker import`.
    #[error("could not write the layer of the image")]
    Layer(#[from] std::io::Error),
    /// `docker`, `rustc` or `ldd` failed.
    #[error(transparent)]
    Command(#[from] CommandError),
    /// The path of this program is not UTF-8.
    #[error("the path {} is not UTF-8", .0.display())]
    Path(PathBuf),
    /// The current folder does not contain Alertstorm's sources.
    #[error(
        "could not find Alertstorm's sources in this folder; run this in theirs, or name a static \
         program with --binary"
    )]
    NoSources,
    /// The output of `rustc -vV` has no `host:` line.
    #[error("could not read the host triple from the output of `rustc -vV`")]
    NoHost,
    /// cargo failed. Its output went to the terminal.
    #[error("could not build the agent; cargo printed the reason above")]
    Build,
    /// A program could not be started.
    #[error("could not start {program}; `alertstorm doctor` prints how to install it")]
    Start {
        /// Its name.
        program: &'static str,
        /// The error of the operating system.
        source: std::io::Error,
    },
    /// `docker import` failed: the image's name.
    #[error("`docker import` of the image {0} failed")]
    Import(String),
}

fn read(path: &Path) -> Result<Vec<u8>, ImageError> {
    std::fs::read(path).map_err(|source| ImageError::Read { path: path.to_owned(), source })
}

/// Name of the agent's package and program.
const PACKAGE: &str = "alertstorm-agent";
/// Label with the digest of an image's contents. An up-to-date image is not built again, so `kind
/// load` finds its id on the nodes.
const MADE_OF: &str = "dev.alertstorm.made-of";

/// Builds the agent's image from `binary`, or from the sources in the current folder; its name.
///
/// # Errors
/// If the program cannot be built or read, or Docker fails.
pub fn make<'a>(
    binary: Option<&'a Path>,
    progress: Progress<'a>,
) -> LocalBoxFuture<'a, Result<String, ImageError>> {
    Box::pin(of_agents(binary, progress))
}

async fn of_agents(binary: Option<&Path>, progress: Progress<'_>) -> Result<String, ImageError> {
    let binary = match binary {
        Some(binary) => binary.to_owned(),
        None => {
            progress("building the agent as a static program");
            build().await?
        }
    };
    progress("importing the agent's image");
    let program = read(&binary)?;
    let mut layer = tar::Builder::new(Vec::new());
    add(&mut layer, "agent", &program)?;
    import(&layer.into_inner()?, "/agent", images::AGENT).await?;
    Ok(images::AGENT.to_owned())
}

/// Builds the shards' image from `program`; its name. A run passes its own program, so the shards
/// have the same version.
///
/// # Errors
/// If the program or one of its libraries cannot be read, or Docker fails.
pub fn of_shards(program: &Path) -> LocalBoxFuture<'_, Result<String, ImageError>> {
    Box::pin(of_program(program))
}

async fn of_program(program: &Path) -> Result<String, ImageError> {
    let mut layer = tar::Builder::new(Vec::new());
    add(&mut layer, "alertstorm", &read(program)?)?;
    for library in libraries(program).await? {
        let inside = library.trim_start_matches('/');
        add(&mut layer, inside, &read(Path::new(&library))?)?;
    }
    import(&layer.into_inner()?, "/alertstorm", images::SHARD).await?;
    Ok(images::SHARD.to_owned())
}

fn add(layer: &mut tar::Builder<Vec<u8>>, path: &str, file: &[u8]) -> std::io::Result<()> {
    let mut header = tar::Header::new_gnu();
    header.set_mode(0o555);
    header.set_size(file.len() as u64);
    layer.append_data(&mut header, path, file)
}

/// Paths of the shared libraries of a program, with its loader; empty if it is static.
async fn libraries(program: &Path) -> Result<Vec<String>, ImageError> {
    let path = program.to_str().ok_or_else(|| ImageError::Path(program.to_owned()))?;
    let listed = match run("ldd", &[path]).await {
        Ok(listed) => listed,
        Err(error) if error.to_string().contains("not a dynamic executable") => String::new(),
        Err(error) => return Err(error.into()),
    };
    // `libc.so.6 => /lib/libc.so.6 (0x…)`, `/lib64/ld-linux-x86-64.so.2 (0x…)`.
    let of =
        |line: &str| line.split_whitespace().find(|word| word.starts_with('/')).map(str::to_owned);
    Ok(listed.lines().filter_map(of).collect())
}

async fn build() -> Result<PathBuf, ImageError> {
    if !Path::new("sim/agent/Cargo.toml").is_file() {
        return Err(ImageError::NoSources);
    }
    let about = run("rustc", &["-vV"]).await?;
    let host = about.lines().find_map(|line| line.strip_prefix("host: "));
    let host = host.ok_or(ImageError::NoHost)?;
    let args = ["build", "--release", "--locked", "--package", PACKAGE, "--target", host];
    let mut cargo = Command::new("cargo");
    // Static, since the image contains nothing else. With --target, RUSTFLAGS do not apply to build
    // scripts.
    cargo
        .args(args)
        .env("RUSTFLAGS", "-C target-feature=+crt-static -C strip=symbols")
        .stdin(Stdio::null());
    let built = cargo.status().await;
    let built = built.map_err(|source| ImageError::Start { program: "cargo", source })?;
    if !built.success() {
        return Err(ImageError::Build);
    }
    let target = std::env::var_os("CARGO_TARGET_DIR").unwrap_or_else(|| OsString::from("target"));
    Ok(Path::new(&target).join(host).join("release").join(PACKAGE))
}

/// An image's id and the digest of its contents; `None` if there is no such image.
async fn known(image: &str) -> Option<(String, String)> {
    let label = format!("{{{{with .Config.Labels}}}}{{{{index . \"{MADE_OF}\"}}}}{{{{end}}}}");
    let format = format!("{{{{.Id}}}} {label}");
    let found = run("docker", &["image", "inspect", "--format", &format, image]).await.ok()?;
    let (id, made_of) = found.split_once(' ').unwrap_or((&found, ""));
    Some((id.to_owned(), made_of.to_owned()))
}

async fn import(layer: &[u8], program: &str, image: &str) -> Result<(), ImageError> {
    let changes = [format!("ENTRYPOINT [\"{program}\"]"), "USER 65532:65532".to_owned()];
    let mut digest = XxHash3_128::new();
    digest.write(layer);
    digest.write(changes.concat().as_bytes());
    let made_of = format!("{:032x}", digest.finish_128());
    let before = known(image).await;
    if before.as_ref().is_some_and(|(_, of)| *of == made_of) {
        return Ok(());
    }
    let label = format!("LABEL {MADE_OF}={made_of}");
    let mut docker = Command::new("docker");
    docker.arg("import");
    for change in changes.iter().chain([&label]) {
        docker.args(["--change", change]);
    }
    docker.args(["-", image]).stdin(Stdio::piped()).stdout(Stdio::null()).kill_on_drop(true);
    let mut docker =
        docker.spawn().map_err(|source| ImageError::Start { program: "docker", source })?;
    let mut input = docker.stdin.take().ok_or_else(|| ImageError::Import(image.to_owned()))?;
    input.write_all(layer).await?;
    drop(input);
    if !docker.wait().await?.success() {
        return Err(ImageError::Import(image.to_owned()));
    }
    if let Some((id, _)) = before {
        // The replaced image has no name now. Docker keeps it if a container uses it.
        if let Err(error) = run("docker", &["image", "rm", &id]).await {
            tracing::debug!(%error, "could not remove the replaced image");
        }
    }
    Ok(())
}
