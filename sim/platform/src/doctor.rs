//! The requirements of each provider: which are met, and how to meet the others.

use std::path::PathBuf;
use std::process::{Command, Stdio};

use crate::provider::local::assets::{self, find};
use crate::provider::{Program, images};

/// A requirement of a provider.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Finding {
    /// Its name, like `etcd` or `a kubeconfig`.
    pub what: String,
    /// Its path, version or address; `None` if it is missing.
    pub found: Option<String>,
    /// The command or the step that installs it.
    pub got_by: String,
}

impl Finding {
    fn program(name: &str, path: Option<PathBuf>, got_by: &str) -> Self {
        let found = path.map(|path| path.display().to_string());
        Self { what: name.to_owned(), found, got_by: got_by.to_owned() }
    }
}

/// Requirements of the local provider.
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

/// Requirements of `alertstorm setup local`.
pub fn setup() -> Vec<Finding> {
    vec![Finding::program("go", on_path("go"), "install Go from your distribution or from go.dev")]
}

/// The output of a docker command; `None` if it fails or prints nothing.
fn docker(args: &[&str]) -> Option<String> {
    let mut command = Command::new("docker");
    let output = command.args(args).stdin(Stdio::null()).stderr(Stdio::null()).output().ok()?;
    let printed = String::from_utf8_lossy(&output.stdout).trim().to_owned();
    Some(printed).filter(|text| output.status.success() && !text.is_empty())
}

/// Requirements of the kind provider.
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

/// Requirements of the cluster provider, from the environment variables.
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
            got_by: "set VAULT_ADDR and VAULT_TOKEN, and VAULT_CACERT if it uses TLS".to_owned(),
        },
        Finding {
            what: "a PostgreSQL".to_owned(),
            found: std::env::var("ALERTSTORM_POSTGRES").ok(),
            got_by:
                "set ALERTSTORM_POSTGRES=USER@HOST:PORT and PGPASSWORD, and PGSSLROOTCERT if it \
                     is on another machine"
                    .to_owned(),
        },
    ]
}
