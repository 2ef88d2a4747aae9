//! Files that others name or provide: read and written without leaving a folder, and of a limited size.
//! Linux resolves names with `openat2(RESOLVE_BENEATH)`, as cap-std does; where that call is missing,
//! the canonical path is opened component by component, without following a link.

use std::ffi::OsStr;
use std::fs::File;
use std::io::{self, Read, Write};
use std::os::fd::OwnedFd;
use std::path::{Component, Path, PathBuf};

use rustix::fs::{
    AtFlags, CWD, FileType, Mode, OFlags, mkdirat, openat, renameat, statat, unlinkat,
};
use rustix::io::Errno;
use thiserror::Error;

/// The largest file that is read whole, in bytes: the shipped inputs have at most some hundred kB.
pub const BYTES_MAX: u64 = 256 << 20;

/// Why a file was not read or written.
#[derive(Debug, Error)]
pub enum FileError {
    /// It does not exist.
    #[error("no such file")]
    Missing,
    /// The name is absolute, or has a `..`, a hidden component or none at all.
    #[error(
        "the name must be a path below the folder, without `..` and without a name that begins with `.`"
    )]
    Name,
    /// A symbolic link in the name leads out of the folder.
    #[error("a symbolic link leads out of the folder")]
    Outside,
    /// The target of a write is a symbolic link or a special file, which is not written through.
    #[error("it is a symbolic link or a special file, and is not replaced")]
    Special,
    /// A folder, a pipe, a socket or a device.
    #[error("not a regular file")]
    NotRegular,
    /// It is too large.
    #[error("larger than {} MiB", BYTES_MAX >> 20)]
    TooLarge,
    /// It is not text.
    #[error("not UTF-8")]
    NotText,
    /// The system refused.
    #[error("{0}")]
    System(io::Error),
}

impl From<io::Error> for FileError {
    fn from(error: io::Error) -> Self {
        match error.kind() {
            io::ErrorKind::NotFound => Self::Missing,
            io::ErrorKind::InvalidData => Self::NotText,
            _ => Self::System(error),
        }
    }
}

impl From<Errno> for FileError {
    fn from(error: Errno) -> Self {
        match error {
            Errno::XDEV | Errno::LOOP => Self::Outside,
            error => io::Error::from(error).into(),
        }
    }
}

const DIRECTORY: OFlags = OFlags::RDONLY.union(OFlags::DIRECTORY).union(OFlags::CLOEXEC);
/// A pipe without a writer does not block the open, and a terminal does not become the controlling one.
const READ: OFlags =
    OFlags::RDONLY.union(OFlags::NONBLOCK).union(OFlags::NOCTTY).union(OFlags::CLOEXEC);
/// A new file: `EXCL` also refuses a symbolic link.
const CREATE: OFlags =
    OFlags::WRONLY.union(OFlags::CREATE).union(OFlags::EXCL).union(OFlags::CLOEXEC);

/// A folder that names cannot leave.
#[derive(Debug)]
pub struct Folder {
    path: PathBuf,
    handle: OwnedFd,
}

impl Folder {
    /// Opens a folder that the user named; its own path may contain links.
    ///
    /// # Errors
    /// Where it is not a folder.
    pub fn open(path: &Path) -> Result<Self, FileError> {
        let path = if path.as_os_str().is_empty() { Path::new(".") } else { path };
        let handle = openat(CWD, path, DIRECTORY, Mode::empty()).map_err(io::Error::from)?;
        Ok(Self { path: path.to_owned(), handle })
    }

    /// The text of a file below the folder.
    ///
    /// # Errors
    /// As [`Self::file`]; also if it is too large or not UTF-8.
    pub fn text(&self, name: &Path) -> Result<String, FileError> {
        limited_text(self.file(name)?)
    }

    /// Opens a regular file below the folder. Links are followed within the folder only, as a mounted
    /// ConfigMap needs.
    ///
    /// # Errors
    /// [`FileError`].
    pub fn file(&self, name: &Path) -> Result<File, FileError> {
        components(name)?;
        let file = match beneath(&self.handle, name) {
            // Kernels before 5.6, and sandboxes that refuse the call.
            Err(Errno::NOSYS | Errno::PERM) => self.canonical(name)?,
            opened => opened?,
        };
        let file = File::from(file);
        match file.metadata()?.is_file() {
            true => Ok(file),
            false => Err(FileError::NotRegular),
        }
    }

    /// [`Self::file`] without `openat2`.
    fn canonical(&self, name: &Path) -> Result<OwnedFd, FileError> {
        let inside = self.path.canonicalize()?;
        let target = inside.join(name).canonicalize()?;
        let below = target.strip_prefix(&inside).map_err(|_| FileError::Outside)?;
        let names: Vec<&OsStr> = below.iter().collect();
        let Some((last, parents)) = names.split_last() else { return Err(FileError::NotRegular) };
        let parent = self.parent(parents, false)?;
        Ok(openat(&parent, *last, READ | OFlags::NOFOLLOW, Mode::empty())?)
    }

    /// Opens the folder at these names, none of which may be a link.
    fn parent(&self, names: &[&OsStr], create: bool) -> Result<OwnedFd, FileError> {
        let mut at = openat(&self.handle, ".", DIRECTORY, Mode::empty())?;
        for name in names {
            if create {
                match mkdirat(&at, *name, Mode::from_raw_mode(0o777)) {
                    Ok(()) | Err(Errno::EXIST) => {}
                    Err(error) => return Err(error.into()),
                }
            }
            at = match openat(&at, *name, DIRECTORY | OFlags::NOFOLLOW, Mode::empty()) {
                Err(Errno::LOOP | Errno::NOTDIR) => return Err(FileError::Special),
                opened => opened?,
            };
        }
        Ok(at)
    }

    /// Writes a file atomically, with the folders that its name needs: to a temporary name first, then
    /// renamed. No link is followed.
    ///
    /// # Errors
    /// [`FileError`]; an existing file then keeps its text.
    pub fn write(&self, name: &Path, text: &str) -> Result<(), FileError> {
        let names = components(name)?;
        let Some((last, parents)) = names.split_last() else { return Err(FileError::Name) };
        let at = self.parent(parents, true)?;
        match statat(&at, *last, AtFlags::SYMLINK_NOFOLLOW) {
            Ok(found) if FileType::from_raw_mode(found.st_mode) != FileType::RegularFile => {
                return Err(FileError::Special);
            }
            Ok(_) | Err(Errno::NOENT) => {}
            Err(error) => return Err(error.into()),
        }
        let mut partial = last.to_os_string();
        partial.push(".partial");
        // What a killed process left; a link is removed itself, not its target.
        match unlinkat(&at, &partial, AtFlags::empty()) {
            Ok(()) | Err(Errno::NOENT) => {}
            Err(error) => return Err(error.into()),
        }
        let file = openat(&at, &partial, CREATE, Mode::from_raw_mode(0o666))?;
        let written = File::from(file).write_all(text.as_bytes());
        let done = written
            .map_err(FileError::from)
            .and_then(|()| Ok(renameat(&at, &partial, &at, *last)?));
        if done.is_err() {
            // The first error is reported; a partial file that stays is replaced by the next write.
            let _ = unlinkat(&at, &partial, AtFlags::empty());
        }
        done
    }

    /// Creates a file that does not exist yet.
    ///
    /// # Errors
    /// [`FileError`].
    pub fn create(&self, name: &str) -> Result<File, FileError> {
        components(Path::new(name))?;
        Ok(openat(&self.handle, name, CREATE, Mode::from_raw_mode(0o666))?.into())
    }
}

/// The components of a name that stays below its folder. Hidden names are refused because they hold
/// settings and secrets, such as `.git/config` and `.env`.
fn components(name: &Path) -> Result<Vec<&OsStr>, FileError> {
    let one = |component| match component {
        Component::Normal(name) if !name.as_encoded_bytes().starts_with(b".") => Ok(name),
        Component::Normal(_) | Component::ParentDir | Component::RootDir | Component::Prefix(_) => {
            Err(FileError::Name)
        }
        Component::CurDir => Ok(OsStr::new(".")),
    };
    let all: Vec<&OsStr> = name.components().map(one).collect::<Result<_, _>>()?;
    let all: Vec<&OsStr> = all.into_iter().filter(|name| *name != ".").collect();
    if all.is_empty() { Err(FileError::Name) } else { Ok(all) }
}

#[cfg(target_os = "linux")]
fn beneath(folder: &OwnedFd, name: &Path) -> Result<OwnedFd, Errno> {
    use rustix::fs::{ResolveFlags, openat2};
    let within = ResolveFlags::BENEATH | ResolveFlags::NO_MAGICLINKS;
    openat2(folder, name, READ, Mode::empty(), within)
}

#[cfg(not(target_os = "linux"))]
fn beneath(_: &OwnedFd, _: &Path) -> Result<OwnedFd, Errno> {
    Err(Errno::NOSYS)
}

/// The text of a file that the user named on the command line. It may be a pipe or a link, which is the
/// user's own choice; its size is limited nevertheless.
///
/// # Errors
/// Where it cannot be read, is too large, or is not UTF-8.
pub fn text(path: &Path) -> Result<String, FileError> {
    limited_text(File::open(path)?)
}

fn limited_text(file: File) -> Result<String, FileError> {
    let mut bytes = Vec::new();
    let read = file.take(BYTES_MAX + 1).read_to_end(&mut bytes)?;
    if read as u64 > BYTES_MAX {
        return Err(FileError::TooLarge);
    }
    String::from_utf8(bytes).map_err(|_| FileError::NotText)
}

/// Writes a file that the user named, as [`Folder::write`] does in its folder.
///
/// # Errors
/// [`FileError`].
pub fn write(path: &Path, text: &str) -> Result<(), FileError> {
    let name = path.file_name().ok_or(FileError::Name)?;
    let folder = Folder::open(path.parent().unwrap_or(Path::new(".")))?;
    folder.write(Path::new(name), text)
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::symlink;

    use super::*;

    fn refused(folder: &Path, name: &str) -> FileError {
        let folder = Folder::open(folder).expect("a folder");
        folder.text(Path::new(name)).expect_err(name)
    }

    #[test]
    fn a_name_cannot_leave_its_folder_by_a_path_or_a_link() {
        let outer = tempfile::tempdir().expect("a folder");
        let inside = outer.path().join("inside");
        fs::create_dir_all(inside.join("sub")).expect("created");
        fs::write(outer.path().join("secret"), "s3cret").expect("written");
        fs::write(inside.join(".env"), "s3cret").expect("written");
        symlink("../secret", inside.join("link")).expect("linked");
        symlink(outer.path(), inside.join("absolute")).expect("linked");
        symlink("..", inside.join("up")).expect("linked");
        let secret = outer.path().join("secret").display().to_string();
        for name in ["../secret", "sub/../../secret", "/proc/self/environ", &secret, ".env", ""] {
            assert!(matches!(refused(&inside, name), FileError::Name), "{name}");
        }
        for name in ["link", "absolute/secret", "up/secret"] {
            assert!(matches!(refused(&inside, name), FileError::Outside), "{name}");
            let slowly = Folder::open(&inside).expect("a folder").canonical(Path::new(name));
            assert!(matches!(slowly, Err(FileError::Outside)), "{name} without openat2");
        }
        assert!(matches!(refused(&inside, "sub"), FileError::NotRegular));
        assert!(matches!(refused(&inside, "none"), FileError::Missing));
    }

    #[test]
    fn a_link_within_the_folder_is_followed_as_in_a_mounted_config_map() {
        let folder = tempfile::tempdir().expect("a folder");
        fs::create_dir(folder.path().join("..data-1")).expect("created");
        fs::write(folder.path().join("..data-1/plan.yaml"), "text").expect("written");
        symlink("..data-1", folder.path().join("..data")).expect("linked");
        symlink("..data/plan.yaml", folder.path().join("plan.yaml")).expect("linked");
        let open = Folder::open(folder.path()).expect("a folder");
        assert_eq!(open.text(Path::new("plan.yaml")).expect("read"), "text");
        assert!(open.canonical(Path::new("plan.yaml")).is_ok());
    }

    #[test]
    fn a_pipe_does_not_block_and_is_refused_like_a_file_that_is_too_large() {
        let folder = tempfile::tempdir().expect("a folder");
        let pipe = folder.path().join("pipe");
        let made = std::process::Command::new("mkfifo").arg(&pipe).status().expect("mkfifo runs");
        assert!(made.success());
        assert!(matches!(refused(folder.path(), "pipe"), FileError::NotRegular));
        let sparse = File::create(folder.path().join("large")).expect("created");
        sparse.set_len(BYTES_MAX + 1).expect("a length");
        assert!(matches!(refused(folder.path(), "large"), FileError::TooLarge));
    }

    #[test]
    fn a_write_follows_no_link_neither_of_the_file_nor_of_its_partial_name_nor_of_its_folder() {
        let outer = tempfile::tempdir().expect("a folder");
        let inside = outer.path().join("inside");
        fs::create_dir(&inside).expect("created");
        let victim = outer.path().join("bashrc");
        fs::write(&victim, "before").expect("written");
        symlink(&victim, inside.join("report.html")).expect("linked");
        symlink(&victim, inside.join("report.json.partial")).expect("linked");
        symlink(outer.path(), inside.join("inputs")).expect("linked");
        let folder = Folder::open(&inside).expect("a folder");
        let write = |name: &str| folder.write(Path::new(name), "after");
        assert!(matches!(write("report.html"), Err(FileError::Special)));
        assert!(matches!(write("inputs/bashrc"), Err(FileError::Special)));
        assert!(folder.create("report.html").is_err());
        write("report.json").expect("written");
        write("sub/folder/file").expect("written");
        assert_eq!(fs::read_to_string(&victim).expect("read"), "before");
        let report = inside.join("report.json");
        assert_eq!(fs::read_to_string(&report).expect("read"), "after");
        assert!(!report.symlink_metadata().expect("metadata").is_symlink());
        assert_eq!(fs::read_to_string(inside.join("sub/folder/file")).expect("read"), "after");
    }
}
