//! The agent's image without a registry and without a builder: one static program, imported as a
//! layer of its own.

use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::process::Stdio;

use tokio::io::AsyncWriteExt;
use tokio::process::Command;

use super::super::Failure;
use super::super::command::run;
use super::AGENT_IMAGE;

/// The package of the agent, and its program.
const PACKAGE: &str = "alertstorm-agent";

/// Makes the agent's image: of `binary`, or of a program built from the sources here.
///
/// # Errors
/// What is missing or failed.
pub async fn make(binary: Option<&Path>, tell: &(dyn Fn(&str) + Sync)) -> Result<String, Failure> {
    let binary = match binary {
        Some(binary) => binary.to_owned(),
        None => {
            tell("building the agent as a static program");
            build().await?
        }
    };
    tell("importing its image");
    let program = std::fs::read(&binary)
        .map_err(|error| format!("{} cannot be read: {error}", binary.display()))?;
    let mut layer = tar::Builder::new(Vec::new());
    let mut header = tar::Header::new_gnu();
    header.set_mode(0o555);
    header.set_size(program.len() as u64);
    layer.append_data(&mut header, "agent", program.as_slice())?;
    import(&layer.into_inner()?).await?;
    Ok(AGENT_IMAGE.to_owned())
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

async fn import(layer: &[u8]) -> Result<(), Failure> {
    let mut docker = Command::new("docker");
    docker
        .args(["import", "--change", "ENTRYPOINT [\"/agent\"]", "--change", "USER 65532:65532"])
        .args(["-", AGENT_IMAGE])
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .kill_on_drop(true);
    let mut docker = docker.spawn().map_err(|error| format!("docker: {error}"))?;
    let mut input = docker.stdin.take().ok_or("docker has no input")?;
    input.write_all(layer).await?;
    drop(input);
    if docker.wait().await?.success() { Ok(()) } else { Err("docker import failed".into()) }
}
