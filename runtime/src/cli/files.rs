//! What paths lead to.

use std::fs::{self, File, Metadata};
use std::io;
use std::path::{Path, PathBuf};

/// The path that stands for standard input or standard output.
pub(crate) const STANDARD_STREAM: &str = "-";

/// As many links as Linux follows.
const MAX_LINKS: usize = 40;

/// What tells a file from all others, under whatever name it is reached.
#[derive(Debug, PartialEq)]
pub(crate) enum Identity {
    #[cfg(unix)]
    Inode { device: u64, number: u64 },
    /// One that does not exist yet: the directory, and its name in it.
    New(Box<Identity>, PathBuf),
    #[cfg(not(unix))]
    Path(PathBuf),
}

impl Identity {
    /// Of the file at `path`, which links may lead to; None where there is not even its directory.
    pub(crate) fn of(path: &Path) -> Option<Self> {
        if let Ok(metadata) = fs::metadata(path) {
            return Self::of_existing(path, &metadata);
        }
        let target = follow(path).ok()?;
        let folder = parent(&target);
        let folder = Self::of_existing(folder, &fs::metadata(folder).ok()?)?;
        Some(Self::New(Box::new(folder), target.file_name()?.into()))
    }

    #[cfg(unix)]
    fn of_existing(_: &Path, metadata: &Metadata) -> Option<Self> {
        Some(Self::of_metadata(metadata))
    }

    #[cfg(not(unix))]
    fn of_existing(path: &Path, _: &Metadata) -> Option<Self> {
        fs::canonicalize(path).ok().map(Self::Path)
    }

    #[cfg(unix)]
    fn of_metadata(metadata: &Metadata) -> Self {
        use std::os::unix::fs::MetadataExt as _;
        Self::Inode { device: metadata.dev(), number: metadata.ino() }
    }

    /// Of what standard output leads to, where the system tells.
    pub(crate) fn of_stdout() -> Option<Self> {
        Self::of_stream(&io::stdout())
    }

    /// Of what standard input comes from, where the system tells.
    pub(crate) fn of_stdin() -> Option<Self> {
        Self::of_stream(&io::stdin())
    }

    #[cfg(unix)]
    fn of_stream(stream: &impl std::os::fd::AsFd) -> Option<Self> {
        let file = File::from(stream.as_fd().try_clone_to_owned().ok()?);
        Some(Self::of_metadata(&file.metadata().ok()?))
    }

    #[cfg(not(unix))]
    fn of_stream<T>(_: &T) -> Option<Self> {
        None
    }
}

/// The directory that a path lies in.
pub(crate) fn parent(path: &Path) -> &Path {
    match path.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent,
        _ => Path::new("."),
    }
}

/// Where symbolic links lead to, if there is something or not.
pub(crate) fn follow(path: &Path) -> io::Result<PathBuf> {
    let mut path = path.to_owned();
    for _ in 0..MAX_LINKS {
        match fs::read_link(&path) {
            // An absolute target takes the place of the whole path.
            Ok(target) => path = parent(&path).join(target),
            // No link, or nothing.
            Err(_) => return Ok(path),
        }
    }
    Err(io::Error::other(format!("more than {MAX_LINKS} symbolic links, or a circle of them")))
}
