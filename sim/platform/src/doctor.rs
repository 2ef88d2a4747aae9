//! What is there and what is missing for each world, and what gets it.

use std::path::PathBuf;
use std::process::{Command, Stdio};

use crate::provider::local::assets::{self, find};
use crate::provider::{Program, images};

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
        .find(|path| assets::is_program(path))
}

/// What building the servers needs.
pub fn setup() -> Vec<Finding> {
    vec![Finding::program("go", on_path("go"), "install Go from your distribution or from go.dev")]
}

/// What Docker says to a question, where there is one that answers.
fn docker(args: &[&str]) -> Option<String> {
    let mut command = Command::new("docker");
    let output = command.args(args).stdin(Stdio::null()).stderr(Stdio::null()).output().ok()?;
    let said = String::from_utf8_lossy(&output.stdout).trim().to_owned();
    Some(said).filter(|said| output.status.success() && !said.is_empty())
}

/// What the kind provider needs.
pub fn kind() -> Vec<Finding> {
    let finding = |what: &str, asked: &[&str], got_by: &str| Finding {
        what: what.to_owned(),
        found: docker(asked),
        got_by: got_by.to_owned(),
    };
    let image = ["image", "inspect", "--format", "{{index .RepoTags 0}}", images::AGENT];
    vec![
        finding(
            "a Docker engine",
            &["info", "--format", "{{.ServerVersion}}"],
            "install Docker and start its engine",
        ),
        finding("the agent's image", &image, "alertstorm setup kind"),
        Finding::program("kind", on_path("kind"), "go install sigs.k8s.io/kind@v0.33.0"),
    ]
}

/// What the cluster provider needs.
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
            got_by: "set VAULT_ADDR and VAULT_TOKEN, and VAULT_CACERT where it speaks TLS"
                .to_owned(),
        },
        Finding {
            what: "a PostgreSQL".to_owned(),
            found: std::env::var("ALERTSTORM_POSTGRES").ok(),
            got_by: "set ALERTSTORM_POSTGRES=USER@HOST:PORT and PGPASSWORD".to_owned(),
        },
    ]
}
