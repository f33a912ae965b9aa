//! Where things are put: temporary directories, sockets and the cache.

use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{DirBuilderExt, MetadataExt, PermissionsExt};
use std::os::unix::net::UnixListener;
use std::path::{Path, PathBuf};

use super::environment::Environment;
use super::error::{StartError, cannot};
use super::leash::Leash;
use super::run_as::RunAs;

/// A socket's whole name may have 107 bytes on Linux and 103 on macOS and BSD.
const LONGEST_SOCKET_NAME: usize = 103;
const SOCKET_FILE: &str = ".s.PGSQL.65535";

/// A name that nobody has: 48 random bits after a prefix.
pub(super) fn fresh_name(prefix: &str) -> String {
    let random = uuid::Uuid::new_v4().simple().to_string();
    format!("{prefix}{}", &random[..12])
}

/// Makes a private directory for one run, on the leash: under `TMPDIR`, or under `/tmp` if that is too long for a
/// socket or closed to the server's user.
pub(super) async fn make_temporary(
    environment: &Environment,
    run_as: &RunAs,
    leash: &mut Leash,
) -> Result<PathBuf, StartError> {
    let name = fresh_name("capture-pg-");
    let preferred = environment.temporary.join(&name);
    let fits = socket_fits(&preferred) && run_as.can_enter(&environment.temporary).await;
    let directory = if fits { preferred } else { Path::new("/tmp").join(&name) };
    leash.removes(&directory)?;
    make_private(&directory, run_as)?;
    Ok(directory)
}

/// Makes one directory that only the server's user (and root) may enter. It must not be there yet.
pub(super) fn make_private(directory: &Path, run_as: &RunAs) -> Result<(), StartError> {
    std::fs::DirBuilder::new()
        .mode(0o700)
        .create(directory)
        .and_then(|()| run_as.give(directory))
        .map_err(cannot("make the directory", directory))
}

/// Makes a directory and those above it, and says whether it is new. What root makes, others may enter, whatever the
/// umask: the server's user must get through.
pub(super) fn make_reachable(directory: &Path) -> std::io::Result<bool> {
    let missing: Vec<&Path> = directory.ancestors().take_while(|it| !it.exists()).collect();
    std::fs::create_dir_all(directory)?;
    if rustix::process::geteuid().is_root() {
        for made in &missing {
            std::fs::set_permissions(made, PermissionsExt::from_mode(0o755))?;
        }
    }
    Ok(!missing.is_empty())
}

/// Whether sockets can be in this directory: the name is short enough, and the file system knows them.
pub(super) fn takes_sockets(directory: &Path) -> bool {
    let probe = directory.join(fresh_name(".s."));
    let taken = socket_fits(directory) && UnixListener::bind(&probe).is_ok();
    let _ = std::fs::remove_file(&probe);
    taken
}

fn socket_fits(directory: &Path) -> bool {
    directory.join(SOCKET_FILE).as_os_str().as_bytes().len() <= LONGEST_SOCKET_NAME
}

/// Where fetched programs may be, best first. As root not under anybody's home, which other users may not enter.
pub(super) fn caches(environment: &Environment) -> Vec<PathBuf> {
    let user = rustix::process::geteuid();
    if user.is_root() {
        return vec![environment.system("var/cache/capture")];
    }
    let own = environment.temporary.join(format!("capture-cache-{}", user.as_raw()));
    let home = environment.cache_home.as_ref().map(|cache| cache.join("capture"));
    home.into_iter().chain([own]).collect()
}

/// Makes the first cache that can be made. The error says why none could.
pub(super) fn make_cache(environment: &Environment) -> Result<PathBuf, String> {
    let mut why = String::new();
    for cache in caches(environment) {
        let made = make_reachable(&cache).and_then(|new| match new {
            // Nobody else may write, whatever our umask.
            true => std::fs::set_permissions(&cache, PermissionsExt::from_mode(0o755)),
            false => Ok(()),
        });
        match made {
            Ok(()) if is_only_ours(&cache) => return Ok(cache),
            Ok(()) => why = format!("{} can be written by others", cache.display()),
            Err(error) => why = format!("cannot make {}: {error}", cache.display()),
        }
    }
    Err(why)
}

/// Whether nobody else can put programs into this directory for us to run.
pub(super) fn is_only_ours(directory: &Path) -> bool {
    std::fs::symlink_metadata(directory)
        .is_ok_and(|it| it.is_dir() && it.uid() == rustix::process::geteuid().as_raw() && it.mode() & 0o022 == 0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_directory_too_long_for_a_socket_is_seen_before_postgres_trips_over_it() {
        let longest = LONGEST_SOCKET_NAME - SOCKET_FILE.len() - 2;
        assert!(socket_fits(Path::new(&format!("/{}", "d".repeat(longest)))));
        assert!(!socket_fits(Path::new(&format!("/{}", "d".repeat(longest + 1)))));
    }

    #[test]
    fn who_has_no_home_gets_a_cache_of_their_own_among_the_temporary_directories() {
        if rustix::process::geteuid().is_root() {
            return; // Root's cache is under /var.
        }
        let temporary = std::env::temp_dir().join(fresh_name("homeless-"));
        let environment = Environment {
            pg_bin: None,
            path: Default::default(),
            cache_home: Some("/nonexistent/.cache".into()),
            temporary: temporary.clone(),
            system_root: "/".into(),
        };
        let made = make_cache(&environment);
        std::fs::remove_dir_all(&temporary).unwrap();
        assert_eq!(made.unwrap().parent(), Some(temporary.as_path()));
    }

    #[test]
    fn a_directory_that_others_may_write_is_no_cache() {
        let directory = std::env::temp_dir().join(fresh_name("ours-"));
        std::fs::create_dir(&directory).unwrap();
        std::fs::set_permissions(&directory, PermissionsExt::from_mode(0o755)).unwrap();
        let private = is_only_ours(&directory);
        std::fs::set_permissions(&directory, PermissionsExt::from_mode(0o777)).unwrap();
        let shared = is_only_ours(&directory);
        std::fs::remove_dir(&directory).unwrap();
        assert!(private && !shared);
    }
}
