//! Who the server's processes run as: ourselves, or, because Postgres refuses root, somebody lesser.

use std::os::unix::fs::MetadataExt;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::Command;

use super::children;
use super::environment::Environment;
use super::error::StartError;

/// The user of the server's processes and the owner of its files.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum RunAs {
    /// We are an ordinary user, and so is the server.
    Ourselves,
    /// We are root, and step down to this user.
    Other { name: String, uid: u32, gid: u32 },
}

impl RunAs {
    /// Ourselves if not root, else `postgres`, else `nobody`. When there is data already, its owner, so that a
    /// directory made by an ordinary user can be used by root.
    pub(super) fn choose(environment: &Environment, data: Option<&Path>) -> Result<RunAs, StartError> {
        if !rustix::process::geteuid().is_root() {
            return Ok(RunAs::Ourselves);
        }
        let owner = data
            .and_then(|data| std::fs::metadata(data.join("PG_VERSION")).ok())
            .filter(|version| version.uid() != 0);
        if let Some(owner) = owner {
            return Ok(RunAs::Other {
                name: format!("user {}", owner.uid()),
                uid: owner.uid(),
                gid: owner.gid(),
            });
        }
        let passwd = std::fs::read_to_string(environment.system("etc/passwd")).unwrap_or_default();
        ["postgres", "nobody"]
            .iter()
            .find_map(|name| entry_of(name, &passwd))
            .ok_or(StartError::NoUserToRunAs)
    }

    pub(super) fn apply(&self, command: &mut Command) {
        if let RunAs::Other { uid, gid, .. } = self {
            // Becoming another user also drops root's supplementary groups.
            command.uid(*uid).gid(*gid);
        }
    }

    /// Gives a file or directory that we made to the server's user.
    pub(super) fn give(&self, path: &Path) -> std::io::Result<()> {
        match self {
            RunAs::Ourselves => Ok(()),
            RunAs::Other { uid, gid, .. } => std::os::unix::fs::lchown(path, Some(*uid), Some(*gid)),
        }
    }

    /// Whether the server's user may go into a directory. Tried, not computed from mode bits, so that access
    /// lists and mounts count too.
    pub(super) async fn can_enter(&self, directory: &Path) -> bool {
        let mut command = children::bare(Path::new("/bin/sh"), self, "".as_ref());
        command.args(["-c", "cd -- \"$1\"", "sh"]).arg(directory);
        children::output(command).await.is_ok_and(|it| it.status.success())
    }

    pub(super) fn name(&self) -> &str {
        match self {
            RunAs::Ourselves => "yourself",
            RunAs::Other { name, .. } => name,
        }
    }
}

/// The line `name:password:uid:gid:…` of a user. Users that are known only to a directory service are not seen.
fn entry_of(wanted: &str, passwd: &str) -> Option<RunAs> {
    passwd.lines().find_map(|line| {
        let mut fields = line.split(':');
        let name = fields.next().filter(|name| *name == wanted)?;
        let uid = fields.nth(1)?.parse().ok().filter(|uid| *uid != 0)?;
        let gid = fields.next()?.parse().ok()?;
        Some(RunAs::Other {
            name: name.to_owned(),
            uid,
            gid,
        })
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const PASSWD: &str = "root:x:0:0:root:/root:/bin/bash\n\
        +nis\n\
        postgresql:x:7:7::/:/bin/false\n\
        nobody:x:65534:65533:nobody:/nonexistent:/usr/sbin/nologin\n";

    #[test]
    fn a_user_is_found_by_its_whole_name_with_its_numbers() {
        let nobody = RunAs::Other {
            name: "nobody".into(),
            uid: 65534,
            gid: 65533,
        };
        assert_eq!(entry_of("nobody", PASSWD), Some(nobody));
        assert_eq!(entry_of("postgres", PASSWD), None);
    }

    #[test]
    fn nobody_steps_down_to_root() {
        assert_eq!(entry_of("root", PASSWD), None);
    }
}
