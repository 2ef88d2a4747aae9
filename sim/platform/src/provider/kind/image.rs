//! Images without a registry and without a builder: the agent's, which is one static program, and
//! the shards', which is this program and the libraries that it is linked with; each is imported as
//! a layer of its own.

use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::process::Stdio;

use futures::future::LocalBoxFuture;
use tokio::io::AsyncWriteExt;
use tokio::process::Command;
use twox_hash::XxHash3_128;

use crate::provider::command::run;
use crate::provider::{Failure, Progress, images};

/// The package of the agent, and its program.
const PACKAGE: &str = "alertstorm-agent";
/// What an image was made of, as a label: one that is there already is not made again, and `kind
/// load` finds it in its nodes.
const MADE_OF: &str = "dev.alertstorm.made-of";

/// Makes the agent's image: of `binary`, or of a program built from the sources here.
///
/// # Errors
/// What is missing or failed.
pub fn make<'a>(
    binary: Option<&'a Path>,
    progress: Progress<'a>,
) -> LocalBoxFuture<'a, Result<String, Failure>> {
    Box::pin(of_agents(binary, progress))
}

async fn of_agents(binary: Option<&Path>, progress: Progress<'_>) -> Result<String, Failure> {
    let binary = match binary {
        Some(binary) => binary.to_owned(),
        None => {
            progress("building the agent as a static program");
            build().await?
        }
    };
    progress("importing its image");
    let program = std::fs::read(&binary)
        .map_err(|error| format!("{} cannot be read: {error}", binary.display()))?;
    let mut layer = tar::Builder::new(Vec::new());
    add(&mut layer, "agent", &program)?;
    import(&layer.into_inner()?, "/agent", images::AGENT).await?;
    Ok(images::AGENT.to_owned())
}

/// Makes the shards' image of `program`, which is this one in a run: the same bytes in the pods as
/// here, so there is no other version to fear.
///
/// # Errors
/// What is missing or failed.
pub fn of_shards(program: &Path) -> LocalBoxFuture<'_, Result<String, Failure>> {
    Box::pin(of_program(program))
}

async fn of_program(program: &Path) -> Result<String, Failure> {
    let mut layer = tar::Builder::new(Vec::new());
    add(&mut layer, "alertstorm", &std::fs::read(program)?)?;
    for library in libraries(program).await? {
        let inside = library.trim_start_matches('/');
        add(&mut layer, inside, &std::fs::read(&library)?)?;
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

/// The libraries that a program is linked with, its loader among them; none where it is static.
async fn libraries(program: &Path) -> Result<Vec<String>, Failure> {
    let path = program.to_str().ok_or("the program's path is no text")?;
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

async fn build() -> Result<PathBuf, Failure> {
    if !Path::new("sim/agent/Cargo.toml").is_file() {
        return Err("the agent is built from Alertstorm's sources: run this in their folder, or \
                    name a static program with --binary"
            .into());
    }
    let about = run("rustc", &["-vV"]).await?;
    let host = about.lines().find_map(|line| line.strip_prefix("host: "));
    let host = host.ok_or("rustc does not say which host it builds for")?;
    let args = ["build", "--release", "--locked", "--package", PACKAGE, "--target", host];
    let mut cargo = Command::new("cargo");
    // Static: the image holds nothing else. With --target the flags are the program's alone.
    cargo
        .args(args)
        .env("RUSTFLAGS", "-C target-feature=+crt-static -C strip=symbols")
        .stdin(Stdio::null());
    if !cargo.status().await?.success() {
        return Err("the agent could not be built".into());
    }
    let target = std::env::var_os("CARGO_TARGET_DIR").unwrap_or_else(|| OsString::from("target"));
    Ok(Path::new(&target).join(host).join("release").join(PACKAGE))
}

/// An image's id, and what it was made of; none where there is no such image.
async fn known(image: &str) -> Option<(String, String)> {
    let label = format!("{{{{with .Config.Labels}}}}{{{{index . \"{MADE_OF}\"}}}}{{{{end}}}}");
    let format = format!("{{{{.Id}}}} {label}");
    let found = run("docker", &["image", "inspect", "--format", &format, image]).await.ok()?;
    let (id, made_of) = found.split_once(' ').unwrap_or((&found, ""));
    Some((id.to_owned(), made_of.to_owned()))
}

async fn import(layer: &[u8], program: &str, image: &str) -> Result<(), Failure> {
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
    let mut docker = docker.spawn().map_err(|error| format!("docker: {error}"))?;
    let mut input = docker.stdin.take().ok_or("docker has no input")?;
    input.write_all(layer).await?;
    drop(input);
    if !docker.wait().await?.success() {
        return Err("docker import failed".into());
    }
    if let Some((id, _)) = before {
        // It has no name any more. Where a container still has it, Docker keeps it.
        if let Err(error) = run("docker", &["image", "rm", &id]).await {
            tracing::debug!(%error, "the replaced image stays");
        }
    }
    Ok(())
}
