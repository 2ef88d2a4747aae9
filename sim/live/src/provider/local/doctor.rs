//! What is there and what is missing for each world, and what gets it.

use std::path::PathBuf;

use super::assets::{Program, find};

/// One thing that a world needs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Finding {
    /// What.
    pub what: String,
    /// Where it is, where it is there.
    pub found: Option<String>,
    /// What gets it.
    pub got_by: String,
}

impl Finding {
    fn program(name: &str, path: Option<PathBuf>, got_by: &str) -> Self {
        let found = path.map(|path| path.display().to_string());
        Self { what: name.to_owned(), found, got_by: got_by.to_owned() }
    }
}

/// What the local provider needs.
pub fn local() -> Vec<Finding> {
    let of = |program: Program| Finding::program(program.file(), find(program), program.got_by());
    Program::ALL.into_iter().map(of).collect()
}

fn on_path(name: &str) -> Option<PathBuf> {
    let path = std::env::var_os("PATH")?;
    std::env::split_paths(&path)
        .map(|folder| folder.join(name))
        .find(|path| super::assets::is_program(path))
}

/// What building the servers needs.
pub fn setup() -> Vec<Finding> {
    vec![Finding::program("go", on_path("go"), "install Go from your distribution or from go.dev")]
}

/// What the kind provider will need.
pub fn kind() -> Vec<Finding> {
    let engine = std::process::Command::new("docker")
        .args(["info", "--format", "{{.ServerVersion}}"])
        .stdin(std::process::Stdio::null())
        .stderr(std::process::Stdio::null())
        .output();
    let version = engine.ok().filter(|output| output.status.success());
    let version = version.map(|o| String::from_utf8_lossy(&o.stdout).trim().to_owned());
    vec![
        Finding {
            what: "a Docker engine".to_owned(),
            found: version.filter(|version| !version.is_empty()),
            got_by: "install Docker and start its engine".to_owned(),
        },
        Finding::program("kind", on_path("kind"), "go install sigs.k8s.io/kind@v0.33.0"),
    ]
}

/// What the cluster provider will need.
pub fn cluster() -> Vec<Finding> {
    let named = std::env::var_os("KUBECONFIG").map(PathBuf::from);
    let home = std::env::var_os("HOME").map(|home| PathBuf::from(home).join(".kube/config"));
    let file = named.or(home).filter(|path| path.is_file());
    let vault = std::env::var("VAULT_ADDR").ok();
    vec![
        Finding::program("a kubeconfig", file, "set KUBECONFIG"),
        Finding {
            what: "a Vault".to_owned(),
            found: vault,
            got_by: "set VAULT_ADDR and VAULT_TOKEN".to_owned(),
        },
    ]
}
